"""Finding nodes: every node announces its signed record to the bootstrap nodes, and asks them for others'.

A bootstrap node can withhold records, so all of them are asked; it cannot invent or alter any, since each record is
signed by the node and by the account it speaks for, and the highest sequence counts.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

from koinon.kernel.effects import Clock
from koinon.kernel.errors import KoinonError, Unavailable
from koinon.kernel.ids import Address, NodeId, to_hex
from koinon.kernel.quantities import Seconds
from koinon.net.records import RecordTable, sign_record
from koinon.wire.catalogue import Message
from koinon.wire.discovery import MOST_FOUND, Announce, Endpoint, Find, Found, NodeClaim, NodeRecord

__all__ = ["Directory", "NodeClaim", "NodeRecord", "RecordTable", "sign_record"]

FRESH: Final = Seconds(30.0)
"""How long a record just learned is given out without asking again."""

ASK_TIMEOUT: Final = Seconds(5.0)
_MOST_PAGES: Final = 200

_log: Final = logging.getLogger("koinon.net")

_M = TypeVar("_M", bound=Message)


class Network(Protocol):
    """What a directory needs of a transport."""

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = ..., /) -> Message: ...

    def handle(
        self, kind: type[_M], function: Callable[[NodeId, _M], Coroutine[Any, Any, Message | None]], /
    ) -> None: ...


class Directory:
    """What this node knows of others, and the way to know more.

    Args:
        network: the transport.
        clock: for expiry and freshness.
        bootstrap: the nodes that hold everybody's record; this node itself may be among them.
        table: where verified records are kept.
    """

    def __init__(
        self, network: Network, clock: Clock, bootstrap: Sequence[Endpoint], table: RecordTable | None = None
    ) -> None:
        self._network = network
        self._clock = clock
        self._bootstrap = tuple(bootstrap)
        self._table = table or RecordTable()
        self._learned: dict[Find, Seconds] = {}

    def serve(self) -> None:
        """Answer other nodes' announcements and questions; what a bootstrap node does."""
        self._network.handle(Announce, self._keep)
        self._network.handle(Find, self._answer)

    async def announce(self, record: NodeRecord) -> int:
        """Give this node's record to every bootstrap node, and keep it here; returns how many took it.

        Do it again before the record expires, and at once with a higher sequence when something changes.

        Raises:
            MalformedMessage, Forged, Refused: the record does not pass here.
            Unavailable: no bootstrap node took it; says why each did not.
        """
        self._table.add(record, self._clock.unix())
        outcomes = await self._ask_all(Announce(record))
        failures = [_failure(source, outcome) for source, outcome in outcomes if isinstance(outcome, KoinonError)]
        if self._bootstrap and len(failures) == len(outcomes):
            raise Unavailable("no bootstrap node took this node's record; " + "; ".join(failures))
        return len(outcomes) - len(failures)

    async def find(
        self,
        *,
        node_id: NodeId | None = None,
        account: Address | None = None,
        role: str | None = None,
        anew: bool = False,
    ) -> tuple[NodeRecord, ...]:
        """The verified, unexpired records that match everything given, in ascending order of node id.

        Within 30 seconds of the same question the bootstrap nodes are not asked again, unless ``anew``. If none of them
        answers, what is known here is given.

        Raises:
            Unavailable: no bootstrap node answers and nothing that matches is known here.
        """
        wanted = Find(node_id, account, role)
        asked = self._learned.get(wanted)
        known = self._known(wanted)
        if not anew and known and asked is not None and self._clock.monotonic() - asked < FRESH:
            return known
        outcomes = await asyncio.gather(*(self._learn(source, wanted) for source in self._bootstrap))
        failures = [
            _failure(source, problem) for source, problem in zip(self._bootstrap, outcomes, strict=True) if problem
        ]
        known = self._known(wanted)
        if len(failures) < len(self._bootstrap):
            self._remember(wanted)
        elif failures and not known:
            raise Unavailable("no bootstrap node answers; " + "; ".join(failures))
        return known

    async def find_node(self, node_id: NodeId, *, anew: bool = False) -> NodeRecord:
        """The record of one node; see ``find``. Raises Unavailable if nobody knows it."""
        return _newest(await self.find(node_id=node_id, anew=anew), f"node {to_hex(node_id)}")

    async def find_account(self, account: Address) -> NodeRecord:
        """The newest record that an account has signed. Raises Unavailable if nobody knows one."""
        return _newest(await self.find(account=account), f"account {to_hex(account)}")

    async def _keep(self, _: NodeId, message: Announce) -> None:
        self._table.add(message.record, self._clock.unix())

    async def _answer(self, _: NodeId, message: Find) -> Found:
        return Found(self._table.find(message, self._clock.unix()))

    async def _ask_all(self, message: Message) -> list[tuple[Endpoint, Message | KoinonError]]:
        async def ask(source: Endpoint) -> Message | KoinonError:
            try:
                return await self._network.call(source, message, ASK_TIMEOUT)
            except KoinonError as problem:
                return problem

        answers = await asyncio.gather(*(ask(source) for source in self._bootstrap))
        return list(zip(self._bootstrap, answers, strict=True))

    async def _learn(self, source: Endpoint, wanted: Find) -> KoinonError | None:
        """Ask one node for every page of an answer; what it says falsely is passed over."""
        after: NodeId | None = None
        for _ in range(_MOST_PAGES):
            try:
                question = Find(wanted.node_id, wanted.account, wanted.role, after)
                answer = await self._network.call(source, question, ASK_TIMEOUT)
            except KoinonError as problem:
                return problem
            assert isinstance(answer, Found)
            for record in answer.records:
                try:
                    self._table.add(record, self._clock.unix())
                except KoinonError as problem:
                    _log.info("a record from node 0x%s… was passed over: %s", source.node_id.hex()[:16], problem)
            if len(answer.records) < MOST_FOUND:
                return None
            last = answer.records[-1].claim.node_id
            if after is not None and last <= after:
                return Unavailable("its answer does not end")
            after = last
        return Unavailable("its answer does not end")

    def _known(self, wanted: Find) -> tuple[NodeRecord, ...]:
        return self._table.find(wanted, self._clock.unix(), most=_MOST_PAGES * MOST_FOUND)

    def _remember(self, wanted: Find) -> None:
        now = self._clock.monotonic()
        self._learned = {find: asked for find, asked in self._learned.items() if now - asked < FRESH}
        self._learned[wanted] = now


def _newest(records: Sequence[NodeRecord], who: str) -> NodeRecord:
    if not records:
        raise Unavailable(f"no record of {who} is known; it may not have announced itself yet")
    return max(records, key=lambda record: record.claim.sequence)


def _failure(source: Endpoint, problem: KoinonError) -> str:
    return f"node 0x{source.node_id.hex()[:16]}…: {problem}"
