"""Judgements: who of two members lied, heard by judges of its own; every way out, every step that must be refused."""

# ruff: noqa: ARG005 - the steps of a table share one signature, whether or not they need all of it

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
from contracts_chain import EvmChain
from contracts_world import OWNERS, PARAMETERS, PROVIDERS, STAKE, World, digest_of, key_of

from koinon.contracts import eip712
from koinon.contracts.judgements import Convicted, HearingStage, JudgedOutcome
from koinon.contracts.providers import Role
from koinon.contracts.refusals import Reverted
from koinon.crypto.hash import keccak256
from koinon.kernel.ids import ZERO_HASH, Hash32, NodeId

KEPT, DEVIATED, UNOPENED, UNPROVEN = (
    JudgedOutcome.KEPT,
    JudgedOutcome.DEVIATED,
    JudgedOutcome.UNOPENED,
    JudgedOutcome.UNPROVEN,
)
SENDER, BACKUP = 0, 1
FEE = PARAMETERS.judge_fee
TAKEN = STAKE * PARAMETERS.slash_share // 10_000
EVIDENCE = digest_of("evidence")


@dataclass
class Court:
    """A case about the first attempt of a study: position 1 sent, position 2 backed up, position 3 received."""

    world: World
    chain: EvmChain
    study: int
    committee: tuple[str, ...]
    case: int = 0

    @property
    def accused(self) -> tuple[str, str]:
        return self.committee[1], self.committee[2]

    async def plead(self, side: int) -> tuple[str, ...]:
        """Plead and draw judges."""
        await self.world.by(self.accused[side]).judgements.plead(self.case, side)
        hearing = await self.world.suite.judgements.hearing_of(self.case, side)
        await self.world.push(hearing.draw_height)
        judges = await self.world.by("stranger").judgements.convene(self.case, side)
        return tuple(self.world.name(judge) for judge in judges)

    async def decide(self, side: int, outcome: JudgedOutcome) -> tuple[str, ...]:
        judges = await self.plead(side)
        for judge in judges[:2]:
            await self.world.by(judge).judgements.vote(self.case, side, outcome)
        return judges

    async def stakes(self) -> tuple[int, int]:
        """What the two lost."""
        one, other = [await self.world.suite.providers.provider_of(self.world.address(n)) for n in self.accused]
        return STAKE - one.stake, STAKE - other.stake

    async def close(self) -> tuple[int, int]:
        await self.world.by("stranger").judgements.close(self.case)
        await self.world.check_money()
        for name in PROVIDERS:
            assert (await self.world.suite.providers.provider_of(self.world.address(name))).locks == 0
        assert await self.world.suite.judgements.total_held() == 0
        return await self.stakes()


def wait(chain: EvmChain, seconds: int) -> None:
    """Time passes, and blocks are made."""
    chain.sleep(seconds)
    chain.mine(5)


async def stopped(world: World, chain: EvmChain, attempts: int = 1, owners: tuple[str, ...] = OWNERS) -> Court:
    """A study that ended with a complaint."""
    study, committee = await world.running(replace(await world.terms(owners), maximum_attempts=attempts))
    await world.by(committee[3]).studies.complain(study, 0, 1, 2, 3)
    return Court(world, chain, study, committee)


async def accused(world: World, chain: EvmChain, owners: tuple[str, ...] = OWNERS) -> Court:
    court = await stopped(world, chain, owners=owners)
    court.case = await world.by(court.committee[3]).judgements.accuse(court.study, 0, 1, 2, EVIDENCE)
    return court


async def test_the_committee_of_a_stopped_attempt_is_remembered(world: World, chain: EvmChain) -> None:
    court = await stopped(world, chain, attempts=2)
    assert (await world.suite.studies.study_of(court.study)).committee == ()
    members = await world.suite.studies.committee_of(court.study, 0)
    assert tuple(world.name(member) for member in members) == court.committee
    assert await world.suite.studies.committee_of(court.study, 1) == ()


