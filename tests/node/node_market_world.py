"""A publisher and providers as real nodes on real connections, around the suite on an EVM inside the test process."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from contracts_chain import EvmChain
from contracts_world import OWNERS, World, digest_of, key_of

from koinon.contracts.assets import AssetKind, Mint
from koinon.contracts.client import ChainClient
from koinon.contracts.providers import Role
from koinon.contracts.suite import Suite
from koinon.crypto.hash import sha256
from koinon.crypto.hpke import HpkeKey
from koinon.crypto.signature import NodeKey
from koinon.data.schema import Schema
from koinon.data.table import Table
from koinon.jobs.study import Party, StudyFile, Terms, sign_study, specification_hash
from koinon.journey.desk import Desk
from koinon.journey.results import Output, Study, Trained
from koinon.kernel.codec import encode
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import BasisPoints, Seconds, TokenAmount, UnixSeconds
from koinon.net.discovery import Directory, NodeClaim, sign_record
from koinon.net.transport import Transport
from koinon.node.config import ChainConfig, NodeConfig
from koinon.node.context import Context
from koinon.node.feed import Feed
from koinon.node.home import Home, Identity, NodeKeys
from koinon.node.tasks import TaskBoard
from koinon.store.blobs import MemoryBlobs
from koinon.store.exchange import serve_blobs
from koinon.store.keyvalue import MemoryStore
from koinon.wire.committee import Column

COLUMNS = (Column("size", 0.0, 10.0), Column("age", 0.0, 100.0), Column("dose", -5.0, 5.0))
TARGET = "ill"
COEFFICIENTS = (4.0, 1.0, -2.0)
INTERCEPT = 0.25


@dataclass
class ChainClock:
    """The chain's time, which moves only when a test moves it."""

    chain: EvmChain
    ticks: float = 0.0

    def monotonic(self) -> Seconds:
        self.ticks += 0.001
        return Seconds(self.ticks)

    def unix(self) -> UnixSeconds:
        return UnixSeconds(self.chain.time)


def keys_of(name: str) -> NodeKeys:
    seed = sha256(name.encode())
    return NodeKeys(NodeKey.from_seed(seed), key_of(name), HpkeKey.from_seed(sha256(seed)))


@dataclass
class Network:
    """Nodes by name. A node that is opened again under its name has its old memory and blobs."""

    chain: EvmChain
    world: World
    folder: Path
    stack: AsyncExitStack
    memories: dict[str, MemoryStore] = field(default_factory=dict)
    blobs: dict[str, MemoryBlobs] = field(default_factory=dict)
    keeper: Context | None = None
    announcements: int = 0

    async def node(self, name: str, roles: Sequence[str] = ()) -> Context:
        """Open a node, register it if it is a provider, and announce it."""
        keys, clock = keys_of(name), ChainClock(self.chain)
        transport = await self.stack.enter_async_context(Transport.open(keys.node))
        keepers = [] if self.keeper is None else [self.keeper.transport.endpoint]
        directory = Directory(transport, clock, keepers)
        if self.keeper is None:
            directory.serve()
        client = ChainClient(self.chain, keys.account, now=self.chain.now)
        memory = self.memories.setdefault(name, MemoryStore())
        blobs = self.blobs.setdefault(name, MemoryBlobs())
        serve_blobs(transport.handle, blobs, may_put=lambda _peer, _size: True)
        home = Home(self.folder / name)
        home.path.mkdir(exist_ok=True)
        host, port = transport.endpoint.host, transport.endpoint.port
        context = Context(
            home=home,
            config=NodeConfig(name, tuple(roles), host, port, 0, 0, name, (), ChainConfig((), 1, ()), False),
            identity=Identity(
                name, keys.node.node_id, keys.account.address, keys.sealing.public_key, host, port, b"", b""
            ),
            keys=keys,
            transport=transport,
            directory=directory,
            client=client,
            memory=memory,
            blobs=blobs,
            board=TaskBoard(),
            feed=Feed(client, memory),
            clock=clock,
            adopted=self.world.suite.through(client),
        )
        self.stack.push_async_callback(context.close)
        if self.keeper is None:
            self.keeper = context
        if name.startswith("provider"):
            own = self.world.by(name).providers
            known = await own.provider_of(keys.account.address)
            if known.node_id != keys.node.node_id:
                await own.register(keys.node.node_id, known.operator, Role.COMPUTE | Role.EVALUATE | Role.SERVE)
        self.announcements += 1
        claim = NodeClaim(
            node_id=keys.node.node_id,
            account=keys.account.address,
            host=host,
            port=port,
            roles=tuple(sorted(roles)),
            encryption_key=keys.sealing.public_key,
            sequence=self.announcements,
            expiry=UnixSeconds(clock.unix() + 3600),
        )
        await directory.announce(sign_record(keys.node, keys.account, claim))
        return context

    @property
    def suite(self) -> Suite:
        return self.world.suite


