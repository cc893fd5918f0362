"""A validator: a chain, Giskard on it, a mempool, the other validators and the RPC, opened and closed as one."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from koinon.crypto.bls import BlsKey
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import InvalidInput, KoinonError, Refused, Unavailable
from koinon.kernel.ids import Address, NodeId
from koinon.ledger.acquaintances import Acquaintances, FindNode
from koinon.ledger.amnesia import has_forgotten
from koinon.ledger.answers import Answers
from koinon.ledger.catchup import CatchUp
from koinon.ledger.chain import Chain
from koinon.ledger.consensus import (
    OUTSIDER,
    Answer,
    Consensus,
    Contradiction,
    EpochBegan,
    Outward,
    Wake,
)
from koinon.ledger.finality import manifest_check
from koinon.ledger.genesis import Genesis
from koinon.ledger.giskard.state import (
    Broadcast,
    Distrust,
    Fetch,
    SetTimer,
)
from koinon.ledger.gossip import Gossip
from koinon.ledger.health import FORGETFUL, LedgerFacts
from koinon.ledger.intake import Intake
from koinon.ledger.lane import EventLane
from koinon.ledger.mempool import Mempool, read_offered
from koinon.ledger.outbox import Network, Outbox
from koinon.ledger.reporter import Reporter, Reporting
from koinon.ledger.rpc.announcements import Announcements
from koinon.ledger.rpc.calls import CallLane
from koinon.ledger.rpc.ethereum import ethereum_methods
from koinon.ledger.rpc.koinon import koinon_methods
from koinon.ledger.rpc.limits import Limits
from koinon.ledger.rpc.server import serve_rpc
from koinon.ledger.rpc.table import Table, constant, table_of
from koinon.ledger.rpc.view import LedgerView, Progress, WatchableEngine
from koinon.ledger.senders import SenderRecovery
from koinon.ledger.snapshot_import import import_snapshot
from koinon.ledger.snapshot_sync import FAR_BEHIND, SnapshotLibrary, bootstrap, overtake
from koinon.ledger.transaction import Transaction
from koinon.ledger.types import (
    Header,
    ValidatorSet,
)
from koinon.wire.catalogue import Message
from koinon.wire.discovery import Endpoint

if TYPE_CHECKING:
    from koinon.store.patient import PatientStore

PROVEN_POINTS: Final = 5.0
"""For a consensus message that no honest validator sends, out of the 100 at which a peer is shunned for a while."""
STORE_BYTES: Final = 16 * 1024**3
_UNDER_WAY: Final = 8
_log: Final = logging.getLogger("koinon.ledger")

_M = TypeVar("_M", bound=Message)


class LedgerNetwork(Network, Protocol):
    """The part of ``koinon.net.transport.Transport`` that a validator uses."""

    def peers(self) -> frozenset[NodeId]: ...

    def offend(self, peer: NodeId, points: float, reason: str) -> None: ...

    def handle(self, kind: type[_M], function: Callable[[NodeId, _M], Awaitable[Message | None]]) -> None: ...


@dataclass(frozen=True)
class ValidatorConfig:
    """How one validator runs; nothing here is part of the chain's rules.

    Attributes:
        rpc_host: address the RPC listens on; anything but loopback exposes it.
        rpc_port: 0 takes any free port; None serves no RPC.
        rpc_limits: what each client of the RPC is granted.
        store_bytes: how large the ledger's file may grow.
        keep_blocks: bodies of how many final blocks to keep, at least 256; None keeps all.
        far_behind: blocks that the node rather fetches than a snapshot when it starts.
        recovery_processes: started to recover senders once a large batch comes in; 0 recovers them in the node's own.
    """

    rpc_host: str = "127.0.0.1"
    rpc_port: int | None = 0
    rpc_limits: Limits = field(default_factory=Limits)
    store_bytes: int = STORE_BYTES
    keep_blocks: int | None = None
    far_behind: int = FAR_BEHIND
    recovery_processes: int = 1


class Validator:
    """Made by ``Validator.open``. Everything public belongs to the event loop it was opened on.

    Attributes:
        chain: final history and state, to be read.
        rpc_url: where the RPC listens, None if it does not.
    """

    def __init__(
        self,
        chain: Chain,
        engine: WatchableEngine,
        key: BlsKey | None,
        node_id: NodeId,
        network: LedgerNetwork,
        peers: Mapping[NodeId, Endpoint],
        store: "PatientStore",
        limits: Limits,
        find: FindNode | None,
        reporting_key: AccountKey | None,
        folder: Path,
        senders: SenderRecovery,
    ) -> None:
        self.chain = chain
        self.rpc_url: str | None = None
        self._first_height = chain.final_height
        self.mempool = Mempool(
            chain.genesis.chain_id,
            chain.genesis.parameters.gas_limit,
            chain.next_base_fee(chain.final_header),
        )
        self._store = store
        self._snapshots = SnapshotLibrary(store, folder, chain.last_height)
        self._senders = senders
        self._network = network
        self._folder = folder
        self._final_since = time.monotonic()
        self._engine = engine
        self._reporting = None if reporting_key is None else self._make_reporting(reporting_key)
        self._loop = asyncio.get_running_loop()
        self._lane = EventLane(lambda event: self.consensus.take(event))
        self._calls = CallLane(limits)
        self._announcements = Announcements()
        self._final_moved = asyncio.Event()
        self._outbox = Outbox(network, peers)
        self._acquaintances = Acquaintances(node_id, peers, find, self._outbox.add)
        self._peers = self._acquaintances.endpoints
        intake = Intake(
            self._lane,
            self.mempool,
            lambda: chain.state_after(self.consensus.tip()),
            senders,
            self._calls.threads,
            self._announcements.waiting,
            self._is_known,
        )
        self._gossip = Gossip(
            network,
            self._outbox,
            self._peers,
            self.mempool,
            intake.take,
            lambda name: chain.place_of(name) is not None,
        )
        self._catch_up = CatchUp(chain, network, self._peers, self._lane.feed, time.monotonic, self._overtake)
        self.consensus = Consensus(
            chain,
            engine,
            self.mempool,
            key,
            node_id,
            self._from_lane,
            self._announce_final,
        )
        intake.listen(network, self._gossip)
        Answers(chain, self._snapshots, lambda: self.consensus.state, self._is_known).listen(network)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: ValidatorConfig,
        key: BlsKey,
        network: LedgerNetwork,
        node_id: NodeId,
        store_path: Path,
        genesis: Genesis,
        peers: Mapping[NodeId, Endpoint] | None = None,
        find: FindNode | None = None,
        reporting_key: AccountKey | None = None,
    ) -> AsyncIterator["Validator"]:
        """Run a validator while the context is open.

        Args:
            key: the BLS key that genesis names for this node.
            network: the node's transport; its handlers for ledger messages are set here.
            node_id: this node's id.
            store_path: folder of the ledger; created if it does not exist.
            peers: where others listen that validate or may be elected; for genesis' validators by default where
                genesis says.
            find: asked for validators that are elected later.
            reporting_key: of the account that pays for reports of double signing; without it this node reports none.

        Raises:
            InvalidInput: the key or the folder does not belong to this genesis.
            Unavailable: the folder or the RPC port cannot be used.
        """
        from koinon.ledger.engine import network_engine
        from koinon.store.check import check_store
        from koinon.store.keyvalue import LmdbStore
        from koinon.store.patient import PatientStore

        _check_membership(genesis, node_id, key)
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(check_store, store_path, config.store_bytes)
            store = PatientStore(LmdbStore.open(store_path, config.store_bytes))
            stack.callback(store.close)
            others = {
                member.node_id: Endpoint(member.node_id, member.host, member.port)
                for member in genesis.validators
                if member.node_id != node_id and member.host
            }
            others.update({name: peer for name, peer in (peers or {}).items() if name != node_id})
            check = manifest_check(genesis.validator_set())
            await bootstrap(store, store_path, network, others, genesis.hash, check, config.far_behind)
            chain = await asyncio.to_thread(Chain, store, genesis, config.keep_blocks)
            forgetful = has_forgotten(store, store_path)
            if forgetful:
                _log.error("%s", FORGETFUL)
            store.wait_for_room()
            validator = cls(
                chain,
                network_engine(),
                None if forgetful else key,
                node_id,
                network,
                others,
                store,
                config.rpc_limits,
                find,
                reporting_key,
                store_path,
                SenderRecovery(config.recovery_processes),
            )
            stack.push_async_callback(validator._close)
            if config.rpc_port is not None:
                table = validator._rpc_methods()
                serving = serve_rpc(table, config.rpc_host, config.rpc_port, config.rpc_limits)
                validator.rpc_url = await stack.enter_async_context(serving)
            try:
                async with asyncio.TaskGroup() as tasks:
                    running = [
                        tasks.create_task(validator._lane.work(validator._engine.prepare), name="ledger consensus"),
                        tasks.create_task(validator._catch_up.keep_up(), name="ledger catch-up"),
                    ]
                    validator._acquaintances.look_for(chain.validators)
                    if validator._reporting is not None:
                        validator._reporting.start()
                    validator._lane.put(Wake())
                    validator._lane.wake_at(chain.heartbeat)
                    yield validator
                    for task in running:
                        task.cancel()
            except* KoinonError as problems:
                raise _first(problems) from None

    def submit(self, raw: bytes) -> Transaction:
        """Take in a signed transaction and tell the other validators.

        Raises:
            MalformedMessage, Forged, Refused: it can never be part of a block here; says why.
        """
        transaction = read_offered(raw)
        if not self.mempool.add(transaction, self.chain.state_after(self.consensus.tip())):
            raise Refused("already known: the transaction waits for a block")
        self._announcements.waiting(transaction)
        self._lane.put(Wake())
        self._gossip.tell(transaction, lambda: self._members)
        return transaction

    async def wait_final(self, height: int) -> Header:
        """Wait until the block at ``height`` is final; its header."""
        while True:
            moved = self._final_moved
            if self.chain.final_height >= height:
                break
            await moved.wait()
        return self.chain.header_at(height)

    async def wait_for_others_than(self, validators: ValidatorSet) -> None:
        """Wait until another set signs the next block."""
        while True:
            moved = self._final_moved
            if self.chain.validators.hash != validators.hash:
                return
            await moved.wait()

    def _make_reporting(self, key: AccountKey) -> Reporting | None:
        if self.chain.genesis.parameters.epochs is None:
            return None  # there is no contract to report to

        def next_nonce(account: Address) -> int:
            return self.mempool.next_nonce(account, self.chain.state.view())

        return Reporting(Reporter(self.chain, self._store, self._engine, key, next_nonce, self.submit))

    def facts(self) -> LedgerFacts:
        """How this validator is, for its operator."""
        state, chain = self.consensus.state, self.chain
        connected = self._network.peers()
        return LedgerFacts(
            final_height=chain.final_height,
            certified_height=state.highest.height,
            known_height=max(self._catch_up.known_height, chain.final_height),
            epoch=state.configuration.epoch,
            view=state.view,
            timed_out=state.timed_out,
            halted=state.halted,
            waiting_transactions=len(self.mempool),
            waiting_events=len(self._lane),
            validators=len(self.chain.validators),
            quorum=self.chain.validators.quorum,
            connected=1 + sum(peer in connected for peer in self._peers),
            has_work=state.deadline is not None or state.pending,
            final_age=time.monotonic() - self._final_since,
            signs=self.consensus.signs,
            waits_for_disk=self._store.is_waiting,
            writes_delayed=self._store.delayed,
        )

    def _is_known(self, peer: NodeId) -> bool:
        """Whether a node validates now, or may: each of those has room of its own for what it says too early."""
        return peer in self._peers or self.chain.validators.position_of(peer) is not None

    async def _overtake(self) -> None:
        """Take over the state of a newer block, which the others offer in a snapshot, and go on from there.

        Raises:
            Unavailable: it was interrupted with the old state half gone; the next start goes on with it.
        """
        genesis = self.chain.genesis
        check = manifest_check(genesis.validator_set())

        def replace(path: Path) -> Header:
            self.consensus.begin_anew(lambda: import_snapshot(self._store, path, genesis.hash, check))
            return self.chain.final_header

        async def take(path: Path) -> Header:
            return await self._lane.between(lambda: replace(path))

        held = self.chain.final_height
        header = await overtake(self._network, self._peers, self._folder, genesis.hash, check, held, take)
        if self.chain.is_half_replaced:
            raise Unavailable("a snapshot was taken over in part only; start the node again, which goes on with it")
        if header is not None:
            self._wake_waiters()
            self._lane.put(Wake())

    # Effects: from the ledger's thread to the network and the clock.

    def _from_lane(self, effect: Outward) -> None:
        self._loop.call_soon_threadsafe(self._perform, effect)

    def _perform(self, effect: Outward) -> None:
        match effect:
            case Broadcast():
                self._outbox.broadcast(effect.message, self._members)
            case Answer():
                self._outbox.send(effect.to, effect.message)
            case EpochBegan():
                self._acquaintances.look_for(effect.validators)
            case Contradiction():
                if self._reporting is not None:
                    self._reporting.take(effect)
            case Fetch():
                self._catch_up.fetch(effect)
            case SetTimer():
                self._lane.set_timer(effect.at)
            case Distrust():
                if effect.proven and effect.sender != OUTSIDER:
                    offender = self.chain.validators.members[effect.sender].node_id
                    self._network.offend(offender, PROVEN_POINTS, effect.reason)

    @property
    def _members(self) -> list[NodeId]:
        return [member.node_id for member in self.chain.validators.members]

    def _announce_final(self, _header: Header) -> None:
        self._loop.call_soon_threadsafe(self._wake_waiters)

    def _wake_waiters(self) -> None:
        self._final_since = time.monotonic()
        self._lane.wake_at(self.chain.heartbeat)
        self._final_moved.set()
        self._final_moved = asyncio.Event()
        self._announcements.final(self.chain.final_height)

    def _rpc_methods(self) -> Table:
        async def submit(raw: bytes) -> Transaction:
            return self.submit(raw)

        view = LedgerView(
            chain=self.chain,
            mempool=self.mempool,
            engine=self._engine,
            lane=self._calls,
            tip=self.consensus.tip,
            submit=submit,
            peers=lambda: len(self._peers),
            announcements=self._announcements,
            progress=self._progress,
        )
        own = koinon_methods(self.chain, lambda: self.consensus.state, lambda: len(self.mempool), self.wait_final)
        return table_of(ethereum_methods(view), own, (constant("eth_accounts", []),))

    def _progress(self) -> Progress | None:
        """How far this node is in catching up, None if it lacks no more than what is under way."""
        last, known = self.chain.final_height, self._catch_up.known_height
        return Progress(self._first_height, last, known) if known - last > _UNDER_WAY else None

    async def _close(self) -> None:
        self._store.stop_waiting()
        self._acquaintances.close()
        if self._reporting is not None:
            self._reporting.close()
        await self._catch_up.close()
        await self._snapshots.close()
        await asyncio.to_thread(self._senders.close)
        await self._outbox.close()
        await self._lane.close()
        await asyncio.to_thread(self._calls.close)


def _first(problems: ExceptionGroup[KoinonError]) -> KoinonError:
    """One of the errors that ended the validator; its sentence is what the operator reads."""
    found: BaseException = problems
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, KoinonError)
    return found


def _check_membership(genesis: Genesis, node_id: NodeId, key: BlsKey) -> None:
    position = genesis.validator_set().position_of(node_id)
    if position is None and genesis.parameters.epochs is not None:
        return  # it may be elected later
    if position is None:
        raise InvalidInput("this node is not among the validators of the genesis file; take the role away or add it")
    if genesis.validators[position].bls_key != key.public_key:
        raise InvalidInput("the BLS key of this node is not the one that the genesis file names for it")
