"""The durable log of one service's receipts: group commit off the event loop, one signature per batch.

``append`` stamps a receipt at once and tells when it is on disk; whatever arrives while a group is being written forms
the next group. A driver lets an answer leave only then, so a crash never loses an answered call, and two receipts with
one sequence number never exist. When the disk refuses, all calls of the group and behind it are refused with it and the
numbering goes back to what is on disk.
"""

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeAlias

from koinon.audit.group_file import GroupFile
from koinon.audit.receipts import (
    MOST_BATCHES_IN_ANCHOR,
    MOST_RECEIPTS_IN_BATCH,
    REQUEST_DOMAIN,
    RESPONSE_DOMAIN,
    Anchor,
    Batch,
    Receipt,
    ReceiptProof,
    SignedBatch,
    anchor_of,
    receipt_hash,
    sign_batch,
)
from koinon.crypto import merkle
from koinon.crypto.commitment import SALT_BYTES, commit
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.effects import Clock, Rng
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import ZERO_HASH, Hash32, NodeId
from koinon.kernel.quantities import Seconds, UnixSeconds
from koinon.market.payments import Payment

BATCH_SECONDS: Final = Seconds(0.1)
"""A receipt waits at most this long for its batch to be signed."""
RETRY_SECONDS: Final = Seconds(1.0)
"""After the disk refused, calls are turned away unasked for this long; then one may try it again."""
_FORMAT: Final = 1


class _Opening(Record, frozen=True, tag=0):
    """First entry of a log: whose it is."""

    version: int
    service: int
    node: NodeId


class _Answer(Record, frozen=True, tag=1):
    receipt: Receipt
    salt: bytes
    payment: Payment


class _Sealed(Record, frozen=True, tag=2):
    signed: SignedBatch


class _Anchored(Record, frozen=True, tag=3):
    anchor: Anchor
    transaction: Hash32


_Entry: TypeAlias = _Opening | _Answer | _Sealed | _Anchored


class _Group(Record, frozen=True):
    entries: tuple[_Entry, ...]


@dataclass(frozen=True)
class Draft:
    """What a service knows of one answer before it is stamped.

    Attributes:
        weights: SHA-256 of the ONNX bytes that answered.
        request: request body as it was decoded, after decompression.
        response: response body as it will leave.
    """

    weights: Hash32
    request: bytes
    response: bytes
    answered_at: UnixSeconds
    payment: Payment


@dataclass(frozen=True)
class Stamped:
    """A receipt that is on disk, its hash, and the salt that opens its commitments (for the caller alone)."""

    receipt: Receipt
    hash: Hash32
    salt: bytes


@dataclass
class _Position:
    """Where the log stands, with or without what is still being written."""

    sequence: int = 0
    head: Hash32 = ZERO_HASH
    sealed: int = 0
    """Receipts below this sequence are in a batch."""


@dataclass
class _Pending:
    entry: _Entry
    done: asyncio.Future[None]


@dataclass
class _Index:
    """Where each group's entries begin in the file, and all batches; a receipt itself is read from disk."""

    offsets: "array[int]" = field(default_factory=lambda: array("Q"))
    lengths: "array[int]" = field(default_factory=lambda: array("Q"))
    first_sequences: "array[int]" = field(default_factory=lambda: array("Q"))
    """First receipt of the group; equal to the next group's where a group holds none."""
    batches: list[SignedBatch] = field(default_factory=list)
    batch_starts: "array[int]" = field(default_factory=lambda: array("Q"))
    anchored: int = 0
    """Number of batches that are on the chain."""
    anchors: list[tuple[Anchor, Hash32]] = field(default_factory=list)