async def test_a_liar_found_by_its_own_judges_pays_at_once(world: World, chain: EvmChain) -> None:
    court = await accused(world, chain)
    before = {name: await world.wealth(name) for name in ("publisher", *OWNERS, *PROVIDERS)}
    judges = await court.decide(BACKUP, DEVIATED)
    assert not set(judges) & set(court.committee)
    assert await court.stakes() == (0, TAKEN)
    (told,) = await world.suite.judgements.events(Convicted, case_id=court.case)
    assert (world.name(told.event.member), told.event.slashed) == (court.accused[BACKUP], TAKEN)
    after = {name: await world.wealth(name) for name in before}
    fourth, remainder = divmod(TAKEN, 4)
    expected = dict.fromkeys(OWNERS, fourth) | {"publisher": fourth + remainder}
    expected |= {judges[0]: FEE, judges[1]: FEE, court.accused[BACKUP]: -2 * FEE}
    assert {name: after[name] - before[name] for name in before if after[name] != before[name]} == expected
    wait(chain, PARAMETERS.plead_seconds + 1)
    assert await court.close() == (0, TAKEN)


async def test_there_are_no_judges_left_for_the_other(world: World, chain: EvmChain) -> None:
    """Who pleads and finds no judges is not convicted by the other's clearance."""
    court = await accused(world, chain)
    await court.decide(SENDER, KEPT)
    with pytest.raises(Reverted, match="NotEnoughProviders"):
        await court.plead(BACKUP)
    wait(chain, PARAMETERS.judge_seconds + PARAMETERS.plead_seconds + 1)
    await world.by("stranger").judgements.adjourn(court.case, BACKUP)
    assert await court.close() == (0, 0)


async def test_who_lets_the_other_be_cleared_and_stays_silent_pays(world: World, chain: EvmChain) -> None:
    court = await accused(world, chain)
    wait(chain, PARAMETERS.plead_seconds - 20)
    await court.decide(SENDER, KEPT)
    # The time to plead begins anew for the other.
    wait(chain, PARAMETERS.plead_seconds - 20)
    with pytest.raises(Reverted, match="TooEarly"):
        await court.close()
    cleared = await world.wealth(court.accused[SENDER])
    wait(chain, 30)
    assert await court.close() == (0, TAKEN)
    assert await world.wealth(court.accused[SENDER]) == cleared + TAKEN // 5
    with pytest.raises(Reverted, match="AlreadyDone"):
        await world.by("stranger").judgements.close(court.case)


OUTCOMES = {
    "both cleared": ((KEPT, KEPT), (0, 0)),
    "both lied": ((DEVIATED, DEVIATED), (TAKEN, TAKEN)),
    "one cleared, one lied": ((KEPT, DEVIATED), (0, TAKEN)),
    "one cleared, one opened nothing": ((KEPT, UNOPENED), (0, TAKEN)),
    "one cleared, one not to be judged": ((KEPT, UNPROVEN), (0, 0)),
    "nothing proven": ((UNPROVEN, UNPROVEN), (0, 0)),
    "nobody opened": ((UNOPENED, UNOPENED), (0, 0)),
}


SLOW = {"both lied", "one cleared, one lied", "one cleared, one not to be judged", "nothing proven", "nobody opened"}


@pytest.mark.parametrize("case", [pytest.param(n, marks=pytest.mark.long if n in SLOW else ()) for n in OUTCOMES])
async def test_what_two_hearings_cost(case: str, world: World, chain: EvmChain) -> None:
    """With more providers there are judges for both, and none that hears both."""
    court = await accused(world, chain, ("north",))
    for name in ("south", "west", "buyer", "stranger"):
        own = world.by(name)
        await own.providers.register(NodeId(digest_of(f"node {name}")), digest_of(name), Role.COMPUTE)
        await own.providers.stake(STAKE)
    outcomes, expected = OUTCOMES[case]
    first = await court.decide(SENDER, outcomes[0])
    second = await court.decide(BACKUP, outcomes[1])
    assert not set(first) & set(second)
    assert await court.close() == expected


async def test_nobody_pleads_and_nobody_pays(world: World, chain: EvmChain) -> None:
    court = await accused(world, chain)
    with pytest.raises(Reverted, match="TooEarly"):
        await court.close()
    wait(chain, PARAMETERS.plead_seconds + 1)
    with pytest.raises(Reverted, match="TooLate"):
        await world.by(court.accused[SENDER]).judgements.plead(court.case, SENDER)
    assert await court.close() == (0, 0)


