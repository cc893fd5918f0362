"""Identifiers: fixed-length bytes inside, hexadecimal at the edges."""

from collections.abc import Callable
from typing import Final, NewType, TypeVar

from koinon.kernel.errors import InvalidInput

NodeId = NewType("NodeId", bytes)
"""Ed25519 public key of an organisation's node, 32 bytes: who is at the other end of a connection."""
Address = NewType("Address", bytes)
"""Account on the chain, 20 bytes."""
Hash32 = NewType("Hash32", bytes)
"""A 32-byte digest; which function made it is stated where it is stored."""

ZERO_HASH: Final = Hash32(bytes(32))
ZERO_ADDRESS: Final = Address(bytes(20))

_Identifier = TypeVar("_Identifier", bound=bytes)


def to_hex(value: bytes) -> str:
    """``0x``-prefixed lower-case hexadecimal."""
    return "0x" + value.hex()


def _parse(text: str, length: int, name: str, make: Callable[[bytes], _Identifier]) -> _Identifier:
    digits = text.removeprefix("0x")
    if len(digits) != 2 * length or any(c not in "0123456789abcdefABCDEF" for c in digits):
        raise InvalidInput(f"{name} must be {2 * length} hexadecimal digits, with or without 0x; got {text[:80]!r}")
    return make(bytes.fromhex(digits))


def parse_node_id(text: str) -> NodeId:
    """Read a node id. Raises InvalidInput unless it is 64 hexadecimal digits."""
    return _parse(text, 32, "a node id", NodeId)


def parse_address(text: str) -> Address:
    """Read an account address (any case). Raises InvalidInput unless it is 40 hexadecimal digits."""
    return _parse(text, 20, "an address", Address)


def parse_hash(text: str) -> Hash32:
    """Read a 32-byte digest. Raises InvalidInput unless it is 64 hexadecimal digits."""
    return _parse(text, 32, "a hash", Hash32)
