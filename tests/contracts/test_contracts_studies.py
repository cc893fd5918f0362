"""Studies: the way that goes well, every way out, and every step that must be refused."""

# ruff: noqa: ARG005 - the steps of a table share one signature, whether or not they need all of it
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from contracts_chain import EvmChain
from contracts_world import OWNERS, PROVIDERS, STAKE, World, digest_of, key_of

from koinon.contracts import eip712
from koinon.contracts import studies as events
from koinon.contracts.providers import Role, Sampled
from koinon.contracts.refusals import Reverted
from koinon.contracts.studies import Complained, Contradicted, StudyPhase, first_seed, later_seed
from koinon.crypto.hash import keccak256
from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH
from koinon.kernel.quantities import TokenAmount


async def wealths(world: World) -> dict[str, int]:
    return {name: await world.wealth(name) for name in ("publisher", *OWNERS, *PROVIDERS)}


def changes(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in before if after[name] != before[name]}


async def test_a_study_that_goes_well_pays_everybody(world: World) -> None:
    before = await wealths(world)
    terms = await world.terms()
    study_id, committee = await world.running(terms)
    assert len(set(committee)) == 4
    output = digest_of("output")
    signatures = await world.result_signatures(study_id, 0, output, committee, signing=(0, 1, 3))
    await world.by("stranger").studies.complete(study_id, 0, output, signatures)

    study = await world.suite.studies.study_of(study_id)
    assert study.phase == StudyPhase.COMPLETED
    assert study.output_digest == output
    assert study.held == 0
    expected = {"publisher": -(4 * terms.committee_fee + 3 * terms.owner_fee)}
    expected |= dict.fromkeys(OWNERS, terms.owner_fee) | dict.fromkeys(committee, terms.committee_fee)
    assert changes(before, await wealths(world)) == expected
    for member in committee:
        assert (await world.suite.providers.provider_of(world.address(member))).locks == 0
    (done,) = await world.suite.studies.events(events.Completed, study_id=study_id)
    assert [world.name(signer) for signer in done.event.signers] == [committee[0], committee[1], committee[3]]
    await world.check_money()


async def test_a_stranger_can_repeat_the_draw_from_events(world: World) -> None:
    study_id, committee = await world.running()
    (entropy,) = await world.suite.studies.events(events.EntropyCaptured, study_id=study_id)
    nonces = [world.nonce(name) for name in ("publisher", *OWNERS)]
    (drawn,) = await world.suite.studies.events(events.Drawn, study_id=study_id)
    assert drawn.event.seed == first_seed(nonces, entropy.event.entropy)
    block = await world.client.block(entropy.event.height)
    assert block.hash == entropy.event.entropy
    (sampled,) = await world.suite.providers.events(Sampled)
    assert sampled.event.seed == drawn.event.seed
    pool = {candidate.account for candidate in sampled.event.pool}
    assert pool == {world.address(name) for name in PROVIDERS}
    tickets = sorted(pool, key=lambda account: keccak256(drawn.event.seed + bytes(12) + account))
    operators = [(await world.suite.providers.provider_of(account)).operator for account in tickets]
    first = [a for place, a in enumerate(tickets) if operators[place] not in operators[:place]][:4]
    assert tuple(world.name(account) for account in first) == committee


async def test_parties_are_never_drawn(world: World) -> None:
    terms = await world.terms(owners=("north", "provider-0", "provider-1"))
    terms = replace(terms, result_party=world.address("provider-2"))
    _, committee = await world.running(terms)
    assert not {"provider-0", "provider-1", "provider-2"} & set(committee)


async def test_nonces_stay_shut_until_the_draw_block_exists(world: World) -> None:
    study_id = await world.locked()
    with pytest.raises(Reverted, match="HeightNotReached"):
        await world.by("north").studies.reveal(study_id, 1, world.nonce("north"))