@pytest.mark.parametrize(
    "voting", [pytest.param(0, marks=pytest.mark.long), pytest.param(1, marks=pytest.mark.long), 2]
)
async def test_judges_that_do_not_agree_in_time_cost_nobody_stake(voting: int, world: World, chain: EvmChain) -> None:
    court = await accused(world, chain)
    before = await world.wealth(court.accused[SENDER])
    judges = await court.plead(SENDER)
    for judge, outcome in zip(judges[:voting], (KEPT, DEVIATED), strict=False):
        await world.by(judge).judgements.vote(court.case, SENDER, outcome)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.by("stranger").judgements.adjourn(court.case, SENDER)
    with pytest.raises(Reverted, match="WrongPhase"):
        await world.by("stranger").judgements.close(court.case)
    wait(chain, PARAMETERS.judge_seconds + PARAMETERS.plead_seconds + 1)
    with pytest.raises(Reverted, match="TooLate"):
        await world.by(judges[2]).judgements.vote(court.case, SENDER, KEPT)
    await world.by("stranger").judgements.adjourn(court.case, SENDER)
    assert (await world.suite.judgements.hearing_of(court.case, SENDER)).stage == HearingStage.OVER
    assert await court.close() == (0, 0)
    assert await world.wealth(court.accused[SENDER]) == before - voting * FEE


async def test_a_plea_without_judges_gives_the_fees_back(world: World, chain: EvmChain) -> None:
    court = await accused(world, chain)
    before = await world.wealth(court.accused[BACKUP])
    await world.by(court.accused[BACKUP]).judgements.plead(court.case, BACKUP)
    assert await world.wealth(court.accused[BACKUP]) == before - 3 * FEE
    wait(chain, PARAMETERS.judge_seconds + PARAMETERS.plead_seconds + 1)
    with pytest.raises(Reverted, match="TooLate"):
        await world.by("stranger").judgements.convene(court.case, BACKUP)
    await world.by("stranger").judgements.adjourn(court.case, BACKUP)
    assert await world.wealth(court.accused[BACKUP]) == before
    assert await court.close() == (0, 0)


async def test_a_draw_out_of_reach_is_scheduled_anew(world: World, chain: EvmChain) -> None:
    court = await accused(world, chain)
    await world.by(court.accused[SENDER]).judgements.plead(court.case, SENDER)
    with pytest.raises(Reverted, match="HeightNotReached"):
        await world.by("stranger").judgements.convene(court.case, SENDER)
    for _ in range(3):
        chain.mine(300)
        assert await world.by("stranger").judgements.convene(court.case, SENDER) == ()
    chain.mine(300)
    with pytest.raises(Reverted, match="TooLate"):
        await world.by("stranger").judgements.convene(court.case, SENDER)


