"""An honest validator in the simulated world: performs the effects of the very step that nodes run."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from koinon.kernel.ids import ZERO_HASH, Hash32, NodeId
from koinon.kernel.quantities import Epoch, Height, Seconds
from koinon.ledger.giskard.epochs import EarlyMessages, message_epoch
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.roster import EpochPlan
from koinon.ledger.giskard.shells import CHAIN_ID, make_header
from koinon.ledger.giskard.start import initial_state, restored_state
from koinon.ledger.giskard.state import (
    BlockFetched,
    Broadcast,
    Configuration,
    Effect,
    EpochEnded,
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
from koinon.ledger.giskard.turn import ancestors
from koinon.ledger.types import Block, EpochSync, FinalityProof, PrepareVote, ViewChange, header_hash
from koinon.sim.disk import Disk
from koinon.wire.consensus import ConsensusMessage

if TYPE_CHECKING:
    from koinon.ledger.giskard.simulation import Simulation

FETCH_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 1.0
"""How often a node that is no validator asks somebody what is new."""
_RANGE: Final = 30


class Honest:
    """A node that follows the protocol: performs the effects of its step in the simulated world.

    Attributes:
        plan: of the current epoch.
        state: of the current epoch.
    """

    def __init__(self, simulation: "Simulation", node: int) -> None:
        self.simulation = simulation
        self.node = node
        self.disk = Disk()
        self.timer: float | None = None
        self.life = 0
        self.running = False
        self._queue: list[Event] = []
        self._asked: dict[Hash32, float] = {}
        self._early = EarlyMessages()
        self._opening: EpochEnded | None = None
        self._previous: State | None = None
        # Every clock runs at a speed of its own and starts at a time of its own.
        self._speed = simulation.world.random.uniform(0.9, 1.1)
        self._offset = simulation.world.random.uniform(0.0, 1000.0)
        self.plan = simulation.plans[0]
        self.state: State = initial_state(self._configuration(), simulation.genesis)

    def _configuration(self) -> Configuration:
        plan, scenario = self.plan, self.simulation.scenario
        position = plan.position_of(self.node)
        return Configuration(
            chain_id=CHAIN_ID,
            epoch=plan.epoch,
            validators=plan.validators,
            position=position,
            blocks_per_view=self.simulation.blocks_per_view,
            base_timeout=Seconds(scenario.base_timeout),
            verifier=plan.scheme,
            signer=None if position is None else plan.scheme.signer(position),
            last_height=plan.last_height,
            voting=scenario.voting,
            rules=scenario.rules,
        )

    @property
    def height(self) -> int:
        return self.state.final_header.height

    @property
    def now(self) -> float:
        """The own clock."""
        return self._offset + self._speed * self.simulation.world.monotonic()

    @property
    def patience(self) -> float:
        """Seconds of the world until the timer fires, 0 without one."""
        return 0.0 if self.timer is None else (self.timer - self.now) / self._speed

    def start(self) -> None:
        self.running = True
        self.simulation.network.attach(self.node, self._receive)
        self.take(PendingChanged(self.simulation.pending, self.now))
        if len(self.simulation.plans) > 1:
            self._look_again()

    def crash(self) -> None:
        """Stop at once, forget what is not on disk, come back after a while."""
        if not self.running:
            return
        self.running = False
        self.life += 1
        self.timer = None
        self._queue.clear()
        self._early.take()
        self._previous = self._opening = None
        self.disk.crash()
        self.simulation.network.detach(self.node)
        self.simulation.world.after(self.simulation.world.random.uniform(0.05, 2.0), self._restart)

    def _restart(self) -> None:
        record = self.disk.read("record")
        kept = [value for name, value in self.disk.items().items() if isinstance(name, tuple)]
        final = self.disk.read("final")
        if final is None:
            self.plan = self.simulation.plans[0]
            fresh = initial_state(self._configuration(), self.simulation.genesis)
            final = (fresh.final_header, fresh.root)
        final_header, certificate = final
        self.plan = self.simulation.plan_after(final_header)
        self.state = restored_state(self._configuration(), final_header, certificate, record, tuple(kept))
        self.start()

    # Messages

    def _receive(self, sender: int, message: Any) -> None:
        if isinstance(message, BlockFetched):
            self.take(BlockFetched(message.block, message.signature, message.certificate, self.now))
            return
        if isinstance(message, Fetch):
            self._answer_fetch(sender, message)
            return
        epoch = message_epoch(message)
        if epoch is not None and epoch > self.plan.epoch:
            if epoch == self.plan.epoch + 1:
                self._early.add(_name(sender), message)
            self._look_at(sender)
        elif epoch is not None and epoch < self.plan.epoch:
            self._answer_earlier(sender, epoch, message)
        else:
            self._deliver(sender, message)

    def _deliver(self, sender: int, message: Any) -> None:
        # A node that has left the set may still bring the proof of an end; no position of the set is claimed by it.
        position = self.plan.position_of(sender)
        if position is not None or isinstance(message, EpochSync):
            self.take(Received(0 if position is None else position, message, self.now))

    def _answer_earlier(self, sender: int, epoch: Epoch, message: Any) -> None:
        """GISKARD-LIVENESS-4: by the step that the epoch ended with while it is at hand, later by the proof alone."""
        previous, position = self._previous, self.simulation.plans[epoch].position_of(sender)
        if previous is None or epoch != previous.configuration.epoch:
            if isinstance(message, ViewChange) and position is not None:
                self.simulation.network.send(self.node, sender, EpochSync(self.simulation.ends[epoch]))
            return
        if position is not None:
            _, effects = step(previous, Received(position, message, self.now))
            for effect in effects:
                if isinstance(effect, Send):
                    self.simulation.network.send(self.node, sender, effect.message)

    # Events and effects

    def take(self, event: Event) -> None:
        """Work off an event and what follows from it."""
        if not self.running:
            return
        self._queue.append(event)
        if len(self._queue) > 1:
            return
        while self._queue:
            self.simulation.steps += 1
            self.state, effects = step(self.state, self._queue[0])
            for effect in effects:
                self._perform(effect)
            del self._queue[:1]
            if self._opening is not None:
                self._open_next(self._opening)

    def _open_next(self, ended: EpochEnded) -> None:
        simulation = self.simulation
        self._opening = None
        self._previous = self.state
        self._queue.clear()
        self.plan = simulation.plan_after(ended.header)
        simulation.roots.setdefault(self.plan.epoch, ended.header)
        self.state = initial_state(self._configuration(), ended.header)
        self._queue.append(PendingChanged(simulation.pending, self.now))
        for sender, message in self._early.take():
            position = self.plan.position_of(sender[0])
            if position is not None:
                self._queue.append(Received(position, message, self.now))

    def _perform(self, effect: Effect) -> None:
        simulation = self.simulation
        match effect:
            case Persist():
                write = self.disk.write if simulation.scenario.write_ahead else self.disk.write_later
                write("record", effect.record)
                for tracked in effect.blocks:
                    write(("block", tracked.hash), (tracked.block, tracked.signature))
            case Broadcast():
                self._check(effect.message)
                for other in self.plan.members:
                    if other != self.node:
                        simulation.network.send(self.node, other, effect.message)
            case Send():
                self._check(effect.message)
                simulation.network.send(self.node, self.plan.members[effect.to], effect.message)
            case Execute():
                self._later(lambda: Executed(header_hash(effect.block.header), True, self.now), 0.01)
            case Propose():
                plan = self.plan
                self._later(lambda: Proposed(self._make_block(plan, effect), self.now), simulation.scenario.building)
            case SetTimer():
                self._set_timer(effect.at)
            case Finalise():
                self._finalise(effect)
            case EpochEnded():
                self._opening = effect
            case Fetch():
                self._fetch(effect)
            case Report():
                offender = self.plan.members[effect.offender]
                if offender not in simulation.liar_nodes:
                    simulation.violations.append(f"evidence against the honest validator {offender}")
            case Halt():
                simulation.violations.append(f"validator {self.node} halted: {effect.reason}")

    def _check(self, message: ConsensusMessage) -> None:
        if isinstance(message, PrepareVote):
            self.simulation.check_vote(self.node, message, self.state)

    def _fetch(self, wanted: Fetch) -> None:
        """Ask somebody, once in a while."""
        if self._asked.get(wanted.block, -1.0) + FETCH_SECONDS < self.simulation.world.monotonic():
            self._asked[wanted.block] = self.simulation.world.monotonic()
            target = self.simulation.world.random.choice(self.plan.members)
            if target != self.node:
                self.simulation.network.send(self.node, target, wanted)

    def _look_at(self, node: int) -> None:
        """Ask a node for whatever is final there and not here, once in a while."""
        if self._asked.get(ZERO_HASH, -1.0) + FETCH_SECONDS < self.simulation.world.monotonic():
            self._asked[ZERO_HASH] = self.simulation.world.monotonic()
            self.simulation.network.send(self.node, node, Fetch(ZERO_HASH, Height(self.height + _RANGE)))

    def _look_again(self) -> None:
        life = self.life

        def look() -> None:
            if self.life == life:
                if self.plan.position_of(self.node) is None:
                    self._look_at(self.simulation.world.random.choice(self.plan.members))
                self.simulation.world.after(LOOK_SECONDS, look)

        self.simulation.world.after(LOOK_SECONDS, look)

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
            self.simulation.world.after(self.patience, fire)

    def _make_block(self, plan: EpochPlan, effect: Propose) -> Block | None:
        parent = self.state.header_of(effect.parent)
        if parent is None or plan is not self.plan:
            return None
        payload = self.simulation.world.bytes(8)
        transactions = (payload,) if self.simulation.pending and not effect.closing else ()
        if not transactions and not effect.required:
            return None
        header = make_header(
            plan.validators, parent, effect.view, effect.index, payload, plan.epoch, closing=effect.closing
        )
        return Block(header, transactions)

    def _finalise(self, effect: Finalise) -> None:
        simulation = self.simulation
        for block, certificate in zip(effect.blocks, effect.certificates, strict=True):
            simulation.check_final(self.node, block)
            simulation.history.setdefault(block.header.height, (block, certificate))
        self.disk.write("final", (effect.blocks[-1].header, effect.certificates[-1]))
        if effect.blocks[-1].header.height == self.plan.last_height:
            simulation.ends.setdefault(self.plan.epoch, FinalityProof(effect.headers, effect.proof))

    def _answer_fetch(self, sender: int, wanted: Fetch) -> None:
        """Send the final blocks below and at the height, the proofs of the ends of epochs among them, and the block.

        Who asks for none in particular also gets the certified ones above, which prove the last final one.
        """
        simulation, network = self.simulation, self.simulation.network
        for height in range(max(1, wanted.height - _RANGE), min(wanted.height, self.height) + 1):
            block, certificate = simulation.history[height]
            network.send(self.node, sender, BlockFetched(block, None, certificate, 0.0))
            end = simulation.ends.get(block.header.epoch)
            if end is not None and end.headers[0].height == height:
                network.send(self.node, sender, EpochSync(end))
        for tracked in ancestors(self.state, self.state.highest.block):
            known = self.state.certificates.get(tracked.hash)
            if known is not None and wanted.block == ZERO_HASH:
                network.send(self.node, sender, BlockFetched(tracked.block, tracked.signature, known, 0.0))
        named = self.state.blocks.get(wanted.block)
        if named is not None:
            known = self.state.certificates.get(wanted.block)
            network.send(self.node, sender, BlockFetched(named.block, named.signature, known, 0.0))


def _name(node: int) -> NodeId:
    return NodeId(bytes([node]) * 32)
