"""Two kinds of signing key: Ed25519 for an organisation's node, secp256k1 for an account on the chain.

A node key signs under a *domain* so that a signature made for one purpose is no signature for another. An account key
signs 32-byte digests only, because contracts recover the signer from a digest (EIP-191, EIP-712, transactions).
"""

from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from koinon.crypto.hash import keccak256
from koinon.crypto.recovery import recover
from koinon.crypto.seed import SeedKey
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import Address, Hash32, NodeId, to_hex

SECP256K1_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_LONGEST_DOMAIN: Final = 255
_SEED_BYTES: Final = 32
_FIRST_RECOVERY_VALUE: Final = 27


def _statement(domain: str, message: bytes) -> bytes:
    name = domain.encode()
    if not 0 < len(name) <= _LONGEST_DOMAIN:
        raise InvalidInput(f"a signing domain has 1 to {_LONGEST_DOMAIN} bytes; this one has {len(name)}")
    return bytes([len(name)]) + name + message


class NodeKey(SeedKey):
    """Ed25519 key of a node (RFC 8032). Neither ``repr`` nor an error ever shows the seed."""

    __slots__ = ("_private", "node_id")
    KIND = "a node key"

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self._private = Ed25519PrivateKey.from_private_bytes(self._seed)
        self.node_id = NodeId(self._private.public_key().public_bytes_raw())

    def sign(self, domain: str, message: bytes) -> bytes:
        """64-byte signature over ``length(domain) || domain || message``; the length is one byte."""
        return self._private.sign(_statement(domain, message))

    def __repr__(self) -> str:
        return f"NodeKey({to_hex(self.node_id)})"


def verify_node_signature(node_id: NodeId, domain: str, message: bytes, signature: bytes) -> None:
    """Check a signature made by ``NodeKey.sign``.

    Raises:
        Forged: the signature is not this node's over this message in this domain.
    """
    try:
        Ed25519PublicKey.from_public_bytes(node_id).verify(signature, _statement(domain, message))
    except (InvalidSignature, ValueError):
        raise Forged(f"the {domain} signature is not by node {to_hex(node_id)[:18]}…") from None


class AccountKey:
    """secp256k1 key of an account (SEC 1, RFC 6979 nonces). Neither ``repr`` nor an error ever shows the secret."""

    __slots__ = ("_private", "_secret", "address")

    def __init__(self, secret: bytes) -> None:
        # Late: a node without an account, or a worker, does not pay for loading libsecp256k1.
        from coincurve import PrivateKey

        if len(secret) != _SEED_BYTES or not 0 < int.from_bytes(secret, "big") < SECP256K1_ORDER:
            raise InvalidInput("the secret of an account key is 32 bytes, from 1 to the order of secp256k1 minus 1")
        self._secret = bytes(secret)
        self._private = PrivateKey(self._secret)
        self.address = _address_of(self._private.public_key.format(compressed=False))

    @classmethod
    def from_secret(cls, secret: bytes) -> Self:
        """The key that belongs to a 32-byte scalar. Raises InvalidInput outside 1 … order − 1."""
        return cls(secret)

    @classmethod
    def generate(cls, rng: Rng) -> Self:
        """A fresh key from ``rng``."""
        while True:
            secret = rng.bytes(_SEED_BYTES)
            if 0 < int.from_bytes(secret, "big") < SECP256K1_ORDER:
                return cls(secret)

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes; for the key file and nothing else."""
        return self._secret

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest.

        Returns:
            65 bytes ``r || s || v``: s in the lower half of the order (EIP-2), v 27 or 28.

        Raises:
            InvalidInput: the digest is not 32 bytes.
        """
        if len(digest) != _SEED_BYTES:
            raise InvalidInput(f"an account signs digests of {_SEED_BYTES} bytes; got {len(digest)}")
        signature = self._private.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([_FIRST_RECOVERY_VALUE + signature[64]])

    def __repr__(self) -> str:
        return f"AccountKey({to_hex(self.address)})"


def recover_address(digest: Hash32 | bytes, signature: bytes) -> Address:
    """The account whose key made ``signature`` (``r || s || v``) over ``digest``.

    Raises:
        Forged: wrong lengths, v other than 27 or 28, s in the upper half (a second encoding of the same signature),
            or no key recovers.
    """
    if len(digest) != _SEED_BYTES or len(signature) != 65:
        raise Forged("an account signature is 65 bytes over a digest of 32 bytes")
    recovery = signature[64] - _FIRST_RECOVERY_VALUE
    if recovery not in (0, 1):
        raise Forged(f"the last byte of an account signature is 27 or 28; got {signature[64]}")
    if int.from_bytes(signature[32:64], "big") > SECP256K1_ORDER // 2:
        raise Forged("the account signature has s in the upper half of the order")
    return recover(bytes(digest), bytes(signature[:64]), recovery)


def _address_of(uncompressed: bytes) -> Address:
    return Address(keccak256(uncompressed[1:])[12:])
