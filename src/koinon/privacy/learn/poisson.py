"""Poisson regression on secret rows: counts whose logarithm of the mean is linear in the columns.

Minimises scikit-learn's objective, mean(μ − y ln μ) + ½ α ‖w‖² with ln μ = xw + b, on columns standardised in secret,
by a public number of Newton steps. Counts are divided by a public largest one, which moves the intercept alone.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import (
    DEFAULT_PRECISION,
    SecretArray,
    bounded,
    clip,
    concatenate,
    constant_like,
    divide,
    exponential,
    logarithm,
    matrix_product,
    maximum,
    product,
    reciprocal,
    refined,
)
from koinon.privacy.learn.newton import LONGEST_STEP, newton_step
from koinon.privacy.secret import Claim, Product
from koinon.privacy.statistics import SMALLEST_VARIANCE, deviation, standardised

HIGHEST: Final = 0.7
"""A mean is at most e^0.7, about twice, the largest count."""
_LOWEST: Final = -12.0


@dataclass(frozen=True)
class FittedPoisson:
    """A fitted model, still secret.

    Attributes:
        coefficients: (d,), per unit of the rows it was fitted to.
        intercept: one number: of ln(mean / largest).
        largest: public.
    """

    coefficients: SecretArray
    intercept: SecretArray
    largest: float

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) expected counts, at most twice the largest."""
        return _mean(rows @ self.coefficients + self.intercept).times(self.largest)

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """D²: the share of the deviance from the mean that the model explains, as scikit-learn has it."""
        parts = target.times(1.0 / self.largest)
        own = parts * logarithm(maximum(parts, 0.0), 0.5 / self.largest)
        level = clip(rows @ self.coefficients + self.intercept, _LOWEST, HIGHEST)
        left = (own - parts - parts * level + _mean(level)).mean()
        mean = parts.mean()
        nothing = own.mean() - mean * logarithm(mean.reshape(1), 2.0**-12)[0]
        return 1.0 - divide(left, nothing, 2.0**-10)


@dataclass(frozen=True)
class PoissonRegression:
    """Attributes:
    largest: the largest count that the study allows, public.
    penalty: α ≥ 0.
    iterations: Newton steps.
    """

    largest: float
    penalty: float = 0.0
    iterations: int = 10

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedPoisson:
        """Fit (n, d) rows to (n,) counts from 0 to ``largest``; one beyond counts as that.

        Raises:
            InvalidInput: shapes that do not belong together, or unusable settings.
        """
        if rows.ndim != 2 or target.shape != rows.shape[:1] or rows.shape[0] < 3:
            raise InvalidInput(f"rows (n, d) and a target (n,) belong together; got {rows.shape} and {target.shape}")
        usable = isfinite(self.largest) and 1.0 <= self.largest <= 2.0**20 and isfinite(self.penalty)
        if not usable or self.penalty < 0 or not 1 <= self.iterations <= 100:
            raise InvalidInput(
                "Poisson regression has a largest count from 1 to 2^20, a penalty that is not negative and 1 to 100"
                f" iterations; got {self.largest:g}, {self.penalty:g}, {self.iterations}"
            )
        count, width = rows.shape
        parts = clip(target.times(1.0 / self.largest), 0.0, 1.0)
        columns = concatenate([standardised(rows), constant_like(rows, np.ones((count, 1)))], 1)
        share = np.append(np.full(width, self.penalty / self.largest), 0.0)
        start = logarithm(parts.mean().reshape(1), 2.0**-12)
        weights = concatenate([constant_like(start, np.zeros(width)), start])
        reach = LONGEST_STEP * self.iterations + 9.0
        largest = 1.05 * count**0.5
        for _ in range(self.iterations):
            mean = _mean(bounded(columns @ weights, "NEWTON-REACH", reach * largest * (width + 1)))
            downhill = matrix_product(columns.T, mean - parts, Claim("POISSON-SUM", 2.2 * count)).times(1.0 / count)
            heavy = product(columns, mean.reshape(-1, 1), Product.ELEMENTWISE)
            curvature = matrix_product(columns.T, heavy, Claim("POISSON-SUM", 2.2 * count)).times(1.0 / count)
            step = newton_step(downhill + weights.times(share), curvature + np.diag(share))
            weights = bounded(weights + step, "NEWTON-REACH", reach)
        scale = reciprocal(deviation(rows), SMALLEST_VARIANCE**0.5)
        coefficients = refined(weights[:width], DEFAULT_PRECISION) * scale
        return FittedPoisson(coefficients, weights[width] - rows.mean(0) @ coefficients, self.largest)


def _mean(level: SecretArray) -> SecretArray:
    return bounded(exponential(clip(level, _LOWEST, HIGHEST), HIGHEST), "POISSON-SUM", 2.1)
