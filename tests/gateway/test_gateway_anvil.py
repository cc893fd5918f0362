"""The same pages about the same story on an outside chain: anvil, as it comes from npm."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from gateway_world import NAME, World

from koinon.contracts.client import ChainClient
from koinon.contracts.rpc import HttpRpc
from koinon.crypto.signature import AccountKey
from koinon.gateway.application import create_application
from koinon.gateway.source import ChainSource

FIRST_KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
"""Secret of the first account that every anvil funds; public knowledge."""

pytestmark = pytest.mark.node


@pytest_asyncio.fixture
async def rpc(anvil: str) -> AsyncIterator[HttpRpc]:
    """A fresh outside chain."""
    chain = HttpRpc([anvil])
    yield chain
    await chain.close()


async def test_every_page_tells_the_story_on_anvil(rpc: HttpRpc) -> None:
    async def sleep(seconds: int) -> None:
        await rpc.request("evm_increaseTime", [seconds])
        await rpc.request("evm_mine", [])

    async def now() -> int:
        return int((await rpc.request("eth_getBlockByNumber", ["latest", False]))["timestamp"], 16)

    world = World(rpc, AccountKey.from_secret(FIRST_KEY), sleep, now)
    await world.play()
    source = ChainSource(ChainClient(rpc), world.addresses)
    study = await source.study(1)
    assert (study.phase, [check.holds for check in study.checks]) == ("completed", [True, True])
    model = await source.model(NAME)
    assert model.grade == "C"
    settlement = await source.settlement(world.service)
    assert all(check.holds for check in settlement.checks)
    blocks = await source.blocks()
    # anvil calls a block final two epochs of 32 later, so the newest are not.
    assert not blocks.blocks[0].final
    assert (await source.block(1)).block.final
    transport = httpx.ASGITransport(create_application(source))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        for path in ("/", "/studies/2", "/studies/3", f"/models/{NAME}", f"/settlement/{world.service}", "/receipts"):
            assert (await browser.get(path)).status_code == 200
        deployed = await browser.get(f"/transactions/{study.events[0].transaction}")
        assert "propose" in deployed.text
        assert "Proposed" in deployed.text
