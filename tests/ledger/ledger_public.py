"""A network of a staking profile in the simulated world: the real step at every seat, the real contract below.

Every validator runs the step that nodes run, with ideal signatures, over a network that delays and reorders. Blocks
are made by the seats' proposers on one ledger and checked on another, each with an engine of its own, as two honest
nodes would; what the second says of a block counts for every seat, since a third would say the same. Keys of the
random function and proofs of possession are real, because the staking contract checks them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ledger_network import CHAIN_ID, Keys
from ledger_staking import ContractReader

from koinon.contracts.contract import interface
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import Seconds, UnixSeconds, Wei
from koinon.ledger.blocks import check_and_execute, propose
from koinon.ledger.chain import Chain
from koinon.ledger.engine import network_engine
from koinon.ledger.genesis import Genesis, GenesisValidator, funded
from koinon.ledger.giskard.epochs import EarlyMessages, message_epoch
from koinon.ledger.giskard.ideal import IdealScheme
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.start import initial_state
from koinon.ledger.giskard.state import (
    BlockFetched,
    Broadcast,
    Configuration,
    Distrust,
    Effect,
    EpochEnded,
    Event,
    Execute,
    Executed,
    Fetch,
    Finalise,
    Halt,
    PendingChanged,
    Propose,
    Proposed,
    Received,
    Report,
    Send,
    SetTimer,
    State,
    TimerFired,
    Voting,
)
from koinon.ledger.mempool import Mempool
from koinon.ledger.signing import Unsigned
from koinon.ledger.staking.contract import STAKING
from koinon.ledger.staking.founding import COIN
from koinon.ledger.staking.precompiles import registration_proof
from koinon.ledger.staking.profiles import Profile, found
from koinon.ledger.types import Block, Header, ValidatorSet, header_hash
from koinon.sim.network import GOOD_NETWORK, Network
from koinon.sim.world import World
from koinon.store.keyvalue import MemoryStore

TREASURY: Final = Address(b"\xee" * 20)
CUSTOMER: Final = Keys.of(250).account
STRANGER: Final = Address(bytes(19) + b"\x99")
PURSE: Final = Wei(10**7 * COIN)
TIP: Final = 10**9
FEE: Final = 10**12
FETCH_SECONDS: Final = 0.1
STALL_SECONDS: Final = 300.0
"""Simulated seconds without a final block after which the network counts as dead."""


@dataclass(frozen=True)
class Promise:
    """What a candidate brings: its own stake in whole coins, and the share of its rewards for delegators."""

    stake: int
    share: int = 2_000


class PublicNetwork:
    """See the module.

    Args:
        promises: of the candidates that register after genesis; their numbers follow the founders'.
        founders: who have the seats at first.
        silent: nodes that never say anything, seated or not.

    Attributes:
        making, checking: the two ledgers; ``store`` is under the first.
        burnt: base fees of all final blocks, in wei.
        views_lost: counted at every seat.
    """

    def __init__(
        self, kind: Profile, founders: int, promises: list[Promise], silent: frozenset[int] = frozenset(), seed: int = 1
    ) -> None:
        self.world = World(seed)
        self.network = Network(self.world, GOOD_NETWORK)
        self.keys = [Keys.of(number) for number in range(founders + len(promises))]
        self.silent = silent
        self.genesis = _genesis(kind, self.keys, founders)
        self.store = MemoryStore()
        self.making, self.checking = (
            Chain(store, self.genesis, keep_blocks=256) for store in (self.store, MemoryStore())
        )
        self._engines = network_engine(), network_engine()
        self.mempool = Mempool(CHAIN_ID, self.genesis.parameters.gas_limit, self.genesis.parameters.base_fee)
        self.burnt = 0
        self.views_lost = 0
        self._verdicts: dict[Hash32, bool] = {}
        self._customer_nonce = 0
        self._numbers = {keys.node.node_id: number for number, keys in enumerate(self.keys)}
        for number, promise in enumerate(promises, founders):
            self._register(number, promise)
        self.seats = {number: Seat(self, number) for number in range(len(self.keys)) if number not in silent}
        self._seat(self.members(self.making.validators))

    @property
    def height(self) -> int:
        """Of the last block that anybody has final."""
        return self.making.final_height

    def run(self, height: int) -> None:
        """Let the world go on until a block of this height is final."""
        since, last = self.world.monotonic(), self.height
        while self.height < height:
            self.world.run(self.world.monotonic() + 0.1)
            if self.height > last:
                since, last = self.world.monotonic(), self.height
            assert self.world.monotonic() - since < STALL_SECONDS, f"no block above {last} becomes final"

    def number_of(self, node_id: NodeId) -> int:
        """The node of this id."""
        return self._numbers[node_id]

    def members(self, validators: ValidatorSet) -> list[int]:
        """The nodes of a set by position."""
        return [self._numbers[member.node_id] for member in validators.members]

    def seated(self, epoch: int) -> list[int]:
        """The nodes that validate in an epoch."""
        return self.members(self.making.set_of(epoch))

    def contract(self) -> ContractReader:
        """The staking contract in the last final state."""
        header, state = self.making.final_header, self.making.state.view()
        context = self.making.context_for(header, header.timestamp, header.beneficiary, header.mix)
        return ContractReader(self._engines[0], context, state)

    # What the seats ask of their ledgers

    def execute(self, block: Block) -> bool:
        """Whether the block's parent is there to execute it on; decided on the checking ledger, once.

        Raises Forged where it does not do what its header says: nobody here makes such a block.
        """
        name = header_hash(block.header)
        if name not in self._verdicts:
            try:
                check_and_execute(self.checking, self._engines[1], block)
            except Unavailable:
                return False
            self._verdicts[name] = True
        return True

    def make(self, number: int, position: int, effect: Propose) -> Block | None:
        """A block with at least one transaction, made on the making ledger; None where others have gone on."""
        try:
            view, _ = self.making.parent_state(effect.parent)
        except Unavailable:
            return None
        if not effect.closing and not self.mempool.has_candidate(view):
            self.submit(CUSTOMER, self._customer_nonce, STRANGER, 21_000, 1)
            self._customer_nonce += 1
        key = self.keys[number].bls
        block = propose(self.making, self._engines[0], self.mempool, key, position, effect, self._clock)
        assert block is not None, "something waited"
        return block

    def _clock(self) -> float:
        return self.genesis.timestamp + self.world.monotonic()

    def finalise(self, effect: Finalise) -> None:
        """The first seat's word moves both ledgers; the others must say the same."""
        for header in (block.header for block in effect.blocks):
            if header.height <= self.height:
                assert self.making.header_at(header.height) == header, f"a fork at height {header.height}"
        if effect.blocks[-1].header.height <= self.height:
            return
        late = sum(block.header.height <= self.height for block in effect.blocks)
        fresh = Finalise(effect.blocks[late:], effect.certificates[late:], effect.headers, effect.proof)
        for block in fresh.blocks:
            self.burnt += block.header.gas_used * block.header.base_fee
        epoch = self.making.epoch
        transactions = self.making.finalise(fresh)
        self.checking.finalise(fresh)
        self.mempool.settle(transactions, self.making.next_base_fee(self.making.final_header))
        if self.making.epoch != epoch:
            self.making.begin_epoch()
            self.checking.begin_epoch()
            self._seat(set(self.seated(self.making.epoch)) - set(self.seated(epoch)))

    def _seat(self, newcomers: Iterable[int]) -> None:
        """Let newly elected nodes hear of it: they follow the chain, a message behind its validators."""
        root = self.making.final_header
        for number in sorted(newcomers):
            if number in self.seats:
                self.world.after(self.world.random.uniform(0.001, 0.05), partial(self.seats[number].open, root))

    # Transactions

    def submit(self, key: AccountKey, nonce: int, to: Address, gas: int, value: int = 0, data: bytes = b"") -> None:
        """Hand in a transaction for one of the next blocks."""
        unsigned = Unsigned(2, CHAIN_ID, nonce, TIP, FEE, gas, to, value, data)
        assert self.mempool.add(unsigned.sign(key), self.making.state.view())

    def call(self, number: int, nonce: int, function: str, *arguments: object, value: int = 0) -> None:
        """Hand in a call of the staking contract by a node's account; ``value`` in whole coins."""
        data = interface("Staking").encode_call(function, *arguments)
        self.submit(self.keys[number].account, nonce, STAKING, 1_500_000, value * COIN, data)

    def _register(self, number: int, promise: Promise) -> None:
        keys = self.keys[number]
        possession = keys.bls.prove_possession()
        proof = registration_proof(CHAIN_ID, keys.account.address, keys.node, keys.bls.public_key, possession)
        key = keys.bls.public_key
        arguments = (keys.node.node_id, key[:32], key[32:], proof, promise.share)
        self.call(number, 0, "register", *arguments, value=promise.stake)