async def test_who_joins_after_the_lock_is_not_drawn(world: World, chain: EvmChain) -> None:
    for name in PROVIDERS[4:]:
        await world.by(name).providers.request_unstake(STAKE)
    study_id = await world.locked()
    for name in PROVIDERS[4:]:
        await world.by(name).providers.stake(STAKE)
    await world.push((await world.suite.studies.study_of(study_id)).draw_height)
    for party, name in enumerate(("publisher", *OWNERS)):
        await world.by(name).studies.reveal(study_id, party, world.nonce(name))
    assert set(await world.draw(study_id)) == set(PROVIDERS[:4])


async def test_a_changed_record_joins_anew(world: World) -> None:
    study_id = await world.locked()
    own = world.by("provider-0")
    record = await own.providers.provider_of(own.client.account)
    await own.providers.register(record.node_id, digest_of("another operator"), Role(record.roles))
    await world.push((await world.suite.studies.study_of(study_id)).draw_height)
    for party, name in enumerate(("publisher", *OWNERS)):
        await world.by(name).studies.reveal(study_id, party, world.nonce(name))
    assert "provider-0" not in await world.draw(study_id)


# ---------------------------------------------------------------------------------------------------- ways out


async def test_cancel_gives_everything_back(world: World) -> None:
    before = await wealths(world)
    study_id = await world.propose()
    await world.consent(study_id, "north")
    await world.by("publisher").studies.cancel(study_id)
    assert changes(before, await wealths(world)) == {}
    assert (await world.suite.studies.study_of(study_id)).phase == StudyPhase.ENDED


async def test_refusal_ends_the_study_and_names_a_reason(world: World) -> None:
    before = await wealths(world)
    study_id = await world.propose()
    await world.consent(study_id, "north")
    await world.by("north").studies.refuse(study_id, digest_of("price too low"))
    (refused,) = await world.suite.studies.events(events.Refused, study_id=study_id)
    assert refused.event.reason_hash == digest_of("price too low")
    assert changes(before, await wealths(world)) == {}
    with pytest.raises(Reverted, match="WrongPhase"):
        await world.consent(study_id, "north")  # the old signature is worth nothing now


async def test_missing_consents_give_everything_back(world: World, chain: EvmChain) -> None:
    before = await wealths(world)
    study_id = await world.propose()
    await world.consent(study_id, "south")
    chain.sleep(1_002)
    await world.by("stranger").studies.expire(study_id)
    assert changes(before, await wealths(world)) == {}


async def test_who_does_not_open_pays_the_others(world: World, chain: EvmChain) -> None:
    before = await wealths(world)
    terms = await world.terms()
    study_id = await world.locked(terms)
    await world.push((await world.suite.studies.study_of(study_id)).draw_height)
    for party, name in ((0, "publisher"), (1, "north"), (2, "south")):
        await world.by(name).studies.reveal(study_id, party, world.nonce(name))
    chain.sleep(terms.reveal_seconds + 2)
    await world.by("stranger").studies.expire(study_id)
    third, remainder = divmod(terms.bond, 3)
    assert changes(before, await wealths(world)) == {
        "west": -terms.bond,
        "north": third,
        "south": third,
        "publisher": third + remainder,
    }
    await world.check_money()


async def test_where_nobody_opens_nobody_pays(world: World, chain: EvmChain) -> None:
    before = await wealths(world)
    study_id = await world.locked()
    chain.sleep(202)
    await world.by("stranger").studies.expire(study_id)
    assert changes(before, await wealths(world)) == {}


async def test_too_few_providers_give_everything_back(world: World, chain: EvmChain) -> None:
    before = await wealths(world)
    study_id = await world.seeded()
    for name in PROVIDERS[3:]:
        await world.by(name).providers.request_unstake(STAKE)
    with pytest.raises(Reverted, match=r"NotEnoughProviders.*3 eligible"):
        await world.by("stranger").studies.draw(study_id)
    chain.sleep(302)
    await world.by("stranger").studies.expire(study_id)
    assert changes(before, await wealths(world)) == {}


