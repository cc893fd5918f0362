"""A function that two compute together: one has the key, the other the inputs, and neither sees the other's.

Kolesnikov, Kumaresan, Rosulek and Trieu, "Efficient batched oblivious PRF with applications to private set
intersection" (CCS 2016), figure 1. Every bin i has a key of its own, (q_i, s); the value of x there is

    F(i, x) = H(i, q_i ⊕ (C(x) ∧ s))        C: 512 pseudorandom bits, s: 512 secret bits of the key's owner

Who asks has t_i = q_i ⊕ (C(x_i) ∧ s) for the one x_i it put in the bin; for any other x some 256 bits of s stand
between it and the value. Rows of t and q come from 512 oblivious transfers of keys, stretched by AES in counter mode,
with one correction of 512 bits for each bin.

Semi-honest: both follow the protocol. The owner of the key may try anything and learns nothing, but can make the values
wrong. Who asks must be trusted to form its corrections of codewords: a codeword with k bits turned over shows it k bits
of s, by 2^k hashes, if the owner of the key has that x. With some thirty x of which it knows that, it has all of s, and
then the value of any x in any bin, so that it can test as many guesses as it likes.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from koinon.privacy.joins.bits import transposed
from koinon.privacy.rep4.streams import Stream

WIDTH: Final = 512
"""Bits of a codeword; for up to 2²⁴ items the paper asks for 440 to 448."""
ROW_BYTES: Final = WIDTH // 8
VALUE_BYTES: Final = 12
"""Of a value: two sets of 2²⁴ items meet by accident with a probability of less than 2⁻⁴⁶."""
ITEM_BYTES: Final = 16
BINS_AT_ONCE: Final = 1 << 16

_COUNTERS: Final = np.arange(WIDTH // 128, dtype=np.uint8)


def codewords(items: np.ndarray, key: bytes) -> np.ndarray:
    """C of every item: uint8 of shape (n, 64) for hashed items of shape (n, 16) and a public 16-byte key."""
    blocks = np.repeat(items[:, None, :], len(_COUNTERS), axis=1)
    blocks[:, :, 0] ^= _COUNTERS
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # one block is one call of a function
    return np.frombuffer(cipher.update(blocks.tobytes()), np.uint8).reshape(len(items), ROW_BYTES)


def correct(pairs: Sequence[tuple[bytes, bytes]], words: np.ndarray, number: int) -> tuple[np.ndarray, bytes]:
    """One batch of bins of whoever asks.

    Args:
        pairs: both keys of the 512 transfers.
        words: the codeword in each bin, uint8 of shape (m, 64), m a multiple of 8.
        number: of the batch; no two batches of one session may share it.

    Returns:
        t, uint8 of shape (m, 64); and the correction, 64·m bytes, for the key's owner.
    """
    count = len(words)
    first = _stretched([pair[0] for pair in pairs], number, count)
    second = _stretched([pair[1] for pair in pairs], number, count)
    return transposed(first), (first ^ second ^ transposed(words)).tobytes()


def keyed(keys: Sequence[bytes], secret: np.ndarray, correction: bytes, number: int) -> np.ndarray:
    """q of one batch, uint8 of shape (m, 64), for the owner of the keys it chose with the bits of ``secret``.

    Args:
        secret: s, bool of shape (512,).
        correction: 64·m bytes.
    """
    masks = np.frombuffer(correction, np.uint8).reshape(WIDTH, -1)
    return transposed(_stretched(keys, number, masks.shape[1] * 8) ^ np.where(secret[:, None], masks, np.uint8(0)))


def values(rows: np.ndarray, bins: np.ndarray, choice: int) -> np.ndarray:
    """H of rows: uint8 of shape (n, 12).

    Args:
        rows: t, or q ⊕ (C(x) ∧ s); uint8 of shape (n, 64).
        bins: which bin each belongs to.
        choice: which of an item's choices that bin is, so that an item whose choices coincide shows nothing.
    """
    width = 8 + ROW_BYTES
    framed = np.empty((len(rows), width), np.uint8)
    framed[:, :8] = (bins.astype("<u8") * 4 + choice).view(np.uint8).reshape(-1, 8)
    framed[:, 8:] = rows
    data = memoryview(framed.reshape(-1).data)
    digests = [blake3(data[at : at + width]).digest(VALUE_BYTES) for at in range(0, len(data), width)]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, VALUE_BYTES)


def _stretched(keys: Sequence[bytes], number: int, count: int) -> np.ndarray:
    return np.stack([Stream(key).draw(number, (count // 8,), np.uint8) for key in keys])
