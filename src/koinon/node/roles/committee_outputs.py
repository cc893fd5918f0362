"""What becomes of a run's output at a committee member's: signed, told to the others, handed over, paid for."""

import asyncio
import logging
from typing import Final

from koinon.contracts.eip712 import handed_digest, result_digest
from koinon.jobs import gate, member
from koinon.kernel.errors import KoinonError, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import Hash32
from koinon.node.context import Context
from koinon.node.roles.committee_seat import CALL_SECONDS, TICK_SECONDS, Seat, manifests
from koinon.wire.committee import OutputPackage
from koinon.wire.studies import DeliverOutput, DeliverSignature

journal = logging.getLogger("koinon.compute")

DELIVERY_TRIES: Final = 20


async def sign(context: Context, seat: Seat, effect: member.SignDigest) -> None:
    """Sign what may leave; where it may not, this member signs nothing and sends nothing."""
    from koinon.privacy.programs.registry import HE

    state = seat.state
    try:
        check = gate.check_sealed_output if seat.study.engine == HE else gate.check_output
        await asyncio.to_thread(check, seat.study, manifests(seat), effect.output.count)
    except KoinonError as problem:
        journal.warning("study %d: the output is not signed: %s", state.study, problem)
        return
    signature = context.keys.account.sign_digest(await digest_of(context, seat, effect.output_digest))
    seat.events.put_nowait(member.SignatureArrived(state.position, effect.output_digest, signature))


async def digest_of(context: Context, seat: Seat, output_digest: bytes) -> Hash32:
    """What a member's account signs of an output. Raises MalformedMessage for what is no digest."""
    if len(output_digest) != 32:
        raise MalformedMessage("an output digest has 32 bytes")
    domain = await context.suite.studies.domain()
    return result_digest(domain, seat.state.study, seat.state.attempt, Hash32(output_digest))


async def tell_signature(context: Context, seat: Seat, effect: member.SendSignature) -> None:
    """Until it is acknowledged or the attempt is over: the other may not have taken its seat yet."""
    state = seat.state
    delivery = DeliverSignature(state.study, state.attempt, state.position, effect.output_digest, effect.signature)
    while seat.state.phase != "left":
        try:
            record = await context.directory.find_node(state.members[effect.position])
            await context.transport.call(record.endpoint, delivery, CALL_SECONDS)
            return
        except Unavailable:
            await asyncio.sleep(TICK_SECONDS)
        except Refused as over:
            journal.info("study %d: seat %d needs no signature: %s", state.study, effect.position, over)
            return


async def complete(context: Context, seat: Seat, effect: member.Complete) -> None:
    """Complete the study on the chain with three signatures; another may be faster."""
    state = seat.state
    try:
        await context.suite.studies.complete(
            state.study, state.attempt, Hash32(effect.output_digest), list(effect.signatures)
        )
    except Refused as late:
        journal.info("study %d: another was faster to complete it: %s", state.study, late)


async def send_output(context: Context, seat: Seat, effect: member.SendOutput) -> None:
    """Hand this member's part of the output to the result party, who may be away for a while."""
    state = seat.state
    handed = handed_digest(
        await context.suite.judgements.domain(),
        state.study,
        state.attempt,
        state.position,
        await asyncio.to_thread(_handed, effect.output),
    )
    delivery = DeliverOutput(
        state.study,
        state.attempt,
        state.position,
        effect.output,
        effect.output_digest,
        effect.signature,
        context.keys.account.sign_digest(handed),
        manifests(seat),
    )
    for _ in range(DELIVERY_TRIES):
        try:
            record = await context.directory.find_node(seat.study.publisher.node_id)
            await context.transport.call(record.endpoint, delivery, CALL_SECONDS)
            return
        except Unavailable as problem:
            journal.warning("study %d: the result party cannot be reached: %s", state.study, problem)
            await asyncio.sleep(TICK_SECONDS)


def _handed(output: OutputPackage) -> tuple[Hash32, Hash32, Hash32]:
    from koinon.privacy.opening import handed_digests

    return handed_digests(output)
