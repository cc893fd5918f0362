"""Hybrid public-key encryption to one recipient (RFC 9180, base mode, single shot).

Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Anybody can seal; a sealed text says nothing about who did,
so whoever needs to know signs it. The recipient's key is long-lived: who steals it can open what was sealed before.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from koinon.crypto.seed import SeedKey
from koinon.kernel.errors import Forged, InvalidInput

PUBLIC_KEY_BYTES: Final = 32
OVERHEAD_BYTES: Final = 48
"""A sealed text is longer than its plaintext by an encapsulated key (32) and a tag (16)."""

_LENGTH_BYTES: Final = 8
_suite: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class HpkeKey(SeedKey):
    """X25519 key of a recipient. Neither ``repr`` nor an error ever shows the seed."""

    __slots__ = ("_private", "public_key")
    KIND = "an encryption key"

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self._private = X25519PrivateKey.from_private_bytes(self._seed)
        self.public_key = self._private.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes, aad: bytes = b"") -> bytes:
        """The plaintext that was sealed to this key for the same ``info`` and ``aad``.

        Raises:
            Forged: sealed to another key or for another purpose, or changed on the way.
        """
        if len(sealed) < OVERHEAD_BYTES:
            raise Forged(f"a sealed text has at least {OVERHEAD_BYTES} bytes; got {len(sealed)}")
        try:
            return _suite.decrypt(sealed, self._private, _context(info, aad))
        except (InvalidTag, ValueError):
            raise Forged("the sealed text was not made for this key and purpose, or was changed") from None

    def __repr__(self) -> str:
        return f"HpkeKey(0x{self.public_key.hex()})"


def seal(public_key: bytes, info: bytes, plaintext: bytes, aad: bytes = b"") -> bytes:
    """Encrypt to the holder of ``public_key``.

    Args:
        public_key: 32 bytes of X25519.
        info: the purpose; opening needs the same.
        plaintext: any bytes.
        aad: further bytes that opening must repeat. Each sealed text has a key of its own, so ``info`` and ``aad``
            both enter the key schedule, each preceded by its length.

    Returns:
        Encapsulated key (32), ciphertext, tag (16).

    Raises:
        InvalidInput: the key is not 32 bytes, or a point of small order that would make the secret public.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise InvalidInput(f"an encryption key has {PUBLIC_KEY_BYTES} bytes; got {len(public_key)}")
    try:
        return _suite.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), _context(info, aad))
    except ValueError:
        raise InvalidInput(
            f"0x{public_key.hex()[:16]}… is no usable encryption key; ask its owner for another"
        ) from None


def _context(info: bytes, aad: bytes) -> bytes:
    return len(info).to_bytes(_LENGTH_BYTES, "big") + info + aad
