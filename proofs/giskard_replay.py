"""Paths of the models played to validators that run the very step that nodes run.

A model is worth as much as its likeness. ``Bench`` makes of each act the messages that bring a real validator to it:
the block with its parent's certificate and view change, or the way into a view and the timer; and says what the
validator signed. With it a fork that the search found is shown to fork the code (with the weakened ``Rules`` plugged
in), and what the model lets honest validators do is compared with what they do.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from giskard_asynchronous import Report, Vote, moves, start
from giskard_asynchronous import State as Standing
from giskard_story import Act, Certified, GaveUp, Reports, ViewChangeShown
from giskard_world import GENESIS, Local, World

from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import Epoch, Seconds, View
from koinon.ledger.giskard.certificates import (
    certify,
    certify_view_change,
    genesis_certificate,
    proposal_message,
    view_change_message,
    vote_message,
)
from koinon.ledger.giskard.ideal import IdealScheme
from koinon.ledger.giskard.protocol import step
from koinon.ledger.giskard.rules import Rules
from koinon.ledger.giskard.shells import CHAIN_ID
from koinon.ledger.giskard.start import initial_state
from koinon.ledger.giskard.state import (
    BlockFetched,
    Broadcast,
    Configuration,
    Effect,
    Event,
    Execute,
    Executed,
    Finalise,
    PendingChanged,
    Propose,
    Received,
    State,
    TimerFired,
)
from koinon.ledger.types import (
    Block,
    PrepareBlock,
    PrepareVote,
    QuorumCertificate,
    ViewChange,
    ViewChangeCertificate,
    ViewEntry,
    ViewSync,
    header_hash,
)


@dataclass
class Bench:
    """The honest validators of a world, at positions from 0; the bench holds everybody's keys and lies for the rest.

    Args:
        rules: others than the world's, to see that it is noticed.
    """

    world: World
    rules: Rules | None = None
    scheme: IdealScheme = field(default_factory=lambda: IdealScheme(b"replay"))
    states: list[State] = field(default_factory=list)
    proposing: dict[int, Propose] = field(default_factory=dict)
    final: dict[Hash32, tuple[Block, QuorumCertificate]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for position in range(self.world.bounds.honest):
            state, _ = self._feed(self.fresh(position), PendingChanged(True, 0.0))
            self.states.append(state)

    def fresh(self, position: int | None) -> State:
        """A validator, or an observer, that has seen nothing."""
        configuration = Configuration(
            chain_id=CHAIN_ID,
            epoch=Epoch(0),
            validators=self.world.validators,
            position=position,
            blocks_per_view=self.world.bounds.blocks_per_view,
            base_timeout=Seconds(1.0),
            verifier=self.scheme,
            signer=None if position is None else self.scheme.signer(position),
            rules=self.rules or self.world.rules,
        )
        return initial_state(configuration, self.world.headers[GENESIS])

    def play(self, acts: Iterable[Act]) -> None:
        """Bring the validators to every act. Raises AssertionError where one does something else."""
        for act in acts:
            match act:
                case Certified(block, voters, justification):
                    for who in voters:
                        assert self.vote(who, block, justification), f"H{who} does not vote for block {block}"
                case GaveUp(view, who, shown, entrance, reported):
                    said = self.give_up(who, view, shown, entrance)
                    assert said == reported, f"H{who} reports {said} out of view {view}, not {reported}"

    def vote(self, who: int, block: int, justification: ViewChangeShown | None) -> bool:
        """Show a validator a block with all that speaks for it; whether it votes for it."""
        left = None if justification is None else self.view_change(justification)
        message = self.proposal(block, self.certificate(self.world.parents[block]), left)
        state, effects = self._feed(self.states[who], Received(self.world.headers[block].proposer, message, 0.0))
        for ancestor in list(self.world.line(block))[1:-1]:
            state, more = self._feed(state, BlockFetched(self.body(ancestor), self._signed(ancestor), None, 0.0))
            effects += more
        self.states[who] = state
        name = header_hash(self.world.headers[block])
        return any(
            isinstance(effect, Broadcast) and isinstance(effect.message, PrepareVote) and effect.message.block == name
            for effect in effects
        )

    def give_up(self, who: int, view: int, shown: int | None, entrance: ViewChangeShown | None) -> int | None:
        """Show a validator into a view and let its timer fire; the block it reports, None if it reports nothing."""
        state = self.states[who]
        if shown is not None:
            entry = (
                ViewEntry(self.certificate(shown), None)
                if entrance is None
                else ViewEntry(None, self.view_change(entrance))
            )
            state, _ = self._feed(state, Received((who + 1) % self.world.bounds.nodes, ViewSync(entry), 0.0))
        assert state.deadline is not None, "work waits, so a timer runs"
        self.states[who], effects = self._feed(state, TimerFired(state.deadline))
        names = {header_hash(header): number for number, header in enumerate(self.world.headers)}
        for effect in effects:
            if isinstance(effect, Broadcast) and isinstance(effect.message, ViewChange) and effect.message.view == view:
                return names[effect.message.highest.block]
        return None

    def final_with(self, tip: int) -> set[int]:
        """What an observer holds as final that is shown the certified chain up to ``tip``."""
        state, heights = self.fresh(None), set()
        names = {header_hash(header): number for number, header in enumerate(self.world.headers)}
        for block in list(self.world.line(tip))[-2::-1]:
            state, effects = self._feed(state, BlockFetched(self.body(block), None, self.certificate(block), 0.0))
            heights |= {
                names[header_hash(done.header)]
                for effect in effects
                if isinstance(effect, Finalise)
                for done in effect.blocks
            }
        return heights

    def remember(self, finalised: Finalise) -> None:
        """Keep final blocks for those that have not got them yet."""
        pairs = zip(finalised.blocks, finalised.certificates, strict=True)
        self.final |= {header_hash(block.header): (block, certificate) for block, certificate in pairs}

    # What is signed

    def body(self, block: int) -> Block:
        return Block(self.world.headers[block], (b"transaction",))

    def proposal(
        self, block: int, certificate: QuorumCertificate | None, left: ViewChangeCertificate | None
    ) -> PrepareBlock:
        return PrepareBlock(self.body(block), certificate, left, self._signed(block))

    def _signed(self, block: int) -> bytes:
        header = self.world.headers[block]
        return self.scheme.tag(header.proposer, proposal_message(CHAIN_ID, header))

    def certificate(self, block: int) -> QuorumCertificate:
        """Votes of the first quorum; of genesis, the one everybody grants."""
        bounds, header = self.world.bounds, self.world.headers[block]
        if block == GENESIS:
            return genesis_certificate(header, bounds.nodes, bounds.blocks_per_view)
        name = header_hash(header)
        place = (header.epoch, header.view, header.index, header.height, name)
        statement = vote_message(CHAIN_ID, *place)
        votes = {
            voter: PrepareVote(*place, voter, self.scheme.tag(voter, statement))
            for voter in range(bounds.nodes - bounds.faults)
        }
        return certify(votes, self.scheme, bounds.nodes)

    def view_change(self, shown: ViewChangeShown) -> ViewChangeCertificate:
        """The certificate with these honest reports and all liars'."""
        bounds = self.world.bounds
        liars = ((liar, shown.liars) for liar in range(bounds.honest, bounds.nodes))
        changes = {}
        for sender, reported in (*shown.honest, *liars):
            highest = self.certificate(reported)
            statement = view_change_message(CHAIN_ID, Epoch(0), View(shown.left), highest)
            signature = self.scheme.tag(sender, statement)
            entry = ViewEntry(self.certificate(GENESIS), None)
            changes[sender] = ViewChange(Epoch(0), View(shown.left), sender, highest, entry, signature)
        return certify_view_change(changes, self.scheme, bounds.nodes)

    def _feed(self, state: State, *events: Event) -> tuple[State, list[Effect]]:
        """Take in events, and say yes to every execution; what is to be proposed is not built."""
        position = state.configuration.position
        effects: list[Effect] = []
        waiting: list[Event] = list(events)
        while waiting:
            state, more = step(state, waiting.pop(0))
            effects.extend(more)
            for effect in more:
                if position is not None and isinstance(effect, Propose):
                    self.proposing[position] = effect
                if isinstance(effect, Finalise):
                    self.remember(effect)
            waiting.extend(
                Executed(header_hash(effect.block.header), True, 0.0) for effect in more if isinstance(effect, Execute)
            )
        return state, effects


