"""The disposable child of one committee position on the engine ``he``: ``koinon.privacy.encrypted.member:main``.

What node and worker say to each other is as on rep4 (``privacy.seats``), but the four never talk: each adds the owners'
ciphertexts, which has one result to the byte, and hands the sum to the result party. Three equal digests release the
escrow; a position that hands over another sum is outvoted and named by the result party.
"""

from typing import Final

from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Forged, InvalidInput
from koinon.privacy.encrypted import ckks, studies
from koinon.privacy.opening import public_package
from koinon.privacy.programs import registry
from koinon.privacy.seats import check_seats, expect, prepared, serve
from koinon.privacy.sharing import check_manifest, check_same_run, sealed_commitments
from koinon.wire.catalogue import to_frame
from koinon.wire.committee import Listening, Output, Prepare, Run
from koinon.worker.channel import AsyncChannel

_NOWHERE: Final = 0
"""In place of a port: nobody dials these workers."""


async def main(channel: AsyncChannel) -> None:
    """Add up and end."""
    await serve(channel, _serve)


async def _serve(channel: AsyncChannel) -> None:
    prepare = await prepared(channel)
    key = NodeKey.from_seed(prepare.seed)
    await channel.send(to_frame(Listening(key.node_id, _NOWHERE)))
    run = await expect(channel, Run)
    ciphertexts = agreed(prepare, run, key)
    total = ckks.added(ciphertexts, studies.DEPTH)
    words, salt = studies.as_words(total), studies.salt_of(total)
    package, digest = public_package(prepare.session, prepare.position, words, 0, salt)
    await channel.send(to_frame(Output(package, digest, (), 0, 0)))


def agreed(prepare: Prepare, run: Run, key: NodeKey) -> list[bytes]:
    """The owners' ciphertexts, after what the node asks for was checked. Raises InvalidInput, Forged or Refused."""
    check_seats(prepare, run, key)
    if run.algorithm != registry.algorithm_hash(run.program, registry.HE):
        raise InvalidInput(f"this node's {run.program} is not the algorithm of the study; install the agreed version")
    parameters = studies.parameters_of(run.parameters)
    studies.check(run.program, parameters)
    layout = parameters.layout
    if len(run.inputs) != len(layout.rows):
        raise InvalidInput(f"the study has {len(layout.rows)} owners; {len(run.inputs)} inputs were given")
    for number, each in enumerate(run.inputs):
        manifest = each.manifest
        check_manifest(manifest)
        if (manifest.rows, manifest.columns, manifest.sums) != (layout.rows[number], layout.columns, 0):
            raise InvalidInput(f"the manifest of owner {number} has other rows or columns than the study declares")
        if each.package is not None or manifest.commitments != sealed_commitments(each.sealed):
            raise Forged(f"what owner {number} gave is not the ciphertext that its manifest commits to")
    check_same_run([each.manifest for each in run.inputs])
    return [each.sealed for each in run.inputs]
