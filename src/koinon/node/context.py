"""What every role of a node works with."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from koinon.contracts.client import ChainClient
from koinon.contracts.suite import Suite
from koinon.crypto.random import SystemRng
from koinon.journey.desk import Desk, Say
from koinon.kernel.effects import Rng, Store
from koinon.kernel.errors import KoinonError, Refused
from koinon.kernel.ids import Address
from koinon.kernel.quantities import Seconds, UnixSeconds
from koinon.net.discovery import Directory, NodeClaim, NodeRecord
from koinon.net.transport import Transport
from koinon.node.announcing import RECORD_SECONDS, Confide, keep_announced
from koinon.node.config import NodeConfig
from koinon.node.feed import Feed
from koinon.node.home import Home, Identity, NodeKeys
from koinon.node.tasks import TaskBoard
from koinon.store.blobs import BlobStore

journal = logging.getLogger("koinon.node")


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> Seconds:
        return Seconds(time.monotonic())

    def unix(self) -> UnixSeconds:
        return UnixSeconds(int(time.time()))


@dataclass
class Context:
    """One node's parts. ``suite`` is None until the contracts are known."""

    home: Home
    config: NodeConfig
    identity: Identity
    keys: NodeKeys
    transport: Transport
    directory: Directory
    client: ChainClient
    memory: Store
    blobs: BlobStore
    board: TaskBoard
    feed: Feed
    clock: SystemClock = field(default_factory=SystemClock)
    rng: Rng = field(default_factory=SystemRng)
    adopted: Suite | None = None
    confide: Confide | None = None
    """Seals where this node listens into its claim; None where everybody may know."""
    _background: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def suite(self) -> Suite:
        """The contracts. Raises Refused where this node has not been told which."""
        if self.adopted is None:
            raise Refused("this node has not been told which contracts to work with; the operator orders suite.adopt")
        return self.adopted

    @property
    def account(self) -> Address:
        return self.keys.account.address

    async def record_of(self, account: Address) -> NodeRecord:
        """Where the node of an account is. Raises Unavailable where the directory does not know."""
        return await self.directory.find_account(account)

    async def announce(self) -> None:
        """Tell the directory's keepers where this node is, until cancelled."""
        await keep_announced(self.directory, self.keys, self._claim, self.confide)

    def _claim(self) -> NodeClaim:
        config = self.config
        return NodeClaim(
            node_id=self.keys.node.node_id,
            account=self.account,
            host="" if config.hide_address else config.host,
            port=0 if config.hide_address else self.transport.endpoint.port,
            roles=tuple(sorted(config.roles)),
            encryption_key=self.keys.sealing.public_key,
            sequence=time.time_ns(),
            expiry=UnixSeconds(self.clock.unix() + RECORD_SECONDS),
        )

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Run beside everything else; a failure is a line in the journal, never the end of the node."""

        async def run() -> None:
            try:
                await work
            except KoinonError as problem:
                journal.warning("%s: %s", name, problem)
            except asyncio.CancelledError:
                raise
            except Exception:
                journal.exception("%s stopped by an internal error", name)

        task = asyncio.create_task(run(), name=name)
        # A task that is cancelled before its first step never awaits the work it was given.
        task.add_done_callback(lambda _: work.close())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """Stop what runs beside."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def desk(self, say: Say) -> Desk:
        """This node's ports for a step of the main job. Raises Refused while the contracts are unknown."""
        return Desk(
            name=self.config.name,
            node_key=self.keys.node,
            account_key=self.keys.account,
            sealing_key=self.keys.sealing,
            client=self.client,
            suite=self.suite,
            transport=self.transport,
            directory=self.directory,
            blobs=self.blobs,
            memory=self.memory,
            clock=self.clock,
            rng=self.rng,
            say=say,
        )
