"""What validators sign, and how their signatures become certificates.

The signature scheme is injected: real BLS in nodes, an ideal one in simulation.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, MalformedMessage
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BlockIndex, ChainId, Epoch, Height, View
from koinon.ledger.types import (
    Header,
    PrepareVote,
    QuorumCertificate,
    ViewChange,
    ViewChangeCertificate,
    ViewChangeGroup,
    bitmap_positions,
    header_hash,
    make_bitmap,
)

_PROPOSAL: Final = "koinon/giskard/proposal/1"
_VOTE: Final = "koinon/giskard/vote/1"
_VIEW_CHANGE: Final = "koinon/giskard/view-change/1"
ROOT_SIGNATURE: Final = b"\x00"


class Verifier(Protocol):
    """Checks signatures of the members of one validator set, by position."""

    def verify(self, signer: int, message: bytes, signature: bytes) -> bool: ...

    def verify_aggregate(self, signers: Sequence[int], message: bytes, signature: bytes) -> bool: ...

    def aggregate(self, signatures: Sequence[bytes]) -> bytes: ...


class Signer(Protocol):
    """Signs for one position. The same message always gives the same signature."""

    def sign(self, message: bytes) -> bytes: ...


def proposal_message(chain_id: ChainId, header: Header) -> bytes:
    """What a proposer signs: its block's place and hash."""
    return encode((_PROPOSAL, chain_id, header.epoch, header.view, header.index, header.height, header_hash(header)))


def vote_message(
    chain_id: ChainId, epoch: Epoch, view: View, index: BlockIndex, height: Height, block: Hash32
) -> bytes:
    """What a vote signs."""
    return encode((_VOTE, chain_id, epoch, view, index, height, block))


def view_change_message(
    chain_id: ChainId, epoch: Epoch, left: View, highest: QuorumCertificate | ViewChangeGroup
) -> bytes:
    """What a view change signs: the view that is left and the place and hash of the highest certified block."""
    return encode((_VIEW_CHANGE, chain_id, epoch, left, highest.view, highest.index, highest.height, highest.block))


def rank(certificate: QuorumCertificate | ViewChangeGroup) -> tuple[int, int]:
    """GISKARD-SAFETY-6: certificates are ordered by height, then by view.

    Certified heights never decrease from view to view (the parent of a certified block is known to a quorum, so every
    later view starts at or above its height), hence this order and (view, index) agree on every certificate that can
    exist.
    """
    return certificate.height, certificate.view


def root_certificate(header: Header, epoch: Epoch, validators: int, blocks_per_view: int) -> QuorumCertificate:
    """The certificate everybody grants the block that an epoch begins on: genesis, or the last of the epoch before.

    It makes the root the last block of view 0, so that view 1 starts the normal way.
    """
    return QuorumCertificate(
        epoch=epoch,
        view=View(0),
        index=BlockIndex(blocks_per_view - 1),
        height=header.height,
        block=header_hash(header),
        signers=bytes((validators + 7) // 8),
        signature=ROOT_SIGNATURE,
    )


def genesis_certificate(header: Header, validators: int, blocks_per_view: int) -> QuorumCertificate:
    """The root certificate of the first epoch."""
    return root_certificate(header, header.epoch, validators, blocks_per_view)


def certify(votes: Mapping[int, PrepareVote], verifier: Verifier, validators: int) -> QuorumCertificate:
    """Add up the votes, which are all for the same block, by position of the voter."""
    positions = sorted(votes)
    any_vote = votes[positions[0]]
    return QuorumCertificate(
        epoch=any_vote.epoch,
        view=any_vote.view,
        index=any_vote.index,
        height=any_vote.height,
        block=any_vote.block,
        signers=make_bitmap(positions, validators),
        signature=verifier.aggregate([votes[position].signature for position in positions]),
    )


def certify_view_change(
    changes: Mapping[int, ViewChange], verifier: Verifier, validators: int
) -> ViewChangeCertificate:
    """Add up view changes out of one view, grouped by the block they report."""
    groups: defaultdict[tuple[View, BlockIndex, Height, Hash32], list[int]] = defaultdict(list)
    for position in sorted(changes):
        highest = changes[position].highest
        groups[highest.view, highest.index, highest.height, highest.block].append(position)
    any_change = next(iter(changes.values()))
    return ViewChangeCertificate(
        epoch=any_change.epoch,
        view=any_change.view,
        groups=tuple(
            ViewChangeGroup(
                view=view,
                index=index,
                height=height,
                block=block,
                signers=make_bitmap(positions, validators),
                signature=verifier.aggregate([changes[position].signature for position in positions]),
            )
            for (view, index, height, block), positions in sorted(groups.items())
        ),
        highest=max((change.highest for change in changes.values()), key=rank),
    )


def check_certificate(
    certificate: QuorumCertificate, chain_id: ChainId, validators: int, quorum: int, verifier: Verifier
) -> None:
    """Check a quorum certificate.

    Raises:
        MalformedMessage: its bitmap does not fit the validator set.
        Forged: fewer than a quorum signed, or the signature is not theirs.
    """
    signers = bitmap_positions(certificate.signers, validators)
    if len(signers) < quorum:
        raise Forged(f"the certificate of block {certificate.height} has {len(signers)} signers; a quorum is {quorum}")
    statement = vote_message(
        chain_id,
        certificate.epoch,
        certificate.view,
        certificate.index,
        certificate.height,
        certificate.block,
    )
    if not verifier.verify_aggregate(signers, statement, certificate.signature):
        raise Forged(f"the certificate of block {certificate.height} does not verify against the keys it names")


def check_view_change_certificate(
    certificate: ViewChangeCertificate, chain_id: ChainId, validators: int, quorum: int, verifier: Verifier
) -> None:
    """GISKARD-SAFETY-5: work out the highest reported block again and check every signature.

    The certificate of ``certificate.highest`` itself is not checked here: the caller knows whether it holds it already.

    Raises:
        MalformedMessage: a bitmap does not fit, or a validator appears twice.
        Forged: fewer than a quorum, a false signature, or the highest block is not the highest that was reported.
    """
    seen: set[int] = set()
    for group in certificate.groups:
        signers = bitmap_positions(group.signers, validators)
        if seen & set(signers) or not signers:
            raise MalformedMessage("a view-change certificate names a validator twice or has an empty group")
        seen |= set(signers)
        statement = view_change_message(chain_id, certificate.epoch, certificate.view, group)
        if not verifier.verify_aggregate(signers, statement, group.signature):
            raise Forged(f"a group of the certificate that ends view {certificate.view} does not verify")
    if len(seen) < quorum:
        raise Forged(f"the certificate that ends view {certificate.view} has {len(seen)} signers; a quorum is {quorum}")
    reported = max(certificate.groups, key=rank)
    claimed = certificate.highest
    if (reported.view, reported.index, reported.height, reported.block) != (
        claimed.view,
        claimed.index,
        claimed.height,
        claimed.block,
    ):
        raise Forged(f"the certificate that ends view {certificate.view} hides the highest block that was reported")
