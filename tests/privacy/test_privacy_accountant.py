"""Composition against dp-accounting's numbers, against closed forms, and always on the safe side."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.kernel.errors import InvalidInput
from koinon.privacy.differential.accountant import Gaussian, Mechanism, Pure, gaussian_multiplier, spent_epsilon

# Google's dp-accounting 0.6.0, pessimistic, interval 10⁻⁴: ε at δ = 10⁻⁶ and at 10⁻⁹.
REFERENCE: list[tuple[list[Mechanism], float, float]] = [
    ([Gaussian(4.0)], 1.06070, 1.39562),
    ([Gaussian(4.0, 10)], 3.74722, 4.77096),
    ([Gaussian(0.8, 3)], 12.10844, 14.85171),
    ([Pure(0.1, 100)], 4.78201, 5.96768),
    ([Gaussian(4.0), Pure(0.1, 10), Pure(0.3, 2)], 2.18967, 2.63601),
    ([Gaussian(11.0), Pure(0.5, 20)], 10.06682, 10.30257),
]


@pytest.mark.parametrize(("mechanisms", "millionth", "billionth"), REFERENCE)
def test_compositions_are_those_of_a_second_accountant(
    mechanisms: list[Mechanism], millionth: float, billionth: float
) -> None:
    # Its randomised responses are rounded up one by one, ours once: up to 100 · 10⁻⁴ lower.
    assert spent_epsilon(mechanisms, 1e-6) == pytest.approx(millionth, abs=0.01)
    assert spent_epsilon(mechanisms, 1e-9) == pytest.approx(billionth, abs=0.01)


@given(epsilon=st.floats(0.02, 20), count=st.integers(1, 50))
@settings(max_examples=8, deadline=None)
def test_calibrated_noise_costs_what_was_asked_for(epsilon: float, count: int) -> None:
    multiplier = gaussian_multiplier(epsilon, 1e-6, count)
    spent = spent_epsilon([Gaussian(multiplier, count)], 1e-6)
    assert spent <= epsilon + 3e-4
    assert spent > epsilon * 0.97 - 0.005


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_pure_answers_never_cost_more_than_their_sum_and_never_less_than_the_dearest_but_for_delta(
    epsilons: list[float],
) -> None:
    spent = spent_epsilon([Pure(epsilon) for epsilon in epsilons], 1e-9)
    assert max(epsilons) - 1e-3 <= spent <= sum(epsilons) + 1e-3


def test_more_answers_cost_more_and_none_cost_nothing() -> None:
    assert spent_epsilon([], 1e-6) == 0.0
    costs = [spent_epsilon([Gaussian(5.0, count), Pure(0.1)], 1e-6) for count in (1, 2, 4)]
    assert costs == sorted(costs)
    assert costs[0] < costs[2]


@pytest.mark.parametrize("mechanism", [Gaussian(0.04), Pure(100.0, 2)])
def test_what_no_budget_covers_is_infinite(mechanism: Mechanism) -> None:
    assert spent_epsilon([mechanism], 1e-6) == inf


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_mechanisms_are_refused(value: float) -> None:
    for make in (lambda: Gaussian(value), lambda: Pure(value), lambda: gaussian_multiplier(value, 1e-6, 1)):
        with pytest.raises(InvalidInput):
            make()
    with pytest.raises(InvalidInput):
        spent_epsilon([Pure(0.1)], value)
