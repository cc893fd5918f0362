"""The child process of one intersection: ``koinon.privacy.joins.worker:main``. It has no network of its own.

    node → FindIntersection, then the other owner's frames
    child → frames for the other owner, Progress between them, then IntersectionFound or Failure

What the other owner sends is read here and not in the node; whatever it does to this process, the node goes on.
"""

from contextlib import suppress
from typing import Final

from koinon.crypto.random import SystemRng
from koinon.kernel.errors import KoinonError, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.privacy.joins.intersection import begin
from koinon.privacy.joins.session import intersect
from koinon.privacy.joins.states import Terms
from koinon.wire.catalogue import Failure, Message, from_frame, number_of, to_frame
from koinon.wire.committee import Progress
from koinon.wire.failures import failure_of
from koinon.wire.joins import FindIntersection, IntersectionFound
from koinon.worker.channel import AsyncChannel

STEPS: Final = 20
"""Parts in which the node is told how far it is."""
_FAILURE: Final = number_of(Failure).to_bytes(2, "big")


class _Relayed:
    """The link to the other owner, whose frames the node carries; who is at its end is the node's to know."""

    peer = NodeId(b"")

    def __init__(self, channel: AsyncChannel) -> None:
        self._channel = channel

    async def send(self, frame: bytes) -> None:
        await self._channel.send(frame)

    async def receive(self) -> bytes:
        frame = await self._channel.receive()
        if not frame:
            raise Unavailable("the other owner ended the intersection before it was done")
        if frame.startswith(_FAILURE):
            # Its own words could say anything.
            raise Refused("the other owner's node refused; compare what both were told: who asks, who learns, how many")
        return frame

    async def close(self) -> None:
        """The node closes the link."""


async def main(channel: AsyncChannel) -> None:
    """Take part in one intersection, say how it ended, and wait to be stopped."""
    last: Message
    try:
        last = await _found(channel)
    except KoinonError as problem:
        last = failure_of(problem)
    await channel.send(to_frame(last))
    # A child that ended at once could break the channel under a frame of the other owner that is on its way, and take
    # its own last frame with it.
    with suppress(Unavailable):
        while True:
            await channel.receive()


async def _found(channel: AsyncChannel) -> IntersectionFound:
    work = from_frame(await channel.receive())
    if not isinstance(work, FindIntersection):
        raise MalformedMessage("a child for intersections begins with FindIntersection")
    rng = SystemRng()
    side = begin(Terms(work.session, work.asks, work.both_learn, work.most), work.identifiers, rng)
    told = 0

    async def progress(share: float) -> None:
        nonlocal told
        if (done := int(share * STEPS)) > told:
            told = done
            await channel.send(to_frame(Progress("intersect", done, STEPS)))

    members = await intersect(_Relayed(channel), side, rng, Seconds(work.seconds), progress)
    found = b"" if members is None else members.astype("<u4").tobytes()
    return IntersectionFound(members is not None, found)
