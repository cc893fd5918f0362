"""What a validator hears from the others and takes in: consensus messages and transactions, from validators only."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final, Protocol, TypeVar

from koinon.kernel.errors import KoinonError, Refused
from koinon.kernel.ids import NodeId
from koinon.ledger.consensus import Heard, Wake, is_timely
from koinon.ledger.gossip import Gossip
from koinon.ledger.lane import EventLane
from koinon.ledger.mempool import Mempool
from koinon.ledger.senders import SenderRecovery
from koinon.ledger.state import StateView
from koinon.ledger.transaction import Transaction
from koinon.ledger.types import Certified, EpochSync, PrepareBlock, PrepareVote, ViewChange, ViewSync
from koinon.wire.catalogue import Message
from koinon.wire.consensus import ConsensusMessage
from koinon.wire.ledger import TransactionBatch, TransactionHashes, TransactionRequest

_LONGEST_QUEUE: Final = 8192
_log: Final = logging.getLogger("koinon.ledger")

_M = TypeVar("_M", bound=Message)


class Listening(Protocol):
    """The part of ``koinon.net.transport.Transport`` that hears messages."""

    def handle(self, kind: type[_M], function: Callable[[NodeId, _M], Awaitable[Message | None]]) -> None: ...


class Intake:
    """Belongs to one event loop.

    Args:
        state: what transactions are checked against.
        threads: where they are checked.
        waiting: told of every transaction that is new here.
        is_known: whether a node validates, or may.
    """

    def __init__(
        self,
        lane: EventLane,
        mempool: Mempool,
        state: Callable[[], StateView],
        senders: SenderRecovery,
        threads: Executor,
        waiting: Callable[[Transaction], None],
        is_known: Callable[[NodeId], bool],
    ) -> None:
        self._lane = lane
        self._mempool = mempool
        self._state = state
        self._senders = senders
        self._threads = threads
        self._waiting = waiting
        self._is_known = is_known

    def listen(self, network: Listening, gossip: Gossip) -> None:
        """Hear what the network brings from now on."""

        async def hear_of(peer: NodeId, message: TransactionHashes) -> None:
            self._check_origin(peer)
            await gossip.hear(peer, message)

        network.handle(PrepareBlock, self._on_consensus)
        network.handle(PrepareVote, self._on_consensus)
        network.handle(ViewChange, self._on_consensus)
        network.handle(ViewSync, self._on_consensus)
        network.handle(EpochSync, self._on_consensus)
        network.handle(Certified, self._on_consensus)
        network.handle(TransactionBatch, self._on_transactions)
        network.handle(TransactionHashes, hear_of)
        network.handle(TransactionRequest, gossip.answer)

    async def _on_consensus(self, peer: NodeId, message: ConsensusMessage) -> None:
        if not self._is_known(peer):
            raise Refused("consensus messages are taken from validators only")
        if isinstance(message, PrepareBlock) and not is_timely(message):
            raise Refused(f"block {message.block.header.height} is dated in the future; set the proposer's clock")
        if len(self._lane) >= _LONGEST_QUEUE:
            raise Refused("this validator is behind with its work; the message is dropped")
        self._lane.put(Heard(peer, message, time.monotonic()))

    async def _on_transactions(self, peer: NodeId, message: TransactionBatch) -> None:
        self._check_origin(peer)
        await self.take(peer, message)

    def _check_origin(self, peer: NodeId) -> None:
        if not self._is_known(peer):
            raise Refused("transactions are taken from validators only; send yours through the RPC")

    async def take(self, _peer: NodeId, message: TransactionBatch) -> None:
        """Take in what is new of a batch; the rest is passed over."""
        loop = asyncio.get_running_loop()
        new, refused = await loop.run_in_executor(self._threads, self._add_all, message.transactions)
        for transaction in new:
            self._waiting(transaction)
        for reason in refused[:1]:
            _log.debug("%d transactions from a validator were refused, the first because: %s", len(refused), reason)
        self._lane.put(Wake())

    def _add_all(self, raws: tuple[bytes, ...]) -> tuple[list[Transaction], list[str]]:
        """The transactions that are new here, and why others were refused."""
        new, refused = [], []
        state = self._state()
        for found in self._senders.read_all(raws):
            try:
                if isinstance(found, KoinonError):
                    raise found
                if self._mempool.add(found, state):
                    new.append(found)
            except KoinonError as problem:
                refused.append(str(problem))
        return new, refused
