"""Who is where: endpoints, signed node records, and the messages that carry them (0x0103 to 0x010f)."""

from typing import Annotated, Final

from msgspec import Meta

from koinon.kernel.codec import Record
from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import UnixSeconds
from koinon.wire.catalogue import Done, Message, message

LARGEST_RECORD: Final = 8192
MOST_SEALED: Final = 48
"""More than the validators of the largest profile."""
_SEALED_BYTES: Final = 384
MOST_FOUND: Final = 64

_NodeId = Annotated[NodeId, Meta(min_length=32, max_length=32)]
_Address = Annotated[Address, Meta(min_length=20, max_length=20)]
_Host = Annotated[str, Meta(min_length=1, max_length=253)]
_Port = Annotated[int, Meta(ge=1, le=65535)]
_Role = Annotated[str, Meta(min_length=1, max_length=32)]


class Endpoint(Record, frozen=True):
    """Where a node listens and the key it must prove: enough to call it."""

    node_id: _NodeId
    host: _Host
    port: _Port


class NodeClaim(Record, frozen=True):
    """What a node says about itself.

    Attributes:
        node_id: its Ed25519 key.
        account: the account that acts for it on the chain.
        host, port: where it listens; empty and 0 for a validator that tells only the others.
        sealed: for such a one, host and port encrypted to each of the others (``net.hidden``).
        roles: what it offers, such as ``"data"`` or ``"compute"``, in ascending order.
        encryption_key: X25519 key for sealing to it (HPKE).
        sequence: grows with every new claim; the highest valid one counts.
        expiry: until when the claim holds.
    """

    node_id: _NodeId
    account: _Address
    host: Annotated[str, Meta(max_length=253)]
    port: Annotated[int, Meta(ge=0, le=65535)]
    roles: Annotated[tuple[_Role, ...], Meta(max_length=16)]
    encryption_key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    expiry: Annotated[UnixSeconds, Meta(ge=0, le=2**63 - 1)]
    sealed: Annotated[tuple[Annotated[bytes, Meta(max_length=_SEALED_BYTES)], ...], Meta(max_length=MOST_SEALED)] = ()

    @property
    def is_hidden(self) -> bool:
        """Whether only those it was sealed to know where this node listens."""
        return not self.host


class NodeRecord(Record, frozen=True):
    """A claim signed by both keys it names: neither can borrow the other's reputation."""

    claim: NodeClaim
    node_signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    account_signature: Annotated[bytes, Meta(min_length=65, max_length=65)]

    @property
    def endpoint(self) -> Endpoint:
        """Where the node says it listens. Raises Unavailable where it does not tell everybody."""
        if self.claim.is_hidden:
            raise Unavailable(f"node 0x{self.claim.node_id.hex()[:16]}… does not publish where it listens")
        return Endpoint(self.claim.node_id, self.claim.host, self.claim.port)


@message(0x0103, answers=(Done,), limit=LARGEST_RECORD)
class Announce(Message, frozen=True):
    """Keep this record, if it is valid and newer than the one you have."""

    record: NodeRecord


@message(0x0105, limit=LARGEST_RECORD * MOST_FOUND + 16)
class Found(Message, frozen=True):
    """The records that match a ``Find``; at most 64, in ascending order of node id."""

    records: Annotated[tuple[NodeRecord, ...], Meta(max_length=MOST_FOUND)]


@message(0x0104, answers=(Found,), limit=256)
class Find(Message, frozen=True):
    """Which records do you hold? Every field that is set must match.

    ``after`` continues a list that was longer than one answer: node ids above it only.
    """

    node_id: _NodeId | None = None
    account: _Address | None = None
    role: _Role | None = None
    after: _NodeId | None = None
