"""Local arithmetic modulo 2⁶⁴ on NumPy arrays: exact matrix products through floating-point BLAS, nibbles transposed.

A word is written in three balanced limbs, a = a₀ + 2²² a₁ + 2⁴⁴ a₂ with |a₀|, |a₁| ≤ 2²¹ and |a₂| ≤ 2¹⁹, modulo 2⁶⁴.
Limb products are summed in float64. Over a block of at most 1,024 terms no sum exceeds 2 · 1024 · 2⁴² = 2⁵³, and over
512 terms no sum of products of two added limbs exceeds 512 · 2⁴⁴ = 2⁵³. So every sum is exact;
the products of weight 2⁶⁶ and above vanish modulo 2⁶⁴.
"""

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from koinon.privacy.rep4.accelerated import Accelerator

Words = np.ndarray
"""uint64 array."""

LIMB_BITS: Final = 22
_ABOVE_LIMB: Final = np.int64(64 - LIMB_BITS)
BLOCK_TERMS: Final = 1024
_SQUARED_TERMS: Final = 512
"""Terms of a block of XᵀX: there two limbs are added before they are multiplied, so that a term may reach 2⁴⁴."""
_BLAS_PAYS_FROM: Final = 60_000
"""Multiplications below which NumPy's integer matmul is faster than splitting."""
_DEVICE_PAYS_FROM: Final = 1 << 27
"""Multiplications below which a product stays here: each shape is compiled once, which takes about half a second."""
THIN: Final = 64
"""Rows or columns of a product below which the memory that holds the other factor sets the pace."""
_NIBBLE_SWAPS: Final = ((2, 4), (3, 5))


def balanced_limbs(words: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three signed limbs of each word, as int64."""
    rest = words.view(np.int64)
    low, rest = _take_limb(rest)
    middle, top = _take_limb(rest)
    return low, middle, top


def _take_limb(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest limb, sign-extended, and what remains above it; the last remainder is the top limb."""
    limb = values << _ABOVE_LIMB
    limb >>= _ABOVE_LIMB
    rest = values - limb
    rest >>= np.int64(LIMB_BITS)
    return limb, rest


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
    device = _device_for(rows * terms * columns)
    if device is not None:
        return device.product(left.words, right.words)
    total = np.zeros((rows, columns), np.int64)
    for a, b in zip(left.left(), right.right(), strict=True):
        _add_limb_products(total, a, b, a.shape[1] // 3)
    return total.view(np.uint64)


def gram_cross_products(
    components: dict[int, Words], pairs: list[tuple[int, int]], diagonal: frozenset[tuple[int, int]]
) -> dict[tuple[int, int], Words]:
    """For components of an (n, d) matrix X: xᵢᵀxⱼ + xⱼᵀxᵢ for each pair (i, j), plus xᵢᵀxᵢ if it is in ``diagonal``.

    With S(x) = xᵀx it is S(xᵢ + xⱼ) − S(xᵢ) − S(xⱼ): a square costs less than half of what a product does, and every
    component is squared once for all pairs. One pass over the rows.
    """
    rows, columns = next(iter(components.values())).shape
    device = _device_for(rows * columns * columns)
    if device is not None:
        return _gram_on(device, components, pairs, diagonal)
    wanted = {*pairs, *((j, j) for _, j in pairs), *((i, i) for i, j in pairs if (i, j) not in diagonal)}
    squares = {pair: np.zeros((columns, columns), np.int64) for pair in sorted(wanted)}
    added = np.empty((min(rows, _SQUARED_TERMS), columns), np.uint64)
    square = _BlockSquare(added.shape)
    for start in range(0, rows, _SQUARED_TERMS):
        here = {j: words[start : start + _SQUARED_TERMS] for j, words in components.items()}
        for (i, j), total in squares.items():
            words = here[i] if i == j else np.add(here[i], here[j], out=added[: len(here[i])])
            square.add_to(total, words)
    result = {}
    for i, j in pairs:
        total = squares[i, j] - squares[j, j]
        if (i, j) not in diagonal:
            total -= squares[i, i]
        result[i, j] = total.view(np.uint64)
    return result


def _device_for(multiplications: int) -> "Accelerator | None":
    if multiplications < _DEVICE_PAYS_FROM:
        return None
    # Late: it imports this module, and most runs have no product so large.
    from koinon.privacy.rep4.accelerated import accelerator

    return accelerator()


def _gram_on(
    device: "Accelerator",
    components: dict[int, Words],
    pairs: list[tuple[int, int]],
    diagonal: frozenset[tuple[int, int]],
) -> dict[tuple[int, int], Words]:
    result = {}
    for i, j in pairs:
        crossed = device.product(components[i].T, components[j])
        result[i, j] = crossed + crossed.T
        if (i, j) in diagonal:
            result[i, j] += device.product(components[i].T, components[i])
    return result


class _BlockSquare:
    """xᵀx of blocks of words, in memory that is used again for every block."""

    __slots__ = ("_limbs", "_room")

    def __init__(self, shape: tuple[int, int]) -> None:
        self._room = np.empty((2, *shape), np.int64)
        self._limbs = np.empty((4, *shape), np.float64)

    def add_to(self, total: np.ndarray, words: Words) -> None:
        """total += xᵀx modulo 2⁶⁴, for at most _SQUARED_TERMS rows.

        The middle term a₀ᵀa₁ + a₁ᵀa₀ is (a₀ + a₁)ᵀ(a₀ + a₁) − a₀ᵀa₀ − a₁ᵀa₁: of a square BLAS computes one half.
        """
        low, middle, top, both = self._split(words)
        low_square, middle_square, crossed = low.T @ low, middle.T @ middle, both.T @ both
        crossed -= low_square
        crossed -= middle_square
        high = (low.T @ top).astype(np.int64)
        total += low_square.astype(np.int64)
        total += crossed.astype(np.int64) << np.int64(LIMB_BITS)
        total += (high + high.T + middle_square.astype(np.int64)) << np.int64(2 * LIMB_BITS)

    def _split(self, words: Words) -> np.ndarray:
        """(4, rows, columns): the limbs as float64, and the sum of the lower two."""
        limb, rest = self._room[:, : len(words)]
        limbs = self._limbs[:, : len(words)]
        values = words.view(np.int64)
        for number in range(2):
            np.left_shift(values, _ABOVE_LIMB, out=limb)
            np.right_shift(limb, _ABOVE_LIMB, out=limb)
            np.subtract(values, limb, out=rest)
            np.right_shift(rest, np.int64(LIMB_BITS), out=rest)
            limbs[number], values = limb, rest
        limbs[2] = rest
        np.add(limbs[0], limbs[1], out=limbs[3])
        return limbs


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


def _blocks(words: Words, axis: int) -> list[Words]:
    length = words.shape[axis]
    starts = range(0, length, BLOCK_TERMS)
    if axis == 1:
        return [np.ascontiguousarray(words[:, s : s + BLOCK_TERMS]) for s in starts]
    return [np.ascontiguousarray(words[s : s + BLOCK_TERMS]) for s in starts]


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
