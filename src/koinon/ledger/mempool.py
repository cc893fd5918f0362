"""Transactions that wait for a block."""

import heapq
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Wei
from koinon.ledger.state import EMPTY_CODE_HASH, StateView, read_account
from koinon.ledger.transaction import Transaction

PER_SENDER: Final = 64
TOTAL: Final = 8192
TOTAL_BYTES: Final = 64 * 1024 * 1024
_RISE_PERCENT: Final = 10


@dataclass
class Mempool:
    """Waiting transactions by sender and nonce. Every method may be called from any thread.

    A transaction stays until it is final, so that it is proposed again if the block it went into is not certified.
    """

    chain_id: ChainId
    gas_limit: Gas
    base_fee: Wei
    _by_sender: dict[Address, dict[int, Transaction]] = field(default_factory=dict)
    _by_hash: dict[Hash32, Transaction] = field(default_factory=dict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self._by_hash)

    def get(self, transaction: Hash32) -> Transaction | None:
        return self._by_hash.get(transaction)

    def add(self, transaction: Transaction, state: StateView) -> bool:
        """Take a transaction in; False if it was here already.

        Args:
            state: the newest state known, against which nonce and balance are checked.

        Raises:
            Refused: it can never be part of a block here, or there is no room; says which.
        """
        account = read_account(state, transaction.sender)
        self._check_terms(transaction)
        if account.code_hash != EMPTY_CODE_HASH:
            raise Refused("sender is a contract; only accounts with a key can send transactions (EIP-3607)")
        if transaction.nonce < account.nonce:
            raise Refused(f"nonce too low: the transaction has nonce {transaction.nonce}, the next is {account.nonce}")
        if transaction.nonce >= account.nonce + PER_SENDER:
            raise Refused(
                f"nonce too high: the transaction has nonce {transaction.nonce}; at most {PER_SENDER - 1} above the "
                f"account's next, {account.nonce}, are kept"
            )
        with self._lock:
            if transaction.hash in self._by_hash:
                return False
            queue = self._by_sender.get(transaction.sender, {})
            replaced = queue.get(transaction.nonce)
            owed = sum(other.largest_cost for nonce, other in queue.items() if nonce != transaction.nonce)
            if account.balance < owed + transaction.largest_cost:
                raise Refused(
                    f"insufficient funds: the sender owns {account.balance} wei; this transaction may cost "
                    f"{transaction.largest_cost} and its waiting ones {owed}"
                )
            if replaced is not None:
                self._check_replacement(replaced, transaction)
            elif len(self._by_hash) >= TOTAL or self._bytes + len(transaction.raw) > TOTAL_BYTES:
                raise Refused("the transaction pool is full; try again in a moment")
            if replaced is not None:
                self._forget(replaced)
            self._by_sender.setdefault(transaction.sender, {})[transaction.nonce] = transaction
            self._by_hash[transaction.hash] = transaction
            self._bytes += len(transaction.raw)
        return True

    def _check_terms(self, transaction: Transaction) -> None:
        if transaction.chain_id is None:
            raise Refused("only replay-protected (EIP-155) transactions are taken; sign with a chain id")
        if transaction.chain_id != self.chain_id:
            raise Refused(f"the transaction is signed for chain {transaction.chain_id}; this is chain {self.chain_id}")
        if transaction.intrinsic_gas > transaction.gas:
            raise Refused(
                f"intrinsic gas too low: the transaction needs at least {transaction.intrinsic_gas} gas; "
                f"it offers {transaction.gas}"
            )
        if transaction.gas > self.gas_limit:
            raise Refused(f"exceeds block gas limit: a block has {self.gas_limit} gas; it asks for {transaction.gas}")
        if transaction.maximum_fee < self.base_fee:
            raise Refused(
                f"max fee per gas less than block base fee: the transaction pays at most {transaction.maximum_fee} wei "
                f"per gas; the base fee is {self.base_fee}"
            )

    @staticmethod
    def _check_replacement(old: Transaction, new: Transaction) -> None:
        wanted = 100 + _RISE_PERCENT
        if new.maximum_fee * 100 < old.maximum_fee * wanted or new.maximum_tip * 100 < old.maximum_tip * wanted:
            raise Refused(
                f"replacement transaction underpriced: a transaction with nonce {old.nonce} waits already; offer at "
                f"least {_RISE_PERCENT} % more in both fees"
            )

    def candidates(self, state: StateView) -> Iterable[Transaction]:
        """Transactions that could follow ``state``, best tip first, each sender's in order of nonce."""
        queues = self.queues()
        heads: list[tuple[int, Hash32, Transaction]] = []
        for sender, queue in queues.items():
            head = queue.get(read_account(state, sender).nonce)
            if head is not None:
                heads.append((self.base_fee - head.price(self.base_fee), head.hash, head))
        heapq.heapify(heads)
        while heads:
            _, _, transaction = heapq.heappop(heads)
            yield transaction
            following = queues[transaction.sender].get(transaction.nonce + 1)
            if following is not None:
                heapq.heappush(heads, (self.base_fee - following.price(self.base_fee), following.hash, following))

    def has_candidate(self, state: StateView) -> bool:
        """Whether anything waits that could follow ``state``."""
        return next(iter(self.candidates(state)), None) is not None

    def next_nonce(self, sender: Address, state: StateView) -> int:
        """The nonce after the sender's unbroken run of waiting transactions."""
        nonce = read_account(state, sender).nonce
        with self._lock:
            queue = self._by_sender.get(sender, {})
            while nonce in queue:
                nonce += 1
        return nonce

    def drop(self, transactions: Iterable[Transaction]) -> None:
        """Forget transactions that a block could not take."""
        with self._lock:
            for transaction in transactions:
                if transaction.hash in self._by_hash:
                    self._forget(transaction)

    def settle(self, final: Iterable[Transaction]) -> None:
        """Forget what became final, and whatever these nonces make impossible."""
        with self._lock:
            for transaction in final:
                queue = self._by_sender.get(transaction.sender, {})
                for nonce in [nonce for nonce in queue if nonce <= transaction.nonce]:
                    self._forget(queue[nonce])

    def queues(self) -> dict[Address, dict[int, Transaction]]:
        """Everything that waits, by sender and nonce."""
        with self._lock:
            return {sender: dict(queue) for sender, queue in self._by_sender.items()}

    def all_raw(self) -> tuple[bytes, ...]:
        """Everything that waits, oldest first."""
        with self._lock:
            return tuple(transaction.raw for transaction in self._by_hash.values())

    def _forget(self, transaction: Transaction) -> None:
        del self._by_hash[transaction.hash]
        self._bytes -= len(transaction.raw)
        queue = self._by_sender[transaction.sender]
        del queue[transaction.nonce]
        if not queue:
            del self._by_sender[transaction.sender]
