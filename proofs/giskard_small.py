"""Search every run of Giskard with few validators and views for two conflicting final blocks.

    python proofs/giskard_small.py [--rule NAME] [--views V] [--blocks N] [--nodes n] [--plain] [--deep] [--json]

This is bounded model checking: what is found is found, and what is not found does not exist *within the bounds that
are printed*. It is no proof for more views, blocks or validators; ``giskard_inductive`` and the argument in
``docs/spec/giskard.md`` are about those. The honest validators decide by the functions that nodes run
(``giskard_world``); liars, proposers, network and clocks are as bad as can be (``giskard_asynchronous``). Not in the
model: execution, crashes, fetching, epochs, and signatures, which are taken to be unforgeable.

Without ``--rule`` every rule below is searched and compared with what is expected of it: the protocol as it is, each
safeguard weakened, and other ways to choose the highest certificate. Exit status 1 where an expectation fails.
"""

import argparse
import json
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, Final

import giskard_asynchronous
import giskard_views
from giskard_rules import DEEP, PLAIN, RULES
from giskard_story import Names, sentences, tell
from giskard_world import Bounds, World

PROGRESS_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        outcome: "fork", "safe", or "unfinished" where the limit of states was reached.
        moves: how many moves were tried.
        depth: most moves from the start.
        story: the messages that lead to a shortest fork.
        lines: the blocks whose certificates make the two conflicting ones final, by name.
    """

    rule: str
    model: str
    bounds: Bounds
    outcome: str
    states: int
    moves: int
    depth: int
    seconds: float
    story: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        bounds = self.bounds
        return {
            "rule": self.rule,
            "model": self.model,
            "nodes": bounds.nodes,
            "liars": bounds.faults,
            "views": bounds.views,
            "blocks_per_view": bounds.blocks_per_view,
            "rivals": bounds.rivals,
            "outcome": self.outcome,
            "states": self.states,
            "moves": self.moves,
            "depth": self.depth,
            "cpu_seconds": round(self.seconds, 2),
            "story": list(self.story),
            "final_lines": [list(line) for line in self.lines],
        }


@dataclass
class Search:
    """Breadth first, so that a fork that is found is a shortest one.

    Attributes:
        reached: every state with the state and the move it was reached by.
        fork: the state in which two conflicting blocks are final.
    """

    world: World
    model: ModuleType
    limit: int | None = None
    progress: Callable[[int, int], None] | None = None
    reached: dict[Any, tuple[Any, Any] | None] = field(default_factory=dict)
    tried: int = 0
    depth: int = 0
    fork: Any = None

    def run(self) -> str:
        """Search; "fork", "safe" or "unfinished"."""
        start = self.model.start(self.world)
        self.reached[start] = None
        waiting = deque([(start, 0)])
        told = time.monotonic()
        while waiting:
            state, depth = waiting.popleft()
            self.depth = depth
            for move, following in self.model.moves(self.world, state):
                self.tried += 1
                if following in self.reached:
                    continue
                self.reached[following] = (state, move)
                if following.certified != state.certified and self.world.fork(following.certified) is not None:
                    self.fork = following
                    return "fork"
                waiting.append((following, depth + 1))
            if self.limit is not None and len(self.reached) > self.limit:
                return "unfinished"
            if self.progress is not None and time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                self.progress(len(self.reached), len(waiting))
        return "safe"

    def path(self) -> list[Any]:
        """The moves that lead to the fork."""
        return [move for move, _ in self.path_to(self.fork)]

    def path_to(self, state: Any) -> list[tuple[Any, Any]]:
        """The moves that lead to a state, each with the state after it."""
        steps: list[tuple[Any, Any]] = []
        while (step := self.reached[state]) is not None:
            steps.append((step[1], state))
            state = step[0]
        return steps[::-1]


def search(name: str, bounds: Bounds, plain: bool = False, limit: int | None = None, loud: bool = False) -> Result:
    """Search one rule within bounds; ``plain`` takes the model without the order of views."""
    rule = RULES[name]
    world = World(bounds, rule.rules, rule.key)
    model = giskard_asynchronous if plain else giskard_views
    label = f"{name}, {bounds.views} views of {bounds.blocks_per_view}"
    run = Search(world, model, limit, partial(_show, label) if loud else None)
    begun = time.process_time()
    outcome = run.run()
    seconds = time.process_time() - begun
    story: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()
    found = world.fork(run.fork.certified) if outcome == "fork" else None
    if found is not None and not plain:
        names = Names(world)
        story = tuple(sentences(world, tell(world, model.start(world), run.path()), names))
        lines = tuple(tuple(names(block) for block in line) for line in found)
    return Result(
        name,
        "plain" if plain else "by views",
        bounds,
        outcome,
        len(run.reached),
        run.tried,
        run.depth,
        seconds,
        story,
        lines,
    )


def _show(label: str, states: int, waiting: int) -> None:
    sys.stderr.write(f"\r{label}: {states} states, {waiting} waiting ")
    sys.stderr.flush()


def _sentence(result: Result) -> str:
    bounds = result.bounds
    found = {
        "fork": "conflicting blocks become FINAL",
        "safe": "no conflicting final blocks",
        "unfinished": "UNFINISHED",
    }[result.outcome]
    return (
        f"{result.rule}: {found}; n = {bounds.nodes}, f = {bounds.faults}, {bounds.views} views of "
        f"{bounds.blocks_per_view}, {bounds.rivals} rivals, {result.model}: {result.states} states, "
        f"{result.moves} moves, depth {result.depth}, {result.seconds:.1f} s CPU"
    )


def _is_expected(result: Result) -> bool:
    """Whether a fork was found where, within the rule's own bounds, there is one."""
    rule = RULES[result.rule]
    if result.outcome == "safe" and rule.forks:
        return result.bounds not in rule.bounds
    return result.outcome == ("fork" if rule.forks else "safe")


