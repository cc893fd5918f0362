"""study: propose a signed study with its escrow, and wait until every data owner has said yes or one has said no."""

import asyncio
from typing import Final

from koinon.contracts.contract import Found
from koinon.contracts.studies import Consented, Refused, StudyPhase, StudyTerms, nonce_commitment
from koinon.jobs.inputs import check_room
from koinon.jobs.study import StudyFile, escrow, sign_study, specification_hash
from koinon.journey import results
from koinon.journey.desk import Desk
from koinon.kernel import errors
from koinon.kernel.codec import encode
from koinon.kernel.errors import Expired, KoinonError, Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import TokenAmount, UnixSeconds
from koinon.wire.catalogue import Message
from koinon.wire.studies import ConsultOwner, FetchRefusal, RefusalReason, WouldSign

POLL_SECONDS: Final = 0.15
ANSWER_SECONDS: Final = 10.0


def nonce_key(study: int) -> bytes:
    """Where the publisher keeps its nonce until it is revealed."""
    return b"publisher-nonce/" + study.to_bytes(8, "big")


def study_file_key(specification: Hash32) -> bytes:
    """Where a node keeps a signed study file."""
    return b"study-file/" + specification


async def propose(desk: Desk, study: StudyFile) -> results.Study:
    """Sign, fund, propose; return when all owners have consented.

    Raises:
        InvalidInput: the study breaks a rule.
        Refused: an owner would say no, or too little money: nothing was sent then. Or an owner said no: the escrow is
            back then. The sentence gives the reason.
        Unavailable: the engine needs what is not installed on this node; nothing was signed or sent.
        Expired: an owner did not answer before the consent deadline; the escrow is back.
    """
    check_installed(study)
    signed = sign_study(study, desk.node_key)
    specification = specification_hash(study)
    await _consult(desk, study, encode(signed))
    await _afford(desk, study)
    # Owners will ask for the file the moment they see its hash on the chain.
    desk.memory.write({study_file_key(specification): encode(signed)})
    nonce = Hash32(desk.rng.bytes(32))
    # A chain that makes blocks on demand may have made its last one long ago.
    now = max((await desk.client.block()).timestamp, desk.clock.unix())
    terms = StudyTerms(
        spec_hash=specification,
        algorithm_hash=study.algorithm_hash,
        owners=tuple(party.account for party in study.owners),
        result_party=desk.account,
        committee_fee=study.terms.committee_fee,
        owner_fee=study.terms.owner_fee,
        bond=study.terms.bond,
        consent_deadline=UnixSeconds(now + study.terms.consent_seconds),
        reveal_seconds=study.terms.reveal_seconds,
        run_seconds=study.terms.run_seconds,
        challenge_seconds=study.terms.challenge_seconds,
        maximum_attempts=study.terms.maximum_attempts,
    )
    # The nonce is on disk before its commitment is on the chain: losing it would lose the bond.
    desk.memory.write({_pending_nonce_key(specification): nonce})
    number = await desk.suite.studies.propose(terms, nonce_commitment(desk.account, specification, nonce))
    desk.memory.write({nonce_key(number): nonce}, (_pending_nonce_key(specification),))
    desk.say(f"study {number} proposed to {len(study.owners)} data owners", 0.3)
    hashes = await _await_consents(desk, study, number)
    desk.say(f"all {len(study.owners)} data owners signed study {number}", 1.0)
    return results.Study(number, specification, encode(signed), hashes)


def check_installed(study: StudyFile) -> None:
    """Raises Unavailable where this machine lacks what the study's engine needs."""
    from koinon.privacy.engines import engine_named

    if missing := engine_named(study.engine).missing():
        raise Unavailable(missing)


async def recover(desk: Desk, number: int) -> results.Study:
    """A study of this publisher that all owners signed, from the chain: for a proposal whose wait was interrupted.

    Raises:
        Refused: it is not this publisher's, or not all owners have signed it.
    """
    state = await desk.suite.studies.study_of(number)
    terms = await desk.suite.studies.terms_of(number)
    signed = desk.memory.get(study_file_key(terms.spec_hash))
    if state.phase == StudyPhase.NONE or state.publisher != desk.account or signed is None:
        raise errors.Refused(f"study {number} is none that this node proposed")
    if state.phase == StudyPhase.PROPOSED:
        raise errors.Refused(f"not every owner has signed study {number} yet; wait, or see: koinon study show {number}")
    owners = range(1, 1 + len(terms.owners))
    parties = [await desk.suite.studies.party_of(number, party) for party in owners]
    if not all(party.consented for party in parties):
        raise errors.Refused(f"study {number} ended before every owner had signed; propose it again")
    return results.Study(number, terms.spec_hash, signed, tuple(party.dataset_hash for party in parties))


