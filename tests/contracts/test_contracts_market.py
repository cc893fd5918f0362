"""Assets, passes, channels, names and receipts: money to the unit, and what must be refused."""

from dataclasses import replace

import pytest
from contracts_chain import CHAIN_ID, EvmChain
from contracts_world import OWNERS, UNIT, World, digest_of, key_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koinon.contracts import market as events
from koinon.contracts.assets import AssetKind, Distributed, Mint, Noted, Notes, split
from koinon.contracts.eip712 import voucher_digest
from koinon.contracts.market import Market, channel_id, node_part
from koinon.contracts.names import Resolution, ServiceEndpoint
from koinon.contracts.refusals import Reverted
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH, Hash32
from koinon.kernel.quantities import BasisPoints, ChainId, TokenAmount, UnixSeconds
from koinon.privacy.differential.budget import check_opened, commitment, pure_entry

DEPOSIT = TokenAmount(1_000_000)
SALT = digest_of("salt of a channel")


# ---------------------------------------------------------------------------------------------------- assets


async def test_provenance_of_a_study_is_checked(world: World) -> None:
    study_id = await world.completed()
    datasets = []
    for name in OWNERS:
        mint = Mint(AssetKind.DATASET, digest_of(f"dataset of {name}"), "", (), (world.address(name),), (10_000,))  # type: ignore[arg-type]
        datasets.append(await world.by(name).assets.mint(mint))
    model = await world.model(parents=tuple(datasets), study_id=study_id, code_hash=digest_of("code"))
    asset = await world.suite.assets.asset_of(model)
    assert asset.parents == tuple(datasets)
    assert asset.study_id == study_id
    assert asset.publisher == world.address("publisher")

    mint = Mint(AssetKind.DATASET, digest_of("other rows"), "", (), (world.address("north"),), (10_000,))  # type: ignore[arg-type]
    foreign = await world.by("north").assets.mint(mint)
    with pytest.raises(Reverted, match="ForeignProvenance"):
        await world.model(parents=(foreign,), study_id=study_id)
    stolen = replace(mint, content_hash=digest_of("dataset of north"), payees=(world.address("stranger"),))
    copied = await world.by("stranger").assets.mint(stolen)
    with pytest.raises(Reverted, match="ForeignProvenance"):
        await world.model(parents=(copied,), study_id=study_id)


async def test_only_the_publisher_of_a_completed_study_mints_from_it(world: World) -> None:
    study_id, _ = await world.running()
    with pytest.raises(Reverted, match="WrongPhase"):
        await world.model(study_id=study_id)
    study_id = await world.completed()
    mint = Mint(AssetKind.MODEL, digest_of("weights"), "", (), (world.address("north"),), (10_000,), study_id=study_id)  # type: ignore[arg-type]
    with pytest.raises(Reverted, match="NotAllowed"):
        await world.by("north").assets.mint(mint)


async def test_an_account_of_commitments_only_grows_and_only_by_its_publisher(world: World) -> None:
    mint = Mint(AssetKind.DATASET, digest_of("rows of north"), "", (), (world.address("north"),), (10_000,))  # type: ignore[arg-type]
    own = world.by("north").assets
    asset = await own.mint(mint)
    entries = [pure_entry(number, 0, 0.1, digest_of(f"salt {number}")) for number in range(3)]
    commitments = [commitment(entry) for entry in entries]
    assert await own.notes_of(asset) == Notes(0, ZERO_HASH)
    await own.note(asset, 0, commitments[:2])
    await own.note(asset, 2, commitments[2:])
    notes = await own.notes_of(asset)
    check_opened(entries, notes.count, notes.head)
    noted = await own.events(Noted, asset_id=asset)
    assert [found.event.commitment for found in noted] == commitments
    for sequence in (0, 2, 4):
        with pytest.raises(Reverted, match="NotesMoved"):
            await own.note(asset, sequence, commitments[:1])
    with pytest.raises(Reverted, match="NotAllowed"):
        await world.by("stranger").assets.note(asset, 3, commitments[:1])
    for many in ([], commitments * 22):
        with pytest.raises(Reverted, match=r"BadField.*commitments"):
            await own.note(asset, 3, many)
    with pytest.raises(Reverted, match="Unknown"):
        await own.note(asset + 1, 0, commitments[:1])
    assert await own.notes_of(asset) == notes


