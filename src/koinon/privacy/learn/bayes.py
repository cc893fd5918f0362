"""Gaussian naive Bayes on secret rows."""

from dataclasses import dataclass

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, bounded, logarithm, matrix_product, maximum, reciprocal
from koinon.privacy.ordering import index_of_largest, one_hot
from koinon.privacy.statistics import PART, SMALLEST_VARIANCE


@dataclass(frozen=True)
class FittedBayes:
    """Attributes: priors (c,), means and variances (c, d) of the classes, still secret."""

    priors: SecretArray
    means: SecretArray
    variances: SecretArray

    def predict(self, rows: SecretArray) -> SecretArray:
        """The most likely class of each of (n, d) rows, as secret whole numbers."""
        return index_of_largest(self.joint_log_likelihood(rows))

    def joint_log_likelihood(self, rows: SecretArray) -> SecretArray:
        """(n, c) log of prior times likelihood, less a constant that all classes share."""
        weights = reciprocal(self.variances, SMALLEST_VARIANCE)
        # Σ (x − m)² / v = Σ x²/v − 2 Σ x m/v + Σ m²/v: two matrix products instead of n · c · d differences.
        shifted = self.means * weights
        spread = (rows * rows) @ weights.T - (rows @ shifted.T).times(2) + (self.means * shifted).sum(1)
        constant = logarithm(self.priors, 2.0**-16) - logarithm(self.variances, SMALLEST_VARIANCE).sum(1).times(0.5)
        return constant - spread.times(0.5)

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """Share of rows whose class is right."""
        return (self.predict(rows) == target).mean()


@dataclass(frozen=True)
class GaussianBayes:
    """Attributes:
    classes: codes 0 … classes − 1.
    smoothing: added to every variance; columns are scaled to [−1, 1].
    """

    classes: int
    smoothing: float = 1e-4

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedBayes:
        """Fit (n, d) rows to (n,) codes. Raises InvalidInput for shapes or settings that do not fit."""
        if rows.ndim != 2 or target.shape != rows.shape[:1] or self.classes < 2 or self.smoothing < SMALLEST_VARIANCE:
            raise InvalidInput(
                f"{self.classes} classes with smoothing {self.smoothing:g} do not fit rows {rows.shape} and codes"
                f" {target.shape}; smoothing is at least {SMALLEST_VARIANCE:g}"
            )
        members = one_hot(target, self.classes)
        counts = members.sum(0)
        inverse = reciprocal(counts, 1.0).reshape(-1, 1)
        means = bounded(matrix_product(members.T, rows) * inverse, PART, 1.01)
        squares = bounded(matrix_product(members.T, rows * rows) * inverse, PART, 1.01)
        variances = bounded(maximum(squares - means * means, 0.0), PART, 1.01) + self.smoothing
        return FittedBayes(counts.times(1.0 / rows.shape[0]), means, variances)
