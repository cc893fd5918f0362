"""Plans, scores and steps of an evaluation, without any network."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.contracts.evaluations import EvaluationPhase, EvaluationRequest, EvaluationTerms, Report, nonce_commitment
from koinon.journey.evaluation import (
    CRITERIA,
    EvaluationPlan,
    NextStep,
    is_closable,
    next_step,
    nonce_of,
    open_plan,
    scores_for,
    seed_of,
    settings_for,
    tolerance_of,
    unknown_score,
)
from koinon.journey.results import Score
from koinon.journey.validate import grade_of
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage
from koinon.kernel.ids import ZERO_HASH, Address, Hash32
from koinon.kernel.quantities import Height, TokenAmount, UnixSeconds
from koinon.trust.vector import KINDS, UNGRADED, Criterion, TrustVector

REQUESTER = Address(b"r" * 20)
MODEL = 7
DEADLINE = UnixSeconds(1000)
TERMS = EvaluationTerms(MODEL, CRITERIA, tuple(map(tolerance_of, CRITERIA)), TokenAmount(5), 3, 60, 30)
COMMITTED = Report(Hash32(b"c" * 32), ZERO_HASH, False, ())
NOTHING = Report(ZERO_HASH, ZERO_HASH, False, ())


def request(
    phase: EvaluationPhase, commits: int = 0, reveals: int = 0, commitment: bytes = b"n" * 32
) -> EvaluationRequest:
    return EvaluationRequest(
        REQUESTER,
        phase,
        0,
        commits,
        reveals,
        Height(1),
        DEADLINE,
        DEADLINE,
        TokenAmount(15),
        Hash32(commitment),
        ZERO_HASH,
        ZERO_HASH,
        (),
    )


def plan(effort: float = 0.5) -> EvaluationPlan:
    return EvaluationPlan(settings_for("age", effort, 60), b"s" * 32)


def committed_to(chosen: EvaluationPlan) -> EvaluationRequest:
    return request(EvaluationPhase.COMMITTING, commitment=nonce_commitment(REQUESTER, MODEL, nonce_of(chosen)))


def test_the_plan_that_was_committed_to_opens() -> None:
    assert open_plan(encode(plan()), MODEL, committed_to(plan())) == plan().settings


def test_other_settings_than_those_on_the_chain_are_forged() -> None:
    softer = EvaluationPlan(msgspec.structs.replace(plan().settings, epsilon_ppm=1), plan().salt)
    with pytest.raises(Forged, match="committed to on the chain"):
        open_plan(encode(softer), MODEL, committed_to(plan()))


def test_a_plan_of_another_model_is_forged() -> None:
    with pytest.raises(Forged):
        open_plan(encode(plan()), MODEL + 1, committed_to(plan()))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_plan_are_refused(data: bytes) -> None:
    with pytest.raises((MalformedMessage, Forged)):
        open_plan(data, MODEL, committed_to(plan()))


@pytest.mark.parametrize("effort", [0.0, -1.0, 1.5, float("nan")])
def test_an_effort_outside_its_range_is_refused(effort: float) -> None:
    with pytest.raises(InvalidInput, match="effort"):
        settings_for("age", effort, 60)


@given(st.floats(0.01, 1.0), st.integers(1, 86_400))
def test_less_effort_never_asks_for_more_and_leaves_time_for_the_chain(effort: float, seconds: int) -> None:
    full, scaled = settings_for("age", 1.0, seconds), settings_for("age", effort, seconds)
    for budget in ("resamples", "attack_rows", "square_queries", "hop_skip_jump_queries", "extraction_queries"):
        assert getattr(scaled, budget) <= getattr(full, budget)
    assert scaled.deadline_milliseconds < seconds * 1000


def test_every_evaluation_and_every_draw_has_its_own_seed() -> None:
    assert len({seed_of(number, Hash32(draw * 32)) for number in (1, 2) for draw in (b"a", b"b")}) == 4


def test_a_criterion_that_could_not_be_measured_is_unknown_and_never_improves_the_grade() -> None:
    vector = TrustVector(b"w" * 32, b"e" * 32, (Criterion("auc", 990_000, 980_000, 995_000, bytes(32)),))
    scores = scores_for(vector, CRITERIA)
    assert len(scores) == len(CRITERIA)
    assert (scores[0].value, scores[0].low, scores[0].high) == (990_000, 980_000, 995_000)
    for name, score in zip(CRITERIA[1:], scores[1:], strict=True):
        assert score == unknown_score(name)
        assert score.low <= score.value <= score.high
    named = tuple(Score(name, s.value, s.low, s.high) for name, s in zip(CRITERIA, scores, strict=True))
    assert grade_of(Hash32(b"w" * 32), named) == "D"


def test_without_fairness_there_is_no_grade() -> None:
    named = tuple(Score(name, *(3 * [unknown_score(name).value])) for name in CRITERIA if "fairness" not in name)
    assert grade_of(Hash32(b"w" * 32), named) == UNGRADED


def test_a_criterion_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidInput, match="does not measure"):
        scores_for(TrustVector(b"w" * 32, b"e" * 32, ()), ("beauty",))


def test_criteria_fit_the_contract() -> None:
    assert set(CRITERIA) < set(KINDS)
    assert len(CRITERIA) <= 32
    assert all(len(name.encode("ascii")) <= 32 for name in CRITERIA)
    assert all(0 < tolerance_of(name) < 1 << 63 for name in CRITERIA)


@pytest.mark.parametrize(
    ("phase", "own", "measured", "now", "expected"),
    [
        (EvaluationPhase.COMMITTING, NOTHING, False, 999, NextStep.MEASURE),
        (EvaluationPhase.COMMITTING, NOTHING, True, 999, NextStep.COMMIT),
        (EvaluationPhase.COMMITTING, NOTHING, True, 1001, NextStep.LEAVE),
        (EvaluationPhase.COMMITTING, COMMITTED, True, 999, NextStep.WAIT),
        (EvaluationPhase.COMMITTING, COMMITTED, True, 1001, NextStep.REVEAL),
        (EvaluationPhase.REVEALING, COMMITTED, True, 999, NextStep.REVEAL),
        (EvaluationPhase.REVEALING, COMMITTED, True, 1001, NextStep.LEAVE),
        (EvaluationPhase.REVEALING, NOTHING, True, 999, NextStep.LEAVE),
        (EvaluationPhase.REVEALING, Report(b"c" * 32, b"e" * 32, True, ()), True, 999, NextStep.LEAVE),
        (EvaluationPhase.FINALISED, COMMITTED, True, 999, NextStep.LEAVE),
        (EvaluationPhase.ENDED, COMMITTED, True, 999, NextStep.LEAVE),
    ],
)
def test_what_an_evaluator_does_next(
    phase: EvaluationPhase, own: Report, measured: bool, now: int, expected: NextStep
) -> None:
    assert next_step(request(phase), own, measured=measured, now=UnixSeconds(now)) is expected


@pytest.mark.parametrize(
    ("phase", "commits", "reveals", "now", "closable"),
    [
        (EvaluationPhase.COMMITTING, 2, 0, 1000, False),
        (EvaluationPhase.COMMITTING, 0, 0, 1001, True),
        (EvaluationPhase.COMMITTING, 2, 0, 1001, False),
        (EvaluationPhase.COMMITTING, 2, 0, 1031, True),
        (EvaluationPhase.REVEALING, 3, 2, 1000, False),
        (EvaluationPhase.REVEALING, 3, 3, 1000, True),
        (EvaluationPhase.REVEALING, 3, 2, 1001, True),
        (EvaluationPhase.FINALISED, 3, 3, 1001, False),
    ],
)
def test_when_an_evaluation_can_be_closed(
    phase: EvaluationPhase, commits: int, reveals: int, now: int, closable: bool
) -> None:
    assert is_closable(request(phase, commits, reveals), TERMS, UnixSeconds(now)) is closable
