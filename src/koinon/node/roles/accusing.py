"""What this node can accuse members of a study of: of a lie that evidence proves, or of an output nobody agreed on."""

import asyncio
import contextlib
from pathlib import Path

from koinon.contracts.judgements import JUDGES
from koinon.contracts.refusals import Reverted
from koinon.contracts.studies import Drawn, StudyPhase
from koinon.contracts.token import UNLIMITED
from koinon.journey.outputs import false_outputs
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import ZERO_HASH
from koinon.kernel.quantities import TokenAmount
from koinon.node import disputes, orders
from koinon.node.context import Context
from koinon.node.roles import evidence
from koinon.node.tasks import Narrator
from koinon.wire.committee import SealedDispute

_NOTHING = TokenAmount(0)


async def accuse(context: Context, order: orders.Accuse, narrator: Narrator) -> orders.CaseOpened:
    """Bring evidence before judges, or an output that contradicts its author's agreement before the contract.

    Raises:
        InvalidInput: there is no such file or study, or nothing to accuse anybody of.
        Forged: the evidence proves nothing, or nothing about this study; nothing was sent.
        Reverted: the same was brought already, or this account has no part in the study.
    """
    if not order.path and (charged := await _charge_false_output(context, order.study)) is not None:
        return charged
    contract = context.suite.judgements
    proof = await evidence.prove(context, order.study, await _evidence_of(context, order))
    positions, alone = proof.dispute.accused, proof.dispute.alone
    why = "one of the two deviated" if alone is None else f"one member deviated: {alone.ground.value}"
    narrator.say(f"the evidence proves that {why}", 0.5)
    named = evidence.keep_evidence(context, proof.sealed)  # before the case: judges may ask at once
    paid = _NOTHING
    if alone is None:
        number = await contract.accuse(order.study, proof.attempt, positions[0], positions[1], named)
    else:
        paid = await allow_fees(context)
        number = await contract.accuse_one(order.study, proof.attempt, positions[0], named)
    until = int((await contract.case_of(number)).deadline)
    return orders.CaseOpened(number, order.study, proof.attempt, named, proof.accused, until, paid, _NOTHING)


async def allow_fees(context: Context) -> TokenAmount:
    """Let the contract pull the fees of three judges; how much."""
    contract, token = context.suite.judgements, context.suite.token
    cost = TokenAmount(JUDGES * await contract.judge_fee())
    if await token.allowance(context.account, contract.address) < cost:
        await token.approve(contract.address, UNLIMITED)
    return cost


def find_kept(context: Context, study: int, kind: str, attempt: int | None = None) -> Path | None:
    """What this node kept of one attempt, or of the last of which it kept any."""
    attempts = range(evidence.MOST_ATTEMPTS) if attempt is None else (attempt,)
    found = [path for one in attempts if (path := kept_path(context, study, one, kind)).is_file()]
    return found[-1] if found else None


def kept_path(context: Context, study: int, attempt: int, kind: str) -> Path:
    """Where this node keeps something of a disputed run."""
    return context.home.disputes / disputes.file_name(study, attempt, kind)


async def _evidence_of(context: Context, order: orders.Accuse) -> SealedDispute:
    """From the file that is given, or kept; else from what the members of a stopped attempt were told."""
    path = Path(order.path) if order.path else find_kept(context, order.study, "evidence")
    if path is not None:
        return await asyncio.to_thread(disputes.read, path, SealedDispute)
    for one in reversed(await context.suite.studies.events(Drawn, study_id=order.study)):
        with contextlib.suppress(InvalidInput):
            return await evidence.gather_testimony(context, order.study, one.event.attempt)
    raise InvalidInput(
        f"this node kept no evidence of study {order.study}, and what its members were told names none of them; "
        "give the file"
    )


async def _charge_false_output(context: Context, study: int) -> orders.CaseOpened | None:
    """Take the stake of a member that handed this result party something else than was agreed on, if one did."""
    state = await context.suite.studies.study_of(study)
    if state.phase is not StudyPhase.COMPLETED:
        return None
    attempt, digest = int(state.attempt), bytes(state.output_digest)
    for false in await asyncio.to_thread(false_outputs, context.memory, study, attempt, digest):
        try:
            taken = await context.suite.judgements.contradict_output(
                study, false.position, false.digests, false.handed, false.signature
            )
        except Reverted as refusal:
            if refusal.error != "AlreadyDone":  # it has paid for this attempt
                raise
            continue
        accused = (state.committee[false.position],)
        return orders.CaseOpened(0, study, attempt, ZERO_HASH, accused, 0, _NOTHING, taken)
    return None
