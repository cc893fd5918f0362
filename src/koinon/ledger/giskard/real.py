"""Real signatures for simulations: slow, but the very ones that nodes check."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from koinon.crypto.bls import BlsKey
from koinon.kernel.ids import ZERO_ADDRESS, NodeId
from koinon.ledger.finality import BlsVerifier
from koinon.ledger.types import Validator, ValidatorSet


@lru_cache(maxsize=256)
def key_of(node: int) -> BlsKey:
    """The key of a simulated node; the same in every world."""
    return BlsKey((node + 1).to_bytes(32, "big"))


@dataclass(frozen=True)
class RealScheme:
    """BLS for every position of one validator set; takes the place of ``IdealScheme``.

    Attributes:
        members: which node holds each position.
    """

    members: tuple[int, ...]

    @cached_property
    def _verifier(self) -> BlsVerifier:
        return BlsVerifier(
            ValidatorSet(
                tuple(Validator(NodeId(bytes([n]) * 32), ZERO_ADDRESS, key_of(n).public_key) for n in self.members)
            )
        )

    def signer(self, position: int) -> BlsKey:
        return key_of(self.members[position])

    def verify(self, signer: int, message: bytes, signature: bytes) -> bool:
        return self._verifier.verify(signer, message, signature)

    def verify_aggregate(self, signers: Sequence[int], message: bytes, signature: bytes) -> bool:
        return self._verifier.verify_aggregate(signers, message, signature)

    def aggregate(self, signatures: Sequence[bytes]) -> bytes:
        return self._verifier.aggregate(signatures)