@dataclass
class Players:
    """Validators of the plain model beside real ones, told apart although the model sorts them."""

    world: World
    bench: Bench
    signed: int = 0

    def __post_init__(self) -> None:
        self.state = start(self.world)
        self.names = list(range(self.world.bounds.honest))
        self.reports = Reports(self.world)

    def play(self, move: Vote | Report, after: Standing) -> None:
        """Let a real validator do what one of the model does; it must."""
        name = self.names[move.who]
        match move:
            case Vote(_, block):
                assert self.bench.vote(name, block, self.reports.justifying(block))
            case Report(_, view, shown):
                entrance = None if shown is None else self.reports.leading_to(view, shown)
                reported = self.bench.give_up(name, view, shown, entrance)
                changed = self.changed(move.who, after)
                assert reported == changed.highest
                self.reports.add(view, name, changed.highest)
        self.signed += 1
        self.follow(move.who, after)

    def changed(self, who: int, after: Standing) -> Local:
        others = [*self.state.honest[:who], *self.state.honest[who + 1 :]]
        (local,) = (Counter(after.honest) - Counter(others)).elements()
        return local

    def follow(self, who: int, after: Standing) -> None:
        moved = list(self.state.honest)
        moved[who] = self.changed(who, after)
        order = sorted(range(len(moved)), key=lambda place: moved[place])
        self.names = [self.names[place] for place in order]
        self.state = after

    def tempt(self, who: int, block: int) -> None:
        """Show a real validator a block that the model's does not vote for; it must not either."""
        name = self.names[who]
        before = self.bench.states[name]
        assert not self.bench.vote(name, block, self.reports.justifying(block))
        self.bench.states[name] = before

    def refusals(self) -> list[tuple[int, int]]:
        """Validators and blocks that they must not vote for: the slot is gone, or the place is not justified."""
        blocks = {move.block for move, _ in moves(self.world, self.state) if isinstance(move, Vote)}
        blocks |= {block for local in self.state.honest for block in local.voted}
        refused = [
            (who, block)
            for who, local in enumerate(self.state.honest)
            for block in sorted(blocks)
            if block not in local.voted and self.world.vote(local, block) is None
        ]
        return refused + [(who, block) for who in range(len(self.names)) for block in self.unjustified()]

    def unjustified(self) -> list[int]:
        """First blocks on a lower parent than the view change before them shows."""
        world, certified = self.world, self.state.certified
        found = []
        for left, reports in self.state.reports:
            reportable = world.reportable(certified, reports)
            if reportable and left < world.bounds.views:
                fitting = {parent for parent, _ in world.places(left + 1, certified, reportable)}
                found += [world.child(parent, left + 1, 0, 0) for parent in certified if parent not in fitting]
        return found


def forks(world: World, acts: Sequence[Act], lines: Sequence[Sequence[int]]) -> bool:
    """Play a fork's acts to real validators; whether observers of its two chains then hold conflicting final blocks."""
    bench = Bench(world)
    bench.play(acts)
    first, second = (bench.final_with(line[-1]) for line in lines)
    return any(
        not world.is_ancestor(one, other) and not world.is_ancestor(other, one) for one in first for other in second
    )
