"""``statistics/1``: what is asked of data before anything is learnt from it.

Of every column mean, variance, quantiles and histogram; of every pair the correlation. Each only if the study opens it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy import statistics
from koinon.privacy.arrays import SecretArray, stack
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.joins import oblivious
from koinon.privacy.learn.moments import Moments
from koinon.privacy.ordering import sort
from koinon.privacy.programs import significance
from koinon.privacy.programs.groups import check_minimum, shown
from koinon.privacy.programs.offer import (
    Layout,
    Offer,
    ResultTable,
    Target,
    halves,
    middles,
    names_of,
    on_pairs,
    on_table,
)
from koinon.privacy.programs.owner_sums import ROWS, of_moments

NAME: Final = "statistics/1"
MOST_BINS: Final = 200
MOST_QUANTILES: Final = 100


class Settings(Record, frozen=True):
    """Attributes:
    bins: of each histogram, of equal width over the column's public range.
    minimum_group: the least people behind a count that is opened (smaller ones are opened as 0), and on either side of
        a quantile, itself among them.
    quantiles: as parts of 1, interpolated between neighbours as NumPy does by default.
    solver: whether owners share "rows", or "sums" of their own rows (``owner_sums``).
    """

    bins: int = 10
    minimum_group: int = 5
    quantiles: tuple[float, ...] = (0.25, 0.5, 0.75)
    solver: str = ROWS


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    if not 2 <= settings.bins <= MOST_BINS:
        raise InvalidInput(f"{NAME}: a histogram has 2 to {MOST_BINS} bins; got {settings.bins}")
    if layout.people < 2:
        raise InvalidInput(f"{NAME} needs at least 2 rows together")
    check_minimum(settings.minimum_group, layout.people)
    if "quantiles" in outputs:
        _check_quantiles(settings, layout.people)

    def compute(rows: SecretArray) -> Revealed:
        made = {
            "mean": lambda: rows.mean(0),
            "variance": lambda: statistics.variance(rows, freedom=1),
            "correlation": lambda: statistics.correlation(rows),
            "quantiles": lambda: _quantiles(rows, settings.quantiles),
            "histogram": lambda: _histogram(rows, settings),
        }
        return reveal(**{name: made[name]() for name in outputs})

    return on_table(NAME, layout, outputs, compute)


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, of the people whom an oblivious join finds with all owners, without quantiles."""
    if not 2 <= settings.bins <= MOST_BINS:
        raise InvalidInput(f"{NAME}: a histogram has 2 to {MOST_BINS} bins; got {settings.bins}")
    if "quantiles" in outputs:
        raise InvalidInput(f"{NAME} opens no quantiles of an oblivious join: how many are in both is secret")
    check_minimum(settings.minimum_group, layout.people)

    def compute(rows: SecretArray, both: SecretArray) -> Revealed:
        made = {
            "mean": lambda: rows.mean(0),
            "variance": lambda: oblivious.masked_variance(rows, both, layout.pairs),
            "correlation": lambda: statistics.correlation(rows),
            "histogram": lambda: _paired_histogram(rows, both, settings),
        }
        return reveal(**{name: made[name]() for name in outputs})

    return on_pairs(NAME, layout, outputs, compute)


def _without_sums(_layout: Layout, _settings: Settings, outputs: tuple[str, ...]) -> str:
    taken = [name for name in ("quantiles", "histogram") if name in outputs]
    return f"{' and '.join(taken)} take rows; open mean, variance and correlation only" if taken else ""


def _joint(known: Moments, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    check_minimum(settings.minimum_group, known.count)
    made = {
        "mean": lambda: known.means,
        "variance": lambda: known.variances.times(known.count / (known.count - 1)),
        "correlation": known.correlation,
    }
    return reveal(**{name: made[name]() for name in outputs})


def _paired_histogram(rows: SecretArray, both: SecretArray, settings: Settings) -> SecretArray:
    edges = _edges(settings)
    counts = stack([oblivious.masked_histogram(rows[:, column], both, edges) for column in range(rows.shape[1])])
    return shown(counts, settings.minimum_group, rows.shape[0])


def _check_quantiles(settings: Settings, people: int) -> None:
    asked = settings.quantiles
    if not 1 <= len(asked) <= MOST_QUANTILES or not all(0.0 <= each <= 1.0 for each in asked):
        raise InvalidInput(f"{NAME}: quantiles are 1 to {MOST_QUANTILES} parts from 0 to 1")
    outermost = min(min(each, 1.0 - each) for each in asked)
    if int(outermost * (people - 1)) + 1 < settings.minimum_group:
        raise InvalidInput(
            f"{NAME}: of {people} people fewer than {settings.minimum_group} lie on one side of a quantile, which would"
            " be next to one person's own number; ask for quantiles nearer to 0.5"
        )


def _quantiles(rows: SecretArray, fractions: Sequence[float]) -> SecretArray:
    """(fractions, d); one sort for all."""
    (ordered,) = sort(rows, 0)
    places = [fraction * (rows.shape[0] - 1) for fraction in fractions]
    last = rows.shape[0] - 1
    return stack(
        [
            ordered[int(place)].times(1 - place % 1) + ordered[min(int(place) + 1, last)].times(place % 1)
            for place in places
        ]
    )


def _histogram(rows: SecretArray, settings: Settings) -> SecretArray:
    """(d, bins) counts."""
    counts = stack([statistics.histogram(rows[:, column], _edges(settings)) for column in range(rows.shape[1])])
    return shown(counts, settings.minimum_group, rows.shape[0])


def _edges(settings: Settings) -> list[float]:
    return [float(edge) for edge in np.linspace(-1.0, 1.0, settings.bins + 1)]


def present(outputs: Mapping[str, np.ndarray], layout: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """In the units of the columns; correlations with the p-value of each."""
    names, middle, half = names_of(layout.columns), middles(layout.columns), halves(layout.columns)
    tables = []
    for name, values in outputs.items():
        match name:
            case "mean":
                tables.append(ResultTable(name, names, ("mean",), (values * half + middle).reshape(-1, 1)))
            case "variance":
                tables.append(ResultTable(name, names, ("variance",), (values * half**2).reshape(-1, 1)))
            case "correlation":
                tables.append(ResultTable(name, names, names, values))
                # How many people an oblivious join found is secret, and so is what chance makes of them.
                if not layout.pairs:
                    likely = significance.of_correlation(values, layout.people)
                    tables.append(ResultTable("correlation p", names, names, likely))
            case "quantiles":
                labels = tuple(f"{100 * fraction:g}%" for fraction in settings.quantiles)
                tables.append(ResultTable(name, names, labels, (values * half + middle).T))
            case "histogram":
                labels = tuple(f"bin {number}" for number in range(1, settings.bins + 1))
                tables.append(ResultTable(name, names, labels, values))
    return tuple(tables)


OFFER: Final = Offer(
    name=NAME,
    summary="mean, variance, quantiles and histogram of every column, correlation of every pair",
    target=Target.NONE,
    outputs=("mean", "variance", "correlation", "quantiles", "histogram"),
    settings=Settings,
    build=program,
    present=present,
    paired=paired,
    sums=of_moments(_joint, refusal=_without_sums),
)
