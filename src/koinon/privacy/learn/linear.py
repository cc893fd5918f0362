"""Linear and ridge regression on secret rows.

Columns and target are standardised in secret. With G = ZᵀZ/n, b = Zᵀy/n and the public ridge μ that keeps the inverse
V = (G + μI)⁻¹ representable, w ← w + V (b − (G + λ/n I) w) converges to the solution for the λ that was asked for: the
error along a direction of variance σ shrinks by μ/(σ + μ) a step (iterated Tikhonov regularisation). V comes from
Newton–Schulz steps on a matrix whose trace is public. The number of steps is public, so time tells nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log2, sqrt
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import (
    DEFAULT_PRECISION,
    SecretArray,
    bounded,
    concatenate,
    constant_like,
    gram,
    made,
    matrix_product,
    product,
    reciprocal,
    refined,
)
from koinon.privacy.inverse import SLACK, inverse, quarters, widest_bits
from koinon.privacy.learn.moments import Moments
from koinon.privacy.learn.scores import determination
from koinon.privacy.secret import Claim, Product
from koinon.privacy.statistics import SMALLEST_VARIANCE, deviation, standardised
from koinon.wire.committee import Column

_CONDITION: Final = 2.0**12
"""Of the matrix that is inverted: what 26 fraction bits carry with an error below 2⁻¹⁰ of the inverse."""
_BITS: Final = 24


@dataclass(frozen=True)
class FittedLine:
    """A fitted linear model, still secret.

    Attributes:
        coefficients: (d,), in the units of the rows it was fitted to.
        intercept: one number.
    """

    coefficients: SecretArray
    intercept: SecretArray

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) predictions for (n, d) rows."""
        return rows @ self.coefficients + self.intercept

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """R² of the rows; see ``determination``."""
        return determination(self.predict(rows), target)


@dataclass(frozen=True)
class LinearRegression:
    """Least squares, with scikit-learn's Ridge penalty where one is given.

    Attributes:
        penalty: λ ≥ 0 of ‖y − Xw − c‖² + λ‖w‖², on standardised columns; 0 for ordinary least squares.
        steps: refinements. Directions with more than 1/400 of the mean variance are right to 10⁻³ after the default.
    """

    penalty: float = 0.0
    steps: int = 16

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedLine:
        """Fit (n, d) rows to an (n,) target.

        Raises:
            InvalidInput: shapes that do not belong together, too few rows, or unusable settings.
        """
        count, _ = _checked(rows, target)
        self._check()
        columns, answer = standardised(rows), standardised(target.reshape(-1, 1))
        both = gram(concatenate([columns, answer], 1), Claim("STANDARD", 1.05 * count), precision=_BITS).times(
            1.0 / count
        )
        scale = reciprocal(deviation(rows), SMALLEST_VARIANCE**0.5) * deviation(target)
        coefficients = refined(self._solved(both, count), DEFAULT_PRECISION) * scale
        return FittedLine(coefficients, target.mean() - rows.mean(0) @ coefficients)

    def fit_moments(self, known: Moments) -> FittedLine:
        """Fit the rows that left these moments; the target is the last column, all are in [−1, 1].

        Raises:
            InvalidInput: fewer than two columns, too few rows, or unusable settings.
        """
        return self.scored(known)[0]

    def scored(self, known: Moments) -> tuple[FittedLine, SecretArray]:
        """As ``fit_moments``, and the line's R² on those rows: wᵀ(2b − Gw) of standardised columns."""
        if known.means.size < 2 or known.count < 3:
            raise InvalidInput(f"a line needs a column, a target and 3 rows; got {known.means.size}, {known.count}")
        self._check()
        spread = refined(known.deviations, _BITS)
        scale = reciprocal(spread[:-1], SMALLEST_VARIANCE**0.5) * spread[-1]
        both = known.correlation()
        solved = self._solved(both, known.count)
        weights = refined(solved, DEFAULT_PRECISION)
        coefficients = product(weights, refined(scale, DEFAULT_PRECISION), Product.ELEMENTWISE)
        intercept = known.means[-1] - refined(known.means[:-1], DEFAULT_PRECISION) @ coefficients
        fitted = matrix_product(both[:-1, :-1], solved.reshape(-1, 1), Claim("ITERATED-RIDGE", 3.2)).reshape(-1)
        score = weights @ refined(both[:-1, -1].times(2) - fitted, DEFAULT_PRECISION)
        return FittedLine(coefficients, intercept), score

    def _check(self) -> None:
        if not (isfinite(self.penalty) and self.penalty >= 0.0 and 1 <= self.steps <= 1_000):
            raise InvalidInput(f"a penalty is not negative and steps are 1 to 1000; got {self.penalty:g}, {self.steps}")

    def _solved(self, both: SecretArray, count: int) -> SecretArray:
        """(d,) weights on standardised columns from their correlations (d + 1, d + 1) with the target, the last."""
        return iterated_ridge(both[:-1, :-1], both[:-1, -1:], self.penalty / count, self.steps)


