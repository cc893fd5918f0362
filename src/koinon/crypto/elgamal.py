"""Additive ElGamal on BN254, with proofs that contracts check and a key that several trustees hold together.

A ciphertext of a small number m under the key P = x·G is (A, B) = (r·G, m·G + r·P) (Cramer, Gennaro, Schoenmakers
1997). Sums and multiples of ciphertexts are ciphertexts of sums and multiples. Whoever opens one learns m·G and
searches m.

Proofs are made non-interactive by hashing the whole statement (strong Fiat-Shamir; Bernhard, Pereira, Warinschi 2012)
and a context that says who made it for what, so that nobody can pass on another's:

    ballot  B − v·G and A have the same logarithm to P and G for v = 0 or v = 1 (Cramer, Damgård, Schoenmakers 1994)
    share   D = x·A for the x of a verification key x·G (Chaum, Pedersen 1992)

Contracts can check the same bytes. Secret scalars are used in plain Python, not in constant time: make ciphertexts and
shares where nobody else can measure them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Final

from koinon.crypto import bn254
from koinon.crypto.bn254 import G1_BYTES, GENERATOR, IDENTITY, ORDER, Point
from koinon.crypto.hash import keccak256
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, InvalidInput

CIPHERTEXT_BYTES: Final = 2 * G1_BYTES
BALLOT_PROOF_BYTES: Final = 4 * 32
SHARE_PROOF_BYTES: Final = 2 * 32
BALLOT_DOMAIN: Final = keccak256(b"koinon/elgamal/ballot/1")
SHARE_DOMAIN: Final = keccak256(b"koinon/elgamal/share/1")
LARGEST_SEARCH: Final = 1 << 40


@dataclass(frozen=True)
class Ciphertext:
    """An encrypted number. Attributes: r·G and m·G + r·P."""

    first: Point
    second: Point

    @classmethod
    def decode(cls, encoded: bytes) -> "Ciphertext":
        """Raises InvalidInput if these are not two points of the curve."""
        if len(encoded) != CIPHERTEXT_BYTES:
            raise InvalidInput(f"an ElGamal ciphertext has {CIPHERTEXT_BYTES} bytes; got {len(encoded)}")
        return cls(bn254.decode_point(encoded[:G1_BYTES]), bn254.decode_point(encoded[G1_BYTES:]))

    def encode(self) -> bytes:
        return bn254.encode_point(self.first) + bn254.encode_point(self.second)

    def __add__(self, other: "Ciphertext") -> "Ciphertext":
        return Ciphertext(bn254.add(self.first, other.first), bn254.add(self.second, other.second))

    def scaled(self, factor: int) -> "Ciphertext":
        """The ciphertext of ``factor`` times the number."""
        return Ciphertext(bn254.multiply(self.first, factor), bn254.multiply(self.second, factor))


ZERO: Final = Ciphertext(IDENTITY, IDENTITY)
"""The ciphertext of nothing added up yet; hides nothing."""


# Encryption


def random_scalar(rng: Rng) -> int:
    """A scalar from 1 to the order minus 1, of which none is more likely than another by 2^-128."""
    return int.from_bytes(rng.bytes(48), "big") % (ORDER - 1) + 1


def encrypt(key: Point, number: int, randomness: int) -> Ciphertext:
    """Encrypt ``number`` under ``key``; ``randomness`` is a fresh ``random_scalar``, used once and told nobody."""
    hidden = bn254.multiply(key, randomness)
    return Ciphertext(bn254.multiply(GENERATOR, randomness), bn254.add(bn254.multiply(GENERATOR, number), hidden))


def find_logarithm(point: Point, largest: int) -> int:
    """The number m from 0 to ``largest`` with m·G = ``point``, by baby and giant steps (Shanks 1971).

    Takes time and memory with the square root of ``largest``, which may be 2^40.

    Raises:
        InvalidInput: there is no such number, or ``largest`` is out of range.
    """
    if not 0 <= largest <= LARGEST_SEARCH:
        raise InvalidInput(f"numbers are searched up to 2^40; {largest} is out of range")
    steps = isqrt(largest) + 1
    babies: dict[Point, int] = {}
    baby = IDENTITY
    for number in range(steps):
        babies.setdefault(baby, number)
        baby = bn254.add(baby, GENERATOR)
    stride = bn254.negate(baby)
    for giant in range(steps):
        rest = babies.get(point)
        if rest is not None and giant * steps + rest <= largest:
            return giant * steps + rest
        point = bn254.add(point, stride)
    raise InvalidInput(f"the opened value is no number from 0 to {largest}")


# Ballots: the encrypted number is 0 or 1


def prove_ballot(key: Point, vote: int, randomness: int, context: bytes, rng: Rng) -> bytes:
    """128 bytes that prove that ``encrypt(key, vote, randomness)`` holds 0 or 1, without saying which.

    Args:
        context: 32 bytes that bind the proof to a voter and a poll.

    Raises:
        InvalidInput: the vote is neither 0 nor 1.
    """
    if vote not in (0, 1):
        raise InvalidInput("a ballot holds 0 or 1")
    ballot = encrypt(key, vote, randomness)
    nonce = random_scalar(rng)
    challenges, responses = [0, 0], [0, 0]
    challenges[1 - vote], responses[1 - vote] = random_scalar(rng), random_scalar(rng)
    commitments = [IDENTITY, IDENTITY, IDENTITY, IDENTITY]
    other = 1 - vote
    commitments[2 * other : 2 * other + 2] = _ballot_commitments(
        key, ballot, other, challenges[other], responses[other]
    )
    commitments[2 * vote : 2 * vote + 2] = bn254.multiply(GENERATOR, nonce), bn254.multiply(key, nonce)
    challenges[vote] = (_ballot_challenge(key, ballot, context, commitments) - challenges[other]) % ORDER
    responses[vote] = (nonce + challenges[vote] * randomness) % ORDER
    return _words(challenges[0], responses[0], challenges[1], responses[1])


def verify_ballot(key: Point, ballot: Ciphertext, context: bytes, proof: bytes) -> bool:
    """Whether the ciphertext holds 0 or 1 and the proof was made for ``context`` (32 bytes)."""
    scalars = _scalars(proof, BALLOT_PROOF_BYTES)
    if scalars is None or key == IDENTITY:
        return False
    commitments = [
        commitment
        for vote in (0, 1)
        for commitment in _ballot_commitments(key, ballot, vote, scalars[2 * vote], scalars[2 * vote + 1])
    ]
    return (scalars[0] + scalars[2]) % ORDER == _ballot_challenge(key, ballot, context, commitments)


def _ballot_commitments(
    key: Point, ballot: Ciphertext, vote: int, challenge: int, response: int
) -> tuple[Point, Point]:
    """z·G − c·A and z·P − c·(B − v·G)."""
    second = bn254.subtract(ballot.second, GENERATOR) if vote else ballot.second
    return (
        bn254.subtract(bn254.multiply(GENERATOR, response), bn254.multiply(ballot.first, challenge)),
        bn254.subtract(bn254.multiply(key, response), bn254.multiply(second, challenge)),
    )


def _ballot_challenge(key: Point, ballot: Ciphertext, context: bytes, commitments: Sequence[Point]) -> int:
    return _challenge(BALLOT_DOMAIN, context, (key, ballot.first, ballot.second, *commitments))


# Shares of an opening


def prove_share(secret: int, first: Point, context: bytes, rng: Rng) -> tuple[Point, bytes]:
    """A trustee's share x·A of opening a ciphertext with first part ``first``, and 64 bytes that prove it right."""
    nonce = random_scalar(rng)
    share = bn254.multiply(first, secret)
    commitments = bn254.multiply(GENERATOR, nonce), bn254.multiply(first, nonce)
    points = (bn254.multiply(GENERATOR, secret), first, share, *commitments)
    challenge = _challenge(SHARE_DOMAIN, context, points)
    return share, _words(challenge, (nonce + challenge * secret) % ORDER)


