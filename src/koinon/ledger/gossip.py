"""How a transaction that came in here reaches the other validators.

All are one step away, so nobody passes on what another sent, and nothing goes round in circles. A few get the
transactions themselves at once; where there are many more validators, the others get the hashes and ask for those that
they do not hold, once each.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from koinon.kernel.errors import InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import Hash32, NodeId
from koinon.ledger.mempool import Mempool
from koinon.ledger.outbox import Network, Outbox
from koinon.ledger.transaction import Transaction
from koinon.wire.discovery import Endpoint
from koinon.wire.ledger import MOST_HASHES, TransactionBatch, TransactionHashes, TransactionRequest

PUSHED_TO: Final = 8
_BATCH: Final = 64
_BATCH_BYTES: Final = 768 * 1024
_CALL_SECONDS: Final = 5.0
_MOST_ASKED: Final = 8_192
_log: Final = logging.getLogger("koinon.ledger.gossip")


class Gossip:
    """Tells of new transactions and asks for those that others tell of. Belongs to one event loop.

    Args:
        take: takes in transactions that a peer sent.
        is_final: whether a transaction is in a final block already.
    """

    def __init__(
        self,
        network: Network,
        outbox: Outbox,
        peers: Mapping[NodeId, Endpoint],
        mempool: Mempool,
        take: Callable[[NodeId, TransactionBatch], Awaitable[None]],
        is_final: Callable[[Hash32], bool],
    ) -> None:
        self._network = network
        self._outbox = outbox
        self._peers = peers
        self._mempool = mempool
        self._take = take
        self._is_final = is_final
        self._waiting: list[Transaction] = []
        self._asked: set[Hash32] = set()

    def tell(self, transaction: Transaction, members: Callable[[], Collection[NodeId]]) -> None:
        """Tell the validators, together with whatever else comes in during this turn of the event loop."""
        self._waiting.append(transaction)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(lambda: self._spread(members()))

    def _spread(self, members: Collection[NodeId]) -> None:
        told, self._waiting = self._waiting, []
        listeners = list(self._outbox.listeners(members))
        pushed = listeners if len(listeners) <= PUSHED_TO else secrets.SystemRandom().sample(listeners, PUSHED_TO)
        for batch in _batches(transaction.raw for transaction in told):
            for node_id in pushed:
                self._outbox.send(node_id, batch)
        announced = [node_id for node_id in listeners if node_id not in pushed]
        for start in range(0, len(told), MOST_HASHES):
            hashes = TransactionHashes(tuple(one.hash for one in told[start : start + MOST_HASHES]))
            for node_id in announced:
                self._outbox.send(node_id, hashes)

    async def hear(self, peer: NodeId, message: TransactionHashes) -> None:
        """Ask who told of transactions for those that are not here and that nobody has been asked for."""
        endpoint = self._peers.get(peer)
        wanted = tuple(name for name in dict.fromkeys(message.hashes) if self._is_unknown(name))
        if endpoint is None or not wanted or len(self._asked) + len(wanted) > _MOST_ASKED:
            return
        self._asked.update(wanted)
        try:
            answer = await self._network.call(endpoint, TransactionRequest(wanted), _CALL_SECONDS)
            if isinstance(answer, TransactionBatch):
                await self._take(peer, answer)
        except KoinonError as problem:
            _log.debug("no transactions from a validator that told of them: %s", problem)
        finally:
            self._asked.difference_update(wanted)

    def _is_unknown(self, name: Hash32) -> bool:
        return name not in self._asked and self._mempool.get(name) is None and not self._is_final(name)

    async def answer(self, _peer: NodeId, message: TransactionRequest) -> TransactionBatch:
        """Of those asked for, what waits here and fits into one message.

        Raises:
            Unavailable: none of them waits here any more.
            InvalidInput: one is asked for twice.
        """
        if len(set(message.hashes)) != len(message.hashes):
            raise InvalidInput("a request for transactions names one twice")
        held = [found.raw for name in message.hashes if (found := self._mempool.get(name)) is not None]
        first = next(_batches(held, MOST_HASHES), None)
        if first is None:
            raise Unavailable("none of the transactions asked for waits here")
        return first


def _batches(raws: Iterable[bytes], count: int = _BATCH) -> Iterator[TransactionBatch]:
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        if batch and (len(batch) == count or size + len(raw) > _BATCH_BYTES):
            yield TransactionBatch(tuple(batch))
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield TransactionBatch(tuple(batch))
