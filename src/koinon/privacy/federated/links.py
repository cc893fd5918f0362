"""A training over links: who takes part in it, and the aggregator's side. For the owners' see ``contributing``.

The aggregator tells each owner a round's terms, the joint model and who vouches for it; owners train, mask and answer.
Each owner has a reader and a writer task, so that one that does not read delays nobody. An owner whose link ends is
gone for good; one that is only slow is left out of the round and asked again in the next.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from koinon.kernel.effects import Link
from koinon.kernel.errors import KoinonError, MalformedMessage, ProtocolAbort, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.privacy.federated import aggregator, training
from koinon.privacy.federated.session import session_of
from koinon.privacy.federated.training import Coordinator, TrainingPlan
from koinon.privacy.federated.worker import parameters_to
from koinon.wire.catalogue import Message, from_frame, to_frame
from koinon.wire.federated import ModelApproval, RoundTerms, TrainingOver, TrainingRound

MOST_FAILURES: Final = 3
"""Rounds in a row without a sum after which the training ends."""
_WAITING_MESSAGES: Final = 32
_UNREAD_MESSAGES: Final = 8


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the aggregator waits: for owners to train, and for their answers in every other stage."""

    training: Seconds
    stage: Seconds


@dataclass(frozen=True, slots=True)
class Roster:
    """Who takes part in which study.

    Attributes:
        study: its 32-byte name.
        aggregator: the leading worker's key.
        owners: their nodes, in order.
        witnesses: nodes of the members that repeat the rounds, from position 1 on; none where the aggregator is alone,
            and owners trust it with the choice of the model.
    """

    study: bytes
    aggregator: NodeId
    owners: tuple[NodeId, ...]
    witnesses: tuple[NodeId, ...]

    def terms(self, plan: TrainingPlan, number: int, parameters: np.ndarray) -> RoundTerms:
        """The terms of one round."""
        return training.round_terms(plan, self.study, number, parameters, self.aggregator, self.owners)


def link_label(study: bytes) -> str:
    """What aggregator and owners call their links."""
    return f"federated {study.hex()}"


# ----------------------------------------------------------------------------------------------------- aggregator

Ended = Callable[[int, bool], Awaitable[None]]
"""Takes the number of a round that has ended, and whether it was the last."""
Watch = Callable[[aggregator.AggregatorEvent], None]
Vouched = Callable[[RoundTerms], Awaitable[tuple[ModelApproval, ...]]]
"""Gives the approvals of a round that is to begin. Raises ProtocolAbort where too few members vouch for it."""


async def coordinate(
    plan: TrainingPlan,
    roster: Roster,
    links: Mapping[int, Link],
    pace: Pace,
    *,
    watch: Watch = lambda _: None,
    start: np.ndarray | None = None,
    report: Callable[[training.RoundReport], None] = lambda _: None,
    ended: Ended | None = None,
    vouched: Vouched | None = None,
) -> Coordinator:
    """Lead a training to its end and tell the owners the joint model.

    Args:
        links: to the owners by number; those that did not come are missing.
        start: the first parameters, where the model of the plan does not give them.
        watch: told every event of every round before it is taken; whoever keeps them can ``recompute`` the sums.
        report: told what is known after each round.
        ended: awaited after every round, with or without a sum; see ``witness.Account``.
        vouched: asked before every round but the first.

    Raises:
        InvalidInput: a plan that cannot be used.
        Unavailable: too few owners are left, or several rounds in a row gave no sum; the owners have been told.
        ProtocolAbort: too few members vouch for a model; the owners have been told.
    """
    model = training.check_plan(plan, len(roster.owners))
    state, failures = training.start(plan, model, start), 0
    async with _Owners(links) as owners:
        while not state.finished:
            number = state.round
            terms = roster.terms(plan, number, state.joint.parameters)
            try:
                approvals = await vouched(terms) if number and vouched is not None else ()
            except ProtocolAbort as problem:
                await _give_up(owners, str(problem), pace)
                raise
            asked = TrainingRound(terms, parameters_to(state.joint.parameters), approvals)
            try:
                summed = await _round(asked, owners, pace, watch)
                state, failures = training.finish_round(state, plan, summed.survivors, summed.words), 0
                report(state.history[-1])
            except (Unavailable, ProtocolAbort) as problem:
                failures += 1
                # Every round that owners entered counts, or a lying aggregator could ask for any number of answers.
                state = replace(state, round=state.round + 1)
                few = len(owners.present) < plan.threshold
                if few or failures == MOST_FAILURES or state.round >= plan.rounds:
                    left = f"{len(owners.present)} of {len(roster.owners)} owners are left"
                    reason = f"the training ended in round {number} ({left}): {problem}"
                    await _give_up(owners, reason, pace)
                    raise Unavailable(reason) from None
            if ended is not None:
                await ended(number, bool(state.finished))
        owners.tell_all(TrainingOver(state.finished, parameters_to(training.result(state, plan))))
        await owners.flush(pace.stage)
    return state


