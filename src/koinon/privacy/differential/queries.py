"""Questions that one owner answers about its own rows, with noise: OpenDP's integer mechanisms.

A column's numbers are first put on 2¹⁶ steps of its public range, so that every sum is one of integers and OpenDP adds
integer (discrete Laplace) noise: there are no floating-point bits to attack. Neighbours differ in one row; the number
of rows is public. Every answer is ε-differentially private (δ = 0).
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.differential.accountant import LARGEST_EPSILON
from koinon.wire.committee import Column

STEPS: Final = 1 << 16
MOST_BINS: Final = 1000
MOST_ROWS: Final = 1 << 31
_ONE_ROW_CHANGED: Final = 2
"""Symmetric distance of neighbours: one row out, another in."""
_SCALES: Final = (1e-6, 1e18)


def count(values: np.ndarray, column: Column, low: float, high: float, epsilon: float) -> float:
    """How many of (n,) values are from ``low`` to ``high``. The noise has a deviation of about √2 / ε.

    Raises:
        InvalidInput: unusable values, bounds or ε; likewise below.
    """
    numbers = _checked(values, column, epsilon)
    if not low <= high:
        raise InvalidInput(f"a count needs a lower end that is not above the upper one; got {low:g} and {high:g}")
    inside = ((numbers >= low) & (numbers <= high)).astype(np.int64)
    return float(_noisy_sum(inside, 1, epsilon))


def total(values: np.ndarray, column: Column, epsilon: float) -> float:
    """The sum of (n,) values. The noise has a deviation of about √2 · (high − low) / ε."""
    numbers = _checked(values, column, epsilon)
    width = (column.high - column.low) / STEPS
    return float(column.low * len(numbers) + width * _noisy_sum(_steps(numbers, column), STEPS, epsilon))


def mean(values: np.ndarray, column: Column, epsilon: float) -> float:
    """The mean of (n,) values, put back into the column's range."""
    return float(np.clip(total(values, column, epsilon) / len(values), column.low, column.high))


def histogram(values: np.ndarray, column: Column, bins: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts in ``bins`` equal parts of the column's range, and the edges. One changed row changes two counts by 1."""
    numbers = _checked(values, column, epsilon)
    if not 1 <= bins <= MOST_BINS:
        raise InvalidInput(f"a histogram has 1 to {MOST_BINS} bins; got {bins}")
    dp = _opendp()
    edges = np.linspace(column.low, column.high, bins + 1)
    places = np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, bins - 1)
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.symmetric_distance()
    counted = space >> dp.t.then_count_by_categories(categories=list(range(bins)), null_category=False, TOA="i64")
    noisy = _calibrated(lambda scale: counted >> dp.m.then_laplace(scale), epsilon)
    return np.array(noisy(places.tolist()), np.float64), edges


def quantile(values: np.ndarray, column: Column, share: float, epsilon: float, candidates: int = 256) -> float:
    """A number that about ``share`` of (n,) values are below, chosen among equally spaced ones (exponential mechanism).

    Raises:
        InvalidInput: a share that is not between 0 and 1 too.
    """
    numbers = _checked(values, column, epsilon)
    if not 0.0 < share < 1.0 or not 2 <= candidates <= MOST_BINS:
        raise InvalidInput(f"a quantile is asked for a share between 0 and 1; got {share:g}")
    dp = _opendp()
    grid = np.unique(np.linspace(0, STEPS, candidates).round().astype(np.int64)).tolist()
    space = dp.vector_domain(dp.atom_domain(T="i64"), size=len(numbers)), dp.symmetric_distance()
    scored = space >> dp.t.then_quantile_score_candidates(grid, share)
    # The candidate with the lowest score is the quantile.
    chosen = _calibrated(lambda scale: scored >> dp.m.then_noisy_max(dp.max_divergence(), scale, negate=True), epsilon)
    place = grid[int(chosen(_steps(numbers, column).tolist()))]
    return float(column.low + place * (column.high - column.low) / STEPS)


def _noisy_sum(numbers: np.ndarray, largest: int, epsilon: float) -> int:
    dp = _opendp()
    bounded = dp.atom_domain(bounds=(0, largest), T="i64")
    space = dp.vector_domain(bounded, size=len(numbers)), dp.symmetric_distance()
    summed = space >> dp.t.then_sum()
    return int(_calibrated(lambda scale: summed >> dp.m.then_laplace(scale), epsilon)(numbers.tolist()))


def _calibrated(make: Any, epsilon: float) -> Any:
    """The measurement with the least noise that OpenDP proves to be ε-differentially private."""
    measured = _opendp().binary_search_chain(make, d_in=_ONE_ROW_CHANGED, d_out=epsilon, bounds=_SCALES)
    assert measured.map(_ONE_ROW_CHANGED) <= epsilon
    return measured


def _checked(values: np.ndarray, column: Column, epsilon: float) -> np.ndarray:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not 1 <= len(numbers) <= MOST_ROWS:
        raise InvalidInput("a question is asked about one column with at least one row")
    if not (numbers >= column.low).all() or not (numbers <= column.high).all():
        raise InvalidInput(f"column {column.name!r} holds a value that is missing or outside its public range")
    if not (isfinite(epsilon) and 0.0 < epsilon <= LARGEST_EPSILON):
        raise InvalidInput(f"an answer costs ε above 0 and at most {LARGEST_EPSILON:g}; got {epsilon:g}")
    return numbers


def _steps(numbers: np.ndarray, column: Column) -> np.ndarray:
    return np.round((numbers - column.low) / (column.high - column.low) * STEPS).astype(np.int64)


def _opendp() -> Any:
    # Late: the library is loaded by the first question, not by every node.
    import opendp.prelude as dp

    dp.enable_features("contrib")
    return dp


QUESTIONS: Final[Sequence[str]] = ("count", "total", "mean", "histogram", "quantile")
