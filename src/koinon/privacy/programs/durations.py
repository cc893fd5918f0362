"""What programs about durations share: the column of times, and the public times at which events are counted.

The 0/1 target is 1 where the event was seen, and 0 where the person was last seen without it. An event between two of
the public times counts at the later one, so a coarse grid says less about single people.
"""

from itertools import pairwise
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.programs.offer import Layout
from koinon.wire.committee import Column

MOST_TIMES: Final = 1_000
LATE: Final = 2.0**-17
"""Of half the column's range: what sharing rounds off a duration is far less."""


def duration_place(name: str, layout: Layout, duration: str) -> int:
    """Number of the column of durations among the features: the one of this name, or the first. Raises InvalidInput."""
    names = [layout.columns[number].name for number in layout.features]
    if not duration and names:
        return 0
    if duration not in names:
        raise InvalidInput(f"{name}: the duration {duration[:80]!r} is none of the columns beside the target")
    return names.index(duration)


def times_of(column: Column, times: tuple[float, ...]) -> tuple[float, ...]:
    """The study's times, or ten of equal distance over the column's range."""
    return times or tuple(float(time) for time in np.linspace(column.low, column.high, 11)[1:])


def grid_of(name: str, column: Column, times: tuple[float, ...]) -> list[float]:
    """The times on the scale on which the column is shared, [−1, 1].

    Raises:
        InvalidInput: too many times, times outside the column's range, or times that hardly ascend.
    """
    wanted = times_of(column, times)
    if len(wanted) > MOST_TIMES or not all(column.low <= time <= column.high for time in wanted):
        raise InvalidInput(f"{name} takes at most {MOST_TIMES} times inside the range of {column.name!r}")
    half, middle = (column.high - column.low) / 2, (column.high + column.low) / 2
    grid = [(time - middle) / half for time in wanted]
    if any(later - time < 4 * LATE for time, later in pairwise(grid)):
        raise InvalidInput(f"{name}: the times must ascend, each by more than {4 * LATE * half:.3g}")
    return grid


def split(rows: SecretArray, place: int) -> tuple[SecretArray, SecretArray]:
    """The columns other than this one, and this one."""
    others = [number for number in range(rows.shape[1]) if number != place]
    return rows[:, others], rows[:, place]
