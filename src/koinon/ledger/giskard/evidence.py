"""Evidence: two signatures of one validator that no honest validator gives, and the check anybody can make.

Three kinds, numbered as they are encoded:

0. two blocks for one place: ``ProposalEvidence``;
1. two votes that exclude each other: ``VoteEvidence`` (GISKARD-SAFETY-1);
2. a vote and a view change that hides what the vote shows to be known: ``ReportEvidence``. Who votes for a block holds
   the certificate of its parent, so from that view on it never reports a block below the parent (GISKARD-SAFETY-6,
   GISKARD-SAFETY-7: the highest certificate is persisted with the vote).

Evidence of one contradiction has one form: the two halves stand in the order of their hashes or bytes, so that the same
offence is not charged twice. What merely looks bad (silence, an invalid block, a late message) is no evidence.
"""

from dataclasses import dataclass
from typing import Final

from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, MalformedMessage
from koinon.kernel.quantities import ChainId, Epoch
from koinon.ledger.giskard.certificates import Verifier, proposal_message, view_change_message, vote_message
from koinon.ledger.types import (
    Header,
    PrepareVote,
    ProposalEvidence,
    ReportEvidence,
    ValidatorSet,
    ViewChange,
    ViewChangeGroup,
    VoteEvidence,
    header_hash,
    make_bitmap,
)

MAXIMUM_EVIDENCE_BYTES: Final = 4096
Evidence = ProposalEvidence | VoteEvidence | ReportEvidence
_KINDS: Final[dict[int, type[Evidence]]] = {0: ProposalEvidence, 1: VoteEvidence, 2: ReportEvidence}


def two_blocks(first: Header, first_signature: bytes, second: Header, second_signature: bytes) -> ProposalEvidence:
    """Evidence of two blocks, in its one form."""
    pairs = sorted(((first, first_signature), (second, second_signature)), key=lambda pair: header_hash(pair[0]))
    return ProposalEvidence(pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1])


def two_votes(first: PrepareVote, second: PrepareVote) -> VoteEvidence:
    """Evidence of two votes, in its one form."""
    return VoteEvidence(*sorted((first, second), key=encode))


def hidden_parent(vote: PrepareVote, change: ViewChange) -> ReportEvidence:
    """Evidence of a vote and a view change."""
    highest = change.highest
    group = ViewChangeGroup(
        view=highest.view,
        index=highest.index,
        height=highest.height,
        block=highest.block,
        signers=make_bitmap((change.sender,), change.sender + 1),
        signature=change.signature,
    )
    return ReportEvidence(vote, change.view, group)


def votes_exclude(first: PrepareVote, second: PrepareVote) -> bool:
    """Whether no honest validator casts both (GISKARD-SAFETY-1)."""
    return (
        (first.epoch, first.view, first.voter) == (second.epoch, second.view, second.voter)
        and first.block != second.block
        and (first.index == second.index or first.height == second.height)
    )


def hides_parent(vote: PrepareVote, left: int, reported_height: int) -> bool:
    """Whether a report out of view ``left`` is lower than the parent of a block voted for in that view or before."""
    return vote.view <= left and reported_height < vote.height - 1


@dataclass(frozen=True)
class Contradiction:
    """What evidence shows, before its signatures are checked.

    Attributes:
        offender: position of who signed both, if anybody did.
        signed: two statements that contradict each other, each with its signature.
    """

    epoch: Epoch
    offender: int
    signed: tuple[tuple[bytes, bytes], tuple[bytes, bytes]]


def contradiction(evidence: Evidence, chain_id: ChainId) -> Contradiction:
    """What the evidence shows. Raises Forged where its halves do not contradict each other or are not in order."""
    match evidence:
        case ProposalEvidence():
            return _of_blocks(evidence, chain_id)
        case VoteEvidence():
            return _of_votes(evidence, chain_id)
        case ReportEvidence():
            return _of_report(evidence, chain_id)


