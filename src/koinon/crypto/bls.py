"""BLS signatures over BLS12-381 with proof of possession, and a verifiable random function made from them.

Keys are 48-byte points of G1, signatures 96-byte points of G2 (draft-irtf-cfrg-bls-signature-05, ciphersuite
``BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_``). Votes over one message by many signers add up to one signature. That
is only safe against keys chosen to cancel others if every key has been checked once with ``check_possession``.

The random function is the hash of a BLS signature under a tag of its own: a key and an input allow exactly one valid
signature, so the holder cannot choose the output, and anybody can check it (Dfinity's beacon; not RFC 9381's format).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from koinon.crypto.hash import sha256
from koinon.crypto.seed import SeedKey
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import Hash32

if TYPE_CHECKING:
    from pyblst import BlstP1Element, BlstP2Element

PUBLIC_KEY_BYTES: Final = 48
SIGNATURE_BYTES: Final = 96
CURVE_ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001

_SIGNATURE_TAG: Final = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_POSSESSION_TAG: Final = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_RANDOM_TAG: Final = b"KOINON_VRF_BLS12381G2_XMD:SHA-256_SSWU_RO_"
_GENERATOR: Final = bytes.fromhex(
    "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
)
_INFINITY_FLAG: Final = 0x40
_KEYS_CACHED: Final = 1024


class BlsKey(SeedKey):
    """Secret BLS key: ``KeyGen`` of the draft (section 2.3) with empty key info.

    Neither ``repr`` nor an error ever shows the seed or the scalar.
    """

    __slots__ = ("_scalar", "public_key")
    KIND = "a BLS key"

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self._scalar = _secret_scalar(self._seed)
        self.public_key: bytes = _generator().scalar_mul(self._scalar).compress()

    def sign(self, message: bytes) -> bytes:
        """96-byte signature; the same key and message always give the same bytes."""
        return self._sign(message, _SIGNATURE_TAG)

    def prove_possession(self) -> bytes:
        """96-byte proof that the holder of this public key knows its secret (draft, section 3.3.2)."""
        return self._sign(self.public_key, _POSSESSION_TAG)

    def vrf_prove(self, message: bytes) -> bytes:
        """96-byte proof whose hash is this key's one random output for ``message``; see ``vrf_output``."""
        return self._sign(message, _RANDOM_TAG)

    def _sign(self, message: bytes, tag: bytes) -> bytes:
        from pyblst import BlstP2Element

        signature: bytes = BlstP2Element.hash_to_group(message, tag).scalar_mul(self._scalar).compress()
        return signature

    def __repr__(self) -> str:
        return f"BlsKey(0x{self.public_key.hex()})"


def check_possession(public_key: bytes, proof: bytes) -> None:
    """Check a proof of possession. Do it once per key, before the key's first vote counts.

    Raises:
        Forged: the key is no point of the right subgroup, is the identity, or the proof is not its own.
    """
    if not _verify((public_key,), public_key, proof, _POSSESSION_TAG):
        raise Forged(f"the proof of possession does not belong to the BLS key 0x{public_key.hex()[:16]}…")


def aggregate_signatures(signatures: Sequence[bytes]) -> bytes:
    """The sum of signatures, 96 bytes.

    Raises:
        InvalidInput: no signature given.
        Forged: one of them is no point of the right subgroup; names its position.
    """
    if not signatures:
        raise InvalidInput("an aggregate needs at least one signature")
    total: BlstP2Element | None = None
    for position, signature in enumerate(signatures):
        point = _signature_point(signature)
        if point is None:
            raise Forged(f"signature {position} of the aggregate is no BLS signature")
        total = point if total is None else total + point
    assert total is not None
    aggregate: bytes = total.compress()
    return aggregate


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is this key's over ``message``; False for malformed keys and signatures too."""
    return _verify((public_key,), message, signature, _SIGNATURE_TAG)


def verify_aggregate(public_keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is the sum of every key's signature over the one ``message``.

    The keys must have passed ``check_possession``. A key listed twice must have signed twice in the sum; who counts
    voters passes each key once. False for an empty list, for malformed or identity keys and for a sum of keys that is
    the identity (two holders with opposite keys could otherwise present an empty signature as theirs).
    """
    return _verify(public_keys, message, signature, _SIGNATURE_TAG)


def vrf_output(public_key: bytes, message: bytes, proof: bytes) -> Hash32:
    """The random output proven by ``proof``: its SHA-256.

    Raises:
        Forged: the proof is not this key's for this message.
    """
    if not _verify((public_key,), message, proof, _RANDOM_TAG):
        raise Forged(f"the randomness proof is not by the BLS key 0x{public_key.hex()[:16]}…")
    return sha256(proof)


def _verify(public_keys: Sequence[bytes], message: bytes, signature: bytes, tag: bytes) -> bool:
    from pyblst import BlstP2Element, final_verify, miller_loop

    point = _signature_point(signature)
    if point is None or not public_keys:
        return False
    total: BlstP1Element | None = None
    for public_key in public_keys:
        key = _key_point(bytes(public_key))
        if key is None:
            return False
        total = key if total is None else total + key
    assert total is not None
    if total.compress()[0] & _INFINITY_FLAG:
        return False
    hashed = BlstP2Element.hash_to_group(message, tag)
    return bool(final_verify(miller_loop(total, hashed), miller_loop(_generator(), point)))


def _secret_scalar(seed: bytes) -> int:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    salt = b"BLS-SIG-KEYGEN-SALT-"
    scalar = 0
    while scalar == 0:
        salt = sha256(salt)
        expanded = HKDF(SHA256(), length=48, salt=salt, info=(48).to_bytes(2, "big")).derive(seed + b"\x00")
        scalar = int.from_bytes(expanded, "big") % CURVE_ORDER
    return scalar


@lru_cache(maxsize=1)
def _generator() -> "BlstP1Element":
    from pyblst import BlstP1Element

    return BlstP1Element.uncompress(_GENERATOR)


@lru_cache(maxsize=_KEYS_CACHED)
def _key_point(public_key: bytes) -> "BlstP1Element | None":
    """The point of a public key, or None if it is not canonical, not in the subgroup, or the identity.

    The subgroup check costs more than the rest of adding a vote, and a validator set votes with the same keys all day.
    """
    from pyblst import BlstP1Element

    if len(public_key) != PUBLIC_KEY_BYTES or public_key[0] & _INFINITY_FLAG:
        return None
    try:
        point = BlstP1Element.uncompress(public_key)
    except ValueError:
        return None
    return point if point.compress() == public_key else None


def _signature_point(signature: bytes) -> "BlstP2Element | None":
    from pyblst import BlstP2Element

    if len(signature) != SIGNATURE_BYTES:
        return None
    try:
        point = BlstP2Element.uncompress(signature)
    except ValueError:
        return None
    return point if point.compress() == signature else None
