"""What traced transactions show: the same as anvil shows of the same transactions, and by hand where anvil cannot."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from ledger_development import Development, development_process
from ledger_rpc import HttpClient, Json

from koinon.kernel.quantities import Gas, Seconds
from koinon.ledger.development import DevelopmentChain
from koinon.ledger.rpc.development import serve_development
from koinon.ledger.rpc.limits import Limits

FIRST = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
STRANGER = "0x" + "00" * 18 + "4242"


def creation(runtime: str) -> str:
    """Creation code that deploys ``runtime`` (hexadecimal), at most 255 bytes long."""
    return f"0x60{len(runtime) // 2:02x}600b5f3960{len(runtime) // 2:02x}5ff3".replace("600b5f39", "600a5f39") + runtime


# Stores the call data's first word at slot 1, logs it with topic 7, and returns what was at slot 1.
STORE = "6001545f52" + "5f35600155" + "5f35602052" + "600760206020a1" + "60205ff3"
# Reverts with Error("no").
REVERTING = (
    "7f08c379a0" + "00" * 28 + "5f52"
    "6020600452" "6002602452" "7f" + b"no".hex().ljust(64, "0") + "604452" "60645ffd"
)  # fmt: skip
LOOP = "5b5f56"


def calling(store: str, reverting: str) -> str:
    """Calls the first twice (once with value, once by DELEGATECALL), the second once, makes a contract, then stops."""
    data = "60055f52"
    call = "5f5f60205f6001" + "73" + store[2:] + "61ffff" + "f1" + "50"
    delegate = "5f5f60205f" + "73" + store[2:] + "61ffff" + "f4" + "50"
    static = "5f5f5f5f" + "73" + reverting[2:] + "61ffff" + "fa" + "50"
    create = "6001601f53" + "60016020" + "5f" + "f0" + "50"
    return data + call + delegate + static + create + "00"


def request(url: str, method: str, *parameters: Json) -> Json:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    answer = httpx.post(url, json=body, timeout=120).json()
    assert "error" not in answer, (method, answer)
    return answer["result"]


def send(url: str, **fields: Json) -> Json:
    """Send from the first account, with terms that make both chains charge the same, and give the receipt."""
    terms = {"from": FIRST, "gas": hex(1_000_000), "maxFeePerGas": hex(10**10), "maxPriorityFeePerGas": "0x0"}
    return request(url, "eth_getTransactionReceipt", request(url, "eth_sendTransaction", {**terms, **fields}))


def play(url: str) -> dict[str, str]:
    """The same transactions on any chain; their hashes by name."""
    store = send(url, data=creation(STORE))["contractAddress"]
    reverting = send(url, data=creation(REVERTING))["contractAddress"]
    caller = send(url, data=creation(calling(store, reverting)), value="0x9")["contractAddress"]
    word = "0x" + (9).to_bytes(32, "big").hex()
    return {
        "deployment": send(url, data=creation(STORE))["transactionHash"],
        "transfer": send(url, to=STRANGER, value="0x5")["transactionHash"],
        "store": send(url, to=store, data=word)["transactionHash"],
        "nested": send(url, to=caller)["transactionHash"],
        "revert": send(url, to=reverting)["transactionHash"],
        "out of gas": send(url, to=store, data=word, gas="0x5500")["transactionHash"],
    }


@pytest.fixture(scope="module")
def development() -> Iterator[Development]:
    with development_process() as running:
        yield running


def comparable(trace: Json) -> Json:
    """Without what differs by design: words of errors, precompiles' addresses, empty lists."""
    if isinstance(trace, dict):
        return {
            key: "error" if key == "error" else comparable(value)
            for key, value in trace.items()
            if value not in (None, [], {}) and key not in ("reason", "revertReason", "index")
        }
    return [comparable(entry) for entry in trace] if isinstance(trace, list) else trace


