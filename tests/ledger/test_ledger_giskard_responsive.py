"""GISKARD-LIVENESS-2: after a correct leader no step waits for a timer, in every order in which messages may arrive."""

import pytest
from giskard_responsive import SCENARIOS, Scenario, explore


@pytest.mark.parametrize("scenario", [SCENARIOS[0], SCENARIOS[1], SCENARIOS[4]], ids=lambda scenario: scenario.says)
def test_no_message_order_leaves_anybody_waiting(scenario: Scenario) -> None:
    result = explore(scenario)
    assert result.stuck == 0
    assert result.ends > 0
    assert result.states > 900


def test_nor_does_any_order_of_executing_and_building() -> None:
    assert explore(SCENARIOS[0], at_once=False).stuck == 0


def test_a_silent_leader_is_noticed_by_nothing_but_the_timer() -> None:
    result = explore(Scenario("the leader is the silent one", 1, 2, False, 1, 0))
    assert (result.ends, result.stuck) == (1, 1)
