"""A committee member:

takes the seat the draw gave, runs the joint computation in a disposable child, blames only whom it can.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import Final, TypeVar

from koinon.contracts.client import Log
from koinon.contracts.eip712 import result_digest
from koinon.contracts.studies import Challenged, Complained, Completed, Drawn, Ended, StudyPhase
from koinon.crypto.signature import recover_address
from koinon.jobs import gate, member
from koinon.jobs.inputs import parameters
from koinon.jobs.sessions import session_key, study_key
from koinon.jobs.study import StudyFile
from koinon.kernel.codec import decode
from koinon.kernel.errors import Forged, KoinonError, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import Seconds
from koinon.node import disputes
from koinon.node.context import Context
from koinon.node.orders import Lie, Nothing
from koinon.node.roles.studies import fetch_study
from koinon.node.tasks import Narrator
from koinon.wire.catalogue import Done, Message, from_frame, to_frame
from koinon.wire.committee import (
    NOBODY,
    Aborted,
    Fault,
    Listening,
    OpenedView,
    Output,
    Peer,
    Prepare,
    Progress,
    Run,
    ShareManifest,
)
from koinon.wire.studies import CommitteeHello, DeliverOutput, DeliverShares, DeliverSignature, FetchSeat, SeatReply
from koinon.worker import Limits, Worker

journal = logging.getLogger("koinon.compute")

TICK_SECONDS: Final = 0.5
CALL_SECONDS: Final = Seconds(10.0)
CHALLENGE_MARGIN_SECONDS: Final = 1
DELIVERY_TRIES: Final = 20
MOST_EARLY: Final = 32
EARLY_SECONDS: Final = 60.0
LARGEST_EARLY: Final = 256 * 1024**2
"""Bytes of shares kept for attempts not heard of yet;

strangers can send them too, and wait no longer than the time above.
"""
WORKER_MEMORY_BYTES: Final = 2 * 1024**3
WORKER_FRAME_BYTES: Final = 256 * 1024**2
LIE_ROUND: Final = 12
"""A demonstration's lie is told in the middle of the computation, not in its set-up."""

_M = TypeVar("_M", bound=Message)
_FromPeer = member.PeerGreeted | member.SharesArrived


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


@dataclass
class _Early:
    """Messages about an attempt that this node has not heard of yet: the chain may reach it later than its peers."""

    since: Seconds
    messages: list[tuple[NodeId, _FromPeer]] = field(default_factory=list)
    size: int = 0


