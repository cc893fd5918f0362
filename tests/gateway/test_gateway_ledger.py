"""The same pages about the same organisations on our own ledger: one real validator and its JSON-RPC."""

import sys
import time
from pathlib import Path

import httpx
from gateway_world import NAME, World

sys.path.insert(0, str(Path(__file__).parent.parent / "ledger"))

from eth_account import Account as Wallet
from ledger_network import open_network

from koinon.contracts.client import ChainClient
from koinon.contracts.rpc import HttpRpc
from koinon.crypto.signature import AccountKey
from koinon.gateway.application import create_application
from koinon.gateway.source import ChainSource

RICH = b"\x77" * 32


async def test_every_page_tells_the_story_on_our_ledger(tmp_path: Path) -> None:
    async def no_sleep(_: int) -> None:
        raise AssertionError("this story needs no waiting")

    async def now() -> int:
        return int(time.time())

    async with open_network(1, tmp_path, Wallet.from_key(RICH)) as (validator,):
        assert validator.rpc_url is not None
        rpc = HttpRpc([validator.rpc_url])
        world = World(rpc, AccountKey.from_secret(RICH), no_sleep, now)
        await world.found()
        study, committee = await world.lock_and_draw()
        await world.complete(study, 0, committee)
        await world.publish(study)
        await world.name(await world.evaluate())
        await world.sell()
        source = ChainSource(ChainClient(rpc), world.addresses)
        page = await source.study(study)
        assert (page.phase, [check.holds for check in page.checks]) == ("completed", [True])
        assert (await source.model(NAME)).grade == "C"
        assert all(check.holds for check in (await source.settlement(world.service)).checks)
        blocks = await source.blocks()
        # On our ledger the latest block that RPC names is a final one.
        assert all(row.final for row in blocks.blocks)
        transport = httpx.ASGITransport(create_application(source))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            for path in ("/", f"/studies/{study}", f"/models/{NAME}", f"/settlement/{world.service}", "/blocks/3"):
                assert (await browser.get(path)).status_code == 200
            proposal = await browser.get(f"/transactions/{page.events[0].transaction}")
            assert "It is final." in proposal.text
            assert "propose" in proposal.text
        await rpc.close()
