"""Ordinary trouble, fairness, privacy and data: each measure finds what was planted and says when it cannot measure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.kernel.errors import InvalidInput
from koinon.trust import data, fairness, privacy
from koinon.trust.perturbations import PERTURBATIONS, add_noise, lose_values, swap_columns
from koinon.trust.queries import Box, answer, ask, probabilities

BOX = Box(np.array([0.0, -10.0, 100.0]), np.array([1.0, 10.0, 5000.0]))


def some_rows(count: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(BOX.low, BOX.high, (count, 3))


@pytest.mark.parametrize("name", PERTURBATIONS)
@settings(deadline=None, max_examples=20)
@given(strength=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_trouble_stays_inside_the_ranges_and_none_is_none(name: str, strength: float, seed: int) -> None:
    rows = some_rows(40)
    troubled = PERTURBATIONS[name](rows, BOX, strength, np.random.default_rng(seed))
    assert troubled.shape == rows.shape
    tolerance = 1e-9 * (BOX.high - BOX.low)
    assert (troubled >= BOX.low - tolerance).all()
    assert (troubled <= BOX.high + tolerance).all()
    untouched = PERTURBATIONS[name](rows, BOX, 0.0, np.random.default_rng(seed))
    assert np.abs(untouched - rows).max() < 1e-9
    again = PERTURBATIONS[name](rows, BOX, strength, np.random.default_rng(seed))
    assert (again == troubled).all()


def test_each_trouble_does_what_it_says() -> None:
    rows, rng = some_rows(5000), np.random.default_rng(1)
    middle = BOX.original(np.full((5000, 3), 0.5))
    assert BOX.scale(add_noise(middle, BOX, 0.05, rng)).std() == pytest.approx(0.05, rel=0.05)
    lost = lose_values(rows, BOX, 0.1, rng)
    medians = np.median(rows, axis=0)
    assert (lost != rows).mean() == pytest.approx(0.1, abs=0.01)
    assert (lost[lost != rows] == np.broadcast_to(medians, rows.shape)[lost != rows]).all()
    swapped = BOX.scale(swap_columns(rows, BOX, 0.3, rng))
    changed = np.abs(swapped - BOX.scale(rows)).max(axis=1) > 1e-9
    assert changed.mean() == pytest.approx(0.3, abs=0.03)
    assert np.abs(np.sort(swapped, axis=1) - np.sort(BOX.scale(rows), axis=1)).max() < 1e-9


def test_a_planted_unfairness_is_found_and_a_fair_model_has_intervals_near_zero() -> None:
    rng = np.random.default_rng(2)
    column = rng.uniform(0, 1, 1500)
    target = (rng.random(1500) < 0.5).astype(float)
    fair = np.where(rng.random(1500) < 0.9, target, 1 - target)
    # In the highest third, four of ten positive rows are missed.
    missed = (column > 2 / 3) & (target == 1) & (rng.random(1500) < 0.4)
    unfair = np.where(missed, 0.0, fair)
    found = {
        name: fairness.gaps(target, scores, column, 0.5, 400, np.random.default_rng(0)).gaps
        for name, scores in (("fair", fair), ("unfair", unfair))
    }
    assert found["unfair"]["fairness_recall_gap"].low > 0.2
    assert found["fair"]["fairness_recall_gap"].value < 0.08
    assert found["unfair"]["fairness_false_positive_gap"].value < 0.08
    assert found["unfair"]["fairness_auc_gap"].low > 0.1


def test_gaps_equal_the_differences_of_the_groups() -> None:
    rng = np.random.default_rng(3)
    column, target, scores = rng.random(300), (rng.random(300) < 0.4).astype(float), rng.random(300)
    found = fairness.gaps(target, scores, column, 0.5, 100, rng)
    groups = fairness.tertiles(column)
    recalls = [float((scores[(groups == g) & (target == 1)] >= 0.5).mean()) for g in range(3)]
    assert found.gaps["fairness_recall_gap"].value == pytest.approx(max(recalls) - min(recalls))
    assert sum(positive + negative for positive, negative in found.group_rows) == 300
    assert all(abs(sum(pair) - 100) <= 1 for pair in found.group_rows)


def test_a_group_without_enough_rows_makes_a_gap_absent_and_not_zero() -> None:
    column = np.arange(90, dtype=float)
    target = (column >= 30).astype(float) * (np.arange(90) % 2)
    found = fairness.gaps(target, np.linspace(0, 1, 90), column, 0.5, 100, np.random.default_rng(0))
    assert set(found.gaps) == {"fairness_false_positive_gap"}
    assert set(found.absent) == {"fairness_recall_gap", "fairness_auc_gap"}
    with pytest.raises(InvalidInput, match="too few different values"):
        fairness.gaps(target, column, np.ones(90), 0.5, 100, np.random.default_rng(0))


def test_a_model_that_remembers_its_rows_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(4)
    leaky = privacy.membership_advantage(rng.exponential(0.1, 300), rng.exponential(1.0, 300), 400, rng)
    assert leaky.low > 0.4
    silent = privacy.membership_advantage(rng.exponential(1.0, 300), rng.exponential(1.0, 300), 400, rng)
    assert silent.low < 0 < silent.high
    with pytest.raises(InvalidInput, match="at least 20 members"):
        privacy.membership_advantage(np.ones(19), np.ones(100), 400, rng)


def test_the_membership_threshold_is_not_chosen_on_the_rows_it_is_measured_on() -> None:
    """Choosing the best of 120 thresholds on the same rows would score about 0.15 where there is nothing to find."""
    rng = np.random.default_rng(5)
    scores = [privacy.membership_advantage(rng.random(60), rng.random(60), 100, rng).value for _ in range(60)]
    assert abs(float(np.mean(scores))) < 0.04


def test_extraction_copies_a_linear_model_and_hardly_a_chequerboard() -> None:
    rows = some_rows()

    def linear(asked: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-20 * (BOX.scale(asked) @ np.array([1.0, -2.0, 0.5]) + 0.1)))

    def chequered(asked: np.ndarray) -> np.ndarray:
        return (np.floor(BOX.scale(asked) * 4).sum(axis=1) % 2 == 0).astype(float)

    copied = answer(privacy.extraction(rows, BOX, 0.5, 500, np.random.default_rng(0)), linear)
    assert copied.value > 0.97
    guessed = answer(privacy.extraction(rows, BOX, 0.5, 500, np.random.default_rng(0)), chequered)
    assert guessed.value < 0.7
    with pytest.raises(InvalidInput, match="more than 3 queries"):
        answer(privacy.extraction(rows, BOX, 0.5, 3, np.random.default_rng(0)), linear)


def test_faults_of_rows_are_counted() -> None:
    features = np.array([[1.0, 5.0, 9.0], [1.0, 6.0, 9.0], [1.0, 5.0, 9.0], [1.0, np.nan, 99.0]])
    found = data.examine(features, np.array([1.0, 0, 1, 1]), np.zeros(3), np.array([2.0, 10, 10]))
    assert found == data.DataFinding(duplicates=0.25, missing=1 / 12, constant=1 / 3, outside=1 / 12, minority=0.25)


@pytest.mark.parametrize(
    "bad",
    [
        np.array([0.5, np.nan], np.float32),
        np.array([0.5, 1.5], np.float32),
        np.array([-0.1, 0.5], np.float32),
        np.array([0.5], np.float32),
        np.array([[0.5, 0.5]], np.float32),
    ],
)
async def test_answers_that_are_no_probabilities_stop_a_measurement(bad: np.ndarray) -> None:
    async def predict(_: np.ndarray) -> np.ndarray:
        return bad

    def question() -> object:
        yield np.zeros((2, 3))

    with pytest.raises(InvalidInput, match=r"probability|one per row"):
        await ask(question(), predict)


async def test_many_rows_are_asked_about_in_batches_and_put_together_in_order() -> None:
    sizes: list[int] = []

    async def predict(rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return rows[:, 0]

    rows = np.random.default_rng(0).random((2500, 1000))
    assert (await probabilities(predict, rows) == rows[:, 0].astype(np.float32)).all()
    assert sizes == [1000, 1000, 500]
    assert (await probabilities(predict, rows[:0])).shape == (0,)
