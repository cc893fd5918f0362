"""What a committee member says on the chain: that another deviated or is silent, that it lives, that it cannot run."""

import asyncio
import logging
from typing import Final

from koinon.jobs import member
from koinon.kernel.errors import Refused
from koinon.node.context import Context
from koinon.node.roles.committee_seat import TICK_SECONDS, Seat

journal = logging.getLogger("koinon.compute")

CHALLENGE_MARGIN_SECONDS: Final = 1


async def complain(context: Context, seat: Seat, effect: member.Complain) -> None:
    """Name a pair of which one deviated; another member's complaint may be faster."""
    state = seat.state
    try:
        await context.suite.studies.complain(state.study, state.attempt, effect.sender, effect.backup, state.position)
    except Refused as late:
        journal.info("study %d: another member's complaint was faster: %s", state.study, late)


async def decline(context: Context, study: int, attempt: int, reason: str) -> None:
    """Say on the chain, before anybody waits, that this member cannot run the study; the next draw leaves it out."""
    journal.warning("study %d, attempt %d: this node declines its seat: %s", study, attempt, reason)
    try:
        await context.suite.studies.decline(study, attempt)
    except Refused as late:
        journal.info("study %d: the attempt is over already: %s", study, late)


async def challenge(context: Context, seat: Seat, position: int) -> None:
    """Ask a silent member on the chain; once the time to answer is over, have it slashed. Another may be faster."""
    state, studies = seat.state, context.suite.studies
    try:
        await studies.challenge(state.study, state.attempt, position)
    except Refused as known:
        journal.info("study %d: seat %d is challenged already: %s", state.study, position, known)
    asked = await studies.challenge_of(state.study, state.attempt, position)
    while not asked.answered and asked.deadline and seat.state.phase != "left":
        left = float(asked.deadline + CHALLENGE_MARGIN_SECONDS - context.clock.unix())
        if left <= 0:
            try:
                await studies.expire_challenge(state.study, state.attempt, position)
                return
            except Refused:
                left = TICK_SECONDS  # the chain's clock is behind, or another member was faster
        await asyncio.sleep(min(left, 1.0))
        if (await studies.study_of(state.study)).attempt != state.attempt:
            return
        asked = await studies.challenge_of(state.study, state.attempt, position)
    if asked.answered:
        seat.events.put_nowait(member.ChallengeAnswered(position))


async def answer(context: Context, study: int, attempt: int) -> None:
    """Say on the chain that this member is alive."""
    try:
        await context.suite.studies.answer(study, attempt)
    except Refused as late:
        journal.warning("study %d: could not answer the challenge: %s", study, late)
