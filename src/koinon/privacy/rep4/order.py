"""A worker's order in the terms of the protocol: for the worker that runs it and for a judge that repeats it."""

from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import NodeId
from koinon.privacy.backend import Program
from koinon.privacy.rep4.session import Terms
from koinon.privacy.rep4.shares import Shares
from koinon.privacy.seats import FourPeers
from koinon.privacy.sharing import accept_package, shared_shape
from koinon.wire.committee import Input, Run


def workers_of(peers: FourPeers) -> tuple[NodeId, NodeId, NodeId, NodeId]:
    """The ephemeral worker keys by position."""
    zeroth, first, second, third = (NodeId(peer.ephemeral) for peer in peers)
    return zeroth, first, second, third


def terms_of(identity: bytes, run: Run) -> Terms:
    """What the four must agree on; ``identity`` is the run's."""
    zeroth, first, second, third = run.peers
    return Terms(
        identity=identity,
        program=run.program,
        algorithm=run.algorithm,
        parameters=run.parameters,
        result_party=run.result_party,
        nodes=(zeroth.node, first.node, second.node, third.node),
        workers=workers_of(run.peers),
        manifests=tuple(each.manifest for each in run.inputs),
    )


def accepted_input(dealt: Input, program: Program, number: int, position: int) -> Shares:
    """The shares of one owner's rows at one position.

    Raises:
        InvalidInput: they have another shape, columns or precision than the program's input ``number``, or are sums
            over rows where the program takes rows, or the other way round.
        Forged: the manifest is not signed, or the package is not what it commits to.
    """
    manifest = dealt.manifest
    expected = program.summed or program.columns_of(number)
    if bool(manifest.sums) != bool(program.summed):
        raise InvalidInput(f"input {number} is {'sums over rows' if manifest.sums else 'rows'}; the study takes others")
    if shared_shape(manifest) != program.shapes[number] or manifest.columns != expected:
        raise InvalidInput(f"input {number} has other rows or columns than the study declares")
    if manifest.fraction_bits != program.fraction_bits:
        raise InvalidInput(f"input {number} has other fraction bits than the study declares")
    return accept_package(manifest, position, dealt.package)
