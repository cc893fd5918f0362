"""A whole network of Giskard validators in a simulated world, with liars among them, checked as it runs.

``run(scenario, seed)`` gives a ``Verdict``; the same scenario and seed always give the same one. The validators run
the very step that nodes run; only signatures are ideal, unless real ones are asked for, and blocks are empty shells
around made-up transactions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BlockIndex, Epoch, View
from koinon.ledger.giskard.certificates import rank
from koinon.ledger.giskard.epochs import message_epoch
from koinon.ledger.giskard.liar import Liar
from koinon.ledger.giskard.roster import EpochPlan, plan_epochs
from koinon.ledger.giskard.rules import Rules
from koinon.ledger.giskard.shells import FIRST_EPOCH, make_header
from koinon.ledger.giskard.simulated import Honest
from koinon.ledger.giskard.state import BlockFetched, Fetch, PendingChanged, State, Voting
from koinon.ledger.types import Block, FinalityProof, Header, PrepareVote, QuorumCertificate, header_hash, is_closing
from koinon.sim.network import GOOD_NETWORK, Faults, Network
from koinon.sim.world import World

LAST_HOPE: Final = 120.0
"""Seconds after the network became good at which one that finalised nothing since counts as dead."""
SILENCE: Final = 60.0
"""Seconds after the last transaction at which no timer may run any more."""
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
        nodes: n, in every epoch.
        byzantine: how many of them lie, in every epoch.
        blocks_per_view: N; None draws 2, 3 or 4.
        calm_at: second at which the network becomes good and crashes end (the global stabilisation time).
        quiet_at: second at which no more transactions come.
        crashes: how many crashes honest validators suffer before ``calm_at``.
        partitions: how often the network is cut in two before that.
        building: most seconds that a proposer takes to make a block.
        epochs: how many there are; the last never ends, the others after 3 to 8 heights.
        spare: honest nodes that are in no set at first and may be drawn for later ones.
        rules: replaced to plant a bug.
        faults: of the network before ``calm_at``; None draws one of ``NETWORKS``.
        real_signatures: BLS instead of the ideal scheme; a hundred times slower.
        write_ahead: False plants another: what was signed is not made durable before it is sent.
    """

    nodes: int = 4
    byzantine: int = 1
    blocks_per_view: int | None = None
    calm_at: float = 3.0
    quiet_at: float = 3.5
    crashes: int = 3
    partitions: int = 1
    building: float = 0.15
    epochs: int = 1
    spare: int = 0
    faults: Faults | None = None
    base_timeout: float = 0.4
    voting: Voting = Voting.BROADCAST
    rules: Rules = field(default_factory=Rules)
    write_ahead: bool = True
    real_signatures: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a run showed.

    Attributes:
        violations: sentences, one for each property that did not hold; with the label of the property.
        final_height: of the honest validator that got furthest.
        final_at_calm: the same when the network became good.
        live: whether every honest validator finalised new blocks after that, and then fell silent.
        epoch: that every honest node reached.
        steps: how many events were worked off.
    """

    seed: int
    violations: tuple[str, ...]
    final_height: int
    final_at_calm: int
    live: bool
    epoch: int = 0
    steps: int = 0


def run(scenario: Scenario, seed: int) -> Verdict:
    """Simulate once."""
    return Simulation(scenario, seed).run()


class Simulation:
    """One run. Public so that a test can steer a world by hand."""

    def __init__(self, scenario: Scenario, seed: int, make_network: Callable[[World], Network] | None = None) -> None:
        self.scenario = scenario
        self.world = World(seed)
        draw = self.world.random
        faults = scenario.faults or draw.choice(NETWORKS)
        self.network = Network(self.world, faults) if make_network is None else make_network(self.world)
        self.liar_nodes = frozenset(range(scenario.nodes - scenario.byzantine, scenario.nodes))
        lengths = [draw.randint(3, 8) for _ in range(scenario.epochs - 1)]
        self.plans = plan_epochs(
            draw,
            seed,
            scenario.nodes,
            self.liar_nodes,
            lengths,
            scenario.spare,
            real_signatures=scenario.real_signatures,
        )
        self.blocks_per_view = scenario.blocks_per_view or draw.randint(2, 4)
        self.genesis = make_header(self.plans[0].validators, None, View(0), BlockIndex(self.blocks_per_view - 1), b"")
        self.roots: dict[Epoch, Header] = {FIRST_EPOCH: self.genesis}
        self.ends: dict[Epoch, FinalityProof] = {}
        self.violations: list[str] = []
        self.final: dict[int, tuple[Hash32, int]] = {}
        self.history: dict[int, tuple[Block, QuorumCertificate]] = {}
        self.voted: dict[tuple[int, Epoch, View, str, int], Hash32] = {}
        self.pending = True
        self.steps = 0
        everybody = range(scenario.nodes + scenario.spare)
        self.honest = [Honest(self, node) for node in everybody if node not in self.liar_nodes]
        self.liars: dict[tuple[int, Epoch], Liar] = {}
        self.lying = False

    def plan_after(self, final: Header) -> EpochPlan:
        """The epoch that the child of a final block belongs to."""
        plan = self.plans[final.epoch]
        return plan if plan.last_height is None or final.height < plan.last_height else self.plans[final.epoch + 1]

    def listen(self, *, lying: bool) -> None:
        """Let the liars hear the others; with ``lying`` they also act of their own accord."""
        self.lying = lying
        for node in sorted(self.liar_nodes):
            self.network.attach(node, self._ear(node))
            self.liar(node, FIRST_EPOCH)

    def liar(self, node: int, epoch: Epoch) -> Liar:
        """A lying node in an epoch that has begun."""
        known = self.liars.get((node, epoch))
        if known is None:
            known = Liar(
                node,
                self.liar_nodes,
                self.plans[epoch],
                self.roots[epoch],
                self.network,
                self.world,
                self.blocks_per_view,
            )
            self.liars[node, epoch] = known
            if self.lying:
                known.start()
        return known

    def _ear(self, node: int) -> Callable[[int, Any], None]:
        def hear(_sender: int, message: Any) -> None:
            epoch = None if isinstance(message, BlockFetched | Fetch) else message_epoch(message)
            if epoch in self.roots:
                self.liar(node, epoch).hear(message)

        return hear

    def run(self) -> Verdict:
        scenario, world = self.scenario, self.world
        for validator in self.honest:
            validator.start()
        self.listen(lying=True)
        for _ in range(scenario.crashes):
            victim = world.random.choice(self.honest)
            world.after(world.random.uniform(0.1, scenario.calm_at), victim.crash)
        for _ in range(scenario.partitions):
            world.after(world.random.uniform(0.0, scenario.calm_at), self._cut)
        world.run(scenario.calm_at)
        self.network.faults = GOOD_NETWORK
        self.network.heal()
        at_calm = max((validator.height for validator in self.honest), default=0)
        world.run(scenario.quiet_at)
        # Patience has grown while nothing could be finalised; give it the time that it takes to run out.
        hope = scenario.calm_at + LAST_HOPE
        while not self._all_above(at_calm + 3) and world.monotonic() < hope:
            world.run(world.monotonic() + 0.5)
        recovered = self._all_above(at_calm + 3)
        self.pending = False
        for validator in self.honest:
            validator.take(PendingChanged(False, validator.now))
        for liar in self.liars.values():
            liar.silent = True
        self.lying = False
        world.run(world.monotonic() + SILENCE)
        quiet = all(validator.timer is None for validator in self.honest)
        return self.verdict(at_calm, live=recovered and quiet)

    def verdict(self, at_calm: int, *, live: bool) -> Verdict:
        """What has been seen so far."""
        return Verdict(
            seed=self.world.seed,
            violations=tuple(self.violations),
            final_height=max(validator.height for validator in self.honest),
            final_at_calm=at_calm,
            live=live,
            epoch=min(validator.plan.epoch for validator in self.honest),
            steps=self.steps,
        )

    def _all_above(self, height: int) -> bool:
        """Whether every honest node is above a height and in the last epoch."""
        last = self.plans[-1].epoch
        return all(validator.height > height and validator.plan.epoch == last for validator in self.honest)

    def _cut(self) -> None:
        """Cut the network in two for a while, unless it is calm already."""
        draw = self.world.random
        nodes = list(range(self.scenario.nodes + self.scenario.spare))
        draw.shuffle(nodes)
        place = draw.randint(1, len(nodes) - 1)
        if self.world.monotonic() < self.scenario.calm_at:
            self.network.partition(nodes[:place], nodes[place:])
            self.world.after(draw.uniform(0.2, 3.0), self.network.heal)

    def check_final(self, node: int, block: Block) -> None:
        """GISKARD-SAFETY-3: no two honest validators finalise different blocks at one height.

        GISKARD-SAFETY-8: and none above the end of its epoch.
        """
        name, height = header_hash(block.header), block.header.height
        first, who = self.final.setdefault(height, (name, node))
        if first != name:
            self.violations.append(
                f"GISKARD-SAFETY-3: validators {who} and {node} finalised different blocks at height {height}"
            )
        last = self.plans[block.header.epoch].last_height
        if last is not None and height > last:
            self.violations.append(f"GISKARD-SAFETY-8: validator {node} finalised the closing block {height}")

    def check_vote(self, node: int, vote: PrepareVote, state: State) -> None:
        """GISKARD-SAFETY-1: an honest validator never votes twice in a place, whatever crashes it survived.

        GISKARD-SAFETY-5: nor for a first block that does not extend the highest block its view change reports.
        GISKARD-SAFETY-8: nor for a closing block that holds something, or for a block with the wrong mark.
        """
        tracked = state.blocks.get(vote.block)
        last = self.plans[vote.epoch].last_height
        if tracked is not None and tracked.block.transactions and last is not None and vote.height > last:
            self.violations.append(
                f"GISKARD-SAFETY-8: validator {node} voted for the closing block {vote.height} with transactions"
            )
        if tracked is not None and is_closing(tracked.header) != (last is not None and vote.height > last):
            self.violations.append(
                f"GISKARD-SAFETY-8: validator {node} voted for block {vote.height}, whose header is wrong about the end"
            )
        proposal = state.proposals.get((vote.view, vote.index))
        if proposal is not None and proposal.view_change and vote.block == header_hash(proposal.block.header):
            reported = max(proposal.view_change.groups, key=rank)
            if proposal.block.header.parent != reported.block:
                self.violations.append(
                    f"GISKARD-SAFETY-5: validator {node} voted for a first block of view {vote.view} "
                    "that does not extend the highest block reported"
                )
        for kind, place in (("index", vote.index), ("height", vote.height)):
            earlier = self.voted.setdefault((node, vote.epoch, vote.view, kind, place), vote.block)
            if earlier != vote.block:
                self.violations.append(
                    f"GISKARD-SAFETY-1: validator {node} voted for two blocks of view {vote.view} at {kind} {place}"
                )
