"""Shamir's secret sharing of 32-byte secrets (A. Shamir, "How to share a secret", CACM 1979).

The field is the integers modulo p = 2²⁵⁶ + 297, the smallest prime above every 32-byte secret. The share of holder i
is the value at i + 1 of a polynomial of degree t − 1 whose value at 0 is the secret: any t shares give the secret, and
any t − 1 are independent of it.
"""

from collections.abc import Mapping
from typing import Final

from koinon.crypto.hash import tagged_hash
from koinon.kernel.errors import InvalidInput, MalformedMessage

PRIME: Final = (1 << 256) + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33
MOST_HOLDERS: Final = 256
_COEFFICIENT_DOMAIN: Final = "koinon/federated/polynomial/1"


def split(secret: bytes, threshold: int, holders: int, entropy: bytes) -> tuple[bytes, ...]:
    """Shares of ``secret`` for holders 0 to ``holders`` − 1.

    Args:
        secret: 32 bytes.
        entropy: secret random bytes, used for no other secret; the coefficients are hashes of it, 2⁻²⁴⁷ from uniform.

    Raises:
        InvalidInput: a secret of another length, or a threshold that is not from 2 to the number of holders.
    """
    if len(secret) != SECRET_BYTES:
        raise InvalidInput(f"a shared secret has {SECRET_BYTES} bytes; got {len(secret)}")
    if not 2 <= threshold <= holders <= MOST_HOLDERS:
        raise InvalidInput(f"a threshold of {threshold} does not fit {holders} holders, of {MOST_HOLDERS} at most")
    powers = (tagged_hash(_COEFFICIENT_DOMAIN, entropy, power.to_bytes(2, "big")) for power in range(1, threshold))
    coefficients = [int.from_bytes(secret, "big"), *(int.from_bytes(power, "big") for power in powers)]
    return tuple(_value_at(coefficients, holder + 1).to_bytes(SHARE_BYTES, "big") for holder in range(holders))


def check_share(share: bytes) -> None:
    """Raises MalformedMessage unless these bytes are a number of the field."""
    if len(share) != SHARE_BYTES or int.from_bytes(share, "big") >= PRIME:
        raise MalformedMessage(f"a share is a number below 2^256 + 297 in {SHARE_BYTES} bytes")


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret, from the shares of at least ``threshold`` holders; of more, the lowest ``threshold`` count.

    Raises:
        InvalidInput: too few shares.
        MalformedMessage: a share is no number of the field, or the shares belong to no 32-byte secret.
    """
    if len(shares) < threshold:
        raise InvalidInput(f"{len(shares)} shares do not open a secret of threshold {threshold}")
    chosen = sorted(shares)[:threshold]
    total = 0
    for holder in chosen:
        check_share(shares[holder])
        above, below = 1, 1
        for other in chosen:
            if other != holder:
                above = above * (other + 1) % PRIME
                below = below * (other - holder) % PRIME
        total += int.from_bytes(shares[holder], "big") * above * pow(below, -1, PRIME)
    secret = total % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise MalformedMessage("these shares belong to no secret of 32 bytes")
    return secret.to_bytes(SECRET_BYTES, "big")


def _value_at(coefficients: list[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value
