"""Checking a matrix product without doing it again (R. Freivalds, "Fast probabilistic algorithms", MFCS 1979).

C = A·B exactly when C·r = A·(B·r) for every r. For a random r modulo a prime p a product that is wrong modulo p passes
with a probability of 1/p. An error below 2⁶¹ cannot be a multiple of both primes used here, so one of the two sees it;
two vectors for each make the probability of missing it less than 2⁻⁶¹. The check takes products with vectors only.

Modulo 2⁶⁴, which is no prime, a row d ≠ 0 of the error is 2ᵛ times one with an odd number in it, and a random r misses
it with a probability of 2ᵛ⁻⁶⁴, at most one half. Sixty-four vectors at once miss it with one of at most 2⁻⁶⁴.
"""

from typing import Final

import numpy as np

from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput

PRIMES: Final = ((1 << 31) - 1, (1 << 31) - 19)
LARGEST: Final = 1 << 60
_VECTORS: Final = 2
_WORD_VECTORS: Final = 64


def is_product(left: np.ndarray, right: np.ndarray, claimed: np.ndarray, rng: Rng) -> bool:
    """Whether ``claimed`` is left · right; see ``wrong_number``."""
    return wrong_number(left, right, claimed, rng) is None


def wrong_number(left: np.ndarray, right: np.ndarray, claimed: np.ndarray, rng: Rng) -> tuple[int, int] | None:
    """Row and column of a number of ``claimed`` that left · right has not; None where it is the product.

    A row that fails the check is multiplied out, and no other.

    Args:
        left, right, claimed: int64 of shapes (m, k), (k, n), (m, n); k times the largest of left times the largest of
            right is below 2⁶⁰.
        rng: must be unpredictable to whoever claims.

    Raises:
        InvalidInput: shapes, types or sizes that do not fit.
    """
    bound = check_factors(left, right)
    if claimed.dtype != np.int64 or claimed.shape != (left.shape[0], right.shape[1]):
        raise InvalidInput(
            f"{claimed.dtype} of shape {claimed.shape} is no product of int64 of {left.shape} and {right.shape}"
        )
    beyond = np.argwhere((claimed > bound) | (claimed < -bound))
    if len(beyond):
        return int(beyond[0][0]), int(beyond[0][1])
    for prime in PRIMES:
        reduced = [np.mod(matrix, prime) for matrix in (left, right, claimed)]
        for _ in range(_VECTORS):
            words = np.frombuffer(rng.bytes(8 * right.shape[1]), "<u8")
            vector = (words % np.uint64(prime)).astype(np.int64)
            expected = _times(reduced[0], _times(reduced[1], vector, prime), prime)
            wrong = np.flatnonzero(_times(reduced[2], vector, prime) != expected)
            if len(wrong):
                row = int(wrong[0])
                return row, int(np.flatnonzero(left[row] @ right != claimed[row])[0])
    return None


def wrong_word(left: np.ndarray, right: np.ndarray, claimed: np.ndarray, rng: Rng) -> tuple[int, int] | None:
    """As ``wrong_number`` for sums modulo 2⁶⁴, whatever the numbers are: for shares of matrices, which are random.

    It takes 64 products with vectors for each matrix, so it pays off where all three sizes are several hundred.

    Args:
        left, right, claimed: int64 of shapes (m, k), (k, n), (m, n).

    Raises:
        InvalidInput: shapes or types that do not fit.
    """
    if any(matrix.dtype != np.int64 or matrix.ndim != 2 for matrix in (left, right, claimed)):
        raise InvalidInput("a product modulo 2⁶⁴ is checked on int64 matrices")
    if left.shape[1] != right.shape[0] or claimed.shape != (left.shape[0], right.shape[1]):
        raise InvalidInput(f"shapes {left.shape}, {right.shape} and {claimed.shape} are not those of a product")
    words = np.frombuffer(rng.bytes(8 * _WORD_VECTORS * right.shape[1]), "<i8")
    vectors = words.astype(np.int64).reshape(right.shape[1], _WORD_VECTORS)
    wrong = np.flatnonzero((claimed @ vectors != left @ (right @ vectors)).any(axis=1))
    if not len(wrong):
        return None
    row = int(wrong[0])
    return row, int(np.flatnonzero(left[row] @ right != claimed[row])[0])


def check_factors(left: np.ndarray, right: np.ndarray) -> int:
    """The largest that a number of the product can be. Raises InvalidInput where the factors cannot be checked."""
    for matrix in (left, right):
        if matrix.dtype != np.int64 or matrix.ndim != 2 or not matrix.size:
            raise InvalidInput(f"a product is checked on int64 matrices; got {matrix.dtype} of shape {matrix.shape}")
    if left.shape[1] != right.shape[0]:
        raise InvalidInput(f"matrices of shapes {left.shape} and {right.shape} have no product")
    bound = _largest(left) * _largest(right) * int(left.shape[1])
    if bound >= LARGEST:
        raise InvalidInput("the product might be 2⁶⁰ or more; use smaller numbers")
    return bound


def _largest(matrix: np.ndarray) -> int:
    return max(abs(int(matrix.max(initial=0))), abs(int(matrix.min(initial=0))))


def _times(matrix: np.ndarray, vector: np.ndarray, prime: int) -> np.ndarray:
    """matrix · vector modulo the prime; every product of two reduced numbers fits into 62 bits."""
    return np.asarray((matrix * vector % prime).sum(axis=1) % prime)
