"""A committee member: takes the seat the draw gave, runs the joint computation in a child, blames only whom it can."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import Final

from koinon.contracts.client import Log
from koinon.contracts.studies import Challenged, Complained, Completed, Declined, Drawn, Ended, StudyPhase
from koinon.crypto.signature import recover_address
from koinon.jobs import gate, member
from koinon.jobs.inputs import shared_parameters
from koinon.jobs.sessions import session_key
from koinon.jobs.study import StudyFile
from koinon.kernel.codec import decode
from koinon.kernel.errors import Forged, Refused, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.node.orders import Lie, Nothing
from koinon.node.roles import committee_complaints as complaints
from koinon.node.roles import committee_outputs as outputs
from koinon.node.roles.committee_seat import (
    CALL_SECONDS,
    TICK_SECONDS,
    FromPeer,
    Seat,
    check_sender,
    size_of,
)
from koinon.node.roles.committee_worker import work
from koinon.node.roles.studies import fetch_study
from koinon.node.tasks import Narrator
from koinon.wire.catalogue import Done, Message
from koinon.wire.committee import Fault, Run
from koinon.wire.studies import CommitteeHello, DeliverShares, DeliverSignature, FetchSeat, Ping, SeatReply

journal = logging.getLogger("koinon.compute")

MOST_EARLY: Final = 32
EARLY_SECONDS: Final = 60.0
LARGEST_EARLY: Final = 256 * 1024**2
"""Bytes of shares kept for attempts not heard of yet;

