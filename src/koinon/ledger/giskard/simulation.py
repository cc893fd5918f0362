"""A whole network of Giskard validators in a simulated world, with liars among them, checked as it runs.

``run(scenario, seed)`` gives a ``Verdict``; the same scenario and seed always give the same one. The validators run
the very step that nodes run; only signatures are ideal and blocks are empty shells around made-up transactions.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH, Address, Hash32, NodeId
from koinon.kernel.quantities import BlockIndex, ChainId, Epoch, Gas, Height, Seconds, UnixSeconds, View, Wei
from koinon.ledger.giskard.certificates import rank
from koinon.ledger.giskard.ideal import IdealScheme
from koinon.ledger.giskard.liar import Liar
from koinon.ledger.giskard.protocol import initial_state, restored_state, step
from koinon.ledger.giskard.rules import Rules
from koinon.ledger.giskard.state import (
    BlockFetched,
    Broadcast,
    Configuration,
    Effect,
    Event,
    Execute,
    Executed,
    Fetch,
    Finalise,
    Halt,
    PendingChanged,
    Persist,
    Propose,
    Proposed,
    Received,
    Report,
    Send,
    SetTimer,
    State,
    TimerFired,
)
from koinon.ledger.types import (
    Block,
    Header,
    PrepareVote,
    QuorumCertificate,
    Validator,
    ValidatorSet,
    header_hash,
)
from koinon.sim.disk import Disk
from koinon.sim.network import GOOD_NETWORK, Faults, Network
from koinon.sim.world import World

CHAIN_ID: Final = ChainId(7)
FETCH_SECONDS: Final = 0.1
LAST_HOPE: Final = 120.0
"""Second at which a network that finalised nothing since it became good counts as dead."""
NETWORKS: Final = (
    Faults(delay=(0.001, 0.05)),
    Faults(delay=(0.001, 0.05), loss=0.02, slow_link=0.1, slow_delay=(0.3, 1.5), period=0.5),
    Faults(delay=(0.001, 0.05), duplication=0.1, slow_link=0.25, slow_delay=(0.5, 4.0), period=0.4),
    Faults(delay=(0.001, 0.1), loss=0.05, duplication=0.05, slow_link=0.35, slow_delay=(0.3, 3.0), period=0.5),
)


@dataclass(frozen=True)
class Scenario:
    """What a run is like.

    Attributes:
        nodes: n.
        byzantine: how many of them lie; the highest positions.
        blocks_per_view: N; None draws 2, 3 or 4.
        calm_at: second at which the network becomes good and crashes end (the global stabilisation time).
        quiet_at: second at which no more transactions come.
        crashes: how many crashes honest validators suffer before ``calm_at``.
        rules: replaced to plant a bug.
        faults: of the network before ``calm_at``; None draws one of ``NETWORKS``.
        write_ahead: False plants another: what was signed is not made durable before it is sent.
    """

    nodes: int = 4
    byzantine: int = 1
    blocks_per_view: int | None = None
    calm_at: float = 12.0
    quiet_at: float = 16.0
    crashes: int = 3
    faults: Faults | None = None
    base_timeout: float = 0.4
    rules: Rules = field(default_factory=Rules)
    write_ahead: bool = True


@dataclass(frozen=True)
class Verdict:
    """What a run showed.

    Attributes:
        violations: sentences, one for each property that did not hold; with the label of the property.
        final_height: of the honest validator that got furthest.
        final_at_calm: the same when the network became good.
        live: whether every honest validator finalised new blocks after that, and then fell silent.
    """

    seed: int
    violations: tuple[str, ...]
    final_height: int
    final_at_calm: int
    live: bool


def run(scenario: Scenario, seed: int) -> Verdict:
    """Simulate once."""
    return Simulation(scenario, seed).run()


class Simulation:
    """One run. Public so that a test can steer a world by hand."""

    def __init__(self, scenario: Scenario, seed: int, make_network: Callable[[World], Network] | None = None) -> None:
        self.scenario = scenario
        self.world = World(seed)
        faults = scenario.faults or self.world.random.choice(NETWORKS)
        self.network = Network(self.world, faults) if make_network is None else make_network(self.world)
        self.scheme = IdealScheme(hashlib.sha256(seed.to_bytes(8, "big")).digest())
        self.validators = ValidatorSet(
            tuple(
                Validator(NodeId(bytes([position]) * 32), ZERO_ADDRESS, bytes([position]) * 48)
                for position in range(scenario.nodes)
            )
        )
        self.blocks_per_view = scenario.blocks_per_view or self.world.random.randint(2, 4)
        self.genesis = make_header(self.validators, None, View(0), BlockIndex(self.blocks_per_view - 1), b"")
        self.violations: list[str] = []
        self.final: dict[int, tuple[Hash32, int]] = {}
        self.history: dict[int, tuple[Block, QuorumCertificate]] = {}
        self.voted: dict[tuple[int, View, str, int], Hash32] = {}
        self.pending = True
        honest = scenario.nodes - scenario.byzantine
        self.honest = [Honest(self, position) for position in range(honest)]
        self.liars = [
            Liar(position, self.scheme, self.network, self.world, self.validators, self.blocks_per_view)
            for position in range(honest, scenario.nodes)
        ]

    def run(self) -> Verdict:
        scenario, world = self.scenario, self.world
        for validator in self.honest:
            validator.start()
        for liar in self.liars:
            liar.start()
        for _ in range(scenario.crashes):
            victim = world.random.choice(self.honest)
            at = world.random.uniform(0.1, scenario.calm_at)
            world.after(at, victim.crash)
        world.run(scenario.calm_at)
        self.network.faults = GOOD_NETWORK
        self.network.heal()
        at_calm = max((validator.height for validator in self.honest), default=0)
        world.run(scenario.quiet_at)
        # Patience has grown while nothing could be finalised; give it the time that it takes to run out.
        while min(validator.height for validator in self.honest) <= at_calm + 3 and world.monotonic() < LAST_HOPE:
            world.run(world.monotonic() + 2.0)
        reached = [validator.height for validator in self.honest]
        self.pending = False
        for validator in self.honest:
            validator.take(PendingChanged(False, world.monotonic()))
        for liar in self.liars:
            liar.silent = True
        world.run(world.monotonic() + 60.0)
        quiet = all(validator.timer is None for validator in self.honest)
        live = all(height > at_calm + 3 for height in reached) and quiet
        return Verdict(world.seed, tuple(self.violations), max(reached), at_calm, live)

    def check_final(self, position: int, block: Block) -> None:
        """GISKARD-SAFETY-3: no two honest validators finalise different blocks at one height."""
        name, height = header_hash(block.header), block.header.height
        first, who = self.final.setdefault(height, (name, position))
        if first != name:
            self.violations.append(
                f"GISKARD-SAFETY-3: validators {who} and {position} finalised different blocks at height {height}"
            )

    def check_vote(self, vote: PrepareVote, state: State) -> None:
        """GISKARD-SAFETY-1: an honest validator never votes twice in a place, whatever crashes it survived.

        GISKARD-SAFETY-5: nor for a first block that does not extend the highest block its view change reports.
        """
        proposal = state.proposals.get((vote.view, vote.index))
        if proposal is not None and proposal.view_change and vote.block == header_hash(proposal.block.header):
            reported = max(proposal.view_change.groups, key=rank)
            if proposal.block.header.parent != reported.block:
                self.violations.append(
                    f"GISKARD-SAFETY-5: validator {vote.voter} voted for a first block of view {vote.view} "
                    "that does not extend the highest block reported"
                )
        for kind, place in (("index", vote.index), ("height", vote.height)):
            earlier = self.voted.setdefault((vote.voter, vote.view, kind, place), vote.block)
            if earlier != vote.block:
                self.violations.append(
                    f"GISKARD-SAFETY-1: validator {vote.voter} voted for two blocks "
                    f"of view {vote.view} at {kind} {place}"
                )


class Honest:
    """A validator that follows the protocol: performs the effects of its step in the simulated world."""

    def __init__(self, simulation: Simulation, position: int) -> None:
        scenario = simulation.scenario
        self.simulation = simulation
        self.position = position
        self.disk = Disk()
        self.timer: float | None = None
        self.life = 0
        self.running = False
        self._queue: list[Event] = []
        self._asked: dict[Hash32, float] = {}
        self._configuration = Configuration(
            chain_id=CHAIN_ID,
            epoch=Epoch(0),
            validators=simulation.validators,
            position=position,
            blocks_per_view=simulation.blocks_per_view,
            base_timeout=Seconds(scenario.base_timeout),
            verifier=simulation.scheme,
            signer=simulation.scheme.signer(position),
            rules=scenario.rules,
        )
        self.state: State = initial_state(self._configuration, simulation.genesis)

    @property
    def height(self) -> int:
        return self.state.final_header.height

    @property
    def now(self) -> float:
        return self.simulation.world.monotonic()

    def start(self) -> None:
        self.running = True
        self.simulation.network.attach(self.position, self._receive)
        self.take(PendingChanged(self.simulation.pending, self.now))

    def crash(self) -> None:
        """Stop at once, forget what is not on disk, come back after a while."""
        if not self.running:
            return
        self.running = False
        self.life += 1
        self.timer = None
        self._queue.clear()
        self.disk.crash()
        self.simulation.network.detach(self.position)
        self.simulation.world.after(self.simulation.world.random.uniform(0.05, 2.0), self._restart)

    def _restart(self) -> None:
        final = self.disk.read("final")
        record = self.disk.read("record")
        kept = [value for name, value in self.disk.items().items() if isinstance(name, tuple)]
        if final is None:
            fresh = initial_state(self._configuration, self.simulation.genesis)
            final = (fresh.final_header, fresh.highest)
        final_header, certificate = final
        self.state = restored_state(self._configuration, final_header, certificate, record, tuple(kept))
        self.start()

    def _receive(self, sender: int, message: object) -> None:
        if isinstance(message, BlockFetched):
            self.take(BlockFetched(message.block, message.signature, message.certificate, self.now))
        elif isinstance(message, Fetch):
            self._answer_fetch(sender, message)
        else:
            self.take(Received(sender, message, self.now))  # type: ignore[arg-type]  # what peers send is messages

    def take(self, event: Event) -> None:
        """Work off an event and what follows from it."""
        if not self.running:
            return
        self._queue.append(event)
        if len(self._queue) > 1:
            return
        while self._queue:
            self.state, effects = step(self.state, self._queue[0])
            for effect in effects:
                self._perform(effect)
            del self._queue[:1]

    def _perform(self, effect: Effect) -> None:
        simulation = self.simulation
        match effect:
            case Persist():
                write = self.disk.write if simulation.scenario.write_ahead else self.disk.write_later
                write("record", effect.record)
                for tracked in effect.blocks:
                    write(("block", tracked.hash), (tracked.block, tracked.signature))
            case Broadcast():
                if isinstance(effect.message, PrepareVote):
                    simulation.check_vote(effect.message, self.state)
                for other in range(simulation.scenario.nodes):
                    if other != self.position:
                        simulation.network.send(self.position, other, effect.message)
            case Send():
                simulation.network.send(self.position, effect.to, effect.message)
            case Execute():
                self._later(lambda: Executed(header_hash(effect.block.header), True, self.now), 0.01)
            case Propose():
                self._later(lambda: Proposed(self._make_block(effect), self.now), 0.05)
            case SetTimer():
                self._set_timer(effect.at)
            case Finalise():
                self._finalise(effect)
            case Fetch():
                self._fetch(effect)
            case Report():
                if effect.offender < len(simulation.honest):
                    simulation.violations.append(f"evidence against the honest validator {effect.offender}")
            case Halt():
                simulation.violations.append(f"validator {self.position} halted: {effect.reason}")

    def _fetch(self, wanted: Fetch) -> None:
        """Ask somebody, once in a while."""
        if self._asked.get(wanted.block, -1.0) + FETCH_SECONDS < self.now:
            self._asked[wanted.block] = self.now
            target = self.simulation.world.random.randrange(self.simulation.scenario.nodes)
            if target != self.position:
                self.simulation.network.send(self.position, target, wanted)

    def _later(self, event: Callable[[], Event], most: float) -> None:
        life = self.life
        delay = self.simulation.world.random.uniform(0.0, most)
        self.simulation.world.after(delay, lambda: self.take(event()) if self.life == life else None)

    def _set_timer(self, at: float | None) -> None:
        self.timer = at
        life = self.life

        def fire() -> None:
            if self.life == life and self.timer == at and at is not None:
                self.timer = None
                self.take(TimerFired(max(self.now, at)))

        if at is not None:
            self.simulation.world.after(at - self.now, fire)

    def _make_block(self, effect: Propose) -> Block | None:
        parent = self.state.header_of(effect.parent)
        if parent is None:
            return None
        payload = self.simulation.world.bytes(8)
        transactions = (payload,) if self.simulation.pending else ()
        if not transactions and not effect.required:
            return None
        header = make_header(self.simulation.validators, parent, effect.view, effect.index, payload)
        return Block(header, transactions)

    def _finalise(self, effect: Finalise) -> None:
        for block, certificate in zip(effect.blocks, effect.certificates, strict=True):
            self.simulation.check_final(self.position, block)
            self.simulation.history.setdefault(block.header.height, (block, certificate))
        self.disk.write("final", (effect.blocks[-1].header, effect.certificates[-1]))

    def _answer_fetch(self, sender: int, wanted: Fetch) -> None:
        network = self.simulation.network
        for height in range(max(1, wanted.height - 30), min(wanted.height, self.height) + 1):
            block, certificate = self.simulation.history[height]
            network.send(self.position, sender, BlockFetched(block, None, certificate, 0.0))
        tracked = self.state.blocks.get(wanted.block)
        if tracked is not None:
            known = self.state.certificates.get(wanted.block)
            network.send(self.position, sender, BlockFetched(tracked.block, tracked.signature, known, 0.0))


def make_header(
    validators: ValidatorSet, parent: Header | None, view: View, index: BlockIndex, payload: bytes
) -> Header:
    """A header whose contents are made up but for its place; ``payload`` tells siblings apart."""
    return Header(
        chain_id=CHAIN_ID,
        height=Height(0 if parent is None else parent.height + 1),
        epoch=Epoch(0),
        view=view,
        index=index,
        parent=ZERO_HASH if parent is None else header_hash(parent),
        proposer=validators.proposer(view),
        beneficiary=Address(bytes(20)),
        timestamp=UnixSeconds(0),
        randomness_proof=b"",
        mix=ZERO_HASH,
        state_root=Hash32(hashlib.sha256(payload).digest()),
        transactions_root=ZERO_HASH,
        receipts_root=ZERO_HASH,
        validators=validators.hash,
        bloom=b"",
        gas_limit=Gas(0),
        gas_used=Gas(0),
        base_fee=Wei(0),
    )
