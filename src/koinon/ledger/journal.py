"""Accounts, storage, logs, refunds and access sets during a block, with nested checkpoints.

What contracts read and write. Every machine (EVM, WASM) works on one journal, so that one ``revert`` takes back what
all of them did.
"""

from collections.abc import Mapping
from typing import Any, Final

from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Wei
from koinon.ledger.execution import Log
from koinon.ledger.state import EMPTY_CODE_HASH, Account, Difference, StateView, account_key, code_key, slot_key

Checkpoint = tuple[int, int, int]
"""Lengths of the undo list and of the logs, and the refund counter."""

_ABSENT: Final = object()
_NOTHING: Final = (0, 0, EMPTY_CODE_HASH)
_NOTHING_ENTRY: Final = bytes(40) + EMPTY_CODE_HASH

_Account = tuple[int, int, Hash32]
"""Nonce, balance, code hash. A plain tuple: one is made for every change, and a dataclass takes ten times as long."""


class Storage:
    """Slots of one account. ``original``, ``transient`` and ``warm`` belong to the transaction that is running.

    Attributes:
        current: values known so far, read or written.
        original: values before the transaction, of slots it wrote (EIP-2200).
        transient: EIP-1153.
        warm: slots the transaction has accessed (EIP-2929); the values mean nothing.
    """

    __slots__ = ("address", "current", "loaded", "original", "transaction", "transient", "warm")

    def __init__(self, address: Address, transaction: int) -> None:
        self.address = address
        self.current: dict[int, int] = {}
        self.loaded: dict[int, int] = {}
        self.begin(transaction)

    def begin(self, transaction: int) -> None:
        self.transaction = transaction
        self.original: dict[int, int] = {}
        self.transient: dict[int, int] = {}
        self.warm: dict[int, bool] = {}


