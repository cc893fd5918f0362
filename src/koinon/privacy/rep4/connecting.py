"""Links between the four workers of a run: the lower position dials."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from koinon.kernel.effects import PromptLink
from koinon.kernel.errors import KoinonError
from koinon.net.transport import Transport
from koinon.privacy.rep4 import abort, links
from koinon.privacy.rep4.party import Party
from koinon.privacy.seats import FourPeers, dialled, endpoint_of


@asynccontextmanager
async def connected(
    transport: Transport, party: Party, session: bytes, peers: FourPeers, seconds: float
) -> AsyncIterator[dict[int, PromptLink]]:
    """Links to the three other positions, closed at the end.

    Args:
        session: the run's identity, from which the links have their label.
        seconds: how long to wait for each.

    Raises:
        CommitteeAbort: about a peer that does not come; those that came are told.
    """
    label = f"rep4 {session.hex()}"
    open_links: dict[int, PromptLink] = {}

    async def connect(position: int) -> None:
        endpoint = endpoint_of(peers[position])
        if party.position < position:
            link: PromptLink = await dialled(transport, endpoint, label, seconds)
        else:
            link = await transport.accept_link(endpoint.node_id, label, seconds)
        open_links[position] = link

    try:
        ended = await asyncio.gather(*(connect(peer) for peer in party.peers), return_exceptions=True)
        for peer, problem in zip(party.peers, ended, strict=True):
            if isinstance(problem, KoinonError | TimeoutError):
                missing = party.complain(abort.SILENCE, peer)
                await links.say_farewell(open_links, missing)
                raise missing from problem
            if isinstance(problem, BaseException):
                raise problem
        yield open_links
    finally:
        async with AsyncExitStack() as closing:
            for link in open_links.values():
                closing.push_async_callback(link.close)
