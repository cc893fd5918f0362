"""The RPC as an ASGI application: ``POST /`` for HTTP, any path's upgrade for WebSocket.

Who may ask. Only ``Content-Type: application/json`` is answered, and no CORS header is ever sent: a web page of another
origin can neither read an answer nor, because of the content type, cause a request. A WebSocket has no such protection,
so an ``Origin`` must be that of the RPC itself or of a browser's extension (a wallet), which no page can claim to be.
On a loopback address the ``Host`` must be a loopback name, so that a name which a stranger points at 127.0.0.1 (DNS
rebinding) does not help either.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from koinon.ledger.rpc.failures import INVALID_REQUEST, LIMIT_EXCEEDED, failure
from koinon.ledger.rpc.protocol import JsonRpc
from koinon.ledger.rpc.table import Caller
from koinon.ledger.rpc.websocket import Connection

BODY_SECONDS: Final = 10.0
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_EXTENSIONS: Final = frozenset({"chrome-extension", "moz-extension", "safari-web-extension"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class RpcApplication:
    """An ASGI application.

    Args:
        loopback: whether only requests that name a loopback host are answered.
    """

    def __init__(self, rpc: JsonRpc, *, loopback: bool) -> None:
        self._rpc = rpc
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
        elif scope["type"] == "http":
            status, body = await self._answer(scope, receive)
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            if status == 405:
                headers.append((b"allow", b"POST"))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = self._rpc.clients.at(_host_of(scope), self._rpc.now())
        if self._stranger(dict(scope["headers"])) is not None or client.connections >= self._rpc.limits.connections:
            await send({"type": "websocket.close", "code": 1008})
            return
        client.connections += 1
        try:
            await Connection(self._rpc, client, send).serve(receive)
        finally:
            client.connections -= 1

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        headers = dict(scope["headers"])
        if scope["method"] != "POST":
            return 405, failure(None, INVALID_REQUEST, "send JSON-RPC with POST")
        if scope["path"] != "/":
            return 404, failure(None, INVALID_REQUEST, "JSON-RPC is answered at / only")
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            return 415, failure(None, INVALID_REQUEST, "the content type must be application/json")
        stranger = self._stranger(headers)
        if stranger is not None:
            return 403, failure(None, INVALID_REQUEST, stranger)
        caller = Caller(self._rpc.clients.at(_host_of(scope), self._rpc.now()))
        if not caller.client.spend(0, self._rpc.limits, self._rpc.now()) or caller.client.units < 1:
            return 429, failure(None, LIMIT_EXCEEDED, "too many requests; wait a second")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read_body(receive, self._rpc.limits.body_bytes)
        except TimeoutError:
            return 408, failure(None, INVALID_REQUEST, f"the request did not arrive within {BODY_SECONDS:.0f} seconds")
        if body is None:
            most = self._rpc.limits.body_bytes
            return 413, failure(None, INVALID_REQUEST, f"a request has at most {most} bytes")
        return 200, await self._rpc.answer(body, caller)

    def _stranger(self, headers: dict[bytes, bytes]) -> str | None:
        """Why a request with these headers is not answered, None if it is."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._loopback and _without_port(host) not in _LOOPBACK_NAMES:
            return "this RPC answers requests to localhost only"
        origin = headers.get(b"origin")
        if origin is not None and not _is_own(origin.decode("latin-1").lower(), host):
            return "this RPC does not answer pages of other origins"
        return None


def _without_port(host: str) -> str:
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.split(":")[0]


def _is_own(origin: str, host: str) -> bool:
    """Whether an ``Origin`` is that of ``host``, or of an extension of the browser."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in _EXTENSIONS or (parts.scheme in ("http", "https") and parts.netloc == host)


def _host_of(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


async def _read_body(receive: Receive, most: int) -> bytes | None:
    """The whole body; None if it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return b""
        part = event.get("body", b"")
        size += len(part)
        if size > most:
            return None
        parts.append(part)
        if not event.get("more_body", False):
            return b"".join(parts)
