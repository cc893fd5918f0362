"""Asking for missing blocks where one of those asked has fallen silent."""

import asyncio
import time
from collections import defaultdict

from eth_account.signers.local import LocalAccount
from ledger_chain import GrowingChain
from ledger_network import Keys, sign

from koinon.crypto.hash import sha256
from koinon.kernel.errors import Expired
from koinon.kernel.quantities import Height
from koinon.ledger.catchup import CatchUp, answer_range
from koinon.ledger.chain import Chain
from koinon.ledger.consensus import Heard
from koinon.ledger.giskard.state import BlockFetched, Fetch, TimerFired
from koinon.store.keyvalue import MemoryStore
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint
from koinon.wire.ledger import BlockAnswer, BlockRequest, RangeRequest

STRANGER = "0x" + "00" * 19 + "99"
MISSING = [sha256(bytes([number])) for number in range(20)]
SILENT, ANSWERING = (Endpoint(Keys.of(number).node.node_id, "127.0.0.1", number) for number in (1, 2))


class _HalfSilent:
    """Two validators, one of which answers nothing."""

    def __init__(self, chain: Chain) -> None:
        self.ranges: list[Endpoint] = []
        self.blocks: dict[bytes, list[Endpoint]] = defaultdict(list)
        self.all_asked = asyncio.Event()
        self._chain = chain

    async def send(self, endpoint: Endpoint, message: Message, timeout: float = 1) -> None:
        raise AssertionError("nothing is only sent")

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = 1) -> Message:
        if isinstance(message, RangeRequest):
            self.ranges.append(endpoint)
        if isinstance(message, BlockRequest):
            self.blocks[message.block].append(endpoint)
            if all(len(self.blocks[block]) == 2 for block in MISSING):
                self.all_asked.set()
        if endpoint == SILENT:
            await asyncio.sleep(0)
            raise Expired("no answer")
        return answer_range(self._chain, message) if isinstance(message, RangeRequest) else BlockAnswer(None, None)


async def test_many_missing_blocks_wait_for_a_silent_peer_once(rich: LocalAccount) -> None:
    grown = GrowingChain(MemoryStore(), rich)
    grown.grow([sign(rich, 0, STRANGER, value=1)], [sign(rich, 1, STRANGER, value=1)])
    network = _HalfSilent(grown.chain)
    fetched: list[Height] = []

    async def feed(event: BlockFetched | Heard | TimerFired) -> None:
        assert isinstance(event, BlockFetched)
        fetched.append(event.block.header.height)

    async def overtake() -> None:
        raise AssertionError("nobody is far ahead")

    catch_up = CatchUp(
        Chain(MemoryStore(), grown.genesis),
        network,
        {peer.node_id: peer for peer in (SILENT, ANSWERING)},
        feed,
        time.monotonic,
        overtake,
    )
    for number, block in enumerate(MISSING):  # as many certificates, one after the other, make known
        catch_up.fetch(Fetch(block, Height(10 + number)))
    async with asyncio.timeout(60):
        await network.all_asked.wait()
    await catch_up.close()
    assert set(fetched) >= {Height(1), Height(2)}
    assert network.ranges == [SILENT, ANSWERING]
    assert {network.blocks[block][0] for block in MISSING} == {ANSWERING}, "who answers is asked first"
