"""One framing for every byte stream between processes: TLS connections, the operator's socket, worker channels.

A frame is an 11-byte header and a body:

    body length (4 bytes, big end first) | kind (1) | request id (4) | message number (2) | body

What the kinds mean belongs to the protocol that runs over the stream; this module moves frames and nothing else. It
reads small frames through one reused buffer and large bodies straight into their own: only TLS copies a large body.
"""

import asyncio
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, cast

from koinon.kernel.errors import KoinonError, Unavailable

HEADER: Final = struct.Struct(">IBIH")
LARGEST_BODY: Final = 256 * 1024 * 1024

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes to send; must not change before the send returns."""

_SCRATCH_BYTES: Final = 64 * 1024
_JOINED_BYTES: Final = 64 * 1024
_HIGH_WATER_BYTES: Final = 1024 * 1024


def flat_views(parts: Sequence[Buffer]) -> list[memoryview]:
    """The bytes of each part that has any; contiguous arrays of any shape and type are taken as they lie in memory."""
    views = [memoryview(part) for part in parts]
    return [view.cast("B") for view in views if view.nbytes]


class FrameHead(NamedTuple):
    """The header of a frame without its length."""

    kind: int
    request: int
    number: int


_Item = TypeVar("_Item")


class Inbox(Generic[_Item]):
    """What has arrived and nobody has taken yet, in order; stops the stream from reading while it holds too much."""

    def __init__(self, stream: "FrameStream", most_bytes: int) -> None:
        self._stream = stream
        self._most_bytes = most_bytes
        self._items: deque[tuple[_Item, int]] = deque()
        self._held_bytes = 0
        self._arrival: asyncio.Future[None] | None = None
        self._problem: KoinonError | None = None

    def put(self, item: _Item, size: int) -> None:
        """Append an item that counts ``size`` bytes."""
        self._items.append((item, size))
        self._held_bytes += size
        if self._held_bytes > self._most_bytes:
            self._stream.pause_reading()
        self._wake()

    def end(self, problem: KoinonError) -> None:
        """No more will come; once empty, ``take`` raises Unavailable with the sentence of ``problem``."""
        self._problem = problem
        self._wake()

    async def take(self) -> _Item:
        """The oldest item; waits for one. For one taker at a time. Raises Unavailable after the end."""
        while not self._items:
            if self._problem is not None:
                raise Unavailable(str(self._problem))
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self.pop()

    def is_empty(self) -> bool:
        """Whether nothing is here to be taken."""
        return not self._items

    def pop(self) -> _Item:
        """The oldest item, of which there must be one."""
        item, size = self._items.popleft()
        self._held_bytes -= size
        if not self._stream.reading and self._held_bytes <= self._most_bytes // 2:
            self._stream.resume_reading()
        return item

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class FrameStream(asyncio.BufferedProtocol, ABC):
    """Cuts a byte stream into frames. Subclasses say how long a body may be and take the frames.

    Attributes:
        frame_began: loop time when the frame that is still incomplete began; None between frames.
        frame_length: length of the body that is being received; 0 while its header is.
        stalled_since: loop time since when the peer has not taken what we wrote; None while it does.
        reading: whether bytes of the peer are taken.
        closed: done when the connection is gone, however it went.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._start = self._end = 0
        self._head = FrameHead(0, 0, 0)
        self._body: bytearray | None = None
        self._body_view = memoryview(b"")
        self._filled = 0
        self._paused_writers: list[asyncio.Future[None]] = []
        self._problem: KoinonError | None = None
        self.reading = True
        self.frame_began: float | None = None
        self.stalled_since: float | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # What a subclass decides.

    @abstractmethod
    def body_limit(self, head: FrameHead) -> int:
        """The most bytes the body of this frame may have. Raises a KoinonError to end the connection."""

    @abstractmethod
    def frame_received(self, head: FrameHead, body: bytes | bytearray) -> None:
        """Take a whole frame. Raises a KoinonError to end the connection."""

    @abstractmethod
    def opened(self) -> None:
        """The stream is ready for writing. Raises a KoinonError to end the connection."""

    @abstractmethod
    def ended(self, problem: KoinonError) -> None:
        """The stream is gone; ``problem`` says why."""

    # What a subclass and its owner use.

    @property
    def is_open(self) -> bool:
        """Whether frames can still be written."""
        return self._transport is not None and self._problem is None and not self._transport.is_closing()

    @property
    def keeps_up(self) -> bool:
        """Whether the peer takes what is written, so that a frame can be written without waiting."""
        return self.stalled_since is None and self.is_open

    def write_frame(self, head: FrameHead, *parts: Buffer) -> None:
        """Hand a frame to the transport whole; ``drain`` afterwards waits until the peer keeps up.

        Raises:
            Unavailable: the connection is gone.
        """
        transport = self._writable()
        length = sum(len(part) for part in parts)
        header = HEADER.pack(length, *head)
        if length <= _JOINED_BYTES:
            transport.write(b"".join((header, *parts)))
            return
        transport.write(header)
        for part in parts:
            transport.write(part)

    async def write_large(self, head: FrameHead, parts: Sequence[Buffer]) -> None:
        """Write one frame piece by piece at the peer's pace. The caller lets no other frame in between.

        When it is cancelled halfway the connection is cut: what came next would be read as the rest of this frame.

        Raises:
            Unavailable: the connection is gone; part of the frame may have left.
        """
        views = flat_views(parts)
        self._writable().write(HEADER.pack(sum(len(view) for view in views), *head))
        try:
            for view in views:
                for begin in range(0, len(view), _HIGH_WATER_BYTES):
                    self._writable().write(view[begin : begin + _HIGH_WATER_BYTES])
                    await self.drain()
        except asyncio.CancelledError:
            self.cut(Unavailable("a frame was given up halfway"))
            raise

    async def drain(self) -> None:
        """Wait until the peer has taken enough of what was written. Raises Unavailable if the connection ends first."""
        if self._problem is not None:
            raise Unavailable(str(self._problem))
        # Again and again: of several that are woken, the first may fill the buffer at once.
        while self.stalled_since is not None:
            waiter = self._loop.create_future()
            self._paused_writers.append(waiter)
            await waiter

    @property
    def frame_length(self) -> int:
        return 0 if self._body is None else len(self._body)

    def transport_info(self, name: str) -> Any:
        """What the transport says about itself, such as ``"ssl_object"``; None before it is open."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    def pause_reading(self) -> None:
        """Stop taking bytes from the peer, which will feel it as backpressure. Harmless when repeated or too late."""
        self.reading = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again. Harmless when repeated or too late."""
        if self.reading:
            return
        self.reading = True
        if self.frame_began is not None:
            self.frame_began = self._loop.time()  # the wait was ours, not the peer's
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def finish(self, problem: KoinonError) -> None:
        """Close after what was written has left; later calls raise ``problem``."""
        self._end_with(problem)
        if self._transport is not None:
            self._transport.close()

    def cut(self, problem: KoinonError) -> None:
        """Close at once, dropping what has not left; later calls raise ``problem``."""
        self._end_with(problem)
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are shaped alike but not derived from it
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        if self._problem is not None:
            self._transport.abort()
            return
        try:
            self.opened()
        except KoinonError as problem:
            self.cut(problem)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch[self._end :] if self._body is None else self._body_view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._problem is not None:
            return
        try:
            if self._body is not None:
                self._filled += nbytes
                if self._filled == len(self._body):
                    body, self._body, self.frame_began = self._body, None, None
                    self._body_view = memoryview(b"")
                    self.frame_received(self._head, body)
            else:
                self._end += nbytes
                self._take_frames()
        except KoinonError as problem:
            self.cut(problem)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, problem: Exception | None) -> None:
        self._end_with(
            Unavailable(f"the connection broke: {type(problem).__name__}" if problem else "the peer hung up")
        )
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self.stalled_since = self._loop.time()

    def resume_writing(self) -> None:
        self.stalled_since = None
        waiters, self._paused_writers = self._paused_writers, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Inside.

    def _take_frames(self) -> None:
        while self._end - self._start >= HEADER.size:
            length, *fields = HEADER.unpack_from(self._scratch, self._start)
            head = FrameHead(*fields)
            limit = self.body_limit(head)
            if length > limit:
                raise Unavailable(f"the peer announced a frame of {length} bytes where at most {limit} are allowed")
            begin = self._start + HEADER.size
            if self._end - begin < length:
                self._begin_body(head, length, begin)
                return
            self._start, self.frame_began = begin + length, None
            self.frame_received(head, bytes(self._scratch[begin : self._start]))
            if self._problem is not None:
                return
        rest = self._end - self._start
        if rest:
            self._scratch[:rest] = bytes(self._scratch[self._start : self._end])
            self._note_beginning()
        self._start, self._end = 0, rest

    def _begin_body(self, head: FrameHead, length: int, begin: int) -> None:
        # A large bytearray is zero pages until written: announcing a long frame costs the receiver no memory yet.
        self._head, self._body = head, bytearray(length)
        self._body_view = memoryview(self._body)
        self._filled = self._end - begin
        self._body_view[: self._filled] = self._scratch[begin : self._end]
        self._start = self._end = 0
        self._note_beginning()

    def _note_beginning(self) -> None:
        if self.frame_began is None:
            self.frame_began = self._loop.time()

    def _writable(self) -> asyncio.Transport:
        if self._problem is not None:
            raise Unavailable(str(self._problem))
        if self._transport is None or self._transport.is_closing():
            raise Unavailable("the connection is closed")
        return self._transport

    def _end_with(self, problem: KoinonError) -> None:
        if self._problem is not None:
            return
        self._problem = problem
        self.stalled_since = None
        waiters, self._paused_writers = self._paused_writers, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(Unavailable(str(problem)))
        self.ended(problem)
