"""``kaplan-meier/1``: the share of people without an event beyond each of the study's times, and how many are left.

E. Kaplan, P. Meier, "Nonparametric estimation from incomplete observations", 1958. From the first time on at which
fewer people than the least are present, both are opened as 0. A step of the curve still says how many events lay
between two times; choose coarse ones.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.privacy.arrays import SecretArray, where
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.programs.durations import LATE, duration_place, grid_of, times_of
from koinon.privacy.programs.groups import check_minimum
from koinon.privacy.programs.offer import Layout, Offer, ResultTable, Target, on_paired_target, on_target
from koinon.privacy.statistics import life_table, surviving

NAME: Final = "kaplan-meier/1"


class Settings(Record, frozen=True):
    """Attributes:
    duration: name of the column of times; the first where it is empty.
    times: ascending, in that column's unit; ten of equal distance over its range where there are none.
    minimum_group: the least people present at a time whose share is opened.
    """

    duration: str = ""
    times: tuple[float, ...] = ()
    minimum_group: int = 5


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    compute = _computed(layout, settings, outputs)
    return on_target(NAME, layout, outputs, compute, Target.BINARY)


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, on the pairs of an oblivious join."""
    return on_paired_target(NAME, layout, outputs, _computed(layout, settings, outputs))


def _computed(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Callable[..., Revealed]:
    place = duration_place(NAME, layout, settings.duration)
    grid = grid_of(NAME, layout.columns[layout.features[place]], settings.times)
    check_minimum(settings.minimum_group, layout.people)

    def compute(rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> Revealed:
        present, events = life_table(rows[:, place], target > 0.0, grid, LATE, counted)
        few = present < settings.minimum_group
        made = {
            "survivors": lambda: where(few, 0.0, surviving(present, events, layout.people)),
            "present": lambda: where(few, 0, present),
        }
        return reveal(**{name: made[name]() for name in outputs})

    return compute


def present(outputs: Mapping[str, np.ndarray], layout: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """One row for each time."""
    column = layout.columns[layout.features[duration_place(NAME, layout, settings.duration)]]
    labels = tuple(f"{time:g}" for time in times_of(column, settings.times))
    heads = {"survivors": "share", "present": "people"}
    return tuple(ResultTable(name, labels, (heads[name],), values.reshape(-1, 1)) for name, values in outputs.items())


OFFER: Final = Offer(
    name=NAME,
    summary="share of people without an event beyond each of the study's times, and how many are present until then",
    target=Target.BINARY,
    outputs=("survivors", "present"),
    settings=Settings,
    build=program,
    present=present,
    paired=paired,
)
