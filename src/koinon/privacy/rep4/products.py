"""Local halves of a product: for each pair of components, the cross terms that the two parties outside it both know.

x · y = Σ zᵢⱼ over the six pairs, where zᵢⱼ = xᵢyⱼ + xⱼyᵢ, and for pairs (i, i+1) also xᵢyᵢ. A pair whose terms are all
publicly zero needs no message.
"""

import numpy as np

from koinon.privacy.rep4.ring import THIN, MatrixLimbs, gram_cross_products, matrix_product
from koinon.privacy.rep4.shares import DIAGONAL, ROUTES, Shares
from koinon.privacy.secret import Product, product_shape

Pair = tuple[int, int]


def cross_terms(left: Shares, right: Shares, kind: Product, position: int) -> dict[Pair, np.ndarray | None]:
    """The needed pairs in the protocol's order, with zᵢⱼ where ``position`` holds both components, else None."""
    needed = {pair: terms for pair in ROUTES if (terms := _terms(pair, left, right))}
    if kind is Product.GRAM:
        held = {j: left.part(j) for j in range(4) if j != position}
        pairs = [pair for pair in needed if position not in pair]
        grams = gram_cross_products(held, pairs, DIAGONAL)
        return {pair: grams.get(pair) for pair in needed}
    if kind is Product.MATRIX and min(left.shape[0], right.shape[1]) <= THIN:
        return _thin_products(left, right, needed, position)
    return {pair: None if position in pair else _product(left, right, kind, terms) for pair, terms in needed.items()}


def shape_of(left: Shares, right: Shares, kind: Product) -> tuple[int, ...]:
    """Shape of the product."""
    return product_shape(kind, left.shape, right.shape)


def _terms(pair: Pair, left: Shares, right: Shares) -> list[Pair]:
    i, j = pair
    candidates = [(j, i), (i, j), *([(i, i)] if pair in DIAGONAL else [])]
    return [(a, b) for a, b in candidates if a in left.support and b in right.support]


def _product(left: Shares, right: Shares, kind: Product, terms: list[Pair]) -> np.ndarray:
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


def _thin_products(
    left: Shares, right: Shares, needed: dict[Pair, list[Pair]], position: int
) -> dict[Pair, np.ndarray | None]:
    """Matrix products where one factor has few rows or columns: whatever meets one component of the other is stacked,
    so that the component is read from memory once."""
    thin_left = left.shape[0] <= right.shape[1]
    axis = 0 if thin_left else 1
    meeting: dict[int, list[tuple[Pair, np.ndarray]]] = {}
    for pair, terms in needed.items():
        if position in pair:
            continue
        for whole in sorted({b if thin_left else a for a, b in terms}):
            thin = [left.part(a) if thin_left else right.part(b) for a, b in terms if (b if thin_left else a) == whole]
            meeting.setdefault(whole, []).append((pair, thin[0] if len(thin) == 1 else thin[0] + thin[1]))
    found: dict[Pair, np.ndarray | None] = dict.fromkeys(needed)
    for whole, factors in meeting.items():
        stacked = MatrixLimbs(np.concatenate([words for _, words in factors], axis=axis))
        both = (stacked, right.matrix(whole)) if thin_left else (left.matrix(whole), stacked)
        parts = np.split(matrix_product(*both), len(factors), axis=axis)
        for (pair, _), part in zip(factors, parts, strict=True):
            before = found[pair]
            found[pair] = part if before is None else before + part
    return found


def _matrix_terms(left: Shares, right: Shares, terms: list[Pair]) -> np.ndarray:
    if len(terms) == 3:
        (j, i), _, _ = terms
        both = matrix_product(left.matrix_sum(i, j), right.matrix(i))
        return np.asarray(both + matrix_product(left.matrix(i), right.matrix(j)))
    total = matrix_product(left.matrix(terms[0][0]), right.matrix(terms[0][1]))
    for a, b in terms[1:]:
        total = total + matrix_product(left.matrix(a), right.matrix(b))
    return total
