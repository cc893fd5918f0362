"""Signed Ethereum transactions of types 0 (legacy, EIP-155), 1 (EIP-2930), 2 (EIP-1559) and 3 (EIP-4844).

Reading is apart from recovering the sender, because the first takes microseconds and the second most of the time that a
validator spends on a transaction: ``read_transaction`` gives an ``UnrecoveredTransaction``, ``parse_transaction`` does
both and remembers what it found.
"""

import threading
from typing import Final

from msgspec import Struct

from koinon.crypto.hash import keccak256
from koinon.crypto.recovery import recover
from koinon.crypto.signature import SECP256K1_ORDER
from koinon.kernel.errors import Forged, MalformedMessage, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Gas, Wei
from koinon.ledger import rlp
from koinon.wire.ledger import MAXIMUM_TRANSACTION_BYTES

MAXIMUM_INITCODE_BYTES: Final = 49_152  # EIP-3860
_TRANSACTION_GAS: Final = 21_000
_CREATION_GAS: Final = 32_000
_ZERO_BYTE_GAS: Final = 4
_NONZERO_BYTE_GAS: Final = 16  # EIP-2028
_ACCESS_ADDRESS_GAS: Final = 2_400  # EIP-2930
_ACCESS_SLOT_GAS: Final = 1_900
_INITCODE_WORD_GAS: Final = 2  # EIP-3860
_LARGEST_NONCE: Final = 2**64 - 2  # EIP-2681
_FEE_BITS: Final = 128
_GAS_BITS: Final = 63
_HALF_ORDER: Final = SECP256K1_ORDER // 2
_FIELDS: Final = {1: 11, 2: 12, 3: 14}
_CACHED: Final = 16_384
_CACHED_BYTES: Final = 16 * 1024 * 1024

AccessList = tuple[tuple[Address, tuple[int, ...]], ...]


