"""What programs that grow trees share: their settings, what they open, and how that is shown.

All trees of a program are full binary trees of the public depth, numbered level by level: the children of node i are
2i + 1 and 2i + 2. Of every inner node the column and the threshold are opened, of every leaf its number. A threshold
lies half-way between the numbers of two neighbours in a publicly drawn sample, so a tree says something about single
people's columns; a leaf never stands for fewer people than the least, but for that many it may say that all are alike.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, concatenate, constant_like, where
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.growing import MOST_DEPTH, Trees
from koinon.privacy.learn.trees import Shape
from koinon.privacy.programs.groups import check_minimum
from koinon.privacy.programs.offer import Layout, Offer, ResultTable, Target, halves, middles, on_paired_target
from koinon.privacy.programs.preparation import PreparedSettings

OUTPUTS: Final = ("columns", "thresholds", "leaves")
MOST_BINS: Final = 64
MOST_TREES: Final = 200
_SAMPLES: Final = range(16, 4097)


class TreeSettings(PreparedSettings, frozen=True):
    """Attributes:
    depth: of every tree; public, so that time tells nothing.
    bins: intervals that each column is cut into, at quantiles of the sample.
    sample: people, drawn in public, whose quantiles these are.
    minimum_group: the least people in a leaf.
    seed: of the public draws.
    """

    depth: int = 3
    bins: int = 16
    sample: int = 256
    minimum_group: int = 5
    seed: int = 0


def check_settings(name: str, layout: Layout, settings: TreeSettings) -> None:
    """Refuse a layout or settings that no tree can have. Raises InvalidInput."""
    if not layout.target or not layout.features:
        raise InvalidInput(f"{name} takes a target and at least one other column")
    if not 1 <= settings.depth <= MOST_DEPTH or not 2 <= settings.bins <= MOST_BINS:
        raise InvalidInput(
            f"{name} grows trees of depth 1 to {MOST_DEPTH} on 2 to {MOST_BINS} intervals of a column;"
            f" got {settings.depth} and {settings.bins}"
        )
    if settings.sample not in _SAMPLES or not 0 <= settings.seed < 1 << 32:
        raise InvalidInput(
            f"{name} draws {_SAMPLES.start} to {_SAMPLES.stop - 1} people with a seed from 0 to 2^32 - 1;"
            f" got {settings.sample} and {settings.seed}"
        )
    check_minimum(settings.minimum_group, layout.people)


def check_count(name: str, count: int) -> None:
    """Refuse none or too many trees. Raises InvalidInput."""
    if not 1 <= count <= MOST_TREES:
        raise InvalidInput(f"{name} grows 1 to {MOST_TREES} trees; got {count}")


def shape_of(settings: TreeSettings, smallest: float) -> Shape:
    """The estimators' form of the settings, with the weight that a leaf has at least."""
    return Shape(settings.depth, settings.bins, smallest, settings.sample, settings.seed)


def opened(
    batches: Sequence[Trees], outputs: Sequence[str], rate: float = 1.0, start: SecretArray | None = None
) -> Revealed:
    """Open some of ``OUTPUTS`` and ``start``: columns and thresholds (trees, nodes), leaves (trees, leaves).

    A column is its number from 1 on, or 0 where everybody goes left and the threshold means nothing.

    Args:
        batches: trees of one output each.
        rate: what every leaf is multiplied by.
        start: (1,) what the leaves are added to.
    """
    made = {
        "columns": lambda: concatenate([_numbers(each) for each in batches]),
        "thresholds": lambda: concatenate([each.thresholds for each in batches]),
        "leaves": lambda: concatenate([each.leaves[:, :, 0] for each in batches]).times(rate),
    }
    if start is not None:
        known = start
        made["start"] = lambda: known
    return reveal(**{name: made[name]() for name in outputs})


def offer_of(
    name: str,
    what: str,
    target: Target,
    settings: type[TreeSettings],
    build: Callable[[Layout, Any, tuple[str, ...]], Program],
    present: Callable[[Mapping[str, np.ndarray], Layout, Any], tuple[ResultTable, ...]],
    outputs: tuple[str, ...] = OUTPUTS,
    paired: Callable[[Layout, Any, tuple[str, ...]], Program] | None = None,
) -> Offer:
    """What such a program says about itself. Rows are planted with labels of 0 and 1, so only where these are learnt.

    Args:
        what: what it grows, for which target.
    """
    return Offer(
        name=name,
        summary=f"{what}; makes a model",
        target=target,
        outputs=outputs,
        settings=settings,
        build=build,
        present=present,
        judges_planted=target is Target.BINARY,
        paired=paired,
    )


def on_pairs(
    name: str,
    layout: Layout,
    settings: TreeSettings,
    outputs: tuple[str, ...],
    grown: Callable[[SecretArray, SecretArray, SecretArray | None], Revealed],
) -> Program:
    """The program that opens what ``grown`` makes of the pairs of an oblivious join.

    Places that hold nobody count nowhere, but for candidates of thresholds: there they have publicly drawn numbers.

    Raises:
        InvalidInput: a leaf must have more people than must be in every table, so that no tree might have a leaf.
    """
    if settings.minimum_group > layout.pairs:
        raise InvalidInput(
            f"{name}: with {layout.pairs} people in every table a leaf of {settings.minimum_group} could not be;"
            " ask for a smaller group, or for more rows"
        )

    def compute(rows: SecretArray, target: SecretArray, both: SecretArray) -> Revealed:
        drawn = np.random.default_rng(settings.seed).uniform(-1.0, 1.0, rows.shape)
        return grown(where(both.reshape(-1, 1), rows, constant_like(rows, drawn)), target, both)

    return on_paired_target(name, layout, outputs, compute)


def _numbers(trees: Trees) -> SecretArray:
    """(t, nodes) numbers of columns, from 1 on; 0 for none."""
    batch, nodes, width = trees.features.shape
    return (trees.features.reshape(batch * nodes, width) @ np.arange(1, width + 1)).reshape(batch, nodes)


def present(
    outputs: Mapping[str, np.ndarray], layout: Layout, units: Mapping[str, tuple[float, float]]
) -> tuple[ResultTable, ...]:
    """Thresholds in the units of the columns where these were opened too, and 0 where there is no column.

    Args:
        units: for leaves and start, what 1 stands for above the level of 0, and that level.
    """
    features = [layout.columns[number] for number in layout.features]
    half, middle = np.append([0.0], halves(features)), np.append([0.0], middles(features))
    tables = []
    for name, values in outputs.items():
        if name == "start":
            unit, level = units[name]
            tables.append(ResultTable(name, ("",), (name,), values.reshape(1, 1) * unit + level))
            continue
        shown = values
        if name == "leaves":
            shown = values * units[name][0] + units[name][1]
        elif name == "thresholds" and "columns" in outputs:
            places = outputs["columns"].round().astype(int)
            shown = values * half[places] + middle[places]
        part = "leaf" if name == "leaves" else "node"
        trees = tuple(f"tree {number}" for number in range(1, len(shown) + 1))
        labels = tuple(f"{part} {number}" for number in range(1, shown.shape[1] + 1))
        tables.append(ResultTable(name, trees, labels, shown))
    return tuple(tables)
