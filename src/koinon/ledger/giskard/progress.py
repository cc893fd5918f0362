"""What a validator does on its own account after an event: finalise, execute, vote, propose, set its timer."""

from collections.abc import Iterable, Iterator

from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BlockIndex, Height, View
from koinon.ledger.giskard.certificates import certify_view_change, view_change_message, vote_message
from koinon.ledger.giskard.rules import above_lock
from koinon.ledger.giskard.state import (
    EpochEnded,
    Execute,
    Execution,
    Finalise,
    Propose,
    SetTimer,
    State,
    Tracked,
)
from koinon.ledger.giskard.turn import (
    Turn,
    ancestors,
    enter_view,
    fetch,
    header_line,
    is_certified,
    set_execution,
    timeout,
)
from koinon.ledger.giskard.votes import count_votes, send_vote
from koinon.ledger.types import FinalityProof, Header, PrepareVote, ViewChange, ViewEntry, header_hash


def advance(turn: Turn) -> None:
    """Do everything that has become possible, until nothing more is."""
    while turn.state.is_active and (_leave_view(turn) or _settle(turn) or _join_view_change(turn)):
        pass
    if turn.state.is_active:
        _propose(turn)
        _ask_for_missing(turn)
    _set_timer(turn)


def _settle(turn: Turn) -> bool:
    """Do one thing that follows from the blocks and certificates here; remember when nothing more does."""
    if turn.state.settled:
        return False
    if _finalise(turn) or _request_execution(turn) or _vote(turn):
        return True
    turn.state.settled = True
    return False


def give_up_view(turn: Turn) -> None:
    """The view timed out: vote no more in it and tell the others; said again each time the timer fires.

    The report may rise when it is said again, since certificates are still taken in.
    """
    state, configuration = turn.state, turn.configuration
    state.timed_out = True
    state.deadline = turn.now + timeout(state)
    if configuration.position is None:
        return
    statement = view_change_message(configuration.chain_id, configuration.epoch, state.view, state.highest)
    change = ViewChange(
        epoch=configuration.epoch,
        view=state.view,
        sender=configuration.position,
        highest=state.highest,
        entry=state.entry,
        signature=turn.sign(statement),
    )
    state.view_changes[state.view, configuration.position] = change
    turn.broadcast(change)


def _leave_view(turn: Turn) -> bool:
    """A quorum of view changes ends the view."""
    state, configuration = turn.state, turn.configuration
    if len(state.view_changes) < configuration.validators.quorum:
        return False
    changes = {sender: change for (view, sender), change in state.view_changes.items() if view == state.view}
    if len(changes) < configuration.validators.quorum:
        return False
    certificate = certify_view_change(changes, configuration.verifier, len(configuration.validators))
    enter_view(turn, View(state.view + 1), ViewEntry(None, certificate))
    return True


def _join_view_change(turn: Turn) -> bool:
    """Where f + 1 have given a view up, at least one of them honest, waiting for the own timer helps nobody."""
    state, configuration = turn.state, turn.configuration
    if state.timed_out or configuration.position is None or not state.view_changes:
        return False
    given_up = sum(view == state.view for view, _ in state.view_changes)
    if given_up <= configuration.validators.faults:
        return False
    give_up_view(turn)
    return True


def _finalise(turn: Turn) -> bool:
    """Find the highest block that linked certificates make final, and finalise it with all below it in the epoch."""
    state, configuration = turn.state, turn.configuration
    best = _highest_final_line(state, state.certificates)
    if best is None:
        return False
    proven = list(ancestors(state, header_hash(best[0])))[::-1]
    if proven[0].header.parent != state.final_hash:
        if proven[0].header.height <= state.final_header.height + 1:
            turn.halt(f"two blocks of height {state.final_header.height} are final")
            return False
        # Something between is still missing. What stands on the final block already need not wait for it: whoever was
        # away for long hears of the newest blocks first, and takes over the old ones range by range.
        best = _highest_final_line(state, _standing_on_final(state))
        if best is None:
            return False
        proven = list(ancestors(state, header_hash(best[0])))[::-1]
    reached = configuration.rules.final_height(best[0].height, configuration.last_height)
    newly_final = [tracked for tracked in proven if tracked.header.height <= reached]
    if not all(is_certified(state, t.hash) and t.execution is Execution.VALID for t in newly_final):
        return False
    above = tuple(tracked.header for tracked in proven if reached <= tracked.header.height < best[0].height)
    finalised = Finalise(
        blocks=tuple(tracked.block for tracked in newly_final),
        certificates=tuple(state.certificates[tracked.hash] for tracked in newly_final),
        headers=(*above, *best),
        proof=tuple(state.certificates[header_hash(header)] for header in best),
    )
    turn.emit(finalised)
    _forget_below(state, newly_final[-1].header)
    state.failures = 0
    if reached == configuration.last_height:
        state.ended = FinalityProof(finalised.headers, finalised.proof)
        turn.emit(EpochEnded(state.final_header, finalised.certificates[-1]))
    return True


