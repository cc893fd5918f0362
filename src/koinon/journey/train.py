"""train: reveal, draw, wait for four strangers to compute, open what three of them agree on.

The publisher cannot spoil a run it does not like: any three members' signatures complete the study, whoever sends
them. It only moves things along: draws when the block of the draw exists, draws again after a failed attempt, and
lets a passed deadline take its course.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from koinon.contracts.studies import (
    ChallengeExpired,
    Complained,
    Contradicted,
    Ended,
    Study,
    StudyPhase,
)
from koinon.jobs.gate import check_output, check_released
from koinon.jobs.inputs import shared_parameters
from koinon.jobs.sessions import session_key, study_key
from koinon.jobs.study import SignedStudy, StudyFile, open_study
from koinon.journey import results
from koinon.journey.desk import Desk
from koinon.journey.encryption import opened as opened_total
from koinon.journey.outputs import OutputDesk
from koinon.journey.study import nonce_key
from koinon.kernel.codec import decode
from koinon.kernel.errors import Forged, Refused
from koinon.kernel.ids import ZERO_ADDRESS, Hash32, to_hex
from koinon.kernel.quantities import TokenAmount
from koinon.wire.committee import ShareManifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

POLL_SECONDS: Final = 0.15
PACKAGES_SECONDS: Final = 10.0


async def train(desk: Desk, study: results.Study, outputs: OutputDesk) -> results.Trained:
    """Carry a study that all owners signed to its result.

    Args:
        outputs: where committee members deliver what they computed.

    Raises:
        Refused: the study ended without a result; the sentence says why, and the money is back.
        Forged: what was delivered does not match what the committee signed.
    """
    file = open_study(decode(SignedStudy, study.signed))
    studies = desk.suite.studies
    announced = -1
    while True:
        state = await studies.study_of(study.number)
        if state.phase == StudyPhase.COMPLETED:
            break
        if state.phase == StudyPhase.ENDED:
            reason = (await studies.events(Ended, study_id=study.number))[0].event.reason
            raise Refused(f"study {study.number} ended without a result ({reason}); the escrow and all bonds are back")
        if state.phase == StudyPhase.LOCKED:
            await _reveal(desk, study, state)
        elif state.phase == StudyPhase.DRAWING:
            await _draw(desk, study.number, state)
        elif announced < state.attempt:
            announced = state.attempt
            _announce(desk, state)
        if desk.clock.unix() > state.deadline + 1:
            await _expire(desk, study.number)
        await asyncio.sleep(POLL_SECONDS)
    return await _open(desk, study, file, state, outputs)


async def _reveal(desk: Desk, study: results.Study, state: Study) -> None:
    if (await desk.suite.studies.party_of(study.number, 0)).revealed:
        return
    nonce = desk.memory.get(nonce_key(study.number))
    if nonce is None:
        raise Refused(
            f"this node has lost its nonce for study {study.number}; the study will end and its bond be shared"
        )
    await desk.client.advance_past(state.draw_height)
    await desk.suite.studies.reveal(study.number, 0, Hash32(nonce))
    desk.say("the draw's block exists; the publisher revealed its nonce", 0.1)


async def _draw(desk: Desk, number: int, state: Study) -> None:
    await desk.client.advance_past(state.draw_height)
    try:
        await desk.suite.studies.draw(number)
    except Refused as problem:
        if "NotEnoughProviders" in str(problem):
            raise Refused(
                f"not enough providers of different operators are left to draw a committee for study {number};"
                " the escrow comes back at the deadline"
            ) from None
        if (await desk.suite.studies.study_of(number)).phase == StudyPhase.DRAWING:
            raise


def _announce(desk: Desk, state: Study) -> None:
    members = ", ".join(to_hex(account) for account in state.committee)
    again = "" if state.attempt == 0 else f"attempt {state.attempt + 1}: "
    desk.say(f"{again}committee drawn: {members}", 0.2 + 0.1 * state.attempt)


async def _expire(desk: Desk, number: int) -> None:
    try:
        await desk.suite.studies.expire(number)
    except Refused:
        return  # a challenge is open, or another party was faster; the next look at the study tells


async def _open(
    desk: Desk, study: results.Study, file: StudyFile, state: Study, outputs: OutputDesk
) -> results.Trained:
    from koinon.privacy.opening import reconstruct_words
    from koinon.privacy.programs.registry import HE

    loop = asyncio.get_running_loop()
    until = loop.time() + PACKAGES_SECONDS
    # Three packages suffice once the digest is on the chain; the fourth is waited for only briefly.
    while len(packages := outputs.packages(study.number, state.attempt)) < 4 and loop.time() < until:
        if len(packages) == 3 and loop.time() > until - PACKAGES_SECONDS + 1:
            break
        await asyncio.sleep(POLL_SECONDS)
    session = session_key(file, study.number, state.attempt)
    words, fraction_bits, liars = reconstruct_words(packages, session, state.output_digest)
    manifests = _manifests(outputs, file, study.number, state.attempt)
    rows = tuple(manifest.rows for manifest in manifests)
    if file.engine == HE:
        values = await opened_total(desk.memory, file, study.number, rows, words)
    else:
        values = words.view("i8") / 2.0**fraction_bits
    await asyncio.to_thread(check_output, file, manifests, values.size)
    opened = await asyncio.to_thread(_named, file, manifests, values)
    check_released(file, {one.name: one.values for one in opened})
    opened = tuple(one for one in opened if one.name in file.outputs)
    incidents = await _incidents(desk, study.number)
    desk.say(f"opened {', '.join(one.name for one in opened)}; three signatures released the escrow", 1.0)
    return results.Trained(
        study=study,
        attempt=state.attempt,
        committee=state.committee,
        output_digest=state.output_digest,
        outputs=opened,
        training_rows=tuple(count - file.planted for count in rows),
        liars=liars,
        incidents=incidents,
    )


def _named(file: StudyFile, manifests: Sequence[ShareManifest], values: "FloatArray") -> tuple[results.Output, ...]:
    """The opened numbers as the outputs that the study declares. Raises MalformedMessage where they do not fit."""
    from koinon.privacy.backend import named_outputs
    from koinon.privacy.programs import registry

    found = named_outputs(registry.load(file.algorithm, shared_parameters(file, manifests)), values)
    return tuple(
        results.Output(name, array.shape, tuple(float(value) for value in array.ravel()))
        for name, array in found.items()
    )


def _manifests(outputs: OutputDesk, file: StudyFile, number: int, attempt: int) -> tuple[ShareManifest, ...]:
    """What each owner shared, as its signed manifest says that the committee compared.

    Raises:
        Forged: a manifest is missing, or of another owner, study or attempt.
    """
    found = []
    for place, owner in enumerate(file.owners):
        manifest = outputs.manifest(number, attempt, place)
        expected = (owner.node_id, study_key(file, number), attempt)
        if manifest is None or (manifest.owner, manifest.study, manifest.attempt) != expected:
            raise Forged(f"the committee did not deliver the share manifest of {owner.name}")
        found.append(manifest)
    return tuple(found)


async def _incidents(desk: Desk, number: int) -> tuple[results.Incident, ...]:
    found: list[results.Incident] = []
    for complaint in await desk.suite.studies.events(Complained, study_id=number):
        event = complaint.event
        accounts = tuple(one for one in (event.sender, event.backup, event.receiver) if one != ZERO_ADDRESS)
        found.append(results.Incident(event.attempt, "complaint", accounts, TokenAmount(0)))
    for expired in await desk.suite.studies.events(ChallengeExpired, study_id=number):
        silent = expired.event
        found.append(results.Incident(silent.attempt, "silence", (silent.member,), silent.slashed))
    for proved in await desk.suite.studies.events(Contradicted, study_id=number):
        liar = proved.event
        found.append(results.Incident(liar.attempt, "contradiction", (liar.member,), liar.slashed))
    return tuple(sorted(found, key=lambda incident: incident.attempt))
