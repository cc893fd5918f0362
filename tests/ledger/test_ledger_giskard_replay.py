"""The model and the code agree: forks that the search finds fork the code, and both let validators do the same."""

from random import Random
from typing import Final

import giskard_asynchronous
import giskard_views
import pytest
from giskard_asynchronous import Vote
from giskard_replay import Bench, Players, forks
from giskard_rules import RULES
from giskard_small import Search
from giskard_story import tell
from giskard_world import Bounds, World
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.ledger.giskard.certificates import rank
from koinon.ledger.giskard.plants import PLANTS

VOTES: Final = 0.6
"""How often a vote is played where there is one; reports outnumber them."""


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.forks and rule.key is rank])
def test_every_fork_that_is_found_forks_the_code(name: str) -> None:
    rule = RULES[name]
    world = World(rule.bounds[0], rule.rules)
    search = Search(world, giskard_views)
    assert search.run() == "fork"
    lines = world.fork(search.fork.certified)
    assert lines is not None
    assert forks(world, tell(world, giskard_views.start(world), search.path()), lines)


def test_the_code_does_not_follow_where_the_rule_is_ours() -> None:
    rule = RULES["height-only"]
    weak, ours = World(rule.bounds[0], rule.rules), World(rule.bounds[0])
    search = Search(weak, giskard_views)
    search.run()
    acts = tell(weak, giskard_views.start(weak), search.path())
    for number in range(1, len(weak.headers)):
        header = weak.headers[number]
        assert ours.child(weak.parents[number], header.view, header.index, weak.rival[number]) == number
    with pytest.raises(AssertionError, match="does not vote"):
        Bench(ours).play(acts)


def walk(world: World, bench: Bench, draw: Random, length: int) -> Players:
    """Play a random path of the model to real validators, tempting them on the way."""
    players = Players(world, bench)
    for _ in range(length):
        moves = sorted(giskard_asynchronous.moves(world, players.state), key=lambda pair: repr(pair[0]))
        if not moves:
            break
        refusals = players.refusals()
        if refusals:
            players.tempt(*draw.choice(refusals))
        votes = [pair for pair in moves if isinstance(pair[0], Vote)]
        players.play(*draw.choice(votes if votes and draw.random() < VOTES else moves))
    return players


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 3), st.integers(4, 18))
def test_the_model_and_the_step_agree_on_every_vote_and_report(draw: Random, blocks: int, length: int) -> None:
    world = World(Bounds(4, blocks))
    assert walk(world, Bench(world), draw, length).signed


@pytest.mark.parametrize("name", ["height-only-voting", "skipped-view-change-check"])
def test_a_step_with_another_rule_is_told_from_the_model(name: str) -> None:
    bounds = Bounds(4, 2)
    found = 0
    for seed in range(60):
        world, weak = World(bounds), World(bounds, PLANTS[name].rules)
        bench = Bench(world, rules=weak.rules)
        try:
            walk(world, bench, Random(seed), 14)
        except AssertionError:
            found += 1
    assert found
