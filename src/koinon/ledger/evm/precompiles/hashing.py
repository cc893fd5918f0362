"""0x02 SHA-256, 0x03 RIPEMD-160, 0x04 the data itself, 0x09 BLAKE2b's compression (EIP-152)."""

import hashlib
from typing import Final

import blake2b
from Crypto.Hash import RIPEMD160 as _RIPEMD160

from koinon.ledger.precompile import Precompile, PrecompileFailure

_BLAKE2_BYTES: Final = 213


def _word_price(base: int, word: int, data: bytes) -> int:
    return base + word * ((len(data) + 31) // 32)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _ripemd160(data: bytes) -> bytes:
    # Not hashlib's: whether that has RIPEMD-160 depends on how OpenSSL is configured on the machine.
    return bytes(12) + _RIPEMD160.new(data).digest()


def _blake2_gas(data: bytes) -> int:
    """One for each round. Of an input that will be refused, nothing: refusing it takes all gas anyway."""
    return int.from_bytes(data[:4]) if len(data) == _BLAKE2_BYTES else 0


def _blake2_compress(data: bytes) -> bytes:
    if len(data) != _BLAKE2_BYTES or data[-1] > 1:
        raise PrecompileFailure(f"BLAKE2's compression takes {_BLAKE2_BYTES} bytes, the last of them 0 or 1")
    return bytes(blake2b.decode_and_compress(data))


SHA256: Final = Precompile(lambda data: _word_price(60, 12, data), _sha256)
RIPEMD160: Final = Precompile(lambda data: _word_price(600, 120, data), _ripemd160)
IDENTITY: Final = Precompile(lambda data: _word_price(15, 3, data), bytes)
BLAKE2F: Final = Precompile(_blake2_gas, _blake2_compress)
