"""How good predictions are, as scikit-learn's ``score`` has it."""

from typing import Final

from koinon.privacy.arrays import SecretArray, clip, divide
from koinon.privacy.statistics import SMALLEST_VARIANCE

_FARTHEST: Final = 4.0


def accuracy(found: SecretArray, target: SecretArray) -> SecretArray:
    """Share of (n,) predicted codes that are the true ones."""
    return (found == target).mean()


def determination(found: SecretArray, target: SecretArray) -> SecretArray:
    """R² of (n,) predicted numbers: 1 − residual over total sum of squares.

    A residual beyond twice the range of a target in [−1, 1] counts as that.
    """
    left = clip(target - found, -_FARTHEST, _FARTHEST)
    spread = target - target.mean()
    return 1.0 - divide((left * left).mean(), (spread * spread).mean(), SMALLEST_VARIANCE)
