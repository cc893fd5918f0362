"""EIP-1559 transactions: recursive-length prefix, signing, hash.

Only what an account needs to send: type 2, no access list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Wei

TRANSACTION_TYPE: Final = b"\x02"

RlpItem = bytes | Sequence["RlpItem"]


def rlp_encode(item: RlpItem) -> bytes:
    """Recursive-length prefix (Yellow Paper, appendix B) of byte strings and lists of them."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(len(item), 0x80) + item
    body = b"".join(rlp_encode(entry) for entry in item)
    return _prefix(len(body), 0xC0) + body


def _prefix(length: int, offset: int) -> bytes:
    if length < 56:
        return bytes([offset + length])
    size = integer_bytes(length)
    return bytes([offset + 55 + len(size)]) + size


def integer_bytes(value: int) -> bytes:
    """Big-endian without leading zeros; zero is the empty string. Raises InvalidInput below zero."""
    if value < 0:
        raise InvalidInput(f"a transaction holds no negative number; got {value}")
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


@dataclass(frozen=True, slots=True)
class Transaction:
    """An unsigned EIP-1559 transaction; ``to`` is None where it creates a contract."""

    chain_id: ChainId
    nonce: int
    max_priority_fee: Wei
    max_fee: Wei
    gas: Gas
    to: Address | None
    value: Wei
    data: bytes

    def _fields(self) -> list[RlpItem]:
        return [
            integer_bytes(self.chain_id),
            integer_bytes(self.nonce),
            integer_bytes(self.max_priority_fee),
            integer_bytes(self.max_fee),
            integer_bytes(self.gas),
            b"" if self.to is None else bytes(self.to),
            integer_bytes(self.value),
            self.data,
            [],
        ]

    def sign(self, key: AccountKey) -> "SignedTransaction":
        """Sign with the sender's key."""
        fields = self._fields()
        signature = key.sign_digest(keccak256(TRANSACTION_TYPE + rlp_encode(fields)))
        parity = signature[64] - 27
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        raw = TRANSACTION_TYPE + rlp_encode([*fields, integer_bytes(parity), integer_bytes(r), integer_bytes(s)])
        return SignedTransaction(raw, keccak256(raw))


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """What ``eth_sendRawTransaction`` takes, and its hash."""

    raw: bytes
    hash: Hash32


def created_address(sender: Address, nonce: int) -> Address:
    """Address of the contract that ``sender`` creates with ``nonce``."""
    return Address(keccak256(rlp_encode([bytes(sender), integer_bytes(nonce)]))[12:])
