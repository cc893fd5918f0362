"""One WebSocket connection: requests in, answers and notifications out, in order.

What goes out waits in a bounded queue. A client that does not read what it asked for is dropped when the queue is
full: neither the node's memory nor another client pays for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from koinon.ledger.rpc.limits import Client
from koinon.ledger.rpc.protocol import JsonRpc
from koinon.ledger.rpc.table import Caller, Json

_MOST_UNREAD_BYTES: Final = 32 * 1024 * 1024


class Connection:
    """Made for each WebSocket; ``serve`` runs as long as it is open."""

    def __init__(
        self, rpc: JsonRpc, client: Client, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]
    ) -> None:
        self.subscriptions: dict[str, Callable[[], None]] = {}
        self._rpc = rpc
        self._client = client
        self._send = send
        self._unread: asyncio.Queue[bytes] = asyncio.Queue()
        self._unread_bytes = 0
        self._too_slow = asyncio.Event()

    async def serve(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        """Answer until the client leaves or is dropped."""
        await receive()
        await self._send({"type": "websocket.accept"})
        reading = asyncio.create_task(self._read(receive), name="rpc websocket reader")
        writing = asyncio.create_task(self._write(), name="rpc websocket writer")
        dropping = asyncio.create_task(self._too_slow.wait(), name="rpc websocket watch")
        tasks = (reading, writing, dropping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in list(self.subscriptions.values()):
                end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def notify(self, subscription: str, result: Json) -> None:
        """Send what a subscription found; drops the client if too much waits already."""
        message = {
            "jsonrpc": "2.0",
            "method": "eth_subscription",
            "params": {"subscription": subscription, "result": result},
        }
        self._put(msgspec.json.encode(message))

    def _put(self, message: bytes) -> None:
        if self._unread.qsize() >= self._rpc.limits.unread_messages or self._unread_bytes > _MOST_UNREAD_BYTES:
            self._too_slow.set()
            return
        self._unread_bytes += len(message)
        self._unread.put_nowait(message)

    async def _read(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        caller = Caller(self._client, self)
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            # Clients send JSON as text, and some as bytes.
            text, raw = event.get("text"), event.get("bytes")
            answer = await self._rpc.answer(text.encode() if text is not None else raw or b"", caller)
            if answer:
                self._put(answer)

    async def _write(self) -> None:
        while True:
            message = await self._unread.get()
            await self._send({"type": "websocket.send", "text": message.decode()})
            self._unread_bytes -= len(message)
