"""validate: drawn evaluators test the model on rows its publisher never saw; the chain takes the medians."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from koinon.contracts.client import Receipt
from koinon.contracts.contract import Credited
from koinon.contracts.evaluations import (
    Committed,
    Ended,
    EvaluationPhase,
    EvaluationRequest,
    EvaluationTerms,
    nonce_commitment,
)
from koinon.contracts.refusals import Reverted
from koinon.contracts.tokens import format_amount
from koinon.jobs.inputs import has_binary_target
from koinon.jobs.study import SignedStudy, StudyFile, open_study_named
from koinon.journey.desk import Desk
from koinon.journey.evaluation import (
    CRITERIA,
    EvaluationPlan,
    is_closable,
    nonce_of,
    settings_for,
    tolerance_of,
)
from koinon.journey.results import Hardened, Score, Validated
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Refused
from koinon.kernel.ids import ZERO_HASH, Address, Hash32
from koinon.kernel.quantities import TokenAmount
from koinon.trust.vector import Criterion, TrustVector, grade

POLL_SECONDS: Final = 0.3
MOST_DRAWS: Final = 4
SALT_BYTES: Final = 32


class Validation(Protocol):
    """What is wanted.

    Attributes:
        hardened: the model.
        evaluators: how many are drawn, 3 to 9.
        fee: for each that reveals and is no outlier.
        commit_seconds, reveal_seconds: time-outs of the two phases.
        effort: scales the suite's budgets; 1 is the full suite (see ``evaluation.settings_for``).
    """

    @property
    def hardened(self) -> Hardened: ...

    @property
    def evaluators(self) -> int: ...

    @property
    def fee(self) -> TokenAmount: ...

    @property
    def commit_seconds(self) -> int: ...

    @property
    def reveal_seconds(self) -> int: ...

    @property
    def effort(self) -> float: ...


async def validate(desk: Desk, wanted: Validation) -> Validated:
    """Have a model evaluated by strangers.

    Raises:
        InvalidInput: effort or times out of range.
        Refused: the model is of a kind that nobody evaluates, and nothing was sent; the chain refuses the request, or
            the evaluation ended without a vector; says where the fees are.
    """
    hardened = wanted.hardened
    study = study_of(hardened)
    check_kind(study)
    settings = settings_for(study.sensitive_column, wanted.effort, wanted.commit_seconds)
    plan = EvaluationPlan(settings, desk.rng.bytes(SALT_BYTES))
    terms = EvaluationTerms(
        model_id=hardened.model,
        criteria=CRITERIA,
        tolerances=tuple(tolerance_of(name) for name in CRITERIA),
        fee=wanted.fee,
        evaluators=wanted.evaluators,
        commit_seconds=wanted.commit_seconds,
        reveal_seconds=wanted.reveal_seconds,
    )
    number = await _request(desk, terms, plan)
    drawn = await _draw(desk, number, terms, plan)
    desk.say(f"evaluation {number}: the chain drew {', '.join(map(_short, drawn))}", 0.2)
    await _watch(desk, number, terms, len(drawn))
    request = await _close(desk, number, terms)
    if request.phase != EvaluationPhase.FINALISED:
        raise await _ended(desk, number)
    return await _read(desk, hardened, number, terms, drawn)


def check_kind(study: StudyFile) -> None:
    """Refuse a model that evaluators have no measures for. Raises Refused."""
    if not has_binary_target(study):
        raise Refused(
            f"evaluators measure models of a 0/1 target; {study.algorithm} answers a number or several classes. Nothing"
            " was sent; to use the model yourself: koinon study result NUMBER --onnx FILE"
        )


def study_of(hardened: Hardened) -> StudyFile:
    """The study file behind a model, checked against its hash again."""
    study = hardened.published.trained.study
    return open_study_named(decode(SignedStudy, study.signed), study.specification_hash)


def plan_entry(commitment: Hash32) -> bytes:
    """Where the requester's node keeps a plan: ``evaluation-plan/`` and the nonce commitment on the chain."""
    return b"evaluation-plan/" + commitment


async def _request(desk: Desk, terms: EvaluationTerms, plan: EvaluationPlan) -> int:
    commitment = nonce_commitment(desk.account, terms.model_id, nonce_of(plan))
    # Before the chain hears of it: an evaluator must never be drawn for a plan that was lost.
    desk.memory.write({plan_entry(commitment): encode(plan)})
    if terms.escrow:
        await desk.suite.token.approve(desk.suite.evaluations.address, terms.escrow)
    number = await desk.suite.evaluations.request(terms, commitment)
    desk.say(f"evaluation {number}: asked for {terms.evaluators} evaluators; {_tokens(terms.escrow)} in escrow", 0.05)
    return number