def iterated_ridge(matrix: SecretArray, right: SecretArray, share: float, steps: int) -> SecretArray:
    """(d,) solution w of (G + share · I) w = b, see above.

    Args:
        matrix: G, (d, d) positive semi-definite with a diagonal of 1, or 0 where all of a row and of b is 0.
        right: b, (d, 1), equal to G^½ u for a u no longer than 1.
    """
    width = matrix.shape[0]
    size = 1.05 * width + share
    ridge = size / _CONDITION
    identity = np.eye(width)
    near = inverse_of(matrix + identity * (share + ridge), size + ridge, ridge)
    system = matrix + identity * share
    reach = (steps + 1) / (2 * sqrt(ridge)) + 1.0
    weights = constant_like(matrix, np.zeros((width, 1)))
    for _ in range(steps):
        fitted = matrix_product(system, weights, Claim("ITERATED-RIDGE", 3.2))
        residual = bounded(right - fitted, "ITERATED-RIDGE", 2.1)
        step = matrix_product(near, residual, Claim("ITERATED-RIDGE", 2 * reach))
        weights = bounded(weights + step, "ITERATED-RIDGE", reach)
    return weights.reshape(-1)


def inverse_of(matrix: SecretArray, size: float, smallest: float) -> SecretArray:
    """Inverse of a symmetric matrix whose eigenvalues are public to lie from ``smallest`` to ``size``."""
    condition = size / smallest
    bits = min(_BITS, widest_bits(condition))
    scaled = refined(matrix.times(quarters(1 / condition) / 4 / size), bits)
    found = refined(made(lambda unit: inverse(unit, condition), (scaled,), matrix.shape, bits), _BITS)
    return bounded(found.times(1.0 / size), "LR-INVERSE", SLACK / smallest)


def to_units(
    coefficients: np.ndarray, intercept: float, columns: Sequence[Column], target: Column
) -> tuple[np.ndarray, float]:
    """An opened model of columns scaled to [−1, 1], for the columns' own units."""
    middle, half = np.array([((c.low + c.high) / 2, (c.high - c.low) / 2) for c in columns]).T
    reach = (target.high - target.low) / 2
    slopes = np.asarray(coefficients) * reach / half
    return slopes, float(intercept * reach + (target.low + target.high) / 2 - slopes @ middle)


def _checked(rows: SecretArray, target: SecretArray) -> tuple[int, int]:
    if rows.ndim != 2 or target.shape != rows.shape[:1]:
        raise InvalidInput(f"rows (n, d) and a target (n,) belong together; got {rows.shape} and {target.shape}")
    if rows.shape[0] < 3 or log2(rows.shape[0]) > 21:
        raise InvalidInput(f"a line is fitted to 3 to 2²¹ rows; got {rows.shape[0]}")
    return rows.shape[0], rows.shape[1]
