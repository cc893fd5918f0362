"""``decision-tree/1`` and ``regression-tree/1``: one tree on the joint rows of all owners; both make a model.

For a 0/1 target a leaf holds the share of 1, for a number its mean. Splits are those of scikit-learn's trees, among
quantiles of the columns.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed
from koinon.privacy.learn.trees import TreeClassifier, TreeRegressor
from koinon.privacy.programs.offer import Layout, ResultTable, Target, on_target, target_units
from koinon.privacy.programs.planted import unless_remembered
from koinon.privacy.programs.trees import TreeSettings, check_settings, offer_of, on_pairs, opened, present, shape_of

CLASSES: Final = "decision-tree/1"
NUMBERS: Final = "regression-tree/1"


def classes(layout: Layout, settings: TreeSettings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    return on_target(CLASSES, layout, outputs, _classes(layout, settings, outputs), Target.BINARY)


def paired_classes(layout: Layout, settings: TreeSettings, outputs: tuple[str, ...]) -> Program:
    """As ``classes``, on the pairs of an oblivious join."""
    return on_pairs(CLASSES, layout, settings, outputs, _classes(layout, settings, outputs))


def _classes(layout: Layout, settings: TreeSettings, outputs: tuple[str, ...]) -> Callable[..., Revealed]:
    check_settings(CLASSES, layout, settings)
    shape = shape_of(settings, settings.minimum_group)

    def compute(rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> Revealed:
        model = TreeClassifier(2, shape).fit(rows, target > 0.0, counted)
        found = opened([model.trees], outputs)
        return unless_remembered(found, layout, rows, target, lambda asked: model.predict_proba(asked) - 0.5)

    return compute


def numbers(layout: Layout, settings: TreeSettings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    return on_target(NUMBERS, layout, outputs, _numbers(layout, settings, outputs), Target.NUMBER)


def paired_numbers(layout: Layout, settings: TreeSettings, outputs: tuple[str, ...]) -> Program:
    """As ``numbers``, on the pairs of an oblivious join."""
    return on_pairs(NUMBERS, layout, settings, outputs, _numbers(layout, settings, outputs))


def _numbers(layout: Layout, settings: TreeSettings, outputs: tuple[str, ...]) -> Callable[..., Revealed]:
    check_settings(NUMBERS, layout, settings)
    shape = shape_of(settings, settings.minimum_group)

    def compute(rows: SecretArray, target: SecretArray, counted: SecretArray | None = None) -> Revealed:
        return opened([TreeRegressor(shape).fit(rows, target, counted).trees], outputs)

    return compute


def present_shares(outputs: Mapping[str, np.ndarray], layout: Layout, _: TreeSettings) -> tuple[ResultTable, ...]:
    """Leaves as shares of class 1."""
    return present(outputs, layout, {"leaves": (1.0, 0.0)})


def present_means(outputs: Mapping[str, np.ndarray], layout: Layout, _: TreeSettings) -> tuple[ResultTable, ...]:
    """Leaves as means in the target's units."""
    return present(outputs, layout, {"leaves": target_units(layout)})


OFFER: Final = offer_of(
    CLASSES,
    "one decision tree for a 0/1 target",
    Target.BINARY,
    TreeSettings,
    classes,
    present_shares,
    paired=paired_classes,
)
REGRESSION: Final = offer_of(
    NUMBERS,
    "one decision tree for a number",
    Target.NUMBER,
    TreeSettings,
    numbers,
    present_means,
    paired=paired_numbers,
)
