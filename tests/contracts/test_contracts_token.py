"""The token's signed payments, providers and their stakes, contract accounts, and a hostile token."""

from dataclasses import replace
from pathlib import Path

import pytest
from contracts_chain import EvmChain
from contracts_world import PARAMETERS, PROVIDERS, STAKE, World, digest_of, key_of

from koinon.contracts import eip712
from koinon.contracts.abi import Interface
from koinon.contracts.artifacts import Artifact, parse_artifact
from koinon.contracts.assets import AssetKind, Assets, Mint
from koinon.contracts.contract import deploy, interface
from koinon.contracts.eip712 import Authorization
from koinon.contracts.market import channel_id
from koinon.contracts.providers import Providers, Role
from koinon.contracts.refusals import Reverted
from koinon.contracts.studies import Studies
from koinon.contracts.suite import Suite, SuiteAddresses
from koinon.contracts.token import UNLIMITED
from koinon.kernel.errors import Forged, Unavailable
from koinon.kernel.ids import ZERO_HASH, Address, NodeId
from koinon.kernel.quantities import BasisPoints, TokenAmount, UnixSeconds

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> Artifact:
    return parse_artifact((FIXTURES / f"{name}.json").read_bytes())


async def payment(world: World, to: str = "north", before: int = 1_000, after: int = -1) -> Authorization:
    now = await world.now()
    return Authorization(
        payer=world.address("buyer"),
        payee=world.address(to),
        value=TokenAmount(1_234),
        valid_after=UnixSeconds(now + after),
        valid_before=UnixSeconds(now + before),
        nonce=digest_of("payment"),
    )


# ---------------------------------------------------------------------------------------------------- signed payments


async def test_domains_are_what_the_contracts_say(world: World) -> None:
    token = interface("Token")
    separator = await world.client.call(world.suite.token.address, token.encode_call("DOMAIN_SEPARATOR"))
    assert separator == (await world.suite.token.domain()).separator
    studies, market = interface("Studies"), interface("Market")
    mine = eip712.result_digest(await world.suite.studies.domain(), 3, 1, digest_of("o"))
    call = studies.encode_call("resultDigest", 3, 1, digest_of("o"))
    assert await world.client.call(world.suite.studies.address, call) == mine
    mine = eip712.voucher_digest(await world.suite.market.domain(), digest_of("c"), TokenAmount(7))
    call = market.encode_call("voucherDigest", digest_of("c"), 7)
    assert await world.client.call(world.suite.market.address, call) == mine


async def test_transfer_with_authorization_works_once(world: World) -> None:
    order = await payment(world)
    signature = key_of("buyer").sign_digest(order.transfer_digest(await world.suite.token.domain()))
    before = await world.suite.token.balance_of(order.payee)
    await world.by("stranger").token.transfer_with_authorization(order, signature)
    assert await world.suite.token.balance_of(order.payee) == before + 1_234
    assert await world.suite.token.is_spent(order.payer, order.nonce)
    with pytest.raises(Reverted, match="AuthorizationSpent"):
        await world.by("stranger").token.transfer_with_authorization(order, signature)


async def test_split_signatures_are_taken_too(world: World) -> None:
    order = await payment(world)
    signature = key_of("buyer").sign_digest(order.transfer_digest(await world.suite.token.domain()))
    call = interface("Token").encode_call(
        "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)",
        order.payer,
        order.payee,
        order.value,
        order.valid_after,
        order.valid_before,
        order.nonce,
        signature[64],
        signature[:32],
        signature[32:64],
    )
    await world.client.send(world.suite.token.address, call)
    assert await world.suite.token.is_spent(order.payer, order.nonce)


async def test_receive_with_authorization_is_for_the_payee_only(world: World) -> None:
    order = await payment(world)
    domain = await world.suite.token.domain()
    signature = key_of("buyer").sign_digest(order.receive_digest(domain))
    with pytest.raises(Reverted, match="NotAllowed"):
        await world.by("stranger").token.receive_with_authorization(order, signature)
    with pytest.raises(Reverted, match="BadSignature"):
        await world.by("stranger").token.transfer_with_authorization(order, signature)
    await world.by("north").token.receive_with_authorization(order, signature)


