"""A whole network of Giskard validators in a simulated world, with liars among them, checked as it runs.

``run(scenario, seed)`` gives a ``Verdict``; the same scenario and seed always give the same one. The validators run
the very step that nodes run; only signatures are ideal and blocks are empty shells around made-up transactions.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.ids import ZERO_ADDRESS, Hash32, NodeId
from koinon.kernel.quantities import BlockIndex, View
from koinon.ledger.giskard.certificates import rank
from koinon.ledger.giskard.ideal import IdealScheme
from koinon.ledger.giskard.liar import Liar
from koinon.ledger.giskard.rules import Rules
from koinon.ledger.giskard.shells import make_header
from koinon.ledger.giskard.simulated import Honest
from koinon.ledger.giskard.state import (
    PendingChanged,
    State,
)
from koinon.ledger.types import (
    Block,
    PrepareVote,
    QuorumCertificate,
    Validator,
    ValidatorSet,
    header_hash,
)
from koinon.sim.network import GOOD_NETWORK, Faults, Network
from koinon.sim.world import World

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
