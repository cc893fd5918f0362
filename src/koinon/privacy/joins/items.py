"""What stands for an identifier in one session: a hash, the message that its codeword is of, and its three bins."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from koinon.crypto.hash import tagged_hash
from koinon.privacy.joins.codes import MESSAGE_BITS, MESSAGE_BYTES
from koinon.privacy.joins.cuckoo import CHOICES
from koinon.privacy.joins.states import Terms
from koinon.wire.joins import TransferOffer

ITEM_BYTES: Final = 16
_DOMAIN: Final = "koinon/intersection/1"
_BINS_DOMAIN: Final = "koinon/intersection/bins/1"
_LAST_BITS: Final = (1 << MESSAGE_BITS % 8) - 1


def session_of(terms: Terms, salts: tuple[bytes, bytes], offer: TransferOffer) -> bytes:
    """What all hashes depend on; ``salts`` are the asker's and the other's.

    The asker's offer comes last, so that the other cannot choose hashes by trying salts.
    """
    return bytes(tagged_hash(_DOMAIN, terms.session, *salts, offer.sum, offer.power))


def hashed(identifiers: Sequence[bytes], session: bytes) -> np.ndarray:
    """uint8 of shape (n, 16); ``session`` has 32 bytes."""
    digests = [blake3(identifier, key=session).digest(ITEM_BYTES) for identifier in identifiers]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, ITEM_BYTES)


def messages_of(items: np.ndarray) -> np.ndarray:
    """The first 76 bits of items: uint8 of shape (n, 10).

    Two items are confused only in one bin. Of two sets of 2²⁴ items some 2²⁶ pairs meet in a bin, and one of them has
    equal messages with a probability of less than 2⁻⁴⁹.
    """
    messages = items[:, :MESSAGE_BYTES].copy()
    messages[:, -1] &= _LAST_BITS
    return messages


def bins_of(items: np.ndarray, bins: int, session: bytes) -> np.ndarray:
    """The three bins each item may be in: int64 of shape (n, 3)."""
    key = tagged_hash(_BINS_DOMAIN, session)[:16]
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # one block is one call of a function
    words = np.frombuffer(cipher.update(items.tobytes()), "<u4").reshape(-1, 4)[:, :CHOICES]
    return ((words.astype(np.uint64) * np.uint64(bins)) >> np.uint64(32)).astype(np.int64)
