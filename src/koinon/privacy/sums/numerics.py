"""Linear algebra that gives the same bits on every processor: single products, differences, quotients and roots.

BLAS and NumPy's own sums add in orders that depend on the processor; none of them is used here.
"""

from typing import Final

import numpy as np

_SWEEPS: Final = 60
_SMALL: Final = 2.0**-50
_NOTHING: Final = 2.0**-60


def total(values: np.ndarray) -> np.ndarray:
    """Sum over the first axis, in its order."""
    added = np.zeros(values.shape[1:])
    for value in values:
        added = added + value
    return np.asarray(added)


def times(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """(n, m) · (m,) → (n,)."""
    return total((matrix * vector).T)


def symmetric(upper: np.ndarray, width: int) -> np.ndarray:
    """(d, d) from its upper triangle, row by row."""
    found = np.zeros((width, width))
    places = np.triu_indices(width)
    found[places] = upper
    return np.asarray(found + np.triu(found, 1).T)


def solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """x with A x = b for a positive definite A (n, n), by elimination without sums."""
    left, vector = matrix.astype(np.float64), right.astype(np.float64)
    size = len(vector)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for pivot in range(size):
            factors = left[pivot + 1 :, pivot] / left[pivot, pivot]
            left[pivot + 1 :, pivot:] -= np.multiply.outer(factors, left[pivot, pivot:])
            vector[pivot + 1 :] -= factors * vector[pivot]
        for pivot in range(size - 1, -1, -1):
            vector[pivot] /= left[pivot, pivot]
            vector[:pivot] -= left[:pivot, pivot] * vector[pivot]
    return vector


def eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (d,), falling, and eigenvectors (d, d), one a row, of a symmetric matrix.

    Jacobi's method, half the columns turned at once in an order in which every pair meets once a sweep (R. Brent, F.
    Luk, "The solution of singular-value and symmetric eigenvalue problems on multiprocessor arrays", 1985).
    """
    size = len(matrix)
    even = size + size % 2
    # A column of zeros with a value of its own makes the number even and is never mixed with the others.
    left = np.zeros((even, even))
    left[:size, :size] = (matrix + matrix.T) / 2
    vectors = np.eye(even)
    largest = float(np.abs(left).max())
    if largest == 0.0:
        return np.zeros(size), np.eye(size)
    left = left / largest
    circle = np.arange(even)
    for _ in range(_SWEEPS):
        if np.abs(left - np.diag(np.diag(left))).max() <= _SMALL:
            break
        for _ in range(even - 1):
            first, second = circle[: even // 2], circle[even // 2 :][::-1]
            cosine, sine = _turns(left, first, second)
            left = _turned(_turned(left, first, second, cosine, sine).T, first, second, cosine, sine).T
            vectors = _turned(vectors, first, second, cosine, sine)
            circle = np.concatenate([circle[:1], np.roll(circle[1:], 1)])
    values, vectors = np.diag(left) * largest, vectors[:, :size]
    # What was added is the vector without any part in the real columns.
    real = np.argsort((vectors * vectors).max(1) < 0.5 / even, kind="stable")[:size]
    order = real[np.argsort(-values[real], kind="stable")]
    return values[order], vectors[order]


def _turns(matrix: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines that take the entries (first, second) away."""
    beside = matrix[first, second]
    moving = np.abs(beside) > _NOTHING
    safe = np.where(moving, beside, 1.0)
    ratio = (matrix[second, second] - matrix[first, first]) / (2.0 * safe)
    tangent = np.where(ratio >= 0.0, 1.0, -1.0) / (np.abs(ratio) + np.sqrt(1.0 + ratio * ratio))
    tangent = np.where(moving, tangent, 0.0)
    cosine = 1.0 / np.sqrt(1.0 + tangent * tangent)
    return cosine, tangent * cosine


def _turned(
    matrix: np.ndarray, first: np.ndarray, second: np.ndarray, cosine: np.ndarray, sine: np.ndarray
) -> np.ndarray:
    turned = matrix.copy()
    one, other = matrix[first], matrix[second]
    turned[first] = cosine[:, None] * one - sine[:, None] * other
    turned[second] = sine[:, None] * one + cosine[:, None] * other
    return turned
