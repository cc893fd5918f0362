"""Pseudorandom words by (key, operation, block): AES-128 in counter mode.

The 16-byte counter block is the operation's number (8 bytes, big end first) and the block within it (8 bytes), so that
no two operations ever share a block and no party can fall out of step by drawing more or less than another.
"""

from math import prod
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from koinon.crypto.hash import tagged_hash

_CHUNK: Final = 1 << 20
_ZEROS: Final = memoryview(bytes(_CHUNK))
_BLOCK_BYTES: Final = 16
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
