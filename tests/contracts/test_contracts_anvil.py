"""The same flows on an outside EVM chain (anvil) over HTTP, with web3.py beside our client, and the build itself."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from contracts_world import PARAMETERS, PEOPLE, World, digest_of, key_of
from test_contracts_evaluations import AGREE, play

from koinon.contracts import eip712
from koinon.contracts.artifacts import SUITE, artifact
from koinon.contracts.assets import AssetKind
from koinon.contracts.client import ChainClient
from koinon.contracts.market import Offer
from koinon.contracts.names import Resolution, ServiceEndpoint
from koinon.contracts.refusals import Reverted
from koinon.contracts.rpc import HttpRpc
from koinon.contracts.studies import StudyPhase
from koinon.contracts.suite import Suite
from koinon.kernel.ids import to_hex
from koinon.kernel.quantities import BasisPoints, TokenAmount, UnixSeconds

pytestmark = pytest.mark.node

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def outside(anvil: str) -> AsyncIterator[World]:
    """The world on anvil."""
    rpc = HttpRpc([anvil])
    client = ChainClient(rpc, key_of("deployer"))
    for name in ("deployer", *PEOPLE):
        await rpc.request("anvil_setBalance", [to_hex(key_of(name).address), hex(10**24)])
    suite = await Suite.deploy(client, PARAMETERS)
    yield await World.build(client, suite, rpc)
    await client.close()


async def test_the_main_job_on_an_outside_chain(outside: World) -> None:
    world = outside
    await world.suite.verify()
    study_id = await world.completed()
    assert (await world.suite.studies.study_of(study_id)).phase == StudyPhase.COMPLETED
    model = await world.model(study_id=study_id)
    request_id, members = await world.evaluating(model)
    await play(world, request_id, members, AGREE)
    await world.by("stranger").evaluations.finalise(request_id)
    names = world.by("publisher").names
    await names.register("tumour-risk.clinic")
    endpoint = ServiceEndpoint("https://one.example", world.address("provider-0"))
    await names.set_resolution("tumour-risk.clinic", Resolution(model, digest_of("weights"), request_id, (endpoint,)))
    service = await world.model(kind=AssetKind.SERVICE, parents=(model,))
    offer = Offer(TokenAmount(33), TokenAmount(0), TokenAmount(33), BasisPoints(3_000), True)
    await world.by("publisher").market.set_offer(service, offer)
    buyer = world.by("buyer").market
    await buyer.buy(service, 200, 86_400, TokenAmount(200 * 33))
    expiry = UnixSeconds(await world.now() + 1_000)
    channel = await buyer.open(world.address("provider-0"), service, TokenAmount(10_000), expiry, digest_of("s"))
    total = TokenAmount(200 * 33)
    voucher = key_of("buyer").sign_digest(eip712.voucher_digest(await buyer.domain(), channel, total))
    await world.by("provider-0").market.settle(channel, total, voucher)
    await world.by("provider-0").receipts.anchor(service, digest_of("root"), 200, 0)
    await world.check_money()


async def test_time_outs_and_refusals_on_an_outside_chain(outside: World) -> None:
    world = outside
    study_id, committee = await world.running()
    with pytest.raises(Reverted, match=r"Studies refused complete: TooFewSignatures\(given=0, needed=3\)"):
        await world.by("north").studies.complete(study_id, 0, digest_of("o"), [b""] * 4)
    with pytest.raises(Reverted, match="TooEarly"):
        await world.by("north").studies.expire(study_id)
    await world.by("north").studies.challenge(study_id, 0, 2)
    await world.client.request("evm_increaseTime", 102)
    await world.client.request("evm_mine")
    await world.by("stranger").studies.expire_challenge(study_id, 0, 2)
    assert committee[2] not in await world.draw(study_id)
    await world.client.request("evm_increaseTime", 302)
    await world.client.request("evm_mine")
    await world.by("stranger").studies.expire(study_id)
    assert (await world.suite.studies.study_of(study_id)).attempt == 2
    await world.check_money()


def test_web3_deploys_and_calls_the_suite(anvil: str) -> None:
    from web3 import Web3
    from web3.exceptions import ContractCustomError

    web3 = Web3(Web3.HTTPProvider(anvil))
    account = web3.eth.accounts[0]

    def create(name: str, *arguments: Any) -> Any:
        compiled = artifact(name)
        factory = web3.eth.contract(abi=json.loads(json.dumps(compiled.abi)), bytecode=compiled.bytecode)
        digest = factory.constructor(*arguments).transact({"from": account})
        address = web3.eth.wait_for_transaction_receipt(digest)["contractAddress"]
        return web3.eth.contract(address=address, abi=json.loads(json.dumps(compiled.abi)))

    token = create("Token", 10**15)
    providers = create("Providers", token.address, 10**9, 60)
    studies = create("Studies", token.address, providers.address, 4, 1_000)
    assets = create("Assets", token.address, studies.address)
    evaluations = create("Evaluations", token.address, providers.address, assets.address, 4, 1_000, 200)
    names = create("Names", assets.address, evaluations.address)
    market = create("Market", assets.address, 60)
    create("Receipts", assets.address, providers.address)
    providers.functions.wire([studies.address, evaluations.address]).transact({"from": account})
    assert token.functions.balanceOf(account).call() == 10**15
    assert market.functions.supportsInterface("0x80ac58cd").call()  # ERC-721
    assert assets.functions.supportsInterface("0x2a55205a").call()  # ERC-2981
    names.functions.register("abc").transact({"from": account})
    assert names.functions.resolve("abc").call()[0] == account
    with pytest.raises(ContractCustomError):
        studies.functions.cancel(1).call()


def test_artefacts_are_what_the_sources_give() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "contracts" / "build.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert set(SUITE) == {path.stem for path in (ROOT / "src" / "koinon" / "contracts" / "artifacts").glob("*.json")}


def test_the_lock_file_names_no_download_address() -> None:
    lock = json.loads((ROOT / "contracts" / "package-lock.json").read_text())
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)