strangers can send them too, and wait no longer than the time above.
"""


@dataclass
class _Early:
    """Messages about an attempt that this node has not heard of yet: the chain may reach it later than its peers."""

    since: Seconds
    messages: list[tuple[NodeId, FromPeer]] = field(default_factory=list)
    size: int = 0


class ComputeRole:
    """This node's seats. An attempt lives in memory only: after a restart its shares are gone, and a fresh attempt
    with fresh shares is the only right way on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seats: dict[tuple[int, int], Seat] = {}
        self._early: dict[tuple[int, int], _Early] = {}
        self._lies: dict[int, Lie] = {}

    def attach(self) -> None:
        """Follow the studies contract, listen to owners and to other members, and take the operator's orders."""
        context, studies = self._context, self._context.suite.studies
        context.feed.on(studies, Drawn, self._drawn)
        context.feed.on(studies, Challenged, self._challenged)
        context.feed.on(studies, Complained, self._over)
        context.feed.on(studies, Declined, self._over)
        context.feed.on(studies, Completed, self._paid)
        context.feed.on(studies, Ended, self._ended)
        context.transport.handle(CommitteeHello, self._hello)
        context.transport.handle(DeliverShares, self._shares)
        context.transport.handle(DeliverSignature, self._signature)
        context.transport.handle(FetchSeat, self._where)
        context.transport.handle(Ping, _here)
        if context.config.allow_faults:
            context.board.offer("fault.lie", self._plan_lie)

    def report(self) -> list[str]:
        """The seats this node has, for its status."""
        return [
            f"study {study} attempt {attempt}: {seat.state.phase} {seat.stage}".strip()
            for (study, attempt), seat in self._seats.items()
        ]

    # ------------------------------------------------------------------------------------------ events of the chain

    async def _drawn(self, event: Drawn, _: Log) -> None:
        context, number = self._context, event.study_id
        for key, seat in self._seats.items():
            if key[0] == number and key[1] < event.attempt:
                seat.events.put_nowait(member.AttemptOver())
        if context.account not in event.committee or (number, event.attempt) in self._seats:
            return
        study = await context.suite.studies.study_of(number)
        if (study.phase, study.attempt) != (StudyPhase.RUNNING, event.attempt):
            return  # heard late, after a restart: this attempt is over
        context.spawn(self._take_seat(event), f"seat {number}.{event.attempt}")

    async def _take_seat(self, event: Drawn) -> None:
        context, number, attempt = self._context, event.study_id, event.attempt
        study = await fetch_study(context, number)
        if lacking := self._lacking(study):
            await complaints.decline(context, number, attempt, lacking)
            return
        terms = await context.suite.studies.terms_of(number)
        providers = [await context.suite.providers.provider_of(account) for account in event.committee]
        members = tuple(NodeId(provider.node_id) for provider in providers)
        position = list(event.committee).index(context.account)
        now, waits = context.clock.monotonic(), context.config.committee
        state, effects = member.begin(number, attempt, position, members, len(study.owners), now, waits)
        seat = Seat(state, study, session_key(study, number, attempt), tuple(event.committee), terms.run_seconds)
        self._seats[number, attempt] = seat
        waiting = self._early.pop((number, attempt), None)
        for sender, early in waiting.messages if waiting else ():
            with contextlib.suppress(Refused):  # whoever sent it was told then that it would be looked at later
                check_sender(seat, early, sender)
                seat.events.put_nowait(early)
        journal.info("study %d: drawn for seat %d of attempt %d", number, position, attempt)
        await self._perform(seat, effects)
        try:
            await self._live(seat)
        finally:
            if seat.worker is not None:
                seat.worker.cancel()
            del self._seats[number, attempt]

    def _lacking(self, study: StudyFile) -> str:
        """What this machine lacks to run the study's engine; empty where it is nothing."""
        from koinon.privacy.engines import engine_named

        return engine_named(study.engine).missing()

    async def _live(self, seat: Seat) -> None:
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
                await complaints.answer(self._context, event.study_id, event.attempt)

    async def _over(self, event: Complained | Declined, _: Log) -> None:
        if seat := self._seats.get((event.study_id, event.attempt)):
            seat.events.put_nowait(member.AttemptOver())

    async def _paid(self, event: Completed, _: Log) -> None:
        if seat := self._seats.get((event.study_id, event.attempt)):
            seat.events.put_nowait(member.AttemptOver(paid=True))

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

    async def _signature(self, sender: NodeId, delivery: DeliverSignature) -> Message:
        """Take another member's signature, whole or not at all."""
        seat = self._seats.get((delivery.study, delivery.attempt))
        if seat is None:
            state = await self._context.suite.studies.study_of(delivery.study)
            if (state.phase, state.attempt) != (StudyPhase.RUNNING, delivery.attempt):
                raise Refused("that attempt is over")
            raise Unavailable("this node has not taken its seat in that attempt yet; tell it again")
        event = member.SignatureArrived(delivery.position, delivery.output_digest, delivery.signature)
        check_sender(seat, event, sender)
        digest = await outputs.digest_of(self._context, seat, delivery.output_digest)
        if recover_address(digest, delivery.signature) != seat.accounts[delivery.position]:
            raise Forged("the signature on the output digest is not that of the account drawn for that seat")
        seat.events.put_nowait(event)
        return Done()

    async def _where(self, sender: NodeId, request: FetchSeat) -> Message:
        """Tell an owner where this attempt's worker listens, once it does."""
        seat = self._seats.get((request.study, request.attempt))
        if seat is None or seat.state.own is None:
            raise Unavailable("no worker listens for that attempt yet; ask again")
        if sender not in {party.node_id for party in seat.study.owners}:
            raise Refused("only a study's data owners are told where its workers listen")
        return SeatReply(seat.state.own)

    def _arrived(self, study: int, attempt: int, event: FromPeer, sender: NodeId) -> None:
        """Pass on what a party of this attempt sent; keep what comes before this node has heard of the draw."""
        seat = self._seats.get((study, attempt))
        if seat is not None:
            check_sender(seat, event, sender)
            seat.events.put_nowait(event)
            return
        now = self._context.clock.monotonic()
        self._early = {key: kept for key, kept in self._early.items() if now - kept.since < EARLY_SECONDS}
        size = size_of(event)
        kept = self._early.setdefault((study, attempt), _Early(now))
        total = size + sum(other.size for other in self._early.values())
        if len(self._early) > MOST_EARLY or len(kept.messages) >= MOST_EARLY or total > LARGEST_EARLY:
            raise Unavailable("this node has not heard of that attempt and keeps no more early messages; try again")
        kept.messages.append((sender, event))
        kept.size += size

    # ----------------------------------------------------------------------------------------------- effects

    async def _perform(self, seat: Seat, effects: tuple[member.MemberEffect, ...]) -> None:
        state, context = seat.state, self._context
        name = f"study {state.study}.{state.attempt}"
        for effect in effects:
            match effect:
                case member.StartWorker():
                    seat.worker = context.spawn(self._work(seat), f"{name} worker")
                case member.Greet():
                    context.spawn(self._greet(seat, effect), f"{name} greeting")
                case member.RunWorker():
                    self._run(seat, effect)
                case member.SignDigest():
                    context.spawn(outputs.sign(context, seat, effect), f"{name} signature")
                case member.SendSignature():
                    context.spawn(
                        outputs.tell_signature(context, seat, effect), f"{name} signature to {effect.position}"
                    )
                case member.Complete():
                    context.spawn(outputs.complete(context, seat, effect), f"{name} completion")
                case member.SendOutput():
                    context.spawn(outputs.send_output(context, seat, effect), f"{name} output")
                case member.Complain():
                    context.spawn(complaints.complain(context, seat, effect), f"{name} complaint")
                case member.Challenge():
                    context.spawn(complaints.challenge(context, seat, effect.position), f"{name} challenge")
                case member.AnswerChallenge():
                    context.spawn(complaints.answer(context, state.study, state.attempt), f"{name} answer")
                case member.StopWorker():
                    if seat.worker is not None:
                        seat.worker.cancel()
                case member.Say():
                    journal.info("%s: %s", name, effect.sentence)

    async def _greet(self, seat: Seat, greet: member.Greet) -> None:
        """Until it is acknowledged or the attempt is over: the other may not have heard of the draw yet."""
        state = seat.state
        hello = CommitteeHello(state.study, state.attempt, state.position, greet.greeting)
        while seat.state.phase in ("starting", "gathering", "running"):
            try:
                record = await self._context.directory.find_node(state.members[greet.position])
                await self._context.transport.call(record.endpoint, hello, CALL_SECONDS)
                return
            except Unavailable:
                await asyncio.sleep(TICK_SECONDS)

    async def _work(self, seat: Seat) -> None:
        await work(self._context, seat)

    def _run(self, seat: Seat, run: member.RunWorker) -> None:
        from koinon.privacy.programs.registry import algorithm_hash

        study, state = seat.study, seat.state
        manifests = tuple(shares.manifest for shares in run.packages)
        try:
            gate.check_inputs(study, manifests)
        except Refused as problem:
            # No member is to blame; without three outputs the study ends at its deadline and the money goes back.
            seat.events.put_nowait(member.WorkerAborted(str(problem), frozenset(), None, None, None))
            return
        fault = None
        lie = self._lies.pop(state.attempt, None)
        if lie is not None and lie.position == state.position:
            fault = Fault(lie.round, (state.position + 1) % 4, 3)
        seat.to_worker.put_nowait(
            Run(
                peers=(run.greetings[0], run.greetings[1], run.greetings[2], run.greetings[3]),
                program=study.algorithm,
                algorithm=algorithm_hash(study.algorithm, study.engine),
                parameters=shared_parameters(study, manifests),
                result_party=study.publisher.node_id,
                inputs=run.packages,
                deadline_seconds=float(seat.run_seconds),
                silence_seconds=float(state.waits.silence_seconds),
                fault=fault,
            )
        )

    async def _plan_lie(self, argument: bytes, _: Narrator) -> Nothing:
        lie = decode(Lie, argument)
        self._lies[lie.attempt] = lie
        return Nothing()


async def _here(_: NodeId, __: Ping) -> Message:
    return Done()
