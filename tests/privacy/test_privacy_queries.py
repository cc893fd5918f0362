"""One owner's noisy answers: near the truth by as much as their noise allows, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from koinon.kernel.errors import InvalidInput
from koinon.privacy.differential import queries
from koinon.wire.committee import Column

RADIUS = load_breast_cancer().data[:, 0]
COLUMN = Column("mean radius", 5.0, 30.0)


@pytest.mark.parametrize(
    ("ask", "truth", "reach"),
    [
        # Thirty deviations of the noise, e⁻³⁰ of it beyond: a failure is a fault.
        (lambda e: queries.count(RADIUS, COLUMN, 10, 15, e), float(((RADIUS >= 10) & (RADIUS <= 15)).sum()), 31),
        (lambda e: queries.total(RADIUS, COLUMN, e), float(RADIUS.sum()), 30 * 25 + 1),
        (lambda e: queries.mean(RADIUS, COLUMN, e), float(RADIUS.mean()), 30 * 25 / 569 + 0.01),
        (lambda e: queries.quantile(RADIUS, COLUMN, 0.5, e), float(np.median(RADIUS)), 2.0),
    ],
)
def test_answers_are_near_the_truth(ask: Callable[[float], float], truth: float, reach: float) -> None:
    assert abs(ask(1.0) - truth) <= reach


def test_a_histogram_has_a_noisy_count_for_every_bin() -> None:
    counts, edges = queries.histogram(RADIUS, COLUMN, 5, 1.0)
    exact, _ = np.histogram(RADIUS, edges)
    assert np.abs(counts - exact).max() <= 62
    assert (counts == np.round(counts)).all()


def test_a_smaller_epsilon_brings_more_noise() -> None:
    def spread(epsilon: float) -> float:
        return float(np.std([queries.count(RADIUS, COLUMN, 10, 15, epsilon) for _ in range(10)]))

    assert spread(0.001) > 5 * spread(10.0)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: queries.count(RADIUS, COLUMN, 15, 10, 1.0), "lower end"),
        (lambda: queries.total(RADIUS, COLUMN, 0.0), "ε above 0"),
        (lambda: queries.mean(RADIUS, COLUMN, float("nan")), "ε above 0"),
        (lambda: queries.histogram(RADIUS, COLUMN, 0, 1.0), "1 to 1000 bins"),
        (lambda: queries.quantile(RADIUS, COLUMN, 1.0, 1.0), "between 0 and 1"),
        (lambda: queries.mean(RADIUS * 2, COLUMN, 1.0), "outside its public range"),
        (lambda: queries.mean(np.array([np.nan]), COLUMN, 1.0), "missing or outside"),
        (lambda: queries.mean(np.array([]), COLUMN, 1.0), "at least one row"),
    ],
)
def test_unusable_questions_are_refused(ask: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        ask()
