"""One step in progress: a private copy of the state, the effects so far, and the small operations on them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from koinon.kernel.errors import Forged
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BlockIndex, Height, View
from koinon.ledger.giskard.certificates import check_certificate, rank
from koinon.ledger.giskard.evidence import Evidence
from koinon.ledger.giskard.state import (
    Broadcast,
    Configuration,
    Distrust,
    Effect,
    Execution,
    Fetch,
    Halt,
    Persist,
    Report,
    SafetyRecord,
    Send,
    State,
    Tracked,
)
from koinon.ledger.types import Block, Header, QuorumCertificate, ViewEntry, ViewSync, header_hash
from koinon.wire.consensus import ConsensusMessage

VIEWS_AHEAD: Final = 4
"""Messages of views further ahead than this are answered with where we stand, and dropped."""
VIEWS_BEHIND: Final = 4
"""Votes and uncertified blocks of views further behind than this are forgotten."""
TIMEOUT_GROWTH: Final = 1.5
LARGEST_TIMEOUT_EXPONENT: Final = 20
ABSENT_SHARE: Final = 0.25


@dataclass
class Turn:
    """The copy that a step works on. ``state`` is private to the step until it returns.

    Attributes:
        timer: what the timer was set to when the step began.
    """

    state: State
    now: float
    timer: float | None
    effects: list[Effect] = field(default_factory=list)
    unsaved: bool = False
    progress: bool = False

    @property
    def configuration(self) -> Configuration:
        return self.state.configuration

    def emit(self, effect: Effect) -> None:
        self.effects.append(effect)

    def broadcast(self, message: ConsensusMessage) -> None:
        """Send to all; whatever the signature commits this validator to is persisted first."""
        self.emit(Broadcast(message))
        self.unsaved = True

    def send(self, to: int, message: ConsensusMessage) -> None:
        self.emit(Send(to, message))

    def sign(self, statement: bytes) -> bytes:
        signer = self.configuration.signer
        assert signer is not None, "an observer signs nothing"
        return signer.sign(statement)

    def report(self, offender: int, evidence: Evidence) -> None:
        """Tell the driver of a contradiction, unless it knows of one of this validator."""
        if offender not in self.state.reported:
            self.state.reported |= {offender}
            self.emit(Report(offender, evidence))

    def halt(self, reason: str) -> None:
        self.state.halted = True
        self.emit(Halt(reason))

    def distrust(self, sender: int, reason: str, *, proven: bool = False) -> None:
        self.emit(Distrust(sender, reason, proven))

    def finish(self) -> tuple[State, tuple[Effect, ...]]:
        """GISKARD-SAFETY-7: one ``Persist`` stands before every effect of a step that signed anything."""
        effects = self.effects
        if self.unsaved:
            effects = [Persist(safety_record(self.state), tuple(own_blocks(self.state))), *effects]
        return self.state, tuple(effects)


def safety_record(state: State) -> SafetyRecord:
    """What a validator must find again after a crash."""
    return SafetyRecord(
        epoch=state.configuration.epoch,
        view=state.view,
        timed_out=state.timed_out,
        voted=state.voted,
        accepted=state.accepted[1] if state.accepted else None,
        proposed_index=state.proposed_index,
        proposed=state.proposed,
        highest=state.highest,
        entry=state.entry,
        certificates=tuple(certificate for block, certificate in state.certificates.items() if block in state.blocks),
    )


def own_blocks(state: State) -> Iterator[Tracked]:
    """The last block voted for and the last one proposed; earlier ones were persisted with their own signatures."""
    for block in {state.accepted[1] if state.accepted else None, state.proposed}:
        if block is not None and block in state.blocks:
            yield state.blocks[block]


def ancestors(state: State, block: Hash32) -> Iterator[Tracked]:
    """The block and its tracked ancestors, youngest first, down to but without the last final block."""
    tracked = state.blocks.get(block)
    while tracked is not None:
        yield tracked
        tracked = state.blocks.get(tracked.header.parent)


def is_certified(state: State, block: Hash32) -> bool:
    return block in state.certificates


def timeout(state: State) -> float:
    """Seconds of this view's patience: half as much again for every view lost since the last final block.

    A quarter of that for a proposer whose last turn brought nothing, so that one dead validator costs little;
    since patience still grows without bound, a slow network loses nothing but time by it.
    """
    exponent = min(state.failures, LARGEST_TIMEOUT_EXPONENT)
    patience = float(state.configuration.base_timeout * TIMEOUT_GROWTH**exponent)
    absent = state.configuration.validators.proposer(state.view) in state.absent
    return patience * ABSENT_SHARE if absent else patience


def set_execution(state: State, block: Hash32, execution: Execution) -> None:
    state.blocks[block] = replace(state.blocks[block], execution=execution)
    state.settled = False


def track(turn: Turn, block: Block, signature: bytes | None, parent_certificate: QuorumCertificate | None) -> None:
    """Enter a block whose origin is proven, by its proposer's signature or its certificate."""
    state = turn.state
    name = header_hash(block.header)
    if name not in state.blocks and block.header.height > state.final_header.height:
        state.blocks[name] = Tracked(block, signature, parent_certificate, justified=False)
        state.settled = False


