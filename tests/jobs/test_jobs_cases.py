"""What is due in a case, from the chain's state and the time alone."""

from dataclasses import replace

import pytest

from koinon.contracts.judgements import Case, Hearing, HearingStage, JudgedOutcome
from koinon.jobs.cases import CaseStep, NextStep, last_call, next_step
from koinon.kernel.ids import ZERO_ADDRESS, Address, Hash32
from koinon.kernel.quantities import Height, UnixSeconds

NONE = Hearing(HearingStage.NONE, 0, Height(0), UnixSeconds(0), (), ())
WAITING = Hearing(HearingStage.WAITING, 0, Height(9), UnixSeconds(150), (), ())
SITTING = replace(WAITING, stage=HearingStage.SITTING, deadline=UnixSeconds(180))
OVER = replace(NONE, stage=HearingStage.OVER)
CASE = Case(
    study_id=1,
    attempt=0,
    closed=False,
    deadline=UnixSeconds(200),
    evidence_hash=Hash32(bytes(32)),
    accuser=Address(bytes([3]) * 20),
    accused=(Address(bytes([1]) * 20), Address(bytes([2]) * 20)),
    outcomes=(JudgedOutcome.NONE, JudgedOutcome.NONE),
)


@pytest.mark.parametrize(
    ("sender", "backup", "now", "due"),
    [
        (NONE, NONE, 200, NextStep(CaseStep.WAIT)),
        (NONE, NONE, 201, NextStep(CaseStep.CLOSE)),
        (NONE, WAITING, 150, NextStep(CaseStep.CONVENE, 1)),
        (NONE, WAITING, 151, NextStep(CaseStep.ADJOURN, 1)),
        (WAITING, SITTING, 150, NextStep(CaseStep.CONVENE, 0)),
        (WAITING, SITTING, 181, NextStep(CaseStep.ADJOURN, 0)),
        (SITTING, NONE, 180, NextStep(CaseStep.WAIT)),
        (SITTING, OVER, 999, NextStep(CaseStep.ADJOURN, 0)),
        (OVER, SITTING, 100, NextStep(CaseStep.WAIT)),
        (OVER, NONE, 200, NextStep(CaseStep.WAIT)),
        (OVER, NONE, 201, NextStep(CaseStep.CLOSE)),
        (OVER, OVER, 0, NextStep(CaseStep.CLOSE)),
    ],
)
def test_what_is_due(sender: Hearing, backup: Hearing, now: int, due: NextStep) -> None:
    assert next_step(CASE, (sender, backup), now) == due
    assert next_step(replace(CASE, closed=True), (sender, backup), now) == NextStep(CaseStep.LEAVE)


@pytest.mark.parametrize(
    ("hearing", "now", "due"),
    [
        (WAITING, 150, NextStep(CaseStep.CONVENE)),
        (WAITING, 151, NextStep(CaseStep.ADJOURN)),
        (SITTING, 180, NextStep(CaseStep.WAIT)),
        (SITTING, 999, NextStep(CaseStep.ADJOURN)),
    ],
)
def test_what_is_due_where_one_is_accused_alone(hearing: Hearing, now: int, due: NextStep) -> None:
    alone = replace(CASE, accused=(CASE.accused[0], ZERO_ADDRESS))
    assert alone.is_about_one
    assert next_step(alone, (hearing, NONE), now) == due


@pytest.mark.parametrize(("seconds", "margin"), [(1, 5), (49, 5), (100, 10), (6_000, 600), (86_400, 600)])
def test_judges_keep_time_to_vote(seconds: int, margin: int) -> None:
    assert last_call(100_000, seconds) == 100_000 - margin
