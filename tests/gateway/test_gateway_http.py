"""The application over HTTP: what it answers, what it refuses, and what it never lets out."""

import json
import re

import httpx
import pytest
from gateway_chain import FullChain
from gateway_world import NAME, World

from koinon.contracts.client import ChainClient
from koinon.contracts.rpc import RpcError
from koinon.gateway.application import create_application
from koinon.gateway.guard import HEADERS
from koinon.gateway.live import Change, Changes
from koinon.gateway.serve import SiteConfig, open_site
from koinon.gateway.source import ChainSource
from koinon.kernel.errors import InvalidInput, Unavailable

PAGES = (
    "/",
    "/studies",
    "/studies/1",
    "/studies/2",
    "/studies/3",
    "/models",
    f"/models/{NAME}",
    "/budgets",
    "/budgets/1",
    "/budgets/2",
    "/receipts",
    "/settlement/5",
    "/blocks",
    "/blocks?before=20",
    "/blocks/12",
)

# What comes in, how it is answered. Each is one designed page; none changes or reveals anything.
BAD_INPUTS = (
    ("/nothing", 404),
    ("/studies/99", 404),
    ("/studies/0", 404),
    ("/studies/-1", 400),
    ("/studies/1e3", 400),
    ("/studies/9999999999999999999999", 400),
    ("/studies/１", 400),
    ("/studies/%00", 400),
    ("/models/nobody.here", 404),
    ("/models/UPPER", 400),
    ("/models/a..b", 400),
    ("/models/<script>alert(1)</script>", 404),
    ("/models/%3Cscript%3E", 400),
    ("/models/" + "a" * 65, 400),
    ("/models/{gap}.x", 400),
    ("/budgets/4", 404),
    ("/budgets/99", 404),
    ("/budgets/x", 400),
    ("/settlement/4", 404),
    ("/settlement/x", 400),
    ("/blocks/999999", 404),
    ("/blocks?before=-3", 400),
    ("/blocks?before=abc", 400),
    ("/transactions/0x12", 400),
    ("/transactions/0x" + "00" * 32, 404),
    ("/transactions/0x" + "zz" * 32, 400),
    ("/find?q=", 404),
    ("/find?q=%7Bgap%7D", 404),
    ("/find?q=" + "x" * 3000, 414),
    ("/static/../application.py", 404),
    ("/static/%2e%2e/application.py", 404),
)


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_has_its_question_and_its_json_twin(browser: httpx.AsyncClient, path: str) -> None:
    page = await browser.get(path)
    assert page.status_code == 200
    assert page.text.count("<h1>") == 1
    assert re.search(r"<h1>.*\?\s*</h1>", page.text, re.DOTALL)
    twin = await browser.get("/api" + path)
    assert twin.headers["content-type"] == "application/json"
    assert twin.json()["head"]["chain_id"] == 7919


@pytest.mark.parametrize(("path", "status"), BAD_INPUTS)
async def test_bad_addresses_get_a_designed_page(
    browser: httpx.AsyncClient, chain: FullChain, path: str, status: int
) -> None:
    before = chain.snapshot()
    page = await browser.get(path)
    assert page.status_code == status
    assert "Nothing was changed" in page.text
    assert "Next step" in page.text
    assert "<script>alert" not in page.text
    assert chain.snapshot() == before


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
async def test_nothing_but_reading_exists(browser: httpx.AsyncClient, method: str) -> None:
    page = await browser.request(method, "/studies/1", content=b"x" * 10)
    assert page.status_code == 405
    assert "This site only reads" in page.text


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:8600", 200), ("127.0.0.1", 200), ("[::1]:1", 200), ("evil.example", 421)]
)
async def test_a_foreign_host_name_is_refused(browser: httpx.AsyncClient, host: str, status: int) -> None:
    assert (await browser.get("/studies", headers={"host": host})).status_code == status