class ReceiptLog:
    """Receipts of one node for one service. Open it with ``ReceiptLog.open``; close it with ``await close()``.

    Attributes:
        cut_bytes: length of the torn tail that a crash had left and opening cut off.
    """

    def __init__(self, service: int, key: NodeKey, rng: Rng, clock: Clock) -> None:
        self.service = service
        self._key = key
        self._rng = rng
        self._clock = clock
        self._file: GroupFile
        self._durable = _Position()
        self._stamped = _Position()
        self._unsealed: dict[int, Hash32] = {}
        self._index = _Index()
        self._queue: list[_Pending] = []
        self._writing: asyncio.Task[None] | None = None
        self._seal_timer: asyncio.TimerHandle | None = None
        self._seal_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._anchoring = asyncio.Lock()
        self._refused: tuple[float, KoinonError] | None = None
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="receipt-log")
        self._identified = False
        self.cut_bytes = 0

    @classmethod
    async def open(
        cls,
        path: Path,
        service: int,
        key: NodeKey,
        *,
        rng: Rng,
        clock: Clock,
        replay: Callable[[Payment], None] | None = None,
    ) -> Self:
        """Open or create a log, check every link, and cut what a crash left half written.

        Args:
            path: the log file.
            service: asset number of the service.
            key: the node's key, which signs batches.
            rng: random bytes for salts.
            clock: says when to try a disk again that refused.
            replay: called with the payment of every answered call, in order.

        Raises:
            InvalidInput: the log belongs to another service or node.
            Forged: damaged before its end.
            Unavailable: in use, or the disk refuses.
        """
        log = cls(service, key, rng, clock)

        def visit(offset: int, body: bytes) -> None:
            log._recover_group(offset, body, replay)

        try:
            log._file = await asyncio.get_running_loop().run_in_executor(log._thread, GroupFile.open, path, visit)
        except BaseException:
            log._thread.shutdown(wait=False)
            raise
        log.cut_bytes = log._file.cut_bytes
        log._stamped = _Position(log._durable.sequence, log._durable.head, log._durable.sealed)
        if not log._identified:
            await log._write([_Opening(_FORMAT, service, key.node_id)])
        if log._stamped.sequence > log._stamped.sealed:
            log._schedule_seal()
        return log

    @property
    def node(self) -> NodeId:
        """Whose log it is."""
        return self._key.node_id

    @property
    def count(self) -> int:
        """Receipts on disk."""
        return self._durable.sequence

    @property
    def batches(self) -> int:
        """Signed batches on disk."""
        return len(self._index.batches)

    def check_writable(self) -> None:
        """Refuse work whose receipt could not be written: raises what the disk said for a second after it did."""
        if self._closing:
            raise Unavailable("the service is shutting down; ask another endpoint")
        if self._refused is not None and self._clock.monotonic() - self._refused[0] < RETRY_SECONDS:
            raise self._refused[1]

    def append(self, draft: Draft) -> asyncio.Future[Stamped]:
        """Stamp the next receipt.

        Returns:
            A future with the stamped receipt once it is on disk, or Unavailable when the disk refused.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Stamped] = loop.create_future()
        if self._closing:
            outcome.set_exception(Unavailable("the service is shutting down; ask another endpoint"))
            return outcome
        payment = draft.payment
        salt = self._rng.bytes(SALT_BYTES)
        receipt = Receipt(
            service=self.service,
            node=self._key.node_id,
            weights=draft.weights,
            sequence=self._stamped.sequence,
            answered_at=draft.answered_at,
            request=commit(REQUEST_DOMAIN, draft.request, salt),
            response=commit(RESPONSE_DOMAIN, draft.response, salt),
            answers=payment.answers,
            channel=payment.channel,
            cumulative=payment.cumulative,
            charged=payment.charged,
            pass_number=payment.pass_number,
            previous=self._stamped.head,
        )
        stamped = Stamped(receipt, receipt_hash(receipt), salt)
        self._stamped.sequence += 1
        self._stamped.head = stamped.hash
        self._unsealed[receipt.sequence] = stamped.hash

        def settle(written: asyncio.Future[None]) -> None:
            problem = written.exception()
            if outcome.done():
                return
            if problem is None:
                outcome.set_result(stamped)
            else:
                outcome.set_exception(problem)

        self._enqueue(_Answer(receipt, salt, payment)).add_done_callback(settle)
        if self._stamped.sequence - self._stamped.sealed >= MOST_RECEIPTS_IN_BATCH:
            self._seal()
        else:
            self._schedule_seal()
        return outcome

    async def prove(self, sequence: int) -> ReceiptProof:
        """The receipt with its path under a signed batch; waits for the batch if it is still open.

        Raises:
            InvalidInput: no such receipt.
            Unavailable: the disk refuses.
        """
        if not 0 <= sequence < self._durable.sequence:
            raise InvalidInput(f"receipt {sequence} does not exist; this log has {self._durable.sequence}")
        if sequence >= self._durable.sealed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._seal_waiters.append((sequence, waiter))
            self._schedule_seal()
            await waiter
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._prove_sealed, sequence)

    def batch_of(self, sequence: int) -> SignedBatch:
        """The signed batch a receipt is in. Raises InvalidInput if there is none yet."""
        if not 0 <= sequence < self._durable.sealed:
            raise InvalidInput(f"receipt {sequence} is in no signed batch yet")
        return self._index.batches[bisect_right(self._index.batch_starts, sequence) - 1]

    def signed_batches(self) -> tuple[SignedBatch, ...]:
        """Every batch on disk, in order; what a service node shows for a bundle."""
        return tuple(self._index.batches)

    def pending_anchors(self) -> tuple[Anchor, ...]:
        """Anchors over all signed batches that are not on the chain yet, oldest first."""
        waiting = self._index.batches[self._index.anchored :]
        return tuple(
            anchor_of(tuple(signed.batch for signed in waiting[start : start + MOST_BATCHES_IN_ANCHOR]))
            for start in range(0, len(waiting), MOST_BATCHES_IN_ANCHOR)
        )

    async def anchored(self, anchor: Anchor, transaction: Hash32) -> None:
        """Note that ``anchor`` is final on the chain.

        Raises:
            InvalidInput: not the oldest of ``pending_anchors``.
            Unavailable: the disk refuses.
        """
        async with self._anchoring:
            self._check_next_anchor(anchor)
            await self._enqueue(_Anchored(anchor, transaction))

    def anchors(self) -> tuple[tuple[Anchor, Hash32], ...]:
        """Every anchor on the chain with its transaction, in order."""
        return tuple(self._index.anchors)

    def anchored_batches(self, anchor: Anchor) -> tuple[SignedBatch, ...]:
        """The signed batches under an anchor, in order."""
        start = bisect_right(self._index.batch_starts, anchor.first_sequence) - 1
        end = bisect_right(self._index.batch_starts, anchor.first_sequence + anchor.count - 1)
        return tuple(self._index.batches[start:end])

    async def close(self) -> None:
        """Sign the open batch, write everything, give the file back."""
        self._closing = True
        if self._seal_timer is not None:
            self._seal_timer.cancel()
            self._seal_timer = None
        try:
            if self._stamped.sequence > self._stamped.sealed:
                self._seal()
            while self._writing is not None:
                await asyncio.wait([self._writing])
        finally:
            self._release_seal_waiters(Unavailable("the service is shutting down; ask another endpoint"))
            self._thread.shutdown(wait=True)
            self._file.close()

    # Sealing

    def _schedule_seal(self) -> None:
        if self._seal_timer is None and not self._closing:
            self._seal_timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._seal)

    def _seal(self) -> None:
        if self._seal_timer is not None:
            self._seal_timer.cancel()
            self._seal_timer = None
        first, end = self._stamped.sealed, self._stamped.sequence
        while first < end:
            count = min(end - first, MOST_RECEIPTS_IN_BATCH)
            leaves = [self._unsealed[sequence] for sequence in range(first, first + count)]
            batch = Batch(self.service, self._key.node_id, first, count, merkle.root(leaves))
            # A batch that cannot be written stays open; the next call or question seals again.
            self._enqueue(_Sealed(sign_batch(self._key, batch))).add_done_callback(_observe)
            first += count
        self._stamped.sealed = end

    def _release_seal_waiters(self, problem: KoinonError | None = None) -> None:
        waiting, self._seal_waiters = self._seal_waiters, []
        for sequence, waiter in waiting:
            if waiter.done():
                continue
            if problem is not None:
                waiter.set_exception(problem)
            elif sequence < self._durable.sealed:
                waiter.set_result(None)
            else:
                self._seal_waiters.append((sequence, waiter))

    # Writing

    def _enqueue(self, entry: _Entry) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        pending = _Pending(entry, loop.create_future())
        self._queue.append(pending)
        if self._writing is None:
            self._writing = loop.create_task(self._write_queue())
        return pending.done

    async def _write_queue(self) -> None:
        while self._queue:
            group, self._queue = self._queue, []
            try:
                await self._write([pending.entry for pending in group])
            except BaseException as problem:
                known = problem if isinstance(problem, KoinonError) else Unavailable("the receipt log stopped; restart")
                self._roll_back(group + self._queue, known)
                if known is problem:
                    continue
                self._writing = None
                raise
            self._refused = None
            for pending in group:
                if not pending.done.done():
                    pending.done.set_result(None)
            self._release_seal_waiters()
        self._writing = None

    async def _write(self, entries: list[_Entry]) -> None:
        body = encode(_Group(tuple(entries)))
        offset = self._file.body_offset
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.append, body)
        self._enter_group(offset, len(body), entries)

    def _roll_back(self, refused: list[_Pending], problem: KoinonError) -> None:
        self._queue = []
        self._refused = (self._clock.monotonic(), problem)
        for sequence in range(self._durable.sequence, self._stamped.sequence):
            del self._unsealed[sequence]
        self._stamped = _Position(self._durable.sequence, self._durable.head, self._durable.sealed)
        for pending in refused:
            if not pending.done.done():
                pending.done.set_exception(problem)
        self._release_seal_waiters(problem)

    def _enter_group(self, offset: int, length: int, entries: Iterable[_Entry]) -> None:
        """Take a group that is on disk into the books."""
        self._index.offsets.append(offset)
        self._index.lengths.append(length)
        self._index.first_sequences.append(self._durable.sequence)
        for entry in entries:
            self._enter(entry)

    def _enter(self, entry: _Entry) -> None:
        index, durable = self._index, self._durable
        match entry:
            case _Answer(receipt):
                durable.sequence = receipt.sequence + 1
                durable.head = self._unsealed[receipt.sequence]
            case _Sealed(signed):
                batch = signed.batch
                index.batches.append(signed)
                index.batch_starts.append(batch.first_sequence)
                durable.sealed = batch.first_sequence + batch.count
                for sequence in range(batch.first_sequence, durable.sealed):
                    del self._unsealed[sequence]
            case _Anchored(anchor, transaction):
                index.anchored += len(self.anchored_batches(anchor))
                index.anchors.append((anchor, transaction))
            case _Opening():
                self._identified = True

    # Reading back

    def _recover_group(self, offset: int, body: bytes, replay: Callable[[Payment], None] | None) -> None:
        def checked() -> Iterator[_Entry]:
            for entry in decode(_Group, body, limit=len(body)).entries:
                self._check(entry)
                yield entry
                if replay is not None and isinstance(entry, _Answer):
                    replay(entry.payment)

        self._enter_group(offset, len(body), checked())

    def _check(self, entry: _Entry) -> None:
        durable = self._durable
        match entry:
            case _Opening(version, service, node):
                if (version, service, node) != (_FORMAT, self.service, self._key.node_id):
                    raise InvalidInput("the receipt log belongs to another service or node; give this one its own")
            case _Answer(receipt):
                if (receipt.sequence, receipt.previous) != (durable.sequence, durable.head):
                    raise Forged(f"the receipt log breaks at receipt {durable.sequence}; restore a copy")
                self._unsealed[receipt.sequence] = receipt_hash(receipt)
            case _Sealed(signed):
                batch = signed.batch
                span = range(batch.first_sequence, batch.first_sequence + batch.count)
                leaves = [self._unsealed.get(sequence, ZERO_HASH) for sequence in span]
                if batch.first_sequence != durable.sealed or merkle.root(leaves) != batch.root:
                    raise Forged(f"the batch of receipt {batch.first_sequence} in the log is not of its receipts")
            case _Anchored(anchor):
                self._check_next_anchor(anchor)

    def _check_next_anchor(self, anchor: Anchor) -> None:
        waiting = self._index.batches[self._index.anchored :]
        covered = tuple(
            signed.batch
            for signed in waiting
            if signed.batch.first_sequence + signed.batch.count <= anchor.first_sequence + anchor.count
        )
        if not covered or anchor_of(covered) != anchor:
            raise InvalidInput(f"the anchor from receipt {anchor.first_sequence} is not the next one of this log")

    def _prove_sealed(self, sequence: int) -> ReceiptProof:
        signed = self.batch_of(sequence)
        batch = signed.batch
        receipts = {
            receipt.sequence: receipt
            for receipt in self._read_receipts(batch.first_sequence, batch.first_sequence + batch.count)
        }
        leaves = [receipt_hash(receipts[batch.first_sequence + i]) for i in range(batch.count)]
        return ReceiptProof(receipts[sequence], merkle.prove(leaves, sequence - batch.first_sequence), signed)

    def _read_receipts(self, start: int, end: int) -> Iterator[Receipt]:
        """Receipts of the groups that hold ``start`` to ``end``; some around them come along."""
        index = self._index
        # The last group that begins at or before `start`; groups without a receipt begin where the next one does.
        group = max(0, bisect_right(index.first_sequences, start) - 1)
        while group < len(index.offsets) and index.first_sequences[group] < end:
            body = self._file.read(index.offsets[group], index.lengths[group])
            for entry in decode(_Group, body, limit=len(body)).entries:
                if isinstance(entry, _Answer):
                    yield entry.receipt
            group += 1


def _observe(done: asyncio.Future[None]) -> None:
    """Read the outcome, so that a refusal which the callers already got is not reported twice."""
    done.exception()
