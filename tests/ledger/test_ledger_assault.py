"""One validator against three liars who hold every other key: the step neither breaks nor contradicts itself.

``fuzz/step.py`` looks for more, guided by coverage.
"""

import random
import runpy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.ledger.giskard import assault
from koinon.ledger.giskard.assault import Assault, Broken
from koinon.ledger.giskard.state import Persist

STEP = runpy.run_path(str(Path(__file__).parents[2] / "fuzz" / "step.py"))


def play(seed: int, moves: int = 60) -> Assault:
    game = Assault(random.Random(seed).randrange)
    game.play(moves)
    return game


def play_many(seeds: int) -> None:
    for seed in range(seeds):
        play(seed)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_no_choices_break_the_step(data: bytes) -> None:
    STEP["play"](data)


def test_games_reach_the_states_that_matter() -> None:
    games = [play(seed) for seed in range(150)]
    assert sum(len(game.votes) for game in games) > 300
    assert sum(game.final_height for game in games) > 60
    assert sum(len(game.changes) for game in games) > 60
    assert sum(len(game.proposals) for game in games) > 20
    assert any(game.state.ended is not None for game in games)
    assert any(game.state.halted for game in games)


def test_a_validator_that_forgets_its_votes_in_a_crash_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """GISKARD-SAFETY-7: without the record a restarted validator votes again."""
    whole = assault.step

    def forgetful(state, event):  # type: ignore[no-untyped-def]
        state, effects = whole(state, event)
        forgotten = tuple(
            Persist(effect.record.__class__(**{**fields(effect.record), "voted": (), "accepted": None}), ())
            if isinstance(effect, Persist)
            else effect
            for effect in effects
        )
        return state, forgotten

    monkeypatch.setattr(assault, "step", forgetful)
    with pytest.raises(Broken, match="exclude"):
        play_many(1000)


def fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__struct_fields__}  # type: ignore[attr-defined]


@pytest.mark.long
def test_a_sample_of_longer_games() -> None:
    for seed in range(1000, 4000):
        play(seed, 80)
