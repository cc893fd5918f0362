"""Updates as words modulo 2^k, with room for every possible sum: nothing wraps silently.

A number x becomes round(x · 2^f), at most ``limit`` in size. The terms of a round are refused unless n · limit fits a
signed word, so the sum of n honest updates is exact; a sum beyond survivors · limit shows that somebody was not honest.
"""

from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput, MalformedMessage, ProtocolAbort

WORD_TYPES: Final[dict[int, np.dtype[Any]]] = {32: np.dtype("<u4"), 64: np.dtype("<u8")}
LONGEST: Final = 1 << 22
"""Words of one update: 32 MiB."""


def check_range(owners: int, limit: int, word_bits: int) -> None:
    """Raises InvalidInput where the sum of this many words up to ``limit`` in size could leave a signed word."""
    if word_bits not in WORD_TYPES:
        raise InvalidInput(f"words have 32 or 64 bits; got {word_bits}")
    if limit < 1 or owners * limit >= 1 << (word_bits - 1):
        raise InvalidInput(
            f"updates of {owners} owners with words up to {limit} do not fit {word_bits} bits when summed;"
            " clip closer, use fewer fraction bits or wider words"
        )


def encode(update: np.ndarray, fraction_bits: int, limit: int, word_bits: int) -> np.ndarray:
    """An update of float64 (d,) as unsigned words (d,), rounded to the nearest.

    Raises:
        InvalidInput: not finite, or beyond ``limit``: clip before encoding. The error shows no number of the update.
    """
    values = np.asarray(update, np.float64)
    if values.ndim != 1 or not 1 <= values.size <= LONGEST:
        raise InvalidInput(f"an update is a vector of 1 to {LONGEST} numbers; got shape {values.shape}")
    if not np.isfinite(values).all():
        raise InvalidInput("the update holds a number that is not finite; train with a smaller step")
    whole = np.round(values * 2.0**fraction_bits)
    if np.abs(whole).max() > limit:
        raise InvalidInput("the update holds a number beyond the agreed limit; clip it first")
    return as_words(whole.astype(np.int64), word_bits)


def as_words(whole: np.ndarray, word_bits: int) -> np.ndarray:
    """Signed whole numbers (int64) as unsigned words modulo 2^k."""
    return np.ascontiguousarray(whole.astype(np.int64).view(np.uint64).astype(WORD_TYPES[word_bits]))


def decode_sum(words: np.ndarray, fraction_bits: int, limit: int, survivors: int) -> np.ndarray:
    """The sum of ``survivors`` updates as float64 (d,).

    Raises:
        ProtocolAbort: no honest updates have this sum; who lied cannot be told, because updates are hidden.
    """
    signed = words.view(np.dtype(f"<i{words.dtype.itemsize}")).astype(np.int64)
    if int(signed.max(initial=0)) > survivors * limit or int(signed.min(initial=0)) < -survivors * limit:
        raise ProtocolAbort("the sum is beyond what updates within the agreed limit can give; somebody sent another")
    return np.asarray(signed / 2.0**fraction_bits)


def to_bytes(words: np.ndarray) -> bytes:
    """Little-endian bytes of unsigned words."""
    return np.ascontiguousarray(words).tobytes()


def from_bytes(data: bytes, length: int, word_bits: int) -> np.ndarray:
    """Unsigned words from bytes. Raises MalformedMessage for any other length."""
    kind = WORD_TYPES[word_bits]
    if len(data) != length * kind.itemsize:
        raise MalformedMessage(f"{length} words of {word_bits} bits take {length * kind.itemsize} bytes")
    return np.frombuffer(data, kind)
