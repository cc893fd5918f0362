"""A judge: when the chain draws it for an accused member, it repeats that member's part and votes on what it found.

It fetches the evidence and the member's view over the transport, keeps the view in memory only, and repeats the part in
a disposable child. The view of the other accused of a case is never asked for: two views together show every row.
Where a member is accused alone because its own signatures contradict each other, it votes on the evidence alone. What
it found is on disk before it votes, so that a restart votes the same.
"""

import asyncio
import logging
from typing import Final

from msgspec.structs import replace

from koinon.contracts.judgements import Case, Convened, Hearing, HearingStage, JudgedOutcome
from koinon.contracts.refusals import Reverted
from koinon.jobs.cases import SIDES, last_call
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage, Unavailable
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.node.roles import evidence, hearings
from koinon.wire.committee import OpenedView
from koinon.wire.studies import FetchView, ViewReply

journal = logging.getLogger("koinon.judge")

RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 30.0
VIEW_SECONDS: Final = Seconds(120.0)
REPEATS: Final = 2
"""How often a child may die over one view before the view is taken for none."""
_PREFIX: Final = b"judge/"
_VOTES: Final = {
    "KEPT": JudgedOutcome.KEPT,
    "DEVIATED": JudgedOutcome.DEVIATED,
    "UNATTRIBUTED": JudgedOutcome.UNPROVEN,
}


class Seat(Record, frozen=True):
    """A hearing on disk. ``outcome`` is 0 until this judge has found one; ``stage`` is a word for the operator."""

    case: int
    side: int
    outcome: int = 0
    stage: str = "drawn"
    ended: bool = False