Step = Callable[[World, Court], Awaitable[object]]
REFUSED: dict[str, tuple[Step, str]] = {
    "accused by a stranger": (lambda w, c: w.by("buyer").judgements.accuse(c.study, 0, 0, 1, EVIDENCE), "NotAllowed"),
    "accused twice by one": (
        lambda w, c: w.by(c.committee[3]).judgements.accuse(c.study, 0, 0, 1, EVIDENCE),
        "AlreadyDone",
    ),
    "accused of the same": (lambda w, c: w.by("north").judgements.accuse(c.study, 0, 1, 2, EVIDENCE), "AlreadyDone"),
    "no such study": (lambda w, c: w.by("north").judgements.accuse(9, 0, 0, 1, EVIDENCE), "Unknown"),
    "no such attempt": (lambda w, c: w.by("north").judgements.accuse(c.study, 1, 0, 1, EVIDENCE), "Unknown"),
    "no such sender": (lambda w, c: w.by("north").judgements.accuse(c.study, 0, 4, 1, EVIDENCE), "BadField"),
    "no such backup": (lambda w, c: w.by("north").judgements.accuse(c.study, 0, 0, 4, EVIDENCE), "BadField"),
    "sender is backup": (lambda w, c: w.by("north").judgements.accuse(c.study, 0, 2, 2, EVIDENCE), "BadField"),
    "no evidence": (lambda w, c: w.by("north").judgements.accuse(c.study, 0, 1, 2, ZERO_HASH), "BadField"),
    "plea of another": (lambda w, c: w.by(c.committee[0]).judgements.plead(c.case, SENDER), "NotAllowed"),
    "plea for the other side": (lambda w, c: w.by(c.accused[0]).judgements.plead(c.case, BACKUP), "NotAllowed"),
    "plea for no side": (lambda w, c: w.by(c.accused[0]).judgements.plead(c.case, 2), "BadField"),
    "plea in no case": (lambda w, c: w.by(c.accused[0]).judgements.plead(c.case + 1, SENDER), "Unknown"),
    "plea twice": (lambda w, c: w.by(c.accused[0]).judgements.plead(c.case, SENDER), "AlreadyDone"),
    "judges of nobody": (lambda w, c: w.by("stranger").judgements.convene(c.case, BACKUP), "WrongPhase"),
    "judges twice": (lambda w, c: w.by("stranger").judgements.convene(c.case, SENDER), "WrongPhase"),
    "vote of a stranger": (lambda w, c: w.by("stranger").judgements.vote(c.case, SENDER, KEPT), "NotAllowed"),
    "vote of the accused": (lambda w, c: w.by(c.accused[0]).judgements.vote(c.case, SENDER, KEPT), "NotAllowed"),
    "vote without a hearing": (lambda w, c: w.by("stranger").judgements.vote(c.case, BACKUP, KEPT), "WrongPhase"),
    "vote for nothing": (lambda w, c: w.by("stranger").judgements.vote(c.case, SENDER, JudgedOutcome.NONE), "BadField"),
    "adjourning nothing": (lambda w, c: w.by("stranger").judgements.adjourn(c.case, BACKUP), "WrongPhase"),
    "closing during a hearing": (lambda w, c: w.by("stranger").judgements.close(c.case), "WrongPhase"),
}


async def test_refused_steps_change_nothing(world: World, chain: EvmChain) -> None:
    court = await accused(world, chain)
    judges = await court.plead(SENDER)
    contract = world.suite.judgements
    before = (await contract.case_of(court.case), await contract.hearing_of(court.case, SENDER))
    for case, (step, reason) in REFUSED.items():
        with pytest.raises(Reverted, match=reason):
            await step(world, court)
        assert (await contract.case_of(court.case), await contract.hearing_of(court.case, SENDER)) == before, case
    await world.check_money()
    await world.by(judges[0]).judgements.vote(court.case, SENDER, DEVIATED)
    with pytest.raises(Reverted, match="AlreadyDone"):
        await world.by(judges[0]).judgements.vote(court.case, SENDER, DEVIATED)
    assert await court.stakes() == (0, 0)


async def test_an_attempt_that_runs_or_completed_is_not_judged(world: World) -> None:
    study, committee = await world.running()
    with pytest.raises(Reverted, match="WrongPhase"):
        await world.by(committee[0]).judgements.accuse(study, 0, 1, 2, EVIDENCE)
    output = digest_of("output")
    signatures = await world.result_signatures(study, 0, output, committee)
    await world.by("stranger").studies.complete(study, 0, output, signatures)
    with pytest.raises(Reverted, match="WrongPhase"):
        await world.by(committee[0]).judgements.accuse(study, 0, 1, 2, EVIDENCE)


# A member accused alone.


async def accused_alone(world: World, chain: EvmChain, accuser: str = "") -> Court:
    """Position 2 of a stopped attempt, on evidence of position 3's; its judges are drawn."""
    court = await stopped(world, chain)
    own = world.by(accuser or court.committee[3]).judgements
    court.case = await own.accuse_one(court.study, 0, 2, EVIDENCE)
    await world.push((await own.hearing_of(court.case, 0)).draw_height)
    await world.by("stranger").judgements.convene(court.case, 0)
    return court


async def votes(court: Court, *outcomes: JudgedOutcome) -> tuple[str, ...]:
    hearing = await court.world.suite.judgements.hearing_of(court.case, 0)
    judges = tuple(court.world.name(judge) for judge in hearing.judges)
    for judge, outcome in zip(judges, outcomes, strict=False):
        await court.world.by(judge).judgements.vote(court.case, 0, outcome)
    return judges


