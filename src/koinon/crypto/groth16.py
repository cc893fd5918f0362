"""Checking Groth16 proofs over BN254 (Jens Groth, "On the Size of Pairing-based Non-interactive Arguments", 2016).

A key and a proof are the bytes that contracts take: points as in EIP-196 and EIP-197, one behind the other.

    key    alpha (64), beta (128), gamma (128), delta (128), then one point (64) for the constant and each public input
    proof  A (64), B (128), C (64)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from koinon.crypto import bn254
from koinon.crypto.bn254 import G1_BYTES, G2_BYTES, ORDER, Point
from koinon.kernel.errors import InvalidInput

PROOF_BYTES: Final = 2 * G1_BYTES + G2_BYTES
MOST_INPUTS: Final = 64
_FIXED_BYTES: Final = G1_BYTES + 3 * G2_BYTES


@dataclass(frozen=True)
class VerifyingKey:
    """What a proof is checked against. Whoever made it can forge proofs if they kept the randomness of its set-up.

    Attributes:
        alpha: [α]₁ of the paper.
        beta, gamma, delta: [β]₂, [γ]₂, [δ]₂, encoded.
        inputs: for the constant one and each public input i, [(β·uᵢ(τ) + α·vᵢ(τ) + wᵢ(τ)) / γ]₁.
    """

    alpha: Point
    beta: bytes
    gamma: bytes
    delta: bytes
    inputs: tuple[Point, ...]

    @classmethod
    def decode(cls, encoded: bytes) -> "VerifyingKey":
        """Raises InvalidInput: no whole number of points, more than 64 inputs, or a first point off the curve."""
        count, rest = divmod(len(encoded) - _FIXED_BYTES, G1_BYTES)
        if rest or not 1 <= count <= MOST_INPUTS + 1:
            raise InvalidInput(
                f"a Groth16 key has {_FIXED_BYTES} bytes and {G1_BYTES} for each of 1 to {MOST_INPUTS + 1} points; "
                f"got {len(encoded)}"
            )
        places = range(_FIXED_BYTES, len(encoded), G1_BYTES)
        beta, gamma, delta = (encoded[place : place + G2_BYTES] for place in range(G1_BYTES, _FIXED_BYTES, G2_BYTES))
        points = tuple(bn254.decode_point(encoded[place : place + G1_BYTES]) for place in places)
        return cls(bn254.decode_point(encoded[:G1_BYTES]), beta, gamma, delta, points)

    def encode(self) -> bytes:
        points = b"".join(bn254.encode_point(point) for point in self.inputs)
        return bn254.encode_point(self.alpha) + self.beta + self.gamma + self.delta + points


def verify(key: VerifyingKey, proof: bytes, inputs: Sequence[int]) -> bool:
    """Whether ``proof`` shows that a witness exists for the public inputs.

    False as well for another number of inputs than the key has, an input that is not below the curve's order (it would
    be a second name of a smaller one), and points that are none.
    """
    if len(proof) != PROOF_BYTES or len(inputs) + 1 != len(key.inputs):
        return False
    if not all(0 <= value < ORDER for value in inputs):
        return False
    total = key.inputs[0]
    for point, value in zip(key.inputs[1:], inputs, strict=True):
        total = bn254.add(total, bn254.multiply(point, value))
    second = proof[G1_BYTES : G1_BYTES + G2_BYTES]
    try:
        first = bn254.decode_point(proof[:G1_BYTES])
        third = bn254.decode_point(proof[G1_BYTES + G2_BYTES :])
        pairs = [(bn254.negate(first), second), (key.alpha, key.beta), (total, key.gamma), (third, key.delta)]
        return bn254.pairing_is_one(pairs)
    except InvalidInput:
        return False
