"""Square attack for tables: random search over which columns move by +ε or −ε.

After Andriushchenko, Croce, Flammarion, Hein: *Square Attack: a query-efficient black-box adversarial attack via
random search* (ECCV 2020), L∞ variant. Columns have no neighbourhood, so the "square" is a random subset of columns
whose share shrinks by the paper's schedule. All rows are attacked side by side, one batch per step. Steps that change
nothing are accepted as well, so that a model whose answer is saturated at exactly 0 or 1 is searched at random
instead of defeating the search.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import InvalidInput
from koinon.trust.queries import Box, FloatArray, Queries

FIRST_SHARE: Final = 0.8
"""Share of columns moved in the first steps (the paper's p); 0.05–0.8 there, large because tables are narrow."""
_SCHEDULE: Final = ((0.001, 1.0), (0.005, 2.0), (0.02, 4.0), (0.05, 8.0), (0.1, 16.0), (0.2, 32.0), (0.4, 64.0))
"""After this share of the budget, p is divided by this much (the paper's halving schedule for 10,000 queries)."""


@dataclass(frozen=True, eq=False)
class SquareFinding:
    """What became of each attacked row.

    Attributes:
        broken: (rows,), whether some point within ε gets the other answer.
        queries: asked about each row at most.
    """

    broken: NDArray[np.bool_]
    queries: int


def square(
    rows: FloatArray, box: Box, threshold: float, epsilon: float, budget: int, rng: np.random.Generator
) -> Queries[SquareFinding]:
    """Try to turn the model's own answer on each row by moving every column at most ``epsilon``.

    Args:
        rows: (n, d), original units.
        box: the public ranges.
        threshold: probability from which on the answer counts as "yes".
        epsilon: largest move of a column, as a share of its range; in (0, 1].
        budget: queries per row, at least 2.

    Raises:
        InvalidInput: epsilon or budget out of range.
    """
    if not 0 < epsilon <= 1:
        raise InvalidInput(f"epsilon is a share of a column's range, above 0 and at most 1; got {epsilon}")
    if budget < 2:
        raise InvalidInput("the Square attack needs a budget of at least 2 queries per row")
    start = box.scale(rows)
    count, width = start.shape
    said_yes = (yield box.original(start)) >= threshold
    signs = rng.choice([-1.0, 1.0], start.shape)
    best = _margin((yield box.original(np.clip(start + epsilon * signs, 0, 1))), said_yes, threshold)
    for step in range(2, budget):
        active = np.flatnonzero(best >= 0)
        if not active.size:
            break
        moved = max(1, round(_share(step / budget) * width))
        chosen = np.argsort(rng.random((count, width)), axis=1)[:, :moved]
        candidate = signs.copy()
        np.put_along_axis(candidate, chosen, rng.choice([-1.0, 1.0], (count, moved)), axis=1)
        found = yield box.original(np.clip(start[active] + epsilon * candidate[active], 0, 1))
        margin = _margin(found, said_yes[active], threshold)
        better = margin <= best[active]
        signs[active[better]] = candidate[active[better]]
        best[active[better]] = margin[better]
    return SquareFinding(best < 0, budget)


def _margin(probability: FloatArray, said_yes: NDArray[np.bool_], threshold: float) -> FloatArray:
    """How far the answer is from turning; negative once it has turned."""
    distance = probability - threshold
    # An answer exactly at the threshold is "yes", so a "no" turns there and a "yes" does not.
    return np.where(said_yes, distance, np.nextafter(-distance, -np.inf))


def _share(progress: float) -> float:
    divisor = 1.0
    for after, divided_by in _SCHEDULE:
        if progress > after:
            divisor = divided_by
    return FIRST_SHARE / divisor