def _highest_final_line(state: State, blocks: Iterable[Hash32]) -> list[Header] | None:
    """The linked certified headers, the lowest first, that prove the highest block final; the last among ``blocks``."""
    rules = state.configuration.rules
    best: list[Header] | None = None
    for block in blocks:
        line = _certified_line(state, block, rules.linked_certificates)
        if line is not None and rules.is_final(line) and (best is None or line[0].height > best[0].height):
            best = line
    return best


def _certified_line(state: State, block: Hash32, length: int) -> list[Header] | None:
    """So many certified headers above the final one, each the parent of the next, up to ``block``; the lowest first."""
    line: list[Header] = []
    while block in state.certificates:
        tracked = state.blocks.get(block)
        if tracked is None:
            return None
        line.append(tracked.header)
        if len(line) == length:
            return line[::-1]
        block = tracked.header.parent
    return None


def _standing_on_final(state: State) -> list[Hash32]:
    """The certified blocks between which and the final one nothing is missing."""
    standing = {state.final_hash}
    for tracked in sorted(state.blocks.values(), key=lambda tracked: tracked.header.height):
        if tracked.header.parent in standing:
            standing.add(tracked.hash)
    return [block for block in state.certificates if block in standing]


def _forget_below(state: State, final: Header) -> None:
    state.final_header = final
    final_hash = state.final_hash
    state.blocks = {name: t for name, t in state.blocks.items() if t.header.height > final.height}
    state.certificates = {
        name: certificate
        for name, certificate in state.certificates.items()
        if certificate.height > final.height or name == final_hash
    }
    state.votes = {key: vote for key, vote in state.votes.items() if vote.height > final.height}
    state.locked_height = max(state.locked_height, final.height)


def _request_execution(turn: Turn) -> bool:
    """Execute what stands on an executed parent."""
    state = turn.state
    requested = False
    for name, tracked in list(state.blocks.items()):
        if tracked.execution is not Execution.WAITING:
            continue
        parent = tracked.header.parent
        on_final = parent == state.final_hash
        if on_final or (parent in state.blocks and state.blocks[parent].execution is Execution.VALID):
            set_execution(state, name, Execution.RUNNING)
            turn.emit(Execute(tracked.block))
            requested = True
        elif parent in state.blocks and state.blocks[parent].execution is Execution.INVALID:
            set_execution(state, name, Execution.INVALID)
            requested = True
    return requested


def _vote(turn: Turn) -> bool:
    """Vote for the next block of the view whose parent is certified."""
    state, configuration = turn.state, turn.configuration
    if state.timed_out or configuration.position is None:
        return False
    choice = min((t for t in state.blocks.values() if _may_vote(state, t)), key=lambda t: t.header.height, default=None)
    if choice is None:
        return False
    header, name = choice.header, choice.hash
    state.voted = (*state.voted, (header.index, header.height))
    state.accepted = (header.index, name)
    statement = vote_message(
        configuration.chain_id, configuration.epoch, header.view, header.index, header.height, name
    )
    vote = PrepareVote(
        epoch=configuration.epoch,
        view=header.view,
        index=header.index,
        height=header.height,
        block=name,
        voter=configuration.position,
        signature=turn.sign(statement),
    )
    state.votes[header.view, header.index, configuration.position] = vote
    send_vote(turn, vote)
    count_votes(turn, vote)
    return True


def _may_vote(state: State, tracked: Tracked) -> bool:
    header, rules = tracked.header, state.configuration.rules
    if header.view != state.view or tracked.execution is not Execution.VALID or header.parent not in state.certificates:
        return False
    if header.index == 0 and not tracked.justified:
        return False
    if not rules.slot_is_free(state.voted, header) or not above_lock(_locked_height(state), header):
        return False
    if header.index > 0:
        parent = state.header_of(header.parent)
        place = (header.epoch, header.view, header.index - 1)
        if parent is None or (parent.epoch, parent.view, parent.index) != place:
            return False
    return rules.follows_own_chain(state.accepted, _line_within_view(state, header))


def _line_within_view(state: State, header: Header) -> Iterator[tuple[int, Hash32]]:
    for tracked in ancestors(state, header.parent):
        if tracked.header.view != header.view:
            return
        yield tracked.header.index, tracked.hash
    final = state.final_header
    if (final.epoch, final.view) == (header.epoch, header.view):
        yield final.index, state.final_hash


