"""A chain in one process for those who write contracts: a transaction is in a final block before its sender hears back.

Engine, state, mempool and the making of blocks are those of every network; only consensus is missing. Its one
validator, whose key everybody knows, certifies each block alone, so nothing here proves anything to an outsider.
The ten accounts are those of anvil and Hardhat, made from a mnemonic that everybody knows as well: tools know them, and
nothing of value must ever be sent to them on another chain.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from koinon.crypto.bls import BlsKey
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address
from koinon.kernel.quantities import BlockIndex, ChainId, Gas, Height, UnixSeconds, View, Wei
from koinon.ledger.blocks import propose
from koinon.ledger.chain import Chain
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.genesis import Genesis, GenesisAccount, GenesisValidator, Parameters, funded
from koinon.ledger.giskard.certificates import vote_message
from koinon.ledger.giskard.state import Finalise, Propose
from koinon.ledger.mempool import Mempool, read_offered
from koinon.ledger.rpc.announcements import Announcements
from koinon.ledger.transaction import Transaction
from koinon.ledger.types import Header, QuorumCertificate, header_hash, make_bitmap

CHAIN_ID: Final = ChainId(31337)
MNEMONIC: Final = "test test test test test test test test test test test junk"
SECRETS: Final = (
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
)
"""Of the accounts m/44'/60'/0'/0/0 to 9 of the mnemonic (BIP-32, BIP-44)."""
BALANCE: Final = Wei(10_000 * 10**18)
_VALIDATOR_SEED: Final = b"koinon development validator key"
_GAS_LIMIT: Final = Gas(30_000_000)
_CREATE2_DEPLOYER: Final = Address(bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c"))
_CREATE2_DEPLOYER_CODE: Final = bytes.fromhex(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd"
    "5b8082525050506014600cf3"
)
"""The deterministic deployment proxy, which tools expect on every chain (github.com/Arachnid)."""
_MOST_BLOCKS_AT_ONCE: Final = 1_000
_LONGEST_LEAP: Final = 10 * 365 * 24 * 3600
_log: Final = logging.getLogger("koinon.ledger.development")


def wallet() -> dict[Address, AccountKey]:
    """The keys of the ten accounts."""
    keys = [AccountKey.from_secret(bytes.fromhex(secret)) for secret in SECRETS]
    return {key.address: key for key in keys}


def development_genesis(chain_id: ChainId, timestamp: UnixSeconds) -> Genesis:
    """Ten rich accounts and one validator."""
    key = BlsKey.from_seed(_VALIDATOR_SEED)
    validator = GenesisValidator(
        node_id=NodeKey.from_seed(_VALIDATOR_SEED).node_id,
        account=Address(key.public_key[-20:]),
        bls_key=key.public_key,
        possession=key.prove_possession(),
        host="127.0.0.1",
        port=1,
    )
    deployer = GenesisAccount(_CREATE2_DEPLOYER, bytes(32), _CREATE2_DEPLOYER_CODE)
    return Genesis(
        chain_id=chain_id,
        timestamp=timestamp,
        validators=(validator,),
        accounts=(*(funded(address, BALANCE) for address in wallet()), deployer),
        parameters=Parameters(gas_limit=_GAS_LIMIT),
    )


@dataclass
class DevelopmentChain:
    """Made by ``open``; belongs to the event loop it was opened on.

    Attributes:
        mines_at_once: whether a transaction that comes in makes a block.
        leap: seconds by which the chain's clock is ahead of the machine's.
    """

    chain: Chain
    engine: EvmEngine
    mempool: Mempool
    announcements: Announcements = field(default_factory=Announcements)
    mines_at_once: bool = True
    leap: int = 0
    _key: BlsKey = field(default_factory=lambda: BlsKey.from_seed(_VALIDATOR_SEED))
    _lane: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "development"))
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ticking: asyncio.Task[None] | None = None
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @asynccontextmanager
    async def open(cls, chain_id: ChainId = CHAIN_ID, folder: Path | None = None) -> AsyncIterator["DevelopmentChain"]:
        """A chain while the context is open: in memory, or kept in ``folder`` and gone on with the next time.

        Raises:
            InvalidInput: the folder holds another chain.
            Unavailable: the folder cannot be used.
        """
        from koinon.ledger.engine import network_engine

        async with AsyncExitStack() as stack:
            genesis, store = _open_store(chain_id, folder)
            stack.callback(store.close)
            chain = await asyncio.to_thread(Chain, store, genesis)
            engine = network_engine()
            development = cls(
                chain, engine, Mempool(chain_id, genesis.parameters.gas_limit, chain.next_base_fee(chain.final_header))
            )
            stack.push_async_callback(development._close)
            await asyncio.get_running_loop().run_in_executor(development._lane, engine.prepare)
            yield development

    def clock(self) -> float:
        """Unix time in seconds as this chain has it."""
        return time.time() + self.leap

    def tip(self) -> Header:
        """Header of the newest block, which is final."""
        return self.chain.final_header

    async def submit(self, raw: bytes) -> Transaction:
        """Take in a signed transaction and, unless told otherwise, put it into a block.

        Raises:
            MalformedMessage, Forged, Refused: it can never be part of a block here; says why.
        """
        transaction = read_offered(raw)
        if not self.mempool.add(transaction, self.chain.state.view()):
            raise Refused("already known: the transaction waits for a block")
        self.announcements.waiting(transaction)
        if self.mines_at_once:
            await self.mine(required=False)
            if self.chain.place_of(transaction.hash) is None and self.mempool.get(transaction.hash) is None:
                raise Refused("the transaction does not fit into a block here; its fee or its gas has become too low")
        return transaction

    async def mine(self, count: int = 1, *, required: bool = True) -> None:
        """Make blocks of what waits.

        Args:
            required: also if nothing fits.

        Raises:
            InvalidInput: that is too many at once.
        """
        if not 1 <= count <= _MOST_BLOCKS_AT_ONCE:
            raise InvalidInput(f"1 to {_MOST_BLOCKS_AT_ONCE} blocks are made at once; got {count}")
        async with self._turn:
            loop = asyncio.get_running_loop()
            for _ in range(count):
                made = await loop.run_in_executor(self._lane, self._make_block, required)
                # All the gas of a block may be used up with more waiting.
                while made and self.mempool.has_candidate(self.chain.state.view()) and not required:
                    made = await loop.run_in_executor(self._lane, self._make_block, required)
        self._moved.set()
        self._moved = asyncio.Event()
        self.announcements.final(self.chain.final_height)

    def mine_every(self, seconds: float | None) -> None:
        """Make a block, empty if need be, at this interval; None stops that."""
        if self._ticking is not None:
            self._ticking.cancel()
        self._ticking = None if seconds is None else asyncio.create_task(self._tick(seconds), name="development blocks")

    def leap_ahead(self, seconds: int) -> None:
        """Put the chain's clock forward. Raises InvalidInput for more than ten years."""
        if not 0 <= seconds <= _LONGEST_LEAP:
            raise InvalidInput(f"time goes forward by 0 to {_LONGEST_LEAP} seconds; got {seconds}")
        self.leap += seconds

    async def wait_final(self, height: int) -> Header:
        """Wait until the block at ``height`` is there; its header."""
        while self.chain.final_height < height:
            await self._moved.wait()
        return self.chain.header_at(height)

    async def _tick(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.mine()

    def _make_block(self, required: bool) -> bool:
        """Make one block and make it final; whether there was anything to make."""
        parent = self.chain.final_header
        height = Height(parent.height + 1)
        view, index = divmod(height - 1, self.chain.genesis.parameters.blocks_per_view)
        asked = Propose(header_hash(parent), height, View(view + 1), BlockIndex(index), required, closing=False)
        block = propose(self.chain, self.engine, self.mempool, self._key, 0, asked, self.clock)
        if block is None:
            return False
        certificate = self._certify(block.header)
        final = Finalise((block,), (certificate,), (block.header,), (certificate,))
        self.mempool.settle(self.chain.finalise(final), self.chain.next_base_fee(block.header))
        return True

    def _certify(self, header: Header) -> QuorumCertificate:
        name = header_hash(header)
        place = (header.epoch, header.view, header.index, header.height, name)
        statement = vote_message(header.chain_id, *place)
        return QuorumCertificate(*place, make_bitmap([0], 1), self._key.sign(statement))

    async def _close(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
        await asyncio.to_thread(self._lane.shutdown)


def _open_store(chain_id: ChainId, folder: Path | None) -> tuple[Genesis, Store]:
    from koinon.store.keyvalue import LmdbStore, MemoryStore

    fresh = development_genesis(chain_id, UnixSeconds(int(time.time())))
    if folder is None:
        return fresh, MemoryStore()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "genesis"
    if not record.exists():
        record.write_bytes(encode(fresh))
    genesis = decode(Genesis, record.read_bytes())
    if genesis.chain_id != chain_id:
        raise InvalidInput(f"the folder holds chain {genesis.chain_id}; give that chain id, or another folder")
    return genesis, LmdbStore.open(folder / "ledger", 4 << 30)