@asynccontextmanager
async def open_network(chain: EvmChain, world: World, folder: Path) -> AsyncIterator[Network]:
    async with AsyncExitStack() as stack:
        yield Network(chain, world, folder, stack)


def desk_of(context: Context) -> tuple[Desk, list[str]]:
    """A node's desk, and what it says."""
    said: list[str] = []
    return context.desk(lambda sentence, _fraction=None: said.append(sentence)), said


def party(name: str) -> Party:
    keys = keys_of(name)
    return Party(name, NodeId(keys.node.node_id), Address(keys.account.address))


async def trained_model(network: Network) -> tuple[Trained, StudyFile]:
    """A study that the chain saw through to its result, and the output that was opened."""
    world = network.world
    study = StudyFile(
        version=1,
        title="Illness",
        purpose="Risk of illness by size, age and dose",
        algorithm="logistic-regression/1",
        algorithm_hash=digest_of("algorithm"),
        columns=COLUMNS,
        target=TARGET,
        sensitive_column="age",
        outputs=("coefficients", "intercept"),
        epsilon=0.0,
        minimum_rows=10,
        owners=tuple(party(name) for name in OWNERS),
        publisher=party("publisher"),
        owner_revenue=BasisPoints(2000),
        terms=Terms(TokenAmount(5), TokenAmount(7), TokenAmount(11), 60, 30, 90, 4, 3),
        chain_id=1,
        studies_contract=world.suite.studies.address,
    )
    from dataclasses import replace

    number = await world.completed(replace(await world.terms(), spec_hash=specification_hash(study)))
    datasets = tuple(digest_of(f"dataset of {name}") for name in OWNERS)
    for name, dataset in zip(OWNERS, datasets, strict=True):
        mint = Mint(AssetKind.DATASET, dataset, "", (), (world.address(name),), (BasisPoints(10_000),))
        await world.by(name).assets.mint(mint)
    state = await world.suite.studies.study_of(number)
    signed = encode(sign_study(study, keys_of("publisher").node))
    trained = Trained(
        study=Study(number, specification_hash(study), signed, datasets),
        attempt=0,
        committee=tuple(state.committee),
        output_digest=digest_of("output"),
        outputs=(Output("coefficients", (3,), COEFFICIENTS), Output("intercept", (1,), (INTERCEPT,))),
        training_rows=(40, 50, 60),
        liars=(),
        incidents=(),
    )
    return trained, study


def rows_for_evaluation() -> Table:
    """Rows that mostly follow the model."""
    rng = np.random.default_rng(5)
    low = np.array([column.low for column in COLUMNS])
    high = np.array([column.high for column in COLUMNS])
    features = np.round(rng.uniform(low, high, (150, len(COLUMNS))), 3)
    scaled = 2 * (features - low) / (high - low) - 1
    chance = 1 / (1 + np.exp(-(scaled @ np.array(COEFFICIENTS) + INTERCEPT)))
    return Table(Schema(COLUMNS, TARGET), features, (rng.random(150) < chance).astype(np.float64))