BAD_MINTS = {
    "no content": ({"content_hash": ZERO_HASH}, "BadField"),
    "endless address": ({"uri": "x" * 513}, "BadField"),
    "unknown parent": ({"parents": (7,)}, "Unknown"),
    "65 parents": ({"parents": (1,) * 65}, "BadField"),
    "no payees": ({"payees": (), "shares": ()}, "BadField"),
    "shares short": ({"shares": (4_000, 3_333, 1_667)}, "BadField"),
    "shares below the whole": ({"shares": (4_000, 3_333, 1_667, 999)}, "BadField"),
    "shares above the whole": ({"shares": (4_000, 3_333, 1_667, 1_001)}, "BadField"),
    "a share of nothing": ({"shares": (5_000, 3_333, 1_667, 0)}, "BadField"),
    "nobody as payee": ({"payees": (ZERO_ADDRESS,), "shares": (10_000,)}, "BadField"),
    "a royalty of more than all": ({"royalty": 10_001}, "BadField"),
    "a service of no model": ({"kind": AssetKind.SERVICE}, "BadField"),
    "unknown study": ({"study_id": 9}, "Unknown"),
}


@pytest.mark.parametrize("name", BAD_MINTS)
async def test_bad_mints_are_refused(world: World, name: str) -> None:
    changed, error = BAD_MINTS[name]
    with pytest.raises(Reverted) as refusal:
        await world.model(**changed)
    assert refusal.value.error == error
    assert await world.suite.assets.count() == 0


async def test_a_service_needs_a_model_of_its_minter(world: World) -> None:
    model = await world.model()
    own = world.by("stranger")
    mint = Mint(AssetKind.SERVICE, digest_of("s"), "", (model,), (own.client.account,), (BasisPoints(10_000),))
    with pytest.raises(Reverted, match=r"BadField.*parents"):
        await own.assets.mint(mint)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amount=st.integers(1, 10**12))
async def test_distribution_is_exact(chain: EvmChain, world: World, amount: int) -> None:
    start = chain.snapshot()
    model = await world.model()
    before = {name: await world.wealth(name) for name in ("publisher", *OWNERS, "buyer")}
    await world.by("buyer").assets.distribute(model, TokenAmount(amount))
    parts, remainder = split(TokenAmount(amount), (await world.suite.assets.asset_of(model)).shares)
    expected = dict(zip(("publisher", *OWNERS), parts, strict=True))
    expected["publisher"] += remainder
    for name, part in expected.items():
        assert await world.wealth(name) - before[name] == part
    assert before["buyer"] - await world.wealth("buyer") == amount == sum(expected.values())
    (event,) = await world.suite.assets.events(Distributed)
    assert event.event.remainder == remainder < 4
    chain.restore(start)


# ---------------------------------------------------------------------------------------------------- passes


async def test_a_pass_is_paid_into_the_split_and_expires(world: World, chain: EvmChain) -> None:
    service = await world.service()
    before = await world.wealth("buyer")
    price = await world.suite.market.price_of(service, 200, 86_401)
    assert price == 200 * 33 + 2 * 1_001
    pass_id = await world.by("buyer").market.buy(service, 200, 86_401, price)
    found = await world.suite.market.pass_of(pass_id)
    assert (found.service_id, found.quota) == (service, 200)
    assert found.expires_at == await world.now() + 86_401
    assert await world.suite.market.pass_owner(pass_id) == world.address("buyer")
    assert before - await world.wealth("buyer") == price
    assert await world.suite.assets.total_credit() == price
    await world.by("buyer").market.renew(pass_id, 86_400)
    assert (await world.suite.market.pass_of(pass_id)).expires_at == found.expires_at + 86_400
    chain.sleep(10)
    await world.by("buyer").market.cancel(pass_id)
    assert (await world.suite.market.pass_of(pass_id)).expires_at == await world.now()
    await world.check_money()


async def test_bad_purchases_are_refused(world: World) -> None:
    service = await world.service()
    model = await world.model()
    market = world.by("buyer").market
    cases = (
        (market.buy(service, 0, 1, DEPOSIT), "BadField"),
        (market.buy(service, 1, 0, DEPOSIT), "BadField"),
        (market.buy(service, 1, 2**40, DEPOSIT), "BadField"),
        (market.buy(service, 1, 1, TokenAmount(1_033)), "PriceAbove"),
        (market.buy(model, 1, 1, DEPOSIT), "NotOffered"),
        (market.renew(1, 5), "Unknown"),
    )
    for purchase, error in cases:
        with pytest.raises(Reverted) as refusal:
            await purchase
        assert refusal.value.error == error
    offer = await market.offer_of(service)
    await world.by("publisher").market.set_offer(service, replace(offer, open=False))
    with pytest.raises(Reverted, match="NotOffered"):
        await market.buy(service, 1, 1, DEPOSIT)
    with pytest.raises(Reverted, match="NotAllowed"):
        await market.set_offer(service, offer)
    with pytest.raises(Reverted, match=r"BadField.*nodeShare"):
        await world.by("publisher").market.set_offer(service, replace(offer, node_share=BasisPoints(10_001)))


