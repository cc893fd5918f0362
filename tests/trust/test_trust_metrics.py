"""Metrics against scikit-learn, intervals against what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from koinon.kernel.errors import InvalidInput
from koinon.trust import metrics


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Targets with both classes, and scores with many ties."""
    rows = draw(st.integers(4, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    target = (rng.random(rows) < 0.4).astype(float)
    target[:2] = [0, 1]
    return target, rng.integers(0, draw(st.integers(2, 50)), rows) / 50


@settings(deadline=None, max_examples=40)
@given(data=labelled())
def test_metrics_are_scikit_learns(data: tuple[np.ndarray, np.ndarray]) -> None:
    target, scores = data
    ones = np.ones((1, len(target)))
    assert metrics.auc(target, scores, ones)[0] == pytest.approx(reference.roc_auc_score(target, scores))
    assert metrics.brier(target, scores, ones)[0] == pytest.approx(reference.brier_score_loss(target, scores))
    assert metrics.recall(target, scores, ones, 0.5)[0] == pytest.approx(reference.recall_score(target, scores >= 0.5))
    matrix = reference.confusion_matrix(target, scores >= 0.5)
    assert metrics.false_positive_rate(target, scores, ones, 0.5)[0] == pytest.approx(matrix[0, 1] / matrix[0].sum())
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    assert metrics.log_loss(target, scores, ones)[0] == pytest.approx(reference.log_loss(target, clipped))


@settings(deadline=None, max_examples=40)
@given(data=labelled(), seed=st.integers(0, 2**32))
def test_a_weight_counts_like_copies_of_the_row(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    target, scores = data
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(target))).astype(float)
    weights[:, :2] += 1
    for row in weights:
        copies = np.repeat(np.arange(len(target)), row.astype(int))
        for metric in (metrics.auc, metrics.log_loss, metrics.brier):
            weighted = metric(target, scores, row[None])[0]
            copied = metric(target[copies], scores[copies], np.ones((1, len(copies))))[0]
            assert weighted == pytest.approx(copied)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Two normal populations one deviation apart have an AUC of Φ(1/√2) = 0.7602."""
    rng = np.random.default_rng(8)
    target = np.r_[np.ones(60), np.zeros(60)]
    covered = 0
    for _ in range(200):
        scores = rng.standard_normal(120) + target

        def auc(weights: np.ndarray, scores: np.ndarray = scores) -> np.ndarray:
            return metrics.auc(target, scores, weights)

        interval = metrics.bootstrap(target.astype(np.intp), auc, 200, rng)
        assert interval.low <= interval.value <= interval.high
        covered += interval.low <= 0.76025 <= interval.high
    assert 178 <= covered <= 199


def test_resamples_stay_within_their_strata() -> None:
    strata = np.array([0] * 7 + [1] * 5 + [2] * 3)
    seen: list[np.ndarray] = []

    def watch(weights: np.ndarray) -> np.ndarray:
        seen.append(weights)
        return weights.sum(axis=1)

    metrics.bootstrap(strata, watch, 300, np.random.default_rng(0))
    drawn = np.concatenate(seen[1:])
    assert drawn.shape == (300, 15)
    for label, size in enumerate((7, 5, 3)):
        assert (drawn[:, strata == label].sum(axis=1) == size).all()


def test_the_same_generator_gives_the_same_interval() -> None:
    target = (np.arange(50) % 3 == 0).astype(float)
    scores = np.random.default_rng(1).random(50)
    first = metrics.performance(target, scores, 0.5, 300, np.random.default_rng(9))
    assert metrics.performance(target, scores, 0.5, 300, np.random.default_rng(9)) == first
    assert metrics.performance(target, scores, 0.5, 300, np.random.default_rng(10)) != first


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (45, 60, 0.6277, 0.8422)]
)
def test_proportions_have_wilsons_interval(successes: int, trials: int, low: float, high: float) -> None:
    interval = metrics.proportion(successes, trials)
    assert interval.low == pytest.approx(low, abs=1e-4)
    assert interval.high == pytest.approx(high, abs=1e-4)
    assert interval.low <= interval.value <= interval.high


def test_what_has_no_meaning_is_refused() -> None:
    rng = np.random.default_rng(0)
    ones = np.ones(20)
    with pytest.raises(InvalidInput, match="at least 100"):
        metrics.bootstrap(np.zeros(20, np.intp), lambda weights: weights.sum(axis=1), 99, rng)
    with pytest.raises(InvalidInput, match="both classes"):
        metrics.performance(ones, ones, 0.5, 100, rng)
    for successes, trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(InvalidInput):
            metrics.proportion(successes, trials)
