"""What a validator answers to the others: where it stands, blocks, headers, a snapshot of its state."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from koinon.kernel.errors import Refused
from koinon.kernel.ids import NodeId
from koinon.ledger.catchup import answer_block, answer_headers, answer_range
from koinon.ledger.chain import Chain
from koinon.ledger.giskard.state import State
from koinon.ledger.snapshot_sync import SnapshotLibrary
from koinon.ledger.types import header_hash
from koinon.wire.catalogue import Message
from koinon.wire.ledger import (
    BlockRequest,
    HeaderRequest,
    LedgerStatus,
    RangeRequest,
    SnapshotChunkRequest,
    SnapshotRequest,
    StatusRequest,
)

_M = TypeVar("_M", bound=Message)


class Listening(Protocol):
    """The part of ``koinon.net.transport.Transport`` that hears requests."""

    def handle(self, kind: type[_M], function: Callable[[NodeId, _M], Awaitable[Message | None]]) -> None: ...


class Answers:
    """Answers requests, which change nothing here.

    Args:
        state: Giskard's, as it is now.
        is_validator: whether a node is in the present validator set; snapshots cost much and go to these only.
    """

    def __init__(
        self,
        chain: Chain,
        snapshots: SnapshotLibrary,
        state: Callable[[], State],
        is_validator: Callable[[NodeId], bool],
    ) -> None:
        self._chain = chain
        self._snapshots = snapshots
        self._state = state
        self._is_validator = is_validator

    def listen(self, network: Listening) -> None:
        """Answer what comes in from now on."""
        network.handle(BlockRequest, self._block)
        network.handle(RangeRequest, self._range)
        network.handle(HeaderRequest, self._headers)
        network.handle(StatusRequest, self._status)
        network.handle(SnapshotRequest, self._snapshot)
        network.handle(SnapshotChunkRequest, self._chunk)

    async def _block(self, _peer: NodeId, message: BlockRequest) -> Message:
        return answer_block(self._state(), self._chain, message)

    async def _range(self, _peer: NodeId, message: RangeRequest) -> Message:
        return answer_range(self._chain, message)

    async def _headers(self, _peer: NodeId, message: HeaderRequest) -> Message:
        return answer_headers(self._chain, message)

    async def _status(self, _peer: NodeId, _message: StatusRequest) -> Message:
        header = self._chain.final_header
        return LedgerStatus(
            genesis=self._chain.genesis.hash,
            final_height=header.height,
            final_block=header_hash(header),
            view=self._state().view,
            oldest_body=self._chain.oldest_body,
        )

    async def _snapshot(self, peer: NodeId, _message: SnapshotRequest) -> Message:
        self._check_validator(peer)
        return await self._snapshots.offer()

    async def _chunk(self, peer: NodeId, message: SnapshotChunkRequest) -> Message:
        self._check_validator(peer)
        return await self._snapshots.chunk(message)

    def _check_validator(self, peer: NodeId) -> None:
        if not self._is_validator(peer):
            raise Refused("snapshots are given to validators only; ask an operator for a snapshot file")