# ---------------------------------------------------------------------------------------------------- channels


async def opened(world: World, lasting: int = 10_000) -> Hash32:
    service = await world.service()
    expiry = UnixSeconds(await world.now() + lasting)
    return await world.by("buyer").market.open(world.address("provider-0"), service, DEPOSIT, expiry, SALT)


async def voucher(world: World, channel: Hash32, total: int, signer: str = "buyer") -> bytes:
    return key_of(signer).sign_digest(voucher_digest(await world.suite.market.domain(), channel, TokenAmount(total)))


async def test_settlement_pays_node_and_split_to_the_unit(world: World) -> None:
    channel = await opened(world)
    expected_id = channel_id(
        ChainId(CHAIN_ID), world.suite.market.address, world.address("buyer"), world.address("provider-0"), SALT
    )
    assert channel == expected_id
    before = {name: await world.wealth(name) for name in ("publisher", *OWNERS, "provider-0")}
    paid = 0
    for total in (33, 66, 10_001, 777_777):
        await world.by("provider-0").market.settle(channel, TokenAmount(total), await voucher(world, channel, total))
        gained = {name: await world.wealth(name) - before[name] for name in before}
        assert sum(gained.values()) == total
        paid = node_part(BasisPoints(3_000), TokenAmount(0), TokenAmount(total))
        assert gained["provider-0"] == paid
    await world.by("provider-0").market.close(channel)
    (closed,) = await world.suite.market.events(events.ChannelClosed, channel_id=channel)
    assert closed.event.refunded == DEPOSIT - 777_777
    assert await world.suite.market.credit_of(world.address("buyer")) == DEPOSIT - 777_777
    assert await world.suite.market.total_held() == 0
    await world.check_money()


async def test_bad_vouchers_change_nothing(world: World) -> None:
    channel = await opened(world)
    node = world.by("provider-0").market
    await node.settle(channel, TokenAmount(500), await voucher(world, channel, 500))
    state = await node.channel_of(channel)
    cases = (
        (node, 500, await voucher(world, channel, 500), "ClaimOutOfRange"),  # replayed
        (node, 400, await voucher(world, channel, 400), "ClaimOutOfRange"),  # older
        (node, DEPOSIT + 1, await voucher(world, channel, DEPOSIT + 1), "ClaimOutOfRange"),
        (node, 600, await voucher(world, channel, 601), "BadSignature"),
        (node, 600, await voucher(world, channel, 600, "stranger"), "BadSignature"),
        (node, 600, await voucher(world, digest_of("another channel"), 600), "BadSignature"),
        (node, 600, b"", "BadSignature"),
        (world.by("stranger").market, 600, await voucher(world, channel, 600), "NotAllowed"),
        (world.by("buyer").market, 600, await voucher(world, channel, 600), "NotAllowed"),
    )
    for market, total, signature, error in cases:
        with pytest.raises(Reverted) as refusal:
            await market.settle(channel, TokenAmount(total), signature)
        assert refusal.value.error == error
    assert await node.channel_of(channel) == state
    with pytest.raises(InvalidInput, match="2\\^128"):
        await voucher(world, channel, 2**128)


async def test_voucher_of_another_market_is_worth_nothing(world: World) -> None:
    other = await Market.deploy(world.client, world.suite.assets.address, 500)
    channel = await opened(world)
    signature = key_of("buyer").sign_digest(voucher_digest(await other.domain(), channel, TokenAmount(5)))
    with pytest.raises(Reverted, match="BadSignature"):
        await world.by("provider-0").market.settle(channel, TokenAmount(5), signature)


