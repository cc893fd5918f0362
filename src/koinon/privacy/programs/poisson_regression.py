"""``poisson-regression/1``: counts explained by the other columns, on the joint rows of all owners; makes a model.

The target is one of the study's columns; its public range begins at 0 and ends at the largest count. Objective and
solver: ``learn.poisson``.
"""

from collections.abc import Mapping
from math import log
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.poisson import FittedPoisson, PoissonRegression
from koinon.privacy.learn.selection import check_penalties, chosen
from koinon.privacy.programs.offer import (
    Layout,
    Offer,
    ResultTable,
    Target,
    halves,
    middles,
    on_target,
    tables_of_line,
    target_only,
)
from koinon.privacy.programs.preparation import PreparedSettings

NAME: Final = "poisson-regression/1"
LARGEST_COUNT: Final = 1 << 20
LEAST_PEOPLE: Final = 10


class Settings(PreparedSettings, frozen=True):
    """Attributes:
    penalty: α ≥ 0.
    iterations: Newton steps; public, so that time tells nothing.
    penalties: several to choose from instead, by cross-validation inside the computation; nobody learns which it was.
    folds: parts of the rows for that.
    """

    penalty: float = 0.0
    iterations: int = 10
    penalties: tuple[float, ...] = ()
    folds: int = 5


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    target = layout.columns[layout.place]
    if target.low != 0.0 or not 1.0 <= target.high <= LARGEST_COUNT:
        raise InvalidInput(f"{NAME}: the range of {target.name!r} must go from 0 to a count of 1 to {LARGEST_COUNT}")
    if layout.people < LEAST_PEOPLE:
        raise InvalidInput(f"{NAME} needs {LEAST_PEOPLE} people; there are {layout.people}")

    check_penalties(NAME, settings.penalties, settings.folds, layout.people)

    def compute(rows: SecretArray, shared: SecretArray) -> Revealed:
        counts = (shared + 1.0).times(target.high / 2)
        fits = [
            PoissonRegression(target.high, one, settings.iterations).fit
            for one in settings.penalties or (settings.penalty,)
        ]
        model = fits[0](rows, counts)
        if settings.penalties:
            model = chosen(fits, FittedPoisson.score, rows, counts, settings.folds)
        made = {
            "coefficients": lambda: model.coefficients,
            "intercept": lambda: model.intercept.reshape(1),
            "score": lambda: model.score(rows, counts).reshape(1),
        }
        return reveal(**{name: made[name]() for name in outputs})

    return on_target(NAME, layout, outputs, compute, Target.NUMBER)


def present(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """Of the logarithm of the mean count, in the units of the columns where slopes and intercept were opened."""
    features = [layout.columns[number] for number in layout.features]
    found = dict(outputs)
    if {"coefficients", "intercept"} <= found.keys():
        slopes = found["coefficients"] / halves(features)
        level = found["intercept"][0] + log(layout.columns[layout.place].high) - slopes @ middles(features)
        found |= {"coefficients": slopes, "intercept": np.array([level])}
    return tables_of_line(found, features)


OFFER: Final = Offer(
    name=NAME,
    summary="Poisson regression of a count on the other columns, and the share of deviance it explains; makes a model",
    target=Target.NUMBER,
    outputs=("coefficients", "intercept", "score"),
    settings=Settings,
    build=program,
    present=present,
    whole_columns=target_only,
)
