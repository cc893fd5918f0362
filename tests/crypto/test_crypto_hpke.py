"""HPKE against RFC 9180 written out, and tampering with every byte."""

import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto.hpke import OVERHEAD_BYTES, HpkeKey, seal
from koinon.crypto.random import SystemRng
from koinon.kernel.errors import Forged, InvalidInput

KEY = HpkeKey.from_seed(bytes(range(32)))


def _open_by_the_rfc(
    private: X25519PrivateKey, sealed: bytes, info: bytes, aad: bytes, aead: int, key_bytes: int
) -> bytes:
    """RFC 9180, sections 4.1, 5.1 and 6.1, for DHKEM(X25519, HKDF-SHA256) and HKDF-SHA256, from its pseudocode."""

    def extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, "sha256")

    def expand(suite: bytes, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        text = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return hmac.digest(secret, text + b"\x01", "sha256")[:length]

    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01" + aead.to_bytes(2, "big")
    encapsulated, text = sealed[:32], sealed[32:]
    shared = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    context = encapsulated + private.public_key().public_bytes_raw()
    secret = expand(kem, extract(kem, b"", b"eae_prk", shared), b"shared_secret", context, 32)
    schedule = b"\x00" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, secret, b"secret", b"")
    key, nonce = expand(suite, secret, b"key", schedule, key_bytes), expand(suite, secret, b"base_nonce", schedule, 12)
    return AESGCM(key).decrypt(nonce, text, aad)


def test_the_oracle_opens_the_rfc_vector() -> None:
    # RFC 9180, appendix A.1.1 (AES-128-GCM), first encryption.
    private = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    )
    sealed = bytes.fromhex(
        "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )
    info, aad = b"Ode on a Grecian Urn", b"Count-0"
    assert _open_by_the_rfc(private, sealed, info, aad, aead=1, key_bytes=16) == b"Beauty is truth, truth beauty"


def test_what_we_seal_is_rfc_9180_with_aes_256() -> None:
    sealed = seal(KEY.public_key, b"purpose", b"a data key", b"object 1")
    private = X25519PrivateKey.from_private_bytes(KEY.seed)
    info = (7).to_bytes(8, "big") + b"purpose" + b"object 1"
    assert _open_by_the_rfc(private, sealed, info, b"", aead=2, key_bytes=32) == b"a data key"


@settings(max_examples=30)
@given(st.binary(max_size=100), st.binary(max_size=20), st.binary(max_size=20))
def test_only_key_purpose_and_context_together_open(plaintext: bytes, info: bytes, aad: bytes) -> None:
    sealed = seal(KEY.public_key, info, plaintext, aad)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert KEY.open(sealed, info, aad) == plaintext
    other = HpkeKey.from_seed(bytes(32))
    for key, purpose, context in [(other, info, aad), (KEY, info + b"x", aad), (KEY, info, aad + b"x")]:
        with pytest.raises(Forged):
            key.open(sealed, purpose, context)


def test_moving_bytes_between_purpose_and_context_is_a_forgery() -> None:
    with pytest.raises(Forged):
        KEY.open(seal(KEY.public_key, b"ab", b"secret", b"c"), b"a", b"bc")


def test_every_changed_byte_is_noticed() -> None:
    sealed = seal(KEY.public_key, b"purpose", b"key")
    for position in range(len(sealed)):
        # The top bit of the X25519 coordinate is ignored by RFC 7748 but enters the KEM context, so it counts too.
        changed = sealed[:position] + bytes([sealed[position] ^ 0x80]) + sealed[position + 1 :]
        with pytest.raises(Forged):
            KEY.open(changed, b"purpose")


@pytest.mark.parametrize("size", [0, 31, 32, 47])
def test_a_truncated_text_is_refused(size: int) -> None:
    with pytest.raises(Forged, match="at least 48"):
        KEY.open(bytes(size), b"")


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32), b"\x01" + bytes(31), bytes(33)])
def test_keys_of_wrong_length_or_small_order_are_refused(key: bytes) -> None:
    with pytest.raises(InvalidInput, match="encryption key"):
        seal(key, b"", b"secret")


def test_a_key_never_shows_its_secret() -> None:
    key = HpkeKey.generate(SystemRng())
    assert key.seed.hex() not in f"{key} {key!r}"
    assert not hasattr(key, "__dict__")
