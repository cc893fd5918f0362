"""Giskard's step: one event in, the next state and the effects out.

Source: Li et al., "Giskard" (arXiv 2010.02124) and PlatON's consensus document, with the deviations that ``rules``
gives reasons for. A view streams up to N blocks; each is voted on as soon as its parent is certified; three linked
certificates make a block final; the certificate of a view's last block, or else a quorum of view changes, starts the
next view. Blocks are made on demand: where nothing waits to become final no timer runs and nothing is sent.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Final

from msgspec.structs import replace as replace_field

from koinon.kernel.errors import Forged, MalformedMessage
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import View
from koinon.ledger.giskard.certificates import (
    proposal_message,
    rank,
    view_change_message,
)
from koinon.ledger.giskard.epochs import message_epoch
from koinon.ledger.giskard.evidence import two_blocks
from koinon.ledger.giskard.progress import advance, give_up_view
from koinon.ledger.giskard.rules import LINKED_CERTIFICATES
from koinon.ledger.giskard.state import (
    BlockFetched,
    Configuration,
    Effect,
    Event,
    Executed,
    Execution,
    PendingChanged,
    Proposed,
    Received,
    Send,
    State,
    TimerFired,
    Tracked,
)
from koinon.ledger.giskard.turn import (
    VIEWS_AHEAD,
    VIEWS_BEHIND,
    Turn,
    add_certificate,
    answer_laggard,
    enter_view,
    is_within_reach,
    places,
    set_execution,
    track,
    verify_certificate,
)
from koinon.ledger.giskard.votes import count_votes, is_signed, look_for_contradiction, look_for_hidden_parent
from koinon.ledger.types import (
    Block,
    Certified,
    EpochSync,
    FinalityProof,
    PrepareBlock,
    PrepareVote,
    QuorumCertificate,
    ViewChange,
    ViewEntry,
    ViewSync,
    header_hash,
)

_NO_ENTRY: Final = ViewEntry(None, None)


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """Advance one validator by one event. Never raises for anything a peer sent."""
    if not state.is_active:
        return state, _answer_after_the_end(state, event)
    turn = Turn(state.copy(), event.now, state.deadline)
    match event:
        case Received():
            _receive(turn, event)
        case BlockFetched():
            _take_fetched(turn, event)
        case Executed():
            _take_execution(turn, event)
        case Proposed():
            _take_proposal(turn, event)
        case PendingChanged():
            turn.state.pending = event.pending
        case TimerFired():
            deadline = turn.state.deadline
            if deadline is not None and event.now >= deadline:
                give_up_view(turn)
    advance(turn)
    return turn.finish()


def _answer_after_the_end(state: State, event: Event) -> tuple[Effect, ...]:
    """GISKARD-LIVENESS-4: whoever still tries to leave a view of an ended epoch is shown that it is over."""
    if state.ended is None or not isinstance(event, Received) or not isinstance(event.message, ViewChange):
        return ()
    if event.message.epoch != state.configuration.epoch:
        return ()
    return (Send(event.sender, EpochSync(state.ended)),)


def _receive(turn: Turn, event: Received) -> None:
    epoch = message_epoch(event.message)
    if epoch is not None and epoch != turn.configuration.epoch:
        return
    try:
        match event.message:
            case PrepareBlock():
                _on_block(turn, event.sender, event.message)
            case PrepareVote():
                _on_vote(turn, event.sender, event.message)
            case ViewChange():
                _on_view_change(turn, event.sender, event.message)
            case ViewSync():
                _on_entry(turn, event.message.entry)
            case EpochSync():
                _on_end(turn, event.message.proof)
            case Certified():
                _on_certificate(turn, event.message.certificate)
    except (Forged, MalformedMessage) as problem:
        turn.distrust(event.sender, str(problem), proven=True)


def _on_block(turn: Turn, sender: int, message: PrepareBlock) -> None:
    state, configuration = turn.state, turn.configuration
    header = message.block.header
    name = header_hash(header)
    if header.height <= state.final_header.height or name in state.blocks:
        return
    _check_place(configuration, message.block)
    statement = proposal_message(configuration.chain_id, header)
    if not configuration.verifier.verify(header.proposer, statement, message.signature):
        raise Forged(f"block {header.height} of view {header.view} is not signed by its proposer")
    if message.parent_certificate is not None:
        verify_certificate(turn, message.parent_certificate)
        if message.parent_certificate.block != header.parent:
            raise Forged(f"block {header.height} carries the certificate of a block that is not its parent")
    justified = _check_justification(turn, message)
    if message.parent_certificate is not None:
        add_certificate(turn, message.parent_certificate)
    if justified and header.view > state.view:
        certificate = message.parent_certificate if message.view_change is None else None
        enter_view(turn, header.view, ViewEntry(certificate, message.view_change))
    if header.view < state.view - 1:
        answer_laggard(turn, sender, header.view)
        return
    if not is_within_reach(state, header.height):
        return
    if header.view > state.view + VIEWS_AHEAD:
        turn.distrust(sender, f"block of view {header.view}, far ahead of {state.view}, without what leads there")
        return
    first = state.proposals.setdefault((header.view, header.index), message)
    if first.block.header != header:
        turn.report(header.proposer, two_blocks(first.block.header, first.signature, header, message.signature))
        if name not in state.certificates and not configuration.rules.considers(first.block.header, header):
            return
    track(turn, message.block, message.signature, message.parent_certificate)
    if name in state.blocks:
        state.blocks[name] = replace(state.blocks[name], justified=justified)
        state.settled = False


def _check_place(configuration: Configuration, block: Block) -> None:
    """Whether the block's place exists, belongs to its proposer, and allows what it holds and says. Raises Forged."""
    header = block.header
    if header.chain_id != configuration.chain_id:
        raise Forged(f"block {header.height} is of another chain")
    if header.validators != configuration.validators.hash:
        raise Forged(f"block {header.height} names another validator set")
    if header.index >= configuration.blocks_per_view:
        raise Forged(f"block {header.height} has index {header.index}; a view has {configuration.blocks_per_view}")
    if header.proposer != configuration.validators.proposer(header.view):
        raise Forged(f"validator {header.proposer} is not the proposer of view {header.view}")
    if not configuration.rules.may_hold(block.transactions, header.height, configuration.last_height):
        raise Forged(f"block {header.height} holds transactions, but its epoch ends at {configuration.last_height}")
    if not configuration.rules.is_marked(header, configuration.last_height):
        raise Forged(f"the header of block {header.height} is wrong about whether the block closes its epoch")


