"""The monitor's socket against those who send slowly, too much or nothing."""

import asyncio

import pytest

from koinon.node import monitor
from koinon.node.monitor import HEAD_BYTES, Pages, serve_monitor

PAGES = Pages(metrics=lambda: "height 1\n", unfitness=lambda: None, status=lambda: {"name": "n"})
GOOD = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def told(url: str, data: bytes) -> bytes:
    """Everything that is answered to ``data`` before the connection ends."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("data", [b"GET /metr", b"", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"])
async def test_who_never_finishes_is_cut_off(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "HEAD_SECONDS", 0.2)
    async with asyncio.timeout(120), serve_monitor(PAGES, "127.0.0.1", 0) as url:
        assert await told(url, data) == b""
        assert (await told(url, GOOD)).endswith(b"\r\n\r\nheight 1\n")


async def test_a_head_without_end_is_cut_off() -> None:
    async with asyncio.timeout(120), serve_monitor(PAGES, "127.0.0.1", 0) as url:
        assert await told(url, b"GET /metrics HTTP/1.1\r\nx: " + b"y" * (4 * HEAD_BYTES)) == b""
        assert (await told(url, GOOD)).endswith(b"\r\n\r\nheight 1\n")


async def test_a_crowd_of_idlers_keeps_nobody_out_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "HEAD_SECONDS", 0.5)
    async with asyncio.timeout(60), serve_monitor(PAGES, "127.0.0.1", 0) as url:
        idlers = [asyncio.create_task(told(url, b"GET")) for _ in range(monitor.MOST_REQUESTS * 2)]
        assert await asyncio.gather(*idlers) == [b""] * len(idlers)
        assert (await told(url, GOOD)).startswith(b"HTTP/1.1 200")
