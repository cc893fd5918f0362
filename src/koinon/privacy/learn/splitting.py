"""Where a node of a tree is split: the candidate that decreases the variance of its targets most, chosen in secret.

With shares p + q = 1 of a node's weight on the two sides and means m, a split decreases the weighted variance by
pq (m_left − m_right)² (L. Breiman et al., "Classification and regression trees", 1984). The variance of class bits is
the Gini impurity, and with gradients and Hessians as targets and weights this is the gain of XGBoost (T. Chen,
C. Guestrin, "XGBoost", 2016). Everything is divided by the node's weight first, so that a node of five rows and one of
a million use the same bits; the inverse weights of the children follow from the split without another division.
Bounds: docs/spec/rep4.md, lemmas TREE-*.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.privacy.arrays import SecretArray, bounded, concatenate, constant_like, made, product, reciprocal, refined
from koinon.privacy.learn.choice import one_hot_of_largest
from koinon.privacy.secret import Claim, Product

SMALLEST_SHARE: Final = 2.0**-12
"""A split that leaves less than this part of a node's weight on one side is not considered."""
SMALLEST_WEIGHT: Final = 2.0**-6
LEAST_GAIN: Final = 2.0**-16
"""Decrease of variance below which a node is not split, relative to the square of the targets' bound where that is
below 1. A wider bound is that of the longest step a leaf may take, not of what most leaves do: late trees of boosting
decrease far less."""
_LARGEST_FACTOR: Final = 4.2 / SMALLEST_SHARE
_INVERSE_BITS: Final = 34
_SHARE_BITS: Final = 26
_FACTOR_BITS: Final = 20
_GAIN_BITS: Final = 24


@dataclass(frozen=True)
class Sums:
    """Over the rows of each of m nodes that lie below each candidate: weight (m, k), moments (m, s, k).

    All rows lie below the last candidate: choosing it means no split.
    """

    weight: SecretArray
    moments: SecretArray


@dataclass(frozen=True)
class Split:
    """Of m nodes.

    Attributes:
        picked: (m, k) bits, 1 at the chosen candidate.
        means: (2m, s) of the left and the right child in turn; 0 for a child without rows.
        inverses: (2m,) of the children's weights; 0 for a child without rows.
    """

    picked: SecretArray
    means: SecretArray
    inverses: SecretArray


