"""The proof that corrections are made of codewords: a universal hash of every column, before and after.

The check of Orrù, Orsini and Scholl (ePrint 2016/933), with GHASH in the place of many sums of random rows. Who asks
sent corrections, which make q = t ⊕ (X ∧ s) for some bit matrix X; honest, every row of X is a codeword. Only then the
key's owner says a random challenge; it fixes a linear function R of columns. Who asks answers with R·t and with R·w,
the hashes of its messages' columns, and the key's owner holds them against what it has:

    R·q = R·t ⊕ (C(R·w) ∧ s)

The last 128 rows of all are random messages, in no bin, and R adds them to the rest as they are: they hide everything
that R·t and R·w could say about items, whatever the challenge. ``docs/spec/intersection.md`` has the proof that whoever
passes asked for one item in each bin, but with a probability of 2⁻⁴⁰.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from koinon.crypto.hash import tagged_hash
from koinon.kernel.errors import Forged
from koinon.privacy.joins.bits import transposed
from koinon.privacy.joins.codes import MESSAGE_BITS, MESSAGE_BYTES, WIDTH, encoded

CHALLENGE_BYTES: Final = 32
HASH_BYTES: Final = 16
MASKS: Final = 8 * HASH_BYTES
"""Rows of random messages that are added to hashes."""
_DOMAIN: Final = "koinon/intersection/consistency/1"
_NONCE: Final = bytes(12)


@dataclass(frozen=True)
class Proof:
    """What who asks answers to a challenge.

    Attributes:
        columns: R·t, 16 bytes for each of the 512 columns.
        messages: R·w, 16 bytes for each of the 76 bits of a message.
    """

    columns: bytes
    messages: bytes


def hashed(batches: Iterable[np.ndarray], masks: np.ndarray, challenge: bytes) -> np.ndarray:
    """R of columns.

    Args:
        batches: of rows, each uint8 of shape (columns, rows / 8).
        masks: the last 128 rows, uint8 of shape (columns, 16).

    Returns:
        uint8 of shape (columns, 16).
    """
    total = masks.copy()
    for number, columns in enumerate(batches):
        total ^= _hashed(columns, tagged_hash(_DOMAIN, challenge, number.to_bytes(4, "big"))[:16])
    return total


def verify(proof: Proof, own: np.ndarray, secret: np.ndarray) -> None:
    """Hold a proof against R·q.

    Args:
        own: R·q, uint8 of shape (512, 16).
        secret: s, bool of shape (512,).

    Raises:
        Forged: the corrections were not made of codewords, or the proof has another size.
    """
    if len(proof.columns) != WIDTH * HASH_BYTES or len(proof.messages) != MESSAGE_BITS * HASH_BYTES:
        raise Forged("the other owner's proof has another size than was due")
    claimed = np.frombuffer(proof.columns, np.uint8).reshape(WIDTH, HASH_BYTES)
    bits = np.zeros((8 * MESSAGE_BYTES, HASH_BYTES), np.uint8)
    bits[:MESSAGE_BITS] = np.frombuffer(proof.messages, np.uint8).reshape(MESSAGE_BITS, HASH_BYTES)
    words = transposed(encoded(transposed(bits)))
    if (own != claimed ^ np.where(secret[:, None], words, np.uint8(0))).any():
        raise Forged("the other owner asked for more than one item in a bin; the intersection ends before it is told")


def _hashed(columns: np.ndarray, key: bytes) -> np.ndarray:
    """GHASH of each column (NIST SP 800-38D): what an authentication tag is apart from a constant."""
    cipher = AESGCM(key)
    rows = [column.tobytes() for column in columns]
    tags = b"".join(cipher.encrypt(_NONCE, b"", row) for row in (*rows, bytes(columns.shape[1])))
    found: np.ndarray = np.frombuffer(tags, np.uint8).reshape(-1, HASH_BYTES)
    hashes: np.ndarray = found[:-1] ^ found[-1]
    return hashes
