"""From evidence to the stake: real nodes accuse, plead, are drawn as judges, repeat a part, vote, and close."""

import pytest
from contracts_world import PARAMETERS, STAKE
from msgspec.structs import replace
from node_cases_world import (
    LIAR_SEAT,
    Stopped,
    completed_with_a_false_output,
    is_closed,
    provider_of,
    stages,
    stopped_by_a_lie,
    until,
)
from node_joins_world import ordered
from node_market_world import Network

from koinon.contracts.judgements import Accused, HearingStage, JudgedOutcome
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Refused
from koinon.node import disputes, orders
from koinon.node.context import Context
from koinon.node.roles.cases import CasesRole
from koinon.wire.committee import OpenedView
from koinon.wire.studies import FetchTestimony, FetchView

pytestmark = [pytest.mark.node]


async def stake_of(network: Network, context: Context) -> int:
    return int((await network.suite.providers.provider_of(context.account)).stake)


async def accused(stopped: Stopped) -> orders.CaseOpened:
    return await ordered(stopped.receiver, "case.accuse", orders.Accuse(stopped.study), orders.CaseOpened)


@pytest.mark.long
async def test_a_liar_loses_its_stake_to_an_honest_member_that_pleads(network: Network) -> None:
    stopped = await stopped_by_a_lie(network)
    honest = network.world.name(stopped.honest.account)
    before = await network.world.wealth(honest)
    case = await accused(stopped)
    assert set(case.accused) == {stopped.liar.account, stopped.honest.account}
    plea = await ordered(stopped.honest, "case.plead", orders.Plead(case.case), orders.PleaEntered)
    assert plea.finding == "KEPT"

    async def decided() -> bool:
        return HearingStage.OVER in await stages(network, case.case)

    await until(decided)
    hearing = await network.suite.judgements.hearing_of(case.case, plea.side)
    voted = [judge for judge, vote in zip(hearing.judges, hearing.votes, strict=True) if vote.name == "KEPT"]
    assert len(voted) >= 2
    network.chain.time = int((await network.suite.judgements.case_of(case.case)).deadline) + 3
    await until(lambda: is_closed(network, case.case))
    await until(lambda: stopped.kept("view") == {})
    assert await stake_of(network, stopped.honest) == STAKE
    assert await stake_of(network, stopped.liar) == STAKE - STAKE * PARAMETERS.slash_share // 10_000
    await network.world.check_money()
    taken = STAKE * PARAMETERS.slash_share // 10_000
    # It pays its judges, and has an equal part of what the liar lost with two owners and the publisher.
    assert await network.world.wealth(honest) == before - len(voted) * PARAMETERS.judge_fee + taken // 4


@pytest.mark.long
async def test_a_sample_of_what_does_not_count_and_a_liar_that_pleads(network: Network) -> None:
    stopped = await stopped_by_a_lie(network)
    liar, honest, receiver, study = stopped.liar, stopped.honest, stopped.receiver, stopped.study
    contract = network.suite.judgements
    (evidence,), views = stopped.kept("evidence").values(), stopped.kept("view")
    other_study = await network.world.propose()
    stranger = next(one for one in stopped.providers.values() if bytes(one.account) not in stopped.committee)
    damaged = evidence.with_name("damaged")
    for place in range(7, len(evidence.read_bytes()), 97):
        damaged.write_bytes(flipped(evidence.read_bytes(), place))
        with pytest.raises((Forged, InvalidInput)):
            await ordered(receiver, "case.accuse", orders.Accuse(study, str(damaged)), orders.CaseOpened)
    for accuser, order, sentence in (
        (receiver, orders.Accuse(study + 7, str(evidence)), "there is no study"),
        (receiver, orders.Accuse(other_study, str(evidence)), "not of an attempt of this study"),
        (receiver, orders.Accuse(study, str(next(iter(views.values())))), "holds OpenedView, not SealedDispute"),
        (receiver, orders.Accuse(study, str(evidence.with_name("none"))), "cannot read"),
        (receiver, orders.Accuse(other_study), "kept no evidence of study"),
        (stranger, orders.Accuse(study, str(evidence)), "has no right to do this"),
    ):
        with pytest.raises(KoinonError, match=sentence):
            await ordered(accuser, "case.accuse", order, orders.CaseOpened)
    assert await contract.events(Accused, study_id=study) == []

    case = (await accused(stopped)).case
    side = (await contract.case_of(case)).accused.index(liar.account)
    with pytest.raises(KoinonError, match="has done this already"):
        await accused(stopped)
    own_view, its_view = (views[stopped.committee.index(one.account)] for one in (honest, liar))
    forged = own_view.with_name("forged")
    opened = disputes.read(own_view, OpenedView)
    disputes.keep(forged, replace(opened, randomness=(bytes(32), *opened.randomness[1:])))
    before = {one.account: await network.world.wealth(network.world.name(one.account)) for one in (honest, liar)}
    for member, plea, sentence in (
        (honest, orders.Plead(case + 1), "nothing has the number"),
        (receiver, orders.Plead(case), "this node is not accused"),
        (honest, orders.Plead(case, str(its_view)), "the view of another position"),
        (honest, orders.Plead(case, str(evidence)), "holds SealedDispute, not OpenedView"),
        (honest, orders.Plead(case, str(forged)), "judges would take this view for none"),
        (liar, orders.Plead(case), "would find this node deviated"),
    ):
        with pytest.raises(KoinonError, match=sentence):
            await ordered(member, "case.plead", plea, orders.PleaEntered)
    assert await stages(network, case) == (HearingStage.NONE, HearingStage.NONE)
    for account, wealth in before.items():
        assert await network.world.wealth(network.world.name(account)) == wealth

    # Whoever may be drawn is away when the judges are, and one of them stays away for good.
    for account, context in stopped.providers.items():
        if account not in stopped.committee:
            await context.close()
    asking = FetchView(case, side)
    with pytest.raises(Refused, match="opens no view in that case"):
        await stranger.transport.call(liar.transport.endpoint, asking)
    await ordered(liar, "case.plead", orders.Plead(case, anyway=True), orders.PleaEntered)
    with pytest.raises(Refused, match="pleaded in case 1 already"):
        await ordered(liar, "case.plead", orders.Plead(case, anyway=True), orders.PleaEntered)

    async def sitting() -> bool:
        return HearingStage.SITTING in await stages(network, case)

    await until(sitting)
    judges = (await contract.hearing_of(case, side)).judges
    for asker, question, sentence in (
        (receiver, asking, "only a judge that the chain drew"),
        (honest, asking, "only a judge that the chain drew"),
        (stopped.providers[judges[0]], FetchView(case, 1 - side), "opens no view in that case"),
        (stopped.providers[judges[0]], FetchView(case + 1, side), "opens no view in that case"),
        (stopped.providers[judges[0]], FetchView(-1, side), "opens no view in that case"),
    ):
        with pytest.raises(Refused, match=sentence):
            await asker.transport.call(liar.transport.endpoint, question)
    for judge in judges[:2]:
        await provider_of(network, network.world.name(judge))

    async def decided() -> bool:
        return HearingStage.OVER in await stages(network, case)

    await until(decided)
    assert (await contract.case_of(case)).outcomes[side] == JudgedOutcome.DEVIATED
    assert await stake_of(network, liar) == STAKE - STAKE * PARAMETERS.slash_share // 10_000
    network.chain.time = int((await contract.case_of(case)).deadline) + 3
    await until(lambda: is_closed(network, case))
    with pytest.raises(Refused, match="the time to plead in case 1 is over"):
        await ordered(honest, "case.plead", orders.Plead(case), orders.PleaEntered)
    assert await stake_of(network, honest) == STAKE
    await network.world.check_money()