def best_split(sums: Sums, inverse: SecretArray, reach: float, smallest: float, allowed: np.ndarray | None) -> Split:
    """The candidate with the largest decrease in every node; the last one, if none reaches LEAST_GAIN.

    Args:
        inverse: (m,) of the nodes' weights; 0 for an empty node.
        reach: bound on every weighted mean of targets.
        smallest: weight that each side has at least.
        allowed: (m, c) public candidates of each node; None for all.
    """
    nodes, outputs, count = sums.moments.shape
    weight, moments = sums.weight[:, :-1], sums.moments.transpose(0, 2, 1)[:, :-1]
    if allowed is not None:
        some = np.arange(nodes)[:, None]
        weight, moments = weight[some, allowed], moments[some, allowed]
    whole_weight, whole_moments = sums.weight[:, -1:], sums.moments[:, :, -1].reshape(nodes, 1, outputs)

    def shared(part: SecretArray, bound: float) -> SecretArray:
        """Divided by the node's weight."""
        scale = inverse.reshape(nodes, *(1,) * (part.ndim - 1))
        return product(part, scale, Product.ELEMENTWISE, Claim("TREE-SHARE", bound), _SHARE_BITS)

    enough = (weight >= smallest) & (whole_weight - weight >= smallest)
    left, right = shared(weight, 1.02), shared(whole_weight - weight, 1.02)
    left_part, right_part = shared(moments, 1.02 * reach), shared(whole_moments - moments, 1.02 * reach)
    spread = product(left, right, Product.ELEMENTWISE, Claim("TREE-SHARE", 0.26), _SHARE_BITS)
    factor = reciprocal(spread, SMALLEST_SHARE / 2)
    # With parts a = p m_left and b = q m_right: pq (m_left − m_right)² = d · d/(pq) for d = aq − bp.
    crossed = product(
        concatenate([_first(left_part), _first(-right_part)]),
        concatenate([_first(right), _first(left)]).reshape(2, nodes, -1, 1),
        Product.COLUMN_DOT,
        Claim("TREE-SHARE", 2.1 * reach),
        _SHARE_BITS,
    )
    counted = bounded(crossed * enough.reshape(nodes, -1, 1), "SELECT", 2.1 * reach)
    apart = product(
        counted,
        factor.reshape(nodes, -1, 1),
        Product.ELEMENTWISE,
        Claim("TREE-MEAN", 2.2 * reach),
        _FACTOR_BITS,
    )
    gain = product(
        counted.transpose(2, 0, 1),
        apart.transpose(2, 0, 1),
        Product.COLUMN_DOT,
        Claim("TREE-GAIN", 1.1 * outputs * reach**2),
        _GAIN_BITS,
    )
    least = constant_like(gain, np.full((nodes, 1), LEAST_GAIN * min(reach, 1.0) ** 2))
    picked = one_hot_of_largest(concatenate([gain, least], 1), -1.0)
    inner, stays = picked[:, :-1], picked[:, -1:]

    def taken(values: SecretArray, unsplit: SecretArray | None, bound: float) -> SecretArray:
        """(m, s) values of the chosen candidates; ``unsplit``, or 0, for a node that is not split."""
        bits = inner.T.reshape(-1, nodes, 1)
        found = product(bits, values.transpose(1, 0, 2), Product.COLUMN_DOT, Claim("SELECT", bound))
        return found if unsplit is None else bounded(found + stays * unsplit, "SELECT", bound)

    # A node that is not split has p = 0, q = 1, 1/(pq) = 1 and all its moments on the left.
    one = constant_like(stays, np.ones((nodes, 1)))
    p, q = taken(left.reshape(nodes, -1, 1), None, 1.02), taken(right.reshape(nodes, -1, 1), one, 1.02)
    r = taken(refined(factor, _FACTOR_BITS).reshape(nodes, -1, 1), one, _LARGEST_FACTOR)
    a = taken(left_part, shared(whole_moments, 1.02 * reach).reshape(nodes, outputs), 1.02 * reach)
    b = taken(right_part, None, 1.02 * reach)
    # 1/p = q/(pq) and 1/q = p/(pq).
    sides = product(
        concatenate([q, p], 1), r, Product.ELEMENTWISE, Claim("TREE-INVERSE", _LARGEST_FACTOR), _FACTOR_BITS
    )
    inverses = product(
        sides, inverse.reshape(nodes, 1), Product.ELEMENTWISE, Claim("TREE-INVERSE", 2.1 / smallest), _INVERSE_BITS
    )
    parts = concatenate([a.reshape(nodes, 1, outputs), b.reshape(nodes, 1, outputs)], 1)
    means = product(
        parts, sides.reshape(nodes, 2, 1), Product.ELEMENTWISE, Claim("TREE-MEAN", 1.1 * reach), _FACTOR_BITS
    )
    if allowed is not None:
        picked = concatenate([_scattered(inner, allowed, count - 1), stays], 1)
    return Split(picked, means.reshape(2 * nodes, outputs), inverses.ravel())


def _first(array: SecretArray) -> SecretArray:
    return array.reshape(1, *array.shape)


def _scattered(bits: SecretArray, places: np.ndarray, count: int) -> SecretArray:
    """(m, c) numbers put at public places of (m, count); 0 elsewhere."""

    def put(words: np.ndarray) -> np.ndarray:
        wide = np.zeros((len(words), count), words.dtype)
        np.put_along_axis(wide, places, words, 1)
        return wide

    return made(lambda x: x.rearranged(put), (bits,), (bits.shape[0], count), 0)