async def closed(court: Court) -> tuple[int, int]:
    """What positions 1 and 2 lost; the case ended by itself."""
    assert (await court.world.suite.judgements.case_of(court.case)).closed
    with pytest.raises(Reverted, match="AlreadyDone"):
        await court.world.by("stranger").judgements.close(court.case)
    await court.world.check_money()
    assert await court.world.suite.judgements.total_held() == 0
    return await court.stakes()


async def test_who_accuses_one_pays_its_judges_and_has_a_part_of_the_stake(world: World, chain: EvmChain) -> None:
    court = await accused_alone(world, chain)
    accuser = court.committee[3]
    before = {name: await world.wealth(name) for name in ("publisher", *OWNERS, *PROVIDERS)}
    judges = await votes(court, DEVIATED, DEVIATED)
    assert not set(judges) & set(court.committee)
    assert await closed(court) == (0, TAKEN)
    after = {name: await world.wealth(name) for name in before}
    fifth, remainder = divmod(TAKEN, 5)
    expected = dict.fromkeys(OWNERS, fifth) | {"publisher": fifth + remainder}
    expected |= {judges[0]: FEE, judges[1]: FEE, accuser: fifth + FEE}
    assert {name: after[name] - before[name] for name in before if after[name] != before[name]} == expected


@pytest.mark.parametrize(
    ("outcome", "taken"), [(KEPT, 0), (UNPROVEN, 0), pytest.param(UNOPENED, TAKEN, marks=pytest.mark.long)]
)
async def test_what_judges_of_one_may_find(outcome: JudgedOutcome, taken: int, world: World, chain: EvmChain) -> None:
    """Who is accused alone on good evidence and opens nothing that clears it pays; on bad evidence nobody does."""
    court = await accused_alone(world, chain, "north")
    before = await world.wealth("publisher")
    await votes(court, outcome, outcome)
    assert await closed(court) == (0, taken)
    assert (await world.wealth("publisher") > before) is (taken > 0)


@pytest.mark.parametrize("voting", [0, pytest.param(1, marks=pytest.mark.long)])
async def test_a_case_about_one_without_a_verdict_ends_and_gives_back(
    voting: int, world: World, chain: EvmChain
) -> None:
    court = await accused_alone(world, chain)
    accuser = court.committee[3]
    before = await world.wealth(accuser)
    await votes(court, *(DEVIATED,) * voting)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.by("stranger").judgements.adjourn(court.case, 0)
    # The accused has the time of a plea to open its part, beside that of its judges.
    wait(chain, PARAMETERS.judge_seconds + PARAMETERS.plead_seconds - 20)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.by("stranger").judgements.adjourn(court.case, 0)
    wait(chain, 40)
    await world.by("stranger").judgements.adjourn(court.case, 0)
    assert await closed(court) == (0, 0)
    assert await world.wealth(accuser) == before + (3 - voting) * FEE


async def test_nobody_pays_twice_for_one_attempt(world: World, chain: EvmChain) -> None:
    court = await accused_alone(world, chain)
    await votes(court, DEVIATED, DEVIATED)
    own = world.by("north").judgements
    court.case = await own.accuse_one(court.study, 0, 2, digest_of("other evidence"))
    await world.push((await own.hearing_of(court.case, 0)).draw_height)
    await world.by("stranger").judgements.convene(court.case, 0)
    await votes(court, DEVIATED, DEVIATED)
    assert await closed(court) == (0, TAKEN)


async def test_a_false_accusation_keeps_nobody_from_a_true_one(world: World, chain: EvmChain) -> None:
    court = await stopped(world, chain)
    await world.by(court.committee[1]).judgements.accuse(court.study, 0, 0, 3, digest_of("made up"))
    await world.by(court.committee[1]).judgements.accuse_one(court.study, 0, 3, digest_of("made up"))
    await world.by(court.committee[0]).judgements.accuse(court.study, 0, 2, 1, EVIDENCE)
    assert await world.by(court.committee[3]).judgements.accuse(court.study, 0, 1, 2, EVIDENCE) == 4


