"""``nearest-neighbours/1``: for each row that the study asks about, the share of 1 among the people most like it.

There is no model: what would predict is the people's rows themselves, so a study asks its questions in advance, and
they are public. Nobody learns who is near. Each answer speaks of as many people as are counted; two questions whose
nearest people differ by one tell that person's target, so a study asks few.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, constant_like
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.neighbours import NeighboursRegressor
from koinon.privacy.programs.offer import Layout, Offer, ResultTable, Target, halves, middles, on_target

NAME: Final = "nearest-neighbours/1"
MOST_ASKED: Final = 64


class Settings(Record, frozen=True):
    """Attributes:
    asked: rows, each with a number for every column but the target, in the columns' units and order.
    neighbours: how many people are counted.
    """

    asked: tuple[tuple[float, ...], ...] = ()
    neighbours: int = 5

    @property
    def minimum_group(self) -> int:
        """The least people behind an answer."""
        return self.neighbours


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    features = [layout.columns[number] for number in layout.features]
    if not 1 <= len(settings.asked) <= MOST_ASKED:
        raise InvalidInput(f"{NAME} answers 1 to {MOST_ASKED} rows; the setting 'asked' has {len(settings.asked)}")
    for row in settings.asked:
        inside = len(row) == len(features) and all(
            column.low <= number <= column.high for number, column in zip(row, features, strict=True)
        )
        if not inside:
            raise InvalidInput(f"{NAME}: every row asked about has {len(features)} numbers, inside the columns' ranges")
    if not 1 <= settings.neighbours <= layout.people:
        raise InvalidInput(f"{NAME} counts 1 to {layout.people} people; got {settings.neighbours}")
    points = (np.array(settings.asked) - middles(features)) / halves(features)

    def compute(rows: SecretArray, target: SecretArray) -> Revealed:
        fitted = NeighboursRegressor(settings.neighbours).fit(rows, target > 0.0)
        return reveal(shares=fitted.averages(constant_like(rows, points))[:, 0])

    return on_target(NAME, layout, outputs, compute, Target.BINARY)


def present(outputs: Mapping[str, np.ndarray], _: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """One row for each that was asked about."""
    labels = tuple(f"row {number}" for number in range(1, len(settings.asked) + 1))
    return tuple(ResultTable(name, labels, ("share",), values.reshape(-1, 1)) for name, values in outputs.items())


OFFER: Final = Offer(
    name=NAME,
    summary="share of 1 among the people nearest to each of a few public rows; no model",
    target=Target.BINARY,
    outputs=("shares",),
    settings=Settings,
    build=program,
    present=present,
)
