"""Who takes part in a case: accuses with evidence, pleads with its view, and sees the case to its end.

The evidence is public and goes to whoever names its hash. A view goes to the judges that the chain drew for the accused
member that pleaded, and to nobody else. What is due in a case follows from the chain alone (``jobs.cases.next_step``),
so after a restart this goes on where it was.
"""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

from koinon.contracts import judgements
from koinon.contracts.judgements import HearingStage
from koinon.contracts.refusals import Reverted
from koinon.contracts.tokens import format_amount
from koinon.jobs.cases import CaseStep, next_step
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, InvalidInput, Refused, Unavailable
from koinon.kernel.ids import NodeId, to_hex
from koinon.kernel.quantities import TokenAmount
from koinon.node import disputes, orders
from koinon.node.context import Context
from koinon.node.roles import accusing, evidence, hearings
from koinon.node.tasks import Narrator
from koinon.wire.catalogue import Message
from koinon.wire.committee import OpenedView, SealedDispute
from koinon.wire.studies import FetchEvidence, FetchTestimony, FetchView, ViewReply

journal = logging.getLogger("koinon.cases")

POLL_SECONDS: Final = 1.0
LONGEST_POLL_SECONDS: Final = 10.0
"""How often a case is looked at while nothing is heard of it: less and less often, for cases may last for days."""
LARGEST_CASE: Final = 2**63 - 1
EXPECTED: Final = ("TooEarly", "TooLate", "AlreadyDone", "WrongPhase", "HeightNotReached")
"""What the chain says when somebody else was faster, or its clock is behind."""
_PREFIX: Final = b"case/"


class Kept(Record, frozen=True):
    """A case on disk. ``side`` is this node's where it is accused and pleaded, else −1."""

    number: int
    study: int
    attempt: int
    side: int = -1
    ended: bool = False


