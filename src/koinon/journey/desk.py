"""The publisher's desk: what the steps of the main job work with, given by whoever acts (a node, a test)."""

from collections.abc import Callable
from dataclasses import dataclass

from koinon.contracts.client import ChainClient
from koinon.contracts.suite import Suite
from koinon.crypto.hpke import HpkeKey
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.effects import Clock, Rng, Store
from koinon.kernel.ids import Address
from koinon.net.discovery import Directory
from koinon.net.transport import Transport
from koinon.store.blobs import BlobStore

Say = Callable[[str, float], None]


@dataclass(frozen=True)
class Desk:
    """Ports of one actor. ``say`` hears one sentence at a time and how far the step is (0 to 1)."""

    name: str
    node_key: NodeKey
    account_key: AccountKey
    sealing_key: HpkeKey
    client: ChainClient
    suite: Suite
    transport: Transport
    directory: Directory
    blobs: BlobStore
    memory: Store
    clock: Clock
    rng: Rng
    say: Say

    @property
    def account(self) -> Address:
        """The actor's account."""
        return self.account_key.address