def _check_justification(turn: Turn, message: PrepareBlock) -> bool:
    """Whether the first block of a view extends what its view must extend. Raises Forged, MalformedMessage.

    False for later blocks of a view, which need none.
    """
    configuration = turn.configuration
    header, parent, left = message.block.header, message.parent_certificate, message.view_change
    if header.index != 0:
        return False
    if parent is None:
        raise Forged(f"the first block of view {header.view} comes without the certificate of its parent")
    if left is None:
        if parent.view != header.view - 1 or parent.index != configuration.blocks_per_view - 1:
            raise Forged(f"the first block of view {header.view} does not extend the last block of the view before")
        return True
    if left.view != header.view - 1 or left.epoch != configuration.epoch:
        raise Forged(f"the first block of view {header.view} carries the view change of view {left.view}")
    configuration.rules.check_view_change(
        left,
        configuration.chain_id,
        len(configuration.validators),
        configuration.validators.quorum,
        configuration.verifier,
    )
    if not configuration.rules.extends_highest(left, header):
        raise Forged(f"the first block of view {header.view} does not extend the highest block that was reported")
    return True


def _on_vote(turn: Turn, sender: int, vote: PrepareVote) -> None:
    state, configuration = turn.state, turn.configuration
    if vote.voter != sender:
        raise Forged(f"a vote of validator {vote.voter} came from validator {sender}")
    if vote.index >= configuration.blocks_per_view:
        raise Forged(f"the vote of validator {sender} is for a place that does not exist")
    if vote.height <= state.final_header.height or vote.block in state.certificates:
        return
    if not state.view - VIEWS_BEHIND <= vote.view <= state.view + VIEWS_AHEAD:
        return
    if vote.view < state.view:
        answer_laggard(turn, sender, vote.view)
    if sender in state.forgers and not is_signed(configuration, vote):
        return
    look_for_contradiction(turn, vote)
    if (vote.view, vote.index, sender) not in state.votes:
        state.votes[vote.view, vote.index, sender] = vote
        count_votes(turn, vote)


def _on_view_change(turn: Turn, sender: int, change: ViewChange) -> None:
    state, configuration = turn.state, turn.configuration
    if change.sender != sender:
        raise Forged(f"a view change of validator {change.sender} came from validator {sender}")
    if change.view < state.view:
        answer_laggard(turn, sender, change.view)
        return
    known = state.view_changes.get((change.view, sender))
    if known is not None and rank(known.highest) >= rank(change.highest):
        return
    statement = view_change_message(configuration.chain_id, change.epoch, change.view, change.highest)
    if not configuration.verifier.verify(sender, statement, change.signature):
        raise Forged(f"the view change of validator {sender} out of view {change.view} is not signed by it")
    verify_certificate(turn, change.highest)
    if change.view > state.view:
        _on_entry(turn, change.entry)
    add_certificate(turn, change.highest)
    look_for_hidden_parent(turn, change)
    if state.view <= change.view <= state.view + VIEWS_AHEAD:
        # The way into the view was for us, and may be large.
        state.view_changes[change.view, sender] = replace_field(change, entry=_NO_ENTRY)


def _on_entry(turn: Turn, entry: ViewEntry) -> None:
    """Follow a proof that a quorum has reached a later view. Raises Forged, MalformedMessage."""
    state, configuration = turn.state, turn.configuration
    if (entry.certificate is None) == (entry.view_change is None):
        raise MalformedMessage("a way into a view is one certificate: of its last block or of its view change")
    if entry.view_change is not None:
        left = entry.view_change
        if left.view < state.view:
            return
        configuration.rules.check_view_change(
            left,
            configuration.chain_id,
            len(configuration.validators),
            configuration.validators.quorum,
            configuration.verifier,
        )
        verify_certificate(turn, left.highest)
        add_certificate(turn, left.highest)
        if left.view >= state.view:
            enter_view(turn, View(left.view + 1), entry)
    elif entry.certificate is not None and entry.certificate.view >= state.view - 1:
        verify_certificate(turn, entry.certificate)
        add_certificate(turn, entry.certificate)