async def test_run_time_over_draws_again_until_no_attempt_is_left(world: World, chain: EvmChain) -> None:
    before = await wealths(world)
    study_id, _ = await world.running()
    seeds = []
    for attempt in range(3):
        chain.sleep(302)
        await world.by("stranger").studies.expire(study_id)
        study = await world.suite.studies.study_of(study_id)
        if attempt == 2:
            break
        assert (study.phase, study.attempt) == (StudyPhase.DRAWING, attempt + 1)
        await world.draw(study_id)
        *_, drawn = await world.suite.studies.events(events.Drawn, study_id=study_id)
        block = await world.client.block(study.draw_height)
        assert drawn.event.seed == later_seed(study.seed, attempt + 1, block.hash)
        seeds.append(drawn.event.seed)
    assert len(set(seeds)) == 2
    assert study.phase == StudyPhase.ENDED
    assert changes(before, await wealths(world)) == {}
    for name in PROVIDERS:
        assert (await world.suite.providers.provider_of(world.address(name))).locks == 0


async def test_lost_block_hash_schedules_anew_and_then_refunds(world: World, chain: EvmChain) -> None:
    before = await wealths(world)
    study_id = await world.locked()
    for turn in range(4):
        height = (await world.suite.studies.study_of(study_id)).draw_height
        chain.mine(300)
        with pytest.raises(Reverted, match="EntropyOutOfReach"):
            await world.by("north").studies.reveal(study_id, 1, world.nonce("north"))
        await world.by("stranger").studies.capture(study_id)
        study = await world.suite.studies.study_of(study_id)
        if turn < 3:
            assert study.draw_height > height + 256
    assert study.phase == StudyPhase.ENDED
    assert changes(before, await wealths(world)) == {}


async def test_captured_randomness_stays(world: World, chain: EvmChain) -> None:
    study_id = await world.locked()
    await world.push((await world.suite.studies.study_of(study_id)).draw_height)
    await world.by("stranger").studies.capture(study_id)
    chain.mine(400)
    for party, name in enumerate(("publisher", *OWNERS)):
        await world.by(name).studies.reveal(study_id, party, world.nonce(name))
    assert len(await world.draw(study_id)) == 4


async def test_a_member_that_declines_is_left_out_alone_and_loses_nothing(world: World) -> None:
    study_id, committee = await world.running()
    before = await wealths(world)
    await world.by(committee[1]).studies.decline(study_id, 0)
    study = await world.suite.studies.study_of(study_id)
    assert [world.name(account) for account in study.excluded] == [committee[1]]
    assert (study.phase, study.attempt) == (StudyPhase.DRAWING, 1)
    assert committee[1] not in await world.draw(study_id)
    provider = await world.suite.providers.provider_of(world.address(committee[1]))
    assert (provider.stake, provider.locks) == (STAKE, 0)
    assert changes(before, await wealths(world)) == {}


async def test_complaint_excludes_three_and_slashes_nobody(world: World) -> None:
    study_id, committee = await world.running()
    await world.by(committee[2]).studies.complain(study_id, 0, sender=0, backup=3, receiver=2)
    study = await world.suite.studies.study_of(study_id)
    gone = {committee[0], committee[3], committee[2]}
    assert {world.name(account) for account in study.excluded} == gone
    assert (study.phase, study.attempt) == (StudyPhase.DRAWING, 1)
    second = await world.draw(study_id)
    assert not gone & set(second)
    for name in gone:
        provider = await world.suite.providers.provider_of(world.address(name))
        assert (provider.stake, provider.locks) == (STAKE, 0)
    before = await wealths(world)
    output = digest_of("output")
    signatures = await world.result_signatures(study_id, 1, output, second)
    await world.by("stranger").studies.complete(study_id, 1, output, signatures)
    paid = changes(before, await wealths(world))
    assert set(paid) == {*second, *OWNERS, "publisher"}


async def test_complaint_about_one_excludes_no_third(world: World) -> None:
    study_id, committee = await world.running()
    await world.by(committee[2]).studies.complain(study_id, 0, sender=0, backup=None, receiver=2)
    study = await world.suite.studies.study_of(study_id)
    assert {world.name(account) for account in study.excluded} == {committee[0], committee[2]}
    (told,) = await world.suite.studies.events(Complained, study_id=study_id)
    assert told.event.backup == ZERO_ADDRESS


