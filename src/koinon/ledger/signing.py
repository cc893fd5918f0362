"""Signing transactions with a key at hand: types 0 (EIP-155), 1 (EIP-2930) and 2 (EIP-1559)."""

from dataclasses import dataclass

from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey
from koinon.kernel.ids import Address
from koinon.ledger import rlp
from koinon.ledger.transaction import AccessList, Transaction, parse_transaction


@dataclass(frozen=True)
class Unsigned:
    """A transaction before it is signed; fees are wei per gas, and both the gas price in types 0 and 1."""

    kind: int
    chain_id: int
    nonce: int
    maximum_tip: int
    maximum_fee: int
    gas: int
    to: Address | None
    value: int
    data: bytes
    access_list: AccessList = ()

    def sign(self, key: AccountKey) -> Transaction:
        """The signed transaction. Raises MalformedMessage where a field is out of range."""
        target = b"" if self.to is None else bytes(self.to)
        accesses = [[bytes(owner), [slot.to_bytes(32, "big") for slot in slots]] for owner, slots in self.access_list]
        call: list[object] = [self.gas, target, self.value, self.data]
        if self.kind == 0:
            fields: list[object] = [self.nonce, self.maximum_fee, *call]
            parity, r, s = _sign(key, rlp.encode([*fields, self.chain_id, 0, 0]))
            return parse_transaction(rlp.encode([*fields, 35 + 2 * self.chain_id + parity, r, s]))
        fees = [self.maximum_fee] if self.kind == 1 else [self.maximum_tip, self.maximum_fee]
        fields = [self.chain_id, self.nonce, *fees, *call, accesses]
        prefix = bytes([self.kind])
        return parse_transaction(prefix + rlp.encode([*fields, *_sign(key, prefix + rlp.encode(fields))]))


def _sign(key: AccountKey, message: bytes) -> tuple[int, int, int]:
    signature = key.sign_digest(keccak256(message))
    return signature[64] - 27, int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
