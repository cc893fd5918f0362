"""Counting votes: a quorum for one block becomes a certificate."""

from koinon.kernel.errors import Forged
from koinon.ledger.giskard.certificates import certify, vote_message
from koinon.ledger.giskard.state import Configuration
from koinon.ledger.giskard.turn import Turn, add_certificate, verify_certificate
from koinon.ledger.types import PrepareVote


def is_signed(configuration: Configuration, vote: PrepareVote) -> bool:
    return configuration.verifier.verify(vote.voter, _statement(configuration, vote), vote.signature)


def _statement(configuration: Configuration, vote: PrepareVote) -> bytes:
    return vote_message(configuration.chain_id, vote.epoch, vote.view, vote.index, vote.height, vote.block)


def count_votes(turn: Turn, vote: PrepareVote) -> None:
    """Form a certificate if the votes like this one are enough.

    The sum is checked first, at the price of one signature; only if it fails is each vote checked, and the liar named.
    """
    state, configuration = turn.state, turn.configuration
    same = {
        position: other
        for (view, index, position), other in state.votes.items()
        if (view, index, other.height, other.block) == (vote.view, vote.index, vote.height, vote.block)
    }
    quorum = configuration.validators.quorum
    if len(same) < quorum or vote.block in state.certificates:
        return
    try:
        certificate = certify(same, configuration.verifier, len(configuration.validators))
        verify_certificate(turn, certificate)
    except Forged:
        for position, other in same.items():
            if not is_signed(configuration, other):
                del state.votes[vote.view, vote.index, position]
                reason = f"the vote for block {vote.height} in view {vote.view} is not signed by it"
                turn.distrust(position, reason, proven=True)
        rest = [other for position, other in same.items() if (vote.view, vote.index, position) in state.votes]
        if rest and len(rest) < len(same):
            count_votes(turn, rest[0])
        return
    add_certificate(turn, certificate)
