"""Shapley values against their axioms, and a revenue split that conserves every basis point."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import BasisPoints
from koinon.privacy.valuation.shapley import Plan, members, plan, revenue_shares


def by_definition(owners: int, utility: dict[int, float]) -> np.ndarray:
    added = np.zeros(owners)
    orders = list(permutations(range(owners)))
    for order in orders:
        mask = 0
        for owner in order:
            added[owner] += utility[mask | 1 << owner] - utility[mask]
            mask |= 1 << owner
    return added / len(orders)


def utilities(made: Plan, utility: dict[int, float]) -> np.ndarray:
    return np.array([utility[mask] for mask in made.coalitions])


@given(st.integers(2, 5), st.integers(0, 2**32))
def test_exact_values_are_the_definition(owners: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    utility = {0: 0.0, **{mask: float(rng.uniform(-1, 1)) for mask in range(1, 1 << owners)}}
    made = plan(owners)
    found = made.values(utilities(made, utility))
    assert np.allclose(found, by_definition(owners, utility))
    assert found.sum() == pytest.approx(utility[(1 << owners) - 1])
    assert not made.half_widths(utilities(made, utility)).any()


@pytest.mark.parametrize("owners", [6, 9, 16])
def test_sampled_values_add_up_and_their_intervals_hold_the_truth(owners: int) -> None:
    rng = np.random.default_rng(owners)
    alone = rng.uniform(0, 1, owners)

    def utility(mask: int) -> float:
        # Owners 0 and 1 have the same rows, so that the second of them adds nothing.
        present = np.array(members(mask, owners))
        present[1] &= not present[0]
        return float(alone[0] * (present[0] | present[1]) + alone[2:] @ present[2:])

    made = plan(owners, 60, b"seed")
    seen = np.array([utility(mask) for mask in made.coalitions])
    values, widths = made.values(seen), made.half_widths(seen)
    truth = np.concatenate([[alone[0] / 2, alone[0] / 2], alone[2:]])
    assert values.sum() == pytest.approx(utility((1 << owners) - 1))
    assert (np.abs(values - truth) <= 2 * widths + 1e-9).all()
    assert widths[0] > 0
    assert widths[2:].max() < 1e-9


def test_orders_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    assert plan(7, 8, b"a").coalitions == plan(7, 8, b"a").coalitions
    assert plan(7, 8, b"a").coalitions != plan(7, 8, b"b").coalitions


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=16), st.integers(0, 10_000))
def test_every_basis_point_is_given_away_once(values: list[float], total: int) -> None:
    shares = revenue_shares(values, BasisPoints(total))
    assert sum(shares) == total
    assert min(shares) >= 0
    ranked = sorted(zip(values, shares, strict=True))
    assert [share for _, share in ranked] == sorted(share for _, share in ranked) or max(values) <= 0.5e-6


def test_harm_and_nothing_earn_nothing_unless_nobody_added_anything() -> None:
    assert revenue_shares([0.3, -0.2, 0.1, 0.0], BasisPoints(6_000)) == (4_500, 0, 1_500, 0)
    assert revenue_shares([-0.1, 0.0, -5.0], BasisPoints(10_000)) == (3_334, 3_333, 3_333)


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf"), 1.0]])
def test_worth_that_is_no_number_is_refused(values: list[float]) -> None:
    with pytest.raises(InvalidInput, match="finite worth"):
        revenue_shares(values, BasisPoints(100))


@pytest.mark.parametrize(("owners", "orders"), [(1, 10), (17, 10), (6, 1)])
def test_impossible_plans_are_refused(owners: int, orders: int) -> None:
    with pytest.raises(InvalidInput, match="worth is shared among"):
        plan(owners, orders)
