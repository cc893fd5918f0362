"""Headers, blocks and the validator set: their hashes and the few questions everybody asks of them.

The records themselves cross processes and therefore live in ``koinon.wire.consensus``; they are named here again so
that a reader of the ledger finds them in one place.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from koinon.crypto.hash import keccak256
from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import InvalidInput, MalformedMessage
from koinon.kernel.ids import ZERO_HASH, Address, Hash32, NodeId
from koinon.kernel.quantities import View
from koinon.wire.consensus import (
    Account,
    Block,
    Certified,
    Digest,
    EpochSync,
    FinalityProof,
    Header,
    Position,
    PrepareBlock,
    PrepareVote,
    ProposalEvidence,
    QuorumCertificate,
    ReportEvidence,
    ViewChange,
    ViewChangeCertificate,
    ViewChangeGroup,
    ViewEntry,
    ViewSync,
    VoteEvidence,
)

MAXIMUM_VALIDATORS: Final = 1024


class Validator(Record, frozen=True):
    """A member of the validator set.

    Attributes:
        account: receives the tips of its blocks.
        bls_key: 48 bytes; its proof of possession was checked before it entered a set.
    """

    node_id: NodeId
    account: Address
    bls_key: bytes


@dataclass(frozen=True)
class ValidatorSet:
    """Who signs the blocks of one epoch, in order of position."""

    members: tuple[Validator, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= MAXIMUM_VALIDATORS:
            raise InvalidInput(f"a validator set has 1 to {MAXIMUM_VALIDATORS} members; got {len(self.members)}")
        if len({member.node_id for member in self.members}) != len(self.members):
            raise InvalidInput("two members of the validator set have the same node id")
        if len({member.bls_key for member in self.members}) != len(self.members):
            raise InvalidInput("two members of the validator set have the same BLS key")

    def __len__(self) -> int:
        return len(self.members)

    @property
    def faults(self) -> int:
        """f: how many members may lie without harm, floor((n − 1) / 3)."""
        return (len(self.members) - 1) // 3

    @property
    def quorum(self) -> int:
        """q = n − f: two quorums share at least one honest member."""
        return len(self.members) - self.faults

    @cached_property
    def hash(self) -> Hash32:
        """Keccak-256 of the canonical encoding of the members; what a header commits to."""
        return keccak256(encode(self.members))

    def proposer(self, view: View) -> int:
        """Position of the member that proposes the blocks of ``view``."""
        return view % len(self.members)

    def position_of(self, node_id: NodeId) -> int | None:
        """Position of a node, or None if it is not a member."""
        return self._positions.get(node_id)

    @cached_property
    def _positions(self) -> dict[NodeId, int]:
        return {member.node_id: position for position, member in enumerate(self.members)}


def is_closing(header: Header) -> bool:
    """GISKARD-SAFETY-8: whether the block only closes its epoch and is never final, as its header says itself.

    No set signs a block after it; who knows nothing but headers could not tell it from a final block otherwise.
    """
    return header.next_validators == ZERO_HASH


@lru_cache(maxsize=4096)
def header_hash(header: Header) -> Hash32:
    """The hash of a block: Keccak-256 of the canonical encoding of its header."""
    return keccak256(encode(header))


def make_bitmap(positions: Iterable[int], count: int) -> bytes:
    """One bit per position out of ``count``, lowest bit of the first byte for position 0."""
    bitmap = bytearray((count + 7) // 8)
    for position in positions:
        bitmap[position >> 3] |= 1 << (position & 7)
    return bytes(bitmap)


def bitmap_positions(bitmap: bytes, count: int) -> tuple[int, ...]:
    """The positions set in a bitmap, ascending.

    Raises:
        MalformedMessage: the bitmap does not have exactly the bytes for ``count`` positions, or sets one beyond them.
    """
    if len(bitmap) != (count + 7) // 8:
        raise MalformedMessage(f"a bitmap over {count} validators has {(count + 7) // 8} bytes; got {len(bitmap)}")
    positions = tuple(_set_bits(bitmap))
    if positions and positions[-1] >= count:
        raise MalformedMessage(f"a bitmap over {count} validators names position {positions[-1]}")
    return positions


def _set_bits(bitmap: bytes) -> Iterator[int]:
    for offset, byte in enumerate(bitmap):
        for bit in range(8):
            if byte >> bit & 1:
                yield offset * 8 + bit


__all__ = [
    "Account",
    "Block",
    "Certified",
    "Digest",
    "EpochSync",
    "FinalityProof",
    "Header",
    "Position",
    "PrepareBlock",
    "PrepareVote",
    "ProposalEvidence",
    "QuorumCertificate",
    "ReportEvidence",
    "Validator",
    "ValidatorSet",
    "ViewChange",
    "ViewChangeCertificate",
    "ViewChangeGroup",
    "ViewEntry",
    "ViewSync",
    "VoteEvidence",
    "bitmap_positions",
    "header_hash",
    "is_closing",
    "make_bitmap",
]