def _pending_nonce_key(specification: Hash32) -> bytes:
    return b"publisher-nonce-of/" + specification


async def announced_rows(desk: Desk, study: StudyFile) -> tuple[int, ...]:
    """How many rows each owner has for the study; 0 for one that does not tell. Raises Refused as ``propose`` does."""
    return await _asked(desk, study, encode(sign_study(study, desk.node_key)))


async def _consult(desk: Desk, study: StudyFile, signed: bytes) -> None:
    """Hear every owner's no before money moves, and whether the program can take all the rows that they have."""
    rows = await _asked(desk, study, signed)
    if not all(rows):
        return
    try:
        await asyncio.to_thread(check_room, study, rows)
    except (errors.InvalidInput, errors.Refused) as problem:
        raise errors.Refused(
            f"with {sum(rows)} rows the study cannot be computed: {problem}; nothing was sent"
        ) from None


async def _asked(desk: Desk, study: StudyFile, signed: bytes) -> tuple[int, ...]:
    """Every owner's rows, 0 where it does not tell: who cannot be reached now may still answer on the chain."""

    async def ask(owner: Address) -> Message:
        record = await desk.directory.find_account(owner)
        return await desk.transport.call(record.endpoint, ConsultOwner(signed), ANSWER_SECONDS)

    answers = await asyncio.gather(*(ask(party.account) for party in study.owners), return_exceptions=True)
    for party, answer in zip(study.owners, answers, strict=True):
        if isinstance(answer, errors.Refused):
            raise errors.Refused(f"{party.name} would refuse the study: {answer}; nothing was sent")
        if isinstance(answer, BaseException) and not isinstance(answer, errors.Unavailable):
            raise answer
    return tuple(answer.rows if isinstance(answer, WouldSign) else 0 for answer in answers)


async def _afford(desk: Desk, study: StudyFile) -> None:
    needed = TokenAmount(escrow(study) + study.terms.bond)
    owned = await desk.suite.token.balance_of(desk.account)
    if owned < needed:
        from koinon.contracts.tokens import format_amount

        raise errors.Refused(
            f"the study locks {format_amount(needed)} tokens and this account holds {format_amount(owned)};"
            " nothing was sent"
        )
    if await desk.suite.token.allowance(desk.account, desk.suite.studies.address) < needed:
        await desk.suite.token.approve(desk.suite.studies.address, needed)


async def _await_consents(desk: Desk, study: StudyFile, number: int) -> tuple[Hash32, ...]:
    names = {party.account: party.name for party in study.owners}
    heard: set[Address] = set()
    while True:
        state = await desk.suite.studies.study_of(number)
        for found in await desk.suite.studies.events(Consented, study_id=number):
            if found.event.owner not in heard:
                heard.add(found.event.owner)
                desk.say(f"{names[found.event.owner]} signed", 0.3 + 0.6 * len(heard) / len(names))
        if state.phase > StudyPhase.PROPOSED and state.phase != StudyPhase.ENDED:
            break
        if state.phase == StudyPhase.ENDED:
            refusals = await desk.suite.studies.events(Refused, study_id=number)
            raise await _refusal(desk, names, refusals, number)
        if desk.clock.unix() > state.deadline + 1 and await _expired(desk, number):
            missing = ", ".join(name for account, name in names.items() if account not in heard)
            raise Expired(f"no answer from {missing} before the consent deadline; the escrow and all bonds are back")
        await asyncio.sleep(POLL_SECONDS)
    parties = [await desk.suite.studies.party_of(number, 1 + place) for place in range(len(study.owners))]
    return tuple(party.dataset_hash for party in parties)


async def _expired(desk: Desk, number: int) -> bool:
    """End a study whose owners did not all answer; False where an owner's no ended it first."""
    try:
        await desk.suite.studies.expire(number)
    except errors.Refused:
        return False
    return True


async def _refusal(desk: Desk, names: dict[Address, str], refusals: list[Found[Refused]], number: int) -> KoinonError:
    if not refusals:
        return errors.Refused(f"study {number} ended before every owner had signed; the escrow and all bonds are back")
    owner = refusals[0].event.owner
    reason = "its node does not say why"
    try:
        record = await desk.directory.find_account(owner)
        answer = await desk.transport.call(record.endpoint, FetchRefusal(number), ANSWER_SECONDS)
        if isinstance(answer, RefusalReason):
            reason = answer.reason[:500]
    except errors.Unavailable as problem:
        reason = f"its node cannot be asked why: {problem}"
    return errors.Refused(f"{names[owner]} refused study {number}: {reason}; the escrow and all bonds are back")
