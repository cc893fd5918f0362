"""An honest validator in the simulated world: performs the effects of the very step that nodes run."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import Epoch, Seconds
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.shells import CHAIN_ID, make_header
from koinon.ledger.giskard.start import initial_state, restored_state
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
    PrepareVote,
    header_hash,
)
from koinon.sim.disk import Disk

if TYPE_CHECKING:
    from koinon.ledger.giskard.simulation import Simulation

FETCH_SECONDS: Final = 0.1


class Honest:
    """A validator that follows the protocol: performs the effects of its step in the simulated world."""

    def __init__(self, simulation: "Simulation", position: int) -> None:
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
