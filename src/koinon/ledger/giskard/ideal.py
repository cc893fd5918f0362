"""An ideal signature scheme for simulations: nobody can forge because nobody else is handed the signer.

A signature is a keyed hash under a secret that only the scheme holds; sums are exclusive ors.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from koinon.kernel.errors import Forged

_BYTES = 16


@dataclass(frozen=True)
class IdealScheme:
    """Signs and verifies for every position of one validator set; simulated nodes get ``signer(position)`` only.

    Attributes:
        members: which node holds each position, so that a node keeps its key from set to set; None where the
            positions are the nodes.
    """

    secret: bytes
    members: tuple[int, ...] | None = None

    def signer(self, position: int) -> "IdealSigner":
        return IdealSigner(self, position)

    def tag(self, position: int, message: bytes) -> bytes:
        node = position if self.members is None else self.members[position]
        key = self.secret + node.to_bytes(4, "big")
        return hashlib.blake2b(message, digest_size=_BYTES, key=key).digest()

    def verify(self, signer: int, message: bytes, signature: bytes) -> bool:
        return self.tag(signer, message) == signature

    def verify_aggregate(self, signers: Sequence[int], message: bytes, signature: bytes) -> bool:
        return self.aggregate([self.tag(signer, message) for signer in signers]) == signature

    def aggregate(self, signatures: Sequence[bytes]) -> bytes:
        total = 0
        for signature in signatures:
            if len(signature) != _BYTES:
                raise Forged("a summand is no signature of the ideal scheme")
            total ^= int.from_bytes(signature, "big")
        return total.to_bytes(_BYTES, "big")


@dataclass(frozen=True)
class IdealSigner:
    """One position's side of an ``IdealScheme``."""

    scheme: IdealScheme
    position: int

    def sign(self, message: bytes) -> bytes:
        return self.scheme.tag(self.position, message)
