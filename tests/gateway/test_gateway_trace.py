"""A traced transaction on its page, from a development chain of ours with the whole suite on it."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import pytest
from gateway_chain import FullChain
from gateway_world import World
from playwright.async_api import Browser, ViewportSize, expect

sys.path.insert(0, str(Path(__file__).parent.parent / "ledger"))

from test_gateway_browser import chromium

from koinon.contracts.client import ChainClient
from koinon.contracts.rpc import HttpRpc
from koinon.crypto.signature import AccountKey
from koinon.gateway.application import create_application
from koinon.gateway.serve import SiteConfig, open_site
from koinon.gateway.source import ChainSource
from koinon.ledger.development import SECRETS, DevelopmentChain
from koinon.ledger.rpc.development import serve_development


@dataclass(frozen=True)
class Told:
    """A chain on which something was bought, and the transactions that say so."""

    rpc: HttpRpc
    world: World
    purchase: str
    failed: str


@asynccontextmanager
async def story() -> AsyncIterator[Told]:
    async with DevelopmentChain.open() as chain, serve_development(chain, "127.0.0.1", 0) as url:
        rpc = HttpRpc([url])

        async def sleep(seconds: int) -> None:
            await rpc.request("evm_increaseTime", [seconds])
            await rpc.request("evm_mine", [])

        async def now() -> int:
            return int((await rpc.request("eth_getBlockByNumber", ["latest", False]))["timestamp"], 16)

        world = World(rpc, AccountKey.from_secret(bytes.fromhex(SECRETS[0])), sleep, now)
        await world.found()
        study, _ = await world.propose()
        source = ChainSource(ChainClient(rpc), world.addresses)
        proposal = (await source.study(study)).events[0].transaction
        # The same call of a stranger who never approved its money: the token refuses, and with it the whole call.
        sent = await rpc.request("eth_getTransactionByHash", [proposal])
        stranger = (await rpc.request("eth_accounts", []))[9]
        again = {"from": stranger, "to": sent["to"], "data": sent["input"], "gas": hex(2_000_000)}
        failed = await rpc.request("eth_sendTransaction", [again])
        yield Told(rpc, world, proposal, failed)
        await rpc.close()


async def test_the_page_shows_each_call_under_the_one_that_made_it() -> None:
    async with story() as told:
        source = ChainSource(ChainClient(told.rpc), told.world.addresses)
        page = await source.transaction(told.purchase)
        assert page.trace is not None
        shown = [(call.depth, call.callee and call.callee.name, call.call) for call in page.trace.calls]
        assert shown[0] == (0, "Studies", "propose")
        assert (1, "Token", "transferFrom") in shown
        assert page.trace.calls[0].gas_used == page.gas_used
        assert all(call.gas_used < page.trace.calls[0].gas_used for call in page.trace.calls[1:])
        assert not any(call.error for call in page.trace.calls)
        refused = (await source.transaction(told.failed)).trace
        assert refused is not None
        assert [call.error for call in refused.calls][:1] == ["execution reverted"]
        assert refused.calls[-1].call == "transferFrom"
        assert refused.calls[-1].reason.startswith("ERC20InsufficientAllowance(spender=0x")
        transport = httpx.ASGITransport(create_application(source))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            text = (await browser.get(f"/transactions/{told.purchase}")).text
            assert "The calls it made" in text
            assert "transferFrom" in text
            chinese = (await browser.get(f"/transactions/{told.purchase}", headers={"accept-language": "zh"})).text
            assert "发出的调用" in chinese


async def test_a_chain_that_traces_nothing_says_so_on_the_page(chain: FullChain, world: World) -> None:
    source = ChainSource(ChainClient(chain), world.addresses)
    page = await source.transaction((await source.study(1)).events[0].transaction)
    assert page.trace is not None
    assert (page.trace.calls, page.trace.problem) == ((), "no such method")
    transport = httpx.ASGITransport(create_application(source))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        text = (await browser.get(f"/transactions/{page.hash}")).text
    assert "gives no trace of it: no such method" in text


@pytest.mark.browser
async def test_the_trace_fits_a_phone_and_a_screen() -> None:
    async with story() as told, chromium() as browser:
        config = SiteConfig(chain_urls=("http://127.0.0.1:9",), addresses=told.world.addresses, port=0)
        async with open_site(config, rpc=told.rpc) as site:
            await look(browser, site.url, told, 390, "dark")
            await look(browser, site.url, told, 1280, "light")


async def look(browser: Browser, url: str, told: Told, width: int, theme: Literal["dark", "light"]) -> None:
    """Open both pages: they fit, deeper calls stand further in, and nothing complains."""
    viewport = ViewportSize(width=width, height=844)
    context = await browser.new_context(viewport=viewport, color_scheme=theme, is_mobile=width < 640)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    for transaction in (told.purchase, told.failed):
        await page.goto(f"{url}/transactions/{transaction}")
        await expect(page.locator("table.calls tbody tr").first).to_contain_text("propose")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        # Nor is anything out of sight in a table that must be pushed aside to be read.
        beyond = "all => all.filter((e) => e.scrollWidth > e.clientWidth).length"
        assert await page.locator(".scroll").evaluate_all(beyond) == 0
        steps = page.locator("table.calls tbody th")
        left = await steps.evaluate_all("all => all.map((e) => parseFloat(getComputedStyle(e).paddingLeft))")
        assert left[1] > left[0]
    assert complaints == []
    await context.close()
