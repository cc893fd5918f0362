"""What happened on the chain, delivered to the roles in order and at least once.

The cursor is written after every callback of a block has returned, so a node that dies in between hears the block
again: roles must take an event they know already as nothing new.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from koinon.contracts.client import ChainClient, Log
from koinon.contracts.contract import Contract
from koinon.contracts.rpc import RpcError
from koinon.kernel.effects import Store
from koinon.kernel.errors import KoinonError, Unavailable
from koinon.kernel.ids import Address

POLL_SECONDS: Final = 0.25
LONG_POLL_SECONDS: Final = 8
RETRY_SECONDS: Final = 1.0
LARGEST_STEP: Final = 2_000
"""Blocks asked for at once; chains limit a query."""
_CURSOR: Final = b"feed/cursor"

journal = logging.getLogger("koinon.feed")

Callback = Callable[[Any, Log], Awaitable[None]]


@dataclass(frozen=True)
class _Subscription:
    contract: Contract
    kind: type[Any]
    callback: Callback


class Feed:
    """Follows the suite's events through one client.

    Attributes:
        in_reach: whether the chain answered when it was last asked.
    """

    def __init__(self, client: ChainClient, memory: Store) -> None:
        self._client = client
        self._memory = memory
        self._subscriptions: list[_Subscription] = []
        self._long_poll = True
        self.in_reach = True
        cursor = memory.get(_CURSOR)
        self._next = int.from_bytes(cursor, "big") if cursor else 0

    @property
    def height(self) -> int:
        """The last block whose events every role has heard."""
        return max(self._next - 1, 0)

    def on(self, contract: Contract, kind: type[Any], callback: Callback) -> None:
        """Call back for every event of ``kind`` that ``contract`` leaves from the cursor on."""
        self._subscriptions.append(_Subscription(contract, kind, callback))

    async def follow(self) -> None:
        """Deliver for ever. A chain that cannot be reached is asked again; nothing is skipped."""
        while True:
            try:
                latest = await self._news()
                self.in_reach = True
                await self._deliver(latest)
            except Unavailable as problem:
                self.in_reach = False
                journal.warning("the chain cannot be followed now: %s", problem)
                await asyncio.sleep(RETRY_SECONDS)

    async def _news(self) -> int:
        """Height of the latest block once it is at or past the cursor."""
        while True:
            if self._long_poll:
                try:
                    height = await self._client.request("koinon_waitForBlock", hex(self._next), LONG_POLL_SECONDS)
                    latest = int(height, 16)
                except RpcError as problem:
                    if problem.code != -32601:
                        raise
                    self._long_poll = False  # not our ledger: ask again and again instead
                    continue
            else:
                latest = await self._client.block_number()
                if latest < self._next:
                    await asyncio.sleep(POLL_SECONDS)
            if latest >= self._next:
                return min(latest, self._next + LARGEST_STEP - 1)

    async def _deliver(self, latest: int) -> None:
        addresses: list[Address] = list({one.contract.address: None for one in self._subscriptions})
        logs = await self._client.logs(addresses, from_height=self._next, to_height=latest) if addresses else []
        for log in sorted(logs, key=lambda entry: (entry.height, entry.index)):
            for subscription in self._subscriptions:
                for found in subscription.contract.read_events(subscription.kind, [log]):
                    try:
                        await subscription.callback(found.event, log)
                    except Unavailable:
                        raise
                    except KoinonError as problem:
                        # What one study does wrong must not stop this node from hearing of the others.
                        journal.warning("%s at block %d: %s", subscription.kind.__name__, log.height, problem)
        self._next = latest + 1
        self._memory.write({_CURSOR: self._next.to_bytes(8, "big")})