@pytest.mark.parametrize("path", ["/", "/nothing", "/static/site.css", "/api/studies", f"/models/{NAME}"])
async def test_every_answer_carries_the_security_headers_and_no_cookie(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", PAGES)
async def test_pages_hold_nothing_a_strict_policy_would_refuse(browser: httpx.AsyncClient, path: str) -> None:
    text = (await browser.get(path)).text
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", text)
    assert not re.search(r"\son[a-z]+\s*=", text)
    assert not re.search(r"\sstyle\s*=", text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)


async def test_text_from_the_chain_is_escaped_everywhere(browser: httpx.AsyncClient, world: World) -> None:
    await world.name(0, "hostile.model", ('http://x/"><script>alert(1)</script>', "http://y/{{ 7*7 }}"))
    text = (await browser.get("/models/hostile.model")).text
    assert "<script>alert" not in text
    assert "&#34;&gt;&lt;script&gt;" in text
    assert "{{ 7*7 }}" in text


async def test_find_leads_to_what_is_meant(browser: httpx.AsyncClient, chain: FullChain) -> None:
    transaction = next(iter(chain.sent))
    block = chain.blocks[7]
    for asked, place in (
        ("study 2", "/studies/2"),
        ("12", "/blocks/12"),
        (NAME, f"/models/{NAME}"),
        (transaction, f"/transactions/{transaction}"),
        ("0x" + block.hash.hex(), "/blocks/7"),
    ):
        answer = await browser.get("/find", params={"q": asked})
        assert (answer.status_code, answer.headers["location"]) == (303, place)
        assert (await browser.get(place)).status_code == 200


async def test_language_follows_the_browser_and_the_address(browser: httpx.AsyncClient) -> None:
    german = await browser.get("/studies/1", headers={"accept-language": "de, zh-CN;q=0.8, en;q=0.5"})
    assert '<html lang="zh-Hans">' in german.text
    assert "研究 1 发生了什么" in german.text
    chosen = await browser.get("/studies/1?lang=en", headers={"accept-language": "zh"})
    assert '<html lang="en">' in chosen.text
    assert '/studies?lang=en"' in chosen.text
    assert (await browser.get("/studies", headers={"accept-language": "zh;q=x,,;;=,en;q=0"})).status_code == 200


async def test_json_of_a_settlement_is_exact(browser: httpx.AsyncClient) -> None:
    page = json.loads((await browser.get("/api/settlement/5")).text)
    assert all(check["left"]["value"] == check["right"]["value"] for check in page["checks"])
    assert all(isinstance(flow["amount"]["value"], int) for flow in page["flows"])


async def test_an_unreachable_chain_is_said_and_old_facts_are_labelled(
    browser: httpx.AsyncClient, chain: FullChain
) -> None:
    chain.broken["eth_getBlockByNumber"] = Unavailable("the chain node is gone; start it")
    first = await browser.get("/studies")
    assert first.status_code == 503
    assert "the chain node is gone; start it" in first.text
    chain.broken.clear()
    assert (await browser.get("/studies")).status_code == 200
    chain.broken["eth_getBlockByNumber"] = Unavailable("the chain node is gone; start it")
    later = await browser.get("/studies")
    assert later.status_code == 200
    assert "What you see is as of block" in later.text
    assert (await browser.get("/healthz")).status_code == 503


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("eth_getBlockByNumber", "0x1"),
        ("eth_getBlockByNumber", {"number": "0xzz"}),
        ("eth_getLogs", {"not": "a list"}),
        ("eth_getLogs", [1]),
        ("eth_getLogs", [{"address": None}]),
        ("eth_call", "0xnothex"),
        ("eth_call", "0x"),
        ("eth_chainId", None),
    ],
)
async def test_odd_answers_of_a_chain_node_become_a_page(
    browser: httpx.AsyncClient, chain: FullChain, method: str, answer: object
) -> None:
    chain.broken[method] = answer
    page = await browser.get("/studies/1")
    assert page.status_code == 502
    assert "The chain answers oddly" in page.text


async def test_an_unforeseen_error_shows_nothing_of_itself(browser: httpx.AsyncClient, chain: FullChain) -> None:
    chain.broken["eth_getBlockByNumber"] = ZeroDivisionError("secret 0xabc")
    page = await browser.get("/studies/1")
    assert page.status_code == 500
    assert "secret" not in page.text
    assert page.headers["content-security-policy"] == HEADERS["content-security-policy"]


