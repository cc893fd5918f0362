"""Transactions that wait for a block.

Refusals begin with the words that Ethereum clients look for (go-ethereum's ``core/txpool`` errors), and go on to say
what was found and what would do.
"""

import heapq
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Wei
from koinon.ledger.execution import BLOCK_TYPES
from koinon.ledger.state import EMPTY_CODE_HASH, Account, FinalView, StateView, account_key, read_account
from koinon.ledger.transaction import Transaction, parse_transaction

PER_SENDER: Final = 256
TOTAL: Final = 16_384
TOTAL_BYTES: Final = 64 * 1024 * 1024
_RISE_PERCENT: Final = 10


@dataclass
class _Queue:
    """What waits of one sender, by nonce, and what all of it may cost together."""

    waiting: dict[int, Transaction] = field(default_factory=dict)
    owed: int = 0


class Mempool:
    """Waiting transactions by sender and nonce. Every method may be called from any thread.

    A transaction stays until it is final, so that it is proposed again if the block it went into is not certified.

    Args:
        base_fee: wei per gas of the next block; ``settle`` moves it.
        total: how many transactions are kept at most.
        total_bytes: how many bytes of them.
    """

    def __init__(
        self, chain_id: ChainId, gas_limit: Gas, base_fee: Wei, total: int = TOTAL, total_bytes: int = TOTAL_BYTES
    ) -> None:
        self.chain_id = chain_id
        self.gas_limit = gas_limit
        self.base_fee = base_fee
        self._total = total
        self._total_bytes = total_bytes
        self._by_sender: dict[Address, _Queue] = {}
        self._by_hash: dict[Hash32, Transaction] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        self._arrivals = count()
        # The cheapest first, with entries of transactions that have left; made when the pool is full and needed.
        self._cheapest: list[tuple[bool, int, int, Transaction]] | None = None
        # Senders who may have a candidate over the state that ``has_candidate`` looked at last.
        self._looked_at: StateView | None = None
        self._hopeful: dict[Address, None] = {}

    def __len__(self) -> int:
        return len(self._by_hash)

    def get(self, transaction: Hash32) -> Transaction | None:
        return self._by_hash.get(transaction)

    # Admission

    def add(self, transaction: Transaction, state: StateView) -> bool:
        """Take a transaction in; False if it was here already.

        Args:
            state: the newest state known, against which nonce and balance are checked.

        Raises:
            Refused: it can never be part of a block here, or there is no room; says which.
        """
        if transaction.hash in self._by_hash:
            return False
        self._check_terms(transaction)
        account = read_account(state, transaction.sender)
        _check_sender(transaction, account)
        with self._lock:
            if transaction.hash in self._by_hash:
                return False
            queue = self._by_sender.get(transaction.sender) or _Queue()
            replaced = queue.waiting.get(transaction.nonce)
            if replaced is not None:
                _check_replacement(replaced, transaction)
                if self._bytes - len(replaced.raw) + len(transaction.raw) > self._total_bytes:
                    raise Refused("the transaction pool is full; a replacement may not be larger now; try again later")
            _check_funds(transaction, account, queue, replaced)
            if replaced is not None:
                self._forget(replaced)
            elif len(self._by_hash) >= self._total or self._bytes + len(transaction.raw) > self._total_bytes:
                self._make_room(transaction, account, queue, state)
            self._keep(transaction)
        return True

    def _check_terms(self, transaction: Transaction) -> None:
        """What can be said without looking at the sender. Raises Refused."""
        if transaction.kind not in BLOCK_TYPES:
            raise Refused(f"transaction type not supported: type {transaction.kind}; send type 0, 1 or 2")
        if transaction.chain_id is None:
            raise Refused(
                "only replay-protected (EIP-155) transactions allowed over RPC; sign with a chain id of "
                f"{self.chain_id}"
            )
        if transaction.chain_id != self.chain_id:
            raise Refused(
                f"invalid chain id: the transaction is signed for chain {transaction.chain_id}; "
                f"this is chain {self.chain_id}"
            )
        if transaction.gas > self.gas_limit:
            raise Refused(f"exceeds block gas limit: a block has {self.gas_limit} gas; it asks for {transaction.gas}")
        if transaction.intrinsic_gas > transaction.gas:
            raise Refused(
                f"intrinsic gas too low: the transaction needs at least {transaction.intrinsic_gas} gas; "
                f"it offers {transaction.gas}"
            )
        if transaction.maximum_fee < self.base_fee:
            raise Refused(
                f"max fee per gas less than block base fee: the transaction pays at most {transaction.maximum_fee} wei "
                f"per gas; the base fee is {self.base_fee}"
            )

    def _make_room(self, newcomer: Transaction, account: Account, queue: _Queue, state: StateView) -> None:
        """Evict the cheapest, and what cannot go into a block without it, until ``newcomer`` fits. Raises Refused."""
        follows = newcomer.nonce == account.nonce or newcomer.nonce - 1 in queue.waiting
        offer = _tip(newcomer, self.base_fee)
        if self._cheapest is None:
            self._cheapest = self._ranked(state)
        evicted: dict[Hash32, Transaction] = {}
        room = self._total_bytes - self._bytes
        while self._cheapest and (len(self._by_hash) - len(evicted) >= self._total or room < len(newcomer.raw)):
            executable, tip, _, cheapest = self._cheapest[0]
            if self._by_hash.get(cheapest.hash) is not cheapest or cheapest.hash in evicted:
                heapq.heappop(self._cheapest)
                continue
            if (executable, tip) >= (follows, offer) or cheapest.sender == newcomer.sender:
                self._cheapest = None if evicted else self._cheapest
                raise Refused(
                    f"transaction underpriced: the transaction pool is full and its cheapest offers a tip of {tip} "
                    f"wei per gas at the present base fee; this one offers {offer}; offer more or try again later"
                )
            for nonce, other in self._by_sender[cheapest.sender].waiting.items():
                if nonce >= cheapest.nonce and other.hash not in evicted:
                    evicted[other.hash] = other
                    room += len(other.raw)
        for transaction in evicted.values():
            self._forget(transaction)

    def _ranked(self, state: StateView) -> list[tuple[bool, int, int, Transaction]]:
        """All that waits as a heap: first what waits for a nonce below, then by tip, then the newest."""
        entries = []
        for sender, queue in self._by_sender.items():
            nonce = _nonce(state, sender)
            while nonce in queue.waiting:
                nonce += 1
            entries += [
                (waiting.nonce < nonce, _tip(waiting, self.base_fee), -next(self._arrivals), waiting)
                for waiting in queue.waiting.values()
            ]
        heapq.heapify(entries)
        return entries

    # Choice

    def candidates(self, state: StateView, base_fee: Wei | None = None) -> Iterator[Transaction]:
        """Transactions that could follow ``state`` at this base fee, best tip first, each sender's in order of nonce.

        Those too cheap for it are left out and stay: the base fee may fall again.
        """
        fee = self.base_fee if base_fee is None else base_fee
        with self._lock:
            queues = list(self._by_sender.items())
        heads: list[tuple[int, Hash32, Transaction, dict[int, Transaction]]] = []
        for sender, queue in queues:
            head = queue.waiting.get(_nonce(state, sender))
            if head is not None and head.maximum_fee >= fee:
                heads.append((-_tip(head, fee), head.hash, head, queue.waiting))
        heapq.heapify(heads)
        while heads:
            _, _, transaction, waiting = heads[0]
            yield transaction
            following = waiting.get(transaction.nonce + 1)
            if following is not None and following.maximum_fee >= fee:
                heapq.heapreplace(heads, (-_tip(following, fee), following.hash, following, waiting))
            else:
                heapq.heappop(heads)

    def has_candidate(self, state: StateView) -> bool:
        """Whether anything waits that could follow ``state``, now or at a lower base fee.

        Asked after every event: senders found to have nothing over a state are not looked at again until the state is
        another one or something new of theirs comes in.
        """
        with self._lock:
            if not _is_same(state, self._looked_at):
                self._looked_at = state
                self._hopeful = dict.fromkeys(self._by_sender)
            while self._hopeful:
                sender = next(iter(self._hopeful))
                queue = self._by_sender.get(sender)
                if queue is not None and _nonce(state, sender) in queue.waiting:
                    return True
                del self._hopeful[sender]
        return False

    def next_nonce(self, sender: Address, state: StateView) -> int:
        """The nonce after the sender's unbroken run of waiting transactions."""
        nonce = _nonce(state, sender)
        with self._lock:
            queue = self._by_sender.get(sender)
            while queue is not None and nonce in queue.waiting:
                nonce += 1
        return nonce

    def queues(self) -> dict[Address, dict[int, Transaction]]:
        """Everything that waits, by sender and nonce."""
        with self._lock:
            return {sender: dict(queue.waiting) for sender, queue in self._by_sender.items()}

    def all_raw(self) -> tuple[bytes, ...]:
        """Everything that waits, oldest first."""
        with self._lock:
            return tuple(transaction.raw for transaction in self._by_hash.values())

    # Departure

    def drop(self, transactions: Iterable[Transaction]) -> None:
        """Forget transactions that a block could not take."""
        with self._lock:
            for transaction in transactions:
                if self._by_hash.get(transaction.hash) is not None:
                    self._forget(self._by_hash[transaction.hash])

    def settle(self, final: Iterable[Transaction], base_fee: Wei | None = None) -> None:
        """Forget what became final, and whatever these nonces make impossible; take over the next block's base fee."""
        highest: dict[Address, int] = {}
        for transaction in final:
            highest[transaction.sender] = max(transaction.nonce, highest.get(transaction.sender, 0))
        with self._lock:
            for sender, nonce in highest.items():
                queue = self._by_sender.get(sender)
                if queue is not None:
                    for gone in [waiting for waiting in queue.waiting.values() if waiting.nonce <= nonce]:
                        self._forget(gone)
            if base_fee is not None and base_fee != self.base_fee:
                self.base_fee = base_fee
                self._cheapest = None

    def _keep(self, transaction: Transaction) -> None:
        queue = self._by_sender.setdefault(transaction.sender, _Queue())
        queue.waiting[transaction.nonce] = transaction
        queue.owed += transaction.largest_cost
        self._by_hash[transaction.hash] = transaction
        self._bytes += len(transaction.raw)
        self._hopeful[transaction.sender] = None
        if self._cheapest is not None:
            entry = (True, _tip(transaction, self.base_fee), -next(self._arrivals), transaction)
            heapq.heappush(self._cheapest, entry)

    def _forget(self, transaction: Transaction) -> None:
        del self._by_hash[transaction.hash]
        self._bytes -= len(transaction.raw)
        queue = self._by_sender[transaction.sender]
        queue.owed -= transaction.largest_cost
        del queue.waiting[transaction.nonce]
        if not queue.waiting:
            del self._by_sender[transaction.sender]


