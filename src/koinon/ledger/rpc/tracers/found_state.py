"""``prestateTracer``: the state that a transaction found, and in ``diffMode`` what it made of it.

Not watched instruction by instruction: a transaction that runs in a journal of its own asks the state for exactly what
it needs, and leaves exactly its difference.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from koinon.kernel.ids import Address
from koinon.ledger.rpc.forms import data, quantity
from koinon.ledger.rpc.table import Json
from koinon.ledger.state import (
    NO_ACCOUNT,
    Difference,
    StateView,
    account_key,
    decode_account,
    read_code,
    slot_key,
)

_ACCOUNT = account_key(b"")
_SLOT = slot_key(b"", 0)[:-32]


@dataclass
class RecordedState:
    """A view that notes which entries are read."""

    parent: StateView
    read: dict[bytes, None] = field(default_factory=dict)

    def get(self, key: bytes, /) -> bytes | None:
        self.read[key] = None
        return self.parent.get(key)


@dataclass(frozen=True)
class LayeredState:
    """A view with a difference over it."""

    parent: StateView
    difference: dict[bytes, bytes | None]

    def get(self, key: bytes, /) -> bytes | None:
        return self.difference[key] if key in self.difference else self.parent.get(key)


def prestate_form(recorded: RecordedState) -> Json:
    """Everything the transaction found, by address; what does not exist is left out."""
    return {
        data(address): form
        for address, slots in _by_address(recorded.read).items()
        if (form := _account_form(recorded.parent, address, slots))
    }


def difference_form(before: StateView, difference: Difference) -> Json:
    """``pre`` and ``post`` of what the transaction changed; in ``post``, only what is new."""
    after = LayeredState(before, dict(difference))
    changed = [key for key, value in difference.items() if value != before.get(key)]
    pre, post = {}, {}
    for address, slots in _by_address(changed).items():
        old, new = _account_form(before, address, slots), _account_form(after, address, slots)
        if old:
            pre[data(address)] = old
        if new:
            fresh = {name: value for name, value in new.items() if value != old.get(name)}
            if "storage" in fresh:
                known = old.get("storage", {})
                fresh["storage"] = {slot: value for slot, value in fresh["storage"].items() if value != known.get(slot)}
            post[data(address)] = fresh
    return {"pre": pre, "post": post}


def _by_address(keys: Iterable[bytes]) -> dict[Address, list[bytes]]:
    """Accounts and their slots out of keys of the state."""
    found: dict[Address, list[bytes]] = {}
    for key in keys:
        if key.startswith(_ACCOUNT):
            found.setdefault(Address(key[len(_ACCOUNT) :]), [])
        elif key.startswith(_SLOT):
            owner = Address(key[len(_SLOT) : len(_SLOT) + 20])
            found.setdefault(owner, []).append(key)
    return found


def _account_form(state: StateView, address: Address, slots: list[bytes]) -> dict[str, Json]:
    """An account; empty where there is none."""
    account = decode_account(state.get(account_key(address)))
    if account == NO_ACCOUNT and not any(state.get(slot) for slot in slots):
        return {}
    form: dict[str, Json] = {"balance": quantity(account.balance)}
    if account.nonce:
        form["nonce"] = account.nonce
    code = read_code(state, account.code_hash)
    if code:
        form["code"] = data(code)
    storage = {data(slot[-32:]): data((state.get(slot) or b"").rjust(32, b"\x00")) for slot in slots if state.get(slot)}
    if storage:
        form["storage"] = storage
    return form
