"""Responsiveness of Giskard's step, searched whole: after a correct leader no step waits for a timer.

    python proofs/giskard_responsive.py [--deep] [--json]

GISKARD-LIVENESS-2. Three of four validators run the very step that nodes run (``koinon.ledger.giskard.protocol``); the
fourth is silent throughout. The leader of the view in question is one of the three, so it is correct. Messages arrive
in any order; no timer ever fires, but where a scenario begins by letting all three give up the view before, as they
must when its leader is the silent one. Every reachable state is visited, and in every state in which nothing is under
way any more, all three must have reached the next view and the blocks that the scenario names must be final. Executing
and building a block take no time, but in ``SLOW`` they are events of their own, in any order too.

This is about these scenarios only: few blocks, one silent validator, no liar among the three, no loss.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import BlockIndex, Epoch, Seconds, View
from koinon.ledger.giskard.ideal import IdealScheme
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.shells import CHAIN_ID, make_header
from koinon.ledger.giskard.start import initial_state
from koinon.ledger.giskard.state import (
    Broadcast,
    Configuration,
    Effect,
    Event,
    Execute,
    Executed,
    PendingChanged,
    Propose,
    Proposed,
    Received,
    Send,
    State,
    TimerFired,
    Voting,
)
from koinon.ledger.types import Block, Header, Validator, ValidatorSet, header_hash

NODES: Final = 4
MEMBERS: Final = ValidatorSet(
    tuple(Validator(NodeId(bytes([n]) * 32), bytes(20), bytes([n]) * 48) for n in range(NODES))  # type: ignore[arg-type]
)
SCHEME: Final = IdealScheme(b"responsive")


@dataclass(frozen=True)
class Scenario:
    """What is searched.

    Attributes:
        silent: the validator that never says anything.
        lost: whether the three give up the first view before anything else.
        view: the last one that is played, whose leader is correct; the next leader's first block is still being built.
        final_height: what must be final in the end.
        voting: who hears votes.
    """

    says: str
    silent: int
    blocks_per_view: int
    lost: bool
    view: int
    final_height: int
    voting: Voting = Voting.BROADCAST


_COLLECTED: Final = Voting.COLLECTED
SCENARIOS: Final = (
    Scenario("a correct leader streams two blocks", 2, 2, False, 1, 0),
    Scenario("a correct leader streams three blocks", 3, 3, False, 1, 1),
    Scenario("a silent leader, then a correct one with two blocks", 1, 2, True, 2, 0),
    Scenario("a silent leader, then a correct one with three blocks", 1, 3, True, 2, 1),
    Scenario("two correct leaders with one block each", 3, 1, False, 2, 0),
    Scenario("a correct leader streams two blocks and collects the votes", 2, 2, False, 1, 0, _COLLECTED),
    Scenario("a correct leader streams three blocks and collects the votes", 3, 3, False, 1, 1, _COLLECTED),
    Scenario("two correct collectors with one block each", 3, 1, False, 2, 0, _COLLECTED),
)
DEEP: Final = (
    Scenario("a correct leader streams four blocks", 0, 4, False, 1, 2),
    Scenario("two correct leaders with two blocks each", 3, 2, False, 2, 2),
    Scenario("three correct leaders with one block each", 0, 1, False, 3, 1),
    Scenario("two correct collectors with two blocks each", 3, 2, False, 2, 2, _COLLECTED),
    Scenario("a silent collector, then a correct one with two blocks", 1, 2, True, 2, 0, _COLLECTED),
)
SLOW: Final = (SCENARIOS[0], SCENARIOS[4])
"""Those in which executing and building blocks are events of their own, in any order too."""


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        stuck: how many states without anything under way lack what the scenario names.
        ends: how many states have nothing under way.
    """

    scenario: Scenario
    states: int
    deliveries: int
    ends: int
    stuck: int
    seconds: float


def _key(state: State) -> tuple[Any, ...]:
    """Everything that later steps depend on."""
    return (
        state.view,
        state.entry,
        state.highest,
        state.final_header,
        state.timed_out,
        state.voted,
        state.accepted,
        state.proposed_index,
        state.proposed,
        state.proposing,
        state.locked_height,
        state.failures,
        state.absent,
        state.pending,
        state.deadline,
        state.halted,
        state.reported,
        state.forgers,
        frozenset((name, t.justified, t.execution) for name, t in state.blocks.items()),
        frozenset(state.certificates.items()),
        frozenset(state.votes.items()),
        frozenset((place, header_hash(one.block.header)) for place, one in state.proposals.items()),
        frozenset(state.view_changes.items()),
    )


