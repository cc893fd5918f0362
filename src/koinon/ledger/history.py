"""Final history in the store: headers, transactions, receipts, certificates, and where to find them.

Keys of the store beside the state's (``koinon.ledger.state``) and the log index's (``koinon.ledger.logs``); heights are
eight bytes, big-endian:

    m/genesis          hash of the genesis record       h + block hash     height
    m/height           height of the last final block   t + hash           height, place (4 bytes) of a transaction and
    m/oldest           lowest height with its body                         number (4 bytes) of its first log
    m/headers          lowest height with its header, as are all above
    e + height         header                           f + height         finality proof of this block
    b + height         transactions                     p + height         height of the nearest proof at or above it
    r + height         receipts                         u + height
    o + epoch          how it ended, if a snapshot told
    q + height         certificate of the block             + block hash   unfinalised block that was voted for
    v + epoch          its validators, from 1 on        d + key hash       evidence of double signing
                                                        m/safety           what Giskard persisted last

Pruning takes the bodies (transactions, receipts, places, log index) of old blocks away; headers, certificates and
finality proofs stay, so a pruned node still proves every header final.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Store, StoreView
from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Height
from koinon.ledger.execution import ExecutedBlock, Receipt
from koinon.ledger.logs import candidate_heights, index_keys
from koinon.ledger.types import Block, FinalityProof, Header, QuorumCertificate, header_hash
from koinon.wire.ledger import EpochEnd

GENESIS_KEY: Final = b"m/genesis"
HEIGHT_KEY: Final = b"m/height"
OLDEST_KEY: Final = b"m/oldest"
HEADERS_KEY: Final = b"m/headers"
PROGRESS_KEY: Final = b"m/snapshot"
"""Present while the state is being replaced by a snapshot's (``koinon.ledger.snapshot_import``)."""
LEAST_KEPT: Final = 256
"""Bodies that every node keeps: what it answers peers with that were away for a moment."""
_PRUNED_AT_ONCE: Final = 64
"""Blocks pruned with one final block, so that a node told to keep less does not stall."""
_LONGEST_PROOF: Final = 4000
_receipts_of: Final = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...])


def number(height: int) -> bytes:
    """A height as it stands in keys."""
    return height.to_bytes(8, "big")


@dataclass(frozen=True)
class TransactionPlace:
    """Where a final transaction stands; ``first_log`` is the number in the block of its first log."""

    height: Height
    index: int
    first_log: int


@dataclass(frozen=True)
class PlacedReceipt:
    """A final receipt and where it stands."""

    place: TransactionPlace
    receipt: Receipt


