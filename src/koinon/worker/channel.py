"""The one connection of a child to its parent: frames over a socket pair, blocking or on asyncio."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final, Self

from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage, Unavailable
from koinon.wire.frames import HEADER, Buffer, FrameHead, FrameStream, Inbox, flat_views

READY: Final = FrameHead(1, 0, 0)
DATA: Final = FrameHead(2, 0, 0)
FAILED: Final = FrameHead(3, 0, 0)
"""The child's function raised; the body is a ``wire.catalogue.Failure``."""

_QUEUED_BYTES: Final = 32 * 1024 * 1024


def check_frame(parts: Sequence[Buffer], limit: int) -> None:
    """Raises InvalidInput if the parts together are longer than ``limit`` bytes."""
    length = sum(memoryview(part).nbytes for part in parts)
    if length > limit:
        raise InvalidInput(f"a frame of {length} bytes is longer than the {limit} a worker may send")


def as_parts(frame: Buffer | Sequence[Buffer]) -> Sequence[Buffer]:
    """The buffers of a frame that may be given as one buffer or as several."""
    return (frame,) if isinstance(frame, bytes | bytearray | memoryview) else frame


class Channel:
    """The child's end, blocking."""

    def __init__(self, connection: socket.socket, frame_bytes: int) -> None:
        self.frame_bytes = frame_bytes
        self._socket = connection
        self._socket.setblocking(True)

    def receive(self) -> bytes:
        """The next frame from the parent. Raises Unavailable when the parent has closed the channel."""
        length, *fields = HEADER.unpack(self._exactly(HEADER.size))
        if FrameHead(*fields) != DATA or length > self.frame_bytes:
            raise MalformedMessage(f"the parent sent no frame of a worker channel: kind {fields[0]}, {length} bytes")
        return bytes(self._exactly(length))

    def send(self, frame: Buffer | Sequence[Buffer]) -> None:
        """Send one frame, given whole or in parts, to the parent; waits while the parent does not read.

        Raises:
            InvalidInput: longer than the limits allow; nothing was sent.
            Unavailable: the parent has closed the channel.
        """
        self.send_frame(DATA, as_parts(frame))

    def send_frame(self, head: FrameHead, parts: Sequence[Buffer]) -> None:
        """Send a frame of any kind; see ``send``."""
        check_frame(parts, self.frame_bytes)
        length = sum(memoryview(part).nbytes for part in parts)
        try:
            self._socket.sendall(HEADER.pack(length, *head))
            for view in flat_views(parts):
                self._socket.sendall(view)
        except OSError as problem:
            raise Unavailable(f"the parent process closed the channel: {problem.strerror}") from None

    def _exactly(self, count: int) -> bytearray:
        buffer = bytearray(count)
        view = memoryview(buffer)
        while view:
            try:
                received = self._socket.recv_into(view)
            except OSError as problem:
                raise Unavailable(f"the parent process closed the channel: {problem.strerror}") from None
            if not received:
                raise Unavailable("the parent process closed the channel")
            view = view[received:]
        return buffer

    def detach(self) -> socket.socket:
        """Give the socket away; the channel is of no use afterwards."""
        return self._socket


class FrameQueue(FrameStream):
    """Frames of a channel, in order, with backpressure when nobody takes them."""

    def __init__(self, frame_bytes: int) -> None:
        super().__init__()
        self._limit = frame_bytes
        self._inbox: Inbox[tuple[FrameHead, bytes | bytearray]] = Inbox(self, _QUEUED_BYTES)
        self._writing = asyncio.Lock()

    async def next_frame(self) -> tuple[FrameHead, bytes | bytearray]:
        """The next frame; frames that came before the stream ended are still given. Then raises Unavailable."""
        return await self._inbox.take()

    async def send_frame(self, head: FrameHead, parts: Sequence[Buffer]) -> None:
        """Send one frame at the reader's pace. Raises InvalidInput when too long, Unavailable when nobody reads."""
        check_frame(parts, self._limit)
        async with self._writing:
            await self.write_large(head, parts)

    def body_limit(self, head: FrameHead) -> int:
        if head not in (READY, DATA, FAILED):
            raise MalformedMessage(f"no frame of a worker channel has the kind {head.kind}")
        return self._limit

    def frame_received(self, head: FrameHead, body: bytes | bytearray) -> None:
        self._inbox.put((head, body), len(body))

    def opened(self) -> None:
        """A channel needs no greeting: both ends were born together."""

    def ended(self, problem: KoinonError) -> None:
        self._inbox.end(problem)


class AsyncChannel:
    """The child's end on asyncio, for functions declared ``async def``."""

    def __init__(self, stream: FrameQueue) -> None:
        self._stream = stream

    @classmethod
    async def open(cls, channel: Channel) -> Self:
        """Go on with the connection of a blocking channel, which must not be used afterwards."""
        return cls(await open_queue(channel.detach(), channel.frame_bytes))

    async def receive(self) -> bytes:
        """The next frame from the parent. Raises Unavailable when the parent has closed the channel."""
        head, body = await self._stream.next_frame()
        if head != DATA:
            raise MalformedMessage(f"the parent sent a frame of kind {head.kind} where data was due")
        return bytes(body)

    async def send(self, frame: Buffer | Sequence[Buffer]) -> None:
        """Send one frame, given whole or in parts.

        Raises:
            InvalidInput: longer than the limits allow; nothing was sent.
            Unavailable: the parent has closed the channel.
        """
        await self._stream.send_frame(DATA, as_parts(frame))

    async def close(self) -> None:
        """Send what is left and close."""
        self._stream.finish(Unavailable("this worker closed the channel"))
        await self._stream.closed


async def open_queue(connection: socket.socket, frame_bytes: int) -> FrameQueue:
    """A frame queue over a connected socket, which it owns from now on."""
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    _, queue = await loop.create_unix_connection(lambda: FrameQueue(frame_bytes), sock=connection)
    return queue
