"""Cox proportional hazards on secret rows (D. Cox, "Regression models and life-tables", 1972), ties as N. Breslow does.

Events are counted on a public grid of times, as in ``statistics.kaplan_meier``: with every possible duration on it the
partial likelihood is the exact one, a coarser grid groups events. So nothing is sorted, and who is present when is one
comparison of every duration with every time. Bounds: docs/spec/rep4.md, lemmas COX-*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite
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
    exponential,
    matrix_product,
    product,
    reciprocal,
    refined,
)
from koinon.privacy.learn.newton import LONGEST_STEP, newton_step
from koinon.privacy.secret import Claim, Product
from koinon.privacy.statistics import SMALLEST_VARIANCE, deviation, grid_of_times, part_of, standardised

_FARTHEST: Final = 6.0
"""Log-hazards beyond ±6 of the mean person's count as that."""
_HIGHEST: Final = exp(_FARTHEST) * 1.01
_INVERSE_BITS: Final = 34
_HAZARD_BITS: Final = 30
_UNIT_BITS: Final = 22


@dataclass(frozen=True)
class FittedCox:
    """A fitted model, still secret.

    Attributes:
        coefficients: (d,) change of the log-hazard per unit of the rows it was fitted to.
        centre: the log-hazard of the mean person; ``predict`` is relative to it.
        information: (d, d), the second derivative of −ln(partial likelihood), the inverse of the coefficients'
            covariance.
    """

    coefficients: SecretArray
    centre: SecretArray
    information: SecretArray

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) log-hazards relative to the mean person of the rows it was fitted to."""
        return rows @ self.coefficients - self.centre

    def score(
        self, rows: SecretArray, durations: SecretArray, observed: SecretArray, counted: SecretArray | None = None
    ) -> SecretArray:
        """Harrell's concordance: of pairs in a known order, the share in which the earlier had the higher hazard.

        An event comes before whoever was last seen at the same time; equal hazards count half.

        Args:
            counted: as ``CoxRegression.fit``.
        """
        hazard = self.predict(rows)
        earlier = durations.reshape(-1, 1) < durations
        together = ~(earlier | earlier.T)
        known = (earlier | (together & ~observed)) & observed.reshape(-1, 1)
        if counted is not None:
            known = known & (counted.reshape(-1, 1) & counted)
        higher = hazard.reshape(-1, 1) > hazard
        halves = (known & higher).sum() + (known & ~higher.T).sum()
        return part_of(halves, known.sum().times(2), 2 * observed.size**2)


@dataclass(frozen=True)
class CoxRegression:
    """Attributes:
    times: ascending and public.
    penalty: λ ≥ 0 of −ln(partial likelihood) + ½ λ ‖w‖², on standardised columns.
    iterations: Newton steps.
    late: see ``statistics.kaplan_meier``.
    """

    times: Sequence[float]
    penalty: float = 0.0
    iterations: int = 8
    late: float | None = None

    def fit(
        self, rows: SecretArray, durations: SecretArray, observed: SecretArray, counted: SecretArray | None = None
    ) -> FittedCox:
        """Fit (n, d) rows to (n,) durations and (n,) bits, 0 where a person left before any event.

        Without any event all coefficients are 0.

        Args:
            counted: (n,) bits of the places that hold somebody, all others having the mean of these in ``rows``; all
                of them where it is None. It takes no penalty, as what columns are standardised by is not theirs alone.

        Raises:
            InvalidInput: shapes that do not belong together, times that do not ascend, or unusable settings.
        """
        grid = grid_of_times(self.times, self.late)
        if rows.ndim != 2 or rows.shape[0] < 3 or not durations.shape == observed.shape == rows.shape[:1]:
            raise InvalidInput(
                f"rows (n, d), durations and events (n,) belong together; got {rows.shape}, {durations.shape},"
                f" {observed.shape}"
            )
        if not (isfinite(self.penalty) and self.penalty >= 0 and 1 <= self.iterations <= 100):
            raise InvalidInput(
                f"the penalty is not negative and iterations are 1 to 100; got {self.penalty:g}, {self.iterations}"
            )
        if counted is not None and self.penalty:
            raise InvalidInput("a penalty is on columns standardised by everybody's deviation; leave it out")
        count, width = rows.shape
        columns = standardised(rows)
        later = durations.reshape(-1, 1) > grid
        present = concatenate([constant_like(later, np.ones((count, 1))), later[:, :-1]], 1)
        if counted is not None:
            present = present & counted.reshape(-1, 1)
        ends = (present & ~later) & observed.reshape(-1, 1)
        events, ended = ends.sum(0), ends.sum(1)
        share = self.penalty / count
        weights = constant_like(columns, np.zeros(width))
        reach = LONGEST_STEP * self.iterations
        for _ in range(self.iterations):
            slope, curvature = _derivatives(columns, present, events, ended, weights, reach)
            step = newton_step(slope + weights.times(share), curvature + np.eye(width) * share)
            weights = bounded(weights + step, "NEWTON-REACH", reach)
        spread = deviation(rows)
        coefficients = refined(weights, DEFAULT_PRECISION) * reciprocal(spread, SMALLEST_VARIANCE**0.5)
        _, curvature = _derivatives(columns, present, events, ended, weights, reach)
        information = (refined(curvature, DEFAULT_PRECISION) * spread * spread.reshape(-1, 1)).times(count)
        return FittedCox(coefficients, rows.mean(0) @ coefficients, information)


def _derivatives(
    columns: SecretArray,
    present: SecretArray,
    events: SecretArray,
    ended: SecretArray,
    weights: SecretArray,
    reach: float,
) -> tuple[SecretArray, SecretArray]:
    """Gradient (d,) and curvature (d, d) of −ln(partial likelihood) / n.

    With risks e, sums S₀ = Σ e, S₁ = Σ e x over those present at each time and events D: the cumulated hazard of a
    person is Λ = e Σ D/S₀, the gradient Σ x (Λ − ended), the curvature Σ Λ x xᵀ − Σ D (S₁/S₀)(S₁/S₀)ᵀ. Sums of columns
    are made of x/√n, which is at most 1.05.
    """
    count, width = columns.shape
    root = count**0.5
    unit = bounded(refined(columns, _UNIT_BITS).times(1.0 / root), "STANDARD", 1.06)
    level = bounded(columns @ weights, "NEWTON-REACH", 1.05 * reach * root * width)
    risk = exponential(clip(level, -_FARTHEST, _FARTHEST), _FARTHEST)
    risk = bounded(risk, "COX-RISK", _HIGHEST)
    total = matrix_product(present.T, risk)
    inverse = reciprocal(refined(total, _INVERSE_BITS), 0.5 / _HIGHEST)
    rate = product(events, inverse, Product.ELEMENTWISE, Claim("COX-RISK", 1.1 * _HIGHEST), _HAZARD_BITS)
    hazard = product(risk, present @ rate, Product.ELEMENTWISE, Claim("COX-HAZARD", 1.1 * count), DEFAULT_PRECISION)
    slope = matrix_product(unit.T, hazard - ended, Claim("COX-SUM", 2.4 * count)).times(1.0 / root)
    parts = matrix_product(present.T, product(unit, risk.reshape(-1, 1), Product.ELEMENTWISE))
    means = product(parts, inverse.reshape(-1, 1), Product.ELEMENTWISE, Claim("COX-MEAN", 1.1), _UNIT_BITS)
    heavy = product(unit, hazard.reshape(-1, 1), Product.ELEMENTWISE)
    squares = matrix_product(unit.T, heavy, Claim("COX-SUM", 1.3 * count))
    explained = matrix_product(means.T, means * events.reshape(-1, 1), Claim("COX-SUM", 1.4 * count))
    return slope, squares - explained
