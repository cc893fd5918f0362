"""Trees as an ONNX model, and the check that both give the same answers.

::

    features [N, d] --TreeEnsembleRegressor--> sum [N, 1] (--Sigmoid-->) --Squeeze--> probability or prediction [N]

The leaves are added up; where trees are averaged, each is divided by their number beforehand. A row goes left if its
number, rounded to 32 bits, lies below the threshold, rounded the same way.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import Forged, InvalidInput
from koinon.models.onnx_export import INPUT_NAME, OUTPUT_NAME, model_of

FloatArray = NDArray[np.float64]

NUMBER_NAME: Final = "prediction"
TOLERANCE: Final = 1e-5
"""Largest allowed difference of two answers, relative to the largest answer; leaves are added in 32 bits."""
_TREES_OPSET: Final = 3
_MOST_LEAVES: Final = 1 << 20
_RANDOM_ROWS: Final = 512
_NODE_LISTS: Final = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_modes",
    "nodes_featureids",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)
_LEAF_LISTS: Final = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


@dataclass(frozen=True, eq=False)
class TreeParameters:
    """Full binary trees, numbered level by level: the children of node i are 2i + 1 and 2i + 2.

    Attributes:
        low, high: float64 (d,), public column ranges.
        columns: whole numbers (t, nodes): the column that an inner node looks at, −1 where every row goes left.
        thresholds: float64 (t, nodes), in original units: a row goes left if its number lies below.
        leaves: float64 (t, nodes + 1), from left to right.
        start: what the sum of the leaves is added to.
        log_odds: whether the sum is the log-odds of a probability, rather than the answer itself.
        name: of the output: OUTPUT_NAME for a probability, NUMBER_NAME for a number.
    """

    low: FloatArray
    high: FloatArray
    columns: NDArray[np.int64]
    thresholds: FloatArray
    leaves: FloatArray
    start: float = 0.0
    log_odds: bool = False
    name: str = OUTPUT_NAME

    def answer(self, features: "NDArray[np.float32]") -> FloatArray:
        """The reference answer (N,) for float32 (N, d) features in original units; leaves are added in float64."""
        rows = np.arange(len(features))
        total = np.full(len(features), self.start)
        inner = self.columns.shape[1]
        for columns, thresholds, leaves in zip(
            self.columns, self.thresholds.astype(np.float32), self.leaves, strict=True
        ):
            place = np.zeros(len(features), np.int64)
            while (place < inner).any():
                column = columns[place]
                left = (column < 0) | (features[rows, column] < thresholds[place])
                place = 2 * place + np.where(left, 1, 2)
            total += leaves[place - inner]
        return np.asarray(1 / (1 + np.exp(-total)) if self.log_odds else total, np.float64)


def check_parameters(parameters: TreeParameters) -> None:
    """Refuse parameters that are no trees. Raises InvalidInput."""
    shape, width = parameters.columns.shape, len(parameters.low)
    full = len(shape) == 2 and shape[0] >= 1 and shape[1] >= 1 and not (shape[1] + 1) & shape[1]
    if not full or parameters.thresholds.shape != shape or parameters.leaves.shape != (shape[0], shape[1] + 1):
        raise InvalidInput("columns, thresholds and leaves must be those of full binary trees of one depth")
    if parameters.leaves.size > _MOST_LEAVES:
        raise InvalidInput(f"trees with {parameters.leaves.size} leaves are more than a model may have")
    if (
        not width
        or parameters.high.shape != (width,)
        or not ((parameters.columns >= -1) & (parameters.columns < width)).all()
    ):
        raise InvalidInput(f"the trees look at columns that are none of the {width} there are")
    used = parameters.thresholds[parameters.columns >= 0]
    everything = np.concatenate([parameters.low, parameters.high, used, parameters.leaves.ravel(), [parameters.start]])
    if not (np.isfinite(everything).all() and (np.abs(everything) < 1e30).all()):
        raise InvalidInput("ranges, thresholds and leaves must be finite and fit 32-bit numbers; rescale the columns")


def export_trees(parameters: TreeParameters) -> bytes:
    """ONNX bytes of the model: ``features`` float32 [N, d] in original units to one float32 a row.

    The same parameters always give the same bytes. Call ``check_equal_trees`` before publishing them.

    Raises:
        InvalidInput: the parameters are no trees.
    """
    check_parameters(parameters)
    from onnx import TensorProto, helper, numpy_helper

    last = "log_odds" if parameters.log_odds else "column"
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor",
            [INPUT_NAME],
            [last],
            name="add_leaves",
            domain="ai.onnx.ml",
            n_targets=1,
            post_transform="NONE",
            aggregate_function="SUM",
            base_values=[parameters.start],
            **_attributes(parameters),
        )
    ]
    if parameters.log_odds:
        nodes.append(helper.make_node("Sigmoid", [last], ["column"], name="to_probability"))
    nodes.append(helper.make_node("Squeeze", ["column", "axis"], [parameters.name], name="to_vector"))
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", len(parameters.low)])],
        [helper.make_tensor_value_info(parameters.name, TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    return model_of(graph, {"ai.onnx.ml": _TREES_OPSET})


def check_equal_trees(onnx_bytes: bytes, parameters: TreeParameters, seed: int = 0) -> float:
    """Run our own exported model beside the trees on random rows and on rows at every threshold.

    Only for bytes that we made ourselves: they are loaded in this process, without a sandbox.

    Returns:
        The largest absolute difference of answers seen.

    Raises:
        Forged: the two differ by more than ``TOLERANCE`` of the largest answer.
    """
    from koinon.models.runtime import open_session

    rows = _rows(parameters, np.random.default_rng(seed))
    (answers,) = open_session(onnx_bytes).run([parameters.name], {INPUT_NAME: rows})
    expected = parameters.answer(rows)
    worst = float(np.abs(np.asarray(answers) - expected).max())
    if not worst <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise Forged(f"the exported trees differ from the trained ones by {worst:.3g}; they are not published")
    return worst


def _rows(parameters: TreeParameters, random: np.random.Generator) -> "NDArray[np.float32]":
    """Float32 rows: random ones, a tenth beyond the ranges, and ones on and beside thresholds."""
    span = parameters.high - parameters.low
    rows = random.uniform(
        parameters.low - span / 10, parameters.high + span / 10, (2 * _RANDOM_ROWS, len(span))
    ).astype(np.float32)
    used = np.argwhere(parameters.columns >= 0)[:_RANDOM_ROWS]
    for row, (tree, node) in enumerate(used):
        threshold = parameters.thresholds[tree, node].astype(np.float32)
        sides = (threshold, np.nextafter(threshold, np.float32(-np.inf)))
        rows[row, parameters.columns[tree, node]] = sides[row % 2]
    return rows


def _attributes(parameters: TreeParameters) -> dict[str, Any]:
    """The operator's lists of nodes; one that every row leaves to the left stands for its left child."""
    inner = parameters.columns.shape[1]
    found: dict[str, list[Any]] = {name: [] for name in (*_NODE_LISTS, *_LEAF_LISTS)}
    for tree, (columns, thresholds, leaves) in enumerate(
        zip(parameters.columns, parameters.thresholds, parameters.leaves, strict=True)
    ):
        # onnxruntime takes numbers of nodes without gaps only.
        waiting, numbered = [(0, 0)], 1
        while waiting:
            name, place = waiting.pop()
            while place < inner and columns[place] < 0:
                place = 2 * place + 1
            branch = place < inner
            left, right = (numbered, numbered + 1) if branch else (0, 0)
            if branch:
                waiting += [(right, 2 * place + 2), (left, 2 * place + 1)]
                numbered += 2
            values = (
                tree,
                name,
                "BRANCH_LT" if branch else "LEAF",
                int(columns[place]) if branch else 0,
                float(thresholds[place]) if branch else 0.0,
                left,
                right,
                0,
            )
            for key, value in zip(_NODE_LISTS, values, strict=True):
                found[key].append(value)
            if not branch:
                for key, value in zip(_LEAF_LISTS, (tree, name, 0, float(leaves[place - inner])), strict=True):
                    found[key].append(value)
    return found
