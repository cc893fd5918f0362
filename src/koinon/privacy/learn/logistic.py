"""Logistic regression on secret rows, for two classes and for more.

Both minimise scikit-learn's objective, Σ log-loss + ½ λ ‖w‖² with λ = 1/C, on columns standardised in secret; the
intercepts are not penalised. Both take accelerated gradient steps preconditioned by the inverse of Böhning's bound on
the Hessian (D. Böhning, "Multinomial logistic regression algorithm", 1992): XᵀX/4 for two classes, ½ XᵀX for more. The
number of steps is public and fixed.
"""

from collections.abc import Generator
from dataclasses import dataclass
from math import isfinite, log, sqrt
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
    gram,
    logarithm,
    made,
    matrix_product,
    maximum,
    product,
    reciprocal,
    refined,
    sigmoid,
    softmax,
)
from koinon.privacy.learn.linear import inverse_of
from koinon.privacy.learn.logistic_solver import check_settings, coefficients_of
from koinon.privacy.learn.scores import accuracy
from koinon.privacy.ordering import index_of_largest, one_hot
from koinon.privacy.secret import Claim, Product, Secret
from koinon.privacy.statistics import SMALLEST_VARIANCE, deviation, standardised

LARGEST_COEFFICIENT: Final = 1024.0
"""Change of the log-odds over half a column's range, in absolute value, beyond which a fitted coefficient is cut."""
SMALLEST_PROBABILITY: Final = 2.0**-12
"""Log-loss takes a smaller probability for this one: a finite price for a certain error, as scikit-learn's ``eps``."""
_CONDITION: Final = 2.0**12
_SLACK: Final = 1.25
_BITS: Final = 24


@dataclass(frozen=True)
class FittedLogistic:
    """A fitted model of two classes, still secret.

    Attributes:
        coefficients: (d,), per unit of the rows it was fitted to.
        intercept: one number.
    """

    coefficients: SecretArray
    intercept: SecretArray

    def predict_proba(self, rows: SecretArray) -> SecretArray:
        """(n,) probabilities of class 1, within 3 · 10⁻⁴ of the model's."""
        return sigmoid(rows @ self.coefficients + self.intercept)

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) bits: the more likely class."""
        return rows @ self.coefficients + self.intercept > 0

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """Share of rows whose class is right."""
        return 1.0 - (self.predict(rows) ^ target).mean()

    def log_loss(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """Mean of −ln of the probability given to the true class, (n,) bits."""
        likely = self.predict_proba(rows)
        given = clip(1.0 - likely + target * (likely.times(2) - 1.0), SMALLEST_PROBABILITY, 1.0)
        return -logarithm(given, SMALLEST_PROBABILITY).mean()


@dataclass(frozen=True)
class LogisticRegression:
    """Two classes.

    Attributes:
        penalty: λ, from 0.001 on.
        iterations: accelerated steps; 40 come within 0.002 of scikit-learn's log-loss on 390 × 30 rows.
    """

    penalty: float = 1.0
    iterations: int = 40

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedLogistic:
        """Fit (n, d) rows, scaled to [−1, 1], to (n,) bits.

        Rows of one class only, or classes that a line separates, give the penalised solution as far as the steps reach.

        Raises:
            InvalidInput: shapes that do not belong together, a target that is not made of bits, unusable settings.
            Refused: columns that may hold numbers beyond [−1, 1].
        """
        _checked(rows, target)
        if not target.is_bit:
            raise InvalidInput("two classes are bits, such as the result of a comparison; compare the column first")
        signs = bounded(target.times(2) - 1, "BIT", 1.0).reshape(-1, 1)
        check_settings(self.penalty, self.iterations)
        width = rows.shape[1]

        def solved(table: Secret) -> Generator[None, None, Secret]:
            return coefficients_of(table, self.penalty, self.iterations)

        model = made(solved, (concatenate([rows, signs], 1),), (width + 1,), DEFAULT_PRECISION)
        reach = LARGEST_COEFFICIENT * (width + 1)
        return FittedLogistic(
            clip(model[:width], -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT), clip(model[width], -reach, reach)
        )


@dataclass(frozen=True)
class Counted:
    """Which rows count. Attributes: rows (n,), a bit each; least, how many 1s there are at least."""

    rows: SecretArray
    least: int


@dataclass(frozen=True)
class FittedMultinomial:
    """A fitted model of several classes, still secret: coefficients (d, c) and intercepts (c,)."""

    coefficients: SecretArray
    intercepts: SecretArray

    def predict_proba(self, rows: SecretArray) -> SecretArray:
        """(n, c) probabilities."""
        return softmax(rows @ self.coefficients + self.intercepts)

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) codes of the most likely classes."""
        return index_of_largest(rows @ self.coefficients + self.intercepts)

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """Share of rows whose class is right."""
        return accuracy(self.predict(rows), target)


