"""Ledger messages (0x03xx): transactions on their way to a block, and blocks for who was away."""

from typing import Annotated

from msgspec import Meta

from koinon.kernel.codec import Record
from koinon.wire.catalogue import Message, message
from koinon.wire.consensus import (
    MAXIMUM_BLOCK_BYTES,
    Block,
    Digest,
    FinalityProof,
    Header,
    HeightField,
    PrepareBlock,
    QuorumCertificate,
    ViewField,
)

MAXIMUM_TRANSACTION_BYTES = 128 * 1024
MAXIMUM_RANGE_BYTES = 8 * 1024 * 1024
MOST_HASHES = 512
LARGEST_SNAPSHOT_CHUNK = 1024 * 1024
LARGEST_MANIFEST = 15 * 1024 * 1024


@message(0x0301, limit=1024 * 1024)
class TransactionBatch(Message, frozen=True):
    """Signed transactions (EIP-2718 encodings) that a validator accepted from a client."""

    transactions: Annotated[
        tuple[Annotated[bytes, Meta(min_length=1, max_length=MAXIMUM_TRANSACTION_BYTES)], ...],
        Meta(min_length=1, max_length=512),
    ]


@message(0x0302, limit=MAXIMUM_BLOCK_BYTES + 256 * 1024)
class BlockAnswer(Message, frozen=True):
    """An unfinalised block as its proposer signed it, with its certificate where the sender has one."""

    proposal: PrepareBlock | None
    certificate: QuorumCertificate | None


@message(0x0303, answers=(BlockAnswer,), limit=1024)
class BlockRequest(Message, frozen=True):
    """Asks for one block by its hash; for blocks that are not final yet."""

    block: Digest


@message(0x0304, limit=MAXIMUM_RANGE_BYTES + 1024 * 1024)
class BlockRange(Message, frozen=True):
    """Consecutive final blocks from the height asked for, each with its certificate; empty past the sender's last.

    A range that reaches the last block of an epoch stops there. There, and where it ends with the sender's last final
    block, it holds the proof that its last block is final.
    """

    blocks: Annotated[tuple[Block, ...], Meta(max_length=256)]
    certificates: Annotated[tuple[QuorumCertificate, ...], Meta(max_length=256)]
    end: FinalityProof | None


@message(0x0305, answers=(BlockRange,), limit=1024)
class RangeRequest(Message, frozen=True):
    """Asks for final blocks from a height on; the answer holds as many as fit."""

    first: HeightField
    count: Annotated[int, Meta(ge=1, le=256)]


@message(0x0306, limit=1024)
class LedgerStatus(Message, frozen=True):
    """Where a validator stands; it keeps the transactions of blocks from ``oldest_body`` on."""

    genesis: Digest
    final_height: HeightField
    final_block: Digest
    view: ViewField
    oldest_body: HeightField


@message(0x0307, answers=(LedgerStatus,), limit=1024)
class StatusRequest(Message, frozen=True):
    """Asks where a validator stands."""


class SnapshotChunkEntry(Record, frozen=True):
    """One chunk of a snapshot: the BLAKE3 hash of its bytes, and how many they are."""

    digest: Digest
    size: Annotated[int, Meta(ge=1, le=LARGEST_SNAPSHOT_CHUNK)]


class EpochEnd(Record, frozen=True):
    """How one epoch handed over to the next.

    Attributes:
        proof: that the epoch's last block is final; its header commits to the next validator set.
        members: canonical encoding of the next set's members; its Keccak-256 is what the header commits to.
    """

    proof: FinalityProof
    members: Annotated[bytes, Meta(min_length=1, max_length=256 * 1024)]


class SnapshotManifest(Record, frozen=True):
    """What a snapshot of the state holds and what proves it.

    The state belongs to the first header of ``proof``: it is right exactly if its lattice hash is that header's state
    root, and the header is final by the proof. Nothing else in here is trusted.

    Attributes:
        genesis: hash of the chain's genesis record.
        certificate: of the block.
        ancestors: the headers below the block that contracts can ask the hashes of, ascending, the parent last.
        epochs: how each epoch before the one after the block ended, from the first on.
        entries: how many entries all chunks hold.
        chunks: in order of their keys.
    """

    genesis: Digest
    proof: FinalityProof
    certificate: QuorumCertificate
    ancestors: Annotated[tuple[Header, ...], Meta(max_length=256)]
    epochs: Annotated[tuple[EpochEnd, ...], Meta(max_length=16_384)]
    entries: Annotated[int, Meta(ge=0, le=2**62)]
    chunks: Annotated[tuple[SnapshotChunkEntry, ...], Meta(max_length=65_536)]


@message(0x0308, limit=LARGEST_MANIFEST + 1024)
class SnapshotOffer(Message, frozen=True):
    """A snapshot that the sender holds and will give out chunk by chunk."""

    manifest: SnapshotManifest


@message(0x0309, answers=(SnapshotOffer,), limit=64)
class SnapshotRequest(Message, frozen=True):
    """Asks for a snapshot of the state after a recent final block."""


@message(0x030A, limit=LARGEST_SNAPSHOT_CHUNK + 64)
class SnapshotChunk(Message, frozen=True):
    """The bytes of a chunk; whoever asked checks their hash."""

    data: Annotated[bytes, Meta(min_length=1, max_length=LARGEST_SNAPSHOT_CHUNK)]


@message(0x030B, answers=(SnapshotChunk,), limit=128)
class SnapshotChunkRequest(Message, frozen=True):
    """Asks for one chunk of the snapshot whose manifest has this BLAKE3 hash."""

    manifest: Digest
    index: Annotated[int, Meta(ge=0, lt=65_536)]


@message(0x030C, limit=2 * 1024 * 1024)
class HeaderRange(Message, frozen=True):
    """Consecutive final headers from the height asked for; empty past the sender's last."""

    headers: Annotated[tuple[Header, ...], Meta(max_length=512)]


@message(0x030D, answers=(HeaderRange,), limit=64)
class HeaderRequest(Message, frozen=True):
    """Asks for final headers from a height on."""

    first: HeightField
    count: Annotated[int, Meta(ge=1, le=512)]


@message(0x030E, limit=32 * 1024)
class TransactionHashes(Message, frozen=True):
    """Transactions that the sender took in and will give to who asks."""

    hashes: Annotated[tuple[Digest, ...], Meta(min_length=1, max_length=MOST_HASHES)]


@message(0x030F, answers=(TransactionBatch,), limit=32 * 1024)
class TransactionRequest(Message, frozen=True):
    """Asks for waiting transactions by their hashes; the answer holds those that wait there and fit."""

    hashes: Annotated[tuple[Digest, ...], Meta(min_length=1, max_length=MOST_HASHES)]


__all__ = [
    "BlockAnswer",
    "BlockRange",
    "BlockRequest",
    "EpochEnd",
    "HeaderRange",
    "HeaderRequest",
    "LedgerStatus",
    "RangeRequest",
    "SnapshotChunk",
    "SnapshotChunkEntry",
    "SnapshotChunkRequest",
    "SnapshotManifest",
    "SnapshotOffer",
    "SnapshotRequest",
    "StatusRequest",
    "TransactionBatch",
    "TransactionHashes",
    "TransactionRequest",
]
