"""Recovering the senders of many transactions at once, in a process of its own.

Recovery is most of what a validator's processor does for a transaction. Batches from gossip go to a worker process, so
that consensus and the RPC go on meanwhile; a few at a time are not worth the way there and are done in place. What was
recovered is remembered (``transaction.recovered``): the block that a transaction comes in finds its sender there.
"""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Final

from koinon.crypto.recovery import Signed, recover_batch
from koinon.kernel.errors import Forged, KoinonError
from koinon.kernel.ids import Address
from koinon.ledger.mempool import check_offered_type
from koinon.ledger.transaction import Transaction, UnrecoveredTransaction, read_transaction, recovered

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

WORTH_SENDING: Final = 32
_AT_ONCE: Final = 64
_log: Final = logging.getLogger("koinon.ledger.senders")


class SenderRecovery:
    """Reads offered transactions and recovers their senders. Any thread may use it.

    Args:
        processes: workers to start when the first batch comes that is worth it; 0 does everything in place.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def read_all(self, raws: Sequence[bytes]) -> list[Transaction | KoinonError]:
        """For each of what was offered to the pool the transaction, or why it is none that can be taken."""
        found: list[Transaction | KoinonError | UnrecoveredTransaction] = [_read(raw) for raw in raws]
        unknown = [one for one in found if isinstance(one, UnrecoveredTransaction)]
        senders = iter(self._recover([(one.digest, one.signature, one.parity) for one in unknown]))
        return [_signed(one, next(senders)) if isinstance(one, UnrecoveredTransaction) else one for one in found]

    def _recover(self, signed: list[Signed]) -> list[Address | None]:
        if len(signed) < WORTH_SENDING or self._processes == 0:
            return recover_batch(signed)
        try:
            parts = [
                self._started().submit(recover_batch, signed[start : start + _AT_ONCE])
                for start in range(0, len(signed), _AT_ONCE)
            ]
            return [sender for part in parts for sender in part.result()]
        except BrokenExecutor:
            _log.warning("the process that recovers senders died; another is started when there is need of one")
            self._discard()
            return recover_batch(signed)

    def _started(self) -> "ProcessPoolExecutor":
        # Late: a node that never gets a large batch does not load the machinery of processes.
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        from koinon.worker.confinement import end_with_parent

        with self._lock:
            if self._pool is None:
                # Spawned, not forked: this process has threads and an open database. A worker looks for the end of the
                # process it serves between batches at best, so it must be told when that was killed.
                spawn = get_context("spawn")
                self._pool = ProcessPoolExecutor(self._processes, spawn, initializer=end_with_parent)
            return self._pool

    def _discard(self) -> None:
        with self._lock:
            broken, self._pool = self._pool, None
        if broken is not None:
            broken.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the workers."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _read(raw: bytes) -> Transaction | KoinonError | UnrecoveredTransaction:
    known = recovered.get(raw)
    if known is not None:
        return known
    try:
        check_offered_type(raw)
        return read_transaction(raw)
    except KoinonError as problem:
        return problem


def _signed(read: UnrecoveredTransaction, sender: Address | None) -> Transaction | KoinonError:
    if sender is None:
        return Forged("no account key recovers from the signature")
    transaction = read.signed_by(sender)
    recovered.put(transaction)
    return transaction
