"""Attacks break what can be broken, stay inside their bounds, count their queries, and fail loudly on the canary."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.kernel.errors import InvalidInput, Refused
from koinon.trust.attacks import canary
from koinon.trust.attacks.hop_skip_jump import HopSkipJumpFinding, hop_skip_jump
from koinon.trust.attacks.square import square
from koinon.trust.queries import Box, answer

BOX = Box(np.linspace(-5, 20, 10), np.linspace(-5, 20, 10) + np.geomspace(0.01, 1000, 10))


class Watched:
    """A model that notes every point it is asked about, in [0, 1]."""

    def __init__(self, model: Callable[[np.ndarray], np.ndarray]) -> None:
        self.model = model
        self.asked: list[np.ndarray] = []

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        scaled = (rows - BOX.low) / (BOX.high - BOX.low)
        self.asked.append(scaled)
        return self.model(scaled)


def linear(weights: np.ndarray, steepness: float = 20.0) -> Callable[[np.ndarray], np.ndarray]:
    return lambda scaled: 1 / (1 + np.exp(-np.clip(steepness * ((scaled - 0.5) @ weights), -500, 500)))


def start_rows(count: int, seed: int = 0, spread: float = 0.3) -> np.ndarray:
    return BOX.original(0.5 + np.random.default_rng(seed).uniform(-spread, spread, (count, 10)))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), epsilon=st.floats(0.001, 0.5), budget=st.integers(2, 60))
def test_square_never_leaves_epsilon_the_box_or_its_budget(seed: int, epsilon: float, budget: int) -> None:
    rows = start_rows(8, seed, spread=0.5)
    watched = Watched(linear(np.random.default_rng(seed).standard_normal(10)))
    answer(square(rows, BOX, 0.5, epsilon, budget, np.random.default_rng(seed)), watched)
    assert len(watched.asked) <= budget
    start = BOX.scale(rows)
    for points in watched.asked:
        assert (points >= -1e-9).all()
        assert (points <= 1 + 1e-9).all()
        nearest = np.abs(points[:, None] - start[None]).max(axis=2).min(axis=1)
        assert (nearest <= epsilon + 1e-9).all()


def test_square_breaks_exactly_the_rows_that_a_linear_model_lets_it_break() -> None:
    """The L∞ distance to a linear boundary is |w·u − b| / Σ|w|: rows below ε must fall, rows above cannot."""
    weights = np.random.default_rng(3).uniform(0.5, 1.5, 10)
    rows = start_rows(200)
    distance = np.abs((BOX.scale(rows) - 0.5) @ weights) / weights.sum()
    epsilon = float(np.median(distance))
    found = answer(square(rows, BOX, 0.5, epsilon, 400, np.random.default_rng(1)), Watched(linear(weights)))
    assert not found.broken[distance > epsilon].any()
    assert found.broken[distance < 0.8 * epsilon].mean() > 0.97


def test_square_finds_its_way_where_answers_are_saturated() -> None:
    rows = BOX.original(np.full((30, 10), 0.52))
    hard = Watched(lambda scaled: (linear(np.ones(10))(scaled) >= 0.5).astype(float))
    found = answer(square(rows, BOX, 0.5, 0.05, 300, np.random.default_rng(1)), hard)
    assert found.broken.mean() > 0.9


def test_a_constant_model_is_broken_by_nothing() -> None:
    constant = Watched(lambda scaled: np.full(len(scaled), 0.7))
    rows = start_rows(12)
    assert not answer(square(rows, BOX, 0.5, 0.3, 50, np.random.default_rng(0)), constant).broken.any()
    found = answer(hop_skip_jump(rows, BOX, 0.5, 200, np.random.default_rng(0)), constant)
    assert np.isinf(found.distance).all()


def test_an_answer_on_the_threshold_counts_as_yes() -> None:
    on_threshold = Watched(lambda scaled: np.where(scaled[:, 0] > 0.53, 0.5, 0.4))
    rows = BOX.original(np.full((4, 10), 0.52))
    assert answer(square(rows, BOX, 0.5, 0.1, 100, np.random.default_rng(0)), on_threshold).broken.all()


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32), budget=st.integers(100, 400))
def test_hop_skip_jump_reports_points_that_really_turn_the_answer(seed: int, budget: int) -> None:
    weights = np.random.default_rng(seed).standard_normal(10)
    rows = start_rows(10, seed)
    watched = Watched(linear(weights))
    found = answer(hop_skip_jump(rows, BOX, 0.5, budget, np.random.default_rng(seed)), watched)
    assert found.queries <= budget
    assert sum(len(points) for points in watched.asked) == found.queries * 10
    true = np.abs((BOX.scale(rows) - 0.5) @ weights) / np.abs(weights).sum()
    assert (found.distance >= true - 1e-9).all()
    medians = [median for _, median in found.curve]
    assert medians == sorted(medians, reverse=True)
    for points in watched.asked:
        assert (points >= -1e-9).all()
        assert (points <= 1 + 1e-9).all()


def test_hop_skip_jump_comes_near_the_true_distance_and_nearer_with_more_queries() -> None:
    weights = np.random.default_rng(4).uniform(0.5, 1.5, 10)
    rows = start_rows(40)
    true = np.abs((BOX.scale(rows) - 0.5) @ weights) / weights.sum()
    factors = []
    for budget in (100, 300, 1500):
        found = answer(hop_skip_jump(rows, BOX, 0.5, budget, np.random.default_rng(2)), Watched(linear(weights)))
        factors.append(float(np.median(found.distance / true)))
    assert factors[0] > factors[1] > factors[2]
    assert factors[2] < 1.15


@pytest.mark.parametrize(
    ("width", "epsilon"), [(1, 0.03), (2, 0.005), (2, 1.0), (3, 0.3), (30, 0.005), (30, 0.03), (30, 1.0), (100, 0.3)]
)
def test_working_attacks_pass_the_canary_at_every_width(width: int, epsilon: float) -> None:
    box = Box(np.zeros(width), np.ones(width))
    # Random search over signs needs queries in proportion to the columns; the canary says when they are too few.
    budget = max(300, 15 * width)
    assert canary.check_square(box, epsilon, budget, np.random.default_rng(1)) >= 0.95
    assert canary.check_hop_skip_jump(box, epsilon, budget, np.random.default_rng(1)) <= 3.0


def test_the_canarys_distances_are_true() -> None:
    made = canary.Canary.make(BOX, 0.05, np.random.default_rng(0))
    scaled = BOX.scale(made.rows)
    said_yes = made.probability(made.rows) >= 0.5
    step = np.sign(made.weights) * np.where(said_yes, 1.0, -1.0)[:, None] * made.distance[:, None]
    assert (made.distance <= 0.05 / 2 + 1e-9).all()
    assert ((made.probability(BOX.original(scaled - 0.999 * step)) >= 0.5) == said_yes).all()
    assert ((made.probability(BOX.original(scaled - 1.001 * step)) >= 0.5) != said_yes).all()


def test_an_attack_that_does_nothing_fails_the_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="the evaluation is invalid: with 2 queries"):
        canary.check_square(BOX, 0.03, 2, np.random.default_rng(0))

    def lazy(rows: np.ndarray, box: Box, *_: object) -> object:
        yield box.original(box.scale(rows))
        return HopSkipJumpFinding(np.full(len(rows), 1.0), ((1, 1.0),), 1)

    monkeypatch.setattr(canary, "hop_skip_jump", lazy)
    with pytest.raises(Refused, match="HopSkipJump stays"):
        canary.check_hop_skip_jump(BOX, 0.03, 500, np.random.default_rng(0))


def test_budgets_and_bounds_without_sense_are_refused() -> None:
    rows, rng = start_rows(2), np.random.default_rng(0)
    watched = Watched(linear(np.ones(10)))
    for epsilon, budget in ((0.0, 10), (1.5, 10), (-1.0, 10), (float("nan"), 10), (0.1, 1)):
        with pytest.raises(InvalidInput):
            answer(square(rows, BOX, 0.5, epsilon, budget, rng), watched)
    with pytest.raises(InvalidInput):
        answer(hop_skip_jump(rows, BOX, 0.5, 99, rng), watched)
    assert not watched.asked


def test_the_same_seed_asks_the_same_questions() -> None:
    asked = []
    for _ in range(2):
        watched = Watched(linear(np.ones(10)))
        answer(square(start_rows(5), BOX, 0.5, 0.1, 50, np.random.default_rng(7)), watched)
        answer(hop_skip_jump(start_rows(5), BOX, 0.5, 200, np.random.default_rng(7)), watched)
        asked.append(np.concatenate(watched.asked))
    assert (asked[0] == asked[1]).all()