class ComputeRole:
    """This node's seats. An attempt lives in memory only: after a restart its shares are gone, and a fresh attempt
    with fresh shares is the only right way on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seats: dict[tuple[int, int], _Seat] = {}
        self._early: dict[tuple[int, int], _Early] = {}
        self._lies: dict[int, int] = {}

    def attach(self) -> None:
        """Follow the studies contract, listen to owners and to other members, and take the operator's orders."""
        context, studies = self._context, self._context.suite.studies
        context.feed.on(studies, Drawn, self._drawn)
        context.feed.on(studies, Challenged, self._challenged)
        context.feed.on(studies, Complained, self._over)
        context.feed.on(studies, Completed, self._paid)
        context.feed.on(studies, Ended, self._ended)
        context.transport.handle(CommitteeHello, self._hello)
        context.transport.handle(DeliverShares, self._shares)
        context.transport.handle(DeliverSignature, self._signature)
        context.transport.handle(FetchSeat, self._where)
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
        terms = await context.suite.studies.terms_of(number)
        providers = [await context.suite.providers.provider_of(account) for account in event.committee]
        members = tuple(NodeId(provider.node_id) for provider in providers)
        position = list(event.committee).index(context.account)
        now, waits = context.clock.monotonic(), context.config.committee
        state, effects = member.begin(number, attempt, position, members, len(study.owners), now, waits)
        seat = _Seat(state, study, session_key(study, number, attempt), tuple(event.committee), terms.run_seconds)
        self._seats[number, attempt] = seat
        waiting = self._early.pop((number, attempt), None)
        for sender, early in waiting.messages if waiting else ():
            with contextlib.suppress(Refused):  # whoever sent it was told then that it would be looked at later
                _check_sender(seat, early, sender)
                seat.events.put_nowait(early)
        journal.info("study %d: drawn for seat %d of attempt %d", number, position, attempt)
        await self._perform(seat, effects)
        try:
            await self._live(seat)
        finally:
            if seat.worker is not None:
                seat.worker.cancel()
            del self._seats[number, attempt]

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

    async def _over(self, event: Complained, _: Log) -> None:
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
        _check_sender(seat, event, sender)
        digest = await self._digest_of(seat, delivery.output_digest)
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

    def _arrived(self, study: int, attempt: int, event: _FromPeer, sender: NodeId) -> None:
        """Pass on what a party of this attempt sent; keep what comes before this node has heard of the draw."""
        seat = self._seats.get((study, attempt))
        if seat is not None:
            _check_sender(seat, event, sender)
            seat.events.put_nowait(event)
            return
        now = self._context.clock.monotonic()
        self._early = {key: kept for key, kept in self._early.items() if now - kept.since < EARLY_SECONDS}
        size = _size_of(event)
        kept = self._early.setdefault((study, attempt), _Early(now))
        total = size + sum(other.size for other in self._early.values())
        if len(self._early) > MOST_EARLY or len(kept.messages) >= MOST_EARLY or total > LARGEST_EARLY:
            raise Unavailable("this node has not heard of that attempt and keeps no more early messages; try again")
        kept.messages.append((sender, event))
        kept.size += size

    # ----------------------------------------------------------------------------------------------- effects

    async def _perform(self, seat: _Seat, effects: tuple[member.MemberEffect, ...]) -> None:
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
                    context.spawn(self._sign(seat, effect), f"{name} signature")
                case member.SendSignature():
                    context.spawn(self._tell_signature(seat, effect), f"{name} signature to {effect.position}")
                case member.Complete():
                    context.spawn(self._complete(seat, effect), f"{name} completion")
                case member.SendOutput():
                    context.spawn(self._send_output(seat, effect), f"{name} output")
                case member.Complain():
                    context.spawn(self._complain(seat, effect), f"{name} complaint")
                case member.Challenge():
                    context.spawn(self._challenge(seat, effect.position), f"{name} challenge")
                case member.AnswerChallenge():
                    context.spawn(self._answer(state.study, state.attempt), f"{name} answer")
                case member.StopWorker():
                    if seat.worker is not None:
                        seat.worker.cancel()
                case member.Say():
                    journal.info("%s: %s", name, effect.sentence)

    async def _greet(self, seat: _Seat, greet: member.Greet) -> None:
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

    async def _work(self, seat: _Seat) -> None:
        """The disposable child of this attempt: prepare, listen, run, report. Its death is an event."""
        limits = Limits(
            memory_bytes=WORKER_MEMORY_BYTES,
            cpu_seconds=int(seat.run_seconds) + 60,
            wall_seconds=Seconds(seat.run_seconds + 60),
            frame_bytes=WORKER_FRAME_BYTES,
            network=True,
        )
        from koinon.privacy.engines import engine_named
        from koinon.privacy.seats import certify

        state = seat.state
        try:
            async with Worker.start(engine_named(seat.study.engine).worker, limits) as worker:
                seed = self._context.rng.bytes(32)
                await _tell(worker, Prepare(seat.session, state.position, seed, self._context.config.host))
                listening = await _hear(worker, Listening)
                certificate = certify(self._context.keys.node, seat.session, state.position, listening.ephemeral)
                peer = Peer(
                    self._context.keys.node.node_id,
                    listening.ephemeral,
                    certificate,
                    self._context.config.host,
                    listening.port,
                )
                seat.events.put_nowait(member.WorkerListening(peer))
                await _tell(worker, await seat.to_worker.get())
                while isinstance(report := await _hear(worker, Message), Progress | OpenedView):
                    if isinstance(report, Progress):
                        seat.stage = report.stage
                    else:
                        await self._keep(seat, "view", report)
                if isinstance(report, Aborted) and report.dispute is not None:
                    await self._keep(seat, "evidence", report.dispute)
                seat.events.put_nowait(_outcome(report))
        except KoinonError as problem:
            # Nothing names a culprit when one's own child fails; the others will find this seat silent.
            nothing = member.WorkerAborted(
                f"the worker failed: {problem}", frozenset({state.position}), None, None, None
            )
            seat.events.put_nowait(nothing)

    async def _keep(self, seat: _Seat, kind: str, message: Message) -> None:
        """Keep what a judge may need of a disputed run; a view is as secret as the shares it holds."""
        path = self._context.home.disputes / disputes.file_name(seat.state.study, seat.state.attempt, kind)
        await asyncio.to_thread(disputes.keep, path, message)
        journal.info("study %d: kept %s; see: koinon study accuse, koinon study plead", seat.state.study, path.name)

    def _run(self, seat: _Seat, run: member.RunWorker) -> None:
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
        if self._lies.pop(state.attempt, None) == state.position:
            fault = Fault(LIE_ROUND, (state.position + 1) % 4, 3)
        seat.to_worker.put_nowait(
            Run(
                peers=(run.greetings[0], run.greetings[1], run.greetings[2], run.greetings[3]),
                program=study.algorithm,
                algorithm=algorithm_hash(study.algorithm, study.engine),
                parameters=parameters(study, tuple(one.rows for one in manifests)),
                result_party=study.publisher.node_id,
                inputs=run.packages,
                deadline_seconds=float(seat.run_seconds),
                silence_seconds=float(state.waits.silence_seconds),
                fault=fault,
            )
        )

    async def _sign(self, seat: _Seat, effect: member.SignDigest) -> None:
        """Sign what may leave; where it may not, this member signs nothing and sends nothing."""
        from koinon.privacy.programs.registry import HE

        context, state = self._context, seat.state
        try:
            check = gate.check_sealed_output if seat.study.engine == HE else gate.check_output
            await asyncio.to_thread(check, seat.study, _manifests(seat), effect.output.count)
        except KoinonError as problem:
            journal.warning("study %d: the output is not signed: %s", state.study, problem)
            return
        signature = context.keys.account.sign_digest(await self._digest_of(seat, effect.output_digest))
        seat.events.put_nowait(member.SignatureArrived(state.position, effect.output_digest, signature))

    async def _digest_of(self, seat: _Seat, output_digest: bytes) -> Hash32:
        if len(output_digest) != 32:
            raise MalformedMessage("an output digest has 32 bytes")
        domain = await self._context.suite.studies.domain()
        return result_digest(domain, seat.state.study, seat.state.attempt, Hash32(output_digest))

    async def _tell_signature(self, seat: _Seat, effect: member.SendSignature) -> None:
        """Until it is acknowledged or the attempt is over: the other may not have taken its seat yet."""
        state = seat.state
        delivery = DeliverSignature(state.study, state.attempt, state.position, effect.output_digest, effect.signature)
        while seat.state.phase != "left":
            try:
                record = await self._context.directory.find_node(state.members[effect.position])
                await self._context.transport.call(record.endpoint, delivery, CALL_SECONDS)
                return
            except Unavailable:
                await asyncio.sleep(TICK_SECONDS)
            except Refused as over:
                journal.info("study %d: seat %d needs no signature: %s", state.study, effect.position, over)
                return

    async def _complete(self, seat: _Seat, effect: member.Complete) -> None:
        state = seat.state
        try:
            await self._context.suite.studies.complete(
                state.study, state.attempt, Hash32(effect.output_digest), list(effect.signatures)
            )
        except Refused as late:
            journal.info("study %d: another was faster to complete it: %s", state.study, late)

    async def _send_output(self, seat: _Seat, effect: member.SendOutput) -> None:
        context, state = self._context, seat.state
        delivery = DeliverOutput(
            state.study,
            state.attempt,
            state.position,
            effect.output,
            effect.output_digest,
            effect.signature,
            _manifests(seat),
        )
        for _ in range(DELIVERY_TRIES):
            try:
                record = await context.directory.find_node(seat.study.publisher.node_id)
                await context.transport.call(record.endpoint, delivery, CALL_SECONDS)
                return
            except Unavailable as problem:
                journal.warning("study %d: the result party cannot be reached: %s", state.study, problem)
                await asyncio.sleep(TICK_SECONDS)

    async def _complain(self, seat: _Seat, effect: member.Complain) -> None:
        state = seat.state
        try:
            await self._context.suite.studies.complain(
                state.study, state.attempt, effect.sender, effect.backup, state.position
            )
        except Refused as late:
            journal.info("study %d: another member's complaint was faster: %s", state.study, late)

    async def _challenge(self, seat: _Seat, position: int) -> None:
        """Ask on the chain;

        once the time to answer is over, have the silent one slashed. Another may have been faster.
        """
        state, studies = seat.state, self._context.suite.studies
        try:
            await studies.challenge(state.study, state.attempt, position)
        except Refused as known:
            journal.info("study %d: seat %d is challenged already: %s", state.study, position, known)
        challenge = await studies.challenge_of(state.study, state.attempt, position)
        while not challenge.answered and challenge.deadline and seat.state.phase != "left":
            left = float(challenge.deadline + CHALLENGE_MARGIN_SECONDS - self._context.clock.unix())
            if left <= 0:
                try:
                    await studies.expire_challenge(state.study, state.attempt, position)
                    return
                except Refused:
                    left = TICK_SECONDS  # the chain's clock is behind, or another member was faster
            await asyncio.sleep(min(left, 1.0))
            if (await studies.study_of(state.study)).attempt != state.attempt:
                return
            challenge = await studies.challenge_of(state.study, state.attempt, position)
        if challenge.answered:
            seat.events.put_nowait(member.ChallengeAnswered(position))

    async def _answer(self, study: int, attempt: int) -> None:
        try:
            await self._context.suite.studies.answer(study, attempt)
        except Refused as late:
            journal.warning("study %d: could not answer the challenge: %s", study, late)

    async def _plan_lie(self, argument: bytes, _: Narrator) -> Nothing:
        lie = decode(Lie, argument)
        self._lies[lie.attempt] = lie.position
        return Nothing()


