"""The signatures of a session, injected: Ed25519 under the workers' ephemeral keys, ideal ones in simulation."""

from dataclasses import dataclass
from typing import Protocol

from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.errors import Forged
from koinon.kernel.ids import NodeId

SIGNATURE_BYTES = 64


class Checks(Protocol):
    """Checks the signatures of all four."""

    def check(self, position: int, domain: str, message: bytes, signature: bytes) -> None:
        """Raises Forged unless ``signature`` is that position's."""
        ...


class Signatures(Checks, Protocol):
    """Signs for one position and checks the signatures of all four."""

    def sign(self, domain: str, message: bytes) -> bytes:
        """64 bytes."""
        ...


@dataclass(frozen=True, slots=True)
class NodeChecks:
    """Ed25519: the four public keys by position."""

    public_keys: tuple[NodeId, NodeId, NodeId, NodeId]

    def check(self, position: int, domain: str, message: bytes, signature: bytes) -> None:
        verify_node_signature(self.public_keys[position], domain, message, signature)


@dataclass(frozen=True, slots=True)
class NodeSignatures:
    """Ed25519: our own key, and the four public keys by position."""

    key: NodeKey
    public_keys: tuple[NodeId, NodeId, NodeId, NodeId]

    def sign(self, domain: str, message: bytes) -> bytes:
        return self.key.sign(domain, message)

    def check(self, position: int, domain: str, message: bytes, signature: bytes) -> None:
        NodeChecks(self.public_keys).check(position, domain, message, signature)


@dataclass(frozen=True, slots=True)
class IdealSignatures:
    """For simulation: a keyed hash under a key that exists once per simulated position.

    Unforgeable only because a simulated adversary is not given ``secrets`` of others; never for a real run.
    """

    position: int
    secrets: tuple[bytes, bytes, bytes, bytes]

    def sign(self, domain: str, message: bytes) -> bytes:
        return self._tag(self.position, domain, message)

    def check(self, position: int, domain: str, message: bytes, signature: bytes) -> None:
        if self._tag(position, domain, message) != signature:
            raise Forged(f"the {domain} signature is not by position {position}")

    def _tag(self, position: int, domain: str, message: bytes) -> bytes:
        half = tagged_hash("koinon/rep4/ideal-signature/1", self.secrets[position], domain.encode(), message)
        return half + half
