"""A case before the judges: what evidence must say to count in it, and what is to be done next. Pure functions.

Whoever takes part in a case (``node.roles.cases``) or judges in one (``node.roles.judge``) acts on these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from koinon.contracts.judgements import Case, Hearing, HearingStage
from koinon.jobs.sessions import session_of
from koinon.kernel.errors import Forged
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.wire.committee import SealedDispute

SIDES: Final = ("sender", "backup")
"""The two accused of a case, by side."""
_LEAST_MARGIN: Final = 5
_MOST_MARGIN: Final = 600


class CaseStep(Enum):
    """What anybody may do for a case at some moment."""

    CONVENE = "draw the judges of a side that pleaded"
    ADJOURN = "end a hearing whose time is over"
    CLOSE = "end the case"
    WAIT = "nothing now"
    LEAVE = "nothing ever again"


@dataclass(frozen=True, slots=True)
class NextStep:
    """A step, and the side that it is about where there is one."""

    step: CaseStep
    side: int = 0


@dataclass(frozen=True, slots=True)
class Committee:
    """Who was drawn for an attempt, by position.

    Attributes:
        nodes: as registered when they were drawn; a later registration changes nothing about who worked.
    """

    accounts: tuple[Address, ...]
    nodes: tuple[NodeId, ...]


def next_step(case: Case, hearings: Sequence[Hearing], now: int) -> NextStep:
    """What is due in a case. One about one member closes with its hearing.

    Args:
        hearings: of sender and backup.
        now: the chain's time, Unix seconds.
    """
    if case.closed:
        return NextStep(CaseStep.LEAVE)
    under_way = (HearingStage.WAITING, HearingStage.SITTING)
    for side, hearing in enumerate(hearings):
        if hearing.stage in under_way and now > hearing.deadline:
            return NextStep(CaseStep.ADJOURN, side)
    for side, hearing in enumerate(hearings):
        if hearing.stage is HearingStage.WAITING:
            return NextStep(CaseStep.CONVENE, side)
    if case.is_about_one:
        return NextStep(CaseStep.WAIT)
    if any(hearing.stage is HearingStage.SITTING for hearing in hearings):
        return NextStep(CaseStep.WAIT)
    if all(hearing.stage is HearingStage.OVER for hearing in hearings) or now > case.deadline:
        return NextStep(CaseStep.CLOSE)
    return NextStep(CaseStep.WAIT)


def last_call(hearing_deadline: int, judge_seconds: int) -> int:
    """Until when a judge goes on asking for evidence and view that it cannot get; the rest is for its vote.

    Args:
        judge_seconds: how long a hearing lasts.
    """
    return hearing_deadline - max(_LEAST_MARGIN, min(judge_seconds // 10, _MOST_MARGIN))


def attempt_of(sealed: SealedDispute, study: Hash32, attempts: int) -> int:
    """Which attempt of a study evidence is about, from 0.

    Args:
        study: its name, as ``jobs.sessions.study_named`` makes it.
        attempts: how many there were.

    Raises:
        Forged: it is of another study, or of an attempt that never was.
    """
    for attempt in range(attempts):
        if sealed.identity == session_of(study, attempt):
            return attempt
    raise Forged("the evidence is not of an attempt of this study; look up the study's number")


def check_committee(sealed: SealedDispute, committee: Committee) -> None:
    """Check that the nodes that vouch for the evidence's workers are those that the chain drew. Raises Forged."""
    if tuple(NodeId(peer.node) for peer in sealed.peers) != committee.nodes:
        raise Forged("the evidence is signed by other nodes than those drawn for the attempt")