def verify_share(verification_key: Point, first: Point, share: Point, context: bytes, proof: bytes) -> bool:
    """Whether ``share`` is the multiple of ``first`` that the trustee's verification key stands for."""
    scalars = _scalars(proof, SHARE_PROOF_BYTES)
    if scalars is None:
        return False
    challenge, response = scalars
    commitments = (
        bn254.subtract(bn254.multiply(GENERATOR, response), bn254.multiply(verification_key, challenge)),
        bn254.subtract(bn254.multiply(first, response), bn254.multiply(share, challenge)),
    )
    return challenge == _challenge(SHARE_DOMAIN, context, (verification_key, first, share, *commitments))


def opened(ciphertext: Ciphertext, shares: Mapping[int, Point]) -> Point:
    """m·G of the encrypted m, from the proved shares of as many trustees as the threshold says, by number from 1."""
    hidden = combined(shares)
    return bn254.subtract(ciphertext.second, hidden)


def combined(shares: Mapping[int, Point]) -> Point:
    """The value at zero of the polynomial that has these multiples at these numbers (Lagrange, in the exponent)."""
    total = IDENTITY
    for index, share in shares.items():
        total = bn254.add(total, bn254.multiply(share, lagrange_at_zero(index, list(shares))))
    return total


def lagrange_at_zero(index: int, indices: Sequence[int]) -> int:
    """The weight of the value at ``index``, modulo the order."""
    above = below = 1
    for other in indices:
        if other != index:
            above = above * other % ORDER
            below = below * (other - index) % ORDER
    return above * pow(below, -1, ORDER) % ORDER


