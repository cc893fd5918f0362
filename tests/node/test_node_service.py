"""Serving: who may order it, what a stranger gets for money, and what survives crashes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from contracts_world import digest_of, key_of
from node_market_world import COLUMNS, Network, desk_of, trained_model

from koinon.contracts.market import Offer
from koinon.crypto.hash import sha256
from koinon.journey.disclosure import open_disclosure
from koinon.journey.name import name as take_name
from koinon.journey.package import open_own
from koinon.journey.publish import publish
from koinon.journey.results import Hardened, Named, Served, Validated
from koinon.journey.serve import different_operators, serve
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import BasisPoints, TokenAmount, UnixSeconds
from koinon.market.channels import Channel, Purse
from koinon.market.vouchers import Voucher
from koinon.node.context import Context
from koinon.node.roles.market import ModelKeys
from koinon.node.roles.served_model import ServedSandbox
from koinon.node.roles.service import ServiceRole, terms_of
from koinon.node.roles.till import SETTLE_AT_ANSWERS, SETTLE_BEFORE_SECONDS, is_due
from koinon.serving import names
from koinon.serving.client import Buyer
from koinon.serving.http_client import open_http
from koinon.wire.studies import DeployService, FetchReceipts, ReceiptsReply

PRICE = TokenAmount(1000)
NAME = "illness.clinic"


@dataclass
class Wanted:
    """What ``serve`` is asked for."""

    named: Named
    endpoints: int = 2
    price: TokenAmount = PRICE
    pass_price: TokenAmount = TokenAmount(5000)  # noqa: RUF009
    node_share: BasisPoints = BasisPoints(3000)  # noqa: RUF009


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    """Let everything else run until something holds; a test that waits in vain ends by its own time-out."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while not await holds():
            turn = loop.create_future()
            loop.call_later(0.05, turn.set_result, None)
            await turn


async def service_nodes(network: Network, count: int) -> list[tuple[Context, ServiceRole]]:
    nodes = []
    for number in range(count):
        context = await network.node(f"provider-{number}", ("service",))
        role = ServiceRole(context)
        await role.attach()
        nodes.append((context, role))
    return nodes


async def named_model(network: Network) -> tuple[Context, Named]:
    publisher = await network.node("publisher", ("publisher",))
    ModelKeys(publisher).attach()
    for number in range(3):
        await network.node(f"provider-{number + 3}")  # keepers of blobs
    trained, study = await trained_model(network)
    desk, _ = desk_of(publisher)
    published = await publish(desk, trained, study, "illness-risk", 2)
    hardened = Hardened(published, "tabular", (), published.model, published.weights_hash, published.manifest)
    return publisher, await take_name(desk, Validated(hardened, 0, (), (), (), "–"), NAME)


async def served_model(network: Network) -> tuple[Context, list[tuple[Context, ServiceRole]], Served]:
    publisher, named = await named_model(network)
    nodes = await service_nodes(network, 3)
    desk, _ = desk_of(publisher)
    return publisher, nodes, await serve(desk, Wanted(named))


async def test_a_stranger_buys_answers_and_the_node_is_paid_exactly(network: Network) -> None:
    publisher, nodes, served = await served_model(network)
    hardened = served.named.validated.hardened
    assert len({endpoint.account for endpoint in served.endpoints}) == 2
    _, resolution = await network.suite.names.resolve(NAME)
    assert {one.url for one in resolution.endpoints} == {one.url for one in served.endpoints}
    assert resolution.weights_hash == hardened.weights_hash

    endpoint = served.endpoints[0]
    context, role = next(one for one in nodes if one[0].account == endpoint.account)
    context.spawn(context.feed.follow(), "feed")
    market = network.world.by("buyer").market
    number = await market.buy(served.service, 100, 86_400, TokenAmount(10**9))
    expiry = UnixSeconds(network.chain.time + 3600)
    channel = await market.open(endpoint.account, served.service, TokenAmount(10 * PRICE), expiry, digest_of("salt"))
    domain = await network.suite.market.domain()
    shown = names.Resolution(
        NAME,
        publisher.account,
        hardened.model,
        hardened.weights_hash,
        0,
        (names.Endpoint(endpoint.url, endpoint.account, endpoint.node),),
    )
    row = np.array([[8.0, 60.0, -2.0]], np.float32)
    async with open_http() as http:
        purse = Purse(domain, channel, TokenAmount(10 * PRICE))
        buyer = await Buyer.connect(
            http, shown, context.clock, key_of("buyer"), {endpoint.account: purse}, number, PRICE
        )
        answers = [await buyer.call(row) for _ in range(3)]
        for answer in answers:
            await buyer.check(answer)
    assert answers[0].values[0] > 0.5
    assert role.report()[0].startswith(f"service {served.service}")

    await market.request_close(channel)

    async def is_closed() -> bool:
        return (await network.suite.market.channel_of(channel)).closed

    await until(is_closed)
    closed = await network.suite.market.channel_of(channel)
    assert closed.claimed == 3 * PRICE
    assert await network.suite.market.credit_of(endpoint.account) == 3 * PRICE * 3000 // 10_000
    assert await network.suite.receipts.next_sequence(served.service, endpoint.account) == 3
    await network.world.check_money()

    reply = await publisher.transport.call(context.transport.endpoint, FetchReceipts(served.service, 1))
    assert isinstance(reply, ReceiptsReply)
    disclosure = open_disclosure(reply.receipts)
    batch = await network.suite.receipts.batch_of(served.service, endpoint.account, 0)
    assert (disclosure.anchor.root, disclosure.anchor.count) == (batch.root, batch.count)
    with pytest.raises((Forged, MalformedMessage)):
        open_disclosure(reply.receipts.replace(disclosure.anchor.root, sha256(b"another root")))