async def _give_up(owners: "_Owners", reason: str, pace: Pace) -> None:
    owners.tell_all(TrainingOver(reason[:500], b""))
    await owners.flush(pace.stage)


async def _round(asked: TrainingRound, owners: "_Owners", pace: Pace, watch: Watch) -> aggregator.Summed:
    """One round. Raises Unavailable where it gives no sum."""
    loop, terms = asyncio.get_running_loop(), asked.terms
    session = session_of(terms)
    state, _ = aggregator.begin(terms)
    stage, deadline = 0, loop.time() + pace.training
    owners.tell_all(asked)
    pending: list[aggregator.AggregatorEvent] = [
        aggregator.Gone(owner) for owner in range(len(terms.owners)) if owner not in owners.present
    ]
    while True:
        if not pending:
            try:
                async with asyncio.timeout_at(deadline):
                    owner, message = await owners.news.get()
            except TimeoutError:
                pending.append(aggregator.StageOver(stage))
            else:
                if message is None:
                    pending.append(aggregator.Gone(owner))
                elif getattr(message, "session", b"") == session:
                    pending.append(aggregator.Received(owner, message))
                # Anything else is late: an answer in a round that went on without this owner.
                continue
        event = pending.pop(0)
        watch(event)
        # In a thread: taking the masks off a long sum may take seconds.
        state, effects = await asyncio.to_thread(aggregator.step, state, event)
        for effect in effects:
            match effect:
                case aggregator.Tell():
                    owners.tell(effect.owner, effect.message)
                case aggregator.StageBegan():
                    stage, deadline = effect.stage, loop.time() + pace.stage
                case aggregator.Expel():
                    owners.expel(effect.owner)
                case aggregator.Summed():
                    return effect
                case aggregator.Failed():
                    raise Unavailable(effect.reason)


class _Owners:
    """Messages from and to all owners whose links are open.

    Attributes:
        present: owners that have not left.
        news: messages by owner; None in place of the last one.
    """

    def __init__(self, links: Mapping[int, Link]) -> None:
        self.present = set(links)
        self.news: asyncio.Queue[tuple[int, Message | None]] = asyncio.Queue(_WAITING_MESSAGES)
        self._links = dict(links)
        self._outgoing: dict[int, asyncio.Queue[bytes]] = {owner: asyncio.Queue() for owner in links}
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._writers: dict[int, asyncio.Task[None]] = {}

    async def __aenter__(self) -> "_Owners":
        for owner, link in self._links.items():
            self._readers[owner] = asyncio.create_task(self._read(owner, link), name=f"read from owner {owner}")
            self._writers[owner] = asyncio.create_task(self._write(owner, link), name=f"write to owner {owner}")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = (*self._readers.values(), *self._writers.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tell(self, owner: int, message: Message) -> None:
        """Queue a message; an owner that has not taken the last few is hung up on."""
        if owner not in self.present:
            return
        if self._outgoing[owner].qsize() >= _UNREAD_MESSAGES:
            self.expel(owner)
            return
        self._outgoing[owner].put_nowait(to_frame(message))

    def tell_all(self, message: Message) -> None:
        """Queue a message for everybody who is present."""
        for owner in sorted(self.present):
            self.tell(owner, message)

    def expel(self, owner: int) -> None:
        """Hear this owner no more; what was queued for it is still sent."""
        self.present.discard(owner)
        self._readers[owner].cancel()

    async def flush(self, seconds: Seconds) -> None:
        """Wait until everything was handed over, or its owner is gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for owner in sorted(self.present):
                    await self._outgoing[owner].join()

    async def _read(self, owner: int, link: Link) -> None:
        with suppress(Unavailable, MalformedMessage):  # both end what this owner has to say
            while True:
                await self.news.put((owner, from_frame(await link.receive())))
        self.present.discard(owner)
        await self.news.put((owner, None))

    async def _write(self, owner: int, link: Link) -> None:
        queue = self._outgoing[owner]
        gone = False
        while True:
            frame = await queue.get()
            if not gone:
                try:
                    await link.send(frame)
                except KoinonError:
                    gone = True  # the reader sees the end of the link and says so
            queue.task_done()
