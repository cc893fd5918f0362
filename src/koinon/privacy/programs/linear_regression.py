"""``linear-regression/1``: least squares, or ridge regression with a penalty, on the joint rows of all owners.

The target is one of the study's columns, with a public range of its own. Objective and penalty are scikit-learn's Ridge
on standardised columns; the solver is ``learn.linear``.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.linear import FittedLine, LinearRegression, to_units
from koinon.privacy.learn.moments import Moments
from koinon.privacy.learn.selection import check_penalties, chosen
from koinon.privacy.programs.offer import (
    Layout,
    Offer,
    ResultTable,
    Target,
    on_pairs,
    on_table,
    tables_of_line,
)
from koinon.privacy.programs.owner_sums import ROWS, of_moments
from koinon.privacy.programs.planted import unless_remembered
from koinon.privacy.programs.preparation import PreparedSettings

NAME: Final = "linear-regression/1"


class Settings(PreparedSettings, frozen=True):
    """Attributes:
    penalty: λ of ‖y − Xw − c‖² + λ‖w‖² on standardised columns; 0 for ordinary least squares.
    steps: refinements of the solver; public, so that time tells nothing.
    penalties: several to choose from instead, by cross-validation inside the computation; nobody learns which it was.
    folds: parts of the rows for that.
    solver: whether owners share "rows", or "sums" of their own rows (``owner_sums``).
    """

    penalty: float = 0.0
    steps: int = 16
    penalties: tuple[float, ...] = ()
    folds: int = 5
    solver: str = ROWS


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    _check_target(layout)
    check_penalties(NAME, settings.penalties, settings.folds, layout.people)
    return on_table(NAME, layout, outputs, lambda rows: _opened(rows, layout, settings, outputs))


def _opened(rows: SecretArray, layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    table, target = rows[:, list(layout.features)], rows[:, layout.place]
    fits = [LinearRegression(one, settings.steps).fit for one in settings.penalties or (settings.penalty,)]
    line = fits[0](table, target)
    if settings.penalties:
        line = chosen(fits, FittedLine.score, table, target, settings.folds)
    made = {
        "coefficients": lambda: line.coefficients,
        "intercept": lambda: line.intercept.reshape(1),
        "score": lambda: line.score(table, target).reshape(1),
    }
    revealed = reveal(**{name: made[name]() for name in outputs})
    return unless_remembered(revealed, layout, table, target, line.predict)


def _check_target(layout: Layout) -> None:
    if not 0 < len(layout.features) < len(layout.columns):
        raise InvalidInput(f"{NAME} needs a target and at least one other column")
    target = layout.columns[layout.place]
    if layout.planted and (layout.place != len(layout.columns) - 1 or (target.low, target.high) != (0.0, 1.0)):
        raise InvalidInput(f"{NAME} is tried on planted rows where the last column is a target from 0 to 1")


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, of the people whom an oblivious join finds with all owners."""
    _check_target(layout)
    if settings.penalty or settings.penalties:
        raise InvalidInput(f"{NAME} takes no penalty on an oblivious join: how many people share it is secret")
    return on_pairs(NAME, layout, outputs, lambda rows, _: _opened(rows, layout, settings, outputs))


def _without_sums(_: Layout, settings: Settings, __: tuple[str, ...]) -> str:
    return "choosing among penalties takes the rows of every fold apart; name one" if settings.penalties else ""


def _ordered(layout: Layout) -> list[int]:
    """Numbers of the columns, the target's last."""
    _check_target(layout)
    return [*layout.features, layout.place]


def _joint(known: Moments, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    line, score = LinearRegression(settings.penalty, settings.steps).scored(known)
    made = {"coefficients": line.coefficients, "intercept": line.intercept.reshape(1), "score": score.reshape(1)}
    return reveal(**{name: made[name] for name in outputs})


def present(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """In the units of the columns where slopes and intercept were opened; else as opened, for columns in [−1, 1]."""
    features, target = [layout.columns[number] for number in layout.features], layout.columns[layout.place]
    found = dict(outputs)
    if {"coefficients", "intercept"} <= found.keys():
        slopes, level = to_units(found["coefficients"], float(found["intercept"][0]), features, target)
        found |= {"coefficients": slopes, "intercept": np.array([level])}
    return tables_of_line(found, features)


OFFER: Final = Offer(
    name=NAME,
    summary="least squares or ridge regression of one column on the others, and its R²; makes a model",
    target=Target.NUMBER,
    outputs=("coefficients", "intercept", "score"),
    settings=Settings,
    build=program,
    present=present,
    judges_planted=True,
    paired=paired,
    sums=of_moments(_joint, _ordered, _without_sums),
)