class Transaction(Struct, frozen=True):
    """A transaction whose signature was checked.

    Attributes:
        raw: the EIP-2718 encoding that was signed and sent.
        kind: the type, 0 to 3.
        to: None creates a contract.
        maximum_fee: wei per gas at most, base fee included; the gas price of types 0 and 1.
        maximum_tip: wei per gas for the proposer at most; the gas price of types 0 and 1.
        chain_id: None in a legacy transaction from before EIP-155.
        maximum_blob_fee: wei per blob gas at most; of type 3 only.
        blob_hashes: versioned hashes of type 3.
    """

    raw: bytes
    hash: Hash32
    sender: Address
    kind: int
    chain_id: int | None
    nonce: int
    maximum_tip: Wei
    maximum_fee: Wei
    gas: Gas
    to: Address | None
    value: Wei
    data: bytes
    access_list: AccessList
    parity: int
    r: int
    s: int
    maximum_blob_fee: int = 0
    blob_hashes: tuple[bytes, ...] = ()

    @property
    def intrinsic_gas(self) -> int:
        """What the transaction costs before anything runs (yellow paper eq. 64, EIP-2028, 2930, 3860)."""
        gas = _TRANSACTION_GAS
        if self.data:
            zeros = self.data.count(0)
            gas += zeros * _ZERO_BYTE_GAS + (len(self.data) - zeros) * _NONZERO_BYTE_GAS
        if self.to is None:
            gas += _CREATION_GAS + _INITCODE_WORD_GAS * ((len(self.data) + 31) // 32)
        for _, slots in self.access_list:
            gas += _ACCESS_ADDRESS_GAS + _ACCESS_SLOT_GAS * len(slots)
        return gas

    @property
    def largest_cost(self) -> int:
        """Wei the sender must own: all gas at the highest price, and the value (blob gas is not part of it)."""
        return self.gas * self.maximum_fee + self.value

    def price(self, base_fee: int) -> int:
        """Wei per gas that the sender pays in a block with this base fee."""
        return min(self.maximum_fee, base_fee + self.maximum_tip)


class UnrecoveredTransaction(Struct, frozen=True):
    """A well-formed transaction whose sender has not been recovered from its signature yet.

    Attributes:
        digest: what was signed.
        signature: ``r || s``, 64 bytes, s in the lower half of the order.
        parity: 0 or 1.
        fields: the fields of ``Transaction`` from ``kind`` to ``access_list``, in order.
    """

    raw: bytes
    digest: Hash32
    signature: bytes
    parity: int
    fields: "tuple[int, int | None, int, Wei, Wei, Gas, Address | None, Wei, bytes, AccessList]"
    maximum_blob_fee: int = 0
    blob_hashes: tuple[bytes, ...] = ()

    def signed_by(self, sender: Address) -> Transaction:
        """The transaction, once it is known whose signature it is."""
        r, s = int.from_bytes(self.signature[:32], "big"), int.from_bytes(self.signature[32:], "big")
        return Transaction(
            self.raw, keccak256(self.raw), sender, *self.fields, self.parity, r, s, self.maximum_blob_fee,
            self.blob_hashes,
        )  # fmt: skip

    def recover(self) -> Transaction:
        """The transaction with its sender. Raises Forged if the signature recovers no account."""
        return self.signed_by(recover(self.digest, self.signature, self.parity))


class SenderCache:
    """Transactions recovered lately, by their bytes. Bounded in number and bytes; any thread may use it.

    Two generations: when the younger is full, the older is forgotten. A transaction is met a few times within seconds
    (gossip, block, finality, the first readers) and then hardly again.
    """

    def __init__(self, count: int = _CACHED, size: int = _CACHED_BYTES) -> None:
        self._count = count // 2
        self._size = size // 2
        self._young: dict[bytes, Transaction] = {}
        self._old: dict[bytes, Transaction] = {}
        self._young_bytes = 0
        self._lock = threading.Lock()

    def get(self, raw: bytes) -> Transaction | None:
        return self._young.get(raw) or self._old.get(raw)

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._young, self._old, self._young_bytes = {}, {}, 0

    def put(self, transaction: Transaction) -> None:
        with self._lock:
            if len(self._young) >= self._count or self._young_bytes >= self._size:
                self._old, self._young, self._young_bytes = self._young, {}, 0
            self._young[transaction.raw] = transaction
            self._young_bytes += len(transaction.raw)


recovered: Final = SenderCache()
"""What every part of the process shares: the pool recovers a sender, the block it comes in does not again."""


def parse_transaction(raw: bytes) -> Transaction:
    """Read a raw signed transaction and recover its sender, unless that was done a moment ago.

    Raises:
        MalformedMessage: no transaction, or one too large.
        Refused: of a type this chain does not know.
        Forged: the signature recovers no account.
    """
    transaction = recovered.get(raw)
    if transaction is None:
        transaction = read_transaction(raw).recover()
        recovered.put(transaction)
    return transaction


def read_transaction(raw: bytes) -> UnrecoveredTransaction:
    """Read a raw signed transaction, strictly: canonical RLP, every field in its bounds, s in the lower half.

    Raises:
        MalformedMessage: no transaction, or one too large.
        Refused: of a type this chain does not know.
        Forged: the signature is out of range.
    """
    if not raw or len(raw) > MAXIMUM_TRANSACTION_BYTES:
        raise MalformedMessage(
            f"oversized data: a transaction has 1 to {MAXIMUM_TRANSACTION_BYTES} bytes; got {len(raw)}"
        )
    kind = raw[0]
    if kind >= 0xC0:
        return _read_legacy(raw)
    if kind in _FIELDS:
        return _read_typed(raw, kind)
    if kind == 4:
        raise Refused("transaction type not supported: type 4 (set code, EIP-7702); send type 0, 1 or 2")
    raise MalformedMessage(f"transaction type not supported: there is no transaction type {kind}")


def _read_legacy(raw: bytes) -> UnrecoveredTransaction:
    items, ends = rlp.fields(raw, 0, 9)
    nonce, price, gas, to, value, data = _common(items[0], items[1], items[2], items[3], items[4], items[5])
    v = _integer(items[6], "v")
    body = raw[ends[0] : ends[6]]
    chain_id: int | None
    if v in (27, 28):
        chain_id, parity = None, v - 27
    elif v >= 35:
        chain_id, parity = (v - 35) // 2, (v - 35) % 2
        body += rlp.encode(chain_id) + b"\x80\x80"
    else:
        raise MalformedMessage(f"v of a legacy transaction is 27, 28 or at least 35; got {v}")
    _check_bounds(nonce, price, price, gas, to, data)
    return UnrecoveredTransaction(
        raw,
        keccak256(rlp.list_of(body)),
        _signature(items[7], items[8]),
        parity,
        (0, chain_id, nonce, Wei(price), Wei(price), Gas(gas), to, Wei(value), data, ()),
    )


def _read_typed(raw: bytes, kind: int) -> UnrecoveredTransaction:
    items, ends = rlp.fields(raw, 1, _FIELDS[kind])
    chain_id = _integer(items[0], "chain id")
    dynamic = 0 if kind == 1 else 1
    tip = _integer(items[2], "priority fee" if dynamic else "gas price")
    nonce, fee, gas, to, value, data = _common(items[1], *items[2 + dynamic : 7 + dynamic])
    access = _access_list(items[7 + dynamic])
    signed = len(items) - 3
    parity = _integer(items[signed], "y parity")
    if parity > 1:
        raise MalformedMessage(f"the y parity of a transaction is 0 or 1; got {parity}")
    _check_bounds(nonce, tip, fee, gas, to, data)
    blob_fee, hashes = _blobs(items[9], items[10], to) if kind == 3 else (0, ())
    return UnrecoveredTransaction(
        raw,
        keccak256(raw[:1] + rlp.list_of(raw[ends[0] : ends[signed]])),
        _signature(items[signed + 1], items[signed + 2]),
        parity,
        (kind, chain_id, nonce, Wei(tip), Wei(fee), Gas(gas), to, Wei(value), data, access),
        blob_fee,
        hashes,
    )


def _common(
    nonce: rlp.Item, fee: rlp.Item, gas: rlp.Item, to: rlp.Item, value: rlp.Item, data: rlp.Item
) -> tuple[int, int, int, Address | None, int, bytes]:
    """The six fields that every type has, in the order in which every type has them."""
    return (
        _integer(nonce, "nonce"),
        _integer(fee, "gas price"),
        _integer(gas, "gas limit"),
        _recipient(to),
        _integer(value, "value"),
        _bytes(data, "data"),
    )


def _check_bounds(nonce: int, tip: int, fee: int, gas: int, to: Address | None, data: bytes) -> None:
    if nonce > _LARGEST_NONCE or gas >> _GAS_BITS:
        raise MalformedMessage("the nonce or the gas limit of the transaction is out of range")
    if fee >> _FEE_BITS or tip > fee:
        raise MalformedMessage("max priority fee per gas higher than max fee per gas, or the fee is out of range")
    if to is None and len(data) > MAXIMUM_INITCODE_BYTES:
        raise MalformedMessage(
            f"max initcode size exceeded: creation code has at most {MAXIMUM_INITCODE_BYTES} bytes; got {len(data)}"
        )


def _signature(r: rlp.Item, s: rlp.Item) -> bytes:
    numbers = _integer(r, "r"), _integer(s, "s")
    if numbers[1] > _HALF_ORDER:
        raise Forged("invalid transaction v, r, s values: s is in the upper half of the order")
    return numbers[0].to_bytes(32, "big") + numbers[1].to_bytes(32, "big")


def _blobs(fee: rlp.Item, hashes: rlp.Item, to: Address | None) -> tuple[int, tuple[bytes, ...]]:
    if to is None:
        raise MalformedMessage("a blob transaction creates no contract")
    if not isinstance(hashes, list) or any(not isinstance(item, bytes) or len(item) != 32 for item in hashes):
        raise MalformedMessage("the blob hashes of a transaction are a list of hashes of 32 bytes")
    return _integer(fee, "blob fee"), tuple(_bytes(item, "blob hash") for item in hashes)


def _bytes(item: rlp.Item, name: str) -> bytes:
    if not isinstance(item, bytes):
        raise MalformedMessage(f"the {name} of a transaction is a byte string, not a list")
    return item


def _integer(item: rlp.Item, name: str) -> int:
    if not isinstance(item, bytes):
        raise MalformedMessage(f"the {name} of a transaction is a byte string, not a list")
    if len(item) > 32 or item[:1] == b"\x00":
        raise MalformedMessage(f"the {name} of a transaction is an integer of at most 32 bytes without leading zeros")
    return int.from_bytes(item, "big")


def _recipient(item: rlp.Item) -> Address | None:
    if not isinstance(item, bytes):
        raise MalformedMessage("the recipient of a transaction is a byte string, not a list")
    if len(item) not in (0, 20):
        raise MalformedMessage(f"the recipient of a transaction is empty or 20 bytes; got {len(item)}")
    return Address(item) if item else None


def _access_list(item: rlp.Item) -> AccessList:
    if not isinstance(item, list):
        raise MalformedMessage("the access list of a transaction is a list")
    entries = []
    for entry in item:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], list):
            raise MalformedMessage("an entry of an access list is an address and a list of slots")
        address, slots = _bytes(entry[0], "access list"), [_bytes(slot, "access list") for slot in entry[1]]
        if len(address) != 20 or any(len(slot) != 32 for slot in slots):
            raise MalformedMessage("an access list holds addresses of 20 bytes and slots of 32")
        entries.append((Address(address), tuple(int.from_bytes(slot, "big") for slot in slots)))
    return tuple(entries)