def is_within_reach(state: State, height: Height) -> bool:
    """Whether an honest proposer could be at this height; what lies above is fetched once it is certified."""
    configuration = state.configuration
    return height <= state.highest.height + 2 * configuration.blocks_per_view + configuration.pipeline


def fetch(turn: Turn, block: Hash32, height: Height) -> None:
    """Ask for a block once per step."""
    wanted = Fetch(block, height)
    if height > turn.state.final_header.height and wanted not in turn.effects:
        turn.emit(wanted)


def verify_certificate(turn: Turn, certificate: QuorumCertificate) -> None:
    """Check a certificate unless one for the same place and block is held already. Raises Forged, MalformedMessage."""
    state, configuration = turn.state, turn.configuration
    known = state.certificates.get(certificate.block)
    if certificate == state.root or (known is not None and places(known) == places(certificate)):
        return
    if certificate.epoch != configuration.epoch:
        raise Forged(f"the certificate of block {certificate.height} is not of this epoch")
    if certificate.index >= configuration.blocks_per_view:
        raise Forged(f"the certificate of block {certificate.height} is for a place that no view has")
    check_certificate(
        certificate,
        configuration.chain_id,
        len(configuration.validators),
        configuration.validators.quorum,
        configuration.verifier,
    )
    header = state.header_of(certificate.block)
    if header is not None and (header.view, header.index, header.height) != places(certificate):
        raise Forged(f"the certificate of block {certificate.height} names another place than the block's header")


def places(certificate: QuorumCertificate) -> tuple[View, BlockIndex, Height]:
    return certificate.view, certificate.index, certificate.height


def add_certificate(turn: Turn, certificate: QuorumCertificate) -> None:
    """Take in a checked certificate: the highest may rise and the view may change."""
    state = turn.state
    if certificate.block in state.certificates or certificate.height <= state.final_header.height:
        return
    state.certificates[certificate.block] = certificate
    state.settled = False
    tracked = state.blocks.get(certificate.block)
    if tracked is not None and tracked.execution is Execution.INVALID:
        turn.halt(f"a quorum certified block {certificate.height}, which does not execute here as its header claims")
    state.absent -= {turn.configuration.validators.proposer(certificate.view)}
    if rank(certificate) > rank(state.highest):
        state.highest = certificate
        turn.progress = True
    last = certificate.index == turn.configuration.blocks_per_view - 1
    reached = View(certificate.view + 1) if last else certificate.view
    if reached > state.view:
        enter_view(turn, reached, ViewEntry(certificate, None))


def enter_view(turn: Turn, view: View, entry: ViewEntry) -> None:
    """Begin a view: votes, proposals and the timer start afresh; what only mattered to views long left is dropped."""
    state = turn.state
    if entry.view_change is not None:
        state.failures += 1
        left = entry.view_change.view
        if not any(certificate.view == left for certificate in state.certificates.values()):
            state.absent |= {turn.configuration.validators.proposer(left)}
    state.view = view
    state.entry = entry
    state.timed_out = False
    state.voted = ()
    state.accepted = None
    state.proposed_index, state.proposed, state.proposing = -1, None, False
    state.settled = False
    turn.progress = True
    oldest = view - VIEWS_BEHIND
    state.votes = {key: vote for key, vote in state.votes.items() if key[0] >= oldest}
    _forget_abandoned(state, oldest)
    state.view_changes = {key: change for key, change in state.view_changes.items() if key[0] >= view}
    state.proposals = {key: proposal for key, proposal in state.proposals.items() if key[0] >= view - 1}


def _forget_abandoned(state: State, oldest: int) -> None:
    """Drop blocks of views long left that no certificate speaks for; should one appear they are fetched again."""
    if all(tracked.header.view >= oldest for tracked in state.blocks.values()):
        return
    kept: set[Hash32] = set()
    for block in state.certificates:
        for tracked in ancestors(state, block):
            if tracked.hash in kept:
                break
            kept.add(tracked.hash)
    state.blocks = {
        name: tracked for name, tracked in state.blocks.items() if tracked.header.view >= oldest or name in kept
    }


def answer_laggard(turn: Turn, sender: int, view: View) -> None:
    """Show a validator that speaks of a view we have left how to enter ours."""
    if view < turn.state.view:
        turn.emit(Send(sender, ViewSync(turn.state.entry)))


def header_line(state: State, block: Hash32) -> Iterator[Header]:
    """Headers of the block and its ancestors, youngest first, ending with the last final block if they reach it."""
    youngest = None
    for tracked in ancestors(state, block):
        youngest = tracked.header
        yield youngest
    if (youngest is not None and youngest.parent == state.final_hash) or block == state.final_hash:
        yield state.final_header
