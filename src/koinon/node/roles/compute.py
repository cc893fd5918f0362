"""A committee member: takes the seat the draw gave, runs the joint computation in a disposable child, blames only whom it can."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from koinon.contracts.client import Log
from koinon.contracts.studies import Challenged, Complained, Completed, Drawn, Ended
from koinon.jobs import member
from koinon.jobs.sessions import session_key
from koinon.jobs.study import StudyFile
from koinon.kernel.errors import KoinonError, Refused, Unavailable
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.node.orders import Lie, Nothing
from koinon.node.roles.studies import fetch_study
from koinon.node.tasks import Narrator
from koinon.kernel.codec import decode
from koinon.wire.catalogue import Done, Message, pack, unpack
from koinon.wire.committee import (
    NOBODY,
    Aborted,
    Fault,
    Listening,
    Output,
    Peer,
    Prepare,
    Progress,
    Run,
    ShareManifest,
)
from koinon.wire.studies import CommitteeHello, DeliverOutput, DeliverShares
from koinon.worker import Limits, Worker

journal = logging.getLogger("koinon.compute")

TICK_SECONDS: Final = 0.5
CALL_SECONDS: Final = Seconds(10.0)
SILENCE_SECONDS: Final = 5.0
"""How long a worker waits for one frame before it reports its sender as silent."""
CHALLENGE_MARGIN_SECONDS: Final = 1
WORKER_MEMORY_BYTES: Final = 2 * 1024**3
LIE_ROUND: Final = 12
"""A demonstration's lie is told in the middle of the computation, not in its set-up."""


@dataclass
class _Seat:
    """One attempt of one study, seen from this node's seat."""

    state: member.MemberState
    study: StudyFile
    session: bytes
    accounts: tuple[Address, ...]
    run_seconds: float
    events: "asyncio.Queue[member.MemberEvent]" = field(default_factory=asyncio.Queue)
    to_worker: "asyncio.Queue[Run]" = field(default_factory=asyncio.Queue)
    worker: "asyncio.Task[None] | None" = None
    stage: str = ""


class ComputeRole:
    """This node's seats. An attempt lives in memory only: after a restart its shares are gone, and a fresh attempt
    with fresh shares is the only right way on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seats: dict[tuple[int, int], _Seat] = {}
        self._early: dict[tuple[int, int], list[member.MemberEvent]] = {}
        self._lies: dict[int, int] = {}

    def attach(self) -> None:
        """Follow the studies contract, listen to owners and to other members, and take the operator's orders."""
        context, studies = self._context, self._context.suite.studies
        context.feed.on(studies, Drawn, self._drawn)
        context.feed.on(studies, Challenged, self._challenged)
        context.feed.on(studies, Complained, self._over)
        context.feed.on(studies, Completed, self._over)
        context.feed.on(studies, Ended, self._ended)
        context.transport.handle(CommitteeHello, self._hello)
        context.transport.handle(DeliverShares, self._shares)
        if context.config.allow_faults:
            context.board.offer("fault.lie", self._plan_lie)

    def report(self) -> list[str]:
        """The seats this node has, for its status."""
        return [f"study {study} attempt {attempt}: {seat.state.phase} {seat.stage}".strip()
                for (study, attempt), seat in self._seats.items()]  # fmt: skip

    # ------------------------------------------------------------------------------------------ events of the chain

    async def _drawn(self, event: Drawn, _: Log) -> None:
        context, number = self._context, event.study_id
        for key, seat in self._seats.items():
            if key[0] == number and key[1] < event.attempt:
                seat.events.put_nowait(member.AttemptOver())
        if context.account not in event.committee or (number, event.attempt) in self._seats:
            return
        if (await context.suite.studies.study_of(number)).attempt != event.attempt:
            return  # heard late, after a restart: this attempt is over
        context.spawn(self._take_seat(event), f"seat {number}.{event.attempt}")

    async def _take_seat(self, event: Drawn) -> None:
        context, number, attempt = self._context, event.study_id, event.attempt
        study = await fetch_study(context, number)
        terms = await context.suite.studies.terms_of(number)
        providers = [await context.suite.providers.provider_of(account) for account in event.committee]
        members = tuple(NodeId(provider.node_id) for provider in providers)
        position = list(event.committee).index(context.account)
        state, effects = member.begin(
            number, attempt, position, members, len(study.owners), context.clock.monotonic()
        )
        seat = _Seat(state, study, session_key(study, number, attempt), tuple(event.committee), terms.run_seconds)
        self._seats[number, attempt] = seat
        for early in self._early.pop((number, attempt), []):
            seat.events.put_nowait(early)
        journal.info("study %d: drawn for seat %d of attempt %d", number, position, attempt)
        await self._perform(seat, effects)
        try:
            await self._live(seat)
        finally:
            if seat.worker is not None:
                seat.worker.cancel()

    async def _live(self, seat: _Seat) -> None:
        """Take events until the attempt is over; a tick whenever nothing else happens."""
        while seat.state.phase != "left":
            try:
                event = await asyncio.wait_for(seat.events.get(), TICK_SECONDS)
            except TimeoutError:
                event = member.Tick(self._context.clock.monotonic())
            seat.state, effects = member.step(seat.state, event)
            await self._perform(seat, effects)

    async def _challenged(self, event: Challenged, _: Log) -> None:
        seat = self._seats.get((event.study_id, event.attempt))
        if event.member == self._context.account:
            if seat is not None:
                seat.events.put_nowait(member.ChallengedOnChain())
            else:
                await self._answer(event.study_id, event.attempt)

    async def _over(self, event: Complained | Completed, _: Log) -> None:
        if seat := self._seats.get((event.study_id, event.attempt)):
            seat.events.put_nowait(member.AttemptOver())

    async def _ended(self, event: Ended, _: Log) -> None:
        for (number, _attempt), seat in self._seats.items():
            if number == event.study_id:
                seat.events.put_nowait(member.AttemptOver())

    # ------------------------------------------------------------------------------------- messages of other nodes

    async def _hello(self, sender: NodeId, hello: CommitteeHello) -> Message:
        if hello.peer.node != sender:
            raise Refused("a greeting must come from the node it names")
        self._arrived(hello.study, hello.attempt, member.PeerGreeted(hello.position, hello.peer), sender)
        return Done()

    async def _shares(self, sender: NodeId, delivery: DeliverShares) -> Message:
        if delivery.shares.manifest.owner != sender:
            raise Refused("shares must come from the owner that signed their manifest")
        self._arrived(delivery.study, delivery.attempt, member.SharesArrived(delivery.owner, delivery.shares), sender)
        return Done()

    def _arrived(self, study: int, attempt: int, event: member.MemberEvent, sender: NodeId) -> None:
        """Pass on what a party of this attempt sent; keep what comes before this node has heard of the draw."""
        seat = self._seats.get((study, attempt))
        if seat is None:
            early = self._early.setdefault((study, attempt), [])
            if len(self._early) > 64 or len(early) > 64:
                raise Refused("this node knows of no such attempt and keeps no more early messages; send it again later")
            early.append(_From(sender, event))
            return
        _check_sender(seat, event, sender)
        seat.events.put_nowait(event)
