"""Means and covariances: of secret rows, or of sums that every owner made of its own rows.

Where rows are split by owner, whatever depends on the rows through their sums and products alone (linear and ridge
regression, principal components, correlations, naive Bayes) needs one row from each owner: the cost of the private
computation is independent of the number of people. Every owner calls ``local_sums`` on its rows, shares the result, and
``summed`` adds them up in secret, each in proportion to its owner's rows. Who lies about its sums changes the result as
it would by lying about its rows.
"""

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
    gram,
    maximum,
    product,
    reciprocal,
    refined,
    scaled_columns,
    square_root,
)
from koinon.privacy.backend import PlainInput
from koinon.privacy.computation import table
from koinon.privacy.secret import Claim, Product
from koinon.privacy.statistics import SMALLEST_VARIANCE, Test, welch_of

SUM_BITS: Final = 30
"""Fraction bits that sums are shared with (``computation.run``'s and ``program``'s ``fraction_bits``)."""
MOST_COLUMNS: Final = 139
_SCALE_BITS: Final = 24


@dataclass(frozen=True)
class Moments:
    """What is left of n rows of d columns in [−1, 1].

    Attributes:
        count: n, public.
        means: (d,), still secret.
        covariance: (d, d) with divisor n, still secret.
    """

    count: int
    means: SecretArray
    covariance: SecretArray

    @property
    def variances(self) -> SecretArray:
        """(d,)."""
        width = self.means.size
        return maximum(self.covariance[np.arange(width), np.arange(width)], 0.0)

    @property
    def deviations(self) -> SecretArray:
        """(d,) standard deviations; 0 for a column with less than SMALLEST_VARIANCE."""
        return square_root(self.variances, SMALLEST_VARIANCE)

    def correlation(self) -> SecretArray:
        """(d, d) Pearson correlations; 0 with a constant column."""
        scale = refined(reciprocal(self.deviations, SMALLEST_VARIANCE**0.5), _SCALE_BITS)
        halfway = product(self.covariance, scale, Product.ELEMENTWISE, Claim("STANDARD", 1.05), SUM_BITS)
        return product(halfway, scale.reshape(-1, 1), Product.ELEMENTWISE, Claim("STANDARD", 1.05), _SCALE_BITS)


def moments(rows: SecretArray) -> Moments:
    """Of (n, d) secret rows in [−1, 1]. Raises InvalidInput for what is no table."""
    if rows.ndim != 2 or rows.shape[0] < 2:
        raise InvalidInput(f"moments are those of at least two rows; got shape {rows.shape}")
    rows = scaled_columns(rows)
    count = rows.shape[0]
    means = rows.mean(0)
    squares = gram(rows - means, Claim("MOMENT", 1.01 * count), precision=SUM_BITS)
    return Moments(count, means, bounded(squares.times(1.0 / count), "MOMENT", 1.01))


def welch(first: Moments, second: Moments) -> Test:
    """Welch's t-test of every column of two groups of people: statistics and degrees of freedom (d,).

    Raises:
        InvalidInput: fewer than two people in a group, or different columns.
    """
    if first.means.shape != second.means.shape:
        raise InvalidInput(f"groups are compared in the same columns; got {first.means.size} and {second.means.size}")
    spread = [
        refined(group.variances, DEFAULT_PRECISION).times(group.count / max(group.count - 1, 1))
        for group in (first, second)
    ]
    difference = refined(first.means - second.means, DEFAULT_PRECISION)
    return welch_of(difference, spread[0], spread[1], (first.count, second.count))


def local_sums(rows: np.ndarray, names: Sequence[str] = ()) -> PlainInput:
    """One owner's input: sums of its columns and of their products, divided by the number of its rows.

    Args:
        rows: (n, d) plain numbers in [−1, 1]: columns mapped from the ranges the owners agreed on.
        names: of the columns, for the study.

    Raises:
        InvalidInput: numbers outside [−1, 1] or not finite, no rows, over 139 columns.
    """
    values = np.asarray(rows, np.float64)
    if values.ndim != 2 or not len(values) or not 1 <= values.shape[1] <= MOST_COLUMNS:
        raise InvalidInput(
            f"sums are made of at least one row and 1 to {MOST_COLUMNS} columns; got shape {values.shape}"
        )
    if not (np.abs(values) <= 1.0).all():
        raise InvalidInput("sums are made of numbers in [-1, 1]; map every column from its agreed range first")
    width = values.shape[1]
    labels = list(names) or [f"column {number}" for number in range(width)]
    if len(labels) != width:
        raise InvalidInput(f"{width} columns need as many names; got {len(labels)}")
    above = np.triu_indices(width)
    sums = np.concatenate([values.sum(0), (values.T @ values)[above]]) / len(values)
    titles = labels + [f"{labels[i]} x {labels[j]}" for i, j in zip(*above, strict=True)]
    return table(np.clip(sums, -1.0, 1.0).reshape(1, -1), titles, [(-1.0, 1.0)] * len(sums))


def sums_length(width: int) -> int:
    """How many numbers ``local_sums`` makes of ``width`` columns."""
    return width * (width + 3) // 2


def weighted(sums: Sequence[SecretArray], rows: Sequence[int]) -> SecretArray:
    """(m,) means over all owners' rows, from the means (1, m) over each owner's and the public numbers of rows."""
    shares = np.array(rows, np.float64) / sum(rows)
    return concatenate(sums).times(shares.reshape(-1, 1)).sum(0)


def summed(sums: Sequence[SecretArray], rows: Sequence[int]) -> Moments:
    """The moments of all owners' rows from what each made with ``local_sums``.

    Args:
        sums: (1, d + d(d+1)/2) of each owner, shared with SUM_BITS fraction bits.
        rows: public number of rows of each.

    Raises:
        InvalidInput: shapes that ``local_sums`` does not make.
    """
    length = sums[0].size
    width = round(((9 + 8 * length) ** 0.5 - 3) / 2)
    if len(rows) != len(sums) or any(each.shape != (1, length) for each in sums) or sums_length(width) != length:
        raise InvalidInput("sums come from local_sums, of the same columns for every owner")
    together = bounded(weighted(sums, rows), "MOMENT", 1.01)
    means = together[:width]
    places = np.empty((width, width), np.intp)
    above = np.triu_indices(width)
    places[above] = places.T[above] = width + np.arange(length - width)
    outer = product(means.reshape(-1, 1), means, Product.ELEMENTWISE, Claim("MOMENT", 1.03), SUM_BITS)
    return Moments(sum(rows), means, bounded(together[places] - outer, "MOMENT", 1.01))
