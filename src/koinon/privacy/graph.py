"""Computations written down before they are run: a graph of operations on Secret arrays, and running it on any engine.

Writing ``a * b + c`` makes nodes; nothing is computed and nothing is sent. ``evaluate`` then runs exactly the nodes its
results need, and merges the rounds of whatever does not depend on each other: an operation starts in the round in which
its last operand is ready. The order is that in which the nodes were made, the same at every party.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

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
    """

    __slots__ = ("number", "operands", "origin", "rule", "shape")

    def __init__(self, operands: Sequence["Node"], shape: tuple[int, ...], rule: Rule) -> None:
        self.number = next(_numbers)
        self.operands = tuple(operands)
        self.shape = shape
        self.rule = rule
        self.origin = _origin.get()


class Leaf(Node):
    """An input; its Secret is handed to ``evaluate``."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__((), shape, _not_given)


def evaluate(results: Sequence[Node], inputs: dict[Leaf, Secret]) -> Generator[None, None, list[Secret]]:
    """Run what ``results`` need; their Secrets, in order. Every ``yield`` ends one round.

    An intermediate result is forgotten as soon as nothing needs it any more.

    Raises:
        Refused: some operation could overflow.
    """
    nodes = _needed(results)
    uses = _uses(nodes, results)
    ready: dict[Node, Secret] = {}
    missing = {node: len(set(node.operands)) for node in nodes}
    followers: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for operand in set(node.operands):
            followers[operand].append(node)
    startable = [node.number for node in nodes if not missing[node]]
    by_number = {node.number: node for node in nodes}
    running: dict[Node, Generator[None, None, Secret]] = {}

    def finish(node: Node, secret: Secret) -> None:
        ready[node] = secret
        for operand in node.operands:
            uses[operand] -= 1
            if not uses[operand]:
                ready.pop(operand, None)
        for follower in followers.pop(node):
            missing[follower] -= 1
            if not missing[follower]:
                heappush(startable, follower.number)

    while startable or running:
        # What finishes without a message may let others start in the same round.
        while startable:
            node = by_number[heappop(startable)]
            outcome: Any = inputs.get(node) if isinstance(node, Leaf) else None
            if outcome is None:
                try:
                    outcome = node.rule(*(ready[operand] for operand in node.operands))
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
    return [ready[node] for node in results]


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


def _needed(results: Sequence[Node]) -> list[Node]:
    """Every node that the results depend on, operands first."""
    found: set[Node] = set()
    stack = list(results)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.operands)
    return sorted(found, key=_number)


def _uses(nodes: Sequence[Node], results: Sequence[Node]) -> dict[Node, int]:
    uses = dict.fromkeys(nodes, 0)
    for node in nodes:
        for operand in node.operands:
            uses[operand] += 1
    for node in results:
        uses[node] += 1
    return uses


def _number(node: Node) -> int:
    return node.number


def _not_given(*_: Any) -> Secret:
    raise KeyError("a computation was run without one of its inputs")