async def test_logs_are_asked_for_in_halves_where_a_node_limits_them(chain: FullChain, world: World) -> None:
    whole = await ChainSource(ChainClient(chain), world.addresses).study(1)

    class Limited:
        def __init__(self) -> None:
            self.asked: list[int] = []

        async def request(self, method: str, *parameters: object) -> object:
            if method == "eth_getLogs":
                query = parameters[0]
                assert isinstance(query, dict)
                span = int(query["toBlock"], 16) - int(query["fromBlock"], 16) + 1
                self.asked.append(span)
                if span > 16:
                    raise RpcError(method, -32005, "query returned more than 10000 results")
            return await chain.request(method, parameters)

    limited = Limited()
    assert await ChainSource(limited, world.addresses).study(1) == whole
    assert max(limited.asked) > 16 >= min(limited.asked)


async def test_nothing_is_ever_sent_to_the_chain(browser: httpx.AsyncClient, chain: FullChain) -> None:
    for path in PAGES:
        await browser.get(path)
    assert chain.requests
    assert {one for one in chain.requests if "send" in one or "sign" in one.lower()} == set()


class TestEvents:
    async def test_a_change_reaches_every_reader_and_the_line_ends_when_the_site_stops(self) -> None:
        changes = Changes()
        one, other = changes.stream(), changes.stream()
        assert await anext(one) == await anext(other) == b": connected\n\n"
        changes.tell(Change(height=7, final_height=5, events=("Studies.Drawn",)))
        expected = b'event: change\ndata: {"height":7,"final_height":5,"events":["Studies.Drawn"]}\n\n'
        assert await anext(one) == await anext(other) == expected
        changes.close()
        with pytest.raises(StopAsyncIteration):
            await anext(one)

    async def test_a_slow_reader_gets_the_newest_with_the_events_of_all(self) -> None:
        changes = Changes()
        stream = changes.stream()
        await anext(stream)
        for height in range(1000):
            changes.tell(Change(height=height, final_height=height, events=(f"Market.{height % 3}",)))
        last = json.loads((await anext(stream)).split(b"data: ")[1])
        assert last == {"height": 999, "final_height": 999, "events": ["Market.0", "Market.1", "Market.2"]}
        await stream.aclose()  # type: ignore[attr-defined]

    async def test_a_quiet_line_is_kept_open(self) -> None:
        changes = Changes()
        stream = changes.stream(keep_alive=0.0)
        await anext(stream)
        assert await anext(stream) == b": still here\n\n"
        await stream.aclose()  # type: ignore[attr-defined]

    async def test_too_many_readers_are_refused_in_one_sentence(self) -> None:
        changes = Changes()
        streams = [changes.stream() for _ in range(256)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(Unavailable, match="256 pages are open"):
            changes.check_room()
        await streams[0].aclose()  # type: ignore[attr-defined]
        changes.check_room()
        for stream in streams[1:]:
            await stream.aclose()  # type: ignore[attr-defined]


class TestServing:
    async def test_a_taken_port_is_one_clear_error(self, chain: FullChain, world: World) -> None:
        config = SiteConfig(chain_urls=("http://127.0.0.1:9",), addresses=world.addresses, port=0)
        async with open_site(config, rpc=chain) as site:
            port = int(site.url.rsplit(":", 1)[1])
            again = SiteConfig(chain_urls=("http://127.0.0.1:9",), addresses=world.addresses, port=port)
            with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{port}"):
                async with open_site(again, rpc=chain):
                    pass
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"{site.url}/healthz")).json()["height"] == chain.blocks[-1].number
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{site.url}/healthz")

    async def test_a_suite_with_a_missing_contract_is_refused(self, world: World) -> None:
        addresses = {name: one for name, one in world.addresses.items() if name != "Market"}
        with pytest.raises(InvalidInput, match="missing: Market"):
            async with open_site(SiteConfig(chain_urls=("http://127.0.0.1:9",), addresses=addresses)):
                pass

    async def test_an_address_of_a_chain_with_a_key_in_it_is_on_no_page(self, chain: FullChain, world: World) -> None:
        config = SiteConfig(chain_urls=("http://127.0.0.1:9/v3/secret-key",), addresses=world.addresses, port=0)
        async with open_site(config, rpc=chain) as site:
            transport = httpx.ASGITransport(create_application(site.source))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                for path in PAGES:
                    answer = await client.get(path)
                    assert "secret-key" not in answer.text
                    assert "secret-key" not in (await client.get("/api" + path)).text
