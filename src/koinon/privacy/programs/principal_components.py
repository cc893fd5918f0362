"""``principal-components/1``: the directions in which people differ most, of columns scaled by their public ranges."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.components import FittedComponents, PrincipalComponents
from koinon.privacy.learn.moments import Moments
from koinon.privacy.programs.offer import Layout, Offer, ResultTable, Target, names_of, on_pairs, on_table
from koinon.privacy.programs.owner_sums import ROWS, of_moments
from koinon.privacy.programs.preparation import PreparedSettings

NAME: Final = "principal-components/1"


class Settings(PreparedSettings, frozen=True):
    """Attributes:
    count: how many directions.
    solver: whether owners share "rows", or "sums" of their own rows (``owner_sums``).
    """

    count: int = 2
    solver: str = ROWS


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    _check(layout, settings)
    return on_table(NAME, layout, outputs, lambda rows: _opened(rows, settings, outputs))


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, of the people whom an oblivious join finds with all owners."""
    _check(layout, settings)
    return on_pairs(NAME, layout, outputs, lambda rows, _both: _opened(rows, settings, outputs))


def _check(layout: Layout, settings: Settings) -> None:
    if not 1 <= settings.count <= len(layout.columns):
        raise InvalidInput(f"{NAME}: of {len(layout.columns)} columns there are not {settings.count} directions")


def _opened(rows: SecretArray, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    return _shown(PrincipalComponents(settings.count).fit(rows), outputs)


def _joint(known: Moments, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    return _shown(PrincipalComponents(settings.count).fit_moments(known), outputs)


def _shown(fitted: FittedComponents, outputs: tuple[str, ...]) -> Revealed:
    made = {"components": lambda: fitted.components, "explained": fitted.explained}
    return reveal(**{name: made[name]() for name in outputs})


def present(outputs: Mapping[str, np.ndarray], layout: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """Directions of length 1 in columns scaled to [−1, 1], and their shares of the whole variance."""
    labels = tuple(f"direction {number}" for number in range(1, settings.count + 1))
    return tuple(
        ResultTable(name, labels, names_of(layout.columns) if name == "components" else ("share",), table)
        for name, table in ((name, values.reshape(settings.count, -1)) for name, values in outputs.items())
    )


OFFER: Final = Offer(
    name=NAME,
    summary="the directions in which people differ most, and how much of the variance each explains",
    target=Target.NONE,
    outputs=("components", "explained"),
    settings=Settings,
    build=program,
    present=present,
    paired=paired,
    sums=of_moments(_joint),
)
