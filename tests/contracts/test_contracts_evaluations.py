"""Evaluations: agreement, outliers, absence, disagreement, time-outs, and what must be refused."""
# ruff: noqa: ARG005 - the steps of a table share one signature, whether or not they need all of it

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from contracts_chain import EvmChain
from contracts_world import PROVIDERS, STAKE, World, digest_of, score
from hypothesis import given
from hypothesis import strategies as st

from koinon.contracts import evaluations as events
from koinon.contracts.evaluations import EvaluationPhase, Score, draw_seed, nonce_commitment
from koinon.contracts.refusals import Reverted
from koinon.kernel.ids import ZERO_HASH
from koinon.kernel.quantities import PartsPerMillion, TokenAmount

AGREE = ((score(900_000), score(200_000)), (score(903_000), score(190_000)), (score(899_000), score(210_001)))


async def everyone(world: World) -> dict[str, int]:
    return {name: await world.wealth(name) for name in ("publisher", *PROVIDERS)}


async def play(world: World, request_id: int, members: tuple[str, ...], scores: tuple[tuple[Score, ...], ...]) -> None:
    for name, mine in zip(members, scores, strict=True):
        await world.commit(request_id, name, mine)
    for name, mine in zip(members, scores, strict=True):
        await world.reveal(request_id, name, mine)


async def test_agreement_stores_medians_and_pays_a_fixed_fee(world: World) -> None:
    model = await world.model()
    before = await everyone(world)
    request_id, members = await world.evaluating(model)
    await play(world, request_id, members, AGREE)
    await world.by("stranger").evaluations.finalise(request_id)
    found, vector = await world.suite.evaluations.vector_of(request_id)
    assert found == model
    assert vector == (Score(900_000, 895_000, 905_000), Score(200_000, 195_000, 205_000))
    fee = world.evaluation_terms(model).fee
    after = await everyone(world)
    paid = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert paid == dict.fromkeys(members, fee) | {"publisher": -3 * fee}
    for name in members:
        report = await world.suite.evaluations.report_of(request_id, world.address(name))
        assert report.revealed
        assert report.evidence_hash == digest_of(name)
    await world.check_money()


async def test_seed_follows_from_nonce_and_block(world: World) -> None:
    request_id, _ = await world.evaluating()
    request = await world.suite.evaluations.request_of(request_id)
    assert request.entropy == (await world.client.block(request.draw_height)).hash
    assert request.seed == draw_seed(world.nonce("publisher"), request.entropy)


async def test_nobody_who_earns_from_the_model_judges_it(world: World) -> None:
    interested = tuple(world.address(name) for name in PROVIDERS[:3])
    model = await world.model(payees=interested, shares=(3_000, 3_000, 4_000))
    await world.by("publisher").assets.transfer(model, world.address("provider-3"))
    _, members = await world.evaluating(model)
    assert not set(PROVIDERS[:4]) & set(members)


async def test_wilful_outlier_loses_fee_and_stake(world: World) -> None:
    request_id, members = await world.evaluating()
    before = await everyone(world)
    lie = (score(990_000), score(200_000))
    await play(world, request_id, members, (*AGREE[:2], lie))
    await world.by("stranger").evaluations.finalise(request_id)
    (outlier,) = await world.suite.evaluations.events(events.Outlier, request_id=request_id)
    assert world.name(outlier.event.evaluator) == members[2]
    assert outlier.event.slashed == STAKE // 10
    assert (await world.suite.providers.provider_of(world.address(members[2]))).stake == STAKE - STAKE // 10
    after = await everyone(world)
    assert after[members[2]] == before[members[2]]
    assert after["publisher"] - before["publisher"] == 5_000_000 + STAKE // 10
    _, vector = await world.suite.evaluations.vector_of(request_id)
    assert vector[0].value == 903_000
    await world.check_money()


async def test_wide_interval_that_meets_the_median_is_no_outlier(world: World) -> None:
    request_id, members = await world.evaluating()
    wide = Score(PartsPerMillion(950_000), PartsPerMillion(905_000), PartsPerMillion(1_000_000))
    await play(world, request_id, members, (*AGREE[:2], (wide, score(200_000))))
    await world.by("stranger").evaluations.finalise(request_id)
    assert not await world.suite.evaluations.events(events.Outlier)


