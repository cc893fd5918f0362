"""Ledger messages (0x03xx): transactions on their way to a block, and blocks for who was away."""

from typing import Annotated

from msgspec import Meta

from koinon.wire.catalogue import Message, message
from koinon.wire.consensus import (
    MAXIMUM_BLOCK_BYTES,
    Block,
    Digest,
    FinalityProof,
    HeightField,
    PrepareBlock,
    QuorumCertificate,
    ViewField,
)

MAXIMUM_TRANSACTION_BYTES = 128 * 1024
MAXIMUM_RANGE_BYTES = 8 * 1024 * 1024


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

    A range that reaches the last block of an epoch stops there, with the proof that the epoch has ended.
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
    """Where a validator stands."""

    genesis: Digest
    final_height: HeightField
    final_block: Digest
    view: ViewField


@message(0x0307, answers=(LedgerStatus,), limit=1024)
class StatusRequest(Message, frozen=True):
    """Asks where a validator stands."""


__all__ = [
    "BlockAnswer",
    "BlockRange",
    "BlockRequest",
    "LedgerStatus",
    "RangeRequest",
    "StatusRequest",
    "TransactionBatch",
]
