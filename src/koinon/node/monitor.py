"""``/metrics`` and ``/health`` over plain HTTP, for the operator's own machines: read-only, bounded, nothing secret.

    GET /metrics        Prometheus' text form
    GET /health/live    200 while the node's loop runs
    GET /health/ready   200 while it does its part, 503 with the reason otherwise
    GET /health         both, and the node's status, as JSON

On a loopback address only requests that name a loopback host are answered, so that a web page which points a name of
its own at 127.0.0.1 reads nothing.
"""

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from koinon.kernel.measures import EXPOSITION_TYPE
from koinon.net.listening import open_listener

HEAD_BYTES: Final = 8 * 1024
HEAD_SECONDS: Final = 5.0
MOST_REQUESTS: Final = 32
"""At once; a caller beyond them is hung up on."""

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]", ""})
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    kind: str
    body: str


@dataclass(frozen=True)
class Pages:
    """What the monitor shows, made anew for every request.

    Attributes:
        metrics: the text form of every measure.
        unfitness: why the node is not ready, None if it is.
        status: the node's own report.
    """

    metrics: Callable[[], str]
    unfitness: Callable[[], str | None]
    status: Callable[[], dict[str, object]]


@asynccontextmanager
async def serve_monitor(pages: Pages, host: str, port: int) -> AsyncIterator[str]:
    """Answer while the context is open; gives the address as a URL.

    Raises:
        Unavailable: the port is taken or the host is not ours.
    """
    listener = open_listener(host, port, "the monitor")
    address = listener.getsockname()
    loopback = ipaddress.ip_address(address[0]).is_loopback
    open_requests: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(open_requests) >= MOST_REQUESTS:
            writer.transport.abort()
            return
        open_requests.add(task)
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_encoded(answer(pages, head, loopback=loopback)))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()  # too slow, too long or gone: nobody to tell
        finally:
            open_requests.discard(task)

    server = await asyncio.start_server(serve, sock=listener, limit=HEAD_BYTES)
    try:
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        yield f"http://{name}:{address[1]}"
    finally:
        server.close()
        for task in tuple(open_requests):
            task.cancel()
        await asyncio.gather(*open_requests, return_exceptions=True)


def answer(pages: Pages, head: bytes, *, loopback: bool) -> Answer:
    """The answer to one request's head, which ends with an empty line."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return _plain(400, "this is no HTTP/1.1 request")
    fields = dict(_field(line) for line in lines[1:] if line)
    host = fields.get("host", "")
    if loopback and (host if host.endswith("]") else host.rsplit(":", 1)[0]) not in _LOOPBACK_NAMES:
        return _plain(403, "ask for localhost or 127.0.0.1")
    if words[0] not in ("GET", "HEAD"):
        return _plain(405, "only GET is answered here")
    return _page(pages, words[1].partition("?")[0])


def _page(pages: Pages, path: str) -> Answer:
    if path == "/metrics":
        return Answer(200, EXPOSITION_TYPE, pages.metrics())
    if path == "/health/live":
        return _plain(200, "the node runs")
    unfit = pages.unfitness()
    if path == "/health/ready":
        return _plain(200, "ready") if unfit is None else _plain(503, unfit)
    if path == "/health":
        report = {"live": True, "ready": unfit is None, "reason": unfit, "status": pages.status()}
        return Answer(200 if unfit is None else 503, "application/json", json.dumps(report) + "\n")
    return _plain(404, "there are /metrics, /health, /health/live and /health/ready")


def _plain(status: int, sentence: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", sentence + "\n")


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip().lower()


def _encoded(answered: Answer) -> bytes:
    body = answered.body.encode()
    head = (
        f"HTTP/1.1 {answered.status} {_REASONS[answered.status]}\r\ncontent-type: {answered.kind}\r\n"
        f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
