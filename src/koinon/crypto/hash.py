"""Hash functions: Keccak-256 for what contracts check, SHA-256 for what other systems check, BLAKE3 for the rest."""

import hashlib
from typing import Final

import sha3
from blake3 import blake3 as _blake3

from koinon.kernel.ids import Hash32

_LENGTH_BYTES: Final = 8


def keccak256(data: bytes | bytearray | memoryview) -> Hash32:
    """Keccak-256 with the original padding, as the EVM's ``KECCAK256`` (not NIST SHA3-256)."""
    return Hash32(sha3.keccak_256(data).digest())


def sha256(data: bytes | bytearray | memoryview) -> Hash32:
    """SHA-256 (FIPS 180-4)."""
    return Hash32(hashlib.sha256(data).digest())


def blake3(data: bytes | bytearray | memoryview) -> Hash32:
    """BLAKE3 of ``data``, 32 bytes."""
    return Hash32(_blake3(data).digest())


def tagged_hash(domain: str, *parts: bytes | bytearray | memoryview) -> Hash32:
    """BLAKE3 in key-derivation mode: hashes of two domains, or of two ways to cut the same bytes, never meet.

    Args:
        domain: what the digest is for, such as ``"koinon/study/manifest/1"``; the BLAKE3 derive-key context.
        parts: byte strings; each is preceded by its length as 8 bytes, big end first.
    """
    hasher = _blake3(derive_key_context=domain)
    for part in parts:
        hasher.update(len(part).to_bytes(_LENGTH_BYTES, "big"))
        hasher.update(part)
    return Hash32(hasher.digest())
