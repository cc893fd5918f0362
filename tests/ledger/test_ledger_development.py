"""The development chain: subscriptions, filters, instant and held back blocks, its keys, its limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from eth_account import Account as Wallet
from eth_account.messages import encode_defunct, encode_typed_data
from ledger_network import sign
from ledger_rpc import HttpClient, Json, SocketClient, open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import ChainId, Seconds
from koinon.ledger.development import MNEMONIC, SECRETS, DevelopmentChain, wallet
from koinon.ledger.rpc import connections
from koinon.ledger.rpc.development import serve_development
from koinon.ledger.rpc.limits import Limits

RICH = Wallet.from_key(SECRETS[0])
FIRST, SECOND = ("0x" + address.hex() for address in list(wallet())[:2])
LOGGER_CREATION = bytes.fromhex("6008600c60003960086000f3" + "600160006000a100")
"""Creation code of a contract that logs topic 1 when called."""
TOPIC = "0x" + (1).to_bytes(32, "big").hex()


@asynccontextmanager
async def serve(limits: Limits | None = None) -> AsyncIterator[tuple[DevelopmentChain, HttpClient, str]]:
    async with DevelopmentChain.open() as chain, serve_development(chain, "127.0.0.1", 0, limits) as url:
        client = HttpClient(url)
        yield chain, client, url
        await client.http.aclose()


async def send(client: HttpClient, **fields: Json) -> Json:
    """Send from the first account and give the receipt."""
    name = await client.result("eth_sendTransaction", {"from": FIRST, **fields})
    return await client.result("eth_getTransactionReceipt", name)


async def read_all(socket: SocketClient) -> None:
    while True:
        await socket.socket.recv()


def test_the_keys_are_those_of_the_mnemonic() -> None:
    Wallet.enable_unaudited_hdwallet_features()
    derived = [Wallet.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}") for number in range(10)]
    assert [account.key.hex().removeprefix("0x") for account in derived] == list(SECRETS)
    assert [account.address.lower() for account in derived] == ["0x" + address.hex() for address in wallet()]


async def test_a_transaction_is_final_when_its_hash_comes_back() -> None:
    async with serve() as (_, client, _):
        receipt = await send(client, to=SECOND, value="0x5")
        assert receipt["status"] == "0x1"
        assert await client.result("eth_blockNumber") == receipt["blockNumber"] == "0x1"
        block = await client.result("eth_getBlockByNumber", "finalized", True)
        assert [transaction["hash"] for transaction in block["transactions"]] == [receipt["transactionHash"]]
        pending = await client.result("eth_getBlockByNumber", "pending", False)
        assert (pending["number"], pending["hash"], pending["parentHash"]) == ("0x2", None, block["hash"])


async def test_subscriptions_tell_of_heads_logs_and_waiting_transactions() -> None:
    async with serve() as (_, client, url), open_socket(url) as socket:
        logger = (await send(client, data="0x" + LOGGER_CREATION.hex()))["contractAddress"]
        heads = await socket.result("eth_subscribe", "newHeads")
        hashes = await socket.result("eth_subscribe", "newPendingTransactions")
        whole = await socket.result("eth_subscribe", "newPendingTransactions", True)
        logs = await socket.result("eth_subscribe", "logs", {"address": logger, "topics": [TOPIC]})
        others = await socket.result("eth_subscribe", "logs", {"topics": ["0x" + "22" * 32]})
        receipt = await send(client, to=logger)
        assert (await socket.note(heads))["hash"] == receipt["blockHash"]
        assert await socket.note(hashes) == receipt["transactionHash"]
        assert (await socket.note(whole))["from"] == FIRST
        assert await socket.note(logs) == receipt["logs"][0]
        assert await socket.result("eth_unsubscribe", others) is True
        assert await socket.result("eth_unsubscribe", heads) is True
        assert (await socket.ask("eth_unsubscribe", heads))["error"]["code"] == -32000
        second = await send(client, to=logger)
        assert await socket.note(logs) == second["logs"][0]


async def test_filters_tell_each_thing_once_and_expire() -> None:
    async with serve(replace(Limits(), filters=4)) as (_, client, _):
        logger = (await send(client, data="0x" + LOGGER_CREATION.hex()))["contractAddress"]
        logs = await client.result("eth_newFilter", {"address": logger})
        blocks = await client.result("eth_newBlockFilter")
        waiting = await client.result("eth_newPendingTransactionFilter")
        old = await client.result("eth_newFilter", {"fromBlock": "0x0", "toBlock": "0x1"})
        assert (await client.error("eth_newBlockFilter"))["code"] == -32005
        receipt = await send(client, to=logger)
        for name, told in (
            (logs, receipt["logs"]),
            (blocks, [receipt["blockHash"]]),
            (waiting, [receipt["transactionHash"]]),
            (old, []),
        ):
            assert await client.result("eth_getFilterChanges", name) == told
            assert await client.result("eth_getFilterChanges", name) == []
        assert await client.result("eth_getFilterLogs", logs) == receipt["logs"]
        assert (await client.error("eth_getFilterLogs", blocks))["code"] == -32602
        assert await client.result("eth_uninstallFilter", logs) is True
        assert await client.result("eth_uninstallFilter", logs) is False
        assert (await client.error("eth_getFilterChanges", logs))["code"] == -32001
        assert await client.result("eth_newBlockFilter") != logs


async def test_a_filter_that_nobody_asks_is_forgotten() -> None:
    async with serve(replace(Limits(), filters=1, filter_seconds=Seconds(0.0))) as (_, client, _):
        first = await client.result("eth_newBlockFilter")
        assert "filter not found" in (await client.error("eth_getFilterChanges", first))["message"]
        # Its place is free again.
        await client.result("eth_newBlockFilter")


async def test_blocks_wait_until_they_are_asked_for() -> None:
    async with serve() as (chain, client, url), open_socket(url) as socket:
        await client.result("evm_setAutomine", False)
        name = await client.result("eth_sendTransaction", {"from": FIRST, "to": SECOND, "value": "0x1"})
        gap = await client.result("eth_sendTransaction", {"from": FIRST, "to": SECOND, "nonce": "0x2"})
        assert await client.result("eth_getTransactionReceipt", name) is None
        assert await client.result("eth_getTransactionCount", FIRST, "pending") == "0x1"
        assert await client.result("txpool_status") == {"pending": "0x1", "queued": "0x1"}
        content = await client.result("txpool_content")
        assert content["pending"][FIRST]["0"]["hash"] == name
        assert content["queued"][FIRST]["2"]["hash"] == gap
        assert await client.result("txpool_contentFrom", SECOND) == {"pending": {}, "queued": {}}
        assert "1 wei + 21000 gas" in (await client.result("txpool_inspect"))["pending"][FIRST]["0"]
        await client.result("evm_mine")
        assert (await client.result("eth_getTransactionReceipt", name))["blockNumber"] == "0x1"
        before = (await client.result("eth_getBlockByNumber", "latest", False))["timestamp"]
        await client.result("evm_increaseTime", 3600)
        await client.result("anvil_mine", 3)
        after = await client.result("eth_getBlockByNumber", "latest", False)
        assert after["number"] == "0x4"
        assert int(after["timestamp"], 16) - int(before, 16) >= 3600
        heads = await socket.result("eth_subscribe", "newHeads")
        await client.result("evm_setIntervalMining", 50)
        assert (await socket.note(heads))["number"] == "0x5"
        assert (await socket.note(heads))["number"] == "0x6"
        await client.result("evm_setIntervalMining", 0)
        assert chain.chain.final_height >= 6


async def test_the_keys_sign_messages_and_typed_data_as_wallets_do() -> None:
    types = {
        "EIP712Domain": [{"name": "name", "type": "string"}, {"name": "chainId", "type": "uint256"}],
        "Person": [{"name": "name", "type": "string"}, {"name": "wallets", "type": "address[]"}],
        "Mail": [
            {"name": "from", "type": "Person"},
            {"name": "to", "type": "Person[2]"},
            {"name": "digest", "type": "bytes32"},
            {"name": "delta", "type": "int16"},
            {"name": "urgent", "type": "bool"},
            {"name": "body", "type": "bytes"},
        ],
    }
    people = [{"name": name, "wallets": [FIRST, SECOND][:count]} for name, count in (("Ann", 2), ("Bo", 0), ("Cy", 1))]
    typed = {
        "types": types,
        "primaryType": "Mail",
        "domain": {"name": "Post", "chainId": 31337},
        "message": {
            "from": people[0],
            "to": people[1:],
            "digest": "0x" + "ab" * 32,
            "delta": -5,
            "urgent": True,
            "body": "0x1234",
        },
    }
    async with serve() as (_, client, _):
        expected = Wallet.sign_message(encode_typed_data(full_message=typed), SECRETS[0]).signature.hex()
        assert await client.result("eth_signTypedData_v4", FIRST, typed) == "0x" + expected.removeprefix("0x")
        message = Wallet.sign_message(encode_defunct(b"hello"), SECRETS[1]).signature.hex().removeprefix("0x")
        assert await client.result("eth_sign", SECOND, "0x" + b"hello".hex()) == "0x" + message
        assert await client.result("personal_sign", "0x" + b"hello".hex(), SECOND, "") == "0x" + message
        short = {**typed, "message": {**typed["message"], "to": people[:1]}}  # type: ignore[dict-item]
        error = await client.error("eth_signTypedData", FIRST, short)
        assert "Expected 2 items for array type Person[2], got 1 items" in error["message"]
        stranger = await client.error("eth_sign", "0x" + "99" * 20, "0x00")
        assert (stranger["code"], "unknown account" in stranger["message"]) == (-32000, True)


async def test_a_kept_chain_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with DevelopmentChain.open(folder=tmp_path) as chain:
        await chain.submit(sign(RICH, 0, SECOND, value=7))
        before = chain.chain.final_header
    async with DevelopmentChain.open(folder=tmp_path) as chain:
        assert chain.chain.final_header == before
        await chain.submit(sign(RICH, 1, SECOND, value=7))
        assert chain.chain.final_height == 2
    with pytest.raises(InvalidInput, match="holds chain 31337"):
        async with DevelopmentChain.open(ChainId(5), tmp_path):
            pass


async def test_a_client_has_a_budget_that_fills_again() -> None:
    async with serve(replace(Limits(), burst_units=5, units_per_second=0)) as (_, client, _):
        batch = [{"jsonrpc": "2.0", "id": number, "method": "eth_chainId"} for number in range(7)]
        answers = (await client.raw(msgspec.json.encode(batch))).json()
        assert [answer.get("error", {}).get("code") for answer in answers] == [None] * 5 + [-32005] * 2
        assert (await client.raw(msgspec.json.encode(batch[0]))).status_code == 429


async def test_an_answer_too_large_is_an_error() -> None:
    async with serve(replace(Limits(), answer_bytes=4096)) as (_, client, _):
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest"]}
        assert "error" not in (await client.raw(msgspec.json.encode(request))).json()
        answer = (await client.raw(msgspec.json.encode([request] * 4))).json()
        assert answer["error"]["code"] == -32005


async def test_websockets_of_strangers_are_refused() -> None:
    async with serve(replace(Limits(), connections=1)) as (_, _, url):
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}):
            with pytest.raises(InvalidStatus, match="403"):
                async with open_socket(url, additional_headers=headers):
                    pass
        async with open_socket(url, additional_headers={"Origin": url}) as socket:
            assert await socket.result("eth_chainId") == "0x7a69"
            with pytest.raises(InvalidStatus, match="403"):
                async with open_socket(url):
                    pass
            await socket.socket.send(b"\x00")
            answer = msgspec.json.decode(await socket.socket.recv())
            assert answer["error"]["code"] == -32700


async def test_connections_are_counted_and_must_say_what_they_want(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    async with serve(replace(Limits(), sockets=2)) as (_, client, url):
        assert await client.result("eth_chainId") == "0x7a69"
        host, port = url.removeprefix("http://").split(":")
        silent, writer = await asyncio.open_connection(host, int(port))
        slow, slow_writer = await asyncio.open_connection(host, int(port))
        # The client's own connection and the silent one are two already.
        with suppress(ConnectionError):
            assert await slow.read() == b""
        with suppress(ConnectionError):
            assert await silent.read() == b""
        again, again_writer = await asyncio.open_connection(host, int(port))
        again_writer.write(b"POST / HTTP/1.1\r\nhost: localhost\r\n")
        with suppress(ConnectionError):
            assert await again.read() == b""
        for one in (writer, slow_writer, again_writer):
            one.close()
        assert await client.result("eth_chainId") == "0x7a69"


async def test_a_websocket_that_does_not_read_is_dropped() -> None:
    async with serve(replace(Limits(), unread_messages=64)) as (chain, client, url):
        # A receive buffer of next to nothing on the client's side, and nobody reading from it.
        async with open_socket(url, max_queue=1) as socket:
            for _ in range(32):
                await socket.result("eth_subscribe", "newHeads")
            socket.socket.transport.pause_reading()
            # The filters listen for ever; what else listens is this connection.
            while len(chain.announcements) > 1:
                await chain.mine(20)
                await asyncio.sleep(0)
            socket.socket.transport.resume_reading()
            with pytest.raises(ConnectionClosed):
                await read_all(socket)
        assert await client.result("eth_chainId") == "0x7a69"
