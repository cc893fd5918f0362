"""Blocks from the other validators: single ones that are missing, and all final ones after an absence."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from koinon.kernel.errors import KoinonError
from koinon.kernel.ids import Hash32, NodeId
from koinon.kernel.quantities import Height
from koinon.ledger.chain import Chain
from koinon.ledger.consensus import Heard
from koinon.ledger.giskard.state import BlockFetched, Fetch, State, TimerFired
from koinon.ledger.outbox import Network
from koinon.ledger.types import Block, EpochSync, FinalityProof, PrepareBlock, QuorumCertificate, header_hash
from koinon.wire.catalogue import Message
from koinon.wire.consensus import MAXIMUM_BLOCK_BYTES
from koinon.wire.discovery import Endpoint
from koinon.wire.ledger import (
    MAXIMUM_RANGE_BYTES,
    BlockAnswer,
    BlockRange,
    BlockRequest,
    HeaderRange,
    HeaderRequest,
    LedgerStatus,
    RangeRequest,
    StatusRequest,
)

_CALL_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 3.0
_RANGE: Final = 64
_MOST_ABOVE: Final = 64
"""Blocks asked for to make another final; a proof needs two, and one more for each lost view between."""
_HEADERS: Final = 512
_log: Final = logging.getLogger("koinon.ledger.catchup")


class CatchUp:
    """Asks others for blocks and feeds them to consensus as events.

    Args:
        feed: takes an event to consensus and returns when it has been worked off.
        now: monotonic time.
        overtake: replaces the state by a newer snapshot's, where the blocks in between are kept by nobody.
    """

    def __init__(
        self,
        chain: Chain,
        network: Network,
        peers: Mapping[NodeId, Endpoint],
        feed: Callable[[BlockFetched | Heard | TimerFired], Awaitable[None]],
        now: Callable[[], float],
        overtake: Callable[[], Awaitable[None]],
    ) -> None:
        self._overtake = overtake
        self._chain = chain
        self._network = network
        self._peers = peers
        self._feed = feed
        self._now = now
        self._wanted: dict[Hash32, asyncio.Task[None]] = {}
        self._ranges: dict[NodeId, asyncio.Task[None]] = {}
        self._silent: set[NodeId] = set()
        self._foreign: set[NodeId] = set()
        self._heights: dict[NodeId, Height] = {}
        self._oldest: dict[NodeId, Height] = {}

    @property
    def known_height(self) -> Height:
        """The highest final height that more validators claim than may lie; 0 before enough have answered."""
        claimed = sorted(self._heights.values(), reverse=True)
        faults = self._chain.validators.faults
        return claimed[faults] if len(claimed) > faults else Height(0)

    def fetch(self, effect: Fetch) -> None:
        """Get a block in the background, unless it is on its way already."""
        if effect.block not in self._wanted and self._peers:
            task = asyncio.create_task(self._fetch(effect.block, effect.height))
            self._wanted[effect.block] = task
            task.add_done_callback(lambda _: self._wanted.pop(effect.block, None))

    async def _fetch(self, block: Hash32, height: Height) -> None:
        for peer in self._by_promise():
            if height <= self._chain.final_height + 1:
                break
            await self._fetch_final(peer)
        for peer in self._by_promise():
            if height <= self._chain.final_height or await self._take_block(peer, block):
                return

    def _by_promise(self) -> list[Endpoint]:
        """The peers, those last that gave no answer when they were asked last: each of them costs a time-out."""
        return sorted(self._peers.values(), key=lambda peer: peer.node_id in self._silent)

    async def _call(self, peer: Endpoint, message: Message) -> Message | None:
        """A peer's answer, None if it gives none."""
        try:
            answer = await self._network.call(peer, message, _CALL_SECONDS)
        except KoinonError as problem:
            _log.debug("no answer to %s from a validator: %s", type(message).__name__, problem)
            self._silent.add(peer.node_id)
            return None
        self._silent.discard(peer.node_id)
        return answer

    async def _fetch_final(self, peer: Endpoint) -> None:
        """Take over everything a peer holds as final and we do not.

        Whoever wants that while it goes on waits for the same: while blocks are missing, every new certificate asks for
        one more, and a peer that does not answer would cost each of them a time-out, one after the other.
        """
        running = self._ranges.get(peer.node_id)
        if running is None:
            running = self._ranges[peer.node_id] = asyncio.create_task(self._take_ranges(peer))
            running.add_done_callback(lambda _: self._ranges.pop(peer.node_id, None))
        await asyncio.shield(running)

    async def _take_ranges(self, peer: Endpoint) -> None:
        while True:
            first = Height(self._chain.final_height + 1)
            answer = await self._call(peer, RangeRequest(first, _RANGE))
            if not isinstance(answer, BlockRange) or len(answer.blocks) != len(answer.certificates):
                return
            # The highest first: nothing becomes final before the lowest is here, and then all in one durable write.
            pairs = [*zip(answer.blocks, answer.certificates, strict=True)][::-1]
            now = self._now()
            await asyncio.gather(
                *(self._feed(BlockFetched(block, None, certificate, now)) for block, certificate in pairs)
            )
            if answer.end is not None:
                await self._take_end(peer, answer.end)
            if self._chain.final_height < first:
                return

    async def _take_end(self, peer: Endpoint, end: FinalityProof) -> None:
        """What makes the last block of a range final: its epoch's end, or the blocks above it, not final themselves."""
        last = end.headers[0]
        if last.height == self._chain.last_height(last.epoch):
            await self._feed(Heard(peer.node_id, EpochSync(end), self._now()))
            return
        for header in end.headers[1 : 1 + _MOST_ABOVE]:
            await self._take_block(peer, header_hash(header))

    async def _take_block(self, peer: Endpoint, block: Hash32) -> bool:
        """Ask one peer for one block; whether it came with its certificate."""
        answer = await self._call(peer, BlockRequest(block))
        if (
            not isinstance(answer, BlockAnswer)
            or answer.proposal is None
            or header_hash(answer.proposal.block.header) != block
        ):
            return False
        proposal = answer.proposal
        await self._feed(BlockFetched(proposal.block, proposal.signature, answer.certificate, self._now()))
        return answer.certificate is not None

    async def keep_up(self) -> None:
        """Ask each validator in turn where it stands, for ever: a quiet network tells nobody what they missed."""
        for peer in tuple(self._peers.values()):
            await self._look_at(peer)
        while True:
            for peer in tuple(self._peers.values()):
                await asyncio.sleep(_LOOK_SECONDS)
                await self._look_at(peer)
                # Giskard asks again in every step for what it lacks; where everybody waits for a timer there is none.
                await self._feed(TimerFired(self._now()))
            if not self._peers:
                await asyncio.sleep(_LOOK_SECONDS)

    async def _look_at(self, peer: Endpoint) -> None:
        answer = await self._call(peer, StatusRequest())
        if not isinstance(answer, LedgerStatus):
            return
        if answer.genesis != self._chain.genesis.hash:
            if peer.node_id not in self._foreign:
                _log.error(
                    "validator 0x%s… follows another genesis (0x%s…, ours is 0x%s…); one of the two has the wrong file",
                    peer.node_id.hex()[:16],
                    answer.genesis.hex()[:16],
                    self._chain.genesis.hash.hex()[:16],
                )
            self._foreign.add(peer.node_id)
            return
        self._foreign.discard(peer.node_id)
        self._heights[peer.node_id] = answer.final_height
        self._oldest[peer.node_id] = answer.oldest_body
        if answer.final_height > self._chain.final_height:
            await self._fetch_final(peer)
            if self._is_outrun():
                _log.warning("no validator keeps block %d any more; taking a snapshot", self._chain.final_height + 1)
                await self._overtake()
        if self._chain.oldest_header > 0:
            await self._fetch_headers(peer)

    def _is_outrun(self) -> bool:
        """Whether more validators than may lie say that the next block is final and that they do not keep it.

        Who says that it keeps it was asked, as everybody is in turn, and gave nothing.
        """
        wanted = self._chain.final_height + 1
        gone = [peer for peer, height in self._heights.items() if height >= wanted and self._oldest[peer] > wanted]
        return len(gone) > self._chain.validators.faults

    async def _fetch_headers(self, peer: Endpoint) -> None:
        """Fill in the headers that a snapshot leaves out, downwards, as far as this peer has them."""
        while (oldest := self._chain.oldest_header) > 0:
            first = Height(max(0, oldest - _HEADERS))
            answer = await self._call(peer, HeaderRequest(first, oldest - first))
            if not isinstance(answer, HeaderRange) or len(answer.headers) != oldest - first:
                return
            try:
                await asyncio.to_thread(self._chain.add_ancestors, answer.headers)
            except KoinonError as problem:
                _log.debug("no headers from a validator: %s", problem)
                return

    async def close(self) -> None:
        tasks = [*self._wanted.values(), *self._ranges.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answer_block(state: State, chain: Chain, request: BlockRequest) -> BlockAnswer:
    """A block above the last final one, or the final one itself."""
    tracked = state.blocks.get(request.block)
    certificate = state.certificates.get(request.block)
    if tracked is not None:
        proposal = PrepareBlock(tracked.block, None, None, tracked.signature or b"\x00")
        return BlockAnswer(proposal, certificate)
    height = chain.height_of(request.block)
    if height is not None:
        return BlockAnswer(PrepareBlock(chain.block_at(height), None, None, b"\x00"), chain.certificate_at(height))
    return BlockAnswer(None, certificate)


def answer_headers(chain: Chain, request: HeaderRequest) -> HeaderRange:
    """Final headers from a height on; pruning leaves them."""
    last = min(request.first + request.count - 1, chain.final_height)
    return HeaderRange(tuple(chain.header_at(height) for height in range(request.first, last + 1)))


def answer_range(chain: Chain, request: RangeRequest) -> BlockRange:
    """Final blocks from a height on, as many as fit into an answer."""
    blocks: list[Block] = []
    certificates: list[QuorumCertificate] = []
    size = 0
    for height in range(request.first, min(request.first + request.count, chain.final_height + 1)):
        block = chain.block_at(height)
        size += sum(len(raw) for raw in block.transactions) + 1024
        if blocks and size > MAXIMUM_RANGE_BYTES - MAXIMUM_BLOCK_BYTES:
            break
        blocks.append(block)
        certificates.append(chain.certificate_at(height))
        if 0 < height in (chain.final_height, chain.last_height(chain.epoch_of(height))):
            return BlockRange(tuple(blocks), tuple(certificates), chain.finality_proof(height))
    return BlockRange(tuple(blocks), tuple(certificates), None)
