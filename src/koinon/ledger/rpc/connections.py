"""TCP connections of the RPC: how many one client may hold, how long it may take to say what it wants, and how an
answer is sent.

uvicorn, whose parser this uses, bounds none of the first two, and writes the head of an answer and its body separately:
two system calls and two packets for every request, and a client that closes its session on the head alone (some tests
of web3.py do) loses the body.
"""

import asyncio
import time
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from koinon.ledger.rpc.limits import Client, Clients

HEAD_SECONDS: Final = 10.0
"""From a connection's beginning, or a request's first byte, to the end of the request's head."""


class GatheringTransport:
    """A transport that sends what is written in one turn of the event loop in one piece."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send soon, with whatever else is written until then."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what waits, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))


def bounded_protocol(clients: Clients) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol within each client's limits."""

    class BoundedProtocol(HttpToolsProtocol):
        _owner: Client | None = None
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]
            client = clients.at(self.client[0] if self.client else "", time.monotonic())
            if client.sockets >= clients.limits.sockets:
                transport.abort()
                return
            self._owner = client
            client.sockets += 1
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            if self._owner is not None:
                self._owner.sockets -= 1
                self._owner = None
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._wait()

        def on_headers_complete(self) -> None:
            self._stop_waiting()
            super().on_headers_complete()

        def handle_websocket_upgrade(self) -> None:
            # From here on the connection is the WebSocket protocol's, and counts as one of the client's WebSockets.
            self._stop_waiting()
            if self._owner is not None:
                self._owner.sockets -= 1
                self._owner = None
            super().handle_websocket_upgrade()

        def _wait(self) -> None:
            self._stop_waiting()
            self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

        def _stop_waiting(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

    return BoundedProtocol
