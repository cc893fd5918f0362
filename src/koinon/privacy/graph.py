"""Computations written down before they are run: a graph of operations on Secret arrays, and running it on any engine.

Writing ``a * b + c`` makes nodes; nothing is computed and nothing is sent. ``evaluate`` then runs exactly the nodes its
results need, and merges the rounds of whatever does not depend on each other: an operation starts in the round in which
its last operand is ready. The order is that in which the nodes were made, the same at every party.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from koinon.kernel.errors import Refused
from koinon.privacy.secret import Secret

Rule = Callable[..., "Secret | Generator[None, None, Secret]"]
"""Operands' Secrets → the result, or the protocol that computes it."""

_numbers: Final = count()
_origin: Final = ContextVar("origin", default="")


class RefusedAt(Refused):
    """A refusal that names the line that asked for the operation."""


@contextmanager
def made_by(origin: str) -> Iterator[None]:
    """Nodes made inside have this origin."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


class Node:
    """One operation.

    Attributes:
        operands: the nodes whose results it takes, in the order of the rule's arguments.
        shape: of the result.
        origin: what asked for it, such as a line of a user's function; empty if unknown.
        shortcut: another way to the same result, for when nothing else needs some nodes on this way.
    """

    __slots__ = ("number", "operands", "origin", "rule", "shape", "shortcut")

    def __init__(
        self, operands: Sequence["Node"], shape: tuple[int, ...], rule: Rule, shortcut: "Shortcut | None" = None
    ) -> None:
        self.number = next(_numbers)
        self.operands = tuple(operands)
        self.shape = shape
        self.rule = rule
        self.shortcut = shortcut
        self.origin = _origin.get()


class Shortcut(NamedTuple):
    """Attributes:
    operands, rule: as a node's; the operands were made before the node.
    spared: nodes that need not be computed then.
    """

    operands: tuple[Node, ...]
    rule: Rule
    spared: tuple[Node, ...]


class Leaf(Node):
    """An input; its Secret is handed to ``evaluate``."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__((), shape, _not_given)


Ways = Mapping[Node, tuple[tuple[Node, ...], Rule]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to compute for some results, found once for any number of runs.

    Attributes:
        results: the nodes wanted, in order.
        ways: operands and rule of every node that is needed.
        followers: by node, those that take its result.
        uses: by node, how often its result is taken, by nodes and as a result.
    """

    results: tuple[Node, ...]
    ways: Ways
    followers: dict[Node, tuple[Node, ...]]
    uses: dict[Node, int]


def planned(results: Sequence[Node]) -> Plan:
    """What ``results`` need, by shortcuts where nothing else needs what these spare."""
    ways = {node: (node.operands, node.rule) for node in _needed(results)}
    uses = _uses(ways, results)
    for node in list(ways):
        cut = node.shortcut
        if cut is not None and all(uses[each] == 1 for each in cut.spared):
            ways[node] = cut.operands, cut.rule
    ways = {node: ways.get(node, (node.operands, node.rule)) for node in _needed(results, ways)}
    followers: dict[Node, list[Node]] = {node: [] for node in ways}
    for node, (operands, _) in ways.items():
        for operand in set(operands):
            followers[operand].append(node)
    return Plan(tuple(results), ways, {node: tuple(each) for node, each in followers.items()}, _uses(ways, results))


def evaluate(results: Sequence[Node], inputs: dict[Leaf, Secret]) -> Generator[None, None, list[Secret]]:
    """Run what ``results`` need; their Secrets, in order. See ``carry_out``."""
    return carry_out(planned(results), inputs)


def carry_out(plan: Plan, inputs: dict[Leaf, Secret]) -> Generator[None, None, list[Secret]]:
    """The Secrets of a plan's results, in order. Every ``yield`` ends one round.

    An intermediate result is forgotten as soon as nothing needs it any more.

    Raises:
        Refused: some operation could overflow.
    """
    uses = dict(plan.uses)
    ready: dict[Node, Secret] = {}
    missing = {node: len(set(operands)) for node, (operands, _) in plan.ways.items()}
    startable = [(node.number, node) for node in plan.ways if not missing[node]]
    running: dict[Node, Generator[None, None, Secret]] = {}

    def finish(node: Node, secret: Secret) -> None:
        ready[node] = secret
        for operand in plan.ways[node][0]:
            uses[operand] -= 1
            if not uses[operand]:
                ready.pop(operand, None)
        for follower in plan.followers[node]:
            missing[follower] -= 1
            if not missing[follower]:
                heappush(startable, (follower.number, follower))

    while startable or running:
        # What finishes without a message may let others start in the same round.
        while startable:
            _, node = heappop(startable)
            outcome: Any = inputs.get(node) if isinstance(node, Leaf) else None
            if outcome is None:
                operands, rule = plan.ways[node]
                try:
                    outcome = rule(*[ready[operand] for operand in operands])
                except Refused as problem:
                    raise _located(problem, node) from problem
            if isinstance(outcome, Secret):
                finish(node, outcome)
                continue
            running[node] = outcome
            _advance(node, running, finish)
        if not running:
            break
        yield
        for node in sorted(running, key=_number):
            _advance(node, running, finish)
    return [ready[node] for node in plan.results]


def _advance(
    node: Node, running: dict[Node, Generator[None, None, Secret]], finish: Callable[[Node, Secret], None]
) -> None:
    try:
        next(running[node])
    except StopIteration as end:
        del running[node]
        finish(node, end.value)
    except Refused as problem:
        raise _located(problem, node) from problem


def _located(problem: Refused, node: Node) -> Refused:
    """The refusal with the line of the user's function that asked for the operation, where that is known."""
    if not node.origin or isinstance(problem, RefusedAt):
        return problem
    return RefusedAt(f"{problem} ({node.origin})")


def _needed(results: Sequence[Node], ways: Ways = MappingProxyType({})) -> list[Node]:
    """Every node that the results depend on, operands first; ``ways`` says where not a node's own operands count."""
    found: set[Node] = set()
    stack = list(results)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(ways[node][0] if node in ways else node.operands)
    return sorted(found, key=_number)


def _uses(ways: Ways, results: Sequence[Node]) -> dict[Node, int]:
    uses = dict.fromkeys(ways, 0)
    for operands, _ in ways.values():
        for operand in operands:
            uses[operand] += 1
    for node in results:
        uses[node] += 1
    return uses


def _number(node: Node) -> int:
    return node.number


def _not_given(*_: Any) -> Secret:
    raise KeyError("a computation was run without one of its inputs")
