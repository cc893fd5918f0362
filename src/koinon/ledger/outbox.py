"""What a validator says to the others: one queue for each, so that a slow or dead one delays nobody."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final, Protocol

from koinon.kernel.errors import KoinonError
from koinon.kernel.ids import NodeId
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint

_LONGEST_QUEUE: Final = 2048
MOST_LISTENERS: Final = 64
"""Up to so many peers hear every message, so that who is elected next has seen the blocks; beyond, only members do."""
_SEND_SECONDS: Final = 5.0
_log: Final = logging.getLogger("koinon.ledger.outbox")


class Network(Protocol):
    """The part of ``koinon.net.transport.Transport`` that a validator uses to speak."""

    async def send(self, endpoint: Endpoint, message: Message, timeout: float = ...) -> None: ...

    async def call(self, endpoint: Endpoint, message: Message, timeout: float = ...) -> Message: ...


class Outbox:
    """Queues to the other validators. A message that cannot be sent is dropped: consensus repeats what matters."""

    def __init__(self, network: Network, peers: Mapping[NodeId, Endpoint]) -> None:
        self._network = network
        self._queues: dict[NodeId, asyncio.Queue[Message]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        for peer in peers.values():
            self.add(peer)

    def add(self, peer: Endpoint) -> None:
        """Speak to one more, unless it is known already."""
        if peer.node_id not in self._queues:
            queue = self._queues[peer.node_id] = asyncio.Queue(_LONGEST_QUEUE)
            self._tasks.append(asyncio.create_task(self._drain(peer, queue), name=f"outbox {peer.node_id.hex()[:8]}"))

    def broadcast(self, message: Message, members: Collection[NodeId]) -> None:
        """Queue for everybody or, where they are too many to hear everything, for ``members`` only."""
        for node_id in self.listeners(members):
            self.send(node_id, message)

    def listeners(self, members: Collection[NodeId]) -> Collection[NodeId]:
        """Who hears a broadcast."""
        everybody = len(self._queues) <= MOST_LISTENERS
        return tuple(self._queues) if everybody else tuple(name for name in members if name in self._queues)

    def send(self, node_id: NodeId, message: Message) -> None:
        """Queue for one; dropped if its queue is full, or if it is no peer of ours."""
        queue = self._queues.get(node_id)
        if queue is not None:
            with suppress(asyncio.QueueFull):
                queue.put_nowait(message)

    async def _drain(self, peer: Endpoint, queue: asyncio.Queue[Message]) -> None:
        reachable = True
        while True:
            message = await queue.get()
            try:
                await self._network.send(peer, message, _SEND_SECONDS)
                reachable = True
            except KoinonError as problem:
                if reachable:
                    _log.info("a validator cannot be reached: %s", problem)
                reachable = False

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
