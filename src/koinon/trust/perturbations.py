"""What ordinary trouble does to a model: measurement noise, missing values, swapped columns.

No adversary: each perturbation is drawn once per row from the seed, and the AUC on the perturbed rows is reported.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from koinon.trust.queries import Box, FloatArray

Perturbation: TypeAlias = Callable[[FloatArray, Box, float, np.random.Generator], FloatArray]


def add_noise(rows: FloatArray, box: Box, strength: float, rng: np.random.Generator) -> FloatArray:
    """Gaussian noise with a standard deviation of ``strength`` times each column's range, kept inside the range."""
    scaled = box.scale(rows)
    return box.original(np.clip(scaled + strength * rng.standard_normal(scaled.shape), 0, 1))


def lose_values(rows: FloatArray, box: Box, strength: float, rng: np.random.Generator) -> FloatArray:
    """Each cell is missing with probability ``strength`` and filled with its column's median, as a clinic would."""
    del box
    missing = rng.random(rows.shape) < strength
    return np.where(missing, np.median(rows, axis=0), rows)


def swap_columns(rows: FloatArray, box: Box, strength: float, rng: np.random.Generator) -> FloatArray:
    """With chance ``strength`` a row has two columns exchanged, by place in their ranges: a form filled in wrongly."""
    scaled = box.scale(rows)
    count, width = scaled.shape
    if width < 2:
        return rows.copy()
    affected = np.flatnonzero(rng.random(count) < strength)
    first = rng.integers(0, width, affected.size)
    second = (first + rng.integers(1, width, affected.size)) % width
    swapped = scaled.copy()
    swapped[affected, first], swapped[affected, second] = scaled[affected, second], scaled[affected, first]
    result = rows.copy()
    result[affected] = box.original(swapped[affected])
    return result


PERTURBATIONS: Final[dict[str, Perturbation]] = {
    "auc_noise": add_noise,
    "auc_missing": lose_values,
    "auc_swap": swap_columns,
}
"""By criterion name."""
