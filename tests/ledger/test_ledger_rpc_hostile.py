"""Hostile requests: each gets one standard error, nothing changes, and the node goes on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest
from eth_account import Account as Wallet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_network import sign

from koinon.kernel.quantities import Seconds
from koinon.ledger.development import SECRETS, DevelopmentChain, wallet
from koinon.ledger.rpc.calls import CallLane
from koinon.ledger.rpc.development import development_table
from koinon.ledger.rpc.limits import Limits
from koinon.ledger.rpc.protocol import JsonRpc
from koinon.ledger.rpc.table import Caller, Json, Table

RICH = Wallet.from_key(SECRETS[0])
FIRST = "0x" + next(iter(wallet())).hex()
STRANGER = "0x" + "00" * 18 + "4242"
CODES: Final = {-32700, -32600, -32601, -32602, -32000, -32001, -32005, 3}
"""Every code but -32603, which says that the node is at fault."""
LIMITS = Limits(burst_units=10**9, units_per_second=10**9, call_seconds=Seconds(1.0))


@dataclass
class Node:
    """A development chain and its methods, asked without a socket."""

    chain: DevelopmentChain
    table: Table
    rpc: JsonRpc

    async def raw(self, body: bytes) -> Json:
        answer = await self.rpc.answer(body, Caller(self.rpc.clients.at("127.0.0.1", 0.0)))
        return msgspec.json.decode(answer) if answer else None

    async def error(self, method: str, *parameters: Json) -> dict[str, Json]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = await self.raw(msgspec.json.encode(body))
        assert "result" not in answer, answer
        return answer["error"]  # type: ignore[no-any-return]

    def footprint(self) -> tuple[Any, ...]:
        """Everything a request could have changed."""
        chain = self.chain.chain
        return chain.final_header, chain.state.root, len(self.chain.mempool), len(chain.executed), self.chain.leap


@asynccontextmanager
async def open_node() -> AsyncIterator[Node]:
    async with DevelopmentChain.open() as chain:
        lane = CallLane(LIMITS)
        table = development_table(chain, lane)
        yield Node(chain, table, JsonRpc(table, LIMITS))
        lane.close()


REQUESTS: Final[list[tuple[str, bytes, int]]] = [
    ("nothing", b"", -32700),
    ("no JSON", b"hello", -32700),
    ("half a request", b'{"jsonrpc": "2.0", "id": 1', -32700),
    ("two requests", b'{"jsonrpc": "2.0"} {"jsonrpc": "2.0"}', -32700),
    ("a byte order mark", b"\xef\xbb\xbf{}", -32700),
    ("bytes that are no UTF-8", b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId\xff"}', -32700),
    ("a lone surrogate", b'{"jsonrpc": "2.0", "id": 1, "method": "\\ud800"}', -32700),
    ("NaN", b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [NaN]}', -32700),
    ("infinity", b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [-Infinity]}', -32700),
    ("an id beyond every number", b'{"jsonrpc": "2.0", "id": 1e999, "method": "eth_chainId"}', -32700),
    ("a name twice", b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "eth_chainId"}', -32700),
    ("a name twice, once in disguise", b'{"jsonrpc": "2.0", "id": 1, "\\u0069d": 2, "method": "x"}', -32700),
    (
        "a name twice, deep inside",
        b'{"jsonrpc": "2.0", "id": 1, "method": "x", "params": [{"a": {"b": 1, "b": 2}}]}',
        -32700,
    ),
    ("nesting", b'{"jsonrpc": "2.0", "id": 1, "method": "x", "params": ' + b"[" * 40 + b"]" * 40 + b"}", -32700),
    ("a recursion bomb", b"[" * 200_000, -32700),
    ("a recursion bomb of objects", b'{"a":' * 200_000, -32700),
    ("an empty batch", b"[]", -32600),
    ("a batch too large", b"[" + b",".join([b"{}"] * 201) + b"]", -32600),
    ("a number", b"7", -32600),
    ("null", b"null", -32600),
    ("another version", b'{"jsonrpc": "1.0", "id": 1, "method": "eth_chainId"}', -32600),
    ("no method", b'{"jsonrpc": "2.0", "id": 1}', -32600),
    ("an object as id", b'{"jsonrpc": "2.0", "id": {}, "method": "eth_chainId"}', -32600),
    ("parameters in a string", b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": "0x1"}', -32600),
    ("parameters by name", b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": {"a": 1}}', -32602),
    ("an unknown method", b'{"jsonrpc": "2.0", "id": 1, "method": "eth_nothing"}', -32601),
    ("a method of the language", b'{"jsonrpc": "2.0", "id": 1, "method": "__class__"}', -32601),
    ("a name without end", b'{"jsonrpc": "2.0", "id": 1, "method": "' + b"x" * 100_000 + b'"}', -32601),
]


async def test_each_malformed_request_gets_its_standard_error() -> None:
    async with open_node() as node:
        before = node.footprint()
        for name, body, code in REQUESTS:
            answer = await node.raw(body)
            assert answer["error"]["code"] == code, (name, answer)
            assert len(answer["error"]["message"]) < 300, name
        inside = await node.raw(b'[[], 5, {"jsonrpc": "2.0", "id": "x", "method": "eth_chainId"}]')
        assert [answer.get("error", {}).get("code") for answer in inside] == [-32600, -32600, None]
        assert node.footprint() == before


async def test_brackets_and_colons_in_strings_are_only_text() -> None:
    async with open_node() as node:
        name = b'"' + b"[{:" * 50 + b'\\"}]"'
        answer = await node.raw(b'{"jsonrpc": "2.0", "id": ' + name + b', "method": "eth_chainId"}')
        assert answer["result"] == "0x7a69"


def creation(runtime: str) -> bytes:
    return bytes.fromhex(f"60{len(runtime) // 2:02x}600a5f3960{len(runtime) // 2:02x}5ff3{runtime}")


TRANSACTIONS: Final[list[tuple[str, dict[str, Any], int, str]]] = [
    ("another chain", {"chainId": 1}, -32000, "signed for chain 1"),
    ("a gap too wide", {"nonce": 256}, -32000, "nonce too high"),
    ("too little for gas", {"maxFeePerGas": 1}, -32000, "less than block base fee"),
    ("more than it owns", {"value": 10**25}, -32000, "insufficient funds"),
    ("more gas than a block", {"gas": 10**9}, -32000, "exceeds block gas limit"),
    ("less gas than it takes", {"gas": 20_000}, -32000, "intrinsic gas too low"),
    ("too much data", {"data": b"\x01" * 131_073, "gas": 30_000_000}, -32602, "131072 bytes"),
    ("creation code over the limit", {"to": None, "data": bytes(49_153), "gas": 30_000_000}, -32602, "49152"),
]


async def test_each_impossible_transaction_is_refused_and_leaves_nothing() -> None:
    async with open_node() as node:
        before = node.footprint()
        for name, fields, code, says in TRANSACTIONS:
            to = fields.get("to", STRANGER)
            changed = {key: value for key, value in fields.items() if key not in ("nonce", "to")}
            error = await node.error(
                "eth_sendRawTransaction", "0x" + sign(RICH, fields.get("nonce", 0), to, **changed).hex()
            )
            assert (error["code"], says in error["message"]) == (code, True), (name, error)
        good = sign(RICH, 0, STRANGER)
        for name, raw in (
            ("cut off", good[:-1]),
            ("with more behind it", good + b"\x00"),
            ("of an unknown type", b"\x05" + good[1:]),
            ("a list that says it is longer", b"\xf9\xff\xff" + bytes(9)),
            ("a bomb of lists", b"\xc1" * 60_000),
            ("noise", bytes(range(256)) * 4),
        ):
            error = await node.error("eth_sendRawTransaction", "0x" + raw.hex())
            assert error["code"] in (-32602, -32000), (name, error)
        assert node.footprint() == before


BOMBS: Final[list[tuple[str, str, int]]] = [
    ("memory without end", "60016480000000005200", -32000),
    ("as much memory as the gas buys", "5b5a5952600056", -32000),
    ("a loop that never ends", "5b5f56", -32000),
    ("calls itself for ever", "5f5f5f5f5f305af100", 0),
    ("makes itself for ever", "363d3d37" + "5f5f5ff0505f5f5f5f5f305af1505f56", -32000),
    ("copies a gigabyte", "64400000000" + "05f5f3900", -32000),
    ("an invalid instruction", "fe", -32000),
    ("jumps into nowhere", "61ffff56", -32000),
    ("takes from an empty stack", "50", -32000),
    ("reverts with a lie about its reason", "7f08c379a0" + "ff" * 28 + "5f5260ff5ffd", 3),
]


async def test_each_bomb_in_a_call_ends_in_an_error_and_in_time() -> None:
    async with open_node() as node:
        before = node.footprint()
        for name, code, expected in BOMBS:
            override = {STRANGER: {"code": "0x" + code}}
            for method in ("eth_call", "eth_estimateGas"):
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [{"to": STRANGER}, "latest", override]}
                answer = await node.raw(msgspec.json.encode(body))
                found = answer.get("error", {}).get("code", 0)
                # What is long ends with its gas or with its time, whichever comes first on this machine.
                assert found in (expected, -32005), (name, method, answer)
        assert node.footprint() == before


SHORT_HEX: Final = ("0x", "0x0", "0x1", "0xffffffffffffffff", "0xzz")
HEX: Final = st.sampled_from((*SHORT_HEX, "0x" + "f" * 64, "0x" + "00" * 32, "0x" + "11" * 32, FIRST, STRANGER))
TAGS: Final = ("latest", "pending", "earliest", "safe", "newHeads", "logs", "callTracer", "", "\x00", "é")
WORDS: Final = st.sampled_from(TAGS)
FIELDS: Final = """
    from to gas gasPrice maxFeePerGas maxPriorityFeePerGas value data input nonce type accessList address storageKeys
    topics fromBlock toBlock blockHash blockNumber tracer tracerConfig diffMode withLog limit blockStateCalls calls
    stateOverrides blockOverrides validation state stateDiff balance code number time types primaryType domain message
    EIP712Domain
