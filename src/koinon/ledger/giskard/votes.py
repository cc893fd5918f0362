"""Votes: to whom they go, and how a quorum for one block becomes a certificate."""

from koinon.kernel.errors import Forged
from koinon.kernel.quantities import BlockIndex, View
from koinon.ledger.giskard.certificates import certify, vote_message
from koinon.ledger.giskard.evidence import hidden_parent, hides_parent, two_votes, votes_exclude
from koinon.ledger.giskard.state import Configuration, State, Voting
from koinon.ledger.giskard.turn import VIEWS_AHEAD, Turn, add_certificate, verify_certificate
from koinon.ledger.types import Certified, PrepareVote, ViewChange


def is_signed(configuration: Configuration, vote: PrepareVote) -> bool:
    return configuration.verifier.verify(vote.voter, _statement(configuration, vote), vote.signature)


def _statement(configuration: Configuration, vote: PrepareVote) -> bytes:
    return vote_message(configuration.chain_id, vote.epoch, vote.view, vote.index, vote.height, vote.block)


def collects(state: State) -> bool:
    """Whether votes go to the proposers alone: not after a view was lost, until a block is final again."""
    return state.configuration.voting is Voting.COLLECTED and state.failures == 0


def send_vote(turn: Turn, vote: PrepareVote) -> None:
    """Tell whoever has to count the vote."""
    if not collects(turn.state):
        turn.broadcast(vote)
        return
    validators = turn.configuration.validators
    for collector in {validators.proposer(vote.view), validators.proposer(View(vote.view + 1))} - {vote.voter}:
        turn.send(collector, vote)
    turn.unsaved = True


def count_votes(turn: Turn, vote: PrepareVote) -> None:
    """Form a certificate if the votes like this one are enough.

    The sum is checked first, at the price of one signature; only if it fails is each vote checked, and the liar named.
    """
    state, configuration = turn.state, turn.configuration
    if vote.block in state.certificates:
        return
    same: dict[int, PrepareVote] = {}
    for voter in range(len(configuration.validators)):
        other = state.votes.get((vote.view, vote.index, voter))
        if other is not None and other.block == vote.block and other.height == vote.height:
            same[voter] = other
    if len(same) < configuration.validators.quorum:
        return
    try:
        certificate = certify(same, configuration.verifier, len(configuration.validators))
        verify_certificate(turn, certificate)
    except Forged:
        for voter, other in same.items():
            if not is_signed(configuration, other):
                del state.votes[vote.view, vote.index, voter]
                state.forgers |= {voter}
                reason = f"the vote for block {vote.height} in view {vote.view} is not signed by it"
                turn.distrust(voter, reason, proven=True)
        rest = [other for voter, other in same.items() if (vote.view, vote.index, voter) in state.votes]
        if rest and len(rest) < len(same):
            count_votes(turn, rest[0])
        return
    add_certificate(turn, certificate)
    collector = configuration.validators.proposer(vote.view)
    if configuration.voting is Voting.COLLECTED and collector == configuration.position:
        turn.broadcast(Certified(certificate))


def look_for_contradiction(turn: Turn, vote: PrepareVote) -> None:
    """Report the voter if the vote contradicts something it signed before. Forged halves prove nothing."""
    state, configuration = turn.state, turn.configuration
    if vote.voter in state.reported:
        return
    for index in range(configuration.blocks_per_view):
        other = state.votes.get((vote.view, BlockIndex(index), vote.voter))
        if other is not None and votes_exclude(other, vote) and _both_signed(configuration, other, vote):
            turn.report(vote.voter, two_votes(other, vote))
            return
    for left in range(max(vote.view, state.view), state.view + VIEWS_AHEAD + 1) if state.view_changes else ():
        change = state.view_changes.get((View(left), vote.voter))
        if change is not None and hides_parent(vote, left, change.highest.height) and is_signed(configuration, vote):
            turn.report(vote.voter, hidden_parent(vote, change))
            return


def look_for_hidden_parent(turn: Turn, change: ViewChange) -> None:
    """Report the sender of a checked view change if an earlier vote shows that it knew more than it reports."""
    state, configuration = turn.state, turn.configuration
    if change.sender in state.reported:
        return
    for (_, _, voter), vote in state.votes.items():
        if (
            voter == change.sender
            and hides_parent(vote, change.view, change.highest.height)
            and is_signed(configuration, vote)
        ):
            turn.report(voter, hidden_parent(vote, change))
            return


def _both_signed(configuration: Configuration, first: PrepareVote, second: PrepareVote) -> bool:
    return is_signed(configuration, first) and is_signed(configuration, second)
