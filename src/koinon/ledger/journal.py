"""Accounts, storage and access sets during a block, with nested snapshots: what the EVM reads and writes."""

from typing import Any, Final

from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Wei
from koinon.ledger.state import (
    EMPTY_CODE_HASH,
    NO_ACCOUNT,
    Account,
    Difference,
    StateView,
    account_key,
    code_key,
    encode_account,
    read_account,
    read_code,
    read_slot,
    slot_key,
)

_ABSENT: Final = object()


class Journal:
    """Changes over a state view. Every write is noted, so that ``revert`` can take back all since a ``snapshot``.

    Access sets, transient storage and the original values of slots last for one transaction (``begin_transaction``).
    """

    def __init__(self, view: StateView) -> None:
        self._view = view
        self._accounts: dict[Address, Account] = {}
        self._slots: dict[tuple[Address, int], int] = {}
        self._codes: dict[Hash32, bytes] = {}
        self._originals: dict[tuple[Address, int], int] = {}
        self._transient: dict[tuple[Address, int], bytes] = {}
        self._warm: dict[object, bool] = {}
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []

    def begin_transaction(self) -> None:
        self._originals.clear()
        self._transient.clear()
        self._warm.clear()
        self._undo.clear()

    def snapshot(self) -> int:
        return len(self._undo)

    def revert(self, snapshot: int) -> None:
        while len(self._undo) > snapshot:
            table, key, before = self._undo.pop()
            if before is _ABSENT:
                del table[key]
            else:
                table[key] = before

    def _write(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    # Accounts

    def account(self, address: Address) -> Account:
        account = self._accounts.get(address)
        if account is None:
            account = self._accounts[address] = read_account(self._view, address)
        return account

    def set_account(self, address: Address, account: Account) -> None:
        self.account(address)
        self._write(self._accounts, address, account)

    def set_balance(self, address: Address, balance: int) -> None:
        account = self.account(address)
        assert 0 <= balance < 2**256, "a balance is checked before it is changed"
        self.set_account(address, Account(account.nonce, Wei(balance), account.code_hash))

    def add_balance(self, address: Address, amount: int) -> None:
        self.set_balance(address, self.account(address).balance + amount)

    def set_nonce(self, address: Address, nonce: int) -> None:
        account = self.account(address)
        self.set_account(address, Account(nonce, account.balance, account.code_hash))

    def code(self, address: Address) -> bytes:
        code_hash = self.account(address).code_hash
        if code_hash == EMPTY_CODE_HASH:
            return b""
        code = self._codes.get(code_hash)
        return read_code(self._view, code_hash) if code is None else code

    def set_code(self, address: Address, code: bytes) -> None:
        account = self.account(address)
        code_hash = keccak256(code)
        if code:
            self._write(self._codes, code_hash, code)
        self.set_account(address, Account(account.nonce, account.balance, code_hash))

    def destroy(self, address: Address) -> None:
        """Remove an account that was created in this transaction, or that is empty."""
        self.set_account(address, NO_ACCOUNT)
        for owner, slot in list(self._slots):
            if owner == address:
                self._write(self._slots, (owner, slot), 0)

    # Storage

    def slot(self, address: Address, slot: int) -> int:
        value = self._slots.get((address, slot))
        if value is None:
            value = self._slots[address, slot] = read_slot(self._view, address, slot)
        return value

    def set_slot(self, address: Address, slot: int, value: int) -> None:
        self._originals.setdefault((address, slot), self.slot(address, slot))
        self._write(self._slots, (address, slot), value)

    def original_slot(self, address: Address, slot: int) -> int:
        """The value before the transaction (EIP-2200)."""
        original = self._originals.get((address, slot))
        return self.slot(address, slot) if original is None else original

    def transient(self, address: Address, slot: int) -> bytes:
        return self._transient.get((address, slot), b"")

    def set_transient(self, address: Address, slot: int, value: bytes) -> None:
        self._write(self._transient, (address, slot), value)

    # Access sets (EIP-2929)

    def is_warm(self, key: Address | tuple[Address, int]) -> bool:
        return key in self._warm

    def make_warm(self, key: Address | tuple[Address, int]) -> None:
        if key not in self._warm:
            self._write(self._warm, key, True)

    def difference(self) -> Difference:
        """New values of everything that now differs from the view; None where nothing is left."""
        difference: dict[bytes, bytes | None] = {}
        for address, account in self._accounts.items():
            difference[account_key(address)] = None if account.is_empty else encode_account(account)
        for (address, slot), value in self._slots.items():
            difference[slot_key(address, slot)] = _minimal(value) if value else None
        for code_hash, code in self._codes.items():
            difference[code_key(code_hash)] = code
        return {key: value for key, value in difference.items() if self._view.get(key) != value}


def _minimal(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