def _searches(arguments: argparse.Namespace) -> Iterator[tuple[str, Bounds, bool]]:
    """Rule, bounds and model of everything that was asked for."""
    names = [arguments.rule] if arguments.rule else list(RULES)
    for name in names:
        chosen: Sequence[Bounds] = DEEP.get(name, RULES[name].bounds) if arguments.deep else RULES[name].bounds
        if arguments.views or arguments.blocks or arguments.nodes:
            usual = chosen[0]
            chosen = (
                Bounds(
                    arguments.views or usual.views,
                    arguments.blocks or usual.blocks_per_view,
                    arguments.nodes or usual.nodes,
                ),
            )
        for bounds in chosen:
            yield name, bounds, arguments.plain
        if name == "ours" and not (arguments.plain or arguments.views or arguments.blocks or arguments.nodes):
            for bounds in PLAIN:
                yield name, bounds, True


def main() -> int:
    """The command line; 1 where an expectation fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rule", choices=RULES, help="search this one only")
    parser.add_argument("--views", type=int, help="views to play, at least 1")
    parser.add_argument("--blocks", type=int, help="blocks in each view, at least 1")
    parser.add_argument("--nodes", type=int, help="validators n, at least 4; f = (n − 1) // 3 of them lie")
    parser.add_argument("--plain", action="store_true", help="every signature on its own, in any order")
    parser.add_argument("--deep", action="store_true", help="larger bounds; takes long")
    parser.add_argument("--limit", type=int, help="give up beyond this many states")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name, least in (("views", 1), ("blocks", 1), ("nodes", 4), ("limit", 1)):
        given = getattr(arguments, name)
        if given is not None and given < least:
            parser.error(f"--{name} is at least {least}; got {given}")
    loud = sys.stderr.isatty()
    as_expected = True
    results = []
    for name, bounds, plain in _searches(arguments):
        result = search(name, bounds, plain, arguments.limit, loud)
        results.append(result)
        as_expected &= _is_expected(result)
        if not arguments.json:
            print(("\r" if loud else "") + _sentence(result))
            for line in result.story:
                print(f"    {line}")
            for line in result.lines:
                print(f"    final: {line[0]}, by the certificates of {', '.join(line)}")
            sys.stdout.flush()
    if arguments.json:
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            json.dumps(
                {
                    "as_expected": as_expected,
                    "peak_megabytes": round(megabytes),
                    "searches": [result.as_json() for result in results],
                }
            )
        )
    elif not as_expected:
        print("NOT as expected", file=sys.stderr)
    return 0 if as_expected else 1


if __name__ == "__main__":
    sys.exit(main())
