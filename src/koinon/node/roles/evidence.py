"""Evidence about members: kept by its hash, fetched from whoever took part in the study, checked against the chain."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from koinon.contracts.judgements import Case
from koinon.contracts.providers import Registered
from koinon.contracts.studies import Drawn
from koinon.jobs.cases import Committee, attempt_of, check_committee
from koinon.jobs.sessions import study_named
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import Seconds
from koinon.node import disputes
from koinon.node.context import Context
from koinon.node.roles.results import LARGEST_STUDY
from koinon.node.roles.studies import proposal_of
from koinon.wire.catalogue import Message
from koinon.wire.committee import SealedDispute
from koinon.wire.studies import EvidenceReply, FetchEvidence, FetchTestimony

if TYPE_CHECKING:
    from koinon.privacy.rep4.judge import Dispute

CALL_SECONDS: Final = Seconds(15.0)
MOST_ATTEMPTS: Final = 16
_PREFIX: Final = b"evidence/"


@dataclass(frozen=True)
class Proof:
    """Evidence that was checked against the chain.

    Attributes:
        attempt: of the study, from 0.
    """

    sealed: SealedDispute
    dispute: "Dispute"
    committee: Committee
    attempt: int

    @property
    def accused(self) -> tuple[Address, ...]:
        """Accounts of the sender and of the backup, or of the one member that is accused."""
        return tuple(self.committee.accounts[position] for position in self.dispute.accused)


def keep_evidence(context: Context, sealed: SealedDispute) -> Hash32:
    """Keep evidence for whoever asks; answers its hash."""
    from koinon.privacy.rep4.hearing import evidence_hash

    named = evidence_hash(sealed)
    context.memory.write({_PREFIX + named: encode(sealed)})
    return named


def kept_evidence(context: Context, named: bytes) -> SealedDispute | None:
    """Evidence by its hash, if this node has it."""
    stored = context.memory.get(_PREFIX + named) if len(named) == 32 else None
    return decode(SealedDispute, stored) if stored else None


async def fetch_evidence(context: Context, case: Case) -> SealedDispute:
    """The evidence of a case, from this node's memory or from anyone who took part in the study.

    Raises:
        Unavailable: nobody who could be reached has it.
    """
    from koinon.privacy.rep4.hearing import evidence_hash

    kept = kept_evidence(context, case.evidence_hash)
    if kept is not None:
        return kept
    studies = context.suite.studies
    study = await studies.study_of(case.study_id)
    holders = [
        *await studies.committee_of(case.study_id, case.attempt),
        study.publisher,
        *(await studies.terms_of(case.study_id)).owners,
    ]

    async def ask(account: Address) -> SealedDispute | None:
        try:
            record = await context.record_of(account)
            reply = await context.transport.call(record.endpoint, FetchEvidence(case.evidence_hash), CALL_SECONDS)
        except KoinonError:
            return None  # another may have it
        assert isinstance(reply, EvidenceReply)  # the transport lets no other answer through
        return reply.dispute if evidence_hash(reply.dispute) == case.evidence_hash else None

    given = await asyncio.gather(*(ask(account) for account in dict.fromkeys(holders) if account != context.account))
    for sealed in given:
        if sealed is not None:
            keep_evidence(context, sealed)
            return sealed
    raise Unavailable("nobody who took part in the study gave the evidence; ask its members to start their nodes")


async def prove(context: Context, number: int, sealed: SealedDispute) -> Proof:
    """Check evidence alone, then against the study on the chain.

    Raises:
        Forged: it proves nothing, or nothing about this study.
        InvalidInput: there is no such study, or the evidence's positions are not four different nodes.
        Unavailable: the chain cannot be reached.
    """
    from koinon.privacy.rep4.hearing import check_dispute

    dispute = await asyncio.to_thread(check_dispute, sealed)
    studies = context.suite.studies
    specification = (await proposal_of(context, number)).spec_hash
    study = study_named(await context.client.chain_id(), studies.address, number, specification)
    attempt = attempt_of(sealed, study, len(await studies.events(Drawn, study_id=number)))
    committee = await _committee_of(context, number, attempt)
    check_committee(sealed, committee)
    return Proof(sealed, dispute, committee, attempt)


async def prove_case(context: Context, case: Case, sealed: SealedDispute) -> Proof:
    """``prove`` for evidence that a case names. Raises Forged, besides, where the case accuses others than it does."""
    proof = await prove(context, case.study_id, sealed)
    accused = case.accused[:1] if case.is_about_one else case.accused
    if proof.attempt != case.attempt or proof.accused != tuple(accused):
        raise Forged("the case accuses others than those that its evidence is about")
    return proof


async def give_evidence(context: Context, request: FetchEvidence) -> Message:
    """Answer whoever asks. Raises InvalidInput where this node does not have it."""
    kept = kept_evidence(context, request.evidence_hash)
    if kept is None:
        raise InvalidInput("this node has no evidence with that hash")
    return EvidenceReply(kept)


async def gather_testimony(context: Context, number: int, attempt: int) -> SealedDispute:
    """Evidence about one member, put together from what members of a stopped attempt were told.

    Raises:
        InvalidInput: no member that could be reached has any, or it names nobody.
    """
    from koinon.privacy.rep4.hearing import joined_testimony

    accounts = await context.suite.studies.committee_of(number, attempt)

    async def ask(account: Address) -> SealedDispute | None:
        if account == context.account:
            return await asyncio.to_thread(kept_testimony, context, number, attempt)
        try:
            record = await context.record_of(account)
            reply = await context.transport.call(record.endpoint, FetchTestimony(number, attempt), CALL_SECONDS)
        except KoinonError:
            return None  # what the others were told may be enough
        assert isinstance(reply, EvidenceReply)  # the transport lets no other answer through
        return reply.dispute

    given = await asyncio.gather(*(ask(account) for account in accounts))
    told = [one for one in given if one is not None]
    return await asyncio.to_thread(joined_testimony, told)


def kept_testimony(context: Context, number: int, attempt: int) -> SealedDispute | None:
    """What this node's worker was told in a stopped attempt, if that may matter."""
    path = context.home.disputes / disputes.file_name(number, attempt, "testimony")
    return disputes.read(path, SealedDispute) if path.is_file() else None


async def give_testimony(context: Context, request: FetchTestimony) -> Message:
    """Answer whoever asks. Raises InvalidInput where this node has none."""
    if not (0 < request.study <= LARGEST_STUDY and 0 <= request.attempt < MOST_ATTEMPTS):
        raise InvalidInput("there is no such attempt of a study")
    kept = await asyncio.to_thread(kept_testimony, context, request.study, request.attempt)
    if kept is None:
        raise InvalidInput("this node was told nothing in that attempt that names a member")
    return EvidenceReply(kept)


async def _committee_of(context: Context, number: int, attempt: int) -> Committee:
    """The committee as it was drawn: nodes may have registered anew since."""
    suite = context.suite
    drawn = [one for one in await suite.studies.events(Drawn, study_id=number) if one.event.attempt == attempt]
    accounts = drawn[0].event.committee

    async def node_of(account: Address) -> NodeId:
        registered = await suite.providers.events(Registered, to_height=drawn[0].log.height, account=account)
        return registered[-1].event.node_id

    return Committee(accounts, tuple([await node_of(account) for account in accounts]))
