"""Oblivious transfer of random keys: the receiver gets one key of each pair, and the sender does not learn which.

Naor and Pinkas, "Efficient oblivious transfer protocols" (SODA 2001), section 3, on secp256k1. Each transfer's two
public keys add up to a point C whose logarithm the receiver does not know, so it can know only one of the two
secrets; both of its keys are uniform, so the sender learns nothing, whatever it does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coincurve import PrivateKey, PublicKey

from koinon.crypto.hash import tagged_hash
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged

POINT_BYTES: Final = 33
KEY_BYTES: Final = 32
_DOMAIN: Final = "koinon/oblivious-transfer/1"


@dataclass(frozen=True)
class Offer:
    """What the sender keeps between its two messages.

    Attributes:
        sum: C, which the two public keys of every transfer add up to; 33 bytes.
        exponent: r.
        power: g^r, 33 bytes.
    """

    sum: bytes
    exponent: bytes
    power: bytes


def offer(rng: Rng) -> Offer:
    """The sender's first move; ``sum`` and ``power`` go to the receiver."""
    exponent = _scalar(rng)
    return Offer(_scalar(rng).public_key.format(), exponent.secret, exponent.public_key.format())


def choose(sum_: bytes, power: bytes, choices: Sequence[bool], session: bytes, rng: Rng) -> tuple[bytes, list[bytes]]:
    """The receiver's only move.

    Returns:
        The first public key of every transfer, one after the other, for the sender; and the chosen 32-byte keys.

    Raises:
        Forged: ``sum_`` or ``power`` is no point.
    """
    total, base = _point(sum_), _point(power)
    points, keys = [], []
    for number, choice in enumerate(choices):
        scalar = _scalar(rng)
        known = scalar.public_key
        points.append((_minus(total, known) if choice else known).format())
        keys.append(_key(session, number, choice, base.multiply(scalar.secret)))
    return b"".join(points), keys


def keys_of(sent: Offer, points: bytes, count: int, session: bytes) -> list[tuple[bytes, bytes]]:
    """The sender's pairs of 32-byte keys. Raises Forged for anything but ``count`` points of an honest receiver."""
    if len(points) != count * POINT_BYTES:
        raise Forged(f"{len(points)} bytes are not the {count} points of {POINT_BYTES} bytes that were due")
    total = _point(sent.sum)
    pairs = []
    for number in range(count):
        first = _point(points[number * POINT_BYTES :][:POINT_BYTES])
        second = _minus(total, first)
        pairs.append(
            (
                _key(session, number, False, first.multiply(sent.exponent)),
                _key(session, number, True, second.multiply(sent.exponent)),
            )
        )
    return pairs


def _scalar(rng: Rng) -> PrivateKey:
    return PrivateKey(rng.bytes(32))


def _point(encoded: bytes) -> PublicKey:
    try:
        if len(encoded) != POINT_BYTES:
            raise ValueError
        return PublicKey(encoded)
    except ValueError:
        raise Forged("the other side sent bytes that are no point of secp256k1") from None


def _minus(left: PublicKey, right: PublicKey) -> PublicKey:
    encoded = right.format()
    negative = bytes([encoded[0] ^ 1]) + encoded[1:]
    try:
        return PublicKey.combine_keys([left, PublicKey(negative)])
    except ValueError:
        raise Forged("the other side sent the one point that would tell it both keys of a transfer") from None


def _key(session: bytes, number: int, second: bool, shared: PublicKey) -> bytes:
    return bytes(tagged_hash(_DOMAIN, session, number.to_bytes(4, "big"), bytes([second]), shared.format()))
