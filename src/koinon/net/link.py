"""A link: one connection of its own for raw frames in order, such as committee workers exchange by the million."""

import asyncio
from collections.abc import Sequence
from typing import Final

from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage, Unavailable
from koinon.kernel.ids import NodeId
from koinon.net.prompt import PromptTransport
from koinon.wire.frames import LARGEST_BODY, Buffer, FrameHead, FrameStream, Inbox, flat_views

_DATA: Final = FrameHead(8, 0, 0)
_UNREAD_BYTES: Final = 32 * 1024 * 1024
_WHOLE_BYTES: Final = 256 * 1024


class FrameLink:
    """Both ends are alike. Frames are at most 256 MiB; a peer that does not take them makes ``send`` wait.

    Attributes:
        peer: whose key is at the other end.
        label: what both ends agreed to call the link.
        stream: the connection beneath.
    """

    def __init__(self, stream: FrameStream, peer: NodeId, label: str) -> None:
        self.peer = peer
        self.label = label
        self.stream = stream
        self._inbox: Inbox[bytes | bytearray] = Inbox(stream, _UNREAD_BYTES)
        self._writing = asyncio.Lock()
        self._prompt: PromptTransport | None = stream.transport_info("prompt")

    async def send(self, frame: Buffer | Sequence[Buffer], /) -> None:
        """Send one frame, given whole or as buffers to be joined (arrays need not be copied together first).

        The buffers must not change before this returns.

        Raises:
            InvalidInput: longer than 256 MiB; nothing was sent.
            Unavailable: the link is gone.
        """
        parts = (frame,) if isinstance(frame, bytes | bytearray | memoryview) else frame
        length = sum(memoryview(part).nbytes for part in parts)
        if length > LARGEST_BODY:
            raise InvalidInput(f"a frame of {length} bytes is longer than the {LARGEST_BODY} a link carries; cut it")
        async with self._writing:
            if length <= _WHOLE_BYTES:
                await self.stream.drain()
                self.stream.write_frame(_DATA, *flat_views(parts))
            else:
                await self.stream.write_large(_DATA, parts)

    def send_now(self, frame: bytes, /) -> bool:
        """Send one frame of up to 256 KiB without waiting.

        Returns:
            Whether it was sent. Nothing is where the peer does not keep up, a ``send`` is under way, the frame is
            longer, or the link is gone.
        """
        if len(frame) > _WHOLE_BYTES or self._writing.locked() or not self.stream.keeps_up:
            return False
        self.stream.write_frame(_DATA, frame)
        return True

    def descriptor(self) -> int | None:
        """What can be waited on for bytes of the peer, outside the event loop; None where only the loop can wait."""
        return None if self._prompt is None else self._prompt.descriptor

    def receive_now(self) -> bytes | None:
        """The next frame if it is here; also beside a task that receives."""
        if self._inbox.is_empty() and self._prompt is not None:
            self._prompt.read()
        return None if self._inbox.is_empty() else bytes(self._inbox.pop())

    async def receive(self) -> bytes:
        """The next frame; for one task at a time. Raises Unavailable once the link is gone and nothing is left."""
        return bytes(await self._inbox.take())

    async def receive_buffer(self) -> bytes | bytearray:
        """The next frame without the copy that ``receive`` makes of a long one: the caller may write into it."""
        return await self._inbox.take()

    async def close(self) -> None:
        """Send what is left and close."""
        self.stream.finish(Unavailable("the link was closed"))
        await self.stream.closed

    def body_limit(self, head: FrameHead) -> int:
        if head != _DATA:
            raise MalformedMessage(f"a frame of kind {head.kind} has no place on a link")
        return LARGEST_BODY

    def frame_received(self, head: FrameHead, body: bytes | bytearray) -> None:
        self._inbox.put(body, len(body) + 64)  # an empty frame takes memory too

    def ended(self, problem: KoinonError) -> None:
        self._inbox.end(Unavailable(f"the link {self.label} to node 0x{self.peer.hex()[:16]}… is gone: {problem}"))