@dataclass(frozen=True)
class MultinomialRegression:
    """Several classes.

    Attributes:
        classes: codes 0 … classes − 1.
        penalty: λ ≥ 0.
        iterations: accelerated steps.
    """

    classes: int
    penalty: float = 1.0
    iterations: int = 40

    def fit(self, rows: SecretArray, target: SecretArray, counted: Counted | None = None) -> FittedMultinomial:
        """Fit (n, d) rows to (n,) codes.

        Args:
            counted: which of the rows count, where not all do; the others hold the mean of those in every column
                (``joins.oblivious.neutral``).

        Raises:
            InvalidInput: shapes that do not belong together, or unusable settings.
        """
        count, width = _checked(rows, target)
        if not (2 <= self.classes <= 100 and isfinite(self.penalty) and self.penalty >= 0):
            raise InvalidInput(
                f"there are 2 to 100 classes and the penalty is not negative; got {self.classes}, {self.penalty:g}"
            )
        if not 1 <= self.iterations <= 1_000:
            raise InvalidInput(f"iterations are from 1 to 1000; got {self.iterations}")
        columns, members = standardised(rows), one_hot(target, self.classes)
        share = _Share(self.penalty / count, counted)
        size = 0.525 * width + share.most
        ridge = max(size / _CONDITION - share.least, 0.0)
        bound = gram(columns, Claim("STANDARD", 1.05 * count), precision=_BITS).times(0.5 / count)
        inverse = inverse_of(
            bound + share.of(constant_like(bound, np.eye(width))) + np.eye(width) * ridge,
            size + ridge,
            share.least + ridge,
        )
        # MULTINOMIAL-RADIUS: as LR-RADIUS, with an objective that starts at ln c.
        radius = _SLACK * sqrt(2 * log(self.classes)) * (self.iterations + 4) / 2
        reach = max(radius / sqrt(share.least + ridge), 2 * radius)
        nothing = constant_like(bound, np.zeros((width + 1, self.classes)))
        current = ahead = nothing
        for iteration in range(self.iterations):
            logits = bounded(
                matrix_product(columns, ahead[:width], Claim("MULTINOMIAL-RADIUS", 2 * radius * sqrt(count)))
                + ahead[width:],
                "MULTINOMIAL-RADIUS",
                2 * radius * (sqrt(count) + 1),
            )
            residual = share.counting(members - softmax(logits))
            downhill = matrix_product(columns.T, residual, Claim("MULTINOMIAL-GRADIENT", 1.05 * count)).times(1 / count)
            towards = bounded(downhill - share.of(ahead[:width]), "MULTINOMIAL-RADIUS", 1.05 + share.most * reach)
            step = matrix_product(inverse, towards, Claim("MULTINOMIAL-RADIUS", 2 * reach))
            moved = concatenate([step, share.mean(residual).times(2).reshape(1, -1)], 0)
            following = bounded(ahead + moved, "MULTINOMIAL-RADIUS", reach)
            momentum = iteration / (iteration + 3)
            drift = (following - current).times(momentum)
            current, ahead = following, bounded(following + drift, "MULTINOMIAL-RADIUS", reach)
        return _in_units(current, rows)


class _Share:
    """The penalty for one row, λ / n, where n is how many rows count: public, or secret between bounds.

    Attributes:
        least, most: bounds of it.
    """

    def __init__(self, penalty: float, counted: Counted | None) -> None:
        self._counted = counted
        self.least = self.most = penalty
        if counted is not None:
            fewest = counted.least / counted.rows.shape[0]
            # With fewer than promised the reciprocal is 0, and the penalty still that of all rows.
            self._ratio = maximum(reciprocal(counted.rows.mean(), fewest), 1.0)
            self.most = 2.05 * penalty / fewest

    def of(self, weights: SecretArray) -> SecretArray:
        """The penalty's part of what pulls ``weights`` back."""
        if self._counted is None:
            return weights.times(self.least)
        return weights * self._ratio.times(self.least).broadcast_to(*weights.shape)

    def counting(self, residual: SecretArray) -> SecretArray:
        """(n, c), as 0 in rows that do not count."""
        if self._counted is None:
            return residual
        return product(self._counted.rows.reshape(-1, 1), residual, Product.ELEMENTWISE)

    def mean(self, residual: SecretArray) -> SecretArray:
        """(c,) means of what ``counting`` gave, over the rows that count."""
        mean = residual.mean(0)
        return mean if self._counted is None else bounded(mean * self._ratio, "MASKED-MEAN", 1.05)


def _in_units(weights: SecretArray, rows: SecretArray) -> FittedMultinomial:
    width = rows.shape[1]
    scale = reciprocal(deviation(rows), SMALLEST_VARIANCE**0.5).reshape(-1, 1)
    slopes = clip(refined(weights[:width], DEFAULT_PRECISION) * scale, -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT)
    return FittedMultinomial(slopes, weights[width] - rows.mean(0) @ slopes)


def _checked(rows: SecretArray, target: SecretArray) -> tuple[int, int]:
    if rows.ndim != 2 or target.shape != rows.shape[:1] or rows.shape[0] < 2:
        raise InvalidInput(f"rows (n, d) and a target (n,) belong together; got {rows.shape} and {target.shape}")
    return rows.shape[0], rows.shape[1]