@dataclass
class Nodes:
    """Steps of single validators, each taken once however often a search comes to it.

    States and letters are numbered; a letter is an event with the validator it is for.
    """

    scenario: Scenario
    at_once: bool
    states: list[State] = field(default_factory=list)
    letters: list[tuple[int, Event]] = field(default_factory=list)
    _state_numbers: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _letter_numbers: dict[Any, int] = field(default_factory=dict)
    _taken: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    @property
    def awake(self) -> list[int]:
        return [position for position in range(NODES) if position != self.scenario.silent]

    def number(self, state: State) -> int:
        position = state.configuration.position
        number = self._state_numbers.setdefault((position, *_key(state)), len(self.states))
        if number == len(self.states):
            self.states.append(state)
        return number

    def post(self, receiver: int, event: Event) -> int:
        """The bit that stands for this letter."""
        known = (receiver, event)
        number = self._letter_numbers.setdefault(known, len(self.letters))
        if number == len(self.letters):
            self.letters.append((receiver, event))
        return 1 << number

    def take(self, state: int, letter: int) -> tuple[int, int]:
        """The state after a letter, and the letters that follow from it, as bits."""
        if (state, letter) not in self._taken:
            self._taken[state, letter] = self.drive(self.states[state], self.letters[letter][1])
        return self._taken[state, letter]

    def drive(self, state: State, event: Event) -> tuple[int, int]:
        """Take an event and what follows from it here."""
        posted, waiting = 0, [event]
        position = state.configuration.position
        assert position is not None
        while waiting:
            state, effects = step(state, waiting.pop(0))
            for effect in effects:
                answer = self._answer(state, effect)
                if answer is not None and self.at_once:
                    waiting.append(answer)
                elif answer is not None:
                    posted |= self.post(position, answer)
                posted |= self._send(position, effect)
        return self.number(state), posted

    def _send(self, position: int, effect: Effect) -> int:
        match effect:
            case Broadcast(message):
                others = [other for other in self.awake if other != position]
                return sum(self.post(other, Received(position, message, 0.0)) for other in others)
            case Send(to, message) if to != self.scenario.silent:
                return self.post(to, Received(position, message, 0.0))
            case _:
                return 0

    def _answer(self, state: State, effect: Effect) -> Event | None:
        match effect:
            case Execute(block):
                return Executed(header_hash(block.header), True, 0.0)
            case Propose() if effect.view <= self.scenario.view:
                return Proposed(_block(state, effect), 0.0)
            case _:
                return None


def _block(state: State, wanted: Propose) -> Block:
    parent: Header | None = state.header_of(wanted.parent)
    assert parent is not None
    header = make_header(MEMBERS, parent, wanted.view, wanted.index, bytes([wanted.view, wanted.index]))
    return Block(header, (b"transaction",))


def _genesis(scenario: Scenario) -> Header:
    return make_header(MEMBERS, None, View(0), BlockIndex(scenario.blocks_per_view - 1), b"")


def _fresh(scenario: Scenario, position: int) -> State:
    configuration = Configuration(
        chain_id=CHAIN_ID,
        epoch=Epoch(0),
        validators=MEMBERS,
        position=position,
        blocks_per_view=scenario.blocks_per_view,
        base_timeout=Seconds(1.0),
        verifier=SCHEME,
        signer=SCHEME.signer(position),
        voting=scenario.voting,
    )
    return initial_state(configuration, _genesis(scenario))


def explore(scenario: Scenario, at_once: bool = True) -> Result:
    """Visit every state that can be reached."""
    begun = time.process_time()
    nodes = Nodes(scenario, at_once)
    states, posted = [], 0
    for position in nodes.awake:
        number, letters = nodes.drive(_fresh(scenario, position), PendingChanged(True, 0.0))
        posted |= letters
        if scenario.lost:
            number, letters = nodes.drive(nodes.states[number], TimerFired(1.0))
            posted |= letters
        states.append(number)
    places = {position: place for place, position in enumerate(nodes.awake)}
    start = (tuple(states), posted)
    seen, waiting = {start}, [start]
    deliveries = ends = stuck = 0
    while waiting:
        standing, flying = waiting.pop()
        if not flying:
            ends += 1
            stuck += not all(_arrived(scenario, nodes.states[number]) for number in standing)
        remaining = flying
        while remaining:
            bit = remaining & -remaining
            remaining ^= bit
            letter = bit.bit_length() - 1
            place = places[nodes.letters[letter][0]]
            after, letters = nodes.take(standing[place], letter)
            deliveries += 1
            following = ((*standing[:place], after, *standing[place + 1 :]), (flying ^ bit) | letters)
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    return Result(scenario, len(seen), deliveries, ends, stuck, time.process_time() - begun)


def _arrived(scenario: Scenario, state: State) -> bool:
    return (
        state.view == scenario.view + 1
        and state.final_header.height >= scenario.final_height
        and state.highest.view == scenario.view
        and state.highest.index == scenario.blocks_per_view - 1
        and not state.halted
    )


def main() -> int:
    """The command line; 1 where some state is stuck."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deep", action="store_true", help="larger scenarios; takes minutes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    searches = [(scenario, True) for scenario in SCENARIOS]
    if arguments.deep:
        searches += [(scenario, True) for scenario in DEEP]
        searches += [(scenario, False) for scenario in SLOW]
    results = []
    for scenario, at_once in searches:
        result = explore(scenario, at_once)
        results.append(result)
        if not arguments.json:
            order = "" if at_once else ", executed in any order"
            print(
                f"{scenario.says}{order}: {result.states} states, {result.deliveries} deliveries, "
                f"{result.ends} ends, {result.stuck} of them stuck, {result.seconds:.1f} s CPU",
                flush=True,
            )
    if arguments.json:
        print(
            json.dumps(
                [
                    {
                        "scenario": result.scenario.says,
                        "at_once": at_once,
                        "states": result.states,
                        "deliveries": result.deliveries,
                        "ends": result.ends,
                        "stuck": result.stuck,
                        "cpu_seconds": round(result.seconds, 2),
                    }
                    for result, (_, at_once) in zip(results, searches, strict=True)
                ]
            )
        )
    return 1 if any(result.stuck or not result.ends for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