class Journal:
    """Changes over a state view. Every write is noted, so that ``revert`` can take back all since a ``checkpoint``.

    Attributes:
        logs: of the running transaction, in order.
        refund: gas to refund at the end of the running transaction, before its cap.
        created: contracts created in the running transaction (EIP-6780).
        destroyed: contracts to remove when the running transaction ends.
        warm: accounts the running transaction has accessed (EIP-2929); the values mean nothing.
    """

    def __init__(self, view: StateView) -> None:
        self._view = view
        self._entries: dict[Address, bytes | None] = {}
        self._accounts: dict[Address, _Account] = {}
        self._touched: dict[Address, bool] = {}
        self._storages: dict[Address, Storage] = {}
        self._codes: dict[Hash32, bytes] = {}
        self._new_codes: dict[Hash32, bytes] = {}
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []
        self._transaction = 0
        self.logs: list[Log] = []
        self.refund = 0
        self.created: dict[Address, bool] = {}
        self.destroyed: dict[Address, bool] = {}
        self.warm: dict[Address, bool] = {}

    def begin_transaction(self, warm: Mapping[Address, bool]) -> None:
        """Forget what lasts for one transaction; ``warm`` is copied."""
        self._transaction += 1
        self._undo = []
        self.logs = []
        self.refund = 0
        self.created = {}
        self.destroyed = {}
        self.warm = dict(warm)

    def end_transaction(self) -> None:
        """Remove what the transaction destroyed."""
        for address in self.destroyed:
            self._accounts[address] = _NOTHING
            self._touched[address] = True
            storage = self.storage(address)
            storage.current = dict.fromkeys(storage.current, 0)

    def checkpoint(self) -> Checkpoint:
        return len(self._undo), len(self.logs), self.refund

    def revert(self, checkpoint: Checkpoint) -> None:
        """Take back everything since ``checkpoint``: values, logs, refunds and access sets."""
        length, logs, self.refund = checkpoint
        del self.logs[logs:]
        undo = self._undo
        while len(undo) > length:
            table, key, before = undo.pop()
            if before is _ABSENT:
                del table[key]
            else:
                table[key] = before

    def write(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Set an entry of one of this journal's tables so that ``revert`` takes it back."""
        self._undo.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    # Accounts

    def _account(self, address: Address) -> _Account:
        account = self._accounts.get(address)
        if account is None:
            entry = self._entries[address] = self._view.get(b"a" + address)
            account = self._accounts[address] = (
                _NOTHING
                if entry is None
                else (int.from_bytes(entry[:8]), int.from_bytes(entry[8:40]), Hash32(entry[40:]))
            )
        return account

    def account(self, address: Address) -> Account:
        nonce, balance, code_hash = self._account(address)
        return Account(nonce, Wei(balance), code_hash)

    def balance(self, address: Address) -> int:
        return (self._accounts.get(address) or self._account(address))[1]

    def nonce(self, address: Address) -> int:
        return (self._accounts.get(address) or self._account(address))[0]

    def code_hash(self, address: Address) -> Hash32:
        return (self._accounts.get(address) or self._account(address))[2]

    def is_empty(self, address: Address) -> bool:
        """Empty in the sense of EIP-161, or not there at all."""
        return self._account(address) == _NOTHING

    def is_taken(self, address: Address) -> bool:
        """Whether a contract cannot be created there (EIP-684): it has a nonce or code."""
        nonce, _, code_hash = self._account(address)
        return nonce != 0 or code_hash != EMPTY_CODE_HASH

    def code(self, address: Address) -> bytes:
        code_hash = self._account(address)[2]
        if code_hash == EMPTY_CODE_HASH:
            return b""
        code = self._codes.get(code_hash)
        if code is None:
            code = self._codes[code_hash] = self._view.get(code_key(code_hash)) or b""
        return code

    def add_balance(self, address: Address, delta: int) -> None:
        """Change a balance; adding nothing still touches the account: if it is empty, it goes (EIP-161)."""
        nonce, balance, code_hash = account = self._account(address)
        if delta:
            assert balance + delta >= 0, "whoever takes money away has checked that it is there"
            self._undo.append((self._accounts, address, account))
            self._accounts[address] = (nonce, balance + delta, code_hash)
        elif account == _NOTHING:
            self.write(self._touched, address, True)

    def settle(self, address: Address, delta: int, nonces: int = 0) -> None:
        """Change a balance and a nonce where nothing can be reverted any more, between transactions."""
        account = self._accounts.get(address) or self._account(address)
        account = self._accounts[address] = (account[0] + nonces, account[1] + delta, account[2])
        if account == _NOTHING:
            self._touched[address] = True

    def set_balance(self, address: Address, balance: int) -> None:
        account = self._account(address)
        self.write(self._accounts, address, (account[0], balance, account[2]))

    def set_nonce(self, address: Address, nonce: int) -> None:
        account = self._account(address)
        self._undo.append((self._accounts, address, account))
        self._accounts[address] = (nonce, account[1], account[2])

    def set_code(self, address: Address, code: bytes) -> None:
        nonce, balance, _ = self._account(address)
        code_hash = keccak256(code)
        if code:
            self._codes[code_hash] = self._new_codes[code_hash] = code
        self.write(self._accounts, address, (nonce, balance, code_hash))

    # Storage

    def storage(self, address: Address) -> Storage:
        """The account's slots, as the running transaction sees them."""
        storage = self._storages.get(address)
        if storage is None:
            storage = self._storages[address] = Storage(address, self._transaction)
        elif storage.transaction != self._transaction:
            storage.begin(self._transaction)
        return storage

    def slot(self, storage: Storage, slot: int) -> int:
        """A slot's value."""
        value = storage.current.get(slot)
        if value is None:
            entry = self._view.get(slot_key(storage.address, slot))
            value = storage.loaded[slot] = storage.current[slot] = int.from_bytes(entry or b"")
        return value

    def set_slot(self, storage: Storage, slot: int, value: int) -> None:
        before = self.slot(storage, slot)
        storage.original.setdefault(slot, before)
        self._undo.append((storage.current, slot, before))
        storage.current[slot] = value

    def warm_slot(self, storage: Storage, slot: int) -> None:
        """Note that the transaction has accessed the slot."""
        self._undo.append((storage.warm, slot, _ABSENT))
        storage.warm[slot] = True

    def warm_address(self, address: Address) -> None:
        """Note that the transaction has accessed the account, which it had not before."""
        self._undo.append((self.warm, address, _ABSENT))
        self.warm[address] = True

    # The outcome

    def difference(self) -> Difference:
        """New values of everything that now differs from the view; None where nothing is left."""
        difference: dict[bytes, bytes | None] = {}
        for address, (nonce, balance, code_hash) in self._accounts.items():
            before = self._entries[address]
            after: bytes | None = nonce.to_bytes(8) + balance.to_bytes(32) + code_hash
            if after == _NOTHING_ENTRY and (before != _NOTHING_ENTRY or address in self._touched):
                after = None
            if after != before:
                difference[account_key(address)] = after
        for address, storage in self._storages.items():
            loaded = storage.loaded
            for slot, value in storage.current.items():
                if value != loaded[slot]:
                    difference[slot_key(address, slot)] = (
                        value.to_bytes((value.bit_length() + 7) // 8) if value else None
                    )
        if self._new_codes:
            used = {account[2] for account in self._accounts.values()}
            for code_hash, code in self._new_codes.items():
                if code_hash in used and self._view.get(code_key(code_hash)) is None:
                    difference[code_key(code_hash)] = code
        return difference