def read_offered(raw: bytes) -> Transaction:
    """Read what a client offers to the pool.

    Raises:
        MalformedMessage, Forged: as ``parse_transaction``.
        Refused: of a type that no block here holds.
    """
    check_offered_type(raw)
    return parse_transaction(raw)


def check_offered_type(raw: bytes) -> None:
    """Raises Refused for a type that no block here holds; blobs travel in a wrapping that is not even looked into."""
    if raw[:1] in (b"\x03", b"\x04"):
        raise Refused(f"transaction type not supported: type {raw[0]}; send type 0, 1 or 2")


def _is_same(state: StateView, other: StateView | None) -> bool:
    return state is other or (isinstance(state, FinalView) and isinstance(other, FinalView) and state == other)


def _nonce(state: StateView, sender: Address) -> int:
    entry = state.get(account_key(sender))
    return 0 if entry is None else int.from_bytes(entry[:8], "big")


def _tip(transaction: Transaction, base_fee: int) -> int:
    """Wei per gas for the proposer at this base fee; below zero where it cannot even pay that."""
    return min(transaction.maximum_tip, transaction.maximum_fee - base_fee)


def _check_sender(transaction: Transaction, account: Account) -> None:
    if account.code_hash != EMPTY_CODE_HASH:
        raise Refused("sender not an eoa: it is a contract; only accounts with a key send transactions (EIP-3607)")
    if transaction.nonce < account.nonce:
        raise Refused(f"nonce too low: next nonce {account.nonce}, tx nonce {transaction.nonce}")
    if transaction.nonce >= account.nonce + PER_SENDER:
        raise Refused(
            f"nonce too high: next nonce {account.nonce}, tx nonce {transaction.nonce}; at most {PER_SENDER - 1} "
            "above the account's next are kept"
        )


def _check_funds(transaction: Transaction, account: Account, queue: _Queue, replaced: Transaction | None) -> None:
    """Whether the balance covers all that waits. What an unfinalised block took already is not counted twice."""
    owed = queue.owed - (0 if replaced is None else replaced.largest_cost)
    if account.balance >= owed + transaction.largest_cost:
        return
    owed = sum(
        other.largest_cost
        for nonce, other in queue.waiting.items()
        if nonce >= account.nonce and nonce != transaction.nonce
    )
    if account.balance < owed + transaction.largest_cost:
        raise Refused(
            f"insufficient funds for gas * price + value: the sender owns {account.balance} wei; this transaction may "
            f"cost {transaction.largest_cost} and its waiting ones {owed}"
        )


def _check_replacement(old: Transaction, new: Transaction) -> None:
    wanted = 100 + _RISE_PERCENT
    if new.maximum_fee * 100 < old.maximum_fee * wanted or new.maximum_tip * 100 < old.maximum_tip * wanted:
        raise Refused(
            f"replacement transaction underpriced: a transaction with nonce {old.nonce} waits already; offer at "
            f"least {_RISE_PERCENT} % more in both fees"
        )
