"""Consensus messages (0x02xx): what validators sign, and the blocks and certificates their signatures speak of.

Positions (``proposer``, ``voter``, ``sender``) count from 0 in the validator set of the epoch. Bitmaps have one bit per
position, the lowest bit of the first byte for position 0, and no byte more than the set needs.
"""

from typing import Annotated, Final

from msgspec import Meta

from koinon.kernel.codec import Record
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import BlockIndex, ChainId, Epoch, Gas, Height, UnixSeconds, View, Wei
from koinon.wire.catalogue import Message, message

BLOOM_BYTES: Final = 256
MAXIMUM_BLOCK_BYTES: Final = 4 * 1024 * 1024
_LARGEST: Final = 2**62

Digest = Annotated[Hash32, Meta(min_length=32, max_length=32)]
Account = Annotated[Address, Meta(min_length=20, max_length=20)]
VoteSignature = Annotated[bytes, Meta(min_length=1, max_length=96)]
Bitmap = Annotated[bytes, Meta(min_length=1, max_length=128)]
Position = Annotated[int, Meta(ge=0, lt=1024)]
HeightField = Annotated[Height, Meta(ge=0, le=_LARGEST)]
ViewField = Annotated[View, Meta(ge=0, le=_LARGEST)]
EpochField = Annotated[Epoch, Meta(ge=0, le=_LARGEST)]
IndexField = Annotated[BlockIndex, Meta(ge=0, le=65_535)]
GasField = Annotated[Gas, Meta(ge=0, le=_LARGEST)]


class Header(Record, frozen=True):
    """What the hash of a block covers. The state root is that of this very block, after its transactions.

    Attributes:
        beneficiary: account that receives the tips; the proposer's.
        timestamp: Unix seconds, never below the parent's.
        randomness_proof: the proposer's proof of the random function over the parent's mix; empty in genesis.
        mix: SHA-256 of the proof; the EVM's PREVRANDAO.
        validators: hash of the set that signs this block.
        next_validators: hash of the set that signs the next one; another only in the last block of an epoch, and zero
            in a closing block, which no set goes on from.
        bloom: 256 bytes as the yellow paper has them, or empty where no log was written.
        base_fee: wei per gas, burnt.
    """

    chain_id: Annotated[ChainId, Meta(ge=1, le=_LARGEST)]
    height: HeightField
    epoch: EpochField
    view: ViewField
    index: IndexField
    parent: Digest
    proposer: Position
    beneficiary: Account
    timestamp: Annotated[UnixSeconds, Meta(ge=0, le=_LARGEST)]
    randomness_proof: Annotated[bytes, Meta(max_length=96)]
    mix: Digest
    state_root: Digest
    transactions_root: Digest
    receipts_root: Digest
    validators: Digest
    next_validators: Digest
    bloom: Annotated[bytes, Meta(max_length=BLOOM_BYTES)]
    gas_limit: GasField
    gas_used: GasField
    base_fee: Annotated[Wei, Meta(ge=0, le=_LARGEST)]


class Block(Record, frozen=True):
    """A header and the raw signed transactions it commits to, in order."""

    header: Header
    transactions: tuple[bytes, ...]


class QuorumCertificate(Record, frozen=True):
    """Prepare votes of a quorum for one block, added up to one signature."""

    epoch: EpochField
    view: ViewField
    index: IndexField
    height: HeightField
    block: Digest
    signers: Bitmap
    signature: VoteSignature


class ViewChangeGroup(Record, frozen=True):
    """Validators that reported the same highest certified block, with their signatures added up."""

    view: ViewField
    index: IndexField
    height: HeightField
    block: Digest
    signers: Bitmap
    signature: VoteSignature


class ViewChangeCertificate(Record, frozen=True):
    """A quorum left ``view`` by time-out. Who receives it works out the highest reported block for itself."""

    epoch: EpochField
    view: ViewField
    groups: Annotated[tuple[ViewChangeGroup, ...], Meta(min_length=1, max_length=1024)]
    highest: QuorumCertificate


class ViewEntry(Record, frozen=True):
    """What lets anybody enter a view: the certificate of the last block of the view before, or that view's view-change
    certificate. Exactly one of the two."""

    certificate: QuorumCertificate | None
    view_change: ViewChangeCertificate | None


class FinalityProof(Record, frozen=True):
    """Shows that the first header's block is final: the headers are a chain, and the certificates belong to its last
    three, whose views follow one another without a gap."""

    headers: Annotated[tuple[Header, ...], Meta(min_length=3, max_length=4096)]
    certificates: Annotated[tuple[QuorumCertificate, ...], Meta(min_length=3, max_length=3)]


@message(0x0201, limit=MAXIMUM_BLOCK_BYTES + 256 * 1024)
class PrepareBlock(Message, frozen=True):
    """A proposer's block. The first of a view carries what justifies it: the certificate of its parent and, if the
    view before timed out, the view-change certificate."""

    block: Block
    parent_certificate: QuorumCertificate | None
    view_change: ViewChangeCertificate | None
    signature: VoteSignature


@message(0x0202, limit=4096)
class PrepareVote(Message, frozen=True):
    """One validator's vote for one block; broadcast once the parent is certified."""

    epoch: EpochField
    view: ViewField
    index: IndexField
    height: HeightField
    block: Digest
    voter: Position
    signature: VoteSignature


@message(0x0203, limit=512 * 1024)
class ViewChange(Message, frozen=True):
    """A validator stops voting in ``view`` and reports its highest certified block.

    ``entry`` (not covered by the signature) lets a validator that is behind enter ``view`` too.
    """

    epoch: EpochField
    view: ViewField
    sender: Position
    highest: QuorumCertificate
    entry: ViewEntry
    signature: VoteSignature


@message(0x0204, limit=512 * 1024)
class ViewSync(Message, frozen=True):
    """Answer to a validator that speaks of a view long left: how this one entered the view it is in."""

    entry: ViewEntry


@message(0x0205, limit=512 * 1024)
class EpochSync(Message, frozen=True):
    """Answer to a validator that speaks of an epoch that is over: the proof that its last block is final.

    The headers above the first are those of closing blocks, which are empty, so that they are whole blocks.
    """

    proof: FinalityProof


@message(0x0206, limit=4096)
class Certified(Message, frozen=True):
    """The certificate that the proposer of a view made of the votes it collected, where votes go to it alone."""

    certificate: QuorumCertificate


ConsensusMessage = PrepareBlock | PrepareVote | ViewChange | ViewSync | EpochSync | Certified


class ProposalEvidence(Record, frozen=True):
    """Two blocks one proposer signed for the same view and index."""

    first: Header
    first_signature: VoteSignature
    second: Header
    second_signature: VoteSignature


class VoteEvidence(Record, frozen=True):
    """Two votes of one validator for different blocks at the same view and index, or the same view and height."""

    first: PrepareVote
    second: PrepareVote


class ReportEvidence(Record, frozen=True):
    """A vote, and the same validator's view change out of that view or a later one that reports less than the parent of
    the block voted for. ``reported`` has the validator alone as signer and its signature of the view change."""

    vote: PrepareVote
    left: ViewField
    reported: ViewChangeGroup
