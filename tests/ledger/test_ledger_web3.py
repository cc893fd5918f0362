"""web3.py, unchanged, against a validator's RPC."""

from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from ledger_network import CHAIN_ID, COUNTER_CREATION, RICH_BALANCE, open_network, sign
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import Web3RPCError


async def connect(url: str | None) -> AsyncWeb3[Any]:
    assert url is not None
    return AsyncWeb3(AsyncHTTPProvider(url))


async def test_deploys_and_calls_a_contract(tmp_path: Path, rich: LocalAccount) -> None:
    async with open_network(1, tmp_path, rich) as (validator,):
        web3 = await connect(validator.rpc_url)
        try:
            assert await web3.eth.chain_id == CHAIN_ID
            assert await web3.eth.get_balance(rich.address) == RICH_BALANCE
            gas = await web3.eth.estimate_gas({"from": rich.address, "data": COUNTER_CREATION})
            sent = await web3.eth.send_raw_transaction(sign(rich, 0, data=COUNTER_CREATION, gas=gas))
            receipt = await web3.eth.wait_for_transaction_receipt(sent, timeout=120, poll_latency=0.02)
            assert receipt["status"] == 1
            assert receipt["gasUsed"] <= gas
            counter = receipt["contractAddress"]
            assert await web3.eth.call({"to": counter}) == (1).to_bytes(32, "big")
            sent = await web3.eth.send_raw_transaction(sign(rich, 1, counter, gas=100_000))
            receipt = await web3.eth.wait_for_transaction_receipt(sent, timeout=120, poll_latency=0.02)
            assert await web3.eth.get_storage_at(counter, 0) == (1).to_bytes(32, "big")
            block = await web3.eth.get_block(receipt["blockNumber"], full_transactions=True)
            assert [transaction["hash"] for transaction in block["transactions"]] == [sent]
            assert await web3.eth.get_transaction_count(rich.address) == 2
            assert (await web3.eth.fee_history(4, "latest"))["oldestBlock"] >= 0
            with pytest.raises(Web3RPCError, match="nonce too low"):
                await web3.eth.send_raw_transaction(sign(rich, 0, counter, gas=100_000))
        finally:
            await web3.provider.disconnect()
