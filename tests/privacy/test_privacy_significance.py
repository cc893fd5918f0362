"""p-values beside SciPy's own tests on the same plain rows, and at the ends of their ranges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from koinon.privacy.programs import significance
from koinon.privacy.programs.comparison import welch_table

RANDOM = np.random.default_rng(11)


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0, 40.0])
def test_of_two_groups_it_is_welchs(shift: float) -> None:
    parts = [RANDOM.normal(0, 1, (19, 2)), RANDOM.normal(shift, 3, (31, 2))]
    counts = np.array([19.0, 31.0])
    table = welch_table(
        counts, np.array([each.mean(0) for each in parts]), np.array([each.var(0, ddof=1) for each in parts])
    )
    wanted = stats.ttest_ind(parts[1], parts[0], equal_var=False)
    assert np.allclose(table, np.column_stack([wanted.statistic, wanted.df, wanted.pvalue]), rtol=1e-10, atol=0)


@given(st.floats(-60, 60), st.floats(0.5, 1e6))
@settings(max_examples=100, deadline=None)
def test_of_student_it_is_scipys_far_into_the_tail(t: float, freedom: float) -> None:
    (found,) = significance.of_student(np.array([t]), np.array([freedom]))
    # Below the smallest normal number the functions themselves lose digits.
    assert found == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-10, abs=1e-300)


@given(st.floats(0, 2000), st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_of_chi_square_it_is_scipys(statistic: float, freedom: int) -> None:
    (found,) = significance.of_chi_square(np.array([statistic]), np.array([float(freedom)]))
    assert found == pytest.approx(stats.chi2.sf(statistic, freedom), rel=1e-10, abs=1e-300)


@pytest.mark.parametrize("people", [4, 30, 5_000])
def test_of_a_correlation_it_is_pearsons(people: int) -> None:
    one = RANDOM.normal(0, 1, people)
    two = 0.4 * one + RANDOM.normal(0, 1, people)
    found = stats.pearsonr(one, two)
    (ours,) = significance.of_correlation(np.array([found.statistic]), people)
    assert ours == pytest.approx(found.pvalue, rel=1e-9)


def test_nothing_is_unlikely_of_what_does_not_vary_or_has_no_freedom() -> None:
    flat = welch_table(np.array([5.0, 5.0]), np.ones((2, 1)), np.zeros((2, 1)))
    assert flat.tolist() == [[0.0, 0.0, 1.0]]
    assert significance.of_chi_square(np.array([3.0]), np.array([0.0])).tolist() == [1.0]
    assert significance.of_correlation(np.array([0.9, -1.0]), 2).tolist() == [1.0, 1.0]


def test_what_fits_exactly_is_not_by_chance() -> None:
    """Roundings may put a coefficient beyond 1."""
    assert significance.of_correlation(np.array([1.0, -1.0, 1.00001]), 20).max() < 1e-100
    assert significance.of_normal(np.array([0.0, 1.959963984540054])) == pytest.approx([1.0, 0.05])