# A key that nobody holds alone (Pedersen 1991: every trustee deals, with Feldman's commitments)


class Dealing:
    """One trustee's part in making a key: a secret polynomial. Neither ``repr`` nor an error ever shows it.

    Attributes:
        commitments: its coefficients times G, for everybody; as many as the threshold.
    """

    __slots__ = ("_coefficients", "commitments")

    def __init__(self, coefficients: Sequence[int]) -> None:
        self._coefficients = tuple(coefficients)
        self.commitments = tuple(bn254.multiply(GENERATOR, coefficient) for coefficient in coefficients)

    @classmethod
    def generate(cls, threshold: int, rng: Rng) -> "Dealing":
        """Raises InvalidInput if the threshold is not 1 to 64."""
        if not 1 <= threshold <= 64:
            raise InvalidInput(f"a key is opened by 1 to 64 trustees together; {threshold} is out of range")
        return cls([random_scalar(rng) for _ in range(threshold)])

    def share(self, index: int) -> int:
        """The secret for trustee ``index`` (from 1), sent to that trustee alone."""
        value = 0
        for coefficient in reversed(self._coefficients):
            value = (value * index + coefficient) % ORDER
        return value

    def __repr__(self) -> str:
        return f"Dealing(threshold={len(self.commitments)})"


def check_dealt_share(commitments: Sequence[Point], index: int, share: int) -> None:
    """Check what another trustee dealt.

    Raises:
        Forged: the share is not on the polynomial that the commitments stand for.
    """
    if bn254.multiply(GENERATOR, share) != _value_at([commitments], index):
        raise Forged(f"the share dealt to trustee {index} does not belong to its dealer's commitments")


def joint_key(dealings: Sequence[Sequence[Point]]) -> Point:
    """The key to encrypt under, from every trustee's commitments."""
    return _value_at(dealings, 0)


def verification_key(dealings: Sequence[Sequence[Point]], index: int) -> Point:
    """What the shares of trustee ``index`` (from 1) are proved against."""
    return _value_at(dealings, index)


def _value_at(dealings: Sequence[Sequence[Point]], index: int) -> Point:
    total = IDENTITY
    for commitments in dealings:
        value = IDENTITY
        for commitment in reversed(commitments):
            value = bn254.add(bn254.multiply(value, index), commitment)
        total = bn254.add(total, value)
    return total


# Transcripts


def _challenge(domain: bytes, context: bytes, points: Sequence[Point]) -> int:
    if len(context) != 32:
        raise InvalidInput(f"the context of a proof has 32 bytes; got {len(context)}")
    return int.from_bytes(keccak256(domain + context + b"".join(map(bn254.encode_point, points))), "big") % ORDER


def _words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def _scalars(proof: bytes, size: int) -> list[int] | None:
    """The scalars of a proof; None where one could have been written in another way too."""
    if len(proof) != size:
        return None
    scalars = [int.from_bytes(proof[place : place + 32], "big") for place in range(0, size, 32)]
    return scalars if max(scalars) < ORDER else None
