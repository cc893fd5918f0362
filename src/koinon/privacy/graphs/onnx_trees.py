"""Tree ensembles of the domain ``ai.onnx.ml`` on secret rows: every split of every tree is taken, side by side.

A row's path is a secret, so each row is compared at every split, and a bit for each node says whether the row comes
there: its parent's bit and the split's. The bits go down level by level, and the leaves' numbers are added up with
them, so that rounds grow with the depth of the deepest tree and not with their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays, ordering
from koinon.privacy.arrays import SecretArray, concatenate
from koinon.privacy.graphs.onnx_operands import Attributes, Operands, Operator

MOST_NODES: Final = 1 << 17
_COMPARISONS: Final = {
    b"BRANCH_LEQ": lambda x, at: x <= at,
    b"BRANCH_LT": lambda x, at: x < at,
    b"BRANCH_GTE": lambda x, at: x >= at,
    b"BRANCH_GT": lambda x, at: x > at,
    b"BRANCH_EQ": lambda x, at: x == at,
    b"BRANCH_NEQ": lambda x, at: x != at,
}
_LEAF: Final = b"LEAF"


@dataclass(frozen=True)
class _Splits:
    """Different questions of all trees: their columns, thresholds and kinds, and which of them each node asks."""

    columns: np.ndarray
    thresholds: np.ndarray
    kinds: tuple[bytes, ...]
    of_node: dict[int, int]


def _tree_classifier(operands: Operands, attributes: Attributes, _version: int) -> Any:
    """(labels, scores) as ``_linear_classifier`` gives them."""
    names = attributes.get("classlabels_int64s")
    if not names:
        raise InvalidInput("a classifier of trees runs on secrets with classes that are whole numbers, not words")
    ids = np.array(attributes["class_ids"], np.intp)
    transform = attributes.get("post_transform", b"NONE")
    if transform not in (b"NONE", b"LOGISTIC", b"SOFTMAX"):
        raise InvalidInput(f"scores of secret rows are not transformed by {transform.decode()}")
    single = len(names) == 2 and len(set(ids.tolist())) == 1
    scores = _scores(
        operands[0], attributes, "class", np.zeros_like(ids) if single else ids, 1 if single else len(names)
    )
    plain = np.array(names, np.int64)
    if single:
        # One score stands for the second class: a probability where no weight is negative, else log-odds or the like.
        share = transform == b"NONE" and min(attributes["class_weights"]) >= 0
        places = scores[:, 0] > (0.5 if share else 0.0)
        likely = arrays.sigmoid(scores) if transform == b"LOGISTIC" else scores
        other = -likely if transform == b"NONE" and not share else 1.0 - likely
        return ordering.looked_up(places, plain.astype(np.float64)), concatenate([other, likely], 1)
    places = ordering.index_of_largest(scores)
    labels = places if (plain == np.arange(len(plain))).all() else ordering.looked_up(places, plain.astype(np.float64))
    functions = {b"NONE": lambda each: each, b"LOGISTIC": arrays.sigmoid, b"SOFTMAX": arrays.softmax}
    return labels, functions[transform](scores)


def _tree_regressor(operands: Operands, attributes: Attributes, _version: int) -> Any:
    aggregate = attributes.get("aggregate_function", b"SUM")
    if aggregate not in (b"SUM", b"AVERAGE") or attributes.get("post_transform", b"NONE") != b"NONE":
        raise InvalidInput("trees run on secrets where their numbers are added up or averaged, with nothing behind it")
    trees = len(set(attributes["nodes_treeids"])) if aggregate == b"AVERAGE" else 1
    ids = np.array(attributes["target_ids"], np.intp)
    return _scores(operands[0], attributes, "target", ids, attributes["n_targets"], trees)


def _scores(
    x: SecretArray, attributes: Attributes, part: str, ids: np.ndarray, width: int, trees: int = 1
) -> SecretArray:
    """(n, width): the leaves' numbers, and what every row begins with."""
    keys = list(zip(attributes["nodes_treeids"], attributes["nodes_nodeids"], strict=True))
    if not 1 <= len(keys) <= MOST_NODES or len(set(keys)) != len(keys) or x.ndim != 2:
        raise InvalidInput(f"trees on secret rows have 1 to {MOST_NODES} different nodes")
    number = {key: place for place, key in enumerate(keys)}
    owners = zip(attributes[f"{part}_treeids"], attributes[f"{part}_nodeids"], strict=True)
    weights = np.zeros((len(keys), width))
    places = np.array([number[key] for key in owners], np.intp)
    np.add.at(weights, (places, ids), np.array(attributes[f"{part}_weights"], np.float64) / trees)
    reached = _leaves(x, attributes, number)
    leaves = np.concatenate([nodes for nodes, _ in reached])
    found: SecretArray = concatenate([bits for _, bits in reached], 1) @ weights[leaves]
    return found + np.array(attributes.get("base_values") or [0.0] * width, np.float64)