async def test_unanswered_challenge_costs_stake_and_the_study_goes_on(world: World, chain: EvmChain) -> None:
    study_id, committee = await world.running()
    before = await wealths(world)
    await world.by("north").studies.challenge(study_id, 0, 1)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.by("stranger").studies.expire_challenge(study_id, 0, 1)
    chain.sleep(102)
    with pytest.raises(Reverted, match="TooLate"):
        await world.by(committee[1]).studies.answer(study_id, 0)
    await world.by("stranger").studies.expire_challenge(study_id, 0, 1)
    taken = STAKE // 10
    provider = await world.suite.providers.provider_of(world.address(committee[1]))
    assert provider.stake == STAKE - taken
    fourth, remainder = divmod(taken, 4)
    expected = dict.fromkeys(OWNERS, fourth) | {"publisher": fourth + remainder}
    assert changes(before, await wealths(world)) == expected
    assert committee[1] not in await world.draw(study_id)
    await world.check_money()


@pytest.mark.parametrize("finished", [False, True])
async def test_a_member_that_signs_two_results_loses_stake(world: World, finished: bool) -> None:
    study_id, committee = await world.running()
    digests = digest_of("one"), digest_of("other")
    signatures = [await world.result_signatures(study_id, 0, digest, committee) for digest in digests]
    if finished:
        await world.by("stranger").studies.complete(study_id, 0, digests[0], signatures[0])
    before = await wealths(world)
    both = signatures[0][2], signatures[1][2]
    await world.by("stranger").studies.contradict(study_id, 0, 2, digests, both)
    taken = STAKE // 10
    provider = await world.suite.providers.provider_of(world.address(committee[2]))
    assert provider.stake == STAKE - taken
    fourth, remainder = divmod(taken, 4)
    assert changes(before, await wealths(world)) == dict.fromkeys(OWNERS, fourth) | {"publisher": fourth + remainder}
    (told,) = await world.suite.studies.events(Contradicted, study_id=study_id)
    assert (told.event.member, told.event.slashed) == (world.address(committee[2]), taken)
    with pytest.raises(Reverted, match="AlreadyDone" if finished else "WrongPhase"):
        await world.by("stranger").studies.contradict(study_id, 0, 2, digests, both)
    if not finished:
        assert committee[2] not in await world.draw(study_id)
        with pytest.raises(Reverted, match="WrongAttempt"):
            await world.by("stranger").studies.contradict(study_id, 0, 2, digests, both)
    await world.check_money()


async def test_answered_challenge_costs_nothing_and_comes_once(world: World, chain: EvmChain) -> None:
    study_id, committee = await world.running(replace(await world.terms(), challenge_seconds=400))
    await world.by(committee[0]).studies.challenge(study_id, 0, 1)
    chain.sleep(302)
    with pytest.raises(Reverted, match="ChallengeOpen"):
        await world.by("stranger").studies.expire(study_id)
    await world.by(committee[1]).studies.answer(study_id, 0)
    with pytest.raises(Reverted, match="Unknown"):
        await world.by("stranger").studies.expire_challenge(study_id, 0, 1)
    await world.by("stranger").studies.expire(study_id)
    assert (await world.suite.providers.provider_of(world.address(committee[1]))).stake == STAKE


# ---------------------------------------------------------------------------------------------------- bad input