class JudgeRole:
    """The hearings that this node was drawn for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._busy: set[tuple[int, int]] = set()
        self._bench = asyncio.Lock()

    def attach(self) -> None:
        """Follow the judgements contract, and go on where a restart left off."""
        self._context.feed.on(self._context.suite.judgements, Convened, self._convened)
        for seat in self._all():
            if not seat.ended:
                self._begin(seat)

    def report(self) -> list[str]:
        """This node's hearings, for its status."""
        return [f"case {one.case}, {SIDES[one.side]}: {one.stage}" for one in self._all()]

    # ------------------------------------------------------------------------------------------ the life of one

    async def _convened(self, event: Convened, _: object) -> None:
        if self._context.account not in event.judges:
            return
        if self._load(event.case_id, event.side) is not None:
            return
        if self._load(event.case_id, 1 - event.side) is not None:
            # The contract never draws one account for both; a judge that heard both would know every row.
            journal.error("case %d: drawn for both sides; this node judges the first only", event.case_id)
            return
        seat = Seat(event.case_id, event.side)
        self._keep(seat)  # before the feed moves on: it tells this once
        self._begin(seat)

    def _begin(self, seat: Seat) -> None:
        key = (seat.case, seat.side)
        if key not in self._busy:
            self._busy.add(key)
            self._context.spawn(self._judge(*key), f"case {seat.case}, {SIDES[seat.side]}")

    async def _judge(self, number: int, side: int) -> None:
        pause = RETRY_SECONDS
        try:
            while True:
                try:
                    if await self._advance(number, side):
                        return
                except Unavailable as problem:
                    journal.info("case %d: %s; trying again", number, problem)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY_SECONDS)
        except KoinonError as problem:
            self._change(number, side, stage=f"given up: {problem}"[:400], ended=True)
            raise
        finally:
            self._busy.discard((number, side))

    async def _advance(self, number: int, side: int) -> bool:
        """Take the next step; answers whether it was the last."""
        context, contract = self._context, self._context.suite.judgements
        hearing = await contract.hearing_of(number, side)
        now = max((await context.client.block()).timestamp, context.clock.unix())
        if hearing.stage is not HearingStage.SITTING or now > hearing.deadline or self._has_voted(hearing):
            voted = context.account in hearing.judges and self._has_voted(hearing)
            self._change(number, side, stage="voted" if voted else "over without this node's vote", ended=True)
            return True
        seat = self._known(number, side)
        if not seat.outcome:
            async with self._bench:  # one view in memory at a time
                late = now > last_call(int(hearing.deadline), await contract.judge_seconds())
                found = await self._find(await contract.case_of(number), number, side, late=late)
            self._change(number, side, outcome=int(found), stage=f"found: {found.name.lower()}")
            return False
        try:
            await contract.vote(number, side, JudgedOutcome(seat.outcome))
        except Reverted as refusal:
            if refusal.error not in ("TooLate", "AlreadyDone", "WrongPhase"):
                raise
            journal.info("case %d: %s", number, refusal)
        return False

    def _has_voted(self, hearing: Hearing) -> bool:
        own = zip(hearing.judges, hearing.votes, strict=True)
        return any(judge == self._context.account and vote is not JudgedOutcome.NONE for judge, vote in own)

    async def _find(self, case: Case, number: int, side: int, *, late: bool) -> JudgedOutcome:
        """What this judge votes for.

        Args:
            late: that what could not be had so far will not come any more.

        Raises:
            Unavailable: evidence or view cannot be had yet.
            InvalidInput: this node cannot judge, because it has another version of the program.
        """
        try:
            sealed = await evidence.fetch_evidence(self._context, case)
            proof = await evidence.prove_case(self._context, case, sealed)
        except Unavailable:
            if not late:
                raise
            journal.warning("case %d: the evidence could not be had in time", number)
            return JudgedOutcome.UNPROVEN
        except (Forged, InvalidInput) as problem:
            journal.warning("case %d: %s", number, problem)
            return JudgedOutcome.UNPROVEN
        if not proof.dispute.is_heard:
            return JudgedOutcome.DEVIATED  # its own signatures say so, and nothing that it opens changes them
        try:
            view = await self._fetch_view(case, number, side)
        except KoinonError as problem:
            if not late:
                raise Unavailable(f"the accused member has not given its view yet: {problem}") from None
            journal.warning("case %d: the view could not be had in time", number)
            return JudgedOutcome.UNOPENED
        if view.position != proof.dispute.accused[side]:
            journal.warning("case %d: the accused member gave the view of another position", number)
            return JudgedOutcome.UNOPENED
        terms = await self._context.suite.studies.terms_of(case.study_id)
        return await self._repeat(number, proof, view, float(terms.run_seconds))

    async def _fetch_view(self, case: Case, number: int, side: int) -> OpenedView:
        record = await self._context.record_of(case.accused[side])
        reply = await self._context.transport.call(record.endpoint, FetchView(number, side), VIEW_SECONDS)
        assert isinstance(reply, ViewReply)  # the transport lets no other answer through
        return reply.view

    async def _repeat(self, number: int, proof: evidence.Proof, view: OpenedView, run_seconds: float) -> JudgedOutcome:
        """A view over which a child dies again and again is none: an honest one needs no more than a member has."""
        for _ in range(REPEATS):
            try:
                return _VOTES[await hearings.repeat(proof.sealed, view, run_seconds)]
            except (Forged, MalformedMessage) as problem:
                journal.warning("case %d: %s", number, problem)
                return JudgedOutcome.UNOPENED
            except Unavailable as problem:
                journal.warning("case %d: repeating the view failed: %s", number, problem)
        return JudgedOutcome.UNOPENED

    # --------------------------------------------------------------------------------------------------- the disk

    def _all(self) -> list[Seat]:
        return [decode(Seat, stored) for _, stored in list(self._context.memory.scan(_PREFIX))]

    def _keep(self, seat: Seat) -> None:
        self._context.memory.write({_entry(seat.case, seat.side): encode(seat)})

    def _load(self, case: int, side: int) -> Seat | None:
        stored = self._context.memory.get(_entry(case, side))
        return decode(Seat, stored) if stored else None

    def _known(self, case: int, side: int) -> Seat:
        seat = self._load(case, side)
        assert seat is not None  # kept when the draw was heard of
        return seat

    def _change(self, case: int, side: int, **changes: object) -> None:
        self._keep(replace(self._known(case, side), **changes))


def _entry(case: int, side: int) -> bytes:
    return _PREFIX + case.to_bytes(8, "big") + bytes([side])