def check_evidence(evidence: Evidence, chain_id: ChainId, validators: ValidatorSet, verifier: Verifier) -> int:
    """Check evidence of the epoch in which ``validators`` signed; the offender's position.

    Raises:
        Forged: the two halves do not contradict each other, are not in their one form, or are not signed by the
            offender; or a block is of another chain or validator set.
    """
    shown = contradiction(evidence, chain_id)
    if isinstance(evidence, ProposalEvidence):
        for header in (evidence.first, evidence.second):
            right = (validators.hash, validators.proposer(header.view))
            if (header.validators, header.proposer) != right:
                raise Forged("a block of the evidence is of another validator set or proposer")
    for statement, signature in shown.signed:
        if shown.offender >= len(validators) or not verifier.verify(shown.offender, statement, signature):
            raise Forged(f"a half of the evidence is not signed by validator {shown.offender}")
    return shown.offender


def _of_blocks(evidence: ProposalEvidence, chain_id: ChainId) -> Contradiction:
    first, second = evidence.first, evidence.second
    if (first.epoch, first.view, first.index, first.proposer) != (
        second.epoch,
        second.view,
        second.index,
        second.proposer,
    ):
        raise Forged("the two blocks of the evidence do not exclude each other: they are for different places")
    if not header_hash(first) < header_hash(second):
        raise Forged("the two blocks of the evidence are the same or not in order of their hashes")
    if not first.chain_id == second.chain_id == chain_id:
        raise Forged("a block of the evidence is of another chain")
    return Contradiction(
        first.epoch,
        first.proposer,
        (
            (proposal_message(chain_id, first), evidence.first_signature),
            (proposal_message(chain_id, second), evidence.second_signature),
        ),
    )


def _of_votes(evidence: VoteEvidence, chain_id: ChainId) -> Contradiction:
    first, second = evidence.first, evidence.second
    if not votes_exclude(first, second):
        raise Forged("the two votes of the evidence do not exclude each other")
    if evidence != two_votes(first, second):
        raise Forged("the two votes of the evidence are not in order")
    return Contradiction(first.epoch, first.voter, (_of_vote(first, chain_id), _of_vote(second, chain_id)))


def _of_report(evidence: ReportEvidence, chain_id: ChainId) -> Contradiction:
    vote, reported = evidence.vote, evidence.reported
    if not hides_parent(vote, evidence.left, reported.height):
        raise Forged("the view change of the evidence hides nothing that the vote shows to be known")
    if reported.signers != make_bitmap((vote.voter,), vote.voter + 1):
        raise Forged("the view change of the evidence names another validator than the vote")
    statement = view_change_message(chain_id, vote.epoch, evidence.left, reported)
    return Contradiction(vote.epoch, vote.voter, (_of_vote(vote, chain_id), (statement, reported.signature)))


def _of_vote(vote: PrepareVote, chain_id: ChainId) -> tuple[bytes, bytes]:
    return vote_message(chain_id, vote.epoch, vote.view, vote.index, vote.height, vote.block), vote.signature


def encode_evidence(evidence: Evidence) -> bytes:
    """One byte for the kind and the record's canonical encoding: what a contract call carries."""
    number = next(number for number, kind in _KINDS.items() if isinstance(evidence, kind))
    return bytes([number]) + encode(evidence)


def decode_evidence(data: bytes) -> Evidence:
    """The opposite of ``encode_evidence``.

    Raises:
        MalformedMessage: too long, of no known kind, or not the canonical encoding.
    """
    if len(data) > MAXIMUM_EVIDENCE_BYTES:
        raise MalformedMessage(f"evidence has at most {MAXIMUM_EVIDENCE_BYTES} bytes; got {len(data)}")
    kind = _KINDS.get(data[0]) if data else None
    if kind is None:
        raise MalformedMessage("evidence begins with the number of its kind, 0 to 2")
    return decode(kind, data[1:])
