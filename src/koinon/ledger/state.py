"""The state: accounts, storage slots and code, final on disk and unfinalised in overlays.

Keys (values are never empty; what is zero or empty has no entry):

    a + address            nonce (8 bytes) + balance (32) + code hash (32)
    s + address + slot     value without leading zeros
    c + code hash          code

A block's ``Overlay`` holds its difference and points to its parent's. ``FinalState`` is what the store holds; a view of
it stays consistent while later blocks are written, because it reads around them through their undo records.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from koinon.crypto.hash import keccak256
from koinon.kernel.effects import Store
from koinon.kernel.errors import MalformedMessage, Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Height, Wei
from koinon.ledger import lattice

STATE_PREFIX: Final = b"w"
ACCUMULATOR_KEY: Final = b"m/accumulator"
EMPTY_CODE_HASH: Final = Hash32(bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"))
_UNDO_RECORDS: Final = 64
_RECENT_ENTRIES: Final = 32_768
_UNKNOWN: Final = b"?"
"""Stands for an entry that is not known; found by identity, so any entry may hold these bytes."""
_ACCOUNT_BYTES: Final = 72

Difference = Mapping[bytes, bytes | None]
"""New value by key; None deletes."""


@dataclass(frozen=True)
class Account:
    """An account; one that does not exist reads as nonce 0, balance 0, no code."""

    nonce: int
    balance: Wei
    code_hash: Hash32

    @property
    def is_empty(self) -> bool:
        """Empty in the sense of EIP-161."""
        return self.nonce == 0 and self.balance == 0 and self.code_hash == EMPTY_CODE_HASH


NO_ACCOUNT: Final = Account(0, Wei(0), EMPTY_CODE_HASH)


def account_key(address: bytes) -> bytes:
    return b"a" + address


def slot_key(address: bytes, slot: int) -> bytes:
    return b"s" + address + slot.to_bytes(32, "big")


def code_key(code_hash: bytes) -> bytes:
    return b"c" + code_hash


def encode_account(account: Account) -> bytes:
    return account.nonce.to_bytes(8, "big") + account.balance.to_bytes(32, "big") + account.code_hash


def decode_account(entry: bytes | None) -> Account:
    if entry is None:
        return NO_ACCOUNT
    assert len(entry) == _ACCOUNT_BYTES, "the store is ours: an account entry has 72 bytes"
    return Account(int.from_bytes(entry[:8], "big"), Wei(int.from_bytes(entry[8:40], "big")), Hash32(entry[40:]))


def check_entry(key: bytes, value: bytes) -> None:
    """Whether a key and value from outside have the shape of an entry of the state.

    Raises:
        MalformedMessage: they have not.
    """
    match key[:1], len(key):
        case b"a", 21:
            fits = len(value) == _ACCOUNT_BYTES and not decode_account(value).is_empty
        case b"s", 53:
            fits = 0 < len(value) <= 32 and value[0] != 0
        case b"c", 33:
            fits = keccak256(value) == key[1:]
        case _:
            fits = False
    if not fits:
        raise MalformedMessage("an entry is no account, storage slot or code as the state holds them")


class StateView(Protocol):
    """Anything that state can be read from."""

    def get(self, key: bytes, /) -> bytes | None: ...


def read_account(view: StateView, address: Address) -> Account:
    return decode_account(view.get(account_key(address)))


def read_slot(view: StateView, address: Address, slot: int) -> int:
    return int.from_bytes(view.get(slot_key(address, slot)) or b"", "big")


def read_code(view: StateView, code_hash: Hash32) -> bytes:
    return b"" if code_hash == EMPTY_CODE_HASH else view.get(code_key(code_hash)) or b""


@dataclass
class Overlay:
    """State after an unfinalised block: its difference over its parent's state.

    ``parent`` is set once more, to the final state, when the parent's block has become final: both then read the same,
    and the chain of overlays stays short. ``before`` is what the parent held of what changed.
    """

    parent: StateView
    difference: Difference
    accumulator: bytes
    before: Mapping[bytes, bytes | None]

    @classmethod
    def over(cls, parent: StateView, accumulator: bytes, difference: Difference) -> "Overlay":
        """The state after ``difference``; ``accumulator`` is the parent's."""
        before = {key: parent.get(key) for key in difference}
        changes = ((key, before[key], value) for key, value in difference.items())
        return cls(parent, difference, lattice.updated(accumulator, changes), before)

    @property
    def root(self) -> Hash32:
        return lattice.root(self.accumulator)

    def get(self, key: bytes, /) -> bytes | None:
        view: StateView = self
        while isinstance(view, Overlay):
            if key in view.difference:
                return view.difference[key]
            view = view.parent
        return view.get(key)