async def test_payer_closes_after_the_delay_and_the_receiver_may_still_settle(world: World, chain: EvmChain) -> None:
    channel = await opened(world)
    buyer, node = world.by("buyer").market, world.by("provider-0").market
    with pytest.raises(Reverted, match="NotAllowed"):
        await node.request_close(channel)
    await buyer.request_close(channel)
    with pytest.raises(Reverted, match="TooEarly"):
        await buyer.close(channel)
    chain.sleep(400)
    await node.settle(channel, TokenAmount(9_000), await voucher(world, channel, 9_000))
    chain.sleep(102)
    await world.by("stranger").market.close(channel)
    assert await world.suite.market.credit_of(world.address("buyer")) == DEPOSIT - 9_000
    for late in (node.settle(channel, DEPOSIT, await voucher(world, channel, DEPOSIT)), buyer.close(channel)):
        with pytest.raises(Reverted, match="ChannelIsClosed"):
            await late
    await world.check_money()


async def test_expiry_gives_the_rest_back(world: World, chain: EvmChain) -> None:
    channel = await opened(world, lasting=1_000)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.by("buyer").market.close(channel)
    chain.sleep(1_002)
    await world.by("stranger").market.close(channel)
    assert await world.suite.market.credit_of(world.address("buyer")) == DEPOSIT


async def test_a_channel_is_never_opened_twice(world: World) -> None:
    channel = await opened(world)
    await world.by("provider-0").market.close(channel)
    found = await world.suite.market.channel_of(channel)
    with pytest.raises(Reverted, match="AlreadyDone"):
        await world.by("buyer").market.open(
            world.address("provider-0"), found.service_id, DEPOSIT, UnixSeconds(await world.now() + 50), SALT
        )


async def test_top_up_takes_a_request_to_close_back(world: World) -> None:
    channel = await opened(world)
    buyer = world.by("buyer").market
    await buyer.request_close(channel)
    expiry = (await buyer.channel_of(channel)).expiry
    with pytest.raises(Reverted, match=r"BadField.*expiry"):
        await buyer.top_up(channel, TokenAmount(5), UnixSeconds(expiry - 1))
    with pytest.raises(Reverted, match="NotAllowed"):
        await world.by("provider-0").market.top_up(channel, TokenAmount(5), expiry)
    await buyer.top_up(channel, TokenAmount(5), UnixSeconds(expiry + 1))
    found = await buyer.channel_of(channel)
    assert (found.deposit, found.expiry, found.close_at) == (DEPOSIT + 5, expiry + 1, 0)


async def test_bad_channels_are_refused(world: World) -> None:
    service = await world.service()
    now = await world.now()
    market, node = world.by("buyer").market, world.address("provider-0")
    cases = (
        (market.open(ZERO_ADDRESS, service, DEPOSIT, UnixSeconds(now + 9), SALT), "BadField"),
        (market.open(node, service, TokenAmount(0), UnixSeconds(now + 9), SALT), "BadField"),
        (market.open(node, service, DEPOSIT, now, SALT), "TooLate"),
        (market.open(node, service, DEPOSIT, UnixSeconds(2**63), SALT), "BadField"),
        (market.open(node, 99, DEPOSIT, UnixSeconds(now + 9), SALT), "NotOffered"),
        (market.open(node, service, TokenAmount(2 * 10**12), UnixSeconds(now + 9), SALT), "ERC20InsufficientBalance"),
        (market.channel_of(SALT), "Unknown"),
        (market.close(SALT), "Unknown"),
    )
    for step, error in cases:
        with pytest.raises(Reverted) as refusal:
            await step
        assert refusal.value.error == error
    with pytest.raises(InvalidInput, match="deposit"):
        await market.open(node, service, TokenAmount(-1), UnixSeconds(now + 9), SALT)


# ---------------------------------------------------------------------------------------------------- names


async def test_a_name_resolves_to_what_its_owner_says(world: World) -> None:
    model = await world.model()
    request_id, members = await world.evaluating(model)
    from test_contracts_evaluations import AGREE, play

    await play(world, request_id, members, AGREE)
    endpoints = (ServiceEndpoint("https://one.example/v2", world.address("provider-0")),)
    resolution = Resolution(model, digest_of("weights"), request_id, endpoints)
    names = world.by("publisher").names
    await names.register("tumour-risk.clinic")
    assert (await names.resolve("tumour-risk.clinic"))[1].model_id == 0
    with pytest.raises(Reverted, match="WrongPhase"):
        await names.set_resolution("tumour-risk.clinic", resolution)  # that evaluation is not finalised yet
    await world.by("stranger").evaluations.finalise(request_id)
    await names.set_resolution("tumour-risk.clinic", resolution)
    shorter = replace(resolution, endpoints=endpoints * 2)
    await names.set_resolution("tumour-risk.clinic", shorter)
    await names.set_resolution("tumour-risk.clinic", resolution)
    assert await names.resolve("tumour-risk.clinic") == (world.address("publisher"), resolution)
    await names.transfer("tumour-risk.clinic", world.address("stranger"))
    assert await names.resolve("tumour-risk.clinic") == (
        world.address("stranger"),
        Resolution(0, ZERO_HASH, 0, ()),
    )