async def test_authorizations_have_a_beginning_and_an_end(world: World, chain: EvmChain) -> None:
    domain = await world.suite.token.domain()
    early = await payment(world, after=50)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.suite.token.transfer_with_authorization(
            early, key_of("buyer").sign_digest(early.transfer_digest(domain))
        )
    late = await payment(world, before=10)
    chain.sleep(11)
    chain.mine(1)
    with pytest.raises(Reverted, match="TooLate"):
        await world.suite.token.transfer_with_authorization(
            late, key_of("buyer").sign_digest(late.transfer_digest(domain))
        )


async def test_cancelled_authorization_pays_nothing(world: World) -> None:
    order = await payment(world)
    domain = await world.suite.token.domain()
    cancel = eip712.cancel_digest(domain, order.payer, order.nonce)
    with pytest.raises(Reverted, match="BadSignature"):
        await world.suite.token.cancel_authorization(order.payer, order.nonce, key_of("stranger").sign_digest(cancel))
    await world.suite.token.cancel_authorization(order.payer, order.nonce, key_of("buyer").sign_digest(cancel))
    with pytest.raises(Reverted, match="AuthorizationSpent"):
        await world.suite.token.transfer_with_authorization(
            order, key_of("buyer").sign_digest(order.transfer_digest(domain))
        )


async def test_permit_sets_an_allowance_once(world: World) -> None:
    own = world.by("buyer").token
    deadline = UnixSeconds(await world.now() + 100)
    signature = await own.sign_permit(world.address("north"), TokenAmount(77), deadline)
    relay = world.by("stranger").token
    await relay.permit(world.address("buyer"), world.address("north"), TokenAmount(77), deadline, signature)
    assert await own.allowance(world.address("buyer"), world.address("north")) == 77
    with pytest.raises(Reverted, match="ERC2612InvalidSigner"):
        await relay.permit(world.address("buyer"), world.address("north"), TokenAmount(77), deadline, signature)


# ---------------------------------------------------------------------------------------------------- providers


async def test_stake_leaves_after_the_freeze_and_not_while_work_is_assigned(world: World, chain: EvmChain) -> None:
    _, committee = await world.running()
    own = world.by(committee[0]).providers
    await own.request_unstake(STAKE)
    chain.sleep(1_001)
    chain.mine(1)
    with pytest.raises(Reverted, match="NothingToWithdraw"):
        await own.withdraw()
    idle = next(name for name in PROVIDERS if name not in committee)
    own = world.by(idle).providers
    await own.request_unstake(STAKE)
    with pytest.raises(Reverted, match="NothingToWithdraw"):
        await own.withdraw()
    chain.sleep(1_001)
    chain.mine(1)
    before = await world.suite.token.balance_of(own.client.account)
    await own.withdraw()
    assert await world.suite.token.balance_of(own.client.account) - before == STAKE
    await world.check_money()


async def test_pools_hold_whom_stake_and_role_admit(world: World) -> None:
    own = world.by("provider-0").providers
    record = await own.provider_of(own.client.account)
    await own.register(record.node_id, record.operator, Role.SERVE)
    for role, expected in ((Role.COMPUTE, 7), (Role.EVALUATE, 7), (Role.SERVE, 8)):
        assert len(await own.eligible(role)) == expected
    await own.request_unstake(TokenAmount(STAKE - PARAMETERS.minimum_stake))
    assert len(await own.eligible(Role.SERVE)) == 8
    await own.request_unstake(TokenAmount(1))
    assert len(await own.eligible(Role.SERVE)) == 7
    await own.stake(TokenAmount(1))
    assert {c.account for c in await own.eligible(Role.SERVE)} == {world.address(f"provider-{n}") for n in range(8)}


