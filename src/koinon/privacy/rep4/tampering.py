"""The deliberate fault of a demonstration: a link that changes one bit of what an honest party sends.

It stands outside the engine. A node wraps a link in it only when its operator has configured chaos.
"""

from koinon.kernel.effects import Link
from koinon.kernel.ids import NodeId
from koinon.privacy.rep4.party import DATA, HEADER
from koinon.wire.committee import Fault


class FaultyLink:
    """A link that flips one bit of the first data frame sent in or after the round of ``fault``; once."""

    def __init__(self, link: Link, fault: Fault) -> None:
        self._link = link
        self._fault = fault
        self._done = False

    @property
    def peer(self) -> NodeId:
        return self._link.peer

    async def send(self, frame: bytes, /) -> None:
        _, kind, _, _, round_number, length = HEADER.unpack(frame[: HEADER.size])
        if not self._done and kind == DATA and round_number >= self._fault.round and length:
            self._done = True
            frame = flipped(frame, self._fault.bit)
        await self._link.send(frame)

    async def receive(self) -> bytes:
        return await self._link.receive()

    async def close(self) -> None:
        await self._link.close()


def flipped(frame: bytes, bit: int) -> bytes:
    """The frame with one bit of its payload changed; ``bit`` counts from the payload's start, modulo its length."""
    changed = bytearray(frame)
    place, shift = divmod(bit % (8 * (len(frame) - HEADER.size)), 8)
    changed[HEADER.size + place] ^= 1 << shift
    return bytes(changed)
