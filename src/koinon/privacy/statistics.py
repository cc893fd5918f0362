"""What is asked of data before anything is learnt from it, on secret arrays: scipy's and NumPy's definitions.

Tables are (n, d), one row a person; n and every grid, edge and number of groups is public. Means and sums are exact to
the precision for any n. What a function returns is still secret: ``reveal`` opens it.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Final, NamedTuple

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import (
    DEFAULT_PRECISION,
    SecretArray,
    bounded,
    concatenate,
    constant_like,
    divide,
    gram,
    maximum,
    product,
    reciprocal,
    refined,
    square_root,
)
from koinon.privacy.ordering import one_hot
from koinon.privacy.secret import Claim, Product

SMALLEST_VARIANCE: Final = 2.0**-16
"""Below this a column counts as constant: its deviation is taken as 0 and its correlations are 0."""


def variance(rows: SecretArray, axis: int = 0, *, freedom: int = 0) -> SecretArray:
    """Mean squared distance from the mean along an axis; the divisor is n − ``freedom``."""
    count = rows.shape[axis]
    if count <= freedom:
        raise InvalidInput(f"a variance with {freedom} degrees of freedom taken off needs more than {count} rows")
    centred = rows - _kept(rows.mean(axis), axis)
    return (centred * centred).sum(axis).times(1.0 / (count - freedom))


def deviation(rows: SecretArray, axis: int = 0, *, freedom: int = 0) -> SecretArray:
    """Standard deviation."""
    return square_root(variance(rows, axis, freedom=freedom), SMALLEST_VARIANCE)


def covariance(rows: SecretArray, *, freedom: int = 1) -> SecretArray:
    """(d, d) covariances of the columns."""
    centred = rows - rows.mean(0)
    return gram(centred).times(1.0 / (rows.shape[0] - freedom))


def correlation(rows: SecretArray) -> SecretArray:
    """(d, d) Pearson correlations of the columns; 0 with a constant column."""
    return gram(standardised(rows), Claim("STANDARD", 1.05 * rows.shape[0])).times(1.0 / rows.shape[0])


def standardised(rows: SecretArray) -> SecretArray:
    """(n, d) columns with mean 0 and deviation 1; a constant column becomes 0."""
    count = rows.shape[0]
    centred = rows - rows.mean(0)
    spread = (centred * centred).sum(0).times(1.0 / count)
    inverse = reciprocal(square_root(spread, SMALLEST_VARIANCE), SMALLEST_VARIANCE**0.5)
    return bounded(centred * inverse, "STANDARD", 1.05 * count**0.5)


def histogram(values: SecretArray, edges: Sequence[float]) -> SecretArray:
    """How many of (n,) values lie in each interval of ascending public edges; the last one includes its upper edge."""
    bounds = ascending(edges, 2)
    reached = values.reshape(-1, 1) >= bounds[:-1]
    above = values.reshape(-1, 1) > bounds[-1:]
    counts = concatenate([reached.sum(0), above.sum(0)])
    return counts[:-1] - counts[1:]


def contingency(first: SecretArray, second: SecretArray, levels: tuple[int, int]) -> SecretArray:
    """(r, c) counts of pairs of codes 0 … r − 1 and 0 … c − 1 of (n,) people, as whole numbers."""
    return one_hot(first, levels[0]).T @ one_hot(second, levels[1])


PART: Final = "PART"
_PART_BITS: Final = 28
"""Lemma: of numbers that are not negative, one is at most the sum of all."""


class Test(NamedTuple):
    """A statistic and its degrees of freedom. The p-value follows from both once they are open."""

    statistic: SecretArray
    freedom: SecretArray | int


def welch(first: SecretArray, second: SecretArray) -> Test:
    """Welch's t-test of two samples (n,) and (m,), which need not have the same variance."""
    spread = [variance(sample, freedom=1).reshape(1) for sample in (first, second)]
    found = welch_of((first.mean() - second.mean()).reshape(1), spread[0], spread[1], (first.size, second.size))
    assert isinstance(found.freedom, SecretArray)
    return Test(found.statistic[0], found.freedom[0])


def welch_of(difference: SecretArray, first: SecretArray, second: SecretArray, sizes: tuple[int, int]) -> Test:
    """Welch's t-test from differences of means (d,) and the two samples' variances (d,), each with divisor n − 1.

    Where both variances together are below SMALLEST_VARIANCE the statistic is 0.
    """
    if min(sizes) < 2:
        raise InvalidInput(f"a t-test compares samples of at least two; got {sizes[0]} and {sizes[1]}")
    people = sum(sizes)
    # Everything times n + m, so that the standard error of a million people does not round to 0.
    shares = [spread.times(people / size) for spread, size in zip((first, second), sizes, strict=True)]
    total = shares[0] + shares[1]
    scaled = divide(difference, square_root(total, SMALLEST_VARIANCE), SMALLEST_VARIANCE**0.5)
    # Welch–Satterthwaite in shares of the total, which are between 0 and 1, so that nothing is squared twice.
    inverse = reciprocal(total, SMALLEST_VARIANCE)
    part = product(shares[0], inverse, Product.ELEMENTWISE, Claim(PART, 1.01))
    least = min(sizes) - 1
    weights = (part * part).times(least / (sizes[0] - 1)) + ((1.0 - part) ** 2).times(least / (sizes[1] - 1))
    return Test(scaled.times(people**0.5), reciprocal(weights, 0.25 * least / people).times(least))


