"""What the workers of a committee have in common, whatever engine they run: keys that their nodes vouch for, and links.

node → Prepare     worker → Listening      (a transport of its own, under an ephemeral key)
node → Run         worker → Progress …     then Output, or Aborted
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage, Unavailable
from koinon.kernel.ids import NodeId
from koinon.net.link import FrameLink
from koinon.net.transport import Transport
from koinon.wire.catalogue import Message, from_frame, to_frame
from koinon.wire.committee import POSITIONS, Peer, Prepare, Run
from koinon.wire.discovery import Endpoint
from koinon.wire.failures import failure_of
from koinon.worker.channel import AsyncChannel

CERTIFICATE_DOMAIN: Final = "koinon/rep4/worker-key/1"
_RETRY_SECONDS: Final = 0.1

FourPeers = tuple[Peer, Peer, Peer, Peer]
_M = TypeVar("_M", bound=Message)


def certify(node: NodeKey, session: bytes, position: int, ephemeral: bytes) -> bytes:
    """A node's signature that this ephemeral key is its worker's, in this run and at this position."""
    return node.sign(CERTIFICATE_DOMAIN, _certified(session, position, ephemeral))


def check_certificate(session: bytes, position: int, peer: Peer) -> None:
    """Raises Forged unless the peer's node vouches for its worker."""
    check_certified(NodeId(peer.node), session, position, peer.ephemeral, peer.certificate)


def check_certified(node: NodeId, session: bytes, position: int, ephemeral: bytes, certificate: bytes) -> None:
    """Raises Forged unless the node vouches for this key as its worker's."""
    verify_node_signature(node, CERTIFICATE_DOMAIN, _certified(session, position, ephemeral), certificate)


def check_certificates(session: bytes, peers: FourPeers) -> None:
    """Check that four different nodes vouch for four different workers. Raises InvalidInput or Forged."""
    if len({peer.ephemeral for peer in peers}) != 4 or len({peer.node for peer in peers}) != 4:
        raise InvalidInput("the four positions of a committee must be four different nodes and workers")
    for position, peer in enumerate(peers):
        check_certificate(session, position, peer)


def check_seats(prepare: Prepare, run: Run, key: NodeKey) -> None:
    """Check whom a run names, and its times, before anything is connected. Raises InvalidInput or Forged."""
    if not (0 < run.deadline_seconds < float("inf") and 0 < run.silence_seconds < float("inf")):
        raise InvalidInput("a run needs a deadline and a silence limit in seconds above 0")
    if run.peers[prepare.position].ephemeral != key.node_id:
        raise InvalidInput(f"the run names another worker at position {prepare.position}; start a fresh worker")
    check_certificates(prepare.session, run.peers)


async def dialled(transport: Transport, endpoint: Endpoint, label: str, seconds: float) -> FrameLink:
    """Dial until the peer answers; it may still be starting. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(Unavailable):
                return await transport.link(endpoint, label, seconds)
            await asyncio.sleep(_RETRY_SECONDS)


async def expect(channel: AsyncChannel, kind: type[_M]) -> _M:
    """The node's next message. Raises MalformedMessage where it is another."""
    message = from_frame(await channel.receive())
    if not isinstance(message, kind):
        raise MalformedMessage(f"the worker expects {kind.__name__}, not {type(message).__name__}")
    return message


async def prepared(channel: AsyncChannel) -> Prepare:
    """What a worker is told first. Raises MalformedMessage where it is anything else, or makes no sense."""
    prepare = await expect(channel, Prepare)
    if prepare.position not in POSITIONS or len(prepare.session) != 32:
        raise MalformedMessage("a worker needs a position from 0 to 3 and a session id of 32 bytes")
    return prepare


async def serve(channel: AsyncChannel, work: Callable[[AsyncChannel], Awaitable[None]]) -> None:
    """Do a worker's ``work``, or tell the node why it cannot be done, and wait to be stopped.

    A worker that ended at once could break the channel under an order that is on its way, and take its own last words
    with it.
    """
    try:
        await work(channel)
    except KoinonError as problem:
        await channel.send(to_frame(failure_of(problem)))
    with suppress(Unavailable):
        while True:
            await channel.receive()


def endpoint_of(peer: Peer) -> Endpoint:
    """Where a position's worker listens."""
    return Endpoint(NodeId(peer.ephemeral), peer.host, peer.port)


def _certified(session: bytes, position: int, ephemeral: bytes) -> bytes:
    return session + bytes([position]) + ephemeral
