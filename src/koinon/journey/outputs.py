"""Where the result party receives what committee members computed, and completes the study when three agree."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

import msgspec

from koinon.contracts.eip712 import handed_digest, result_digest
from koinon.contracts.studies import StudyPhase
from koinon.contracts.suite import Suite
from koinon.crypto.signature import recover_address
from koinon.jobs import result
from koinon.jobs.study import MAXIMUM_OWNERS
from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import Forged, KoinonError, Refused
from koinon.kernel.ids import Hash32, NodeId
from koinon.wire.catalogue import Done, Message
from koinon.wire.committee import OutputPackage, ShareManifest
from koinon.wire.studies import DeliverOutput

journal = logging.getLogger("koinon.result")
_NO_SIGNATURE: Final = b""


class OutputDesk:
    """The outputs of every attempt this node is the result party of, kept before a member gets its acknowledgement."""

    def __init__(self, suite: Suite, memory: Store) -> None:
        self._suite = suite
        self._memory = memory
        self._attempts: dict[tuple[int, int], result.ResultState] = {}

    def packages(self, study: int, attempt: int) -> tuple[OutputPackage, ...]:
        """What has been delivered, by position."""
        outputs = sorted(self._state((study, attempt)).outputs, key=lambda output: output.position)
        return tuple(output.output for output in outputs)

    async def deliver(self, sender: NodeId, delivery: DeliverOutput) -> Message:
        """Take one member's output.

        Raises:
            Refused: the sender was not drawn for that seat of the attempt that is under way, or the seat delivered.
            Forged: a signature is not that of the member's account, over the result or over what is handed over.
        """
        studies = self._suite.studies
        state = await studies.study_of(delivery.study)
        if delivery.attempt != state.attempt or state.phase not in (StudyPhase.RUNNING, StudyPhase.COMPLETED):
            raise Refused(f"attempt {delivery.attempt} of study {delivery.study} is not under way")
        if not 0 <= delivery.position < len(state.committee) or delivery.output.position != delivery.position:
            raise Refused("there is no such seat in the committee")
        account = state.committee[delivery.position]
        if (await self._suite.providers.provider_of(account)).node_id != sender:
            raise Refused("another node was drawn for that seat")
        digest = result_digest(await studies.domain(), delivery.study, delivery.attempt, Hash32(delivery.output_digest))
        if recover_address(digest, delivery.signature) != account:
            raise Forged("the signature on the output digest is not that of the member's account")
        if recover_address(await self._handed(delivery), delivery.handed) != account:
            raise Forged("the signature on the components is not that of the member's account")
        key = (delivery.study, delivery.attempt)
        self._keep_manifests(delivery)
        self._attempts[key], effects = result.step(self._state(key), _event(delivery))
        # Each seat's first is kept, also when three were enough: its author answers for it.
        place = _output_prefix(*key) + bytes([delivery.position])
        if self._memory.get(place) is None:
            self._memory.write({place: encode(msgspec.structs.replace(delivery, manifests=()))})
        for effect in effects:
            await self._complete(key, effect)
        return Done()

    async def _handed(self, delivery: DeliverOutput) -> Hash32:
        from koinon.privacy.opening import handed_digests

        return handed_digest(
            await self._suite.judgements.domain(),
            delivery.study,
            delivery.attempt,
            delivery.position,
            await asyncio.to_thread(handed_digests, delivery.output),
        )

    def _state(self, key: tuple[int, int]) -> result.ResultState:
        """What was delivered, before a restart too."""
        if key not in self._attempts:
            state = result.ResultState(*key)
            for _, kept in self._memory.scan(_output_prefix(*key)):
                state, _ = result.step(state, _event(decode(DeliverOutput, kept)))
            self._attempts[key] = state
        return self._attempts[key]

    def manifest(self, study: int, attempt: int, owner: int) -> ShareManifest | None:
        """An owner's manifest as a member delivered it, or None; its signature was checked."""
        kept = self._memory.get(_manifest_key(study, attempt, owner))
        return decode(ShareManifest, kept) if kept is not None else None

    def _keep_manifests(self, delivery: DeliverOutput) -> None:
        from koinon.privacy.sharing import check_manifest

        for number, manifest in enumerate(delivery.manifests[:MAXIMUM_OWNERS]):
            key = _manifest_key(delivery.study, delivery.attempt, number)
            if self._memory.get(key) is None:
                check_manifest(manifest)
                self._memory.write({key: encode(manifest)})

    async def _complete(self, key: tuple[int, int], effect: result.Complete) -> None:
        signatures = dict(zip(effect.signers, effect.signatures, strict=True))
        by_position = [signatures.get(position, _NO_SIGNATURE) for position in range(4)]
        try:
            await self._suite.studies.complete(*key, effect.output_digest, by_position)
        except KoinonError as problem:
            # Any member may send the signatures too; whether it worked, the study's phase tells.
            journal.warning("study %d: completing it failed: %s", key[0], problem)


@dataclass(frozen=True)
class FalseOutput:
    """What a member handed over under its signature, which is not what the committee agreed on.

    Attributes:
        digests: of the four components of the output on the chain.
        handed: of the three that the member handed over.
    """

    position: int
    digests: tuple[Hash32, ...]
    handed: tuple[Hash32, ...]
    signature: bytes


def false_outputs(memory: Store, study: int, attempt: int, output_digest: bytes) -> tuple[FalseOutput, ...]:
    """Those among what was delivered to this result party that the chain takes stake for.

    Args:
        output_digest: of the completed study, as the chain holds it.
    """
    from koinon.privacy.opening import handed_digests
    from koinon.privacy.opening import output_digest as of_digests

    delivered = [decode(DeliverOutput, kept) for _, kept in memory.scan(_output_prefix(study, attempt))]
    agreed = [one.output.digests for one in delivered if of_digests(one.output.digests) == output_digest]
    if not agreed:
        return ()
    digests = tuple(map(Hash32, agreed[0]))
    found = []
    for one in delivered:
        handed = handed_digests(one.output)
        held = tuple(digest for j, digest in enumerate(digests) if j != one.position)
        if handed != held:
            found.append(FalseOutput(one.position, digests, handed, one.handed))
    return tuple(found)


def _manifest_key(study: int, attempt: int, owner: int) -> bytes:
    return b"delivered-manifest/" + study.to_bytes(8, "big") + attempt.to_bytes(4, "big") + owner.to_bytes(2, "big")


def _output_prefix(study: int, attempt: int) -> bytes:
    return b"delivered-output/" + study.to_bytes(8, "big") + attempt.to_bytes(4, "big")


def _event(delivery: DeliverOutput) -> result.MemberOutput:
    return result.MemberOutput(delivery.position, delivery.output, Hash32(delivery.output_digest), delivery.signature)
