"""What a receipt log says, in memory: where it stands, what is unsealed, where each receipt lies in the file.

Entries come in the log's own order, each checked against what came before; a receipt itself stays on disk.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from koinon.audit.receipts import (
    MOST_BATCHES_IN_ANCHOR,
    Anchor,
    Receipt,
    SignedBatch,
    anchor_of,
    receipt_hash,
)
from koinon.crypto import merkle
from koinon.kernel.codec import Record
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import ZERO_HASH, Hash32, NodeId
from koinon.market.payments import Payment

FORMAT: Final = 1


class Opening(Record, frozen=True, tag=0):
    """First entry of a log: whose it is."""

    version: int
    service: int
    node: NodeId


class Answer(Record, frozen=True, tag=1):
    """One answered call: its receipt, the salt of its commitments, and the payment to replay."""

    receipt: Receipt
    salt: bytes
    payment: Payment


class Sealed(Record, frozen=True, tag=2):
    """A batch was signed."""

    signed: SignedBatch


class Anchored(Record, frozen=True, tag=3):
    """An anchor is final on the chain."""

    anchor: Anchor
    transaction: Hash32


Entry: TypeAlias = Opening | Answer | Sealed | Anchored


class Group(Record, frozen=True):
    """What is written to disk at once."""

    entries: tuple[Entry, ...]


@dataclass
class Position:
    """Where the log stands, with or without what is still being written."""

    sequence: int = 0
    head: Hash32 = ZERO_HASH
    sealed: int = 0
    """Receipts below this sequence are in a batch."""


class ReceiptBooks:
    """The books of one node for one service.

    Attributes:
        durable: where the log on disk stands.
        unsealed: hashes of receipts that are in no batch on disk yet, by sequence; those being written included.
        identified: whether the log says whose it is.
        batches: every batch on disk.
        anchors: every anchor on the chain, with its transaction.
    """

    def __init__(self, service: int, node: NodeId) -> None:
        self.service = service
        self.node = node
        self.durable = Position()
        self.unsealed: dict[int, Hash32] = {}
        self.identified = False
        self.batches: list[SignedBatch] = []
        self.anchors: list[tuple[Anchor, Hash32]] = []
        self._batch_starts = array("Q")
        self._anchored_batches = 0
        self._groups = _Groups()

    def batch_of(self, sequence: int) -> SignedBatch:
        """The signed batch a receipt is in. Raises InvalidInput if there is none yet."""
        if not 0 <= sequence < self.durable.sealed:
            raise InvalidInput(f"receipt {sequence} is in no signed batch yet")
        return self.batches[bisect_right(self._batch_starts, sequence) - 1]

    def pending_anchors(self) -> tuple[Anchor, ...]:
        """Anchors over all signed batches that are not on the chain yet, oldest first."""
        waiting = self.batches[self._anchored_batches :]
        return tuple(
            anchor_of(tuple(signed.batch for signed in waiting[start : start + MOST_BATCHES_IN_ANCHOR]))
            for start in range(0, len(waiting), MOST_BATCHES_IN_ANCHOR)
        )

    def anchored_batches(self, anchor: Anchor) -> tuple[SignedBatch, ...]:
        """The signed batches under an anchor, in order."""
        start = bisect_right(self._batch_starts, anchor.first_sequence) - 1
        end = bisect_right(self._batch_starts, anchor.first_sequence + anchor.count - 1)
        return tuple(self.batches[start:end])

    def check_next_anchor(self, anchor: Anchor) -> None:
        """Raises InvalidInput unless the anchor covers the oldest batches that are not on the chain."""
        covered = tuple(
            signed.batch
            for signed in self.batches[self._anchored_batches :]
            if signed.batch.first_sequence + signed.batch.count <= anchor.first_sequence + anchor.count
        )
        if not covered or anchor_of(covered) != anchor:
            raise InvalidInput(f"the anchor from receipt {anchor.first_sequence} is not the next one of this log")

    def places(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Offset and length of the groups that hold receipts ``start`` to ``end``; some around them come along."""
        groups = self._groups
        # The last group that begins at or before `start`; groups without a receipt begin where the next one does.
        group = max(0, bisect_right(groups.first_sequences, start) - 1)
        while group < len(groups.offsets) and groups.first_sequences[group] < end:
            yield groups.offsets[group], groups.lengths[group]
            group += 1

    def recover(self, offset: int, length: int, entries: Iterable[Entry]) -> None:
        """Enter a group read back from disk, each entry checked first.

        Raises:
            InvalidInput: the log belongs to another service or node.
            Forged: the receipts are no chain, or a batch is not of its receipts.
        """
        self._groups.append(offset, length, self.durable.sequence)
        for entry in entries:
            self._check(entry)
            self._enter(entry)

    def enter(self, offset: int, length: int, entries: Iterable[Entry]) -> None:
        """Enter a group that was just written."""
        self._groups.append(offset, length, self.durable.sequence)
        for entry in entries:
            self._enter(entry)

    def forget_unwritten(self, end: int) -> None:
        """Drop the hashes of receipts from what is on disk up to ``end``: they were refused."""
        for sequence in range(self.durable.sequence, end):
            del self.unsealed[sequence]

    def _enter(self, entry: Entry) -> None:
        durable = self.durable
        match entry:
            case Answer(receipt):
                durable.sequence = receipt.sequence + 1
                durable.head = self.unsealed[receipt.sequence]
            case Sealed(signed):
                batch = signed.batch
                self.batches.append(signed)
                self._batch_starts.append(batch.first_sequence)
                durable.sealed = batch.first_sequence + batch.count
                for sequence in range(batch.first_sequence, durable.sealed):
                    del self.unsealed[sequence]
            case Anchored(anchor, transaction):
                self._anchored_batches += len(self.anchored_batches(anchor))
                self.anchors.append((anchor, transaction))
            case Opening():
                self.identified = True

    def _check(self, entry: Entry) -> None:
        durable = self.durable
        match entry:
            case Opening(version, service, node):
                if (version, service, node) != (FORMAT, self.service, self.node):
                    raise InvalidInput("the receipt log belongs to another service or node; give this one its own")
            case Answer(receipt):
                if (receipt.sequence, receipt.previous) != (durable.sequence, durable.head):
                    raise Forged(f"the receipt log breaks at receipt {durable.sequence}; restore a copy")
                self.unsealed[receipt.sequence] = receipt_hash(receipt)
            case Sealed(signed):
                batch = signed.batch
                span = range(batch.first_sequence, batch.first_sequence + batch.count)
                leaves = [self.unsealed.get(sequence, ZERO_HASH) for sequence in span]
                if batch.first_sequence != durable.sealed or merkle.root(leaves) != batch.root:
                    raise Forged(f"the batch of receipt {batch.first_sequence} in the log is not of its receipts")
            case Anchored(anchor):
                self.check_next_anchor(anchor)


@dataclass
class _Groups:
    """Where the groups of the file lie, and the first receipt of each: the next one's, where it holds none."""

    offsets: "array[int]" = field(default_factory=lambda: array("Q"))
    lengths: "array[int]" = field(default_factory=lambda: array("Q"))
    first_sequences: "array[int]" = field(default_factory=lambda: array("Q"))

    def append(self, offset: int, length: int, first_sequence: int) -> None:
        self.offsets.append(offset)
        self.lengths.append(length)
        self.first_sequences.append(first_sequence)
