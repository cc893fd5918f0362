"""Where a validator listens, told to the other validators only.

Its record is as public and as signed as any other, but names no host; host and port are in it once for each other
validator, encrypted to the key in that one's own record (HPKE, RFC 9180). Whoever holds the directory learns how many
validators there are, which the chain says anyway, and nothing about where they are.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from koinon.crypto.hpke import HpkeKey, seal
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, MalformedMessage, Unavailable
from koinon.kernel.ids import NodeId
from koinon.wire.discovery import Endpoint, NodeClaim, NodeRecord

_PURPOSE: Final = b"koinon/validator-endpoint/1"


def hide(claim: NodeClaim, host: str, port: int, readers: Iterable[bytes]) -> NodeClaim:
    """The claim with host and port taken out and sealed to each of ``readers``, public keys of 32 bytes."""
    text = encode(Endpoint(claim.node_id, host, port))
    sealed = tuple(seal(reader, _PURPOSE, text, _bound_to(claim)) for reader in readers)
    return replace(claim, host="", port=0, sealed=sealed)


def reveal(record: NodeRecord, key: HpkeKey) -> Endpoint:
    """Where the node of a record listens, told to everybody or sealed to ``key``.

    Raises:
        Unavailable: it is told to others only.
        Forged: what is sealed to this key names another node.
    """
    claim = record.claim
    if not claim.is_hidden:
        return record.endpoint
    for sealed in claim.sealed:
        try:
            text = key.open(sealed, _PURPOSE, _bound_to(claim))
        except Forged:
            continue  # for another reader
        try:
            endpoint = decode(Endpoint, text)
        except MalformedMessage as problem:
            raise Forged(f"what node {_short(claim.node_id)} has sealed is no endpoint: {problem}") from None
        if endpoint.node_id != claim.node_id:
            raise Forged(f"node {_short(claim.node_id)} has sealed the address of another node")
        return endpoint
    raise Unavailable(f"node {_short(claim.node_id)} has not told this node yet where it listens")


def _bound_to(claim: NodeClaim) -> bytes:
    """A sealed address is good for the claim it was made for: another node cannot put it into its own record."""
    return claim.node_id + claim.sequence.to_bytes(8, "big")


def _short(node_id: NodeId) -> str:
    return f"0x{node_id.hex()[:16]}…"
