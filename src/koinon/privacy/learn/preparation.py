"""Getting secret columns ready: scaling, encoding, filling in what is missing. Nothing about any of it is opened.

A missing number is shared as any number in its column's range, together with a secret bit that says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import (
    SecretArray,
    bounded,
    concatenate,
    constant_like,
    matrix_product,
    product,
    reciprocal,
    where,
)
from koinon.privacy.ordering import largest, one_hot, smallest, sort
from koinon.privacy.secret import Claim, Product
from koinon.privacy.statistics import SMALLEST_VARIANCE, ascending, deviation, part_of

_NARROWEST = 2.0**-10


@dataclass(frozen=True)
class FittedScale:
    """Attributes:
    centres: (d,), still secret.
    factors: (d,) what each column is multiplied by; 0 for a constant one.
    """

    centres: SecretArray
    factors: SecretArray

    def transform(self, rows: SecretArray) -> SecretArray:
        """(n, d) columns on the new scale."""
        return (rows - self.centres) * self.factors


@dataclass(frozen=True)
class StandardScaler:
    """Mean 0 and deviation 1."""

    def fit(self, rows: SecretArray) -> FittedScale:
        """Of (n, d) rows; a column whose variance is below SMALLEST_VARIANCE counts as constant."""
        _check_table(rows)
        return FittedScale(rows.mean(0), reciprocal(deviation(rows), SMALLEST_VARIANCE**0.5))


@dataclass(frozen=True)
class RangeScaler:
    """From 0 to 1 over the rows it was fitted to."""

    def fit(self, rows: SecretArray) -> FittedScale:
        """Of (n, d) rows; a column narrower than 2⁻¹¹ counts as constant."""
        _check_table(rows)
        low, high = smallest(rows, 0), largest(rows, 0)
        return FittedScale(low, reciprocal(bounded(high - low, "WIDTH", 2.001), _NARROWEST))


@dataclass(frozen=True)
class FittedFill:
    """Attributes: numbers (d,), still secret: what stands for a missing one in each column."""

    numbers: SecretArray

    def transform(self, rows: SecretArray, missing: SecretArray) -> SecretArray:
        """(n, d) rows, with the number of its column wherever the (n, d) bits say that one is missing."""
        return where(missing, self.numbers.reshape(1, -1).broadcast_to(*rows.shape), rows)


@dataclass(frozen=True)
class MeanFill:
    """The mean of what is present; 0 in a column without anything."""

    def fit(self, rows: SecretArray, missing: SecretArray) -> FittedFill:
        """Of (n, d) rows in [−1, 1] and (n, d) bits."""
        _check_mask(rows, missing)
        there = ~missing
        counts = there.sum(0)
        sums = (rows * there).sum(0)
        return FittedFill(part_of(sums, counts, rows.shape[0]))


@dataclass(frozen=True)
class MedianFill:
    """The median of what is present; 0 in a column without anything."""

    def fit(self, rows: SecretArray, missing: SecretArray) -> FittedFill:
        """Of (n, d) rows in [−1, 1] and (n, d) bits."""
        _check_mask(rows, missing)
        people = rows.shape[0]
        (ordered,) = sort(where(missing, 2.0, rows), 0)
        counts = one_hot((~missing).sum(0), people + 1)
        # Of c present numbers the middle ones are at ⌊(c − 1)/2⌋ and ⌊c/2⌋.
        places = np.zeros((people + 1, people))
        present = np.arange(1, people + 1)
        np.add.at(places, (present, (present - 1) // 2), 1)
        np.add.at(places, (present, present // 2), 1)
        twice = matrix_product(counts, constant_like(counts, places), Claim("MEDIAN", 2.0))
        total = product(ordered, twice.T, Product.COLUMN_DOT, Claim("MEDIAN", 2.01))
        return FittedFill(total.times(0.5))


def ordinal(values: SecretArray, categories: Sequence[float]) -> SecretArray:
    """Codes 0 … c − 1 of the nearest of c ascending public categories, as secret whole numbers of the same shape.

    Raises:
        InvalidInput: fewer than two categories, or they do not ascend.
    """
    known = ascending(categories, 2)
    middles = (known[1:] + known[:-1]) / 2
    above: SecretArray = values.reshape(*values.shape, 1) > middles
    return above.sum(-1)


def one_hot_columns(codes: SecretArray, levels: Sequence[int]) -> SecretArray:
    """(n, Σ levels) bits of (n, d) codes: for each column one bit a level; none for a code that is not among them.

    Raises:
        InvalidInput: not one number of levels, from 2 on, for every column.
    """
    if codes.ndim != 2 or codes.shape[1] != len(levels) or any(level < 2 for level in levels):
        raise InvalidInput(f"codes of shape {codes.shape} need a number of levels, from 2 on, a column; got {levels}")
    return concatenate([one_hot(codes[:, place], level) for place, level in enumerate(levels)], 1)


def _check_table(rows: SecretArray) -> None:
    if rows.ndim != 2 or rows.shape[0] < 2:
        raise InvalidInput(f"columns are scaled over at least two rows; got shape {rows.shape}")


def _check_mask(rows: SecretArray, missing: SecretArray) -> None:
    if rows.ndim != 2 or missing.shape != rows.shape or not missing.is_bit:
        raise InvalidInput(f"rows (n, d) need bits of their shape that say what is missing; got {missing.shape}")