def chi_square(counts: SecretArray, people: int) -> Test:
    """Pearson's test of independence on an (r, c) table of counts, without continuity correction.

    A row or column without anybody is left out of the sum; the degrees of freedom stay those of the whole table.

    Args:
        people: how many are counted at most.
    """
    rows, columns = counts.sum(1), counts.sum(0)
    total = rows.sum()
    # χ² = n (Σ Oᵢⱼ² / (Rᵢ Cⱼ) − 1), with Oᵢⱼ/Rᵢ and Oᵢⱼ/Cⱼ between 0 and 1.
    # What is left of their rounding is multiplied by n, so they have more bits than others.
    by_row = part_of(counts, rows.reshape(-1, 1), people, _PART_BITS)
    by_column = part_of(counts, columns.reshape(1, -1), people, _PART_BITS)
    both = product(by_row, by_column, Product.ELEMENTWISE, Claim(PART, 1.02))
    statistic = refined((both.sum() - 1.0) * total, DEFAULT_PRECISION)
    return Test(maximum(statistic, 0.0), (counts.shape[0] - 1) * (counts.shape[1] - 1))


def kaplan_meier(
    durations: SecretArray, observed: SecretArray, times: Sequence[float], late: float | None = None
) -> SecretArray:
    """Share of people who survive beyond each of the ascending public times.

    Args:
        durations: (n,) time of the event or of the last look at a person.
        observed: (n,) bits; 0 where the person left before any event.
        times: should name every duration at which an event may be observed; an event between two of them counts at
            the later one.
        late: an event that is late by less counts at the earlier time, as rounding may make it so; by default an eighth
            of the smallest gap, or of 1.
    """
    return surviving(*life_table(durations, observed, times, late), durations.size)


def life_table(
    durations: SecretArray,
    observed: SecretArray,
    times: Sequence[float],
    late: float | None = None,
    counted: SecretArray | None = None,
) -> tuple[SecretArray, SecretArray]:
    """How many people are present until each time, and for how many of them it is that of the event; see above.

    Args:
        counted: (n,) bits of the places that hold somebody; all of them where it is None.
    """
    grid = grid_of_times(times, late)
    beyond = durations.reshape(-1, 1) > grid
    everybody = constant_like(beyond, np.ones((durations.size, 1)))
    present = concatenate([everybody, beyond[:, :-1]], 1)
    if counted is not None:
        present = present & counted.reshape(-1, 1)
    return present.sum(0), ((present & ~beyond) & observed.reshape(-1, 1)).sum(0)


def surviving(present: SecretArray, events: SecretArray, people: int) -> SecretArray:
    """The product over all times so far of the share that has no event, from a ``life_table`` of so many people."""
    found = bounded(1.0 - part_of(events, present, people), "SURVIVORS", 1.01)
    done = 1
    while done < present.size:
        # Each place holds the product over as many times before it as are done: twice as many in every step.
        found = concatenate([found[:done], bounded(found[done:] * found[:-done], "SURVIVORS", 1.01)])
        done *= 2
    return found


def part_of(total: SecretArray, counts: SecretArray, most: int, precision: int = DEFAULT_PRECISION) -> SecretArray:
    """total / count, 0 where the count is 0, as precisely for large counts as for small ones.

    Args:
        total: sums of ``count`` numbers from −1 to 1 each.
        counts: whole numbers.
        most: they can be.
        precision: fraction bits of the result.
    """
    inverse = reciprocal(counts, 1.0, DEFAULT_PRECISION + most.bit_length())
    return product(total, inverse, Product.ELEMENTWISE, Claim(PART, 1.01), precision)


def _kept(reduced: SecretArray, axis: int) -> SecretArray:
    return reduced.reshape(*reduced.shape[:axis], 1, *reduced.shape[axis:])


def grid_of_times(times: Sequence[float], late: float | None = None) -> np.ndarray:
    """What durations are compared with: each time and ``late`` more, see ``kaplan_meier``. Raises InvalidInput."""
    grid = ascending(times, 1)
    gap = float(np.diff(grid, prepend=grid[0] - 1.0).min())
    if late is not None and not 0.0 <= late < gap:
        raise InvalidInput(f"an event may be late by less than the smallest gap of its times; got {late:g}")
    return np.asarray(grid + (gap / 8 if late is None else late))


def ascending(values: Sequence[float], least: int) -> np.ndarray:
    """Public edges or times as an array. Raises InvalidInput for fewer than ``least``, or what does not ascend."""
    grid = np.asarray(values, np.float64)
    if grid.ndim != 1 or len(grid) < least or not all(isfinite(v) for v in grid) or (np.diff(grid) <= 0).any():
        raise InvalidInput(f"edges and times are at least {least} ascending finite numbers; correct the list")
    return grid