@pytest.mark.node
@pytest.mark.parametrize("anvil", [("--steps-tracing",)], indirect=True)
def test_traces_are_those_of_anvil(development: Development, anvil: str) -> None:
    ours, theirs = play(development.url), play(anvil)
    for name, transaction in ours.items():
        for options in ({}, {"withLog": True}, {"onlyTopCall": True}):
            asked = {"tracer": "callTracer", "tracerConfig": options}
            mine = request(development.url, "debug_traceTransaction", transaction, asked)
            other = request(anvil, "debug_traceTransaction", theirs[name], asked)
            # anvil shows the gas that the intrinsic cost leaves; go-ethereum, whose form it is, all of it.
            assert int(mine.pop("gas"), 16) > int(other.pop("gas"), 16)
            assert comparable(mine) == comparable(other), (name, options, json.dumps([mine, other], indent=1))
        steps = request(development.url, "debug_traceTransaction", transaction)
        others = request(anvil, "debug_traceTransaction", theirs[name])
        assert (steps["gas"], steps["failed"]) == (others["gas"], others["failed"])
        assert len(steps["structLogs"]) == len(others["structLogs"]), name
        for step, other in zip(steps["structLogs"], others["structLogs"], strict=True):
            shown = {key: step[key] for key in ("pc", "op", "gas", "depth", "stack")}
            assert shown == {key: other[key] for key in shown}, (name, step, other)
        changed = {"tracer": "prestateTracer", "tracerConfig": {"diffMode": True}}
        mine = request(development.url, "debug_traceTransaction", transaction, changed)
        other = request(anvil, "debug_traceTransaction", theirs[name], changed)
        for half in ("pre", "post"):
            mine_half, other_half = (without_money(trace[half]) for trace in (mine, other))
            assert mine_half == other_half, (name, half)


def without_money(accounts: Json) -> Json:
    """Nonces, codes and slots: balances differ with the base fee, and only one chain pays a beneficiary of its own."""
    kept = {
        address: {key: account[key] for key in ("nonce", "code", "storage") if account.get(key)}
        for address, account in accounts.items()
    }
    return {address: account for address, account in kept.items() if account}


@asynccontextmanager
async def serve(limits: Limits | None = None) -> AsyncIterator[HttpClient]:
    async with DevelopmentChain.open() as chain, serve_development(chain, "127.0.0.1", 0, limits) as url:
        client = HttpClient(url)
        try:
            yield client
        finally:
            await client.http.aclose()


async def deploy(client: HttpClient, runtime: str) -> str:
    name = await client.result("eth_sendTransaction", {"from": FIRST, "data": creation(runtime), "gas": hex(10**6)})
    return str((await client.result("eth_getTransactionReceipt", name))["contractAddress"])


async def test_a_call_that_never_ends_is_given_up_and_the_node_goes_on() -> None:
    limits = replace(Limits(), call_gas=Gas(10**15), call_seconds=Seconds(0.3))
    async with serve(limits) as client:
        loop = {"to": await deploy(client, LOOP), "gas": hex(10**15)}
        block = {"gasLimit": hex(10**15)}
        for method, parameters in (
            ("eth_call", [loop, "latest", {}, block]),
            ("eth_estimateGas", [loop, "latest", {}, block]),
            ("debug_traceCall", [loop, "latest", {"tracer": "callTracer", "blockOverrides": block}]),
            ("eth_simulateV1", [{"blockStateCalls": [{"calls": [loop], "blockOverrides": block}]}]),
        ):
            error = await client.error(method, *parameters)
            assert (error["code"], "did not end within" in error["message"]) == (-32005, True), (method, error)
        assert await client.result("eth_blockNumber") == "0x1"


async def test_a_trace_too_large_is_an_error() -> None:
    async with serve(replace(Limits(), call_seconds=Seconds(60.0))) as client:
        loop = {"to": await deploy(client, LOOP)}
        error = await client.error("debug_traceCall", loop, "latest")
        assert (error["code"], "steps" in error["message"]) == (-32005, True)
        shown = await client.result("debug_traceCall", {**loop, "gas": "0x6000"}, "latest", {"limit": 3})
        assert [step["op"] for step in shown["structLogs"]] == ["JUMPDEST", "PUSH0", "JUMP"]
        assert shown["failed"] is True
        # Hands 60,000 bytes of memory to itself again and again.
        hungry = await deploy(client, "61ea5f5f53" + "5b" + "5f5f61ea605f30" + "5af4" + "50600556")
        error = await client.error("debug_traceCall", {"to": hungry}, "latest", {"tracer": "callTracer"})
        assert (error["code"], "bytes of call data" in error["message"]) == (-32005, True)


