"""``contingency/1``: how many people have each pair of codes in two columns, and Pearson's test of independence.

Both columns hold whole numbers from 0 on; their public ranges end at the last code. Counts of few people are opened as
0, and so is what would give them away by subtraction from the number of all people.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy import statistics
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.preparation import ordinal
from koinon.privacy.ordering import one_hot
from koinon.privacy.programs import significance
from koinon.privacy.programs.groups import check_minimum, shown
from koinon.privacy.programs.offer import Layout, Offer, ResultTable, Target, on_pairs, on_table
from koinon.wire.committee import Column

NAME: Final = "contingency/1"
MOST_CODES: Final = 50


class Settings(Record, frozen=True):
    """Attributes:
    first, second: names of the columns; the first two where they are empty.
    minimum_group: the least people behind a count that is opened.
    """

    first: str = ""
    second: str = ""
    minimum_group: int = 5


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    check_minimum(settings.minimum_group, layout.people)
    first, second = places_of(layout, settings)
    codes = codes_of(layout.columns[first]), codes_of(layout.columns[second])

    def compute(rows: SecretArray) -> Revealed:
        counts = statistics.contingency(_ordinal(rows[:, first], codes[0]), _ordinal(rows[:, second], codes[1]), codes)
        return _opened(counts, layout, settings, outputs)

    return on_table(NAME, layout, outputs, compute)


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, of the people whom an oblivious join finds with all owners."""
    check_minimum(settings.minimum_group, layout.people)
    first, second = places_of(layout, settings)
    codes = codes_of(layout.columns[first]), codes_of(layout.columns[second])

    def compute(rows: SecretArray, both: SecretArray) -> Revealed:
        left = one_hot(_ordinal(rows[:, first], codes[0]), codes[0]) & both.reshape(-1, 1)
        return _opened(left.T @ one_hot(_ordinal(rows[:, second], codes[1]), codes[1]), layout, settings, outputs)

    return on_pairs(NAME, layout, outputs, compute)


def _ordinal(column: SecretArray, codes: int) -> SecretArray:
    return ordinal(column, [float(code) for code in np.linspace(-1.0, 1.0, codes)])


def _opened(counts: SecretArray, layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    made = {
        "counts": lambda: shown(counts.reshape(-1), settings.minimum_group, layout.people).reshape(*counts.shape),
        "chi_square": lambda: statistics.chi_square(counts, layout.people).statistic.reshape(1),
    }
    return reveal(**{name: made[name]() for name in outputs})


def whole_columns(layout: Layout, settings: Settings) -> tuple[str, ...]:
    """Both."""
    return tuple(layout.columns[place].name for place in places_of(layout, settings))


def present(outputs: Mapping[str, np.ndarray], layout: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """The counts with a row for each code of the first column, and the test with its degrees of freedom and p-value."""
    first, second = (layout.columns[place] for place in places_of(layout, settings))
    rows, columns = (tuple(f"{column.name} = {code}" for code in range(codes_of(column))) for column in (first, second))
    freedom = (len(rows) - 1) * (len(columns) - 1)
    tables = []
    for name, values in outputs.items():
        if name == "counts":
            tables.append(ResultTable(name, rows, columns, values))
        else:
            likely = significance.of_chi_square(values, np.full(1, float(freedom)))
            test = np.array([[float(values[0]), freedom, float(likely[0])]])
            tables.append(ResultTable(name, ("",), ("statistic", "degrees of freedom", "p"), test))
    return tuple(tables)


def places_of(layout: Layout, settings: Settings) -> tuple[int, int]:
    names = [column.name for column in layout.columns]
    if len(names) < 2:
        raise InvalidInput(f"{NAME} counts pairs of two columns; there is {len(names)}")
    wanted = (settings.first or names[0], settings.second or names[1])
    for name in wanted:
        if name not in names:
            raise InvalidInput(f"{NAME}: {name[:80]!r} is none of the columns")
    if wanted[0] == wanted[1]:
        raise InvalidInput(f"{NAME} takes two different columns; both are {wanted[0][:80]!r}")
    return names.index(wanted[0]), names.index(wanted[1])


def codes_of(column: Column) -> int:
    if column.low != 0.0 or column.high != round(column.high) or not 1 <= column.high < MOST_CODES:
        raise InvalidInput(
            f"{NAME}: the range of {column.name!r} must go from 0 to the last code, a whole number up to"
            f" {MOST_CODES - 1}"
        )
    return round(column.high) + 1


OFFER: Final = Offer(
    name=NAME,
    summary="counts of pairs of codes in two columns, and the χ² test of their independence",
    target=Target.NONE,
    outputs=("counts", "chi_square"),
    settings=Settings,
    build=program,
    present=present,
    whole_columns=whole_columns,
    codes=whole_columns,
    paired=paired,
)
