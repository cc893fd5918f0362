"""The durable log of one service's receipts: group commit off the event loop, one signature per batch.

``append`` stamps a receipt at once and tells when it is on disk; whatever arrives while a group is being written forms
the next group. A driver lets an answer leave only then, so a crash never loses an answered call, and two receipts with
one sequence number never exist. When the disk refuses, all calls of the group and behind it are refused with it and the
numbering goes back to what is on disk.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from koinon.audit.group_file import GroupFile
from koinon.audit.receipt_books import FORMAT, Anchored, Answer, Entry, Group, Opening, Position, ReceiptBooks, Sealed
from koinon.audit.receipts import (
    MOST_RECEIPTS_IN_BATCH,
    REQUEST_DOMAIN,
    RESPONSE_DOMAIN,
    Anchor,
    Batch,
    Receipt,
    ReceiptProof,
    SignedBatch,
    receipt_hash,
    sign_batch,
)
from koinon.crypto import merkle
from koinon.crypto.commitment import SALT_BYTES, commit
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Clock, Rng
from koinon.kernel.errors import InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import Hash32, NodeId
from koinon.kernel.quantities import Seconds, UnixSeconds
from koinon.market.payments import Payment

BATCH_SECONDS: Final = Seconds(0.1)
"""A receipt waits at most this long for its batch to be signed."""
RETRY_SECONDS: Final = Seconds(1.0)
"""After the disk refused, calls are turned away unasked for this long; then one may try it again."""


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
class _Pending:
    entry: Entry
    done: asyncio.Future[None]


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
        self._books = ReceiptBooks(service, key.node_id)
        self._stamped = Position()
        self._queue: list[_Pending] = []
        self._writing: asyncio.Task[None] | None = None
        self._seal_timer: asyncio.TimerHandle | None = None
        self._seal_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._anchoring = asyncio.Lock()
        self._refused: tuple[float, KoinonError] | None = None
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="receipt-log")
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
            entries = decode(Group, body, limit=len(body)).entries
            log._books.recover(offset, len(body), entries)
            if replay is not None:
                for entry in entries:
                    if isinstance(entry, Answer):
                        replay(entry.payment)

        try:
            log._file = await asyncio.get_running_loop().run_in_executor(log._thread, GroupFile.open, path, visit)
        except BaseException:
            log._thread.shutdown(wait=False)
            raise
        log.cut_bytes = log._file.cut_bytes
        log._stamped = replace(log._books.durable)
        if not log._books.identified:
            await log._write([Opening(FORMAT, service, key.node_id)])
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
        return self._books.durable.sequence

    @property
    def batches(self) -> int:
        """Signed batches on disk."""
        return len(self._books.batches)

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
        self._books.unsealed[receipt.sequence] = stamped.hash

        def settle(written: asyncio.Future[None]) -> None:
            problem = written.exception()
            if outcome.done():
                return
            if problem is None:
                outcome.set_result(stamped)
            else:
                outcome.set_exception(problem)

        self._enqueue(Answer(receipt, salt, payment)).add_done_callback(settle)
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
        if not 0 <= sequence < self._books.durable.sequence:
            raise InvalidInput(f"receipt {sequence} does not exist; this log has {self._books.durable.sequence}")
        if sequence >= self._books.durable.sealed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._seal_waiters.append((sequence, waiter))
            self._schedule_seal()
            await waiter
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._prove_sealed, sequence)

    def batch_of(self, sequence: int) -> SignedBatch:
        """The signed batch a receipt is in. Raises InvalidInput if there is none yet."""
        return self._books.batch_of(sequence)

    def signed_batches(self) -> tuple[SignedBatch, ...]:
        """Every batch on disk, in order; what a service node shows for a bundle."""
        return tuple(self._books.batches)

    def pending_anchors(self) -> tuple[Anchor, ...]:
        """Anchors over all signed batches that are not on the chain yet, oldest first."""
        return self._books.pending_anchors()

    async def anchored(self, anchor: Anchor, transaction: Hash32) -> None:
        """Note that ``anchor`` is final on the chain.

        Raises:
            InvalidInput: it does not cover the oldest batches that are not on the chain.
            Unavailable: the disk refuses.
        """
        async with self._anchoring:
            self._books.check_next_anchor(anchor)
            await self._enqueue(Anchored(anchor, transaction))

    def anchors(self) -> tuple[tuple[Anchor, Hash32], ...]:
        """Every anchor on the chain with its transaction, in order."""
        return tuple(self._books.anchors)

    def anchored_batches(self, anchor: Anchor) -> tuple[SignedBatch, ...]:
        """The signed batches under an anchor, in order."""
        return self._books.anchored_batches(anchor)

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
            leaves = [self._books.unsealed[sequence] for sequence in range(first, first + count)]
            batch = Batch(self.service, self._key.node_id, first, count, merkle.root(leaves))
            # A batch that cannot be written stays open; the next call or question seals again.
            self._enqueue(Sealed(sign_batch(self._key, batch))).add_done_callback(_observe)
            first += count
        self._stamped.sealed = end

    def _release_seal_waiters(self, problem: KoinonError | None = None) -> None:
        waiting, self._seal_waiters = self._seal_waiters, []
        for sequence, waiter in waiting:
            if waiter.done():
                continue
            if problem is not None:
                waiter.set_exception(problem)
            elif sequence < self._books.durable.sealed:
                waiter.set_result(None)
            else:
                self._seal_waiters.append((sequence, waiter))

    # Writing

    def _enqueue(self, entry: Entry) -> asyncio.Future[None]:
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
                self._writing, self._closing = None, True
                raise
            self._refused = None
            for pending in group:
                if not pending.done.done():
                    pending.done.set_result(None)
            self._release_seal_waiters()
        self._writing = None

    async def _write(self, entries: list[Entry]) -> None:
        body = encode(Group(tuple(entries)))
        offset = self._file.body_offset
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.append, body)
        self._books.enter(offset, len(body), entries)

    def _roll_back(self, refused: list[_Pending], problem: KoinonError) -> None:
        self._queue = []
        self._refused = (self._clock.monotonic(), problem)
        self._books.forget_unwritten(self._stamped.sequence)
        self._stamped = replace(self._books.durable)
        for pending in refused:
            if not pending.done.done():
                pending.done.set_exception(problem)
        self._release_seal_waiters(problem)

    def _prove_sealed(self, sequence: int) -> ReceiptProof:
        """Runs in the log's thread: the batch's receipts are read back from disk."""
        signed = self._books.batch_of(sequence)
        first, end = signed.batch.first_sequence, signed.batch.first_sequence + signed.batch.count
        receipts: dict[int, Receipt] = {}
        for offset, length in self._books.places(first, end):
            for entry in decode(Group, self._file.read(offset, length), limit=length).entries:
                if isinstance(entry, Answer):
                    receipts[entry.receipt.sequence] = entry.receipt
        leaves = [receipt_hash(receipts[number]) for number in range(first, end)]
        return ReceiptProof(receipts[sequence], merkle.prove(leaves, sequence - first), signed)


def _observe(done: asyncio.Future[None]) -> None:
    """Read the outcome, so that a refusal which the callers already got is not reported twice."""
    done.exception()
