"""Links that have arrived before anybody asked for them, and askers whose link has not arrived."""

import asyncio
from typing import Final

from koinon.kernel.errors import Expired, Refused, Unavailable
from koinon.kernel.ids import NodeId, to_hex
from koinon.kernel.quantities import Seconds
from koinon.net.link import FrameLink
from koinon.net.pace import Pace, check_pace

MOST_PARKED: Final = 256
MOST_PARKED_PER_PEER: Final = 16


class LinkYard:
    """Brings the two ends of a link together by peer and label, and watches every open link's pace."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._links: set[FrameLink] = set()
        self._parked: dict[tuple[NodeId, str], tuple[FrameLink, Seconds]] = {}
        self._awaited: dict[tuple[NodeId, str], asyncio.Future[FrameLink]] = {}

    def all(self) -> frozenset[FrameLink]:
        """Every open link."""
        return frozenset(self._links)

    def keep(self, link: FrameLink) -> None:
        """Watch a link until its connection is gone."""
        self._links.add(link)
        link.stream.closed.add_done_callback(lambda _: self._links.discard(link))

    def check_room(self, peer: NodeId, label: str) -> None:
        """Raises Refused if a link of this name is parked already, or too many are."""
        mine = sum(1 for owner, _ in self._parked if owner == peer)
        if (peer, label) in self._parked or mine >= MOST_PARKED_PER_PEER or len(self._parked) >= MOST_PARKED:
            raise Refused(f"a link {label} from this node waits to be accepted already, or too many do")

    def arrive(self, link: FrameLink) -> None:
        """Hand a link to whoever awaits it, or park it, unread, until somebody does."""
        self.keep(link)
        name = (link.peer, link.label)
        awaited = self._awaited.get(name)
        if awaited is not None and not awaited.done():
            awaited.set_result(link)
            return
        link.stream.pause_reading()
        self._parked[name] = link, Seconds(self._loop.time())

    async def take(self, peer: NodeId, label: str, timeout: float) -> FrameLink:
        """The link of this peer and label. Raises Expired if it does not arrive in time."""
        name = (peer, label)
        link, _ = self._parked.pop(name, (None, 0))
        if link is not None and link.stream.is_open:
            link.stream.resume_reading()
            return link
        if name in self._awaited:
            raise ValueError(f"the link {label} of node {to_hex(peer)[:18]}… is awaited already")
        arrival: asyncio.Future[FrameLink] = self._loop.create_future()
        self._awaited[name] = arrival
        try:
            async with asyncio.timeout(timeout):
                return await arrival
        except TimeoutError:
            raise Expired(f"node {to_hex(peer)[:18]}… opened no link {label} within {timeout:g} s") from None
        finally:
            del self._awaited[name]

    def sweep(self, now: Seconds) -> None:
        """Cut links whose peer is too slow or that nobody has accepted."""
        for link in tuple(self._links):
            check_pace(link.stream, self._pace, now, self._pace.link_stall)
        for name, (link, since) in tuple(self._parked.items()):
            if now - since > self._pace.parked or not link.stream.is_open:
                del self._parked[name]
                link.stream.cut(Unavailable(f"nobody accepted the link {link.label}"))
