"""GISKARD-LIVENESS-2: after a correct leader no step waits for a timer, in every order in which messages may arrive."""

import pytest
from giskard_responsive import SCENARIOS, Scenario, explore
from ledger_giskard import feed, fresh_state

from koinon.ledger.giskard.state import Broadcast, PendingChanged, TimerFired
from koinon.ledger.types import ViewChange


@pytest.mark.parametrize("scenario", [*SCENARIOS[:2], *SCENARIOS[4:]], ids=lambda scenario: scenario.says)
def test_no_message_order_leaves_anybody_waiting(scenario: Scenario) -> None:
    result = explore(scenario)
    assert result.stuck == 0
    assert result.ends > 0
    assert result.states >= 60


def test_nor_does_any_order_of_executing_and_building() -> None:
    assert explore(SCENARIOS[0], at_once=False).stuck == 0


def test_a_silent_leader_is_noticed_by_nothing_but_the_timer() -> None:
    result = explore(Scenario("the leader is the silent one", 1, 2, False, 1, 0))
    assert (result.ends, result.stuck) == (1, 1)


def test_a_view_change_is_said_again_until_the_view_is_left() -> None:
    """GISKARD-LIVENESS-3."""
    state, _ = feed(fresh_state(), PendingChanged(True, 0.0))
    for _ in range(3):
        deadline = state.deadline
        assert deadline is not None
        state, effects = feed(state, TimerFired(deadline))
        said = [effect.message for effect in effects if isinstance(effect, Broadcast)]
        assert [type(message) for message in said] == [ViewChange]
        assert state.view == 1
