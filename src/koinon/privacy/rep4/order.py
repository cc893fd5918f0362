"""A worker's order in the terms of the protocol: for the worker that runs it and for a judge that repeats it."""

from typing import Final

from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import NodeId
from koinon.privacy.backend import Program
from koinon.privacy.rep4.session import Terms
from koinon.privacy.rep4.shares import Shares
from koinon.privacy.sharing import accept_package
from koinon.wire.committee import Input, Peer, Run

CERTIFICATE_DOMAIN: Final = "koinon/rep4/worker-key/1"

FourPeers = tuple[Peer, Peer, Peer, Peer]


def certify(node: NodeKey, session: bytes, position: int, ephemeral: bytes) -> bytes:
    """A node's signature that this ephemeral key is its worker's, in this run and at this position."""
    return node.sign(CERTIFICATE_DOMAIN, _certified(session, position, ephemeral))


def check_certificates(session: bytes, peers: FourPeers) -> None:
    """Check that four different nodes vouch for four different workers. Raises InvalidInput or Forged."""
    if len({peer.ephemeral for peer in peers}) != 4 or len({peer.node for peer in peers}) != 4:
        raise InvalidInput("the four positions of a committee must be four different nodes and workers")
    for position, peer in enumerate(peers):
        message = _certified(session, position, peer.ephemeral)
        verify_node_signature(NodeId(peer.node), CERTIFICATE_DOMAIN, message, peer.certificate)


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
        InvalidInput: they have another shape, columns or precision than the program's input ``number``.
        Forged: the manifest is not signed, or the package is not what it commits to.
    """
    manifest = dealt.manifest
    shape = (manifest.rows, len(manifest.columns))
    if shape != program.shapes[number] or manifest.columns != program.columns_of(number):
        raise InvalidInput(f"input {number} has other rows or columns than the study declares")
    if manifest.fraction_bits != program.fraction_bits:
        raise InvalidInput(f"input {number} has other fraction bits than the study declares")
    return accept_package(manifest, position, dealt.package)


def _certified(session: bytes, position: int, ephemeral: bytes) -> bytes:
    return session + bytes([position]) + ephemeral
