"""From evidence to the stake: real nodes accuse, plead, are drawn as judges, repeat a part, vote, and close."""

import pytest
from contracts_world import PARAMETERS, STAKE
from node_cases_world import Stopped, is_closed, stages, stopped_by_a_lie, until
from node_joins_world import ordered
from node_market_world import Network

from koinon.contracts.judgements import HearingStage
from koinon.node import orders
from koinon.node.context import Context

pytestmark = [pytest.mark.node]


async def stake_of(network: Network, context: Context) -> int:
    return int((await network.suite.providers.provider_of(context.account)).stake)


async def accused(stopped: Stopped) -> orders.CaseOpened:
    return await ordered(stopped.receiver, "case.accuse", orders.Accuse(stopped.study), orders.CaseOpened)


@pytest.mark.long
async def test_a_sample_of_a_liar_that_loses_its_stake_to_an_honest_member_that_pleads(network: Network) -> None:
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