async def test_absent_evaluator_loses_fee_and_a_smaller_share(world: World, chain: EvmChain) -> None:
    request_id, members = await world.evaluating()
    for name, mine in zip(members[:2], AGREE, strict=False):
        await world.commit(request_id, name, mine)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.reveal(request_id, members[0], AGREE[0])
    chain.sleep(102)
    for name, mine in zip(members[:2], AGREE, strict=False):
        await world.reveal(request_id, name, mine)
    await world.by("stranger").evaluations.finalise(request_id)
    (absent,) = await world.suite.evaluations.events(events.Absent, request_id=request_id)
    assert (world.name(absent.event.evaluator), absent.event.slashed) == (members[2], STAKE // 50)
    _, vector = await world.suite.evaluations.vector_of(request_id)
    assert vector[0].value == 901_500
    await world.check_money()


async def test_who_commits_and_does_not_reveal_is_absent(world: World, chain: EvmChain) -> None:
    request_id, members = await world.evaluating()
    for name, mine in zip(members, AGREE, strict=True):
        await world.commit(request_id, name, mine)
    for name, mine in zip(members[:2], AGREE, strict=False):
        await world.reveal(request_id, name, mine)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.by("stranger").evaluations.finalise(request_id)
    chain.sleep(102)
    await world.by("stranger").evaluations.finalise(request_id)
    (absent,) = await world.suite.evaluations.events(events.Absent, request_id=request_id)
    assert world.name(absent.event.evaluator) == members[2]


async def test_two_who_contradict_each_other_are_both_paid_and_score_nothing(world: World, chain: EvmChain) -> None:
    request_id, members = await world.evaluating()
    for name, value in zip(members[:2], (100_000, 900_000), strict=False):
        await world.commit(request_id, name, (score(value), score(200_000)))
    chain.sleep(102)
    for name, value in zip(members[:2], (100_000, 900_000), strict=False):
        await world.reveal(request_id, name, (score(value), score(200_000)))
    await world.by("stranger").evaluations.finalise(request_id)
    (ended,) = await world.suite.evaluations.events(events.Ended)
    assert ended.event.reason == "no agreement"
    assert not await world.suite.evaluations.events(events.Outlier)
    assert await world.suite.evaluations.credit_of(world.address(members[0])) == 5_000_000
    with pytest.raises(Reverted, match="WrongPhase"):
        await world.suite.evaluations.vector_of(request_id)


@pytest.mark.parametrize("reveals", [0, 1])
async def test_too_few_reveals_give_the_rest_back(world: World, chain: EvmChain, reveals: int) -> None:
    before = await everyone(world)
    request_id, members = await world.evaluating()
    for name in members[:reveals]:
        await world.commit(request_id, name, AGREE[0])
    chain.sleep(102)
    for name in members[:reveals]:
        await world.reveal(request_id, name, AGREE[0])
    await world.by("stranger").evaluations.finalise(request_id)
    (ended,) = await world.suite.evaluations.events(events.Ended)
    assert ended.event.reason == "too few reveals"
    slashed = (3 - reveals) * (STAKE // 50)
    assert await world.wealth("publisher") - before["publisher"] == slashed - reveals * 5_000_000
    for name in members:
        assert (await world.suite.providers.provider_of(world.address(name))).locks == 0
    await world.check_money()


async def test_silent_requester_cannot_walk_away_from_the_draw(world: World, chain: EvmChain) -> None:
    request_id = await world.requested()
    await world.push((await world.suite.evaluations.request_of(request_id)).draw_height)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.by("provider-0").evaluations.draw(request_id)
    chain.sleep(102)
    await world.by("provider-0").evaluations.draw(request_id)
    request = await world.suite.evaluations.request_of(request_id)
    assert request.phase == EvaluationPhase.COMMITTING
    assert request.seed == draw_seed(request.nonce_commitment, request.entropy)


async def test_request_that_nobody_draws_gives_the_fees_back(world: World, chain: EvmChain) -> None:
    before = await everyone(world)
    request_id = await world.requested()
    with pytest.raises(Reverted, match="TooEarly"):
        await world.by("stranger").evaluations.expire(request_id)
    chain.sleep(202)
    await world.by("stranger").evaluations.expire(request_id)
    assert await everyone(world) == before


async def test_lost_block_hash_schedules_anew_and_then_refunds(world: World, chain: EvmChain) -> None:
    before = await everyone(world)
    request_id = await world.requested()
    for _ in range(4):
        chain.mine(300)
        with pytest.raises(Reverted, match="EntropyOutOfReach"):
            await world.by("publisher").evaluations.draw(request_id, world.nonce("publisher"))
        await world.by("stranger").evaluations.capture(request_id)
    assert (await world.suite.evaluations.request_of(request_id)).phase == EvaluationPhase.ENDED
    assert await everyone(world) == before


BAD_TERMS = {
    "no such model": ({"model_id": 99}, "Unknown"),
    "no criteria": ({"criteria": (), "tolerances": ()}, "BadField"),
    "nameless criterion": ({"criteria": ("", "x")}, "BadField"),
    "33 criteria": ({"criteria": ("c",) * 33, "tolerances": (1,) * 33}, "BadField"),
    "one tolerance short": ({"tolerances": (1,)}, "BadField"),
    "tolerance beyond 63 bits": ({"tolerances": (1, 2**63)}, "BadField"),
    "two evaluators": ({"evaluators": 2}, "BadField"),
    "ten evaluators": ({"evaluators": 10}, "BadField"),
    "no time to commit": ({"commit_seconds": 0}, "BadField"),
    "no time to reveal": ({"reveal_seconds": 0}, "BadField"),
    "more than the purse": ({"fee": TokenAmount(10**30)}, "ERC20InsufficientBalance"),
}


@pytest.mark.parametrize("name", BAD_TERMS)
async def test_bad_terms_are_refused_whole(world: World, name: str) -> None:
    changed, error = BAD_TERMS[name]
    model = await world.model()
    before = await everyone(world)
    terms = replace(world.evaluation_terms(model), **changed)  # type: ignore[arg-type]
    with pytest.raises(Reverted) as refusal:
        await world.by("publisher").evaluations.request(terms, digest_of("commitment"))
    assert refusal.value.error == error
    assert await world.suite.evaluations.count() == 0
    assert await everyone(world) == before


async def test_a_dataset_is_not_evaluated(world: World) -> None:
    dataset = await world.model(kind=0)
    with pytest.raises(Reverted, match=r"BadField.*modelId"):
        await world.by("publisher").evaluations.request(world.evaluation_terms(dataset), digest_of("commitment"))


Step = Callable[[World, int, tuple[str, ...]], Awaitable[object]]
COMMITTING: dict[str, tuple[Step, str]] = {
    "a stranger's commitment": (lambda w, r, m: w.commit(r, "stranger", AGREE[0]), "NotAllowed"),
    "a commitment of zero": (lambda w, r, m: w.by(m[0]).evaluations.commit(r, ZERO_HASH), "BadField"),
    "a second draw": (lambda w, r, m: w.by("publisher").evaluations.draw(r, w.nonce("publisher")), "WrongPhase"),
    "early end": (lambda w, r, m: w.by("publisher").evaluations.finalise(r), "TooEarly"),
    "early reveal": (lambda w, r, m: w.reveal(r, m[0], AGREE[0]), "TooEarly"),
    "expiry after the draw": (lambda w, r, m: w.by("publisher").evaluations.expire(r), "WrongPhase"),
    "unknown request": (lambda w, r, m: w.commit(r + 1, m[0], AGREE[0]), "Unknown"),
}


@pytest.mark.parametrize("name", COMMITTING)
async def test_bad_steps_change_nothing(world: World, name: str) -> None:
    step, error = COMMITTING[name]
    request_id, members = await world.evaluating()
    state, before = await world.suite.evaluations.request_of(request_id), await everyone(world)
    with pytest.raises(Reverted) as refusal:
        await step(world, request_id, members)
    assert refusal.value.error == error
    assert await world.suite.evaluations.request_of(request_id) == state
    assert await everyone(world) == before


async def test_only_the_very_values_of_the_commitment_open_it(world: World) -> None:
    request_id, members = await world.evaluating()
    twisted = (Score(PartsPerMillion(5), PartsPerMillion(6), PartsPerMillion(7)), score(1))
    await world.commit(request_id, members[0], AGREE[0])
    await world.commit(request_id, members[1], twisted)
    with pytest.raises(Reverted, match="AlreadyDone"):
        await world.commit(request_id, members[0], AGREE[1])
    await world.commit(request_id, members[2], AGREE[0][:1])
    with pytest.raises(Reverted, match="BadOpening"):
        await world.reveal(request_id, members[0], AGREE[1])
    with pytest.raises(Reverted, match=r"BadField.*scores"):
        await world.reveal(request_id, members[1], twisted)  # the value lies outside its interval
    with pytest.raises(Reverted, match=r"BadField.*scores"):
        await world.reveal(request_id, members[2], AGREE[0][:1])  # one criterion is missing
    await world.reveal(request_id, members[0], AGREE[0])
    with pytest.raises(Reverted, match="AlreadyDone"):
        await world.reveal(request_id, members[0], AGREE[0])


async def test_a_copied_commitment_cannot_be_opened(world: World) -> None:
    request_id, members = await world.evaluating()
    await world.commit(request_id, members[0], AGREE[0])
    stolen = await world.suite.evaluations.report_of(request_id, world.address(members[0]))
    await world.by(members[1]).evaluations.commit(request_id, stolen.commitment)
    await world.commit(request_id, members[2], AGREE[2])
    await world.reveal(request_id, members[0], AGREE[0])
    with pytest.raises(Reverted, match="BadOpening"):
        await world.by(members[1]).evaluations.reveal(request_id, AGREE[0], digest_of(members[0]), digest_of("salt"))


async def test_another_nonce_does_not_draw(world: World) -> None:
    request_id = await world.requested()
    await world.push((await world.suite.evaluations.request_of(request_id)).draw_height)
    with pytest.raises(Reverted, match="BadOpening"):
        await world.by("publisher").evaluations.draw(request_id, digest_of("a luckier nonce"))


@given(model=st.integers(0, 2**256 - 1), nonce=st.binary(min_size=32, max_size=32))
def test_commitments_differ_by_model(model: int, nonce: bytes) -> None:
    account = b"\x11" * 20
    assert nonce_commitment(account, model, nonce) != nonce_commitment(account, model ^ 1, nonce)  # type: ignore[arg-type]
