"""Growing full binary trees on secret rows: every tree of a batch, and every node of a level, at once.

Which thresholds a row lies below is compared once, before the first tree: an (n, k) matrix M of bits, k = columns ×
thresholds. Then, level by level, sums over the rows of a node that lie below each candidate are one matrix product of
the nodes' masked targets with M (only for left children: the right ones are the rest), the best candidate of each node
is chosen in secret as a row of bits S, and M Sᵀ says which way every row goes. All trees have the full public depth; a
node that no split improves sends every row left. So neither shape, nor time, nor traffic depend on the rows.
Bounds: docs/spec/rep4.md, lemmas TREE-*.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import (
    SecretArray,
    bounded,
    concatenate,
    constant_like,
    matrix_product,
    product,
    reciprocal,
    refined,
    scaled_columns,
)
from koinon.privacy.learn.splitting import SMALLEST_WEIGHT, Sums, best_split
from koinon.privacy.ordering import sort
from koinon.privacy.secret import Claim, Product

MOST_DEPTH: Final = 8
_INVERSE_BITS: Final = 34
_BEYOND: Final = 2.0
"""Columns are in [−1, 1]: every row lies below this threshold."""


@dataclass(frozen=True)
class Bins:
    """Rows, compared with every candidate threshold.

    Attributes:
        thresholds: (d, b), ascending in every column, still secret.
        below: (n, d·b + 1) bits: which rows lie below which threshold; the last column is 1.
    """

    thresholds: SecretArray
    below: SecretArray

    @property
    def candidates(self) -> int:
        return self.thresholds.size


@dataclass(frozen=True)
class Targets:
    """What a batch of t trees is grown towards: means of ``moments`` / ``weights``.

    Attributes:
        weights: (t, n) of every row in every tree, never negative: public whole numbers, or secret.
        heaviest: public; no weight is larger.
        moments: (t, s, n) weight times target, secret.
        reach: no weighted mean of targets is larger in absolute value.
    """

    weights: "SecretArray | np.ndarray"
    heaviest: float
    moments: SecretArray
    reach: float


@dataclass(frozen=True)
class Trees:
    """A batch of t trees of one depth, still secret.

    Attributes:
        features: (t, nodes, d) bits: the column each inner node looks at, level by level; none where all go left.
        thresholds: (t, nodes): a row goes left if its number lies below.
        leaves: (t, leaves, s) means of the targets, from left to right.
        reach: public; no mean is larger in absolute value.
    """

    features: SecretArray
    thresholds: SecretArray
    leaves: SecretArray
    reach: float

    def means(self, rows: SecretArray) -> SecretArray:
        """(t, n, s): the leaf each of (n, d) rows falls into, in every tree."""
        batch, nodes, width = self.features.shape
        if rows.ndim != 2 or rows.shape[1] != width:
            raise InvalidInput(f"trees grown on {width} columns cannot answer rows of shape {rows.shape}")
        values = rows @ self.features.reshape(batch * nodes, width).T
        left = (values < self.thresholds.reshape(-1)).T.reshape(batch, nodes, -1)
        reached = None
        for start in (2**level - 1 for level in range(nodes.bit_length())):
            reached = _children(reached, left[:, start : 2 * start + 1])
        assert reached is not None
        return self.at(reached)

    def at(self, reached: SecretArray) -> SecretArray:
        """(t, n, s) means for bits (t, leaves, n) that say which leaf every row falls into."""
        by_leaf = reached.transpose(1, 0, 2).reshape(reached.shape[1], reached.shape[0], -1, 1)
        batch, leaves, outputs = self.leaves.shape
        means = self.leaves.transpose(1, 0, 2).reshape(leaves, batch, 1, outputs)
        return product(by_leaf, means, Product.COLUMN_DOT, Claim("SELECT", self.reach))


@dataclass(frozen=True)
class Grown:
    """Trees, and the (t, n, s) leaf means of the very rows they were grown on."""

    trees: Trees
    fitted: SecretArray


def quantile_bins(rows: SecretArray, bins: int, sample: int, seed: int) -> Bins:
    """Thresholds between the secret quantiles of at most ``sample`` publicly drawn rows.

    Args:
        rows: (n, d) in [−1, 1].
        bins: per column: one more than there are thresholds.

    Raises:
        InvalidInput: too few rows, or unusable settings.
    """
    if rows.ndim != 2 or rows.shape[0] < 2 or not 2 <= bins <= 256 or sample < 2:
        raise InvalidInput(f"{bins} bins from a sample of {sample} cannot be made of rows of shape {rows.shape}")
    rows = scaled_columns(rows)
    count, width = rows.shape
    drawn = np.sort(np.random.default_rng(seed).permutation(count)[:sample])
    (ordered,) = sort(rows[drawn].T, -1)
    last = len(drawn)
    above = np.unique(np.clip(np.round(np.arange(1, bins) * last / bins), 1, last - 1).astype(int))
    # Of two neighbours that are equal the middle is the number itself, and lower ones lie below it.
    thresholds = bounded((ordered[:, above] + ordered[:, above - 1]).times(0.5), "TREE-THRESHOLD", 1.0 + 2.0**-18)
    below = (rows.reshape(count, width, 1) < thresholds).reshape(count, -1)
    return Bins(thresholds, concatenate([below, constant_like(below, np.ones((count, 1)))], 1))


def grow(bins: Bins, targets: Targets, depth: int, smallest: float, columns: np.ndarray | None = None) -> Grown:
    """Grow a batch of trees.

    Args:
        depth: 1 to MOST_DEPTH.
        smallest: weight that each side of a split has at least.
        columns: (t, nodes, c) public: the columns that each inner node may look at; None for all.

    Raises:
        InvalidInput: unusable depth or weight.
    """
    if not 1 <= depth <= MOST_DEPTH or not SMALLEST_WEIGHT <= smallest <= targets.heaviest * targets.moments.shape[2]:
        raise InvalidInput(
            f"trees are 1 to {MOST_DEPTH} deep, and a leaf has a weight from {SMALLEST_WEIGHT:g} to that of all rows;"
            f" got {depth} and {smallest:g}"
        )
    batch, outputs, count = targets.moments.shape
    width, per_column = bins.thresholds.shape
    column_of = np.repeat(np.eye(width), per_column, axis=0)
    features, thresholds = [], []
    inside: SecretArray | None = None
    sums = _sums(targets, inside, bins)
    inverse = reciprocal(refined(sums.weight[:, -1], _INVERSE_BITS), smallest)
    for level in range(depth):
        nodes = 1 << level
        split = best_split(sums, inverse, targets.reach, smallest, _allowed(columns, level, per_column))
        inner, stays = split.picked[:, :-1], split.picked[:, -1]
        features.append((inner @ column_of).reshape(batch, nodes, width))
        thresholds.append((inner @ bins.thresholds.ravel() + stays.times(_BEYOND)).reshape(batch, nodes))
        left = bounded(matrix_product(bins.below, split.picked.T, Claim("TREE-ROUTE", 1.0)), "BIT", 1.0)
        inside = _children(inside, left.T.reshape(batch, nodes, count))
        if level + 1 < depth:
            lower = _sums(targets, inside[:, 0::2], bins)
            sums, inverse = _in_turn(lower, sums), split.inverses
    reach = 1.1 * targets.reach
    leaves = split.means.reshape(batch, 1 << depth, outputs)
    assert inside is not None
    trees = Trees(concatenate(features, 1), concatenate(thresholds, 1), leaves, reach)
    return Grown(trees, trees.at(inside))


def _allowed(columns: np.ndarray | None, level: int, per_column: int) -> np.ndarray | None:
    """(t · nodes, c · b) candidates of each node of a level; None for all."""
    if columns is None:
        return None
    chosen = columns[:, (1 << level) - 1 : (2 << level) - 1, :, None] * per_column + np.arange(per_column)
    return np.asarray(chosen.reshape(len(columns) << level, -1))


def _sums(targets: Targets, inside: SecretArray | None, bins: Bins) -> Sums:
    """Sums over the rows inside each of the nodes (t, nodes, n), or of the roots."""
    batch, outputs, count = targets.moments.shape
    weights, moments = targets.weights, targets.moments
    if inside is None:
        heavy = constant_like(moments, weights) if isinstance(weights, np.ndarray) else weights
        nodes = 1
    else:
        nodes = inside.shape[1]
        if isinstance(weights, np.ndarray):
            heavy = inside.times(weights.reshape(batch, 1, count))
        else:
            heavy = bounded(inside * weights.reshape(batch, 1, count), "SELECT", targets.heaviest)
        masked = inside.reshape(batch, nodes, 1, count) * moments.reshape(batch, 1, outputs, count)
        moments = bounded(masked, "SELECT", targets.reach * targets.heaviest)
    total = targets.heaviest * count
    rows = moments.reshape(batch * nodes * outputs, count)
    heavy = heavy.reshape(batch * nodes, count)
    if isinstance(weights, np.ndarray):
        # Whole numbers: they take no truncation, so they go their own way.
        weight = matrix_product(heavy, bins.below, Claim("TREE-SUM", total))
        sums = matrix_product(rows, bins.below, Claim("TREE-SUM", total * targets.reach))
    else:
        most = Claim("TREE-SUM", total * max(targets.reach, 1.0))
        both = matrix_product(concatenate([heavy, rows]), bins.below, most)
        weight, sums = bounded(both[: batch * nodes], "TREE-SUM", total), both[batch * nodes :]
        sums = bounded(sums, "TREE-SUM", total * targets.reach)
    return Sums(weight, sums.reshape(batch * nodes, outputs, -1))


def _in_turn(left: Sums, parents: Sums) -> Sums:
    """Left and right children in turn: the right ones hold what the left ones do not."""

    def both(one: SecretArray, whole: SecretArray) -> SecretArray:
        single = (one.shape[0], 1, *one.shape[1:])
        pair = concatenate([one.reshape(*single), (whole - one).reshape(*single)], 1)
        return pair.reshape(2 * one.shape[0], *one.shape[1:])

    return Sums(both(left.weight, parents.weight), both(left.moments, parents.moments))


def _children(inside: SecretArray | None, left: SecretArray) -> SecretArray:
    """Bits (t, 2 nodes, n) of the children of nodes (t, nodes, n), or of roots, whose rows go left by these bits."""
    batch, nodes, count = left.shape
    first = left if inside is None else bounded(inside * left, "BIT", 1.0)
    second = -left + 1.0 if inside is None else inside - first
    pair = concatenate([first.reshape(batch, nodes, 1, count), second.reshape(batch, nodes, 1, count)], 2)
    return bounded(pair.reshape(batch, 2 * nodes, count), "BIT", 1.0)
