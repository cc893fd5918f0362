"""web3.py, unchanged, with contracts in WebAssembly: by their artefacts, as with Solidity's."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from ledger_network import open_network, sign
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import ContractLogicError, Web3RPCError

from koinon.ledger.development import DevelopmentChain
from koinon.ledger.rpc.development import serve_development

ARTEFACTS = Path(__file__).resolve().parents[2] / "contracts" / "wasm" / "artifacts"
TOKEN, COUNTER, RELAY = (json.loads((ARTEFACTS / f"{name}.json").read_text()) for name in ("Token", "Counter", "Relay"))


@pytest.fixture
async def web3() -> AsyncIterator[AsyncWeb3[Any]]:
    """A connection to a fresh development chain."""
    async with DevelopmentChain.open() as chain, serve_development(chain, "127.0.0.1", 0) as url:
        connection: AsyncWeb3[Any] = AsyncWeb3(AsyncHTTPProvider(url))
        yield connection
        await connection.provider.disconnect()


async def deployed(web3: AsyncWeb3[Any], artefact: dict[str, Any], *arguments: object) -> Any:
    sender = (await web3.eth.accounts)[0]
    factory = web3.eth.contract(abi=artefact["abi"], bytecode=artefact["bytecode"])
    sent = await factory.constructor(*arguments).transact({"from": sender})
    receipt = await web3.eth.wait_for_transaction_receipt(sent)
    assert receipt["status"] == 1
    return web3.eth.contract(address=receipt["contractAddress"], abi=artefact["abi"])


async def test_a_token_in_webassembly_is_used_like_one_in_solidity(web3: AsyncWeb3[Any]) -> None:
    first, second = (await web3.eth.accounts)[:2]
    token = await deployed(web3, TOKEN, 10**24)
    assert await token.functions.symbol().call() == "EXA"
    sent = await token.functions.transfer(second, 5).transact({"from": first})
    receipt = await web3.eth.wait_for_transaction_receipt(sent)
    (event,) = token.events.Transfer().process_receipt(receipt)
    assert event["args"] == {"from": first, "to": second, "value": 5}
    assert [log["args"]["value"] for log in await token.events.Transfer().get_logs(from_block=0)] == [10**24, 5]
    assert await token.functions.balanceOf(second).call() == 5
    with pytest.raises(ContractLogicError, match="the balance is too small"):
        await token.functions.transfer(first, 6).transact({"from": second})
    module = bytes.fromhex(TOKEN["bytecode"][2:])
    assert bytes(await web3.eth.get_code(token.address)) == module


async def test_modules_call_each_other_by_their_interfaces(web3: AsyncWeb3[Any]) -> None:
    sender = (await web3.eth.accounts)[0]
    relay, counter = await deployed(web3, RELAY), await deployed(web3, COUNTER, 41)
    inner = counter.encode_abi("next", [])
    assert await relay.functions.relay(counter.address, inner).call() == (42).to_bytes(32)
    sent = await relay.functions.relay(counter.address, inner).transact({"from": sender})
    await web3.eth.wait_for_transaction_receipt(sent)
    assert await counter.functions.value().call() == 42
    assert await relay.functions.count().call() == 1
    method: Any = "debug_traceTransaction"
    trace = await web3.provider.make_request(method, [sent.to_0x_hex(), {"tracer": "callTracer"}])
    (call,) = trace["result"]["calls"]
    assert (call["type"], call["to"], call["input"]) == ("CALL", counter.address.lower(), inner)
    assert int(call["output"], 16) == 42


async def test_what_is_no_contract_is_refused_by_estimate_and_block(web3: AsyncWeb3[Any]) -> None:
    sender = (await web3.eth.accounts)[0]
    with pytest.raises(Web3RPCError, match="InvalidCode"):
        await web3.eth.estimate_gas({"from": sender, "data": "0x0061736d01000000"})
    sent = await web3.eth.send_transaction({"from": sender, "data": "0x0061736d01000000", "gas": 200_000})
    receipt = await web3.eth.wait_for_transaction_receipt(sent)
    assert (receipt["status"], receipt["gasUsed"]) == (0, 200_000)


async def test_validators_run_modules(tmp_path: Path, rich: LocalAccount) -> None:
    """Four of them agree on what a module did, gas and state included."""
    async with open_network(4, tmp_path, rich) as validators:
        connection: AsyncWeb3[Any] = AsyncWeb3(AsyncHTTPProvider(validators[0].rpc_url))
        try:
            data = bytes.fromhex(COUNTER["bytecode"][2:]) + (6).to_bytes(32)
            sent = await connection.eth.send_raw_transaction(sign(rich, 0, data=data, gas=3_000_000))
            receipt = await connection.eth.wait_for_transaction_receipt(sent, timeout=120, poll_latency=0.02)
            assert receipt["status"] == 1
            counter = connection.eth.contract(address=receipt["contractAddress"], abi=COUNTER["abi"])
            call = bytes.fromhex(counter.encode_abi("next", [])[2:])
            sent = await connection.eth.send_raw_transaction(sign(rich, 1, counter.address, data=call, gas=200_000))
            receipt = await connection.eth.wait_for_transaction_receipt(sent, timeout=120, poll_latency=0.02)
            assert receipt["status"] == 1
            assert await counter.functions.value().call() == 7
        finally:
            await connection.provider.disconnect()
