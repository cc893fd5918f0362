"""Where the other validators listen: what is known from the start, and what is found out about those elected later."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from koinon.kernel.errors import KoinonError
from koinon.kernel.ids import NodeId
from koinon.ledger.types import ValidatorSet
from koinon.wire.discovery import Endpoint

SEARCH_SECONDS: Final = 2.0
_log: Final = logging.getLogger("koinon.ledger")

FindNode = Callable[[NodeId], Awaitable[Endpoint]]
"""Where a node listens; raises Unavailable if nobody knows."""


class Acquaintances:
    """Belongs to one event loop.

    Args:
        known: nodes that validate or may be elected.
        find: asked for others; None where nobody can be asked.
        found: told of every node that was found.

    Attributes:
        endpoints: where they listen, by node.
    """

    def __init__(
        self, own: NodeId, known: Mapping[NodeId, Endpoint], find: FindNode | None, found: Callable[[Endpoint], None]
    ) -> None:
        self._own = own
        self._find = find
        self._found = found
        self._searching: asyncio.Task[None] | None = None
        self.endpoints = dict(known)

    def look_for(self, validators: ValidatorSet) -> None:
        """Find out where those listen that are not known yet; whoever was looked for before is given up."""
        names = [member.node_id for member in validators.members]
        unknown = [name for name in names if name not in self.endpoints and name != self._own]
        if unknown and self._find is not None:
            if self._searching is not None:
                self._searching.cancel()
            self._searching = asyncio.create_task(
                self._search(self._find, unknown), name="ledger search for validators"
            )

    async def _search(self, find: FindNode, unknown: list[NodeId]) -> None:
        while unknown:
            for node_id in tuple(unknown):
                try:
                    endpoint = await find(node_id)
                except KoinonError as problem:
                    _log.info("a new validator is not found yet: %s", problem)
                    continue
                unknown.remove(node_id)
                self.endpoints[node_id] = endpoint
                self._found(endpoint)
            if unknown:
                await asyncio.sleep(SEARCH_SECONDS)

    def close(self) -> None:
        """Look for nobody any more."""
        if self._searching is not None:
            self._searching.cancel()