async def test_bad_records_and_foreign_hands_are_refused(world: World) -> None:
    own, node = world.by("stranger").providers, NodeId(digest_of("node"))
    cases = (
        (own.register(NodeId(ZERO_HASH), digest_of("o"), Role.COMPUTE), "BadField"),
        (own.register(node, ZERO_HASH, Role.COMPUTE), "BadField"),
        (own.register(node, digest_of("o"), Role(0)), "BadField"),
        (own.register(node, digest_of("o"), 8), "BadField"),  # type: ignore[arg-type]
        (own.stake(TokenAmount(5)), "NotRegistered"),
        (own.request_unstake(TokenAmount(5)), "StakeTooSmall"),
        (own.request_unstake(TokenAmount(0)), "BadField"),
        (own.wire([own.client.account]), "NotAllowed"),
        (world.suite.providers.wire([own.client.account]), "NotAllowed"),  # the deployer, but a second time
        (own._write("slash", world.address("provider-0"), 10_000, [], own.client.account, 0), "NotAllowed"),
        (own._write("unlock", [world.address("provider-0")]), "NotAllowed"),
        (own._write("draw", 1, digest_of("seed"), 4, [], 10**6), "NotAllowed"),
        (own.withdraw(), "NothingToWithdraw"),
    )
    for step, error in cases:
        with pytest.raises(Reverted) as refusal:
            await step
        assert refusal.value.error == error


async def test_record_cannot_change_while_work_is_assigned(world: World) -> None:
    _, committee = await world.running()
    own = world.by(committee[0]).providers
    with pytest.raises(Reverted, match="Locked"):
        await own.register(NodeId(digest_of("n")), digest_of("o"), Role.COMPUTE)


async def test_draws_are_fair_and_never_take_an_operator_twice(world: World) -> None:
    """With 8 providers, two of one operator, each of the six others is drawn with the same chance."""
    counts: dict[Address, int] = {}
    height = await world.client.block_number()
    draws = 400
    for turn in range(draws):
        chosen = await world.suite.providers.sample(Role.COMPUTE, digest_of(f"seed {turn}"), 4, [], height)
        assert len(set(chosen)) == 4
        assert not {world.address("provider-6"), world.address("provider-7")} <= set(chosen)
        for account in chosen:
            counts[account] = counts.get(account, 0) + 1
    singles = [counts[world.address(f"provider-{n}")] for n in range(6)]
    # Chance of a single operator is about 0.53; six standard deviations of a binomial with 400 trials are 60.
    assert max(singles) - min(singles) < 120
    assert all(150 < count < 275 for count in singles)
    pair = [counts[world.address(f"provider-{n}")] for n in (6, 7)]
    assert all(90 < count < 220 for count in pair)


# ---------------------------------------------------------------------------------------------------- contract accounts


async def test_contract_accounts_sign_consents_vouchers_and_payments(world: World) -> None:
    owner = world.by("stranger")
    wallet = await deploy(world.client, fixture("Wallet"), owner.client.account)
    calls = Interface(fixture("Wallet"))
    await world.suite.token.transfer(wallet, TokenAmount(10**9))

    async def act(to: Address, data: bytes) -> None:
        await owner.client.send(wallet, calls.encode_call("act", to, data))

    approve = interface("Token").encode_call("approve", world.suite.studies.address, UNLIMITED)
    await act(world.suite.token.address, approve)
    terms = await world.terms(owners=("north",))
    terms = replace(terms, owners=(wallet,))
    study_id = await world.propose(terms)
    digest = eip712.consent_digest(
        await world.suite.studies.domain(),
        study_id,
        terms.spec_hash,
        digest_of("rows"),
        digest_of("commitment"),
        terms.consent_deadline,
    )
    for signer, accepted in (("north", False), ("stranger", True)):
        consent = world.by("buyer").studies.consent(
            study_id, wallet, digest_of("rows"), digest_of("commitment"), key_of(signer).sign_digest(digest)
        )
        if accepted:
            await consent
        else:
            with pytest.raises(Reverted, match="BadSignature"):
                await consent
    assert (await world.suite.studies.party_of(study_id, 1)).consented

    order = Authorization(
        wallet,
        world.address("north"),
        TokenAmount(5),
        UnixSeconds(0),
        UnixSeconds(await world.now() + 9),
        digest_of("n"),
    )
    signature = key_of("stranger").sign_digest(order.transfer_digest(await world.suite.token.domain()))
    await world.by("buyer").token.transfer_with_authorization(order, signature)

    service, node = await world.service(), world.address("provider-0")
    await act(
        world.suite.token.address, interface("Token").encode_call("approve", world.suite.market.address, UNLIMITED)
    )
    expiry = UnixSeconds(await world.now() + 100)
    opening = interface("Market").encode_call("open", node, service, 10_000, expiry, digest_of("salt"))
    await act(world.suite.market.address, opening)
    channel = channel_id(await world.client.chain_id(), world.suite.market.address, wallet, node, digest_of("salt"))
    voucher = eip712.voucher_digest(await world.suite.market.domain(), channel, TokenAmount(500))
    with pytest.raises(Reverted, match="BadSignature"):
        await world.by("provider-0").market.settle(channel, TokenAmount(500), key_of("north").sign_digest(voucher))
    await world.by("provider-0").market.settle(channel, TokenAmount(500), key_of("stranger").sign_digest(voucher))
    assert (await world.suite.market.channel_of(channel)).claimed == 500


