"""Committee nodes that stop, say nothing, send garbage or never finish a frame: another committee does the work."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace

import psutil
import pytest
from contracts_world import PROVIDERS
from node_joins_world import IDS, draft_of, money_of, ordered, owner_of, publisher_of
from node_market_world import Network

from koinon.contracts.studies import Complained
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.jobs import member
from koinon.jobs.member import Waits
from koinon.journey.results import Study, Trained
from koinon.kernel.errors import Refused
from koinon.kernel.ids import ZERO_ADDRESS
from koinon.net.link import FrameLink
from koinon.net.transport import Transport
from koinon.node.context import Context
from koinon.node.orders import ProposeStudy
from koinon.node.roles.committee_seat import Seat
from koinon.node.roles.compute import ComputeRole
from koinon.privacy.seats import certify, dialled, endpoint_of
from koinon.wire.committee import POSITIONS, Peer
from koinon.wire.frames import HEADER, LARGEST_BODY

SEAT = 2
PATIENT = Waits(silence_seconds=20)
"""Nobody honest is silent for so long, on however slow a machine."""
CONNECTING_SECONDS = 60.0
Behaviour = Callable[[dict[int, FrameLink]], Awaitable[None]]


async def mute(_: dict[int, FrameLink]) -> None:
    """Connected to all, it says nothing."""


async def garbage(links: dict[int, FrameLink]) -> None:
    """Frames that the protocol cannot send, of every size."""
    for size in (0, 1, 31, 4096, 1 << 20):
        for link in links.values():
            await link.send(os.urandom(size))


async def endless(links: dict[int, FrameLink]) -> None:
    """A frame of the largest size that grows by a little now and then and is never whole."""
    loop = asyncio.get_running_loop()

    def trickle() -> None:
        for link in links.values():
            if link.stream.is_open:
                link.stream._writable().write(bytes(1000))
        if any(link.stream.is_open for link in links.values()):
            loop.call_later(0.2, trickle)

    for link in links.values():
        link.stream._writable().write(HEADER.pack(LARGEST_BODY, 8, 0, 0))
    trickle()


class HostileNode(ComputeRole):
    """A provider that lives and answers; but in one seat of the first attempt it computes nothing."""

    def __init__(self, context: Context, behaviour: Behaviour) -> None:
        super().__init__(context)
        self._behaviour = behaviour

    async def _work(self, seat: Seat) -> None:
        if (seat.state.attempt, seat.state.position) != (0, SEAT):
            await super()._work(seat)
            return
        key, node = NodeKey.generate(SystemRng()), self._context.keys.node
        label = f"rep4 {seat.session.hex()}"
        async with Transport.open(key, "127.0.0.1") as transport, AsyncExitStack() as closing:
            certificate = certify(node, seat.session, SEAT, key.node_id)
            port = transport.endpoint.port
            seat.events.put_nowait(
                member.WorkerListening(Peer(node.node_id, key.node_id, certificate, "127.0.0.1", port))
            )
            run = await seat.to_worker.get()
            links: dict[int, FrameLink] = {}
            for position in set(POSITIONS) - {SEAT}:
                endpoint = endpoint_of(run.peers[position])
                if position > SEAT:
                    link = await dialled(transport, endpoint, label, CONNECTING_SECONDS)
                else:
                    link = await transport.accept_link(endpoint.node_id, label, CONNECTING_SECONDS)
                assert isinstance(link, FrameLink)
                closing.push_async_callback(link.close)
                links[position] = link
            await self._behaviour(links)
            await asyncio.Event().wait()  # until its own node has heard that the attempt is over


class FrozenNode(ComputeRole):
    """A provider whose worker in the first attempt is stopped by a signal before it gets its order."""

    def _run(self, seat: Seat, run: member.RunWorker) -> None:
        if (seat.state.attempt, seat.state.position) == (0, SEAT):
            os.kill(worker_at(run.greetings[SEAT].port), signal.SIGSTOP)
        super()._run(seat, run)


def workers() -> Iterator[int]:
    """Processes of this test's nodes that compute a study."""
    for child in psutil.Process().children(recursive=True):
        if "koinon.privacy.rep4.worker:main" in child.cmdline():
            yield child.pid


def worker_at(port: int) -> int:
    """The one that listens there."""
    for number in workers():
        if any(one.laddr.port == port for one in psutil.Process(number).net_connections("tcp")):
            return number
    raise AssertionError("no worker listens there")


async def committee_with(network: Network, role: Callable[[Context], ComputeRole]) -> None:
    for name in PROVIDERS:
        context = await network.node(name, ("compute",))
        context.config = replace(context.config, committee=PATIENT)
        role(context).attach()
        context.spawn(context.feed.follow(), "feed")


async def owners_of(network: Network) -> list[Context]:
    return [await owner_of(network, name, IDS[name]) for name in ("north", "south")]


async def proposed(publisher: Context, attempts: int) -> Study:
    draft = draft_of(("north", "south"), "psi", outputs=("mean",))
    assert "maximum_attempts = 2" in draft
    draft = draft.replace("maximum_attempts = 2", f"maximum_attempts = {attempts}")
    return await ordered(publisher, "study.propose", ProposeStudy(draft), Study)


def hostile(behaviour: Behaviour) -> Callable[[Context], ComputeRole]:
    return lambda context: HostileNode(context, behaviour)


@pytest.mark.long
@pytest.mark.parametrize(
    "role",
    [
        pytest.param(hostile(mute), id="says nothing"),
        pytest.param(hostile(garbage), id="sends garbage, a sample"),
        pytest.param(hostile(endless), id="never finishes a frame"),
        pytest.param(FrozenNode, id="a stopped worker"),
    ],
)
async def test_the_next_committee_finishes_without_whoever_took_no_part(
    network: Network, role: Callable[[Context], ComputeRole]
) -> None:
    await committee_with(network, role)
    publisher = await publisher_of(network)
    await owners_of(network)
    study = await proposed(publisher, attempts=2)
    trained = await ordered(publisher, "study.train", study, Trained)
    studies = network.suite.studies
    assert trained.attempt == 1
    first = await studies.committee_of(study.number, 0)
    (complaint,) = await studies.events(Complained, study_id=study.number)
    named = {complaint.event.sender, complaint.event.receiver}
    assert first[SEAT] in named
    assert named.isdisjoint(trained.committee)
    # Who has no part in the silence is neither named nor left out.
    assert complaint.event.backup == ZERO_ADDRESS
    assert set((await studies.study_of(study.number)).excluded) == named
    assert not list(workers())


@pytest.mark.long
async def test_without_another_attempt_the_escrow_is_back_sample(network: Network) -> None:
    await committee_with(network, hostile(mute))
    publisher, owners = await publisher_of(network), await owners_of(network)
    before = [await money_of(context) for context in (publisher, *owners)]
    study = await proposed(publisher, attempts=1)
    with pytest.raises(Refused, match=r"ended without a result .* the escrow and all bonds are back"):
        await ordered(publisher, "study.train", study, Trained)
    assert [await money_of(context) for context in (publisher, *owners)] == before
    assert not list(workers())
