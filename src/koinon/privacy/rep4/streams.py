"""Pseudorandom words by (key, operation, block): AES-128 in counter mode.

The 16-byte counter block is the operation's number (8 bytes, big end first) and the block within it (8 bytes), so that
no two operations ever share a block. The four parties of a session draw from a ``Tape``: one operation is a large draw,
or a piece from which many small ones are cut.
"""

from math import prod
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from koinon.crypto.hash import tagged_hash

_CHUNK: Final = 1 << 20
_ZEROS: Final = memoryview(bytes(_CHUNK))
_BLOCK_BYTES: Final = 16
_PIECE_BYTES: Final = 32 * 1024
_LARGE_BYTES: Final = 8 * 1024
"""Draws from here on have an operation of their own."""
_KEY_DOMAIN: Final = "koinon/rep4/stream-key/1"


class Stream:
    """The words of one key."""

    __slots__ = ("_encryptor",)

    def __init__(self, secret: bytes) -> None:
        key = tagged_hash(_KEY_DOMAIN, secret)[:_BLOCK_BYTES]
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(_BLOCK_BYTES))).encryptor()

    def draw(self, operation: int, shape: tuple[int, ...], dtype: Any = np.uint64) -> np.ndarray:
        """Uniform words of ``dtype`` (an unsigned type) for one operation; the same arguments give the same words."""
        self._encryptor.reset_nonce(operation.to_bytes(8, "big") + bytes(8))
        count = prod(shape) * np.dtype(dtype).itemsize
        buffer = np.empty(count + _BLOCK_BYTES, np.uint8)
        room = buffer.data
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            self._encryptor.update_into(_ZEROS[:size], room[start : start + size + _BLOCK_BYTES - 1])
        return np.ndarray(shape, dtype, buffer)


class Tape:
    """The words of one key in order: whoever draws the same shapes and types is at the same place (REP4-NONCE)."""

    __slots__ = ("_operation", "_piece", "_stream", "_used")

    def __init__(self, secret: bytes) -> None:
        self._stream = Stream(secret)
        self._operation = 0
        self._piece = np.empty(0, np.uint8)
        self._used = 0

    def draw(self, shape: tuple[int, ...], dtype: Any = np.uint64) -> np.ndarray:
        """The next uniform words, of an unsigned ``dtype``."""
        size = prod(shape) * np.dtype(dtype).itemsize
        if size >= _LARGE_BYTES:
            return self._stream.draw(self._next(), shape, dtype)
        begin = self._used
        if begin + size > len(self._piece):
            begin, self._piece = 0, self._stream.draw(self._next(), (_PIECE_BYTES,), np.uint8)
        self._used = begin + -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
        return np.ndarray(shape, dtype, self._piece, begin)

    def _next(self) -> int:
        self._operation += 1
        return self._operation - 1