BAD_TERMS = {
    "no spec": ({"spec_hash": ZERO_HASH}, "BadField", "specHash"),
    "no algorithm": ({"algorithm_hash": ZERO_HASH}, "BadField", "algorithmHash"),
    "no result party": ({"result_party": ZERO_ADDRESS}, "BadField", "resultParty"),
    "no owners": ({"owners": ()}, "BadField", "owners"),
    "zero owner": ({"owners": (ZERO_ADDRESS,)}, "BadField", "owners"),
    "owner twice": ({"owners": (key_of("north").address,) * 2}, "AlreadyDone", key_of("north").address.hex()),
    "33 owners": ({"owners": tuple(bytes([9] * 19 + [n]) for n in range(33))}, "BadField", "owners"),
    "deadline passed": ({"consent_deadline": 5}, "TooLate", "5"),
    "deadline in years": ({"consent_deadline": 2**40}, "BadField", "consentDeadline"),
    "no time to reveal": ({"reveal_seconds": 0}, "BadField", "revealSeconds"),
    "years to reveal": ({"reveal_seconds": 2**32 - 1}, "BadField", "revealSeconds"),
    "no time to run": ({"run_seconds": 0}, "BadField", "runSeconds"),
    "no time to answer": ({"challenge_seconds": 0}, "BadField", "challengeSeconds"),
    "no attempts": ({"maximum_attempts": 0}, "BadField", "maximumAttempts"),
    "17 attempts": ({"maximum_attempts": 17}, "BadField", "maximumAttempts"),
    "more than the purse": ({"bond": 10**30}, "ERC20InsufficientBalance", "add funds"),
    "more than a slot": ({"committee_fee": 2**128 - 1}, "SafeCastOverflowedUintDowncast", ""),
}


@pytest.mark.parametrize("name", BAD_TERMS)
async def test_bad_terms_are_refused_whole(world: World, name: str) -> None:
    changed, error, said = BAD_TERMS[name]
    before = await world.wealth("publisher")
    terms = replace(await world.terms(), **changed)  # type: ignore[arg-type]
    with pytest.raises(Reverted) as refusal:
        await world.propose(terms)
    assert refusal.value.error == error
    assert said in str(refusal.value)
    assert str(refusal.value).startswith("Studies refused propose")
    assert await world.suite.studies.count() == 0
    assert await world.wealth("publisher") == before


async def _consent_with(world: World, study_id: int, signer: str, owner: str, dataset: str = "dataset") -> None:
    terms = await world.suite.studies.terms_of(study_id)
    commitment = world.commitment(owner, terms)
    digest = eip712.consent_digest(
        await world.suite.studies.domain(),
        study_id,
        terms.spec_hash,
        digest_of("dataset"),
        commitment,
        terms.consent_deadline,
    )
    signature = key_of(signer).sign_digest(digest)
    await world.by(owner).studies.consent(study_id, world.address(owner), digest_of(dataset), commitment, signature)


Step = Callable[[World, int, tuple[str, ...]], Awaitable[object]]

PROPOSED: dict[str, tuple[Step, str]] = {
    "a stranger's consent": (lambda w, s, _: _consent_with(w, s, "stranger", "stranger"), "NotAllowed"),
    "signed by another": (lambda w, s, _: _consent_with(w, s, "south", "north"), "BadSignature"),
    "other data than signed": (lambda w, s, _: _consent_with(w, s, "north", "north", "other"), "BadSignature"),
    "a stranger's refusal": (lambda w, s, _: w.by("stranger").studies.refuse(s, ZERO_HASH), "NotAllowed"),
    "an owner's cancel": (lambda w, s, _: w.by("north").studies.cancel(s), "NotAllowed"),
    "early expiry": (lambda w, s, _: w.by("north").studies.expire(s), "TooEarly"),
    "early reveal": (lambda w, s, _: w.by("north").studies.reveal(s, 1, w.nonce("north")), "WrongPhase"),
    "early draw": (lambda w, s, _: w.by("north").studies.draw(s), "WrongPhase"),
    "early capture": (lambda w, s, _: w.by("north").studies.capture(s), "WrongPhase"),
    "unknown study": (lambda w, s, _: w.by("publisher").studies.cancel(s + 1), "Unknown"),
    "study zero": (lambda w, s, _: w.by("publisher").studies.expire(0), "Unknown"),
}

