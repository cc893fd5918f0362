"""Anchors of the receipts that service nodes leave for every answer."""

from dataclasses import dataclass

from koinon.contracts.client import ChainClient, Receipt
from koinon.contracts.contract import Contract, Event
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import UnixSeconds


@dataclass(frozen=True, slots=True)
class Batch:
    """An anchored Merkle root over ``count`` receipts from ``first_sequence`` on."""

    root: Hash32
    first_sequence: int
    count: int
    anchored_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class Anchored(Event):
    service_id: int
    node: Address
    batch: int
    root: Hash32
    first_sequence: int
    count: int


class Receipts(Contract):
    """Client of ``Receipts``."""

    NAME = "Receipts"

    @classmethod
    async def deploy(cls, client: ChainClient, assets: Address, providers: Address) -> "Receipts":
        """Create the contract."""
        return cls(client, await cls._deploy(client, assets, providers))

    async def anchor(self, service_id: int, root: Hash32, count: int, first_sequence: int) -> Receipt:
        """Anchor the caller's next batch; the caller is a provider that serves."""
        return await self._write("anchor", service_id, root, count, first_sequence)

    async def next_sequence(self, service_id: int, node: Address) -> int:
        """First sequence number of a node that is not anchored yet; numbers start at 0."""
        return int(await self._read(int, "nextSequence", service_id, node))

    async def batch_count(self, service_id: int, node: Address) -> int:
        """Batches a node has anchored."""
        return int(await self._read(int, "batchCount", service_id, node))

    async def batch_of(self, service_id: int, node: Address, batch: int) -> Batch:
        """One batch. Raises Reverted (Unknown) where there is none."""
        found: Batch = await self._read(Batch, "batchOf", service_id, node, batch)
        return found
