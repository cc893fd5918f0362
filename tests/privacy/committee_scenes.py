"""Four worker processes as a committee: started, seated and certified, ready for their orders."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from koinon.crypto.signature import NodeKey
from koinon.privacy.seats import certify
from koinon.wire.catalogue import from_frame, to_frame
from koinon.wire.committee import POSITIONS, Listening, Peer, Prepare
from koinon.worker import Limits, Worker

LIMITS = Limits(network=True)


def node(position: int) -> NodeKey:
    """Of the member at this position."""
    return NodeKey.from_seed(bytes([100 + position]) * 32)


@asynccontextmanager
async def committee(target: str, session: bytes) -> AsyncIterator[tuple[list[Worker], tuple[Peer, Peer, Peer, Peer]]]:
    """Workers that run ``target``, and where each listens."""
    async with AsyncExitStack() as stack:
        starting = (stack.enter_async_context(Worker.start(target, LIMITS)) for _ in POSITIONS)
        workers = list(await asyncio.gather(*starting))
        peers = []
        for i, worker in enumerate(workers):
            await worker.send(to_frame(Prepare(session, i, os.urandom(32), "127.0.0.1")))
        for i, worker in enumerate(workers):
            listening = from_frame(await worker.receive())
            assert isinstance(listening, Listening)
            certificate = certify(node(i), session, i, listening.ephemeral)
            peers.append(Peer(node(i).node_id, listening.ephemeral, certificate, "127.0.0.1", listening.port))
        yield workers, (peers[0], peers[1], peers[2], peers[3])
