"""From every state that an adversary can bring few validators to: once the network is calm, blocks become final.

    python proofs/giskard_recovery.py [--views V] [--blocks N] [--every K] [--json]

GISKARD-LIVENESS-1 within bounds. The states are those of the plain model (``giskard_asynchronous``). Each is brought
about in validators that run the real step (``giskard_replay``); all that was under way is lost. From then on the liars
are silent, messages between the honest arrive in the order they are sent, missing blocks are answered for by whoever
has them, and where nothing is under way the earliest timer fires. Within a bounded number of views every honest
validator must finalise something that nobody had finalised before.
"""

import argparse
import json
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import giskard_asynchronous
from giskard_replay import Bench, Players
from giskard_small import Search
from giskard_world import Bounds, World

from koinon.kernel.ids import Hash32
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.shells import make_header
from koinon.ledger.giskard.state import (
    BlockFetched,
    Broadcast,
    Effect,
    Event,
    Execute,
    Executed,
    Fetch,
    Finalise,
    Halt,
    PendingChanged,
    Propose,
    Proposed,
    Received,
    Send,
    TimerFired,
)
from koinon.ledger.types import Block, header_hash

MOST_VIEWS: Final = 12
"""Views after the calm begins within which something must become final."""
MOST_EVENTS: Final = 20_000


@dataclass
class Calm:
    """The honest validators of a bench once the network is calm.

    Attributes:
        views: how many views the last validator needed.
    """

    bench: Bench
    waiting: deque[tuple[int, Event]] = field(default_factory=deque)
    asked: dict[tuple[int, Hash32], float] = field(default_factory=dict)
    now: float = 0.0
    views: int = 0

    def recover(self) -> bool:
        """Whether every validator finalises something new in time."""
        states = self.bench.states
        begun = max(state.view for state in states)
        target = 1 + max(max(state.final_header.height, state.highest.height) for state in states)
        for position in range(len(states)):
            self._take(position, PendingChanged(False, self.now))
            self._take(position, PendingChanged(True, self.now))
            wanted, state = self.bench.proposing.get(position), states[position]
            if wanted is not None and state.proposing and wanted.view == state.view:
                self._take(position, Proposed(self._block(position, wanted), self.now))
        for _ in range(MOST_EVENTS):
            self.views = max(state.view for state in states) - begun
            if all(state.final_header.height >= target for state in states):
                return True
            if self.views > MOST_VIEWS or any(state.halted for state in states):
                return False
            if self.waiting:
                self._take(*self.waiting.popleft())
            else:
                self._let_time_pass()
        return False

    def _let_time_pass(self) -> None:
        timers = [(s.deadline, position) for position, s in enumerate(self.bench.states) if s.deadline is not None]
        if timers:
            self.now, position = min(timers)
            self._take(position, TimerFired(self.now))

    def _take(self, position: int, event: Event) -> None:
        timed: Any = event
        if not isinstance(event, TimerFired):
            timed = type(event)(**{**event.__dict__, "now": self.now})
        self.bench.states[position], effects = step(self.bench.states[position], timed)
        for effect in effects:
            self._perform(position, effect)

    def _perform(self, position: int, effect: Effect) -> None:
        honest = range(len(self.bench.states))
        match effect:
            case Broadcast(message):
                self.waiting.extend((other, Received(position, message, 0.0)) for other in honest if other != position)
            case Send(to, message) if to in honest:
                self.waiting.append((to, Received(position, message, 0.0)))
            case Execute(block):
                self.waiting.append((position, Executed(header_hash(block.header), True, 0.0)))
            case Propose():
                self.waiting.append((position, Proposed(self._block(position, effect), 0.0)))
            case Finalise():
                self.bench.remember(effect)
            case Fetch(block):
                self._answer(position, block)
            case Halt():
                raise AssertionError(effect.reason)

    def _answer(self, position: int, wanted: Hash32) -> None:
        """From whoever holds the block with its certificate, else from whoever holds it; once at a time."""
        if self.asked.get((position, wanted)) == self.now:
            return
        self.asked[position, wanted] = self.now
        offers = [
            BlockFetched(tracked.block, tracked.signature, state.certificates.get(wanted), 0.0)
            for state in self.bench.states
            if (tracked := state.blocks.get(wanted)) is not None
        ]
        if wanted in self.bench.final:
            block, certificate = self.bench.final[wanted]
            offers.append(BlockFetched(block, None, certificate, 0.0))
        if offers:
            self.waiting.append((position, max(offers, key=lambda offer: offer.certificate is not None)))

    def _block(self, position: int, wanted: Propose) -> Block:
        parent = self.bench.states[position].header_of(wanted.parent)
        assert parent is not None, "the block that a proposer builds on is not final yet, or the last final one"
        header = make_header(self.bench.world.validators, parent, wanted.view, wanted.index, b"calm")
        return Block(header, (b"transaction",))


@dataclass(frozen=True)
class Result:
    """How the states of a search recover.

    Attributes:
        tried: how many states were brought about.
        stuck: how many of them finalised nothing in time.
        most_views: views that the slowest needed.
    """

    bounds: Bounds
    states: int
    tried: int
    stuck: int
    most_views: int
    seconds: float


def recover_all(bounds: Bounds, every: int = 1) -> Result:
    """Bring about every state within bounds, or every so-manieth, and see whether it recovers."""
    begun = time.process_time()
    world = World(bounds)
    search = Search(world, giskard_asynchronous)
    search.run()
    chosen = list(search.reached)[::every]
    stuck = most = 0
    for state in chosen:
        calm = Calm(brought_about(world, search, state))
        stuck += not calm.recover()
        most = max(most, calm.views)
    return Result(bounds, len(search.reached), len(chosen), stuck, most, time.process_time() - begun)


def brought_about(world: World, search: Search, state: Any) -> Bench:
    """Real validators in a state of the search."""
    players = Players(world, Bench(world))
    for move, after in search.path_to(state):
        players.play(move, after)
    return players.bench


def main() -> int:
    """The command line; 1 where a state does not recover."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=2, help="views that the adversary plays")
    parser.add_argument("--blocks", type=int, default=2, help="blocks in each view")
    parser.add_argument("--every", type=int, default=1, help="take every so-manieth state only")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name in ("views", "blocks", "every"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} is at least 1; got {getattr(arguments, name)}")
    result = recover_all(Bounds(arguments.views, arguments.blocks), arguments.every)
    if arguments.json:
        found = {**result.__dict__, "bounds": result.bounds.__dict__, "seconds": round(result.seconds, 2)}
        print(json.dumps(found))
    else:
        print(
            f"{result.tried} of {result.states} states, {result.stuck} stuck, the slowest after {result.most_views} "
            f"views, {result.seconds:.1f} s CPU"
        )
    return 1 if result.stuck else 0


if __name__ == "__main__":
    sys.exit(main())
