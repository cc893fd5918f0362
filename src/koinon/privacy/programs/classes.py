"""Targets that are codes of several classes."""

from typing import Final

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.learn.preparation import ordinal
from koinon.privacy.programs.offer import Layout

MOST_CLASSES: Final = 20


def classes_of(name: str, layout: Layout) -> int:
    """How many classes the target's range has. Raises InvalidInput where it is no range of codes."""
    target = layout.columns[layout.place]
    if target.low != 0.0 or target.high != round(target.high) or not 1 <= target.high < MOST_CLASSES:
        raise InvalidInput(
            f"{name}: the range of {target.name!r} must go from 0 to the last class's code, at most {MOST_CLASSES - 1}"
        )
    return round(target.high) + 1


def codes_of(target: SecretArray, classes: int) -> SecretArray:
    """Whole codes of a target in [−1, 1], each number taken for the nearest."""
    return ordinal(target, [2.0 * code / (classes - 1) - 1.0 for code in range(classes)])
