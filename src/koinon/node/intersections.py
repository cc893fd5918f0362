"""Intersections with other owners' nodes: over a link to a proven key, computed in a child without a network."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from koinon.kernel.errors import Expired, Forged, InvalidInput, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.net.link import FrameLink
from koinon.node.context import Context
from koinon.wire.catalogue import Failure, from_frame, number_of, to_frame
from koinon.wire.committee import Progress
from koinon.wire.failures import error_of
from koinon.wire.joins import FindIntersection, IntersectionFound, Values
from koinon.worker import Limits, Worker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IndexArray = NDArray[np.int64]

RETRY_SECONDS: Final = 0.5
LINK_SECONDS: Final = Seconds(20.0)
FIRST_FRAME_SECONDS: Final = 60.0
"""How long the other owner's node may take from a link to its child's first word, before another link is opened."""
MOST_RUNS: Final = 5
MEMORY_BYTES: Final = 4 * 1024**3
"""A million identifiers on each side take 0.6 GB."""
_FRAME_BYTES: Final = 66 * 1024**2
_ENDED: Final = b""
_PROGRESS: Final = number_of(Progress).to_bytes(2, "big")
_VALUES: Final = number_of(Values).to_bytes(2, "big")
_LAST: Final = tuple(number_of(kind).to_bytes(2, "big") for kind in (IntersectionFound, Failure))


@dataclass(frozen=True)
class Occasion:
    """One intersection with one other owner.

    Attributes:
        peer: the other owner's node.
        session: 32 bytes that both sides compute alike from what they agreed on.
        asks: this node dials, and asks; the other answers.
        both_learn: whether the one that answers learns the result too.
        most: the largest set of the other's that this owner accepts.
    """

    peer: NodeId
    session: bytes
    asks: bool
    both_learn: bool
    most: int

    @property
    def label(self) -> str:
        """Of the link."""
        return f"intersection {self.session.hex()}"


@dataclass
class Watch:
    """What can be seen of an intersection from outside.

    Attributes:
        linked: called when the other owner's node is there.
        progress: called with how much is done, from 0 to 1; anew where a link broke and all begins again.
        sent, received: bytes of frames to and from the other owner's node so far.
        answered: the other owner has been sent values of this owner's identifiers.
    """

    linked: Callable[[], None] = lambda: None
    progress: Callable[[float], None] = lambda _: None
    sent: int = 0
    received: int = 0
    answered: bool = False


async def intersection(
    context: Context,
    occasion: Occasion,
    identifiers: Sequence[str],
    seconds: Seconds,
    watch: Watch | None = None,
) -> "IndexArray | None":
    """Find out with another owner who is in both sets.

    Waits for the other owner's node within the time; where a link breaks, all begins anew, a few times. An owner that
    answers does not begin anew once it has sent values: an asker that broke off could ask for other identifiers.

    Returns:
        The numbers of ``identifiers`` that both have, ascending; None where this owner agreed to learn nothing.

    Raises:
        Refused: the other owner wants something else, or brings more than is accepted.
        Forged, MalformedMessage: the other owner's node sent what the protocol cannot send.
        Unavailable: it ended every run before it was done, or this node's own child did.
        Expired: not done within the time.
    """
    runs, watch = 0, watch or Watch()
    try:
        async with asyncio.timeout(seconds):
            while True:
                link, first = await _linked(context, occasion)
                watch.linked()
                try:
                    return await _found(link, first, occasion, identifiers, seconds, watch)
                except Unavailable:
                    runs += 1
                    if runs == MOST_RUNS or watch.answered:
                        raise
                    await asyncio.sleep(RETRY_SECONDS)
                finally:
                    await link.close()
    except TimeoutError:
        raise Expired(
            f"the intersection with the other owner's node was not done within {seconds:.0f} s; see that it is up and"
            " was told to take part, then begin again"
        ) from None


async def _linked(context: Context, occasion: Occasion) -> tuple[FrameLink, bytes | None]:
    """A link, once the other owner is there; for who asks with the other's first frame, which shows that it is."""
    while True:
        try:
            if not occasion.asks:
                return await context.transport.accept_link(occasion.peer, occasion.label, LINK_SECONDS), None
            record = await context.directory.find_node(occasion.peer)
            link = await context.transport.link(record.endpoint, occasion.label, LINK_SECONDS)
            try:
                async with asyncio.timeout(FIRST_FRAME_SECONDS):
                    first = await link.receive()
                if not first:
                    raise MalformedMessage("the other owner's node began with an empty frame")
                return link, first
            except BaseException:
                await link.close()
                raise
        except (Refused, Unavailable, TimeoutError):  # not there yet, or an older link of ours still waits there
            await asyncio.sleep(RETRY_SECONDS)


async def _found(
    link: FrameLink,
    first: bytes | None,
    occasion: Occasion,
    identifiers: Sequence[str],
    seconds: Seconds,
    watch: Watch,
) -> "IndexArray | None":
    limits = Limits(
        memory_bytes=MEMORY_BYTES,
        cpu_seconds=int(seconds) + 60,
        wall_seconds=Seconds(seconds + 60),
        frame_bytes=_FRAME_BYTES,
    )
    work = FindIntersection(
        occasion.session, occasion.asks, occasion.both_learn, occasion.most, tuple(identifiers), float(seconds)
    )
    async with Worker.start("koinon.privacy.joins.worker:main", limits) as worker:
        await worker.send(to_frame(work))
        if first is not None:
            watch.received += len(first)
            await worker.send(first)
        listening = asyncio.create_task(_to_child(link, worker, watch), name="frames of the other owner")
        try:
            result = await _to_peer(link, worker, watch)
        except (InvalidInput, Forged):
            # The other owner is not to wait for somebody who will not go on.
            with suppress(Unavailable):
                await link.send(to_frame(Failure("Refused", "this owner's node does not go on")))
            raise
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
    return _numbers(result, len(identifiers))


async def _to_child(link: FrameLink, worker: Worker, watch: Watch) -> None:
    """Until the other owner is gone, which the child is told: it may have all it needs."""
    with suppress(Unavailable):
        while True:
            try:
                frame = await link.receive()
            except Unavailable:
                await worker.send(_ENDED)
                return
            watch.received += len(frame)
            await worker.send(frame)


async def _to_peer(link: FrameLink, worker: Worker, watch: Watch) -> IntersectionFound:
    while not (frame := await worker.receive()).startswith(_LAST):
        if frame.startswith(_PROGRESS):
            progress = from_frame(frame)
            assert isinstance(progress, Progress)
            watch.progress(progress.done / max(progress.total, 1))
            continue
        watch.answered |= frame.startswith(_VALUES)
        # The child hears of a link that is gone with the other owner's frames, and may have all it needs.
        with suppress(Unavailable):
            await link.send(frame)
            watch.sent += len(frame)
    found = from_frame(frame)
    if isinstance(found, Failure):
        raise error_of(found)
    assert isinstance(found, IntersectionFound)
    return found


def _numbers(found: IntersectionFound, count: int) -> "IndexArray | None":
    """What the child says, checked: it has read what a stranger sent. Raises MalformedMessage."""
    import numpy as np

    if not found.learned:
        return None
    if len(found.members) % 4:
        raise MalformedMessage("the child's numbers take four bytes each")
    members = np.frombuffer(found.members, "<u4").astype(np.int64)
    if len(members) and ((np.diff(members) <= 0).any() or members[-1] >= count):
        raise MalformedMessage("the child named a row that there is not, or one of them twice")
    return members
