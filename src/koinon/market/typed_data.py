"""EIP-712: what an account signs, so that a contract can check it."""

from functools import lru_cache
from typing import Final

from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address, Hash32

_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


@lru_cache(maxsize=64)
def domain_separator(name: str, version: str, chain_id: int, contract: Address) -> Hash32:
    """EIP-712 domain separator; cached, as a node deals with a few contracts on one chain."""
    return keccak256(
        _DOMAIN_TYPE
        + keccak256(name.encode())
        + keccak256(version.encode())
        + chain_id.to_bytes(32, "big")
        + contract.rjust(32, b"\0")
    )


def typed_digest(separator: Hash32, struct: Hash32) -> Hash32:
    """The 32 bytes that are signed for a struct hash in a domain."""
    return keccak256(b"\x19\x01" + separator + struct)