async def test_only_the_publisher_of_a_service_may_have_it_deployed(network: Network) -> None:
    publisher, nodes, served = await served_model(network)
    model = served.named.validated.hardened.model
    free = next(context for context, role in nodes if not role.report())
    stranger = await network.node("stranger")
    order = DeployService(served.service, model, NAME)
    with pytest.raises(Refused, match="only the publisher"):
        await stranger.transport.call(free.transport.endpoint, order)
    for service, wrong, message in (
        (served.service, served.service, "at once"),
        (model, served.service, "is no service of model"),
        (served.service + 99, model, "there is no asset"),
    ):
        with pytest.raises(Refused, match=message):
            await publisher.transport.call(free.transport.endpoint, DeployService(service, wrong, NAME))
    with pytest.raises(InvalidInput, match="name"):
        await publisher.transport.call(free.transport.endpoint, DeployService(served.service, model, "x"))
    # The order itself is right, but the publisher keeps no contract with this node, so it gives no key.
    with pytest.raises(Refused, match="did not ask you to answer"):
        await publisher.transport.call(free.transport.endpoint, order)
    assert all(not role.report() for context, role in nodes if context is free)


async def test_a_node_answers_for_one_service_only_and_the_same_order_twice_is_one(network: Network) -> None:
    publisher, nodes, served = await served_model(network)
    context = next(one for one, _ in nodes if one.account == served.endpoints[0].account)
    model = served.named.validated.hardened.model
    again = await publisher.transport.call(context.transport.endpoint, DeployService(served.service, model, NAME))
    assert again.url == served.endpoints[0].url
    with pytest.raises(Refused, match="already"):
        await publisher.transport.call(context.transport.endpoint, DeployService(served.service, model, "other.name"))


async def test_a_service_node_that_was_restarted_answers_again(network: Network) -> None:
    _, nodes, served = await served_model(network)
    context = next(one for one, _ in nodes if one.account == served.endpoints[0].account)
    await context.close()
    again = await network.node(context.config.name, ("service",))
    role = ServiceRole(again)
    await role.attach()

    async def answers() -> bool:
        return "http://" in "".join(role.report())

    await until(answers)


async def test_too_few_providers_say_why_and_the_name_stays_as_it_is(network: Network) -> None:
    publisher, named = await named_model(network)
    await service_nodes(network, 1)
    with pytest.raises(Unavailable, match="1 of 2 endpoints answer"):
        await serve(desk_of(publisher)[0], Wanted(named))
    _, resolution = await network.suite.names.resolve(NAME)
    assert resolution.endpoints == ()
    service = await network.suite.assets.count()
    assert not (await network.suite.market.offer_of(service)).open


@pytest.mark.parametrize(
    "change", [{"endpoints": 0}, {"endpoints": 9}, {"price": TokenAmount(0), "pass_price": TokenAmount(1)}]
)
async def test_what_cannot_be_served_is_refused_before_anything_is_minted(
    network: Network, change: dict[str, Any]
) -> None:
    publisher, named = await named_model(network)
    before = await network.suite.assets.count()
    with pytest.raises(InvalidInput):
        await serve(desk_of(publisher)[0], Wanted(named, **change))
    assert await network.suite.assets.count() == before


async def test_a_model_whose_process_dies_is_opened_again(network: Network) -> None:
    publisher, named = await named_model(network)
    package = await open_own(desk_of(publisher)[0], named.validated.hardened.manifest)  # type: ignore[arg-type]
    rows = np.full((2, len(COLUMNS)), 1.0, np.float32)
    async with ServedSandbox.open(package.onnx) as model:
        before = await model.predict(rows)
        assert model._model is not None
        model._model._worker.cancel()
        with pytest.raises(Unavailable):
            await model.predict(rows)
        assert np.array_equal(await model.predict(rows), before)
        assert model.losses == 1


def test_no_two_endpoints_have_one_operator() -> None:
    a, b, c = (Address(letter * 20) for letter in (b"a", b"b", b"c"))
    one, two = Hash32(b"1" * 32), Hash32(b"2" * 32)
    operators = {a: one, b: one, c: two}
    assert different_operators([a, b, c], operators, set()) == [a, c]
    assert different_operators([a, b, c], operators, {one}) == [c]


@pytest.mark.parametrize(
    ("cumulative", "settled", "left", "due"),
    [
        (PRICE, 0, 1000, False),
        (PRICE, 0, SETTLE_BEFORE_SECONDS, True),
        (PRICE, PRICE, 1, False),
        (SETTLE_AT_ANSWERS * PRICE, 0, 1000, True),
        (SETTLE_AT_ANSWERS * PRICE, 1, 1000, False),
    ],
)
def test_when_a_voucher_is_settled(cumulative: int, settled: int, left: int, due: bool) -> None:
    channel = Channel(
        digest_of("c"),
        Address(b"p" * 20),
        Address(b"r" * 20),
        7,
        TokenAmount(10**12),
        TokenAmount(settled),
        UnixSeconds(5000 + left),
    )
    voucher = Voucher(channel.identifier, TokenAmount(cumulative), b"")
    assert is_due(voucher, channel, PRICE, UnixSeconds(5000)) is due


def test_a_pass_is_asked_for_where_it_has_a_price() -> None:
    def offer(day: int, call: int) -> Offer:
        return Offer(
            price_per_call=TokenAmount(call),
            price_per_day=TokenAmount(day),
            voucher_price=PRICE,
            node_share=BasisPoints(1),
            open=True,
        )

    assert terms_of(7, offer(1, 0)).pass_required
    assert terms_of(7, offer(0, 1)).pass_required
    assert not terms_of(7, offer(0, 0)).pass_required
    assert terms_of(7, offer(0, 0)).price == PRICE
