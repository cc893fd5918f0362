"""What is new, told to every open page as server-sent events.

A slow reader gets the newest change and not all of them: a page asks for itself again anyway.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from koinon.gateway.views.parts import View
from koinon.kernel.errors import Unavailable

MAXIMUM_READERS: Final = 256
KEEP_ALIVE_SECONDS: Final = 15.0


class Change(View, frozen=True):
    """The chain went on: where it stands, and which events came (``Studies.Drawn``)."""

    height: int
    final_height: int
    events: tuple[str, ...] = ()


class Changes:
    """Everybody who listens for changes."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Queue[Change]] = set()
        self._closed = asyncio.Event()

    def tell(self, change: Change) -> None:
        """Give the change to every reader; one that has not read the last gets this one instead, events of both."""
        for reader in self._readers:
            if reader.full():
                missed = reader.get_nowait()
                events = tuple(dict.fromkeys((*missed.events, *change.events)))[:32]
                reader.put_nowait(msgspec.structs.replace(change, events=events))
            else:
                reader.put_nowait(change)

    def close(self) -> None:
        """End every stream, so that a server can stop."""
        self._closed.set()

    def check_room(self) -> None:
        """Raises Unavailable where as many read as this site serves."""
        if len(self._readers) >= MAXIMUM_READERS:
            raise Unavailable(f"{MAXIMUM_READERS} pages are open on this site already; close some and reload")

    async def stream(self, keep_alive: float = KEEP_ALIVE_SECONDS) -> AsyncIterator[bytes]:
        """Server-sent events (WHATWG HTML, 9.2): ``change`` with a ``Change``, and comments that keep the line open."""
        reader: asyncio.Queue[Change] = asyncio.Queue(maxsize=1)
        self._readers.add(reader)
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            yield b": connected\n\n"
            while not self._closed.is_set():
                waiting = asyncio.ensure_future(reader.get())
                try:
                    await asyncio.wait({waiting, closed}, timeout=keep_alive, return_when=asyncio.FIRST_COMPLETED)
                    if waiting.done():
                        yield b"event: change\ndata: " + msgspec.json.encode(waiting.result()) + b"\n\n"
                    elif not self._closed.is_set():
                        yield b": still here\n\n"
                finally:
                    waiting.cancel()
        finally:
            closed.cancel()
            self._readers.discard(reader)
