"""Signing transactions with a key at hand: types 0 (EIP-155), 1 (EIP-2930) and 2 (EIP-1559)."""

from dataclasses import dataclass

from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey
from koinon.kernel.ids import Address
from koinon.kernel.quantities import Gas, Wei
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
        signature = key.sign_digest(keccak256(self._encoded(self._closing)))
        parity, r, s = (
            signature[64] - 27,
            int.from_bytes(signature[:32], "big"),
            int.from_bytes(signature[32:64], "big"),
        )
        return parse_transaction(self._encoded((parity if self.kind else 35 + 2 * self.chain_id + parity, r, s)))

    def from_sender(self, sender: Address) -> Transaction:
        """The transaction as if ``sender`` had signed it; its signature is zero, so no chain takes it."""
        raw = self._encoded((0, 0, 0))
        return Transaction(
            raw, keccak256(raw), sender, self.kind, self.chain_id, self.nonce, Wei(self.maximum_tip),
            Wei(self.maximum_fee), Gas(self.gas), self.to, Wei(self.value), self.data, self.access_list, 0, 0, 0,
        )  # fmt: skip

    @property
    def _closing(self) -> tuple[int, ...]:
        """What follows the fields in what is signed (EIP-155)."""
        return () if self.kind else (self.chain_id, 0, 0)

    def _encoded(self, closing: tuple[int, ...]) -> bytes:
        target = b"" if self.to is None else bytes(self.to)
        call: list[object] = [self.gas, target, self.value, self.data]
        if self.kind == 0:
            return rlp.encode([self.nonce, self.maximum_fee, *call, *closing])
        fees = [self.maximum_fee] if self.kind == 1 else [self.maximum_tip, self.maximum_fee]
        accesses = [[bytes(owner), [slot.to_bytes(32, "big") for slot in slots]] for owner, slots in self.access_list]
        return bytes([self.kind]) + rlp.encode([self.chain_id, self.nonce, *fees, *call, accesses, *closing])