@dataclass(frozen=True)
class _Undo:
    height: Height
    before: Mapping[bytes, bytes | None]


class _Recent:
    """Entries of the final state written lately: most of what the next blocks read.

    Only the writer changes it, so that a slow reader cannot put an old value back. Two generations bound its size.
    """

    def __init__(self) -> None:
        self._young: dict[bytes, bytes | None] = {}
        self._old: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> tuple[bool, bytes | None]:
        """Whether the value is known, and the value."""
        for generation in (self._young, self._old):
            value = generation.get(key, _UNKNOWN)
            if value is not _UNKNOWN:
                return True, value
        return False, None

    def update(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Take over what was written."""
        if len(self._young) + len(changes) > _RECENT_ENTRIES:
            # A reader between the two assignments may miss an entry, and then finds it in the store.
            self._old, self._young = self._young, {}
        self._young.update((key, value) for key, value in changes.items() if key[:1] != b"c")


_NEVER: Final = Height(2**63)


class FinalState:
    """The final state in the store, and consistent views of it.

    One thread writes (``undoable_write``); any thread may read through a view.
    """

    def __init__(self, store: Store, height: Height) -> None:
        self._store = store
        self._undo: deque[_Undo] = deque(maxlen=_UNDO_RECORDS)
        self._recent = _Recent()
        self._retired = False
        self.height = height
        self.accumulator = store.get(ACCUMULATOR_KEY) or lattice.EMPTY_ACCUMULATOR

    @property
    def root(self) -> Hash32:
        return lattice.root(self.accumulator)

    def get(self, key: bytes, /) -> bytes | None:
        """The newest final value. For more than one read that must agree, use ``view``."""
        known, value = self._recent.get(key)
        return value if known else self._store.get(STATE_PREFIX + key)

    def view(self, height: Height | None = None) -> "FinalView":
        """The state as it was after the final block at ``height``, the newest by default.

        Raises:
            Unavailable: that block is not final yet, or too far back; or the state is being replaced.
        """
        if self._retired:
            raise Unavailable("the state is being replaced by a snapshot's; ask again in a moment")
        height = self.height if height is None else height
        oldest = self._undo[0].height - 1 if self._undo else self.height
        if not oldest <= height <= self.height:
            raise Unavailable(
                f"the state after block {height} is not kept; blocks {oldest} to {self.height} can be asked for"
            )
        return FinalView(self, height)

    def retire(self) -> None:
        """From now on no view answers, also none of those given out: what is in the store is being replaced."""
        self._retired = True
        # A reader looks here after it has read the store, so that none takes a value from while that goes on.
        self._undo = deque([_Undo(_NEVER, {})])

    def undo_value(self, height: Height, key: bytes) -> tuple[bool, bytes | None]:
        """Whether a block after ``height`` changed ``key``, and its value before the first that did.

        Raises:
            Unavailable: ``height`` has become too far back.
        """
        records = tuple(self._undo)
        if records and records[0].height > height + 1:
            raise Unavailable(f"the state after block {height} is no longer kept; ask again for the latest")
        for record in records:
            if record.height > height and key in record.before:
                return True, record.before[key]
        return False, None

    def write(
        self, overlays: Sequence[tuple[Height, Overlay]], put: Mapping[bytes, bytes], delete: Iterable[bytes]
    ) -> None:
        """Make the differences of consecutive blocks final, in one atomic write with ``put`` and ``delete``.

        The undo records are in place before the store changes and a reader looks at them after reading the store, so a
        view never mixes two blocks.
        """
        merged: dict[bytes, bytes | None] = {}
        for height, overlay in overlays:
            self._undo.append(_Undo(height, overlay.before))
            merged.update(overlay.difference)
        last_height, last = overlays[-1]
        writes = {STATE_PREFIX + key: value for key, value in merged.items() if value is not None}
        removals = [STATE_PREFIX + key for key, value in merged.items() if value is None]
        self._store.write({**writes, ACCUMULATOR_KEY: last.accumulator, **put}, [*removals, *delete])
        self._recent.update(merged)
        self.accumulator = last.accumulator
        self.height = last_height


@dataclass(frozen=True)
class FinalView:
    """The final state after one height, unchanged by later blocks."""

    state: FinalState
    height: Height

    def get(self, key: bytes, /) -> bytes | None:
        value = self.state.get(key)
        changed, before = self.state.undo_value(self.height, key)
        return before if changed else value
