"""``gradient-boosting/1`` and ``boosted-regression/1``: trees that correct one another, added; both make a model.

For a 0/1 target the sum is the log-odds. A person's weight there is the second derivative of the log-loss, which is at
most 0.26, so a leaf with that times the least group has as many people.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed
from koinon.privacy.learn.trees import LARGEST_CURVATURE, BoostedClassifier, BoostedRegressor
from koinon.privacy.programs.offer import Layout, ResultTable, Target, on_target, target_units
from koinon.privacy.programs.planted import unless_remembered
from koinon.privacy.programs.trees import (
    OUTPUTS,
    TreeSettings,
    check_count,
    check_settings,
    offer_of,
    on_pairs,
    opened,
    present,
    shape_of,
)

CLASSES: Final = "gradient-boosting/1"
NUMBERS: Final = "boosted-regression/1"
_OUTPUTS: Final = (*OUTPUTS, "start")


class Settings(TreeSettings, frozen=True):
    """Attributes:
    trees: how many, one after the other.
    rate: what each tree's answer is multiplied by.
    """

    trees: int = 20
    rate: float = 0.3


def classes(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    return on_target(CLASSES, layout, outputs, _classes(layout, settings, outputs), Target.BINARY)


def paired_classes(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``classes``, on the pairs of an oblivious join."""
    return on_pairs(CLASSES, layout, settings, outputs, _classes(layout, settings, outputs))


def _classes(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Callable[..., Revealed]:
    _check(CLASSES, layout, settings)
    shape = shape_of(settings, LARGEST_CURVATURE * settings.minimum_group)

    def compute(rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> Revealed:
        model = BoostedClassifier(2, settings.trees, settings.rate, shape).fit(rows, target > 0.0, counted)
        found = opened(model.trees, outputs, settings.rate, model.start)
        return unless_remembered(found, layout, rows, target, lambda asked: model.decision(asked).reshape(-1))

    return compute


def numbers(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    return on_target(NUMBERS, layout, outputs, _numbers(layout, settings, outputs), Target.NUMBER)


def paired_numbers(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``numbers``, on the pairs of an oblivious join."""
    return on_pairs(NUMBERS, layout, settings, outputs, _numbers(layout, settings, outputs))


def _numbers(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Callable[..., Revealed]:
    _check(NUMBERS, layout, settings)
    shape = shape_of(settings, settings.minimum_group)

    def compute(rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> Revealed:
        model = BoostedRegressor(settings.trees, settings.rate, shape).fit(rows, target, counted)
        return opened(model.trees, outputs, settings.rate, model.start)

    return compute


def present_odds(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """Start and leaves as log-odds of class 1; they are added."""
    return present(outputs, layout, {"leaves": (1.0, 0.0), "start": (1.0, 0.0)})


def present_numbers(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """Start and leaves in the target's units; they are added."""
    unit, level = target_units(layout)
    return present(outputs, layout, {"leaves": (unit, 0.0), "start": (unit, level)})


def _check(name: str, layout: Layout, settings: Settings) -> None:
    check_settings(name, layout, settings)
    check_count(name, settings.trees)
    if not 0.001 <= settings.rate <= 1.0:
        raise InvalidInput(f"{name} learns at a rate from 0.001 to 1; got {settings.rate:g}")


OFFER: Final = offer_of(
    CLASSES,
    "gradient-boosted trees for a 0/1 target",
    Target.BINARY,
    Settings,
    classes,
    present_odds,
    _OUTPUTS,
    paired_classes,
)
REGRESSION: Final = offer_of(
    NUMBERS,
    "gradient-boosted trees for a number",
    Target.NUMBER,
    Settings,
    numbers,
    present_numbers,
    _OUTPUTS,
    paired_numbers,
)
