"""State as a caller wants it for one call: accounts with another balance, nonce, code or storage."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from koinon.crypto.hash import keccak256
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address
from koinon.kernel.quantities import Wei
from koinon.ledger.rpc.readers import AccountOverride, StateOverride
from koinon.ledger.state import (
    EMPTY_CODE_HASH,
    StateView,
    account_key,
    code_key,
    encode_account,
    read_account,
    slot_key,
)

_LARGEST_NONCE: Final = 2**64 - 1
_SLOT_PREFIX: Final = slot_key(b"", 0)[:-32]
_OWNER: Final = slice(len(_SLOT_PREFIX), len(_SLOT_PREFIX) + 20)


@dataclass(frozen=True)
class OverriddenState:
    """A view over another.

    Attributes:
        changed: entries that read differently; None where there is nothing.
        emptied: accounts whose storage holds nothing but what ``changed`` says.
    """

    parent: StateView
    changed: Mapping[bytes, bytes | None]
    emptied: frozenset[bytes]

    def get(self, key: bytes, /) -> bytes | None:
        if key in self.changed:
            return self.changed[key]
        if self.emptied and key.startswith(_SLOT_PREFIX) and key[_OWNER] in self.emptied:
            return None
        return self.parent.get(key)


def overridden(state: StateView, accounts: StateOverride) -> OverriddenState:
    """``state`` with the overrides of some accounts over it. Raises InvalidInput for what no account can be."""
    changed: dict[bytes, bytes | None] = {}
    for address, override in accounts.items():
        changed |= _entries(state, address, override)
    emptied = frozenset(bytes(address) for address, override in accounts.items() if override.replaces_storage)
    return OverriddenState(state, changed, emptied)


def _entries(state: StateView, address: Address, override: AccountOverride) -> dict[bytes, bytes | None]:
    entries: dict[bytes, bytes | None] = {}
    account = read_account(state, address)
    if override.nonce is not None:
        if override.nonce > _LARGEST_NONCE:
            raise InvalidInput("an overridden nonce has at most 64 bits")
        account = replace(account, nonce=override.nonce)
    if override.balance is not None:
        account = replace(account, balance=Wei(override.balance))
    if override.code is not None:
        code_hash = keccak256(override.code) if override.code else EMPTY_CODE_HASH
        account = replace(account, code_hash=code_hash)
        if override.code:
            entries[code_key(code_hash)] = override.code
    entries[account_key(address)] = None if account.is_empty else encode_account(account)
    for slot, value in override.storage.items():
        stored = value.to_bytes(32, "big").lstrip(b"\x00")
        entries[slot_key(address, slot)] = stored or None
    return entries
