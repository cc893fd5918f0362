"""Gaussian naive Bayes on secret rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import (
    DEFAULT_PRECISION,
    SecretArray,
    bounded,
    concatenate,
    logarithm,
    matrix_product,
    maximum,
    product,
    reciprocal,
    refined,
    scaled_columns,
)
from koinon.privacy.backend import PlainInput
from koinon.privacy.computation import table
from koinon.privacy.learn.moments import weighted
from koinon.privacy.learn.scores import accuracy
from koinon.privacy.ordering import index_of_largest, one_hot
from koinon.privacy.secret import Claim, Product
from koinon.privacy.statistics import PART, SMALLEST_VARIANCE, part_of

_BITS: Final = 24


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
        return accuracy(self.predict(rows), target)


@dataclass(frozen=True)
class GaussianBayes:
    """Attributes:
    classes: codes 0 … classes − 1.
    smoothing: added to every variance; columns are scaled to [−1, 1].
    """

    classes: int
    smoothing: float = 1e-4

    def fit(self, rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> FittedBayes:
        """Fit (n, d) rows to (n,) codes.

        Args:
            counted: (n,) bits of the places that hold somebody; all of them where it is None.

        Raises:
            InvalidInput: shapes or settings that do not fit.
        """
        if rows.ndim != 2 or target.shape != rows.shape[:1] or self.classes < 2 or self.smoothing < SMALLEST_VARIANCE:
            raise InvalidInput(
                f"{self.classes} classes with smoothing {self.smoothing:g} do not fit rows {rows.shape} and codes"
                f" {target.shape}; smoothing is at least {SMALLEST_VARIANCE:g}"
            )
        rows = scaled_columns(rows)
        members = one_hot(target, self.classes)
        if counted is not None:
            members = members & counted.reshape(-1, 1)
        counts = members.sum(0)
        sums = matrix_product(members.T, concatenate([rows, rows * rows], 1))
        parts = part_of(sums, counts.reshape(-1, 1), rows.shape[0])
        means, squares = parts[:, : rows.shape[1]], parts[:, rows.shape[1] :]
        people = rows.shape[0]
        priors = counts.times(1.0 / people) if counted is None else part_of(counts, counted.sum(), people)
        return FittedBayes(priors, means, self._variances(means, squares))

    def fit_sums(self, sums: Sequence[SecretArray], rows: Sequence[int]) -> FittedBayes:
        """Fit the rows of all owners from what each made with ``local_class_sums``.

        Args:
            sums: (1, c + 2cd) of each owner, shared with ``moments.SUM_BITS`` fraction bits.
            rows: public number of rows of each.

        Raises:
            InvalidInput: shapes that ``local_class_sums`` does not make, or unusable settings.
        """
        length = sums[0].size
        width = (length // self.classes - 1) // 2 if self.classes >= 2 else 0
        fits = len(rows) == len(sums) and all(each.shape == (1, length) for each in sums)
        if width < 1 or length != self.classes * (1 + 2 * width) or not fits:
            raise InvalidInput("sums come from local_class_sums, of the same classes and columns for every owner")
        if self.smoothing < SMALLEST_VARIANCE:
            raise InvalidInput(f"smoothing is at least {SMALLEST_VARIANCE:g}; got {self.smoothing:g}")
        together = bounded(weighted(sums, rows), "MOMENT", 1.01).reshape(self.classes, 1 + 2 * width)
        shares = bounded(maximum(together[:, 0], 0.0), "MOMENT", 1.01)
        inverse = reciprocal(shares, 1.0 / sum(rows)).reshape(-1, 1)
        parts = product(together[:, 1:], inverse, Product.ELEMENTWISE, Claim(PART, 1.01), _BITS)
        means, squares = parts[:, :width], parts[:, width:]
        return FittedBayes(shares, means, self._variances(means, squares))

    def _variances(self, means: SecretArray, squares: SecretArray) -> SecretArray:
        spread = maximum(squares - means * means, 0.0)
        return refined(bounded(spread, PART, 1.01) + self.smoothing, DEFAULT_PRECISION)


def class_sums_length(width: int, classes: int) -> int:
    """How many numbers ``local_class_sums`` makes of ``width`` columns."""
    return classes * (1 + 2 * width)


def local_class_sums(rows: np.ndarray, codes: np.ndarray, classes: int) -> PlainInput:
    """One owner's input: of each class the number of rows, their sum and that of their squares, over all its rows.

    Args:
        rows: (n, d) plain numbers in [−1, 1].
        codes: (n,) of 0 … classes − 1.

    Raises:
        InvalidInput: numbers or codes out of their range, or shapes that do not belong together.
    """
    values, labels = np.asarray(rows, np.float64), np.asarray(codes)
    if values.ndim != 2 or labels.shape != values.shape[:1] or not len(values) or classes < 2:
        raise InvalidInput(
            f"rows (n, d) and codes (n,), one or more, belong together; got {values.shape} and {labels.shape}"
        )
    if not (np.abs(values) <= 1.0).all() or not np.isin(labels, np.arange(classes)).all():
        raise InvalidInput(f"rows are numbers in [-1, 1] and codes 0 to {classes - 1}; map columns and recode first")
    sums = []
    for code in range(classes):
        own = values[labels == code]
        sums += [np.array([float(len(own))]), own.sum(0), (own * own).sum(0)]
    flat = np.concatenate(sums) / len(values)
    return table(flat.reshape(1, -1), (), [(-1.0, 1.0)] * len(flat))
