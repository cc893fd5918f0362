"""The strongest network adversary, at random: it decides view by view who sees which message, with one liar's help.

The simulation of ``simulation.py`` draws the fate of each message alone, and certificates that only a liar knows are
rare in it. Here every view is a move: the block reaches everybody, the votes reach the liar and nobody, one or all of
the others, the view times out, and the liar reports whatever certificate it likes in place of one honest report. All
of it is what an asynchronous network may do, so safety must hold; what was held back arrives in the end.
"""

from dataclasses import replace
from typing import Any, Final

from koinon.ledger.giskard.simulation import Scenario, Simulation, Verdict
from koinon.ledger.giskard.state import BlockFetched, Fetch
from koinon.ledger.types import PrepareBlock, PrepareVote, ViewChange, ViewSync
from koinon.sim.network import GOOD_NETWORK, Network
from koinon.sim.world import World

_VIEWS: Final = 14
_PATIENCE: Final = 8.0
"""Base time-out, so long that even a quarter of it outlasts the moves of one view."""
_BUILDING: Final = 0.05
_PARTS: Final = 4
_LONGEST_PATIENCE: Final = 4000.0

Letter = tuple[int, int, Any]
"""Sender, receiver, message."""


class HeldNetwork(Network):
    """Keeps every message until it is delivered by hand; the liars hear everything at once."""

    def __init__(self, world: World, liars: frozenset[int]) -> None:
        super().__init__(world, GOOD_NETWORK)
        self.held: list[Letter] = []
        self._liars = liars

    def send(self, sender: int, receiver: int, message: Any) -> None:
        if receiver in self._liars:
            self._deliver(sender, receiver, message)
        else:
            self.held.append((sender, receiver, message))

    def deliver(self, letters: list[Letter]) -> None:
        """Let these arrive now."""
        for letter in letters:
            self._deliver(*letter)

    def take(self, kind: type[Any]) -> list[Letter]:
        """Remove and give the held messages of one kind."""
        taken = [letter for letter in self.held if isinstance(letter[2], kind)]
        if not taken:
            return taken
        self.held = [letter for letter in self.held if not isinstance(letter[2], kind)]
        return taken


def play(scenario: Scenario, seed: int) -> Verdict:
    """Play one game, in one epoch. Crashes and network faults of the scenario do not count here, nor does liveness."""
    return _Game(scenario, seed).play()


class _Game:
    def __init__(self, scenario: Scenario, seed: int) -> None:
        honest = scenario.nodes - scenario.byzantine
        patient = replace(scenario, base_timeout=_PATIENCE, building=_BUILDING, epochs=1, spare=0)
        self._simulation = Simulation(
            patient, seed, lambda world: HeldNetwork(world, frozenset(range(honest, scenario.nodes)))
        )
        network = self._simulation.network
        assert isinstance(network, HeldNetwork)
        self._network = network
        self._world = self._simulation.world
        self._late: list[Letter] = []
        # Some games keep nearly every certificate from the honest, some let them get on in between.
        everybody = scenario.nodes
        self._audiences = self._world.random.choice(((0, 0, 1, everybody), (0, 0, 0, 1), (0,)))

    def play(self) -> Verdict:
        self._simulation.listen(lying=False)
        for validator in self._simulation.honest:
            validator.start()
        for _ in range(_VIEWS):
            self._play_view()
        self._network.deliver([*self._late, *self._network.take(object)])
        self._pass(1.0)
        return self._simulation.verdict(at_calm=0, live=True)

    def _pass(self, seconds: float) -> None:
        """Let time pass, and let missing blocks be fetched, which only helps the honest."""
        for _ in range(_PARTS):
            self._world.run(self._world.monotonic() + seconds / _PARTS)
            for kind in (Fetch, BlockFetched):
                self._network.deliver(self._network.take(kind))

    def _play_view(self) -> None:
        simulation, network, draw = self._simulation, self._network, self._world.random
        self._pass(0.3)
        for liar in list(simulation.liars.values()):
            liar.propose_in_turn()
        network.deliver(network.take(PrepareBlock))
        self._pass(0.1)
        seeing = draw.choice(self._audiences)
        lucky = draw.sample(range(len(simulation.honest)), min(seeing, len(simulation.honest)))
        votes = network.take(PrepareVote)
        network.deliver([letter for letter in votes if letter[1] in lucky])
        for liar in list(simulation.liars.values()):
            liar.vote_with_the_rest(lucky)
        network.deliver([letter for letter in network.take(PrepareVote) if letter[1] in lucky])
        self._late.extend(letter for letter in votes if letter[1] not in lucky)
        self._pass(0.1)
        self._time_out()
        for liar in list(simulation.liars.values()):
            liar.report_something()
        self._deliver_reports()
        if draw.random() < 0.2 and self._late:
            network.deliver(draw.sample(self._late, len(self._late) // 3))
        for kind in (PrepareVote, ViewChange, ViewSync):
            self._late.extend(network.take(kind))

    def _time_out(self) -> None:
        """Let time pass until every honest validator has given up a view it was in when this began."""
        begun = {validator.node: validator.state.view for validator in self._simulation.honest}
        end = self._world.monotonic() + _LONGEST_PATIENCE
        while self._world.monotonic() < end:
            waiting = [
                validator
                for validator in self._simulation.honest
                if validator.timer is not None
                and not validator.state.timed_out
                and validator.state.view <= begun[validator.node]
            ]
            if not waiting:
                return
            self._pass(max(0.1, min(validator.patience for validator in waiting) + 0.01))

    def _deliver_reports(self) -> None:
        """To each validator, the liar's report and all but one of the honest ones, or the honest ones only."""
        draw = self._world.random
        reports = self._network.take(ViewChange)
        honest = range(len(self._simulation.honest))
        left_out = draw.choice((*honest, None))
        with_liar = left_out is not None
        chosen = [
            letter
            for letter in reports
            if letter[0] != left_out and (letter[1] == left_out or with_liar or letter[0] in honest)
        ]
        self._network.deliver(sorted(chosen, key=lambda letter: letter[0] in honest))
        self._late.extend(letter for letter in reports if letter not in chosen)
        self._pass(0.1)