def _ask_for_missing(turn: Turn) -> None:
    """Ask, in every step until it is here, for what lies between the last final and the highest certified block.

    The certificate of a block whose child was certified just now is usually on its way as votes; older ones are not.
    """
    state, highest = turn.state, turn.state.highest
    if highest.height <= state.final_header.height:
        return
    lowest = None
    for tracked in ancestors(state, highest.block):
        lowest = tracked.header
        if lowest.height < highest.height - 1 and not is_certified(state, tracked.hash):
            fetch(turn, tracked.hash, lowest.height)
    if lowest is None:
        fetch(turn, highest.block, highest.height)
    elif lowest.parent != state.final_hash:
        fetch(turn, lowest.parent, Height(lowest.height - 1))


def _locked_height(state: State) -> int:
    """GISKARD-SAFETY-4: height of the highest certified block with a certified child; never falls."""
    for name in state.certificates:
        tracked = state.blocks.get(name)
        if tracked is not None and is_certified(state, tracked.header.parent):
            state.locked_height = max(state.locked_height, tracked.header.height - 1)
    return state.locked_height


def _propose(turn: Turn) -> None:
    """The proposer of the view asks for its next block, if somebody needs one."""
    state, configuration = turn.state, turn.configuration
    index = state.proposed_index + 1
    if (
        state.proposing
        or state.timed_out
        or configuration.position is None
        or configuration.validators.proposer(state.view) != configuration.position
        or index >= configuration.blocks_per_view
    ):
        return
    parent = state.proposed if state.proposed is not None else _justified_parent(state)
    if parent is None:
        return
    header = state.header_of(parent)
    tracked = state.blocks.get(parent)
    if header is None or (tracked is not None and tracked.execution is not Execution.VALID):
        return
    if header.height - state.highest.height >= configuration.pipeline:
        return
    required = needs_successor(state, parent)
    closing = is_last(state, header.height)
    if required or (state.pending and not closing):
        state.proposing = True
        height = Height(header.height + 1)
        turn.emit(Propose(parent, height, state.view, BlockIndex(index), required, closing))


def _justified_parent(state: State) -> Hash32 | None:
    """What the first block of this view must extend; None where this validator came in half-way."""
    entry, last = state.entry, state.configuration.blocks_per_view - 1
    if entry.view_change is not None:
        return entry.view_change.highest.block if entry.view_change.view == state.view - 1 else None
    certificate = entry.certificate
    if certificate is None or certificate.view != state.view - 1 or certificate.index != last:
        return None
    return certificate.block


def is_last(state: State, height: Height) -> bool:
    """Whether the epoch has no height above this one."""
    last = state.configuration.last_height
    return last is not None and height >= last


def wants_finality(state: State, tracked: Tracked) -> bool:
    """Whether a block must become final soon: it holds transactions or the next epoch waits for it."""
    return bool(tracked.block.transactions) or tracked.header.height == state.configuration.last_height


def needs_successor(state: State, tip: Hash32) -> bool:
    """Whether a block that must become final would not yet be if everything up to ``tip`` were certified."""
    rules = state.configuration.rules
    line = list(header_line(state, tip))
    busy = max((t.header.height for t in ancestors(state, tip) if wants_finality(state, t)), default=-1)
    for start in range(len(line) - rules.linked_certificates + 1):
        window = line[start : start + rules.linked_certificates][::-1]
        if rules.is_final(window):
            return busy > window[0].height
    return busy > state.final_header.height


def _has_work(state: State) -> bool:
    """Whether something waits to become final, as far as this validator knows."""
    if state.pending or state.proposing:
        return True
    if any(view == state.view and sender != state.configuration.position for view, sender in state.view_changes):
        return True
    if any(wants_finality(state, t) for t in ancestors(state, state.highest.block)):
        return True
    return any(
        wants_finality(state, t) and t.header.view == state.view and t.execution is not Execution.INVALID
        for t in state.blocks.values()
    )


def _set_timer(turn: Turn) -> None:
    """Patience begins when there is work and begins again with every certificate that raises the highest.

    An observer needs none: it could say nothing when it ran out.
    """
    state = turn.state
    before = state.deadline
    if not state.is_active or turn.configuration.position is None:
        state.deadline = None
    elif state.timed_out:
        # None here means a restart: what was said before the crash is said again at once.
        state.deadline = turn.now if before is None else before
    elif not _has_work(state):
        state.deadline = None
    elif before is None or turn.progress:
        state.deadline = turn.now + timeout(state)
    if state.deadline != turn.timer:
        turn.emit(SetTimer(state.deadline))
