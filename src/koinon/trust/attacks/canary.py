"""A model that is weak by construction: an attack that does not break it has not been carried out.

The canary is linear in the scaled columns, ``p(u) = sigmoid(k (w·u − b))``, with rows laid at known
distances from its boundary: the L∞ distance of u is exactly ``|w·u − b| / sum |w|`` (Hölder). Square must turn nearly
all rows that lie within half of ε; HopSkipJump must come within a factor of the known distances. An evaluation whose
canary survives is refused as a whole, because its other numbers would only look like robustness.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.kernel.errors import Refused
from koinon.trust.attacks.hop_skip_jump import hop_skip_jump
from koinon.trust.attacks.square import square
from koinon.trust.queries import Box, FloatArray, answer

ROWS: Final = 40
THRESHOLD: Final = 0.5
REQUIRED_BROKEN: Final = 0.95
_SLOPE: Final = 4.0
ALLOWED_FACTOR: Final = 3.0
"""The median of found over true distance must not exceed this; a failed search ends at ten times and more."""


@dataclass(frozen=True, eq=False)
class Canary:
    """A weak linear model over a box, and rows at known distances from its boundary.

    Attributes:
        rows: (ROWS, d), original units.
        distance: (ROWS,), true L∞ distance to the other answer, in shares of the ranges.
        farthest: largest of these; the answer there is about 0.98, so that no row is saturated.
    """

    box: Box
    weights: FloatArray
    offset: float
    rows: FloatArray
    distance: FloatArray
    farthest: float

    @classmethod
    def make(cls, box: Box, epsilon: float, rng: np.random.Generator) -> "Canary":
        """Rows between 10 % and 50 % of ``epsilon`` away from the boundary, half on each side."""
        width = len(box.low)
        weights = rng.choice([-1.0, 1.0], width) * rng.uniform(0.5, 1.5, width)
        middle = rng.uniform(0.4, 0.6, (ROWS, width))
        offset = float(weights.sum() / 2)
        total = np.abs(weights).sum()
        # Project to the boundary along the weights, then step off it by the wanted L∞ distance.
        on_boundary = middle - np.outer((middle @ weights - offset) / (weights @ weights), weights)
        farthest = min(epsilon, 0.2) / 2
        distance = rng.uniform(0.2, 1.0, ROWS) * farthest
        side = np.where(np.arange(ROWS) % 2 == 0, 1.0, -1.0)
        rows = on_boundary + np.outer(side * distance, np.sign(weights))
        return cls(box, weights, offset, box.original(rows), np.abs(rows @ weights - offset) / total, farthest)

    def probability(self, rows: FloatArray) -> FloatArray:
        distance = (self.box.scale(rows) @ self.weights - self.offset) / np.abs(self.weights).sum()
        return np.asarray(1 / (1 + np.exp(-np.clip(_SLOPE * distance / self.farthest, -500, 500))))


def check_square(box: Box, epsilon: float, budget: int, rng: np.random.Generator) -> float:
    """Share of the canary's rows that Square breaks. Raises Refused where that is too few."""
    canary = Canary.make(box, epsilon, rng)
    finding = answer(square(canary.rows, box, THRESHOLD, epsilon, budget, rng), canary.probability)
    broken = float(finding.broken.mean())
    if broken < REQUIRED_BROKEN:
        raise Refused(
            f"the evaluation is invalid: with {budget} queries the Square attack breaks only {broken:.0%} of a model "
            "that is weak by construction; allow it more queries"
        )
    return broken


def check_hop_skip_jump(box: Box, epsilon: float, budget: int, rng: np.random.Generator) -> float:
    """Median of found over true distance on the canary. Raises Refused where HopSkipJump stays too far away."""
    canary = Canary.make(box, epsilon, rng)
    finding = answer(hop_skip_jump(canary.rows, box, THRESHOLD, budget, rng), canary.probability)
    factor = float(np.median(finding.distance / canary.distance))
    if not factor <= ALLOWED_FACTOR:
        raise Refused(
            f"the evaluation is invalid: with {budget} queries HopSkipJump stays {factor:.1f} times farther away than "
            "the known distance of a model that is weak by construction; allow it more queries"
        )
    return factor
