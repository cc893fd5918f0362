"""Twenty validators' pools joined by gossip alone: each transaction reaches all, and nothing is sent in circles."""

import asyncio
from collections import Counter
from collections.abc import Collection

import msgspec
import pytest
from test_ledger_mempool import _Nonces, transaction

from koinon.crypto.hash import keccak256
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import Hash32, NodeId
from koinon.kernel.quantities import Gas, Wei
from koinon.ledger.gossip import PUSHED_TO, Gossip
from koinon.ledger.mempool import Mempool
from koinon.ledger.outbox import Outbox
from koinon.ledger.transaction import Transaction
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint
from koinon.wire.ledger import TransactionBatch, TransactionHashes, TransactionRequest

COUNT = 20


class Mesh:
    """Delivers to whoever is meant, and counts."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, Node] = {}
        self.sent: Counter[str] = Counter()
        self.taken = asyncio.Condition()

    async def all_have(self, count: int) -> None:
        async with self.taken:
            await self.taken.wait_for(lambda: all(len(node.pool) >= count for node in self.nodes.values()))

    def seen_by(self, sender: NodeId) -> "Wire":
        return Wire(self, sender)


class Wire:
    def __init__(self, mesh: Mesh, sender: NodeId) -> None:
        self._mesh = mesh
        self._sender = sender

    async def send(self, endpoint: Endpoint, message: Message, timeout: float = 1) -> None:
        self._mesh.sent[type(message).__name__] += 1
        node = self._mesh.nodes[endpoint.node_id]
        if isinstance(message, TransactionHashes):
            await node.gossip.hear(self._sender, message)
        else:
            assert isinstance(message, TransactionBatch)
            await node.take(self._sender, message)

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = 1) -> Message:
        assert isinstance(message, TransactionRequest)
        self._mesh.sent["asked"] += len(message.hashes)
        return await self._mesh.nodes[endpoint.node_id].gossip.answer(self._sender, message)


class Node:
    def __init__(self, mesh: Mesh, number: int, known: dict[bytes, Transaction]) -> None:
        self.name = NodeId(bytes([number + 1]) * 32)
        peers = {
            peer: Endpoint(peer, "127.0.0.1", 1)
            for peer in (NodeId(bytes([other + 1]) * 32) for other in range(COUNT) if other != number)
        }
        self.pool = Mempool(transaction(1, 0).chain_id or 1, Gas(1_000_000), Wei(10))  # type: ignore[arg-type]
        self.mesh = mesh
        wire = mesh.seen_by(self.name)
        self.outbox = Outbox(wire, peers)
        self.known = known
        self.gossip = Gossip(wire, self.outbox, peers, self.pool, self.take, lambda _: False)
        mesh.nodes[self.name] = self

    async def take(self, _peer: NodeId, message: TransactionBatch) -> None:
        for raw in message.transactions:
            self.pool.add(self.known[raw], _Nonces({}))
        async with self.mesh.taken:
            self.mesh.taken.notify_all()


async def test_everybody_gets_each_transaction_once() -> None:
    mesh, known = Mesh(), dict[bytes, Transaction]()
    nodes = [Node(mesh, number, known) for number in range(COUNT)]
    made = [_numbered(nonce) for nonce in range(5)]
    known.update({one.raw: one for one in made})
    everybody: Collection[NodeId] = list(mesh.nodes)
    for one in made:
        nodes[0].pool.add(one, _Nonces({}))
        nodes[0].gossip.tell(one, lambda: everybody)
    await asyncio.wait_for(mesh.all_have(len(made)), 60)
    others = COUNT - 1 - PUSHED_TO
    assert mesh.sent == {"TransactionBatch": PUSHED_TO, "TransactionHashes": others, "asked": others * len(made)}
    mesh.sent.clear()
    again = TransactionHashes(tuple(one.hash for one in made))
    for node in nodes[1:]:
        await node.gossip.hear(nodes[0].name, again)
    assert mesh.sent == {}
    await asyncio.gather(*(node.outbox.close() for node in nodes))


async def test_what_is_not_there_is_said() -> None:
    mesh = Mesh()
    node = Node(mesh, 0, {})
    with pytest.raises(Unavailable, match="none of the transactions"):
        await node.gossip.answer(node.name, TransactionRequest((Hash32(bytes(32)),)))
    with pytest.raises(InvalidInput, match="names one twice"):
        await node.gossip.answer(node.name, TransactionRequest((Hash32(bytes(32)),) * 2))
    await node.gossip.hear(NodeId(b"\xee" * 32), TransactionHashes((Hash32(bytes(32)),)))
    assert mesh.sent == {}
    await node.outbox.close()


def _numbered(nonce: int) -> Transaction:

    raw = b"\x02" + nonce.to_bytes(100, "big")
    return msgspec.structs.replace(transaction(1, nonce), raw=raw, hash=keccak256(raw))
