"""A function that two compute together: one has the key, the other the inputs, and neither sees the other's.

Kolesnikov, Kumaresan, Rosulek and Trieu, "Efficient batched oblivious PRF with applications to private set
intersection" (CCS 2016), figure 1, with the linear code of Orrù, Orsini and Scholl (ePrint 2016/933). Every bin i has a
key of its own, (q_i, s); the value of x there is

    F(i, x) = H(i, q_i ⊕ (C(x) ∧ s))      C: a linear code of distance 172, s: 512 secret bits of the key's owner

Who asks has t_i = q_i ⊕ (C(x_i) ∧ s) for the one x_i it put in the bin; for any other x at least 172 bits of s stand
between it and the value. Rows of t and q come from 512 oblivious transfers of keys, stretched by AES in counter mode,
with one correction of 512 bits for each bin.

Against owners that do anything at all, with the proof of ``consistency``: the key's owner learns nothing and can make
the values wrong; who asks gets the values of one x in each bin. Without the proof a codeword with k bits turned over
would show it k bits of s, by 2^k hashes, if the owner of the key has that x, and soon all of s.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from blake3 import blake3

from koinon.privacy.joins.bits import transposed
from koinon.privacy.joins.codes import WIDTH, WORD_BYTES
from koinon.privacy.rep4.streams import Stream

VALUE_BYTES: Final = 12
"""Of a value: two sets of 2²⁴ items meet by accident with a probability of less than 2⁻⁴⁶."""
BINS_AT_ONCE: Final = 1 << 16


def batches_of(bins: int) -> list[int]:
    """How many bins each batch of corrections has."""
    return [min(BINS_AT_ONCE, bins - start) for start in range(0, bins, BINS_AT_ONCE)]


def correct(pairs: Sequence[tuple[bytes, bytes]], words: np.ndarray, number: int) -> tuple[np.ndarray, bytes]:
    """One batch of bins of whoever asks.

    Args:
        pairs: both keys of the 512 transfers.
        words: the codeword in each bin, uint8 of shape (m, 64), m a multiple of 8.
        number: of the batch; no two batches of one session may share it.

    Returns:
        The columns of t, uint8 of shape (512, m / 8); and the correction, 64·m bytes, for the key's owner.
    """
    first = stretched([pair[0] for pair in pairs], number, len(words))
    second = stretched([pair[1] for pair in pairs], number, len(words))
    return first, (first ^ second ^ transposed(words)).tobytes()


def keyed(keys: Sequence[bytes], secret: np.ndarray, correction: bytes, number: int) -> np.ndarray:
    """The columns of q of one batch, uint8 of shape (512, m / 8), for the owner of the keys it chose with the bits of
    ``secret``.

    Args:
        secret: s, bool of shape (512,).
        correction: 64·m bytes.
    """
    masks = np.frombuffer(correction, np.uint8).reshape(WIDTH, -1)
    return stretched(keys, number, masks.shape[1] * 8) ^ np.where(secret[:, None], masks, np.uint8(0))


def stretched(keys: Sequence[bytes], number: int, count: int) -> np.ndarray:
    """The columns of one batch of ``count`` rows: uint8 of shape (keys, count / 8)."""
    return np.stack([Stream(key).draw(number, (count // 8,), np.uint8) for key in keys])


def values(rows: np.ndarray, bins: np.ndarray, choice: int) -> np.ndarray:
    """H of rows: uint8 of shape (n, 12).

    Args:
        rows: of t, or of q ⊕ (C(x) ∧ s); uint8 of shape (n, 64).
        bins: which bin each belongs to.
        choice: which of an item's choices that bin is, so that an item whose choices coincide shows nothing.
    """
    width = 8 + WORD_BYTES
    framed = np.empty((len(rows), width), np.uint8)
    framed[:, :8] = (bins.astype("<u8") * 4 + choice).view(np.uint8).reshape(-1, 8)
    framed[:, 8:] = rows
    data = memoryview(framed.reshape(-1).data)
    digests = [blake3(data[at : at + width]).digest(VALUE_BYTES) for at in range(0, len(data), width)]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, VALUE_BYTES)
