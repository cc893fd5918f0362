"""Checking a matrix product without doing it again (R. Freivalds, "Fast probabilistic algorithms", MFCS 1979).

C = A·B exactly when C·r = A·(B·r) for every r. For a random r modulo a prime p a product that is wrong modulo p passes
with a probability of 1/p. An error below 2⁶¹ cannot be a multiple of both primes used here, so one of the two sees it;
two vectors for each make the probability of missing it less than 2⁻⁶¹. The check takes products with vectors only.
"""

from typing import Final

import numpy as np

from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput

PRIMES: Final = ((1 << 31) - 1, (1 << 31) - 19)
LARGEST: Final = 1 << 60
_VECTORS: Final = 2


def is_product(left: np.ndarray, right: np.ndarray, claimed: np.ndarray, rng: Rng) -> bool:
    """Whether ``claimed`` is left · right.

    Args:
        left, right, claimed: int64 of shapes (m, k), (k, n), (m, n); k times the largest of left times the largest of
            right is below 2⁶⁰.
        rng: must be unpredictable to whoever claims.

    Raises:
        InvalidInput: shapes, types or sizes that do not fit.
    """
    for matrix in (left, right, claimed):
        if matrix.dtype != np.int64 or matrix.ndim != 2:
            raise InvalidInput(f"a product is checked on int64 matrices; got {matrix.dtype} of shape {matrix.shape}")
    if left.shape[1] != right.shape[0] or claimed.shape != (left.shape[0], right.shape[1]):
        raise InvalidInput(f"shapes {left.shape}, {right.shape} and {claimed.shape} are not those of a product")
    bound = _largest(left) * _largest(right) * left.shape[1]
    if bound >= LARGEST:
        raise InvalidInput("the product might be 2⁶⁰ or more; use smaller numbers")
    if _largest(claimed) > bound:
        return False
    for prime in PRIMES:
        reduced = [np.mod(matrix, prime) for matrix in (left, right, claimed)]
        for _ in range(_VECTORS):
            words = np.frombuffer(rng.bytes(8 * right.shape[1]), "<u8")
            vector = (words % np.uint64(prime)).astype(np.int64)
            expected = _times(reduced[0], _times(reduced[1], vector, prime), prime)
            if (_times(reduced[2], vector, prime) != expected).any():
                return False
    return True


def _largest(matrix: np.ndarray) -> int:
    return max(abs(int(matrix.max(initial=0))), abs(int(matrix.min(initial=0))))


def _times(matrix: np.ndarray, vector: np.ndarray, prime: int) -> np.ndarray:
    """matrix · vector modulo the prime; every product of two reduced numbers fits into 62 bits."""
    return np.asarray((matrix * vector % prime).sum(axis=1) % prime)