async def test_what_a_call_would_change_is_what_the_transaction_changes() -> None:
    asked = {"tracer": "prestateTracer", "tracerConfig": {"diffMode": True}}
    async with serve() as client:
        store = await deploy(client, STORE)
        fields = {"from": FIRST, "to": store, "data": "0x" + (9).to_bytes(32, "big").hex(), "gas": hex(10**5)}
        told = await client.result("debug_traceCall", fields, "latest", asked)
        before = await client.result("eth_getTransactionCount", FIRST, "latest")
        name = await client.result("eth_sendTransaction", fields)
        done = await client.result("debug_traceTransaction", name, asked)
        assert [without_money(told[half]) for half in ("pre", "post")] == [
            without_money(done[half]) for half in ("pre", "post")
        ]
        assert len(told["post"][store]["storage"]) == 1
        assert int(before, 16) == told["pre"][FIRST]["nonce"]
        # What is taken back leaves nothing but that its sender tried.
        reverting = await deploy(client, REVERTING)
        failed = await client.result("debug_traceCall", {**fields, "to": reverting}, "latest", asked)
        assert without_money(failed["post"]) == {FIRST: {"nonce": failed["pre"][FIRST]["nonce"] + 1}}


async def test_overrides_change_the_state_of_one_call_only() -> None:
    async with serve() as client:
        word = "0x" + (7).to_bytes(32, "big").hex()
        reader = "0x" + "60015460005260206000f3"
        for override, expected in (
            ({"code": reader, "stateDiff": {"0x" + "00" * 31 + "01": word}}, word),
            ({"code": reader, "state": {"0x" + "00" * 31 + "02": word}}, "0x" + "00" * 32),
        ):
            assert await client.result("eth_call", {"to": STRANGER}, "latest", {STRANGER: override}) == expected
        number = "0x" + "4360005260206000f3"
        called = ({"to": STRANGER}, "latest", {STRANGER: {"code": number}}, {"number": "0x99"})
        assert int(await client.result("eth_call", *called), 16) == 0x99
        assert await client.result("eth_getCode", STRANGER) == "0x"
        rich = {FIRST: {"balance": "0x0"}}
        transfer = {"from": FIRST, "to": STRANGER, "value": "0x1"}
        assert (await client.error("eth_call", transfer, "latest", rich))["code"] == -32000


async def test_an_access_list_names_what_a_call_reaches() -> None:
    async with serve() as client:
        store = await deploy(client, STORE)
        reading = await deploy(client, "73" + store[2:] + "31" + "5f54" + "6005600655" + "00")
        found = await client.result("eth_createAccessList", {"from": FIRST, "to": reading})
        assert found["accessList"] == [
            {"address": store, "storageKeys": []},
            {"address": reading, "storageKeys": ["0x" + "00" * 32, "0x" + "00" * 31 + "06"]},
        ]
        named = {"from": FIRST, "to": reading, "accessList": found["accessList"], "gas": found["gasUsed"]}
        name = await client.result("eth_sendTransaction", named)
        receipt = await client.result("eth_getTransactionReceipt", name)
        assert (receipt["status"], receipt["gasUsed"]) == ("0x1", found["gasUsed"])


async def test_a_simulation_carries_state_from_call_to_call_and_block_to_block() -> None:
    async with serve() as client:
        store = await deploy(client, STORE)
        words = ["0x" + value.to_bytes(32, "big").hex() for value in (0, 3, 4)]
        call: dict[str, Any] = {"from": FIRST, "to": store}
        blocks = await client.result(
            "eth_simulateV1",
            {
                "blockStateCalls": [
                    {"calls": [{**call, "data": words[1]}, {**call, "data": words[2]}]},
                    {
                        "calls": [call, {**call, "to": STRANGER, "value": "0x2"}],
                        "blockOverrides": {"time": "0xffffffff"},
                    },
                ],
                "traceTransfers": True,
            },
        )
        returned = [call["returnData"] for block in blocks for call in block["calls"]]
        assert returned == [words[0], words[1], words[2], "0x"]
        assert [block["number"] for block in blocks] == ["0x2", "0x3"]
        assert blocks[1]["parentHash"] == blocks[0]["hash"]
        assert blocks[1]["timestamp"] == "0xffffffff"
        assert [len(call["logs"]) for block in blocks for call in block["calls"]] == [1, 1, 1, 1]
        assert blocks[1]["calls"][1]["logs"][0]["address"] == "0x" + "ee" * 20
        strict = {"blockStateCalls": [{"calls": [{**call, "nonce": "0x9"}]}], "validation": True}
        assert (await client.error("eth_simulateV1", strict))["code"] == -32000
        assert await client.result("eth_getStorageAt", store, "0x1") == words[0]