async def _tell(worker: Worker, message: Message) -> None:
    await worker.send(to_frame(message))


async def _hear(worker: Worker, kind: type[_M]) -> _M:
    message = from_frame(await worker.receive())
    if not isinstance(message, kind):
        raise MalformedMessage(f"the worker said {type(message).__name__} where {kind.__name__} was due")
    return message


def _outcome(report: Message) -> member.MemberEvent:
    if isinstance(report, Output):
        return member.WorkerFinished(report.package, report.output_digest)
    if not isinstance(report, Aborted):
        raise MalformedMessage(f"the worker ended with {type(report).__name__}")

    def seat(position: int) -> int | None:
        return None if position == NOBODY else position

    return member.WorkerAborted(
        report.reason, frozenset(report.suspects), seat(report.sender), seat(report.backup), seat(report.receiver)
    )


def _manifests(seat: _Seat) -> tuple[ShareManifest, ...]:
    """The owners' that all four compared, in the study's order."""
    return tuple(shares.manifest for _, shares in sorted(seat.state.packages, key=lambda entry: entry[0]))


def _size_of(event: _FromPeer) -> int:
    if not isinstance(event, member.SharesArrived):
        return 0
    package = event.shares.package
    return len(event.shares.sealed) + sum(len(one.value) for one in (package.components if package else ()))


def _check_sender(seat: _Seat, event: _FromPeer | member.SignatureArrived, sender: NodeId) -> None:
    """Greetings and signatures come from the node drawn for the seat, shares from the owner of that number.

    Raises Refused.
    """
    if not isinstance(event, member.SharesArrived):
        seats = seat.state.members
        if not 0 <= event.position < len(seats) or seats[event.position] != sender:
            raise Refused("this is not from the node that was drawn for that seat")
        return
    owners = seat.study.owners
    if not 0 <= event.owner < len(owners) or owners[event.owner].node_id != sender:
        raise Refused("the shares are not from the data owner of that number")
    manifest = event.shares.manifest
    if manifest.study != study_key(seat.study, seat.state.study) or manifest.attempt != seat.state.attempt:
        raise Refused("the manifest is of another study or attempt")