class CasesRole:
    """This node's cases: those it brought, and those about attempts in whose committee it sat."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._news: dict[int, asyncio.Event] = {}

    def attach(self) -> None:
        """Follow the judgements contract, answer for evidence and views, take orders, go on with what is open."""
        context, contract = self._context, self._context.suite.judgements
        context.feed.on(contract, judgements.Accused, self._accused)
        for kind in (judgements.Pleaded, judgements.Convened, judgements.Voted, judgements.Decided, judgements.Closed):
            context.feed.on(contract, kind, self._heard)
        context.transport.handle(FetchEvidence, self._evidence)
        context.transport.handle(FetchTestimony, self._testimony)
        context.transport.handle(FetchView, self._view)
        context.board.offer("case.accuse", self._accuse)
        context.board.offer("case.plead", self._plead)
        for case in self._all():
            if not case.ended:
                self._begin(case)

    def report(self) -> list[str]:
        """This node's cases, for its status."""
        return [
            f"case {one.number} about study {one.study}: "
            + ("over" if one.ended else "pleaded" if one.side >= 0 else "open")
            for one in self._all()
        ]

    # ------------------------------------------------------------------------------------------ events of the chain

    async def _accused(self, event: judgements.Accused, _: object) -> None:
        if self._load(event.case_id) is not None:
            return
        committee = await self._context.suite.studies.committee_of(event.study_id, event.attempt)
        if self._context.account in committee:
            self._take_up(Kept(event.case_id, event.study_id, event.attempt))
            if self._context.account in (event.sender, event.backup):
                journal.warning(
                    "study %d: this node is accused in case %d; see: koinon study case %d, koinon study plead %d",
                    event.study_id,
                    *(event.case_id,) * 3,
                )

    async def _heard(self, event: judgements.Pleaded | judgements.Closed, _: object) -> None:
        if event.case_id in self._news:
            self._news[event.case_id].set()

    # ------------------------------------------------------------------------------------------ the life of a case

    def _take_up(self, case: Kept) -> None:
        self._keep(case)
        self._begin(case)

    def _begin(self, case: Kept) -> None:
        if case.number not in self._news:
            self._news[case.number] = asyncio.Event()
            self._context.spawn(self._see_through(case.number), f"case {case.number}")

    async def _see_through(self, number: int) -> None:
        pause = POLL_SECONDS
        try:
            while not await self._advance(number):
                pause = min(2 * pause, LONGEST_POLL_SECONDS)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news[number].wait(), pause)
                    pause = POLL_SECONDS
                self._news[number].clear()
        finally:
            del self._news[number]

    async def _advance(self, number: int) -> bool:
        """Take the step that is due; answers whether the case is over."""
        context, contract = self._context, self._context.suite.judgements
        try:
            case = await contract.case_of(number)
            heard = [await contract.hearing_of(number, side) for side in (0, 1)]
            now = max((await context.client.block()).timestamp, context.clock.unix())
            due = next_step(case, heard, now)
            match due.step:
                case CaseStep.CONVENE:
                    # Whoever paid for the draw waits for it; where it does not, its fees go back in time.
                    if context.account == (case.accuser if case.is_about_one else case.accused[due.side]):
                        await context.client.advance_past(heard[due.side].draw_height)
                        await contract.convene(number, due.side)
                case CaseStep.ADJOURN:
                    await contract.adjourn(number, due.side)
                case CaseStep.CLOSE:
                    await contract.close(number)
                case CaseStep.LEAVE:
                    self._end(number)
                    return True
                case CaseStep.WAIT:
                    pass
        except Reverted as refusal:
            if refusal.error not in EXPECTED:
                journal.warning("case %d: %s", number, refusal)
        except Unavailable as problem:
            journal.warning("case %d: %s; trying again", number, problem)
        return False

    def _end(self, number: int) -> None:
        """A view that no judge may ask for any more is not kept any longer."""
        case = self._known(number)
        self._kept_path(case.study, case.attempt, "view").unlink(missing_ok=True)
        self._keep(Kept(number, case.study, case.attempt, case.side, ended=True))
        journal.info("case %d is over", number)

    # ------------------------------------------------------------------------------------- questions of other nodes

    async def _evidence(self, _: NodeId, request: FetchEvidence) -> Message:
        return await evidence.give_evidence(self._context, request)

    async def _testimony(self, _: NodeId, request: FetchTestimony) -> Message:
        return await evidence.give_testimony(self._context, request)

    async def _view(self, sender: NodeId, request: FetchView) -> Message:
        """For the judges of this node's own side, while they sit."""
        case = self._load(request.case) if 0 < request.case <= LARGEST_CASE else None
        if case is None or case.side != request.side or case.side not in (0, 1):
            raise Refused("this node opens no view in that case")
        suite = self._context.suite
        hearing = await suite.judgements.hearing_of(case.number, case.side)
        if hearing.stage is not HearingStage.SITTING:
            raise Refused("no judges sit in that hearing now")
        judges = [(await suite.providers.provider_of(judge)).node_id for judge in hearing.judges]
        if sender not in judges:
            raise Refused("only a judge that the chain drew for this hearing is shown the view")
        path = self._kept_path(case.study, case.attempt, "view")
        journal.info("case %d: the view goes to judge %s", case.number, to_hex(sender)[:18])
        return ViewReply(await asyncio.to_thread(disputes.read, path, OpenedView))

    # ----------------------------------------------------------------------------------------------- orders

    async def _accuse(self, argument: bytes, narrator: Narrator) -> orders.CaseOpened:
        opened = await accusing.accuse(self._context, decode(orders.Accuse, argument), narrator)
        if opened.case:
            self._take_up(Kept(opened.case, opened.study, opened.attempt))
            narrator.say(f"case {opened.case} is open", 1.0)
        return opened

    async def _plead(self, argument: bytes, narrator: Narrator) -> orders.PleaEntered:
        order, context = decode(orders.Plead, argument), self._context
        contract = context.suite.judgements
        case = await contract.case_of(order.case)
        if context.account not in case.accused:
            raise Refused(f"this node is not accused in case {order.case}")
        side = case.accused.index(context.account)
        hearing = await contract.hearing_of(order.case, side)
        now = max((await context.client.block()).timestamp, context.clock.unix())
        known = self._load(order.case)
        if (known is not None and known.side >= 0) or (
            hearing.stage is not HearingStage.NONE and not case.is_about_one
        ):
            raise Refused(f"this node pleaded in case {order.case} already")
        over = hearing.stage is HearingStage.OVER or now > max(case.deadline, hearing.deadline)
        if case.closed or over:
            raise Refused(f"the time to plead in case {order.case} is over")
        sealed = await evidence.fetch_evidence(context, case)
        proof = await evidence.prove_case(context, case, sealed)
        if not proof.dispute.is_heard:
            raise Refused("this node's own signatures contradict each other; no view of its part changes that")
        narrator.say("the evidence is in order; repeating this node's own part", 0.2)
        path = Path(order.path) if order.path else self._kept_file(case.study_id, "view", case.attempt)
        view = await asyncio.to_thread(disputes.read, path, OpenedView)
        if view.position != proof.dispute.accused[side]:
            raise InvalidInput(f"{path.name} is the view of another position than this node's")
        finding = await self._repeat(sealed, view, case.study_id)
        narrator.say(f"repeating its part shows: {finding.lower()}", 0.6)
        if finding != "KEPT" and not order.anyway:
            raise Refused(
                f"its own judges would find this node {finding.lower()}, which clears nobody; to plead all the same, "
                "say so with --anyway"
            )
        own = self._kept_path(case.study_id, case.attempt, "view")
        if path.resolve() != own.resolve():  # judges are given it from where this node keeps its own
            await asyncio.to_thread(disputes.keep, own, view)
        cost = TokenAmount(0) if case.is_about_one else await accusing.allow_fees(self._context)
        # Kept before it is sent: the judges of a plea must be answered whatever happens to this process.
        self._take_up(Kept(order.case, case.study_id, case.attempt, side))
        if case.is_about_one:  # who accused it has paid for its judges, and they ask this node from now on
            narrator.say("the view is open to the judges of this case", 1.0)
            return orders.PleaEntered(order.case, side, finding, cost, int(hearing.draw_height))
        await contract.plead(order.case, side)
        hearing = await contract.hearing_of(order.case, side)
        narrator.say(f"paid {format_amount(cost)} tokens; judges are drawn after block {hearing.draw_height}", 1.0)
        return orders.PleaEntered(order.case, side, finding, cost, int(hearing.draw_height))

    async def _repeat(self, sealed: SealedDispute, view: OpenedView, study: int) -> str:
        terms = await self._context.suite.studies.terms_of(study)
        try:
            return await hearings.repeat(sealed, view, float(terms.run_seconds))
        except Forged as problem:
            raise Forged(f"judges would take this view for none: {problem}") from None

    def _kept_file(self, study: int, kind: str, attempt: int | None = None) -> Path:
        """What this node kept of a disputed run. Raises InvalidInput where it kept nothing."""
        found = accusing.find_kept(self._context, study, kind, attempt)
        if found is None:
            raise InvalidInput(f"this node kept no {kind} of study {study}; give the file")
        return found

    def _kept_path(self, study: int, attempt: int, kind: str) -> Path:
        return accusing.kept_path(self._context, study, attempt, kind)

    # --------------------------------------------------------------------------------------------------- the disk

    def _all(self) -> list[Kept]:
        return [decode(Kept, stored) for _, stored in list(self._context.memory.scan(_PREFIX))]

    def _keep(self, case: Kept) -> None:
        self._context.memory.write({_entry(case.number): encode(case)})

    def _load(self, number: int) -> Kept | None:
        stored = self._context.memory.get(_entry(number))
        return decode(Kept, stored) if stored else None

    def _known(self, number: int) -> Kept:
        case = self._load(number)
        assert case is not None  # kept before anything was done about it
        return case


def _entry(number: int) -> bytes:
    return _PREFIX + number.to_bytes(8, "big")
