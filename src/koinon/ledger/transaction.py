"""Signed Ethereum transactions of types 0 (legacy, EIP-155), 1 (EIP-2930) and 2 (EIP-1559)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from koinon.crypto.hash import keccak256
from koinon.crypto.signature import recover_address
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

AccessList = tuple[tuple[Address, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Transaction:
    """A transaction whose signature was checked.

    Attributes:
        raw: the EIP-2718 encoding that was signed and sent.
        to: None creates a contract.
        maximum_fee: wei per gas at most, base fee included; the gas price of types 0 and 1.
        maximum_tip: wei per gas for the proposer at most; the gas price of types 0 and 1.
        chain_id: None in a legacy transaction from before EIP-155.
        maximum_blob_fee: wei per blob gas at most (type 3).
        blob_hashes: versioned hashes of the blobs (type 3).
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
        zeros = self.data.count(0)
        gas = _TRANSACTION_GAS + zeros * _ZERO_BYTE_GAS + (len(self.data) - zeros) * _NONZERO_BYTE_GAS
        if self.to is None:
            gas += _CREATION_GAS + _INITCODE_WORD_GAS * ((len(self.data) + 31) // 32)
        for _, slots in self.access_list:
            gas += _ACCESS_ADDRESS_GAS + _ACCESS_SLOT_GAS * len(slots)
        return gas

    @property
    def largest_cost(self) -> int:
        """Wei the sender must own: all gas at the highest price, and the value."""
        return self.gas * self.maximum_fee + self.value

    def price(self, base_fee: int) -> int:
        """Wei per gas that the sender pays in a block with this base fee."""
        return min(self.maximum_fee, base_fee + self.maximum_tip)


@lru_cache(maxsize=8192)
def parse_transaction(raw: bytes) -> Transaction:
    """Read a raw signed transaction and recover its sender.

    Raises:
        MalformedMessage: no transaction, or one too large.
        Refused: of a type this chain does not take.
        Forged: the signature recovers no account.
    """
    if not raw or len(raw) > MAXIMUM_TRANSACTION_BYTES:
        raise MalformedMessage(f"a transaction has 1 to {MAXIMUM_TRANSACTION_BYTES} bytes; got {len(raw)}")
    kind = raw[0]
    if kind >= 0xC0:
        return _parse_legacy(raw)
    if kind in (3, 4):
        name = "blob" if kind == 3 else "set-code"
        raise Refused(f"{name} transactions (type {kind}) are not taken; send type 0, 1 or 2")
    if kind not in (1, 2):
        raise MalformedMessage(f"there is no transaction type {kind}")
    return _parse_typed(raw, kind)


def _parse_legacy(raw: bytes) -> Transaction:
    fields = _fields(raw, 9)
    nonce, price, gas = (_integer(fields[i], name) for i, name in enumerate(("nonce", "gas price", "gas limit")))
    to, value, data = _recipient(fields[3]), _integer(fields[4], "value"), _bytes(fields[5], "data")
    v, r, s = (_integer(fields[i], name) for i, name in ((6, "v"), (7, "r"), (8, "s")))
    body: list[object] = fields[:6]  # type: ignore[assignment]  # items are re-encoded as they came
    chain_id: int | None
    if v in (27, 28):
        chain_id, parity = None, v - 27
    elif v >= 35:
        chain_id, parity = (v - 35) // 2, (v - 35) % 2
        body = [*body, chain_id, 0, 0]
    else:
        raise MalformedMessage(f"v of a legacy transaction is 27, 28 or at least 35; got {v}")
    return _checked(raw, rlp.encode(body), 0, chain_id, nonce, price, price, gas, to, value, data, (), parity, r, s)


def _parse_typed(raw: bytes, kind: int) -> Transaction:
    fields = _fields(raw[1:], 10 + kind)
    chain_id, nonce, tip = (_integer(fields[i], name) for i, name in enumerate(("chain id", "nonce", "priority fee")))
    fee = tip if kind == 1 else _integer(fields[3], "fee")
    rest = fields[kind + 2 :]
    gas, to, value = _integer(rest[0], "gas limit"), _recipient(rest[1]), _integer(rest[2], "value")
    data, access = _bytes(rest[3], "data"), _access_list(rest[4])
    parity, r, s = (_integer(rest[i], name) for i, name in ((5, "y parity"), (6, "r"), (7, "s")))
    if parity > 1:
        raise MalformedMessage(f"the y parity of a transaction is 0 or 1; got {parity}")
    signed = raw[:1] + rlp.encode(fields[:-3])
    return _checked(raw, signed, kind, chain_id, nonce, tip, fee, gas, to, value, data, access, parity, r, s)


def _checked(
    raw: bytes,
    signed: bytes,
    kind: int,
    chain_id: int | None,
    nonce: int,
    tip: int,
    fee: int,
    gas: int,
    to: Address | None,
    value: int,
    data: bytes,
    access_list: AccessList,
    parity: int,
    r: int,
    s: int,
) -> Transaction:
    if nonce > _LARGEST_NONCE or gas >= 2**63:
        raise MalformedMessage("the nonce or the gas limit of the transaction is out of range")
    if fee >> _FEE_BITS or tip > fee:
        raise MalformedMessage("the transaction's priority fee is above its fee, or the fee is out of range")
    if to is None and len(data) > MAXIMUM_INITCODE_BYTES:
        raise MalformedMessage(f"creation code has at most {MAXIMUM_INITCODE_BYTES} bytes; got {len(data)}")
    if r.bit_length() > 256 or s.bit_length() > 256:
        raise Forged("the signature of the transaction is out of range")
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + parity])
    sender = recover_address(keccak256(signed), signature)
    return Transaction(
        raw=raw,
        hash=keccak256(raw),
        sender=sender,
        kind=kind,
        chain_id=chain_id,
        nonce=nonce,
        maximum_tip=Wei(tip),
        maximum_fee=Wei(fee),
        gas=Gas(gas),
        to=to,
        value=Wei(value),
        data=data,
        access_list=access_list,
        parity=parity,
        r=r,
        s=s,
    )


def _fields(data: bytes, count: int) -> list[rlp.Item]:
    item = rlp.decode(data)
    if not isinstance(item, list) or len(item) != count:
        raise MalformedMessage(f"a transaction of this type is a list of {count} fields")
    return item


def _bytes(item: rlp.Item, name: str) -> bytes:
    if not isinstance(item, bytes):
        raise MalformedMessage(f"the {name} of a transaction is a byte string, not a list")
    return item


def _integer(item: rlp.Item, name: str) -> int:
    digits = _bytes(item, name)
    if len(digits) > 32 or digits[:1] == b"\x00":
        raise MalformedMessage(f"the {name} of a transaction is an integer of at most 32 bytes without leading zeros")
    return int.from_bytes(digits, "big")


def _recipient(item: rlp.Item) -> Address | None:
    to = _bytes(item, "recipient")
    if len(to) not in (0, 20):
        raise MalformedMessage(f"the recipient of a transaction is empty or 20 bytes; got {len(to)}")
    return Address(to) if to else None


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
