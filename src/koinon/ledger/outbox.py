"""What a validator says to the others: one queue for each, so that a slow or dead one delays nobody."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Protocol

from koinon.kernel.errors import KoinonError
from koinon.kernel.ids import NodeId
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint

_LONGEST_QUEUE: Final = 2048
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
        self._queues: dict[NodeId, asyncio.Queue[Message]] = {
            node_id: asyncio.Queue(_LONGEST_QUEUE) for node_id in peers
        }
        self._tasks = [
            asyncio.create_task(self._drain(peer, self._queues[node_id]), name=f"outbox {node_id.hex()[:8]}")
            for node_id, peer in peers.items()
        ]

    def broadcast(self, message: Message) -> None:
        """Queue for everybody."""
        for node_id in self._queues:
            self.send(node_id, message)

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
