"""Salted hash commitments: bind to a value now, show it later."""

import hmac
from typing import Final

from koinon.crypto.hash import tagged_hash
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import Hash32

SALT_BYTES: Final = 32


def commit(domain: str, value: bytes, salt: bytes) -> Hash32:
    """Commitment to ``value``: binding because BLAKE3 resists collisions, hiding because the salt is random and secret.

    Args:
        domain: what the commitment is for; one made for another purpose does not match.
        value: any bytes.
        salt: 32 bytes, fresh for each commitment and secret until it is opened.

    Raises:
        InvalidInput: the salt is not 32 bytes.
    """
    if len(salt) != SALT_BYTES:
        raise InvalidInput(f"the salt of a commitment has {SALT_BYTES} bytes; got {len(salt)}")
    return tagged_hash(domain, salt, value)


def check(commitment: bytes, domain: str, value: bytes, salt: bytes) -> None:
    """Check an opened commitment.

    Raises:
        InvalidInput: the salt is not 32 bytes.
        Forged: value and salt are not what was committed to.
    """
    if not hmac.compare_digest(commit(domain, value, salt), commitment):
        raise Forged(f"the opened value is not the one committed to ({domain})")