RUNNING: dict[str, tuple[Step, str]] = {
    "complaint for another": (lambda w, s, c: w.by(c[0]).studies.complain(s, 0, 1, 2, 3), "NotAllowed"),
    "complaint of a stranger": (lambda w, s, c: w.by("stranger").studies.complain(s, 0, 1, 2, 3), "NotAllowed"),
    "complaint twice the same": (lambda w, s, c: w.by(c[3]).studies.complain(s, 0, 1, 1, 3), "BadField"),
    "complaint against itself": (lambda w, s, c: w.by(c[3]).studies.complain(s, 0, 3, 1, 3), "BadField"),
    "complaint about nobody": (lambda w, s, c: w.by(c[3]).studies.complain(s, 0, 4, 1, 3), "BadField"),
    "complaint about a fifth": (lambda w, s, c: w.by(c[3]).studies.complain(s, 0, 1, 5, 3), "BadField"),
    "complaint in the past": (lambda w, s, c: w.by(c[3]).studies.complain(s, 1, 0, 1, 3), "WrongAttempt"),
    "a stranger declines": (lambda w, s, c: w.by("stranger").studies.decline(s, 0), "NotAllowed"),
    "an owner declines": (lambda w, s, c: w.by("north").studies.decline(s, 0), "NotAllowed"),
    "declined in the past": (lambda w, s, c: w.by(c[3]).studies.decline(s, 1), "WrongAttempt"),
    "a stranger's challenge": (lambda w, s, c: w.by("stranger").studies.challenge(s, 0, 1), "NotAllowed"),
    "challenge of itself": (lambda w, s, c: w.by(c[1]).studies.challenge(s, 0, 1), "NotAllowed"),
    "challenge of nobody": (lambda w, s, c: w.by("north").studies.challenge(s, 0, 4), "BadField"),
    "an answer to nothing": (lambda w, s, c: w.by(c[1]).studies.answer(s, 0), "Unknown"),
    "a stranger's answer": (lambda w, s, c: w.by("stranger").studies.answer(s, 0), "NotAllowed"),
    "expiry of no challenge": (lambda w, s, c: w.by("north").studies.expire_challenge(s, 0, 1), "Unknown"),
    "cancel too late": (lambda w, s, c: w.by("publisher").studies.cancel(s), "WrongPhase"),
    "refusal too late": (lambda w, s, c: w.by("north").studies.refuse(s, ZERO_HASH), "WrongPhase"),
    "two signatures": (lambda w, s, c: _complete(w, s, c, signing=(0, 1)), "TooFewSignatures"),
    "a forged signature": (lambda w, s, c: _complete(w, s, (*c[:3], "stranger")), "BadSignature"),
    "one member four times": (lambda w, s, c: _complete(w, s, (c[0],) * 4), "BadSignature"),
    "signed for another output": (lambda w, s, c: _complete(w, s, c, claimed="other"), "BadSignature"),
    "an output of zero": (lambda w, s, c: w.by("north").studies.complete(s, 0, ZERO_HASH, [b""] * 4), "BadField"),
    "three places": (lambda w, s, c: w.by("north").studies.complete(s, 0, digest_of("o"), [b"x"] * 3), "BadField"),
    "a contradiction of one result": (lambda w, s, c: _contradict(w, s, c, ("o", "o")), "BadField"),
    "a contradiction signed by another": (lambda w, s, c: _contradict(w, s, (*c[:2], c[3], c[2])), "BadSignature"),
    "a contradiction half signed": (lambda w, s, c: _contradict(w, s, c, claimed=("o", "q")), "BadSignature"),
    "a contradiction of nobody": (lambda w, s, c: _contradict(w, s, c, position=4), "BadField"),
    "a contradiction in the past": (lambda w, s, c: _contradict(w, s, c, attempt=1), "WrongAttempt"),
    "result in the past": (
        lambda w, s, c: w.by("north").studies.complete(s, 1, digest_of("o"), [b""] * 4),
        "WrongAttempt",
    ),
}


async def _complete(
    world: World, study_id: int, members: tuple[str, ...], signing: tuple[int, ...] = (0, 1, 2, 3), claimed: str = "o"
) -> None:
    signatures = await world.result_signatures(study_id, 0, digest_of("o"), members, signing)
    await world.by("stranger").studies.complete(study_id, 0, digest_of(claimed), signatures)