"""
KEYS: Final = st.sampled_from((*FIELDS.split(), FIRST, STRANGER))
ATOMS: Final = st.one_of(
    HEX, WORDS, st.none(), st.booleans(), st.integers(-3, 2**64 + 3), st.floats(allow_nan=False, allow_infinity=False)
)
ANYTHING: Final = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=12
)
UNTOUCHED: Final = ("eth_sendTransaction", "eth_sendRawTransaction", "anvil_mine", "koinon_waitForBlock")
"""Left out of the fuzz: what changes the chain when it is asked properly, and what waits as long as it is asked to."""


async def bombard(examples: int) -> None:
    """Ask every method for nonsense; none may answer that the node is at fault, and nothing may change."""
    async with open_node() as node:
        names = sorted(name for name in node.table if name not in UNTOUCHED and not name.startswith("evm_"))
        before = node.footprint()
        found: list[bytes] = []

        @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
        @given(st.sampled_from(names), st.lists(ANYTHING, max_size=5))
        def draw(name: str, parameters: list[Json]) -> None:
            body = {"jsonrpc": "2.0", "id": 1, "method": name, "params": parameters}
            found.append(msgspec.json.encode(body))

        draw()
        for body in found:
            answer = await node.raw(body)
            code = answer["error"]["code"] if "error" in answer else None
            assert code is None or code in CODES, (body, answer)
        assert len(found) >= examples // 2
        assert node.footprint() == before


async def test_no_parameters_bring_the_node_to_a_fault_of_its_own() -> None:
    await bombard(200)


@pytest.mark.long
async def test_no_parameters_in_a_large_sample_do() -> None:
    await bombard(3000)
