"""What every role needs of a study: its file, checked against the hash on the chain."""

from koinon.contracts.studies import Proposed
from koinon.jobs.study import SignedStudy, StudyFile, open_study_named
from koinon.journey.study import study_file_key
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.wire.studies import FetchStudyFile, StudyFileReply

CALL_SECONDS = Seconds(15.0)


async def proposal_of(context: Context, number: int) -> Proposed:
    """The study's proposal as the chain holds it. Raises InvalidInput where there is no such study."""
    found = await context.suite.studies.events(Proposed, study_id=number)
    if not found:
        raise InvalidInput(f"there is no study {number} on this chain")
    return found[0].event


async def fetch_study(context: Context, number: int) -> StudyFile:
    """The study file, from this node's memory or from the publisher.

    Raises:
        Forged: what the publisher gave is not the file whose hash is on the chain.
        Unavailable: the publisher cannot be reached.
    """
    proposal = await proposal_of(context, number)
    return open_study_named(await fetch_signed_study(context, proposal), proposal.spec_hash)


async def fetch_signed_study(context: Context, proposal: Proposed) -> SignedStudy:
    """The signed file behind a proposal; kept, once it has been checked."""
    kept = context.memory.get(study_file_key(proposal.spec_hash))
    if kept is not None:
        return decode(SignedStudy, kept)
    record = await context.record_of(proposal.publisher)
    reply = await context.transport.call(record.endpoint, FetchStudyFile(proposal.spec_hash), CALL_SECONDS)
    if not isinstance(reply, StudyFileReply):
        raise InvalidInput("the publisher answered with something other than a study file")
    signed = decode(SignedStudy, reply.signed_study)
    open_study_named(signed, proposal.spec_hash)
    context.memory.write({study_file_key(proposal.spec_hash): encode(signed)})
    return signed


def manifest_key(study: int, attempt: int) -> bytes:
    """Where an owner keeps the manifest of the shares it dealt."""
    return b"manifest/" + study.to_bytes(8, "big") + attempt.to_bytes(4, "big")