async def _contradict(
    world: World,
    study_id: int,
    members: tuple[str, ...],
    signed: tuple[str, str] = ("o", "p"),
    claimed: tuple[str, str] | None = None,
    attempt: int = 0,
    position: int = 2,
) -> None:
    one, other = [await world.result_signatures(study_id, attempt, digest_of(text), members) for text in signed]
    first, second = claimed or signed
    await world.by("stranger").studies.contradict(
        study_id, attempt, position, (digest_of(first), digest_of(second)), (one[2], other[2])
    )


@pytest.mark.parametrize("name", PROPOSED)
async def test_bad_steps_before_the_lock_change_nothing(world: World, name: str) -> None:
    step, error = PROPOSED[name]
    study_id = await world.propose()
    state, before = await world.suite.studies.study_of(study_id), await wealths(world)
    with pytest.raises(Reverted) as refusal:
        await step(world, study_id, ())
    assert refusal.value.error == error
    assert await world.suite.studies.study_of(study_id) == state
    assert await wealths(world) == before


@pytest.mark.parametrize("name", RUNNING)
async def test_bad_steps_while_running_change_nothing(world: World, name: str) -> None:
    step, error = RUNNING[name]
    study_id, committee = await world.running()
    state, before = await world.suite.studies.study_of(study_id), await wealths(world)
    with pytest.raises(Reverted) as refusal:
        await step(world, study_id, committee)
    assert refusal.value.error == error
    assert await world.suite.studies.study_of(study_id) == state
    assert await wealths(world) == before


async def test_wrong_and_repeated_openings_are_refused(world: World) -> None:
    study_id = await world.locked()
    await world.push((await world.suite.studies.study_of(study_id)).draw_height)
    with pytest.raises(Reverted, match="BadOpening"):
        await world.by("north").studies.reveal(study_id, 1, digest_of("another nonce"))
    with pytest.raises(Reverted, match="BadOpening"):
        await world.by("north").studies.reveal(study_id, 1, world.nonce("south"))
    with pytest.raises(Reverted, match="BadField"):
        await world.by("north").studies.reveal(study_id, 4, world.nonce("north"))
    await world.by("north").studies.reveal(study_id, 1, world.nonce("north"))
    with pytest.raises(Reverted, match="AlreadyDone"):
        await world.by("north").studies.reveal(study_id, 1, world.nonce("north"))


async def test_late_consent_is_refused(world: World, chain: EvmChain) -> None:
    study_id = await world.propose()
    chain.sleep(1_002)
    chain.mine(1)
    with pytest.raises(Reverted, match="TooLate"):
        await world.consent(study_id, "north")


async def test_a_second_consent_is_refused(world: World) -> None:
    study_id = await world.propose()
    await world.consent(study_id, "north")
    with pytest.raises(Reverted, match="AlreadyDone"):
        await world.consent(study_id, "north")


async def test_consent_without_money_for_the_bond_is_refused(world: World) -> None:
    study_id = await world.propose()
    await world.by("north").token.approve(world.suite.studies.address, TokenAmount(0))
    with pytest.raises(Reverted, match=r"ERC20InsufficientAllowance.*approve more"):
        await world.consent(study_id, "north")
    assert not (await world.suite.studies.party_of(study_id, 1)).consented


async def test_a_member_is_challenged_once_for_each_attempt(world: World) -> None:
    study_id, committee = await world.running()
    await world.by(committee[0]).studies.challenge(study_id, 0, 1)
    await world.by(committee[1]).studies.answer(study_id, 0)
    for name in ("publisher", committee[2]):
        with pytest.raises(Reverted, match="AlreadyDone"):
            await world.by(name).studies.challenge(study_id, 0, 1)


async def test_late_challenge_is_refused(world: World, chain: EvmChain) -> None:
    study_id, _ = await world.running()
    chain.sleep(302)
    chain.mine(1)
    with pytest.raises(Reverted, match="TooLate"):
        await world.by("north").studies.challenge(study_id, 0, 1)