def _leaves(
    x: SecretArray, attributes: Attributes, number: dict[tuple[int, int], int]
) -> list[tuple[np.ndarray, SecretArray]]:
    """Numbers of leaves, and (n, leaves) bits that say who comes there; of one level after the other."""
    modes, trees = attributes["nodes_modes"], attributes["nodes_treeids"]
    children = [
        [number[tree, node] if mode != _LEAF else -1 for tree, node, mode in zip(trees, nodes, modes, strict=True)]
        for nodes in (attributes["nodes_truenodeids"], attributes["nodes_falsenodeids"])
    ]
    level = sorted(set(range(len(modes))) - set(children[0]) - set(children[1]))
    splits = _splits(attributes)
    answers = _answers(x, splits) if splits.of_node else None
    here = arrays.constant_like(x, np.ones((x.shape[0], len(level)))) > 0.5
    found, seen = [], set(level)
    while level:
        ends = [place for place, node in enumerate(level) if modes[node] == _LEAF]
        if ends:
            found.append((np.array([level[place] for place in ends]), here[:, ends]))
        inner = [place for place, node in enumerate(level) if modes[node] != _LEAF]
        if not inner:
            break
        assert answers is not None
        asked = answers[:, [splits.of_node[level[place]] for place in inner]]
        below = here[:, inner]
        here = concatenate([below & asked, below & ~asked], 1)
        level = [side[level[place]] for side in children for place in inner]
        if len(set(level)) != len(level) or seen & set(level):
            raise InvalidInput("a node of the model's trees has two parents")
        seen |= set(level)
    if len(seen) != len(modes):
        raise InvalidInput("the model's trees have nodes to which no path leads")
    return found


def _splits(attributes: Attributes) -> _Splits:
    modes: Sequence[bytes] = attributes["nodes_modes"]
    unknown = set(modes) - set(_COMPARISONS) - {_LEAF}
    if unknown:
        raise InvalidInput(f"trees do not split secret rows by {sorted(unknown)[0].decode()}")
    questions: dict[tuple[bytes, int, float], int] = {}
    of_node = {}
    split = zip(modes, attributes["nodes_featureids"], attributes["nodes_values"], strict=True)
    for node, (mode, column, threshold) in enumerate(split):
        if mode != _LEAF:
            of_node[node] = questions.setdefault((mode, column, threshold), len(questions))
    kinds, columns, thresholds = zip(*questions, strict=True) if questions else ((), (), ())
    return _Splits(np.array(columns, np.intp), np.array(thresholds, np.float64), tuple(kinds), of_node)


def _answers(x: SecretArray, splits: _Splits) -> SecretArray:
    """(n, questions) bits."""
    parts, order = [], []
    for kind in sorted(set(splits.kinds)):
        places = [place for place, each in enumerate(splits.kinds) if each == kind]
        parts.append(_COMPARISONS[kind](x[:, splits.columns[places]], splits.thresholds[places]))
        order += places
    return concatenate(parts, 1)[:, np.argsort(order)]


TREES: Final[dict[str, Operator]] = {
    "ai.onnx.ml.TreeEnsembleClassifier": _tree_classifier,
    "ai.onnx.ml.TreeEnsembleRegressor": _tree_regressor,
}
