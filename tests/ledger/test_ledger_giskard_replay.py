"""The model and the code agree: forks that the search finds fork the code, and both let validators do the same."""

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Final

import giskard_asynchronous
import giskard_views
import pytest
from giskard_asynchronous import Report, State, Vote
from giskard_replay import Bench, forks
from giskard_small import RULES, Search
from giskard_story import Reports, tell
from giskard_world import Bounds, Local, World
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


@dataclass
class Players:
    """Validators of the plain model beside real ones, told apart although the model sorts them."""

    world: World
    state: State
    bench: Bench
    names: list[int]
    reports: Reports
    signed: int = 0

    def play(self, move: Vote | Report, after: State) -> None:
        """Let a real validator do what one of the model does; it must."""
        name = self.names[move.who]
        match move:
            case Vote(_, block):
                assert self.bench.vote(name, block, self.reports.justifying(block))
            case Report(_, view, shown):
                entrance = None if shown is None else self.reports.leading_to(view, shown)
                reported = self.bench.give_up(name, view, shown, entrance)
                changed = self.changed(move.who, after)
                assert reported == changed.highest
                self.reports.add(view, name, changed.highest)
        self.signed += 1
        self.follow(move.who, after)

    def changed(self, who: int, after: State) -> Local:
        others = [*self.state.honest[:who], *self.state.honest[who + 1 :]]
        (local,) = (Counter(after.honest) - Counter(others)).elements()
        return local

    def follow(self, who: int, after: State) -> None:
        moved = list(self.state.honest)
        moved[who] = self.changed(who, after)
        order = sorted(range(len(moved)), key=lambda place: moved[place])
        self.names = [self.names[place] for place in order]
        self.state = after

    def tempt(self, who: int, block: int) -> None:
        """Show a real validator a block that the model's does not vote for; it must not either."""
        name = self.names[who]
        before = self.bench.states[name]
        assert not self.bench.vote(name, block, self.reports.justifying(block))
        self.bench.states[name] = before

    def refusals(self) -> list[tuple[int, int]]:
        """Validators and blocks that they must not vote for: the slot is gone, or the place is not justified."""
        blocks = {
            move.block for move, _ in giskard_asynchronous.moves(self.world, self.state) if isinstance(move, Vote)
        }
        blocks |= {block for local in self.state.honest for block in local.voted}
        refused = [
            (who, block)
            for who, local in enumerate(self.state.honest)
            for block in sorted(blocks)
            if block not in local.voted and self.world.vote(local, block) is None
        ]
        return refused + [(who, block) for who in range(len(self.names)) for block in self.unjustified()]

    def unjustified(self) -> list[int]:
        """First blocks on a lower parent than the view change before them shows."""
        world, certified = self.world, self.state.certified
        found = []
        for left, reports in self.state.reports:
            reportable = world.reportable(certified, reports)
            if reportable and left < world.bounds.views:
                fitting = {parent for parent, _ in world.places(left + 1, certified, reportable)}
                found += [world.child(parent, left + 1, 0, 0) for parent in certified if parent not in fitting]
        return found


def walk(world: World, bench: Bench, draw: Random, length: int) -> Players:
    """Play a random path of the model to real validators, tempting them on the way."""
    state = giskard_asynchronous.start(world)
    players = Players(world, state, bench, list(range(world.bounds.honest)), Reports(world))
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