REFUSED_ALONE: dict[str, tuple[Step, str]] = {
    "by a stranger": (lambda w, c: w.by("buyer").judgements.accuse_one(c.study, 0, 2, EVIDENCE), "NotAllowed"),
    "by itself": (lambda w, c: w.by(c.committee[2]).judgements.accuse_one(c.study, 0, 2, EVIDENCE), "NotAllowed"),
    "the same again": (lambda w, c: w.by("north").judgements.accuse_one(c.study, 0, 2, EVIDENCE), "AlreadyDone"),
    "nobody": (lambda w, c: w.by("north").judgements.accuse_one(c.study, 0, 4, EVIDENCE), "BadField"),
    "no evidence": (lambda w, c: w.by("north").judgements.accuse_one(c.study, 0, 2, ZERO_HASH), "BadField"),
    "no such attempt": (lambda w, c: w.by("north").judgements.accuse_one(c.study, 1, 2, EVIDENCE), "Unknown"),
    "plea": (lambda w, c: w.by(c.committee[2]).judgements.plead(c.case, 0), "AlreadyDone"),
    "plea of a second": (lambda w, c: w.by(c.committee[1]).judgements.plead(c.case, 1), "BadField"),
    "judges of a second": (lambda w, c: w.by("stranger").judgements.convene(c.case, 1), "BadField"),
    "vote about a second": (lambda w, c: w.by("stranger").judgements.vote(c.case, 1, DEVIATED), "BadField"),
    "vote of the accused": (lambda w, c: w.by(c.committee[2]).judgements.vote(c.case, 0, KEPT), "NotAllowed"),
    "closing a hearing": (lambda w, c: w.by("stranger").judgements.close(c.case), "WrongPhase"),
}


async def test_refused_steps_against_one_change_nothing(world: World, chain: EvmChain) -> None:
    court = await accused_alone(world, chain)
    contract = world.suite.judgements
    before = (await contract.case_of(court.case), await contract.hearing_of(court.case, 0))
    for case, (step, reason) in REFUSED_ALONE.items():
        with pytest.raises(Reverted, match=reason):
            await step(world, court)
        assert (await contract.case_of(court.case), await contract.hearing_of(court.case, 0)) == before, case
    await world.check_money()


# What a member handed to the result party.

DIGESTS = tuple(digest_of(f"component {j}") for j in range(4))


async def handed_signature(world: World, study: int, name: str, position: int, handed: tuple[Hash32, ...]) -> bytes:
    domain = await world.suite.judgements.domain()
    return key_of(name).sign_digest(eip712.handed_digest(domain, study, 0, position, handed))


async def test_a_signed_output_that_is_not_what_was_agreed_costs_its_author_stake(world: World) -> None:
    study, committee = await world.running()
    output = keccak256(b"".join(DIGESTS))
    signatures = await world.result_signatures(study, 0, output, committee)
    own = world.by("stranger").judgements
    liar, right, false = committee[1], (DIGESTS[0], *DIGESTS[2:]), (DIGESTS[0], DIGESTS[2], digest_of("other"))
    signed = await handed_signature(world, study, liar, 1, false)
    with pytest.raises(Reverted, match="WrongPhase"):
        await own.contradict_output(study, 1, DIGESTS, false, signed)
    await world.by("stranger").studies.complete(study, 0, output, signatures)
    honest = await handed_signature(world, study, liar, 1, right)
    other = (digest_of("x"), *DIGESTS[1:])
    for position, digests, handed, signature, reason in (
        (1, DIGESTS, right, honest, "BadField"),
        (1, DIGESTS, false, honest, "BadSignature"),
        (2, DIGESTS, false, signed, "BadSignature"),
        (4, DIGESTS, false, signed, "BadField"),
        (1, other, false, signed, "BadField"),
    ):
        with pytest.raises(Reverted, match=reason):
            await own.contradict_output(study, position, digests, handed, signature)
    assert await own.contradict_output(study, 1, DIGESTS, false, signed) == TAKEN
    assert (await world.suite.providers.provider_of(world.address(liar))).stake == STAKE - TAKEN
    with pytest.raises(Reverted, match="AlreadyDone"):
        await own.contradict_output(study, 1, DIGESTS, false, signed)
    await world.check_money()