def _on_certificate(turn: Turn, certificate: QuorumCertificate) -> None:
    """Take over what a collector counted. Raises Forged, MalformedMessage."""
    state = turn.state
    if certificate.height > state.final_header.height and certificate.block not in state.certificates:
        verify_certificate(turn, certificate)
        add_certificate(turn, certificate)


def _on_end(turn: Turn, proof: FinalityProof) -> None:
    """Follow a proof that the last block of this epoch is final. Raises Forged, MalformedMessage.

    The block itself, and whatever lies below it, is fetched as always.
    """
    configuration = turn.configuration
    last = configuration.last_height
    if len(proof.headers) < LINKED_CERTIFICATES or len(proof.certificates) != LINKED_CERTIFICATES:
        raise MalformedMessage(
            "a proof of the end of an epoch has at least three headers and exactly three certificates"
        )
    if last is None or proof.headers[0].height != last:
        raise Forged("a proof of the end of an epoch is about another block than the last of this one")
    for parent, child in pairwise(proof.headers):
        if child.parent != header_hash(parent) or child.height != parent.height + 1:
            raise Forged(f"header {child.height} of a proof of the end of the epoch is no child of the one before")
    for header in proof.headers[1:]:
        _check_place(configuration, Block(header, ()))
    for header, certificate in zip(proof.headers[-LINKED_CERTIFICATES:], proof.certificates, strict=True):
        if (certificate.block, *places(certificate)) != (header_hash(header), header.view, header.index, header.height):
            raise Forged(f"header {header.height} of a proof of the end of the epoch has another block's certificate")
        verify_certificate(turn, certificate)
    # A certified block is what the quorum executed, so the certified child of a block vouches for that block too.
    for header in proof.headers[1:]:
        track(turn, Block(header, ()), None, None)
    for certificate in proof.certificates:
        add_certificate(turn, certificate)


def _take_fetched(turn: Turn, event: BlockFetched) -> None:
    state, configuration = turn.state, turn.configuration
    header = event.block.header
    name = header_hash(header)
    if header.height <= state.final_header.height or header.epoch != configuration.epoch:
        return
    try:
        _check_place(configuration, event.block)
        if event.certificate is not None and event.certificate.block == name:
            verify_certificate(turn, event.certificate)
            if (header.view, header.index, header.height) != (
                event.certificate.view,
                event.certificate.index,
                event.certificate.height,
            ):
                raise Forged(f"the certificate of block {header.height} names another place than its header")
            track(turn, event.block, event.signature, None)
            add_certificate(turn, event.certificate)
        elif name in state.certificates or (
            event.signature is not None
            and _is_wanted(state, name)
            and configuration.verifier.verify(
                header.proposer, proposal_message(configuration.chain_id, header), event.signature
            )
        ):
            track(turn, event.block, event.signature, None)
    except (Forged, MalformedMessage) as problem:
        turn.distrust(header.proposer, f"a fetched block was refused: {problem}")


def _is_wanted(state: State, block: Hash32) -> bool:
    """Whether something here stands on the block, so that it may have been asked for."""
    return block == state.highest.block or any(t.header.parent == block for t in state.blocks.values())


def _take_execution(turn: Turn, event: Executed) -> None:
    state = turn.state
    if event.block not in state.blocks:
        return
    set_execution(state, event.block, Execution.VALID if event.valid else Execution.INVALID)
    header = state.blocks[event.block].header
    if not event.valid:
        turn.distrust(header.proposer, f"block {header.height} of view {header.view} does not execute as it claims")
        if event.block in state.certificates:
            turn.halt(f"a quorum certified block {header.height}, which does not execute here as its header claims")


def _take_proposal(turn: Turn, event: Proposed) -> None:
    state, configuration = turn.state, turn.configuration
    if event.block is None:
        state.proposing = False
        state.pending = False
        return
    header = event.block.header
    tip = state.proposed
    fits = header.view == state.view and header.index == state.proposed_index + 1 and not state.timed_out
    if not state.proposing or not fits or (tip is not None and header.parent != tip):
        return
    state.proposing = False
    name: Hash32 = header_hash(header)
    signature = turn.sign(proposal_message(configuration.chain_id, header))
    certificate = state.certificates.get(header.parent)
    message = PrepareBlock(
        block=event.block,
        parent_certificate=certificate,
        view_change=state.entry.view_change if header.index == 0 else None,
        signature=signature,
    )
    state.blocks[name] = Tracked(event.block, signature, certificate, justified=True, execution=Execution.VALID)
    state.proposals[header.view, header.index] = message
    state.proposed_index, state.proposed = header.index, name
    state.settled = False
    turn.broadcast(message)
