"""What an evaluation measures, with which settings and seeds, and what an evaluator does next. Pure functions.

Requester and evaluators must mean the same settings, and a stranger must be able to see that nobody chose them after
the draw. So the nonce that the requester commits to on the chain *is* the hash of the plan: settings and a fresh salt.
The requester's node hands the plan to whoever asks; anyone checks it against the chain.

Criteria are all of the suite's but membership inference, which needs rows that were trained on. A criterion that an
evaluator's rows cannot decide, such as a gap between groups of which one is empty, is reported as *unknown*: the worst
value, with an interval over everything possible. An unknown can never be an outlier and never improves a grade.
"""

from enum import Enum
from typing import Final

import msgspec

from koinon.contracts.evaluations import (
    EvaluationPhase,
    EvaluationRequest,
    EvaluationTerms,
    Report,
    nonce_commitment,
)
from koinon.contracts.evaluations import Score as ChainScore
from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import ZERO_HASH, Hash32
from koinon.kernel.quantities import PartsPerMillion, UnixSeconds
from koinon.trust.evidence import EvaluationSettings, check_settings
from koinon.trust.vector import KINDS, LARGEST_VALUE, SCALE, TrustVector

PLAN_DOMAIN: Final = "koinon/evaluation/plan/1"
SEED_DOMAIN: Final = "koinon/evaluation/seed/1"
MAXIMUM_PLAN_BYTES: Final = 4000
CRITERIA: Final = tuple(name for name in KINDS if name != "membership_advantage")

_UNIT: Final = SCALE
_TOLERANCE_OF_FAMILY: Final = {
    "performance": _UNIT // 10,
    "robustness": _UNIT // 5,
    "fairness": _UNIT * 3 // 10,
    "privacy": _UNIT // 2,
    "data": _UNIT,  # faults of each evaluator's own rows: they differ rightly, and nobody is punished for them
}
_TOLERANCE_OF: Final = {
    "log_loss": _UNIT // 2,  # nats have no upper end
    "load_p99": 60_000 * _UNIT,  # milliseconds on somebody else's machine
    "load_rate": 100_000 * _UNIT,
}
_LOWEST_EFFORT: Final = 0.01
_SHARE_OF_TIME_PERCENT: Final = 70
"""Of the time to commit that the measuring may take; the rest is for fetching and for the chain."""


class EvaluationPlan(Record, frozen=True):
    """The settings of one evaluation and the salt that hides them until the draw."""

    settings: EvaluationSettings
    salt: bytes


# ------------------------------------------------------------------------------------------------ the plan


def settings_for(fairness_column: str, effort: float, commit_seconds: int) -> EvaluationSettings:
    """The suite's settings; ``effort`` from 0.01 to 1 scales the budgets of attacks, resampling, extraction and load.

    Below 0.5 the two highest load rates are left out. A budget never falls below what the suite needs to mean anything.

    Raises:
        InvalidInput: an effort or a time outside its range.
    """
    if not _LOWEST_EFFORT <= effort <= 1:
        raise InvalidInput(f"the effort of an evaluation is {_LOWEST_EFFORT:g} to 1; got {effort:g}")
    full = EvaluationSettings(fairness_column)

    def scaled(budget: int, least: int) -> int:
        return max(least, round(budget * effort))

    settings = msgspec.structs.replace(
        full,
        resamples=scaled(full.resamples, 200),
        attack_rows=scaled(full.attack_rows, 20),
        square_queries=scaled(full.square_queries, 100),
        hop_skip_jump_queries=scaled(full.hop_skip_jump_queries, 200),
        extraction_queries=scaled(full.extraction_queries, 300),
        load_calls=scaled(full.load_calls, 100),
        load_rates=full.load_rates if effort >= 0.5 else full.load_rates[:2],
        deadline_milliseconds=commit_seconds * 10 * _SHARE_OF_TIME_PERCENT,
    )
    check_settings(settings)
    return settings


def tolerance_of(criterion: str) -> PartsPerMillion:
    """How far an interval may end from the median before its evaluator counts as a wilful outlier."""
    return PartsPerMillion(_TOLERANCE_OF.get(criterion) or _TOLERANCE_OF_FAMILY[KINDS[criterion].family])


