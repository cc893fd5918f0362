"""What the operator of this site may add to the public facts: whether nodes it can ask are alive.

The chain says who registered; only a node itself says how it is. ``StatusSource`` is what a node's control socket, or
nothing at all, answers here. It carries load and peers, never keys, rows or shares.
"""

from typing import Protocol

import msgspec


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node's answer, or the fact that it gave none.

    ``account`` and ``node_id`` are ``0x`` hexadecimal; ``peers`` are node ids; ``observed_at`` is Unix seconds of
    the last answer; ``cpu_percent`` is of one core since the previous answer; ``services`` are endpoint
    addresses it serves now.
    """

    account: str
    node_id: str
    name: str
    roles: tuple[str, ...]
    alive: bool
    observed_at: int
    height: int | None = None
    peers: tuple[str, ...] = ()
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    children: int | None = None
    services: tuple[str, ...] = ()


class StatusSource(Protocol):
    """Where the site asks how nodes are. Bounded in time by the implementation: a silent node is ``alive=False``."""

    async def nodes(self) -> tuple[NodeStatus, ...]: ...


class PublicOnly:
    """No node can be asked: the site then says what the chain says, and that it does not know more."""

    async def nodes(self) -> tuple[NodeStatus, ...]:
        return ()