BAD_NAMES = ("", "ab", "a" * 65, "Abc", "a b", "-abc", "abc-", ".abc", "a..b", "a.-b", "naïve", "abc\0", "under_score")


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_bad_names_are_refused(world: World, name: str) -> None:
    with pytest.raises(Reverted, match="BadName"):
        await world.by("publisher").names.register(name)


async def test_names_are_for_their_owners(world: World) -> None:
    model = await world.model()
    names = world.by("publisher").names
    await names.register("abc")
    good = Resolution(model, digest_of("w"), 0, (ServiceEndpoint("https://x", world.address("north")),))
    with pytest.raises(Reverted, match="NameTaken"):
        await world.by("stranger").names.register("abc")
    with pytest.raises(Reverted, match="NotAllowed"):
        await world.by("stranger").names.set_resolution("abc", good)
    with pytest.raises(Reverted, match="UnknownName"):
        await names.set_resolution("abd", good)
    with pytest.raises(Reverted, match="UnknownName"):
        await names.resolve("abd")
    cases = (
        (replace(good, model_id=9), "Unknown"),
        (replace(good, weights_hash=ZERO_HASH), "BadField"),
        (replace(good, evaluation_id=4), "Unknown"),
        (replace(good, endpoints=()), "BadField"),
        (replace(good, endpoints=good.endpoints * 9), "BadField"),
        (replace(good, endpoints=(ServiceEndpoint("u" * 201, world.address("north")),)), "BadField"),
        (replace(good, endpoints=(ServiceEndpoint("", world.address("north")),)), "BadField"),
        (replace(good, endpoints=(ServiceEndpoint("https://x", ZERO_ADDRESS),)), "BadField"),
    )
    for resolution, error in cases:
        with pytest.raises(Reverted) as refusal:
            await names.set_resolution("abc", resolution)
        assert refusal.value.error == error
    await world.by("publisher").assets.transfer(model, world.address("north"))
    with pytest.raises(Reverted, match="NotAllowed"):
        await names.set_resolution("abc", good)  # the model is somebody else's now


# ---------------------------------------------------------------------------------------------------- receipts


async def test_receipts_are_anchored_in_sequence(world: World) -> None:
    service = await world.service()
    own, account = world.by("provider-0").receipts, world.address("provider-0")
    await own.anchor(service, digest_of("root 0"), 256, 0)
    await own.anchor(service, digest_of("root 1"), 3, 256)
    assert await own.next_sequence(service, account) == 259
    assert await own.batch_count(service, account) == 2
    batch = await own.batch_of(service, account, 1)
    assert (batch.root, batch.first_sequence, batch.count) == (digest_of("root 1"), 256, 3)
    await world.by("provider-1").receipts.anchor(service, digest_of("another node"), 1, 0)
    model = await world.model()
    cases = (
        (own.anchor(service, digest_of("r"), 1, 258), "OutOfSequence"),
        (own.anchor(service, digest_of("r"), 1, 260), "OutOfSequence"),
        (own.anchor(service, ZERO_HASH, 1, 259), "BadField"),
        (own.anchor(service, digest_of("r"), 0, 259), "BadField"),
        (own.anchor(service, digest_of("r"), 2**64 - 1, 259), "BadField"),
        (own.anchor(model, digest_of("r"), 1, 0), "BadField"),
        (own.anchor(99, digest_of("r"), 1, 0), "Unknown"),
        (world.by("stranger").receipts.anchor(service, digest_of("r"), 1, 0), "NotAllowed"),
        (own.batch_of(service, account, 2), "Unknown"),
    )
    for step, error in cases:
        with pytest.raises(Reverted) as refusal:
            await step
        assert refusal.value.error == error
    assert await own.next_sequence(service, account) == 259


async def test_credit_is_paid_once(world: World) -> None:
    model = await world.model()
    await world.by("buyer").assets.distribute(model, TokenAmount(UNIT))
    own = world.by("north")
    before = await own.token.balance_of(own.client.account)
    await own.assets.withdraw()
    assert await own.token.balance_of(own.client.account) - before == UNIT * 3_333 // 10_000
    with pytest.raises(Reverted, match="NothingToWithdraw"):
        await own.assets.withdraw()
    await world.check_money()
