"""HopSkipJump for tables: how far the nearest other answer is, found from yes/no answers only.

After Chen, Jordan, Wainwright: *HopSkipJumpAttack: a query-efficient decision-based attack* (IEEE S&P 2020), L∞
variant: binary search to the boundary, estimate of the boundary's normal from random directions (their equation 9,
with the mean of the answers as baseline), a step along its sign with geometrically halved length, and again. All rows
move side by side, so that every query round is one batch. The attack is unbounded in ε: its result is a distance,
never a "robust accuracy".
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import InvalidInput
from koinon.trust.queries import Box, FloatArray, Queries

FIRST_DIRECTIONS: Final = 20
"""Random directions in the first estimate (the paper's B0 is 100 for 3072 pixels); grows with the square root."""
START_TRIALS: Final = 20
BISECTIONS: Final = 10
"""Steps of a binary search: the boundary is found to 1/1024 of the way."""
STEP_HALVINGS: Final = 8


@dataclass(frozen=True, eq=False)
class HopSkipJumpFinding:
    """What became of each attacked row.

    Attributes:
        distance: (rows,), L∞ distance in shares of the columns' ranges to the nearest other answer found; infinite
        where
            none was found at all.
        curve: after each iteration, queries per row so far and the median distance.
        queries: asked about each row at most.
    """

    distance: FloatArray
    curve: tuple[tuple[int, float], ...]
    queries: int


@dataclass
class _Search:
    """The rows under attack, in [0, 1]; ``adversarial`` always gets the other answer where ``found``."""

    start: FloatArray
    said_yes: NDArray[np.bool_]
    adversarial: FloatArray
    found: NDArray[np.bool_]
    box: Box
    threshold: float
    spent: int = 0
    curve: list[tuple[int, float]] = field(default_factory=list)

    def other(self, points: FloatArray) -> Generator[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Whether each of points (rows, k, columns) gets the other answer: (rows, k). Costs k queries per row."""
        rows, trials, width = points.shape
        answers = yield self.box.original(points.reshape(-1, width))
        self.spent += trials
        yes: NDArray[np.bool_] = (answers >= self.threshold).reshape(rows, trials)
        return np.not_equal(yes, self.said_yes[:, None])

    def distance(self) -> FloatArray:
        return np.where(self.found, np.abs(self.adversarial - self.start).max(axis=1), np.inf)


def hop_skip_jump(
    rows: FloatArray, box: Box, threshold: float, budget: int, rng: np.random.Generator
) -> Queries[HopSkipJumpFinding]:
    """Find, for each row, a near point that gets the other answer.

    Args:
        rows: (n, d), original units.
        box: the public ranges.
        threshold: probability from which on the answer counts as "yes".
        budget: queries per row, at least 100.

    Raises:
        InvalidInput: the budget is too small to do anything.
    """
    if budget < 100:
        raise InvalidInput("HopSkipJump needs a budget of at least 100 queries per row")
    start = box.scale(rows)
    count = len(start)
    said_yes = (yield box.original(start)) >= threshold
    search = _Search(start, said_yes, start.copy(), np.zeros(count, bool), box, threshold, spent=1)
    yield from _find_starts(search, rng)
    yield from _bisect(search)
    search.curve.append((search.spent, float(np.median(search.distance()))))
    iteration = 1
    while True:
        directions = round(FIRST_DIRECTIONS * sqrt(iteration))
        if search.spent + directions + STEP_HALVINGS + BISECTIONS > budget:
            break
        yield from _iterate(search, directions, iteration, rng)
        search.curve.append((search.spent, float(np.median(search.distance()))))
        iteration += 1
    return HopSkipJumpFinding(search.distance(), tuple(search.curve), search.spent)


def _find_starts(search: _Search, rng: np.random.Generator) -> Generator[FloatArray, FloatArray, None]:
    """A point with the other answer for every row: among the attacked rows of the other answer, or random."""
    count, width = search.start.shape
    candidates = np.empty((count, START_TRIALS, width))
    for row in range(count):
        others = np.flatnonzero(search.said_yes != search.said_yes[row])
        if others.size:
            picked = search.start[rng.choice(others, START_TRIALS // 2)]
            candidates[row, : START_TRIALS // 2] = picked
        else:
            candidates[row, : START_TRIALS // 2] = rng.integers(0, 2, (START_TRIALS // 2, width))
        candidates[row, START_TRIALS // 2 :] = rng.random((START_TRIALS - START_TRIALS // 2, width))
    good = yield from search.other(candidates)
    distance = np.where(good, np.abs(candidates - search.start[:, None]).max(axis=2), np.inf)
    nearest = distance.argmin(axis=1)
    search.found = np.asarray(good.any(axis=1))
    search.adversarial = np.where(search.found[:, None], candidates[np.arange(count), nearest], search.start)


def _bisect(search: _Search) -> Generator[FloatArray, FloatArray, None]:
    """Move every adversarial point back to the boundary: shrink the L∞ ball around the start that it is clipped to."""
    far = np.abs(search.adversarial - search.start).max(axis=1)
    near = np.zeros_like(far)
    best = search.adversarial
    for _ in range(BISECTIONS):
        radius = (near + far) / 2
        candidate = np.clip(search.adversarial, search.start - radius[:, None], search.start + radius[:, None])
        other = (yield from search.other(candidate[:, None]))[:, 0] & search.found
        best = np.where(other[:, None], candidate, best)
        far = np.where(other, radius, far)
        near = np.where(other, near, radius)
    search.adversarial = best


def _iterate(
    search: _Search, directions: int, iteration: int, rng: np.random.Generator
) -> Generator[FloatArray, FloatArray, None]:
    """One estimate of the normal, one step, one binary search. A row whose distance would grow keeps its old point."""
    count, width = search.start.shape
    before, distance = search.adversarial, search.distance()
    finite = np.where(search.found, distance, 0.0)
    # The paper's δ = d·θ·distance with θ = d^(−2) for L∞, bounded below by what 32-bit inputs can tell apart.
    radius = np.maximum(finite / width, 1e-4)
    noise = rng.standard_normal((count, directions, width))
    noise /= np.abs(noise).max(axis=2, keepdims=True)
    probes = np.clip(before[:, None] + radius[:, None, None] * noise, 0, 1)
    other = yield from search.other(probes)
    signs = np.where(other, 1.0, -1.0)
    mean = signs.mean(axis=1, keepdims=True)
    # Where all answers agree the baseline would cancel them; the paper then uses the plain mean.
    centred = np.where(np.abs(mean) == 1.0, signs, signs - mean)
    normal = np.sign((centred[:, :, None] * (probes - before[:, None])).mean(axis=1))
    step = finite / sqrt(iteration)
    stepped, moved = before.copy(), np.zeros(count, bool)
    for _ in range(STEP_HALVINGS):
        candidate = np.clip(before + step[:, None] * normal, 0, 1)
        better = (yield from search.other(candidate[:, None]))[:, 0] & search.found & ~moved
        stepped = np.where(better[:, None], candidate, stepped)
        moved |= better
        step = step / 2
        if moved[search.found].all():
            break
    search.adversarial = stepped
    yield from _bisect(search)
    worse = search.distance() > distance
    search.adversarial = np.where(worse[:, None], before, search.adversarial)
