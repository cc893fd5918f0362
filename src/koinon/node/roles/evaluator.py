"""An evaluator: when the chain draws it, it opens the model, tests it on rows of its own, commits, and reveals.

Scores and salt are on disk before the commitment leaves, so that a restart can still reveal. What the next step is
always follows from the chain and the disk (``journey.evaluation.next_step``), never from what this process remembers.
"""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from koinon.contracts.client import Log
from koinon.contracts.evaluations import Drawn, EvaluationRequest, report_commitment
from koinon.contracts.evaluations import Score as ChainScore
from koinon.contracts.refusals import Reverted
from koinon.data.schema import Schema
from koinon.journey.evaluation import NextStep, next_step, open_plan, scores_for, seed_of
from koinon.journey.package import OpenedModel, fetch_model
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import InvalidInput, KoinonError, Refused, Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import PartsPerMillion, Seconds
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.datasets import Datasets, StoredDataset
from koinon.node.roles.market import EVALUATE
from koinon.node.tasks import Narrator
from koinon.trust.evidence import EvaluationSettings
from koinon.wire.catalogue import Message
from koinon.wire.committee import Column
from koinon.wire.studies import (
    EvaluationEvidenceReply,
    EvaluationPlanReply,
    FetchEvaluationEvidence,
    FetchEvaluationPlan,
)

if TYPE_CHECKING:
    from koinon.trust.evaluation import Evaluation

journal = logging.getLogger("koinon.evaluator")

POLL_SECONDS: Final = 0.3
RETRY_SECONDS: Final = 1.0
PLAN_SECONDS: Final = Seconds(15.0)
SALT_BYTES: Final = 32
_PREFIX: Final = b"evaluation/"


class Prepared(Record, frozen=True):
    """What this evaluator found: all it needs to commit and to reveal."""

    scores: tuple[tuple[int, int, int], ...]
    evidence: bytes
    evidence_hash: Hash32
    salt: bytes

    @property
    def chain_scores(self) -> tuple[ChainScore, ...]:
        """The scores as the contract takes them."""
        return tuple(ChainScore(*(PartsPerMillion(part) for part in score)) for score in self.scores)


class Assignment(Record, frozen=True):
    """One evaluation on disk. ``stage`` is a word for the operator; ``ended`` ones are only kept for their evidence."""

    number: int
    prepared: Prepared | None = None
    stage: str = "drawn"
    revealed: bool = False
    ended: bool = False


