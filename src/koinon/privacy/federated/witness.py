"""The rest of a committee beside the member that leads a training: it repeats every round and vouches for the result.

The leader passes on every round's events as it took them. Owners' messages are signed, so a witness that repeats the
aggregator's step on them (``aggregator.recompute``) has the sum that the owners' words have, moves the joint model as
the plan says, approves of the round that follows (``approvals``) and signs a hash of the final parameters. Three equal
signatures of four members mean that the result is right if one of the three is honest about what it computed. What a
leader can still do: say of an owner that it was late. Witnesses see nothing that the leader does not see: masked
updates, opened shares, sums.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Self

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.effects import Link
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage, ProtocolAbort
from koinon.kernel.ids import Hash32, NodeId
from koinon.kernel.quantities import Seconds
from koinon.privacy.federated import aggregator, training
from koinon.privacy.federated.approvals import ENOUGH_APPROVALS, Voucher, approve, check_approval
from koinon.privacy.federated.links import Roster
from koinon.privacy.federated.session import session_of
from koinon.privacy.federated.training import Coordinator, TrainingPlan
from koinon.privacy.federated.worker import parameters_to
from koinon.wire.catalogue import Message, from_frame, to_frame
from koinon.wire.federated import Endorsement, ModelApproval, RoundEvent, RoundEvents, RoundTerms

ENOUGH: Final = 3
"""Of four members' signatures."""
_WAITING_MESSAGES: Final = 32
_RECEIVED, _GONE, _STAGE_OVER = 0, 1, 2
_DOMAIN: Final = "koinon/federated/result/1"
_TRANSCRIPT_DOMAIN: Final = "koinon/federated/transcript/1"


def written(number: int, events: Sequence[aggregator.AggregatorEvent], *, is_last: bool) -> RoundEvents:
    """A round's events for the witnesses."""
    return RoundEvents(number, tuple(map(_written, events)), is_last)


def read(message: RoundEvents) -> list[aggregator.AggregatorEvent]:
    """The events again. Raises MalformedMessage for what is no event."""
    return [_read(event) for event in message.events]


def follow(state: Coordinator, plan: TrainingPlan, roster: Roster, message: RoundEvents) -> Coordinator:
    """Repeat one round on our own state.

    Raises:
        ProtocolAbort: the leader's events are not those of the round that follows from what it told before, or it ends
            the training where the plan does not.
    """
    if state.finished or message.round != state.round:
        raise ProtocolAbort(f"the leader tells of round {message.round} when round {state.round} was due", {0})
    following = _repeated(state, plan, roster, message)
    if message.is_last != bool(following.finished):
        ends = "ends the training" if message.is_last else "goes on"
        raise ProtocolAbort(f"the leader {ends} after round {state.round}, and the plan does not", {0})
    return following


def _repeated(state: Coordinator, plan: TrainingPlan, roster: Roster, message: RoundEvents) -> Coordinator:
    terms = roster.terms(plan, state.round, state.joint.parameters)
    without = replace(state, round=state.round + 1)  # a round that gave no sum: the next one has the same model
    try:
        ended = aggregator.recompute(terms, read(message))
    except InvalidInput as problem:
        raise ProtocolAbort(f"the leader's account of round {state.round} does not hold: {problem}", {0}) from None
    if isinstance(ended, aggregator.Failed):
        return without
    try:
        return training.finish_round(state, plan, ended.survivors, ended.words)
    except ProtocolAbort:
        return without


def result_hash(study: bytes, state: Coordinator, plan: TrainingPlan) -> Hash32:
    """What members sign: the study, and the joint model's parameters."""
    return tagged_hash(_DOMAIN, study, parameters_to(training.result(state, plan)))


def endorse(study: bytes, state: Coordinator, plan: TrainingPlan, position: int, key: NodeKey) -> Endorsement:
    """This member's signature on the result."""
    digest = result_hash(study, state, plan)
    return Endorsement(position, digest, key.sign(_DOMAIN, digest))


def accept(
    study: bytes, parameters: np.ndarray, members: Sequence[NodeId], endorsements: Sequence[Endorsement]
) -> tuple[int, ...]:
    """The positions that vouch for these parameters; for the result party.

    Raises:
        ProtocolAbort: fewer than three members do.
    """
    digest = tagged_hash(_DOMAIN, study, parameters_to(parameters))
    found = set()
    for each in endorsements:
        if each.digest == digest and 0 <= each.position < len(members):
            try:
                verify_node_signature(members[each.position], _DOMAIN, each.digest, each.signature)
            except KoinonError:
                continue  # a signature that is not the member's counts for nothing
            found.add(each.position)
    if len(found) < ENOUGH:
        raise ProtocolAbort(f"{len(found)} of {len(members)} members vouch for this model, and {ENOUGH} must")
    return tuple(sorted(found))


