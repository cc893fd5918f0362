"""Statistics on secret arrays against NumPy and SciPy, on both engines."""

import numpy as np
import pytest
from scipy import stats

from koinon.kernel.errors import InvalidInput
from koinon.privacy import statistics
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.rep4.simulation import SimulatedRep4

ENGINES: list[Backend] = [ClearBackend(), SimulatedRep4()]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)


def people(count: int, seed: int) -> np.ndarray:
    """Three measurements, of which two go together; a group of 3; one of 4; duration 1 to 6; whether it ended."""
    random = np.random.default_rng(seed)
    measured = random.normal(size=(count, 3))
    measured[:, 2] += measured[:, 0] / 2
    group = random.integers(0, 3, count)
    other = (group + random.integers(0, 2, count)) % 4
    return np.column_stack([measured, group, other, random.integers(1, 7, count), random.integers(0, 2, count)])


@each_engine
def test_moments_and_correlations_are_numpys(engine: Backend) -> None:
    rows = people(90, 1)[:, :3]

    def moments(x: SecretArray) -> Revealed:
        return reveal(
            variance=statistics.variance(x, freedom=1),
            deviation=statistics.deviation(x),
            covariance=statistics.covariance(x),
            correlation=statistics.correlation(x),
        )

    found = run(moments, [table(rows)], engine).outputs
    assert np.abs(found["variance"] - rows.var(0, ddof=1)).max() < 1e-5
    assert np.abs(found["deviation"] - rows.std(0)).max() < 1e-5
    assert np.abs(found["covariance"] - np.cov(rows.T)).max() < 1e-5
    assert np.abs(found["correlation"] - np.corrcoef(rows.T)).max() < 1e-5


@each_engine
def test_counts_are_exact(engine: Backend) -> None:
    rows = people(90, 2)
    edges = [-2.0, -0.5, 0.0, 1.0, 2.0]

    def counts(x: SecretArray) -> Revealed:
        return reveal(
            histogram=statistics.histogram(x[:, 0], edges), table=statistics.contingency(x[:, 3], x[:, 4], (3, 4))
        )

    found = run(counts, [table(rows)], engine).outputs
    want = np.zeros((3, 4))
    np.add.at(want, (rows[:, 3].astype(int), rows[:, 4].astype(int)), 1)
    assert found["histogram"].tolist() == np.histogram(rows[:, 0], edges)[0].tolist()
    assert found["table"].tolist() == want.tolist()


@each_engine
def test_tests_are_scipys(engine: Backend) -> None:
    rows = people(120, 3)

    def both(x: SecretArray) -> Revealed:
        welch = statistics.welch(x[:50, 0], x[:, 2])
        assert isinstance(welch.freedom, SecretArray)
        counts = statistics.contingency(x[:, 3], x[:, 4], (3, 4))
        return reveal(t=welch.statistic, freedom=welch.freedom, chi=statistics.chi_square(counts, 120).statistic)

    found = run(both, [table(rows)], engine).outputs
    want = stats.ttest_ind(rows[:50, 0], rows[:, 2], equal_var=False)
    counts = np.zeros((3, 4))
    np.add.at(counts, (rows[:, 3].astype(int), rows[:, 4].astype(int)), 1)
    assert abs(found["t"] - want.statistic) < 1e-3
    assert abs(found["freedom"] / want.df - 1) < 1e-3
    assert abs(found["chi"] - stats.chi2_contingency(counts, correction=False).statistic) < 0.02


def test_a_t_test_of_many_people_is_scipys() -> None:
    random = np.random.default_rng(9)
    rows = random.uniform(-1, 1, (20_000, 2)) * [0.3, 0.4] + [0.01, 0.0]

    def both(x: SecretArray) -> Revealed:
        found = statistics.welch(x[:, 0], x[:15_000, 1])
        assert isinstance(found.freedom, SecretArray)
        return reveal(t=found.statistic, freedom=found.freedom)

    found = run(both, [table(rows)], ClearBackend()).outputs
    want = stats.ttest_ind(rows[:, 0], rows[:15_000, 1], equal_var=False)
    assert abs(found["t"] - want.statistic) < 5e-3
    assert abs(found["freedom"] / want.df - 1) < 1e-3


@each_engine
def test_survival_is_kaplan_and_meiers(engine: Backend) -> None:
    rows = people(80, 4)[:, 5:]
    times = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    found = run(
        lambda x: reveal(share=statistics.kaplan_meier(x[:, 0], x[:, 1] > 0.5, times)), [table(rows)], engine
    ).outputs["share"]
    sample = stats.CensoredData.right_censored(rows[:, 0], rows[:, 1] < 0.5)
    curve = stats.ecdf(sample).sf
    assert np.abs(found - curve.evaluate(times)).max() < 1e-4


def test_hard_columns_stay_finite() -> None:
    """A constant column correlates with nothing, an empty group is left out, and no number overflows."""
    rows = people(60, 5)
    rows[:, 1] = 3.0
    rows[:, 3] = rows[:, 3] % 2

    def hard(x: SecretArray) -> Revealed:
        counts = statistics.contingency(x[:, 3], x[:, 4], (3, 4))
        return reveal(correlation=statistics.correlation(x[:, :3]), chi=statistics.chi_square(counts, 60).statistic)

    found = run(hard, [table(rows)], ClearBackend()).outputs
    assert found["correlation"][1].tolist() == [0.0, 0.0, 0.0]
    assert abs(found["correlation"][0, 0] - 1) < 1e-5
    counts = np.zeros((2, 4))
    np.add.at(counts, (rows[:, 3].astype(int), rows[:, 4].astype(int)), 1)
    assert abs(found["chi"] - stats.chi2_contingency(counts, correction=False).statistic) < 0.02


@pytest.mark.parametrize("edges", [[], [1.0], [1.0, 1.0], [2.0, 1.0], [0.0, float("inf")]])
def test_edges_that_do_not_ascend_are_refused(edges: list[float]) -> None:
    with pytest.raises(InvalidInput, match="ascending"):
        run(lambda x: reveal(h=statistics.histogram(x[:, 0], edges)), [table(people(10, 6))], ClearBackend())