class EvaluatorRole:
    """This node's evaluations."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rows = Datasets(context.home.path / "evaluation")
        self._busy: set[int] = set()

    def attach(self) -> None:
        """Follow the evaluations contract, answer for evidence, take orders, and go on where a restart left off."""
        context = self._context
        context.feed.on(context.suite.evaluations, Drawn, self._drawn)
        context.transport.handle(FetchEvaluationEvidence, self._evidence)
        context.board.offer("rows.add", self._add)
        for _, stored in list(context.memory.scan(_PREFIX)):
            assignment = decode(Assignment, stored)
            if not assignment.ended:
                self._begin(assignment.number)

    def report(self) -> list[str]:
        """This node's evaluations, for its status."""
        found = [decode(Assignment, stored) for _, stored in self._context.memory.scan(_PREFIX)]
        return [f"evaluation {one.number}: {one.stage}" for one in found]

    # ------------------------------------------------------------------------------------------ the life of one

    async def _drawn(self, event: Drawn, _: Log) -> None:
        if self._context.account not in event.evaluators or self._load(event.request_id) is not None:
            return
        self._keep(Assignment(event.request_id))  # before the feed moves on: it tells this once
        self._begin(event.request_id)

    def _begin(self, number: int) -> None:
        if number not in self._busy:
            self._busy.add(number)
            self._context.spawn(self._take_part(number), f"evaluation {number}")

    async def _take_part(self, number: int) -> None:
        try:
            while True:
                try:
                    if await self._advance(number):
                        return
                except Unavailable as problem:
                    journal.warning("evaluation %d: %s; trying again", number, problem)
                    await asyncio.sleep(RETRY_SECONDS)
        except KoinonError as problem:
            self._change(number, stage=f"given up: {problem}"[:400], ended=True)
            raise
        finally:
            self._busy.discard(number)

    async def _advance(self, number: int) -> bool:
        """Take the next step; returns whether it was the last."""
        contract, account = self._context.suite.evaluations, self._context.account
        request = await contract.request_of(number)
        report = await contract.report_of(number, account)
        prepared = self._load_known(number).prepared
        match next_step(request, report, measured=prepared is not None, now=self._context.clock.unix()):
            case NextStep.MEASURE:
                await self._measure(number, request)
            case NextStep.COMMIT:
                assert prepared is not None
                await self._commit(number, prepared)
            case NextStep.WAIT:
                await asyncio.sleep(POLL_SECONDS)
            case NextStep.REVEAL if prepared is None:
                raise Refused("the scores behind this account's commitment are not on this disk and cannot be revealed")
            case NextStep.REVEAL:
                assert prepared is not None
                await self._reveal(number, prepared)
            case NextStep.LEAVE:
                stage = "revealed" if report.revealed else "over without this node's scores"
                self._change(number, stage=stage, revealed=report.revealed, ended=True)
                return True
        return False

    async def _measure(self, number: int, request: EvaluationRequest) -> None:
        from koinon.trust.evidence import encode_evidence

        terms = await self._context.suite.evaluations.terms_of(number)
        settings = await self._settings(number, terms.model_id, request)
        opened = await fetch_model(self._context.desk(self._say), terms.model_id, EVALUATE, number)
        stored = self._rows.matching(opened.card.schema)
        if stored is None:
            raise Refused(
                f"this node has no rows with the columns of model {terms.model_id} and stays away from evaluation "
                f"{number}; its operator orders rows.add before the next draw"
            )
        self._change(number, stage="measuring")
        seed = seed_of(number, request.seed)
        evaluation = await run_suite(self._rows, stored, opened, settings, seed)
        scores = scores_for(evaluation.vector, terms.criteria)
        prepared = Prepared(
            tuple((score.value, score.low, score.high) for score in scores),
            encode_evidence(evaluation.evidence),
            Hash32(evaluation.vector.evidence_hash),
            self._context.rng.bytes(SALT_BYTES),
        )
        self._change(number, prepared=prepared, stage="measured")
        journal.info("evaluation %d: measured %d criteria", number, len(scores))

    async def _settings(self, number: int, model: int, request: EvaluationRequest) -> EvaluationSettings:
        requester = await self._context.record_of(Address(request.requester))
        reply = await self._context.transport.call(requester.endpoint, FetchEvaluationPlan(number), PLAN_SECONDS)
        assert isinstance(reply, EvaluationPlanReply)  # the transport lets no other answer through
        return open_plan(reply.plan, model, request)

    async def _commit(self, number: int, prepared: Prepared) -> None:
        commitment = report_commitment(
            number, self._context.account, prepared.chain_scores, prepared.evidence_hash, Hash32(prepared.salt)
        )
        await self._send(self._context.suite.evaluations.commit(number, commitment))
        self._change(number, stage="committed")

    async def _reveal(self, number: int, prepared: Prepared) -> None:
        contract = self._context.suite.evaluations
        await self._send(contract.reveal(number, prepared.chain_scores, prepared.evidence_hash, Hash32(prepared.salt)))
        self._change(number, stage="revealed", revealed=True)

    async def _send(self, sending: Coroutine[Any, Any, object]) -> None:
        """Send what the chain may hold to be too early, done already or too late by now; the next look will tell."""
        try:
            await sending
        except Reverted as refusal:
            if refusal.error not in ("TooEarly", "TooLate", "AlreadyDone", "WrongPhase"):
                raise
            journal.info("evaluation: %s", refusal)
            await asyncio.sleep(POLL_SECONDS)

    # --------------------------------------------------------------------------------------------------- the disk

    def _keep(self, assignment: Assignment) -> None:
        self._context.memory.write({_entry(assignment.number): encode(assignment)})

    def _load(self, number: int) -> Assignment | None:
        stored = self._context.memory.get(_entry(number))
        return decode(Assignment, stored) if stored else None

    def _load_known(self, number: int) -> Assignment:
        assignment = self._load(number)
        assert assignment is not None  # kept when the draw was heard of
        return assignment

    def _change(self, number: int, **changes: object) -> None:
        self._keep(replace(self._load_known(number), **changes))

    def _say(self, sentence: str, _fraction: float) -> None:
        journal.info("%s", sentence)

    # ---------------------------------------------------------------------------------------- questions and orders

    async def _evidence(self, _: NodeId, request: FetchEvaluationEvidence) -> Message:
        assignment = self._load(request.evaluation) if 0 <= request.evaluation < 1 << 64 else None
        if assignment is None or assignment.prepared is None:
            raise Refused(f"this node has no evidence of an evaluation {request.evaluation}")
        if not assignment.revealed:
            raise Refused(f"the scores of evaluation {request.evaluation} are not revealed yet; ask again later")
        return EvaluationEvidenceReply(assignment.prepared.evidence)

    async def _add(self, argument: bytes, narrator: Narrator) -> orders.DataAdded:
        order = decode(orders.AddRows, argument)
        schema = Schema(tuple(Column(*column) for column in order.columns), order.target) if order.columns else None
        stored = await asyncio.to_thread(self._rows.add, Path(order.path), schema, order.target, self._context.rng)
        narrator.say(f"{stored.rows} rows are checked and committed to", 1.0)
        columns = tuple((column.name, column.low, column.high) for column in stored.schema.columns)
        return orders.DataAdded(Hash32(stored.dataset_hash), stored.rows, columns, stored.schema.target, 0)


async def run_suite(
    rows: Datasets, stored: StoredDataset, opened: OpenedModel, settings: EvaluationSettings, seed: Hash32
) -> "Evaluation":
    """Run the whole suite in children of this process.

    Raises:
        InvalidInput: model, rows and settings do not fit one another.
        Unavailable, Expired: a child failed, or the time was over.
    """
    from koinon.models.sandbox import SandboxLimits
    from koinon.trust.evaluation import Task
    from koinon.trust.run import EvaluationLimits, EvaluationRun

    root = Hash32(stored.dataset_hash)
    table = await asyncio.to_thread(rows.open, root)
    if settings.fairness_column not in opened.card.schema.names:
        raise InvalidInput("the evaluation compares groups of a column that the model does not have")
    seconds = settings.deadline_milliseconds // 1000 + 30
    limits = EvaluationLimits(
        cpu_seconds=seconds,
        model=SandboxLimits(lifetime_seconds=2.0 * seconds, cpu_seconds=seconds),
    )
    task = Task(opened.card, opened.weights_hash, table, root, settings, seed)
    async with EvaluationRun.start(opened.onnx, task, limits) as run:
        return await run.result()


def _entry(number: int) -> bytes:
    return _PREFIX + number.to_bytes(8, "big")