async def witness(
    plan: TrainingPlan, roster: Roster, voucher: Voucher, link: Link, start: np.ndarray | None = None
) -> tuple[Coordinator, Endorsement, bytes]:
    """Follow a training over the link from its leader, approve of each round, and endorse what comes out.

    Returns:
        The state at the end, our endorsement, and the transcript: see ``Account.transcript``.

    Raises:
        ProtocolAbort: the leader's account of a round does not fit; nothing is endorsed.
        Unavailable: the leader is gone.
    """
    state = training.start(plan, training.check_plan(plan, len(roster.owners)), start)
    transcript = bytes(32)
    while True:
        frame = await link.receive()
        transcript = _extended(transcript, frame)
        message = from_frame(frame)
        if not isinstance(message, RoundEvents):
            raise ProtocolAbort(f"the leader sent a {type(message).__name__} in place of a round's events", {0})
        state = follow(state, plan, roster, message)
        if message.is_last:
            endorsement = endorse(roster.study, state, plan, voucher.position, voucher.key)
            await link.send(to_frame(endorsement))
            return state, endorsement, transcript
        # Once for every round: ``follow`` takes no round twice.
        following = roster.terms(plan, state.round, state.joint.parameters)
        await link.send(to_frame(approve(following, voucher)))


class Account:
    """What a leader tells its witnesses and hears from them; its methods are for ``links.coordinate``.

    ``transcript`` is a hash of all that was told: owners' masked words are in it, so nobody else can guess it.
    """

    def __init__(self, roster: Roster, links: Sequence[Link], seconds: Seconds) -> None:
        """``seconds`` is the longest wait for a witness; one that is slower, or gone, is one signature less."""
        self._witnesses, self._links, self._seconds = roster.witnesses, list(links), seconds
        self._events: list[aggregator.AggregatorEvent] = []
        self._news: asyncio.Queue[tuple[Link, Message | None]] = asyncio.Queue(_WAITING_MESSAGES)
        self._readers: list[asyncio.Task[None]] = []
        self.transcript = bytes(32)

    async def __aenter__(self) -> Self:
        self._readers = [asyncio.create_task(self._read(link), name="read from a witness") for link in self._links]
        return self

    async def __aexit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def watch(self, event: aggregator.AggregatorEvent) -> None:
        """One event of the round that goes on."""
        self._events.append(event)

    async def ended(self, number: int, is_last: bool) -> None:
        """Tell the witnesses of the round that has ended."""
        frame = to_frame(written(number, self._events, is_last=is_last))
        self._events = []
        self.transcript = _extended(self.transcript, frame)
        await asyncio.gather(*(self._tell(link, frame) for link in list(self._links)))

    async def vouched(self, terms: RoundTerms) -> tuple[ModelApproval, ...]:
        """The first two approvals of a round, by position. Raises ProtocolAbort where they do not come."""
        session, found = session_of(terms), dict[int, ModelApproval]()

        def take(_: Link, message: Message) -> None:
            # One of an earlier round came after two others.
            if isinstance(message, ModelApproval) and message.session == session:
                check_approval(terms, self._witnesses, message)
                found[message.position] = message

        await self._hear(take, lambda: len(found) >= ENOUGH_APPROVALS or len(self._links) < ENOUGH_APPROVALS)
        if len(found) < ENOUGH_APPROVALS:
            silent = set(range(1, len(self._witnesses) + 1)) - set(found)
            raise ProtocolAbort(f"too few members vouch for the model of round {terms.round}", silent)
        return tuple(found[position] for position in sorted(found))

    async def endorsements(self) -> list[Endorsement]:
        """Those of the witnesses that followed to the end."""
        found: dict[Link, Endorsement] = {}

        def take(link: Link, message: Message) -> None:
            if isinstance(message, Endorsement):
                found[link] = message

        await self._hear(take, lambda: all(link in found for link in self._links))
        return list(found.values())

    async def _hear(self, take: Callable[[Link, Message], None], enough: Callable[[], bool]) -> None:
        """Until there is enough, or time is up. A witness that says what makes no sense is heard no more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                while not enough():
                    link, message = await self._news.get()
                    try:
                        if message is not None:
                            take(link, message)
                            continue
                    except Forged:
                        pass  # who signs otherwise than its seat does counts as gone
                    if link in self._links:
                        self._links.remove(link)

    async def _read(self, link: Link) -> None:
        with suppress(KoinonError):  # what the link says last is that nothing follows
            while isinstance(message := from_frame(await link.receive()), ModelApproval | Endorsement):
                await self._news.put((link, message))
        await self._news.put((link, None))

    async def _tell(self, link: Link, frame: bytes) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await link.send(frame)
        except (KoinonError, TimeoutError):
            self._links.remove(link)


def _extended(transcript: bytes, frame: bytes) -> bytes:
    return tagged_hash(_TRANSCRIPT_DOMAIN, transcript, frame)


def _written(event: aggregator.AggregatorEvent) -> RoundEvent:
    match event:
        case aggregator.Received():
            return RoundEvent(_RECEIVED, event.owner, to_frame(event.message))
        case aggregator.Gone():
            return RoundEvent(_GONE, event.owner, b"")
        case aggregator.StageOver():
            return RoundEvent(_STAGE_OVER, event.stage, b"")


def _read(event: RoundEvent) -> aggregator.AggregatorEvent:
    if event.kind == _RECEIVED:
        return aggregator.Received(event.number, from_frame(event.message))
    if event.message or event.kind not in (_GONE, _STAGE_OVER):
        raise MalformedMessage("an event of a round is a message, a departure or the end of a stage")
    return aggregator.Gone(event.number) if event.kind == _GONE else aggregator.StageOver(event.number)