@pytest.mark.long
async def test_a_sample_of_a_member_that_confirms_another_key_and_is_accused_alone(network: Network) -> None:
    """What names it is put together from what three members were told; nobody opens a view."""
    stopped = await stopped_by_a_lie(network, round_number=3)
    liar, study, contract = stopped.liar, stopped.study, network.suite.judgements
    # The receiver of the lie and the third holder of the key; the liar, which would not, shows what it was told too.
    await until(lambda: len(set(stopped.kept("testimony")) - {LIAR_SEAT}) == 2)
    assert not set(stopped.kept("evidence")) - {LIAR_SEAT}
    assert stopped.kept("view") == {}
    for study_number, attempt in ((study, -1), (study, 16), (0, 0)):
        question = FetchTestimony(study_number, attempt)
        with pytest.raises(InvalidInput, match="no such attempt"):
            await stopped.publisher.transport.call(stopped.at(3).transport.endpoint, question)
    owner = stopped.owners[0]
    CasesRole(owner).attach()
    accuser = network.world.name(owner.account)
    before = await network.world.wealth(accuser)
    case = await ordered(owner, "case.accuse", orders.Accuse(study), orders.CaseOpened)
    assert case.accused == (liar.account,)
    assert case.paid == 3 * PARAMETERS.judge_fee
    with pytest.raises(Refused, match="own signatures contradict each other"):
        await ordered(liar, "case.plead", orders.Plead(case.case, anyway=True), orders.PleaEntered)
    await until(lambda: is_closed(network, case.case))
    found = await contract.case_of(case.case)
    assert found.outcomes[0] == JudgedOutcome.DEVIATED
    taken = STAKE * PARAMETERS.slash_share // 10_000
    stakes = [await stake_of(network, stopped.at(position)) for position in range(4)]
    assert stakes == [STAKE - taken * (position == LIAR_SEAT) for position in range(4)]
    voted = [vote for vote in (await contract.hearing_of(case.case, 0)).votes if vote.name != "NONE"]
    # Two owners, the publisher and the accuser share the stake: this owner has two parts.
    assert await network.world.wealth(accuser) == before - len(voted) * PARAMETERS.judge_fee + 2 * (taken // 4)
    await network.world.check_money()


@pytest.mark.long
async def test_an_output_that_nobody_agreed_on_costs_its_author_stake(network: Network) -> None:
    study, publisher, providers = await completed_with_a_false_output(network)
    committee = await network.suite.studies.committee_of(study, 0)
    charged = await ordered(publisher, "case.accuse", orders.Accuse(study), orders.CaseOpened)
    taken = STAKE * PARAMETERS.slash_share // 10_000
    assert (charged.case, charged.accused, charged.taken) == (0, (committee[LIAR_SEAT],), taken)
    for position, member in enumerate(committee):
        assert await stake_of(network, providers[member]) == STAKE - taken * (position == LIAR_SEAT)
    with pytest.raises(InvalidInput, match="names none of them"):
        await ordered(publisher, "case.accuse", orders.Accuse(study), orders.CaseOpened)
    await network.world.check_money()


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