class History:
    """Reads final blocks; any thread may. ``height`` says which is the last."""

    def __init__(self, store: StoreView) -> None:
        self._reader = store

    @property
    def final_height(self) -> Height:
        return Height(int.from_bytes(self._reader.get(HEIGHT_KEY) or b"", "big"))

    @property
    def oldest_body(self) -> Height:
        """The lowest height whose transactions and receipts are kept."""
        return Height(int.from_bytes(self._reader.get(OLDEST_KEY) or b"", "big"))

    @property
    def oldest_header(self) -> Height:
        """The lowest height whose header is kept: 0, until a node that began from a snapshot has fetched them all."""
        return Height(int.from_bytes(self._reader.get(HEADERS_KEY) or b"", "big"))

    @property
    def final_header(self) -> Header:
        return self.header_at(self.final_height)

    def header_at(self, height: int) -> Header:
        """Header of a final block. Raises Unavailable above the last."""
        entry = self._entry(b"e", height)
        if entry is None:
            raise self._not_final(height)
        return decode(Header, entry)

    def block_at(self, height: int) -> Block:
        """A final block. Raises Unavailable above the last, and where the body has been pruned."""
        header = self.header_at(height)
        return Block(header, decode(tuple[bytes, ...], self._body(b"b", height)))

    def receipts_at(self, height: int) -> tuple[Receipt, ...]:
        """Receipts of a final block, in order. Raises Unavailable above the last, and where they were pruned."""
        return _decode_receipts(self._body(b"r", height))

    def receipt_of(self, transaction: Hash32) -> PlacedReceipt | None:
        """The receipt of a final transaction, read without those beside it; None if it is not final or was pruned."""
        place = self.place_of(transaction)
        if place is None:
            return None
        encoded = _receipts_of.decode(self._body(b"r", place.height))
        return PlacedReceipt(place, decode(Receipt, bytes(encoded[place.index])))

    def height_of(self, block: Hash32) -> Height | None:
        """Height of a final block by its hash."""
        entry = self._reader.get(b"h" + block)
        return None if entry is None else Height(int.from_bytes(entry, "big"))

    def certificate_at(self, height: int) -> QuorumCertificate:
        """Certificate of a final block. Raises Unavailable above the last."""
        entry = self._entry(b"q", height)
        if entry is None:
            raise self._not_final(height)
        return decode(QuorumCertificate, entry)

    def place_of(self, transaction: Hash32) -> TransactionPlace | None:
        """Where a final transaction stands, None if it is not final or was pruned."""
        entry = self._reader.get(b"t" + transaction)
        if entry is None:
            return None
        height, index, first_log = (int.from_bytes(part, "big") for part in (entry[:8], entry[8:12], entry[12:]))
        return TransactionPlace(Height(height), index, first_log)

    def log_heights(
        self, first: int, last: int, addresses: Collection[Address], topics: Sequence[Collection[bytes]]
    ) -> Iterator[Height]:
        """Heights of final blocks in which a log may fit (``logs.candidate_heights``).

        Raises:
            Unavailable: the range begins where receipts have been pruned.
        """
        self._check_kept(first)
        return candidate_heights(self._reader, first, min(last, self.final_height), addresses, topics)

    def finality_proof(self, height: int) -> FinalityProof:
        """Headers from ``height`` to the nearest block proven final and the two above it, with their certificates.

        Raises:
            Unavailable: the block is not final yet, is genesis, or the proof would be too long.
        """
        entry = self._entry(b"p", height) if height > 0 else None
        if entry is None:
            raise Unavailable(f"block {height} has no finality proof; blocks 1 to {self.final_height} have")
        proven = int.from_bytes(entry, "big")
        if proven - height > _LONGEST_PROOF:
            raise Unavailable(f"the finality proof of block {height} would hold {proven - height} headers")
        stored = self._reader.get(b"f" + entry)
        assert stored is not None, "both are written together"
        proof = decode(FinalityProof, stored)
        below = tuple(self.header_at(between) for between in range(height, proven))
        return FinalityProof((*below, *proof.headers), proof.certificates)

    def epoch_end(self, epoch: int, last: int) -> EpochEnd:
        """How an epoch whose last block, at height ``last``, is final handed over to the next."""
        kept = self._reader.get(b"o" + number(epoch))
        if kept is not None:
            return decode(EpochEnd, kept)
        members = self._reader.get(b"v" + number(epoch + 1))
        assert members is not None, "the next set is written with the block that decides on it"
        return EpochEnd(self.finality_proof(last), members)

    def _entry(self, kind: bytes, height: int) -> bytes | None:
        return self._reader.get(kind + number(height)) if 0 <= height < 2**63 else None

    def _body(self, kind: bytes, height: int) -> bytes:
        entry = self._entry(kind, height)
        if entry is None:
            self._check_kept(height)
            raise self._not_final(height)
        return entry

    def _check_kept(self, height: int) -> None:
        if height < self.oldest_body:
            raise Unavailable(
                f"the transactions and receipts of block {height} were pruned; this node keeps them from block "
                f"{self.oldest_body} on"
            )

    def _not_final(self, height: int) -> Unavailable:
        if height < self.oldest_header:
            return Unavailable(f"the headers below block {self.oldest_header} have not been fetched yet; ask later")
        return Unavailable(f"block {height} is not final; the last final block is {self.final_height}")


def _decode_receipts(entry: bytes) -> tuple[Receipt, ...]:
    # Logs may fill a block of the largest gas limit with more than a message holds; the entry is our own.
    return decode(tuple[Receipt, ...], entry, limit=len(entry))


def header_entries(header: Header) -> dict[bytes, bytes]:
    """What the store holds of a header alone."""
    return {b"e" + number(header.height): encode(header), b"h" + header_hash(header): number(header.height)}


def block_entries(
    block: Block, certificate: QuorumCertificate, executed: ExecutedBlock, proven: Height
) -> dict[bytes, bytes]:
    """What the store holds of a block that is final by the proof at ``proven``."""
    at = number(block.header.height)
    put = {
        **header_entries(block.header),
        b"b" + at: encode(block.transactions),
        b"q" + at: encode(certificate),
        b"r" + at: encode([msgspec.Raw(receipt) for receipt in executed.encoded_receipts]),
        b"p" + at: number(proven),
    }
    logs = 0
    for index, receipt in enumerate(executed.receipts):
        put[b"t" + receipt.transaction] = at + index.to_bytes(4, "big") + logs.to_bytes(4, "big")
        logs += len(receipt.logs)
    if logs:
        put.update(dict.fromkeys(index_keys(executed.receipts, block.header.height), b"\x01"))
    return put


def pruning(store: Store, keep: int, final_height: Height) -> tuple[Mapping[bytes, bytes], list[bytes]]:
    """What to write and delete so that bodies of about the last ``keep`` blocks stay; a bounded number at once."""
    oldest = int.from_bytes(store.get(OLDEST_KEY) or b"", "big")
    end = min(final_height - max(keep, LEAST_KEPT) + 1, oldest + _PRUNED_AT_ONCE)
    if end <= oldest:
        return {}, []
    gone: list[bytes] = []
    for height in range(oldest, end):
        at = number(height)
        entry = store.get(b"r" + at)
        if entry is not None:
            receipts = _decode_receipts(entry)
            gone.extend(b"t" + receipt.transaction for receipt in receipts)
            gone.extend(index_keys(receipts, Height(height)))
        gone += [b"b" + at, b"r" + at]
    return {OLDEST_KEY: number(end)}, gone
