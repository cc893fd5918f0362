"""From a trained output to a validated model, and everybody who must not get the key on the way."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from contracts_world import PROVIDERS, score
from node_market_world import (
    COLUMNS,
    TARGET,
    Network,
    desk_of,
    rows_for_evaluation,
    trained_model,
)

from koinon.contracts.evaluations import EvaluationPhase
from koinon.data.table import write_csv
from koinon.journey.harden import harden
from koinon.journey.name import name as take_name
from koinon.journey.package import fetch_model, manifest_of, open_own, uri_of
from koinon.journey.publish import publish, revenue_split
from koinon.journey.results import Hardened, Output, Published, Validated
from koinon.journey.validate import validate
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, Refused, Unavailable
from koinon.kernel.quantities import TokenAmount
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles.evaluator import Assignment, EvaluatorRole, Prepared
from koinon.node.roles.market import ModelKeys
from koinon.trust.evidence import decode_evidence, evidence_hash
from koinon.wire.studies import (
    EvaluationEvidenceReply,
    FetchEvaluationEvidence,
    FetchEvaluationPlan,
    FetchModelKey,
)

FEE = TokenAmount(5_000_000)


@dataclass
class Wanted:
    """What ``validate`` is asked for."""

    hardened: Hardened
    evaluators: int = 3
    fee: TokenAmount = FEE
    commit_seconds: int = 120
    reveal_seconds: int = 60
    effort: float = 0.05


async def published_by(network: Network) -> tuple[Context, list[Context], Published]:
    publisher = await network.node("publisher", ("publisher",))
    ModelKeys(publisher).attach()
    providers = [await network.node(name, ("evaluator",)) for name in PROVIDERS]
    trained, study = await trained_model(network)
    desk, _ = desk_of(publisher)
    return publisher, providers, await publish(desk, trained, study, "illness-risk", 2)


def unhardened(published: Published) -> Hardened:
    return Hardened(published, "tabular", (), published.model, published.weights_hash, published.manifest)


async def test_a_published_model_is_minted_with_its_origin_and_split(network: Network) -> None:
    publisher, _, published = await published_by(network)
    asset = await network.suite.assets.asset_of(published.model)
    assert asset.content_hash == published.weights_hash
    assert asset.uri == uri_of(published.manifest)
    assert asset.parents == published.dataset_assets
    assert asset.study_id == published.trained.study.number
    assert sum(asset.shares) == 10_000
    assert asset.shares == (4000, 2000, 2000, 2000)
    assert len(published.replicas) == 2
    package = await open_own(desk_of(publisher)[0], manifest_of(asset.uri))
    assert package.card.contributions[0].rows == 40
    assert package.card.features == COLUMNS


async def test_a_model_that_nobody_else_keeps_is_not_published(network: Network) -> None:
    publisher = await network.node("publisher", ("publisher",))
    await network.node("provider-0")
    trained, study = await trained_model(network)
    before = await network.suite.assets.count()
    with pytest.raises(Unavailable, match="only 1 providers keep"):
        await publish(desk_of(publisher)[0], trained, study, "illness-risk", 2)
    assert await network.suite.assets.count() == before


async def test_an_output_of_another_width_is_refused_whole(network: Network) -> None:
    import msgspec

    publisher = await network.node("publisher", ("publisher",))
    trained, study = await trained_model(network)
    coefficients, intercept = trained.outputs
    short = msgspec.structs.replace(coefficients, shape=(2,), values=coefficients.values[:2])
    for outputs, sentence in (
        ((short, intercept), r"shape \(2,\) and must have \(3,\)"),
        ((intercept,), "not those that the study declares"),
        ((msgspec.structs.replace(short, shape=(3,)), intercept), "does not fill its shape"),
    ):
        wrong = msgspec.structs.replace(trained, outputs=outputs)
        with pytest.raises(InvalidInput, match=sentence):
            await publish(desk_of(publisher)[0], wrong, study, "illness-risk", 2)


async def test_the_split_of_a_study_is_whole_and_leaves_out_who_gets_nothing(network: Network) -> None:
    import msgspec

    trained, study = await trained_model(network)
    for revenue, payees in ((0, 1), (1, 4), (3333, 4)):
        accounts, shares = revenue_split(msgspec.structs.replace(study, owner_revenue=revenue), trained)
        assert sum(shares) == 10_000
        assert len(accounts) == len(shares) == payees
    # By worth: the same together, nothing for rows that did harm.
    valued = msgspec.structs.replace(trained, outputs=(*trained.outputs, Output("worth", (3,), (0.2, -0.01, 0.1))))
    accounts, shares = revenue_split(msgspec.structs.replace(study, owner_revenue=2_000), valued)
    assert accounts == (study.publisher.account, study.owners[0].account, study.owners[2].account)
    assert shares == (4_000, 4_000, 2_000)


async def test_nobody_gets_a_key_without_a_draw_or_a_contract(network: Network) -> None:
    publisher, providers, published = await published_by(network)
    for purpose in ("evaluate", "serve", "curiosity"):
        for model in (published.model, 1, 0, 10**9, -1, 2**64 - 1):
            for reference in (1, 0, published.model, -1, 2**64 - 1):
                request = FetchModelKey(model, purpose, reference)
                with pytest.raises(InvalidInput):
                    await providers[0].transport.call(publisher.transport.endpoint, request)
    for evaluation in (0, 1, -1, 2**64 - 1):
        with pytest.raises(InvalidInput):
            await providers[0].transport.call(publisher.transport.endpoint, FetchEvaluationPlan(evaluation))


async def test_the_key_goes_to_the_drawn_and_to_nobody_else(network: Network) -> None:
    _publisher, providers, published = await published_by(network)
    number, drawn = await network.world.evaluating(published.model)
    by_name = dict(zip(PROVIDERS, providers, strict=True))
    for name, provider in by_name.items():
        desk, _ = desk_of(provider)
        if name in drawn:
            opened = await fetch_model(desk, published.model, "evaluate", number)
            assert opened.weights_hash == published.weights_hash
        else:
            with pytest.raises(Refused, match="did not draw you"):
                await fetch_model(desk, published.model, "evaluate", number)
    network.chain.sleep(101)
    late = by_name[drawn[0]]
    with pytest.raises(Refused, match="no more commitments"):
        await fetch_model(desk_of(late)[0], published.model, "evaluate", number)
    stranger = await network.node("stranger")
    with pytest.raises(Refused, match="did not draw you"):
        await fetch_model(desk_of(stranger)[0], published.model, "evaluate", number)


async def test_a_blob_that_one_replica_has_changed_is_taken_from_another(network: Network) -> None:
    _publisher, providers, published = await published_by(network)
    number, drawn = await network.world.evaluating(published.model)
    liar = next(one for one in providers if one.keys.node.node_id == published.replicas[0])
    store = network.blobs[liar.config.name]
    for held in list(store._blobs):
        store._blobs[held] = b"something else"
    reader = next(
        one for one in providers if one.config.name in drawn and one.keys.node.node_id not in published.replicas
    )
    opened = await fetch_model(desk_of(reader)[0], published.model, "evaluate", number)
    assert opened.weights_hash == published.weights_hash


async def test_the_name_of_somebody_else_is_refused_and_ones_own_is_kept(network: Network) -> None:
    publisher, _, published = await published_by(network)
    validated = Validated(unhardened(published), 1, (), (), (), "A")
    desk, _ = desk_of(publisher)
    assert (await take_name(desk, validated, "illness.clinic")).name == "illness.clinic"
    assert (await take_name(desk, validated, "illness.clinic")).name == "illness.clinic"
    await network.world.by("stranger").names.register("taken.clinic")
    with pytest.raises(Refused, match="belongs to"):
        await take_name(desk, validated, "taken.clinic")
    with pytest.raises(Refused):
        await take_name(desk, validated, "No Name!")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Let everything else run until something holds; a test that waits in vain ends by its own time-out."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while not await holds():
            turn = loop.create_future()
            loop.call_later(0.02, turn.set_result, None)
            await turn


async def has_committed(network: Network, number: int) -> bool:
    return (await network.suite.evaluations.request_of(number)).commits == 1


async def has_revealed(network: Network, number: int, context: Context) -> bool:
    return (await network.suite.evaluations.report_of(number, context.account)).revealed


async def add_rows(context: Context, folder: Path) -> None:
    path = folder / f"{context.config.name}.csv"
    write_csv(rows_for_evaluation(), path)
    order = orders.AddRows(str(path), TARGET, tuple((c.name, c.low, c.high) for c in COLUMNS))
    task = context.board.start("rows.add", encode(order))
    while (report := await context.board.report(task, 1 << 30)).state == "running":
        pass
    assert report.state == "done", report


async def test_drawn_evaluators_measure_commit_and_reveal_and_the_chain_agrees(
    network: Network, tmp_path: Path
) -> None:
    publisher, providers, published = await published_by(network)
    desk, _ = desk_of(publisher)
    for provider in providers:
        EvaluatorRole(provider).attach()
        await add_rows(provider, tmp_path)
        provider.spawn(provider.feed.follow(), "feed")
    validated = await validate(desk, Wanted(unhardened(published)))
    assert len(validated.evaluators) == 3
    assert validated.grade in "ABCD"
    auc = next(score for score in validated.vector if score.criterion == "auc")
    assert auc.value > 800_000
    assert (await network.suite.evaluations.request_of(validated.evaluation)).phase == EvaluationPhase.FINALISED
    by_account = {provider.account: provider for provider in providers}
    for account, digest in zip(validated.evaluators, validated.evidence_hashes, strict=True):
        endpoint = by_account[account].transport.endpoint
        reply = await publisher.transport.call(endpoint, FetchEvaluationEvidence(validated.evaluation))
        assert isinstance(reply, EvaluationEvidenceReply)
        assert evidence_hash(decode_evidence(reply.evidence)) == digest
    await network.world.check_money()


async def test_an_evaluator_without_rows_stays_away_and_says_so(network: Network) -> None:
    publisher, providers, published = await published_by(network)
    from koinon.contracts.evaluations import nonce_commitment
    from koinon.journey.evaluation import EvaluationPlan, nonce_of, settings_for
    from koinon.journey.validate import plan_entry

    plan = EvaluationPlan(settings_for("age", 0.05, 100), b"s" * 32)
    commitment = nonce_commitment(publisher.account, published.model, nonce_of(plan))
    publisher.memory.write({plan_entry(commitment): encode(plan)})
    own = network.world.by("publisher").evaluations
    number = await own.request(network.world.evaluation_terms(published.model), commitment)
    await network.world.push((await own.request_of(number)).draw_height)
    drawn = await own.draw(number, nonce_of(plan))
    reader = next(one for one in providers if one.account in drawn)
    role = EvaluatorRole(reader)
    role.attach()
    following = reader.spawn(reader.feed.follow(), "feed")
    while not any("given up" in line for line in role.report()):
        await asyncio.wait([following], timeout=0.05)
    assert any("no rows with the columns" in line for line in role.report())
    assert (await own.request_of(number)).commits == 0


async def test_a_restart_between_commit_and_reveal_still_reveals(network: Network) -> None:
    publisher, providers, published = await published_by(network)
    number, drawn = await network.world.evaluating(published.model)
    name = drawn[0]
    context = dict(zip(PROVIDERS, providers, strict=True))[name]
    scores = ((900_000, 895_000, 905_000), (400_000, 395_000, 405_000))
    prepared = Prepared(scores, b"evidence", network.world.nonce("evidence"), b"s" * 32)
    context.memory.write({b"evaluation/" + number.to_bytes(8, "big"): encode(Assignment(number, prepared, "measured"))})
    others = [one for one in drawn if one != name]

    before = EvaluatorRole(context)
    before.attach()
    await until(lambda: has_committed(network, number))
    await context.close()  # the process ends

    honest = (score(900_000), score(400_000))
    for other in others:
        await network.world.commit(number, other, honest)
    with pytest.raises(Refused, match="not revealed yet"):
        await publisher.transport.call(context.transport.endpoint, FetchEvaluationEvidence(number))
    again = await network.node(name, ("evaluator",))  # the same disk, another process
    EvaluatorRole(again).attach()
    await until(lambda: has_revealed(network, number, again))
    stored = again.memory.get(b"evaluation/" + number.to_bytes(8, "big"))
    assert stored is not None
    assert decode(Assignment, stored).prepared == prepared


async def test_evaluators_that_stay_away_end_the_evaluation_and_the_fees_come_back(network: Network) -> None:
    publisher, _, published = await published_by(network)
    desk, said = desk_of(publisher)
    waiting = asyncio.create_task(validate(desk, Wanted(unhardened(published))))
    while not any("drew" in line for line in said):
        await asyncio.wait([waiting], timeout=0.05)
    network.chain.sleep(200)
    with pytest.raises(Refused, match="too few reveals"):
        await waiting
    assert await network.suite.evaluations.credit_of(publisher.account) == 3 * FEE
    await network.world.check_money()


async def test_hardening_measures_every_variant_and_mints_the_better_one(network: Network) -> None:
    publisher, _, published = await published_by(network)
    desk, _ = desk_of(publisher)
    hardened = await harden(desk, published)
    assert hardened.domain == "tabular"
    kept = [one for one in hardened.variants if one.kept]
    assert len(kept) == 1
    assert kept[0].weights_hash == hardened.weights_hash
    assert kept[0].largest_difference <= 1e-5
    asset = await network.suite.assets.asset_of(hardened.model)
    assert asset.content_hash == hardened.weights_hash
    if hardened.model != published.model:
        assert asset.parents == (published.model,)
        assert asset.shares == (4000, 2000, 2000, 2000)
