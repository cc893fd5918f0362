"""``random-forest/1`` and ``regression-forest/1``: trees on drawn people and columns, averaged; both make a model.

Each tree sees 63 of 100 people, drawn in public without replacement, so that what a leaf weighs is a number of people.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed
from koinon.privacy.learn.trees import ForestClassifier, ForestRegressor, part_of
from koinon.privacy.programs.offer import Layout, ResultTable, Target, on_target, target_units
from koinon.privacy.programs.planted import unless_remembered
from koinon.privacy.programs.trees import (
    TreeSettings,
    check_count,
    check_settings,
    offer_of,
    opened,
    present,
    shape_of,
)

CLASSES: Final = "random-forest/1"
NUMBERS: Final = "regression-forest/1"


class Settings(TreeSettings, frozen=True):
    """Attributes:
    trees: how many.
    """

    trees: int = 20


def classes(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    _check(CLASSES, layout, settings)
    shape = shape_of(settings, settings.minimum_group)

    def compute(rows: SecretArray, target: SecretArray) -> Revealed:
        model = ForestClassifier(2, settings.trees, shape, distinct=True).fit(rows, target > 0.0)
        found = opened([model.trees], outputs)
        return unless_remembered(found, layout, rows, target, lambda asked: model.predict_proba(asked) - 0.5)

    return on_target(CLASSES, layout, outputs, compute, Target.BINARY)


def numbers(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    _check(NUMBERS, layout, settings)
    shape = shape_of(settings, settings.minimum_group)

    def compute(rows: SecretArray, target: SecretArray) -> Revealed:
        return opened([ForestRegressor(settings.trees, shape, distinct=True).fit(rows, target).trees], outputs)

    return on_target(NUMBERS, layout, outputs, compute, Target.NUMBER)


def present_shares(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """Leaves as shares of class 1; the forest answers their mean."""
    return present(outputs, layout, {"leaves": (1.0, 0.0)})


def present_means(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """Leaves as means in the target's units; the forest answers their mean."""
    return present(outputs, layout, {"leaves": target_units(layout)})


def _check(name: str, layout: Layout, settings: Settings) -> None:
    check_settings(name, layout, settings)
    check_count(name, settings.trees)
    if settings.minimum_group > part_of(layout.people):
        raise InvalidInput(
            f"{name}: each tree sees {part_of(layout.people)} people; ask for leaves of at most as many, not of"
            f" {settings.minimum_group}"
        )


OFFER: Final = offer_of(CLASSES, "a random forest for a 0/1 target", Target.BINARY, Settings, classes, present_shares)
REGRESSION: Final = offer_of(NUMBERS, "a random forest for a number", Target.NUMBER, Settings, numbers, present_means)