def _genesis(kind: Profile, keys: list[Keys], founders: int) -> Genesis:
    validators = [
        GenesisValidator(
            one.node.node_id, one.account.address, one.bls.public_key, one.bls.prove_possession(), "127.0.0.1", 1
        )
        for one in keys[:founders]
    ]
    accounts = [funded(one.account.address, PURSE) for one in keys]
    accounts.append(funded(CUSTOMER.address, PURSE))
    return found(kind, network_engine(), CHAIN_ID, UnixSeconds(1_800_000_000), validators, accounts, TREASURY)


class Seat:
    """One node: the step of the epochs it is seated in, and what performs its effects.

    Attributes:
        state: of the newest epoch it was seated in.
    """

    def __init__(self, home: PublicNetwork, number: int) -> None:
        self.home = home
        self.number = number
        self.state: State | None = None
        self._members: list[int] = []
        self._timer: float | None = None
        self._queue: list[Event] = []
        self._asked: dict[Hash32, float] = {}
        self._early = EarlyMessages()
        home.network.attach(number, self._receive)

    def open(self, root: Header) -> None:
        """Begin the epoch above ``root`` if this node has a seat in it, and has not begun it."""
        chain = self.home.making
        epoch = chain.epoch_of(root.height + 1)
        validators, parameters = chain.set_of(epoch), chain.genesis.parameters
        position = validators.position_of(self.home.keys[self.number].node.node_id)
        if position is None or (self.state is not None and self.state.configuration.epoch >= epoch):
            return
        self._members = self.home.members(validators)
        scheme = IdealScheme(b"public", tuple(self._members))
        configuration = Configuration(
            chain_id=chain.genesis.chain_id,
            epoch=epoch,
            validators=validators,
            position=position,
            blocks_per_view=parameters.blocks_per_view,
            base_timeout=Seconds(parameters.base_timeout / 1000),
            verifier=scheme,
            signer=scheme.signer(position),
            voting=Voting.COLLECTED if len(validators) >= parameters.collect_votes_from else Voting.BROADCAST,
            last_height=chain.last_height(epoch),
        )
        self._timer = None
        self.state = initial_state(configuration, root)
        self._take(PendingChanged(True, self._now))
        for sender, message in self._early.take():
            self._receive(self.home.number_of(sender), message)

    @property
    def _now(self) -> float:
        return self.home.world.monotonic()

    def _receive(self, sender: int, message: Any) -> None:
        state = self.state
        if isinstance(message, Fetch):
            self._answer(sender, message)
        elif isinstance(message, BlockFetched):
            self._take(BlockFetched(message.block, message.signature, message.certificate, self._now))
        elif state is None or (message_epoch(message) or state.configuration.epoch) > state.configuration.epoch:
            self._early.add(self.home.keys[sender].node.node_id, message)
        elif message_epoch(message) == state.configuration.epoch and sender in self._members:
            self._take(Received(self._members.index(sender), message, self._now))

    def _take(self, event: Event) -> None:
        """Work off an event and what follows from it."""
        self._queue.append(event)
        if len(self._queue) > 1:
            return
        while self._queue:
            assert self.state is not None, "nothing is asked of a node before its first epoch"
            before = self.state
            self.state, effects = step(before, self._queue[0])
            self.home.views_lost += self.state.failures > before.failures
            ended: Header | None = None
            for effect in effects:
                if isinstance(effect, EpochEnded):
                    ended = effect.header
                else:
                    self._perform(effect)
            del self._queue[0]
            if ended is not None:
                self._queue.clear()
                self.open(ended)

    def _perform(self, effect: Effect) -> None:
        home = self.home
        match effect:
            case Broadcast():
                for other in self._members:
                    if other != self.number:
                        home.network.send(self.number, other, effect.message)
            case Send():
                home.network.send(self.number, self._members[effect.to], effect.message)
            case Execute():
                valid = home.execute(effect.block)
                self._queue.append(Executed(header_hash(effect.block.header), valid, self._now))
            case Propose():
                assert self.state is not None
                position = self.state.configuration.position
                assert position is not None, "only members propose"
                self._queue.append(Proposed(home.make(self.number, position, effect), self._now))
            case SetTimer():
                self._set_timer(effect.at)
            case Finalise():
                home.finalise(effect)
            case Fetch():
                self._fetch(effect)
            case Report() | Halt() | Distrust():
                raise AssertionError(f"nobody lies here, and yet validator {self.number} says {effect}")

    def _set_timer(self, at: float | None) -> None:
        self._timer = at

        def fire() -> None:
            if self._timer == at:
                self._timer = None
                self._take(TimerFired(max(self._now, at or 0.0)))

        if at is not None:
            self.home.world.after(at - self._now, fire)

    def _fetch(self, wanted: Fetch) -> None:
        """Ask somebody, once in a while."""
        if self._asked.get(wanted.block, -1.0) + FETCH_SECONDS < self._now:
            self._asked[wanted.block] = self._now
            others = [other for other in self._members if other != self.number]
            self.home.network.send(self.number, self.home.world.random.choice(others), wanted)

    def _answer(self, sender: int, wanted: Fetch) -> None:
        if self.state is None:
            return
        named = self.state.blocks.get(wanted.block)
        if named is not None:
            known = self.state.certificates.get(wanted.block)
            self.home.network.send(self.number, sender, BlockFetched(named.block, named.signature, known, 0.0))