def nonce_of(plan: EvaluationPlan) -> Hash32:
    """The requester's nonce: it binds the plan."""
    return tagged_hash(PLAN_DOMAIN, encode(plan.settings), plan.salt)


def open_plan(data: bytes, model: int, request: EvaluationRequest) -> EvaluationSettings:
    """The settings of a request from the plan that its requester gave.

    Raises:
        MalformedMessage: no plan.
        InvalidInput: settings that nobody can follow.
        Forged: not the plan that was committed to on the chain.
    """
    plan = decode(EvaluationPlan, data, limit=MAXIMUM_PLAN_BYTES)
    if nonce_commitment(request.requester, model, nonce_of(plan)) != request.nonce_commitment:
        raise Forged("the settings of the evaluation are not those its requester committed to on the chain")
    check_settings(plan.settings)
    return plan.settings


def seed_of(evaluation: int, draw_seed: Hash32) -> Hash32:
    """The seed of every random choice in an evaluation: fixed by the draw, which nobody can steer.

    It is the same for all its evaluators. They differ in their rows and machines; luck in an attack's random start is
    no reason to lose stake.
    """
    return tagged_hash(SEED_DOMAIN, evaluation.to_bytes(8, "big"), draw_seed)


# ------------------------------------------------------------------------------------------------ scores


def scores_for(vector: TrustVector, criteria: tuple[str, ...]) -> tuple[ChainScore, ...]:
    """What an evaluator commits to: a score for each criterion asked for, in that order.

    Raises:
        InvalidInput: a criterion that this version of the suite does not know.
    """
    scores = []
    for name in criteria:
        if name not in KINDS:
            raise InvalidInput(
                f"the evaluation asks for {name[:32]!r}, which this version of the suite does not measure"
            )
        found = vector.find(name)
        if found is None:
            scores.append(unknown_score(name))
        else:
            scores.append(
                ChainScore(PartsPerMillion(found.value), PartsPerMillion(found.low), PartsPerMillion(found.high))
            )
    return tuple(scores)


def unknown_score(criterion: str) -> ChainScore:
    """The worst value, with everything possible as its interval."""
    kind = KINDS[criterion]
    highest = _UNIT if kind.unit in ("share", "ratio", "column ranges") else LARGEST_VALUE
    worst = 0 if kind.higher_is_better else highest
    return ChainScore(PartsPerMillion(worst), PartsPerMillion(0), PartsPerMillion(highest))


# ------------------------------------------------------------------------------------------------ what comes next


class NextStep(Enum):
    """What an evaluator does now."""

    MEASURE = "measure"
    COMMIT = "commit"
    WAIT = "wait"
    REVEAL = "reveal"
    LEAVE = "leave"


def next_step(request: EvaluationRequest, own: Report, *, measured: bool, now: UnixSeconds) -> NextStep:
    """What an evaluator does with a request as the chain shows it.

    Args:
        own: its report on the chain.
        measured: whether scores and salt are on its disk.
    """
    committed = own.commitment != ZERO_HASH
    over = now > request.deadline
    match request.phase:
        case EvaluationPhase.COMMITTING if not committed:
            if over:
                return NextStep.LEAVE
            return NextStep.COMMIT if measured else NextStep.MEASURE
        case EvaluationPhase.COMMITTING:
            return NextStep.REVEAL if over else NextStep.WAIT
        case EvaluationPhase.REVEALING if committed and not own.revealed and not over:
            return NextStep.REVEAL
    return NextStep.LEAVE


def is_closable(request: EvaluationRequest, terms: EvaluationTerms, now: UnixSeconds) -> bool:
    """Whether ``finalise`` is allowed: everybody who committed has revealed, or the time for it is over."""
    over = now > request.deadline
    if request.phase == EvaluationPhase.REVEALING:
        return over or request.reveals == request.commits
    if request.phase == EvaluationPhase.COMMITTING:
        return over and (request.commits == 0 or now > request.deadline + terms.reveal_seconds)
    return False