async def _draw(desk: Desk, number: int, terms: EvaluationTerms, plan: EvaluationPlan) -> tuple[Address, ...]:
    """Open the nonce after the draw's block; where its hash went out of reach, the draw is scheduled anew."""
    contract = desk.suite.evaluations
    for _ in range(MOST_DRAWS):
        request = await contract.request_of(number)
        if request.phase != EvaluationPhase.REQUESTED:
            break
        await desk.client.advance_past(request.draw_height)
        try:
            return tuple(await contract.draw(number, nonce_of(plan)))
        except Reverted as refusal:
            if refusal.error != "EntropyOutOfReach":
                await _give_back(desk, number)
                raise Refused(
                    f"nobody could be drawn for evaluation {number}, and the fees of {_tokens(terms.escrow)} are this "
                    f"account's credit at the evaluations contract: {refusal}"
                ) from None
            await contract.capture(number)
    request = await contract.request_of(number)
    if request.phase == EvaluationPhase.COMMITTING:
        return tuple(request.evaluators)
    raise await _ended(desk, number)


async def _give_back(desk: Desk, number: int) -> None:
    """Have the fees credited again once the request's time is over; the contract allows it no sooner."""
    while True:
        request = await desk.suite.evaluations.request_of(number)
        if request.phase != EvaluationPhase.REQUESTED:
            return
        if desk.clock.unix() > request.deadline:
            await _push(desk, lambda: desk.suite.evaluations.expire(number))
        else:
            await asyncio.sleep(POLL_SECONDS)


async def _watch(desk: Desk, number: int, terms: EvaluationTerms, drawn: int) -> None:
    """Say who commits and how many reveal, until the evaluation can be closed."""
    contract = desk.suite.evaluations
    commits = reveals = 0
    while True:
        request = await contract.request_of(number)
        if request.phase not in (EvaluationPhase.COMMITTING, EvaluationPhase.REVEALING):
            return  # somebody else closed it
        if request.commits > commits:
            found = await contract.events(Committed, request_id=number)
            for entry in found[commits:]:
                commits += 1
                desk.say(f"{_short(entry.event.evaluator)} committed to its scores", 0.2 + 0.5 * commits / drawn)
        if request.reveals > reveals:
            reveals = request.reveals
            desk.say(f"{reveals} of {request.commits} revealed", 0.7 + 0.25 * reveals / drawn)
        if is_closable(request, terms, desk.clock.unix()):
            return
        await asyncio.sleep(POLL_SECONDS)


async def _close(desk: Desk, number: int, terms: EvaluationTerms) -> EvaluationRequest:
    contract = desk.suite.evaluations
    while True:
        request = await contract.request_of(number)
        if request.phase not in (EvaluationPhase.COMMITTING, EvaluationPhase.REVEALING):
            return request
        if is_closable(request, terms, desk.clock.unix()):
            await _push(desk, lambda: contract.finalise(number))
        else:
            await asyncio.sleep(POLL_SECONDS)


async def _push(desk: Desk, send: Callable[[], Awaitable[Receipt]]) -> None:
    """Send what may be due by the clock but not yet by the last block's time, or already done by somebody else."""
    try:
        await send()
    except Reverted as refusal:
        if refusal.error == "TooEarly":
            await desk.client.advance_past(await desk.client.block_number())
        elif refusal.error != "WrongPhase":
            raise


async def _ended(desk: Desk, number: int) -> Refused:
    """The error that says why there is no vector, and where the money is."""
    contract = desk.suite.evaluations
    ended = await contract.events(Ended, request_id=number)
    reason = str(ended[0].event.reason).strip("\0") if ended else "unknown"
    returned = sum(
        found.event.amount
        for found in await contract.events(Credited)
        if (found.event.account, found.event.subject) == (desk.account, number)
    )
    return Refused(
        f"evaluation {number} ended without a vector ({reason}); {_tokens(TokenAmount(returned))} of the fees are this "
        "account's credit at the evaluations contract again; ask for another evaluation"
    )


async def _read(
    desk: Desk, hardened: Hardened, number: int, terms: EvaluationTerms, drawn: tuple[Address, ...]
) -> Validated:
    contract = desk.suite.evaluations
    _, vector = await contract.vector_of(number)
    revealed: list[Address] = []
    evidence: list[Hash32] = []
    for account in drawn:
        report = await contract.report_of(number, account)
        if report.revealed:
            revealed.append(account)
            evidence.append(report.evidence_hash)
        else:
            desk.say(f"{_short(account)} stayed away and lost a part of its stake", 0.98)
    scores = tuple(Score(name, one.value, one.low, one.high) for name, one in zip(terms.criteria, vector, strict=True))
    letter = grade_of(hardened.weights_hash, scores)
    desk.say(f"the vector is final: grade {letter} from {len(revealed)} evaluators", 1.0)
    return Validated(hardened, number, tuple(revealed), tuple(evidence), scores, letter)


def grade_of(weights_hash: Hash32, scores: tuple[Score, ...]) -> str:
    """The letter that the suite's rule reads from a vector on the chain."""
    criteria = tuple(Criterion(one.criterion, one.value, one.low, one.high, bytes(ZERO_HASH)) for one in scores)
    return grade(TrustVector(weights_hash, bytes(ZERO_HASH), criteria))


def _short(account: Address) -> str:
    return f"0x{account.hex()[:8]}…"


def _tokens(amount: TokenAmount) -> str:
    return f"{format_amount(amount)} tokens"