# ---------------------------------------------------------------------------------------------------- hostile token


async def test_a_token_that_calls_back_gains_nothing(world: World) -> None:
    hostile = fixture("Reentrant")
    token = await deploy(world.client, hostile, 10**15)
    calls = Interface(hostile)
    send = world.client.send
    providers = await Providers.deploy(world.client, token, TokenAmount(1), 10)
    studies = await Studies.deploy(world.client, token, providers.address, 4, BasisPoints(0))
    assets = await Assets.deploy(world.client, token, studies.address)

    async def act(to: Address, data: bytes) -> None:
        await send(token, calls.encode_call("act", to, data))

    async def balance(account: Address) -> int:
        answer = await world.client.call(token, calls.encode_call("balanceOf", account))
        return int.from_bytes(answer, "big")

    async def count(name: str) -> int:
        return int.from_bytes(await world.client.call(token, calls.encode_call(name)), "big")

    me = world.client.account
    await send(token, calls.encode_call("approve", assets.address, UNLIMITED))
    await send(token, calls.encode_call("transfer", token, 1_000))
    # The hostile token itself is a payee, earns 1,000, and withdraws while it withdraws.
    model = await assets.mint(Mint(AssetKind.MODEL, digest_of("w"), "", (), (token, me), (BasisPoints(5_000),) * 2))
    await assets.distribute(model, TokenAmount(2_000))
    withdraw = interface("Assets").encode_call("withdraw")
    await send(token, calls.encode_call("arm", assets.address, withdraw))
    before = await balance(token)
    await act(assets.address, withdraw)
    assert await count("attempts") == 1
    assert await count("successes") == 0
    assert await balance(token) - before == 1_000
    assert await balance(assets.address) == 1_000 == await assets.total_credit()

    # Paying in while paying in: both payments count, once each, or none does.
    again = interface("Assets").encode_call("distribute", model, 500)
    await send(token, calls.encode_call("arm", assets.address, again))
    await act(token, calls.encode_call("approve", assets.address, UNLIMITED))
    await assets.distribute(model, TokenAmount(2_000))
    held, credit = await assets.total_held(), await assets.total_credit()
    assert (held, credit) == (0, await balance(assets.address))


async def test_bytes_of_another_contract_are_found_out(world: World) -> None:
    await world.suite.verify()
    good = world.suite.addresses
    fields = {name: getattr(good, name) for name in good.__struct_fields__}
    swapped = SuiteAddresses(**{**fields, "names": fields["receipts"]})
    with pytest.raises(Forged, match="Names"):
        await Suite.at(world.client, swapped).verify()
    empty = SuiteAddresses(**{**fields, "market": bytes(19) + b"\x99"})
    with pytest.raises(Unavailable, match="no Market"):
        await Suite.at(world.client, empty).verify()
    other = await Suite.deploy(world.client, PARAMETERS)
    mixed = SuiteAddresses(**{**fields, "assets": other.assets.address})
    with pytest.raises(Forged, match="trusts another"):
        await Suite.at(world.client, mixed).verify()
