"""A client of the RPC for tests: requests over HTTP, and a WebSocket with its notifications."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect

Json = Any


class HttpClient:
    """Asks one RPC over HTTP."""

    def __init__(self, url: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=120)

    async def raw(self, content: bytes, **headers: str) -> httpx.Response:
        return await self.http.post("/", content=content, headers={"content-type": "application/json", **headers})

    async def ask(self, method: str, *parameters: Json) -> Json:
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 7, "method": method, "params": parameters})
        answer = (await self.raw(body)).json()
        assert answer["id"] == 7
        return answer

    async def result(self, method: str, *parameters: Json) -> Json:
        answer = await self.ask(method, *parameters)
        assert "error" not in answer, answer
        return answer["result"]

    async def error(self, method: str, *parameters: Json) -> dict[str, Json]:
        answer = await self.ask(method, *parameters)
        assert "result" not in answer, answer
        return answer["error"]  # type: ignore[no-any-return]


class SocketClient:
    """Asks one RPC over a WebSocket and keeps what comes unasked."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._sequence = 0
        self._notes: dict[str, asyncio.Queue[Json]] = {}

    async def ask(self, method: str, *parameters: Json) -> Json:
        self._sequence += 1
        request = {"jsonrpc": "2.0", "id": self._sequence, "method": method, "params": parameters}
        await self.socket.send(msgspec.json.encode(request).decode())
        while True:
            answer = await self._receive()
            if answer is not None:
                assert answer["id"] == self._sequence
                return answer

    async def result(self, method: str, *parameters: Json) -> Json:
        answer = await self.ask(method, *parameters)
        assert "error" not in answer, answer
        return answer["result"]

    async def note(self, subscription: str) -> Json:
        """The next thing this subscription tells."""
        queue = self._notes.setdefault(subscription, asyncio.Queue())
        while queue.empty():
            assert await self._receive() is None
        return queue.get_nowait()

    async def _receive(self) -> Json:
        """One message: an answer, or None for a notification, which is put aside."""
        async with asyncio.timeout(120):
            message = msgspec.json.decode(await self.socket.recv())
        if message.get("method") != "eth_subscription":
            return message
        params = message["params"]
        self._notes.setdefault(params["subscription"], asyncio.Queue()).put_nowait(params["result"])
        return None


@asynccontextmanager
async def open_socket(url: str, **options: Any) -> AsyncIterator[SocketClient]:
    """A WebSocket to the RPC at this HTTP URL."""
    async with connect(url.replace("http://", "ws://"), **options) as socket:
        yield SocketClient(socket)
