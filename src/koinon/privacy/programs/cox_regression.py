"""``cox-regression/1``: how the columns change the hazard of an event, on the joint rows of all owners.

Opened are the coefficients; their information matrix, from which standard errors follow; and Harrell's concordance. The
method is that of ``learn.survival``.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.survival import CoxRegression
from koinon.privacy.programs import significance
from koinon.privacy.programs.durations import LATE, duration_place, grid_of, split
from koinon.privacy.programs.offer import (
    Layout,
    Offer,
    ResultTable,
    Target,
    halves,
    names_of,
    on_paired_target,
    on_target,
)

NAME: Final = "cox-regression/1"
LEAST_PEOPLE: Final = 10


class Settings(Record, frozen=True):
    """Attributes:
    duration: name of the column of times; the first where it is empty.
    times: ascending, in that column's unit; ten of equal distance over its range where there are none. Events between
        two of them are tied (N. Breslow's way); with every possible duration here the likelihood is the exact one.
    penalty: λ of −ln(partial likelihood) + ½ λ ‖w‖², on standardised columns.
    iterations: Newton steps; public, so that time tells nothing.
    """

    duration: str = ""
    times: tuple[float, ...] = ()
    penalty: float = 0.0
    iterations: int = 8


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    return on_target(NAME, layout, outputs, _computed(layout, settings, outputs), Target.BINARY)


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, on the pairs of an oblivious join, where it takes no penalty."""
    if settings.penalty:
        raise InvalidInput(f"{NAME} takes no penalty on an oblivious join; leave it out")
    return on_paired_target(NAME, layout, outputs, _computed(layout, settings, outputs))


def _computed(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Callable[..., Revealed]:
    place = duration_place(NAME, layout, settings.duration)
    if len(layout.features) < 2 or layout.people < LEAST_PEOPLE:
        raise InvalidInput(
            f"{NAME} needs a column beside the durations and the target, and {LEAST_PEOPLE} people; there are"
            f" {len(layout.features) - 1} and {layout.people}"
        )
    grid = grid_of(NAME, layout.columns[layout.features[place]], settings.times)

    def compute(rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> Revealed:
        (table, durations), seen = split(rows, place), target > 0.0
        model = CoxRegression(grid, settings.penalty, settings.iterations, LATE).fit(table, durations, seen, counted)
        made = {
            "coefficients": lambda: model.coefficients,
            "information": lambda: model.information,
            "concordance": lambda: model.score(table, durations, seen, counted).reshape(1),
        }
        return reveal(**{name: made[name]() for name in outputs})

    return compute


def present(outputs: Mapping[str, np.ndarray], layout: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """In the units of the columns; with the information, coefficients have standard errors and Wald's p-values."""
    place = duration_place(NAME, layout, settings.duration)
    columns = [layout.columns[number] for number in layout.features]
    del columns[place]
    names, half = names_of(columns), halves(columns)
    tables = []
    for name, values in outputs.items():
        match name:
            case "coefficients":
                slopes = values / half
                shown, heads = [slopes, np.exp(slopes)], ["log hazard ratio", "hazard ratio"]
                if "information" in outputs:
                    # A column that is constant, or that others make up, has no information and no error either.
                    spread = np.linalg.pinv(outputs["information"], rcond=1e-6, hermitian=True).diagonal()
                    error = np.sqrt(np.maximum(spread, 0.0)) / half
                    known = error > 0
                    score = np.where(known, slopes / np.where(known, error, 1.0), 0.0)
                    shown += [error, significance.of_normal(score)]
                    heads += ["standard error", "p"]
                tables.append(ResultTable(name, names, tuple(heads), np.column_stack(shown)))
            case "information":
                tables.append(ResultTable(name, names, names, values * half * half.reshape(-1, 1)))
            case _:
                tables.append(ResultTable(name, ("",), (name,), values.reshape(1, 1)))
    return tuple(tables)


OFFER: Final = Offer(
    name=NAME,
    summary="Cox regression: hazard ratios of the columns with standard errors, and the concordance",
    target=Target.BINARY,
    outputs=("coefficients", "information", "concordance"),
    settings=Settings,
    build=program,
    present=present,
    paired=paired,
)
