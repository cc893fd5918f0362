"""What is divided by a secret count is as precise for large groups as for small ones, and long curves fit."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.naive_bayes import GaussianNB

from koinon.privacy import statistics
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.learn.bayes import GaussianBayes
from koinon.privacy.learn.clusters import KMeans
from koinon.privacy.learn.preparation import MeanFill
from koinon.privacy.learn.survival import FittedCox
from koinon.privacy.rep4.simulation import SimulatedRep4

PEOPLE = 20_000
"""Where a mean by a quotient of 20 fraction bits is off by almost 1 %."""


def people() -> np.ndarray:
    """(n, 3) two numbers in [−1, 1] and a code of three, of which the last is rare."""
    random = np.random.default_rng(3)
    code = random.choice(3, PEOPLE, p=[0.6, 0.39, 0.01])
    numbers = np.clip(random.normal(0.3, 0.3, (PEOPLE, 2)) + code[:, None] / 8, -1, 1)
    return np.column_stack([numbers, code])


def shared(rows: np.ndarray) -> PlainInput:
    return table(rows, ["one", "two", "code"], [(-1.0, 1.0), (-1.0, 1.0), (-2.0, 2.0)])


def opened(function: Callable[[SecretArray], Revealed], rows: np.ndarray) -> np.ndarray:
    return np.asarray(run(function, [shared(rows)], ClearBackend()).outputs["found"])


def test_means_and_variances_of_large_groups_are_exact() -> None:
    rows = people()

    def groups(x: SecretArray) -> Revealed:
        found = GaussianBayes(3).fit(x[:, :2], x[:, 2].times(2))
        return reveal(found=found.means, spread=found.variances)

    found = run(groups, [shared(rows)], ClearBackend(), scaled=True).outputs
    plain = GaussianNB().fit(rows[:, :2], rows[:, 2])
    assert np.abs(found["found"] - plain.theta_).max() < 4e-6
    assert np.abs(found["spread"] - 1e-4 - plain.var_).max() < 1e-5


def test_a_large_column_is_filled_in_by_its_exact_mean() -> None:
    rows = people()
    found = opened(lambda x: reveal(found=MeanFill().fit(x[:, :2], x[:, :2] > 0.5).numbers), rows)
    kept = rows[:, :2] <= 0.5
    assert np.abs(found - (rows[:, :2] * kept).sum(0) / kept.sum(0)).max() < 4e-6


def test_centres_of_large_groups_are_exact() -> None:
    rows = people()[:, :2]
    found = run(
        lambda x: reveal(found=KMeans(2, 3, 1).fit(x).centres), [table(rows, ranges=[(-1.0, 1.0)] * 2)], ClearBackend()
    ).outputs["found"]
    centres = rows[np.sort(np.random.default_rng(1).choice(len(rows), 2, replace=False))]
    for _ in range(3):
        nearest = ((rows[:, None] - centres) ** 2).sum(2).argmin(1)
        centres = np.array([rows[nearest == number].mean(0) for number in range(2)])
    # A row in the very middle may go to either.
    assert np.abs(found - centres).max() < 5e-5


def test_independence_of_many_people_is_scipys() -> None:
    rows = people()
    codes = np.random.default_rng(4).choice(2, PEOPLE, p=[0.5, 0.5])
    rows = np.column_stack([rows[:, 2], codes, codes])

    def independence(x: SecretArray) -> Revealed:
        counts = statistics.contingency(x[:, 0], x[:, 1], (3, 2))
        return reveal(found=statistics.chi_square(counts, PEOPLE).statistic)

    wide = table(rows, ["one", "two", "three"], [(-2.0, 2.0)] * 3)
    found = run(independence, [wide], ClearBackend()).outputs["found"]
    counts = np.histogram2d(rows[:, 0], rows[:, 1], (3, 2))[0]
    assert abs(found - stats.chi2_contingency(counts, correction=False).statistic) < 0.02


@pytest.mark.parametrize("engine", [ClearBackend(), SimulatedRep4()], ids=lambda engine: engine.name)
def test_a_curve_of_a_hundred_times_is_scipys(engine: Backend) -> None:
    """The bound of a product of shares does not grow with their number."""
    random = np.random.default_rng(5)
    rows = np.column_stack([random.integers(1, 101, 150), random.random(150) < 0.6]).astype(float)
    times = [float(time) for time in range(1, 101)]
    found = run(
        lambda x: reveal(found=statistics.kaplan_meier(x[:, 0], x[:, 1] > 0.5, times)), [table(rows)], engine
    ).outputs["found"]
    curve = stats.ecdf(stats.CensoredData.right_censored(rows[:, 0], rows[:, 1] < 0.5)).sf
    assert np.abs(found - curve.evaluate(times)).max() < 1e-4


def test_a_concordance_counts_ties_as_harrell_does() -> None:
    """An event precedes who was last seen at its time, and of two that are as likely either may be the first."""
    random = np.random.default_rng(6)
    level, last = random.integers(0, 3, 300).astype(float), random.integers(1, 9, 300).astype(float)
    seen = random.random(300) < 0.6

    def score(x: SecretArray) -> Revealed:
        rows, nothing = x[:, :1], x[0, :1] * 0.0
        model = FittedCox(nothing + 1.0, nothing[0], nothing.reshape(1, 1))
        return reveal(found=model.score(rows, x[:, 1], x[:, 2] > 0.5).reshape(1))

    found = run(score, [table(np.column_stack([level, last, seen]))], ClearBackend()).outputs["found"]
    earlier = (last[:, None] < last) | ((last[:, None] == last) & ~seen)
    known = earlier & seen[:, None]
    right = (known & (level[:, None] > level)).sum() + (known & (level[:, None] == level)).sum() / 2
    assert abs(found[0] - right / known.sum()) < 1e-5
