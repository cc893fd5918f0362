"""``multinomial-regression/1``: logistic regression of several classes on the joint rows of all owners; makes a model.

The target is one of the study's columns; its public range goes from 0 to the last class's code, and every number is
taken for the nearest code.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.joins import oblivious
from koinon.privacy.learn.logistic import Counted, FittedMultinomial, MultinomialRegression
from koinon.privacy.programs.classes import classes_of, codes_of
from koinon.privacy.programs.offer import (
    Layout,
    Offer,
    ResultTable,
    Target,
    halves,
    middles,
    names_of,
    on_paired_target,
    on_target,
    target_only,
)
from koinon.privacy.programs.preparation import PreparedSettings

NAME: Final = "multinomial-regression/1"
LEAST_PEOPLE: Final = 10


class Settings(PreparedSettings, frozen=True):
    """Attributes:
    penalty: λ of Σ log-loss + ½ λ ‖w‖², on standardised columns.
    iterations: of the solver; public, so that time tells nothing.
    """

    penalty: float = 1.0
    iterations: int = 40


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    classes = _checked(layout)

    def compute(rows: SecretArray, target: SecretArray) -> Revealed:
        codes = codes_of(target, classes)
        model = MultinomialRegression(classes, settings.penalty, settings.iterations).fit(rows, codes)
        return _opened(model, lambda: model.score(rows, codes), outputs)

    return on_target(NAME, layout, outputs, compute, Target.NUMBER)


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, of the people whom an oblivious join finds with all owners."""
    classes = _checked(layout)

    def compute(rows: SecretArray, target: SecretArray, both: SecretArray) -> Revealed:
        codes, counted = codes_of(target, classes), Counted(both, layout.pairs)
        model = MultinomialRegression(classes, settings.penalty, settings.iterations).fit(rows, codes, counted)

        def score() -> SecretArray:
            right = ((model.predict(rows) == codes) & both).reshape(-1, 1)
            return oblivious.masked_mean(right, both, layout.pairs)

        return _opened(model, score, outputs)

    return on_paired_target(NAME, layout, outputs, compute)


def _checked(layout: Layout) -> int:
    if layout.people < LEAST_PEOPLE:
        raise InvalidInput(f"{NAME} needs {LEAST_PEOPLE} people; there are {layout.people}")
    return classes_of(NAME, layout)


def _opened(model: FittedMultinomial, score: Callable[[], SecretArray], outputs: tuple[str, ...]) -> Revealed:
    made = {
        "coefficients": lambda: model.coefficients,
        "intercepts": lambda: model.intercepts,
        "score": lambda: score().reshape(1),
    }
    return reveal(**{name: made[name]() for name in outputs})


def present(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """In the units of the columns where coefficients and intercepts were opened; else as opened, for [−1, 1]."""
    features = [layout.columns[number] for number in layout.features]
    labels = tuple(f"{layout.target} = {code}" for code in range(classes_of(NAME, layout)))
    found = dict(outputs)
    if {"coefficients", "intercepts"} <= found.keys():
        slopes = found["coefficients"] / halves(features).reshape(-1, 1)
        found |= {"coefficients": slopes, "intercepts": found["intercepts"] - middles(features) @ slopes}
    tables = []
    for name, values in found.items():
        rows = names_of(features) if name == "coefficients" else ("",)
        heads = (name,) if name == "score" else labels
        tables.append(ResultTable(name, rows, heads, values.reshape(len(rows), -1)))
    return tuple(tables)


OFFER: Final = Offer(
    name=NAME,
    summary="logistic regression of several classes, and the share of people it places right; makes a model",
    target=Target.NUMBER,
    outputs=("coefficients", "intercepts", "score"),
    settings=Settings,
    build=program,
    present=present,
    paired=paired,
    whole_columns=target_only,
    codes=target_only,
)
