"""GISKARD-LIVENESS-1: whatever an adversary did to four validators in a view or two, a calm network gets over it."""

import pytest
from giskard_recovery import recover_all
from giskard_world import Bounds


@pytest.mark.parametrize(("bounds", "every"), [(Bounds(2, 2), 40), (Bounds(2, 3), 300), (Bounds(3, 1), 90)])
def test_blocks_become_final_again(bounds: Bounds, every: int) -> None:
    result = recover_all(bounds, every)
    assert result.stuck == 0
    assert result.tried > 40
    assert result.most_views <= 8


@pytest.mark.long
def test_from_every_state_of_two_views_sample() -> None:
    result = recover_all(Bounds(2, 2))
    assert (result.stuck, result.tried) == (0, result.states)
