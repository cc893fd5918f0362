"""Local halves of a product: for each pair of components, the cross terms that the two parties outside it both know.

x · y = Σ zᵢⱼ over the six pairs, where zᵢⱼ = xᵢyⱼ + xⱼyᵢ, and for pairs (i, i+1) also xᵢyᵢ. A pair whose terms are all
publicly zero needs no message.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from koinon.privacy.rep4.ring import THIN, MatrixLimbs, gram_cross_products, matrix_product
from koinon.privacy.rep4.shares import DIAGONAL, ROUTES, Shares
from koinon.privacy.secret import Product, product_shape

Pair = tuple[int, int]


def cross_terms(left: Shares, right: Shares, kind: Product, position: int) -> dict[Pair, np.ndarray | None]:
    """The needed pairs in the protocol's order, with zᵢⱼ where ``position`` holds both components, else None."""
    needed = _needed(left.support, right.support)
    if kind is Product.GRAM:
        held = {j: left.part(j) for j in range(4) if j != position}
        pairs = [pair for pair, _ in needed if position not in pair]
        grams = gram_cross_products(held, pairs, DIAGONAL)
        return {pair: grams.get(pair) for pair, _ in needed}
    if kind is Product.MATRIX and min(left.shape[0], right.shape[1]) <= THIN:
        return _thin_products(left, right, position)
    return {pair: None if position in pair else _product(left, right, kind, terms) for pair, terms in needed}


def shape_of(left: Shares, right: Shares, kind: Product) -> tuple[int, ...]:
    """Shape of the product."""
    return product_shape(kind, left.shape, right.shape)


@lru_cache(maxsize=256)
def _needed(left: frozenset[int], right: frozenset[int]) -> tuple[tuple[Pair, tuple[Pair, ...]], ...]:
    """The pairs that carry anything, in the protocol's order, with their terms: components of left and right."""
    found = []
    for pair in ROUTES:
        i, j = pair
        candidates = [(j, i), (i, j), *([(i, i)] if pair in DIAGONAL else [])]
        terms = tuple((a, b) for a, b in candidates if a in left and b in right)
        if terms:
            found.append((pair, terms))
    return tuple(found)


def _product(left: Shares, right: Shares, kind: Product, terms: tuple[Pair, ...]) -> np.ndarray:
    if kind is Product.MATRIX:
        return _matrix_terms(left, right, terms)
    times, plus = (np.bitwise_and, np.bitwise_xor) if left.boolean else (np.multiply, np.add)
    if len(terms) == 3:
        # (xᵢ + xⱼ) yᵢ + xᵢ yⱼ: two products instead of three.
        (j, i), _, _ = terms
        total = times(plus(left.part(i), left.part(j)), right.part(i))
        plus(total, times(left.part(i), right.part(j)), out=total)
    else:
        total = times(left.part(terms[0][0]), right.part(terms[0][1]))
        for a, b in terms[1:]:
            total = plus(total, times(left.part(a), right.part(b)))
    total = np.asarray(total)
    return np.asarray(total.sum(0, dtype=total.dtype)) if kind is Product.COLUMN_DOT else total


class _Meeting(NamedTuple):
    """Attributes:
    whole: a component of the factor that is not thin.
    thin: for each pair in which it occurs, the components of the thin factor that it meets.
    """

    whole: int
    thin: tuple[tuple[Pair, tuple[int, ...]], ...]


@lru_cache(maxsize=256)
def _meetings(
    left: frozenset[int], right: frozenset[int], position: int, thin_left: bool
) -> tuple[tuple[Pair, ...], tuple[_Meeting, ...]]:
    """The needed pairs, and which components meet in those that ``position`` holds."""
    needed = _needed(left, right)
    meeting: dict[int, list[tuple[Pair, tuple[int, ...]]]] = {}
    for pair, terms in needed:
        if position in pair:
            continue
        sides = [(a, b) if thin_left else (b, a) for a, b in terms]
        for whole in sorted({each for _, each in sides}):
            meeting.setdefault(whole, []).append((pair, tuple(thin for thin, each in sides if each == whole)))
    return tuple(pair for pair, _ in needed), tuple(_Meeting(whole, tuple(each)) for whole, each in meeting.items())


def _thin_products(left: Shares, right: Shares, position: int) -> dict[Pair, np.ndarray | None]:
    """Matrix products where one factor has few rows or columns: whatever meets one component of the other is stacked,
    so that the component is read from memory once."""
    thin_left = left.shape[0] <= right.shape[1]
    axis, thin = (0, left) if thin_left else (1, right)
    width = thin.shape[axis]
    pairs, meetings = _meetings(left.support, right.support, position, thin_left)
    found: dict[Pair, np.ndarray | None] = dict.fromkeys(pairs)
    for whole, each in meetings:
        words = [thin.part(ours[0]) if len(ours) == 1 else thin.part(ours[0]) + thin.part(ours[1]) for _, ours in each]
        stacked = MatrixLimbs(np.concatenate(words, axis=axis))
        product = matrix_product(*((stacked, right.matrix(whole)) if thin_left else (left.matrix(whole), stacked)))
        for number, (pair, _) in enumerate(each):
            here = slice(number * width, (number + 1) * width)
            part, before = product[here] if thin_left else product[:, here], found[pair]
            found[pair] = part if before is None else before + part
    return found


def _matrix_terms(left: Shares, right: Shares, terms: tuple[Pair, ...]) -> np.ndarray:
    if len(terms) == 3:
        (j, i), _, _ = terms
        both = matrix_product(left.matrix_sum(i, j), right.matrix(i))
        return np.asarray(both + matrix_product(left.matrix(i), right.matrix(j)))
    total = matrix_product(left.matrix(terms[0][0]), right.matrix(terms[0][1]))
    for a, b in terms[1:]:
        total = total + matrix_product(left.matrix(a), right.matrix(b))
    return total
