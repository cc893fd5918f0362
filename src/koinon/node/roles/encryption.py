"""A data owner's part in a study on ciphertexts: sums over its rows, under the result party's key."""

import asyncio
from typing import TYPE_CHECKING, Final

from koinon.jobs import owner
from koinon.jobs.inputs import layout, parameters
from koinon.jobs.sessions import study_key
from koinon.jobs.study import StudyFile
from koinon.kernel.errors import MalformedMessage
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.wire.committee import Input
from koinon.wire.studies import EncryptionKeyReply, FetchEncryptionKey

if TYPE_CHECKING:
    from koinon.data.table import FloatArray, Table

KEY_SECONDS: Final = Seconds(30.0)


def sums_over(study: StudyFile, table: "Table") -> "FloatArray":
    """What this owner would encrypt. Raises InvalidInput for rows that do not fit, Refused for too few in a group."""
    from koinon.privacy.encrypted import studies

    counts = (table.rows,) * len(study.owners)
    program = studies.check(study.algorithm, studies.parameters_of(parameters(study, counts)))
    return studies.sums_of(table.matrix, layout(study, counts), program)


async def encrypted_sums(
    context: Context, study: StudyFile, number: int, deal: owner.DealShares, table: "Table"
) -> Input:
    """This owner's ciphertext with the manifest that commits to it; encrypted afresh for every attempt.

    Raises:
        InvalidInput: the rows do not fit the study.
        Refused: too few people in a group.
        MalformedMessage: what the result party gave is no key.
        Unavailable: it cannot be reached, or the extra is not installed here.
    """
    from koinon.privacy.encrypted import keeper
    from koinon.privacy.sharing import Dealing, attest, sealed_commitments

    shape = layout(study, (table.rows,) * len(study.owners))
    sums = await asyncio.to_thread(sums_over, study, table)
    record = await context.directory.find_node(study.publisher.node_id)
    reply = await context.transport.call(record.endpoint, FetchEncryptionKey(number), KEY_SECONDS)
    if not isinstance(reply, EncryptionKeyReply):
        raise MalformedMessage("the result party answered with something other than its key")
    sealed = await keeper.encrypt(reply.public, sums)
    dealing = Dealing(study_key(study, number), deal.attempt, deal.dataset_hash)
    node, commitments = context.keys.node, sealed_commitments(sealed)
    manifest = attest(table.rows, shape.columns, shape.fraction_bits, dealing, node, commitments)
    return Input(manifest, None, sealed)
