"""Local arithmetic modulo 2⁶⁴ on NumPy arrays: exact matrix products through floating-point BLAS, nibbles transposed.

A word is written in three balanced limbs, a = a₀ + 2²² a₁ + 2⁴⁴ a₂ with |a₀|, |a₁| ≤ 2²¹ and |a₂| ≤ 2¹⁹, modulo 2⁶⁴.
Limb products are summed in float64. Over a block of at most 1,024 terms no sum exceeds 2 · 1024 · 2⁴² = 2⁵³, so every
sum is exact; the products of weight 2⁶⁶ and above vanish modulo 2⁶⁴.
"""

from typing import Final

import numpy as np

Words = np.ndarray
"""uint64 array."""

LIMB_BITS: Final = 22
_TOP_LIMB_BITS: Final = 20
_BLOCK_TERMS: Final = 1024
_BLAS_PAYS_FROM: Final = 60_000
"""Multiplications below which NumPy's integer matmul is faster than splitting."""
THIN: Final = 64
"""Rows or columns of a product below which the memory that holds the other factor sets the pace."""
_NIBBLE_SWAPS: Final = ((2, 4), (3, 5))


def balanced_limbs(words: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three signed limbs of each word, as int64."""
    rest = words.view(np.int64)
    low, rest = _take_limb(rest, LIMB_BITS)
    middle, rest = _take_limb(rest, LIMB_BITS)
    top, _ = _take_limb(rest, _TOP_LIMB_BITS)
    return low, middle, top


def _take_limb(values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    half, mask = np.int64(1 << (bits - 1)), np.int64((1 << bits) - 1)
    limb = ((values + half) & mask) - half
    return limb, (values - limb) >> np.int64(bits)


class MatrixLimbs:
    """A matrix of words with its limb blocks, made when first needed and kept: as left factor [A₀|A₁|A₂], as right
    factor the limbs stacked from the top one down."""

    __slots__ = ("_left", "_right", "words")

    def __init__(self, words: Words) -> None:
        self.words = words
        self._left: list[np.ndarray] | None = None
        self._right: list[np.ndarray] | None = None

    def left(self) -> list[np.ndarray]:
        if self._left is None:
            self._left = [
                np.concatenate([limb.astype(np.float64) for limb in balanced_limbs(block)], axis=1)
                for block in _blocks(self.words, axis=1)
            ]
        return self._left

    def right(self) -> list[np.ndarray]:
        if self._right is None:
            self._right = [
                np.concatenate([limb.astype(np.float64) for limb in reversed(balanced_limbs(block))], axis=0)
                for block in _blocks(self.words, axis=0)
            ]
        return self._right


def matrix_product(left: MatrixLimbs, right: MatrixLimbs) -> Words:
    """Exact product modulo 2⁶⁴ of an (m, k) and a (k, n) matrix of words."""
    (rows, terms), columns = left.words.shape, right.words.shape[1]
    if rows * terms * columns < _BLAS_PAYS_FROM:
        return np.asarray(left.words @ right.words)
    total = np.zeros((rows, columns), np.int64)
    for a, b in zip(left.left(), right.right(), strict=True):
        _add_limb_products(total, a, b, a.shape[1] // 3)
    return total.view(np.uint64)


def gram_cross_products(
    components: dict[int, Words], pairs: list[tuple[int, int]], diagonal: frozenset[tuple[int, int]]
) -> dict[tuple[int, int], Words]:
    """For components of an (n, d) matrix X: xᵢᵀxⱼ + xⱼᵀxᵢ for each pair (i, j), plus xᵢᵀxᵢ if it is in ``diagonal``.

    One pass over the rows; the limbs of a block are made once and used for every pair.
    """
    rows, columns = next(iter(components.values())).shape
    crossed = {pair: np.zeros((columns, columns), np.int64) for pair in pairs}
    squared = {pair[0]: np.zeros((columns, columns), np.int64) for pair in pairs if pair in diagonal}
    for start in range(0, rows, _BLOCK_TERMS):
        limbs = {
            j: [limb.astype(np.float64) for limb in balanced_limbs(words[start : start + _BLOCK_TERMS])]
            for j, words in components.items()
        }
        ascending = {j: np.concatenate(parts, axis=0) for j, parts in limbs.items()}
        descending = {j: np.concatenate(parts[::-1], axis=0) for j, parts in limbs.items()}
        height = min(_BLOCK_TERMS, rows - start)
        for i, j in pairs:
            _add_limb_products(crossed[i, j], ascending[i].T, descending[j], height)
        for i, total in squared.items():
            _add_square(total, limbs[i])
    result = {}
    for pair in pairs:
        total = crossed[pair] + crossed[pair].T
        if pair in diagonal:
            total += squared[pair[0]]
        result[pair] = total.view(np.uint64)
    return result


def _add_limb_products(total: np.ndarray, left: np.ndarray, right: np.ndarray, width: int) -> None:
    """total += left · right; left is [A₀|A₁|A₂], right is [B₂;B₁;B₀], each limb ``width`` terms wide."""
    if left.shape[0] <= 2 * THIN:
        # Each limb of the long factor is read once, for all limbs of the thin one that it meets.
        limbs = np.concatenate([left[:, k * width : (k + 1) * width] for k in range(3)], axis=0)
        _add_thin_products(total, [limbs[: (3 - k) * left.shape[0]] @ _limb(right, k, width) for k in range(3)])
        return
    if right.shape[1] <= 2 * THIN:
        limbs = np.concatenate([_limb(right, k, width) for k in range(3)], axis=1)
        products = [left[:, k * width : (k + 1) * width] @ limbs[:, : (3 - k) * right.shape[1]] for k in range(3)]
        _add_thin_products(total.T, [each.T for each in products])
        return
    total += (left[:, :width] @ right[2 * width :]).astype(np.int64)
    total += (left[:, : 2 * width] @ right[width:]).astype(np.int64) << np.int64(LIMB_BITS)
    total += (left @ right).astype(np.int64) << np.int64(2 * LIMB_BITS)


def _limb(right: np.ndarray, number: int, width: int) -> np.ndarray:
    return right[(2 - number) * width : (3 - number) * width]


def _add_thin_products(total: np.ndarray, products: list[np.ndarray]) -> None:
    """total += Σ 2^(22 (j + k)) Pⱼₖ for products[k] = [P₀ₖ; P₁ₖ; …] of the limbs that do not vanish together."""
    rows = total.shape[0]
    for k, each in enumerate(products):
        for j in range(3 - k):
            total += each[j * rows : (j + 1) * rows].astype(np.int64) << np.int64((j + k) * LIMB_BITS)


def _add_square(total: np.ndarray, limbs: list[np.ndarray]) -> None:
    low, middle, top = limbs
    low_middle = (low.T @ middle).astype(np.int64)
    low_top = (low.T @ top).astype(np.int64)
    total += (low.T @ low).astype(np.int64)
    total += (low_middle + low_middle.T) << np.int64(LIMB_BITS)
    total += (low_top + low_top.T + (middle.T @ middle).astype(np.int64)) << np.int64(2 * LIMB_BITS)


def _blocks(words: Words, axis: int) -> list[Words]:
    length = words.shape[axis]
    starts = range(0, length, _BLOCK_TERMS)
    if axis == 1:
        return [np.ascontiguousarray(words[:, s : s + _BLOCK_TERMS]) for s in starts]
    return [np.ascontiguousarray(words[s : s + _BLOCK_TERMS]) for s in starts]


def _swap_masks() -> list[tuple[np.uint64, np.uint64]]:
    masks = []
    for low, high in _NIBBLE_SWAPS:
        shift = (1 << high) - (1 << low)
        mask = sum(1 << bit for bit in range(64) if bit >> low & 1 and not bit >> high & 1)
        masks.append((np.uint64(shift), np.uint64(mask)))
    return masks


_MASKS: Final = _swap_masks()


def transpose_nibbles(words: Words) -> Words:
    """Move nibble 4k + j of every word to place 4j + k, by swapping bits 0 and 2, and 1 and 3, of its index."""
    for shift, mask in _MASKS:
        moved = ((words >> shift) ^ words) & mask
        words = words ^ moved ^ (moved << shift)
    return words
