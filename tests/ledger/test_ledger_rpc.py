"""The RPC: what it answers, and one clear error for every bad input."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_account import Account as Wallet
from eth_account.signers.local import LocalAccount
from ledger_network import CHAIN_ID, COUNTER_CREATION, open_network, sign
from ledger_rpc import HttpClient

from koinon.kernel.codec import decode
from koinon.kernel.errors import Forged
from koinon.ledger.execution import Receipt
from koinon.ledger.finality import verify_finality, verify_receipt
from koinon.ledger.rpc.koinon import ReceiptProof
from koinon.ledger.types import FinalityProof
from koinon.ledger.validator import Validator

STRANGER = "0x" + "00" * 19 + "99"
REVERTING = bytes.fromhex("600d600c600039600d6000f3" + "63deadbeef600052" + "6004601cfd")
"""Creation code of a contract that reverts with 0xdeadbeef."""


class Client(HttpClient):
    """Asks one validator."""

    def __init__(self, validator: Validator) -> None:
        assert validator.rpc_url is not None
        super().__init__(validator.rpc_url)
        self.validator = validator

    async def settle(self, raw: bytes) -> Any:
        """Send and wait for the receipt."""
        name = await self.result("eth_sendRawTransaction", "0x" + raw.hex())
        while True:
            # Read before the question: no block may follow the one that became final in between.
            height = self.validator.chain.final_height
            if (receipt := await self.result("eth_getTransactionReceipt", name)) is not None:
                return receipt
            await self.result("koinon_waitForBlock", hex(height + 1), 20)


@pytest.fixture
async def client(tmp_path: Path, rich: LocalAccount) -> AsyncIterator[Client]:
    async with open_network(1, tmp_path, rich) as (validator,):
        asking = Client(validator)
        yield asking
        await asking.http.aclose()


BAD_PARAMETERS: list[tuple[str, list[Any], int, str]] = [
    ("eth_nothing", [], -32601, "does not exist"),
    ("eth_blockNumber", [1], -32602, "takes 0 parameters"),
    ("eth_getBalance", [], -32602, "takes 1 to 2 parameters"),
    ("eth_getBalance", ["0x12", "latest"], -32602, "20 bytes"),
    ("eth_getBalance", ["0x" + "zz" * 20, "latest"], -32602, "20 bytes"),
    ("eth_getBalance", [STRANGER, "newest"], -32602, "block number or tag"),
    ("eth_getBalance", [STRANGER, "0x-1"], -32602, "block number or tag"),
    ("eth_getBalance", [STRANGER, "0xffff"], -32001, "is not kept"),
    ("eth_getBalance", [STRANGER, {"blockHash": "0x" + "11" * 32}], -32001, "not known"),
    ("eth_getStorageAt", [STRANGER, "0x" + "f" * 65, "latest"], -32602, "quantity"),
    ("eth_getBlockByNumber", [None, True, 3], -32602, "takes 1 to 2"),
    ("eth_getBlockByHash", ["0x11", False], -32602, "32 bytes"),
    ("eth_getTransactionReceipt", [5], -32602, "32 bytes"),
    ("eth_call", [[], "latest"], -32602, "a call must be an object"),
    ("eth_call", [{"to": "0x1"}, "latest"], -32602, "to must be 20 bytes"),
    ("eth_call", [{"to": STRANGER, "value": "1"}, "latest"], -32602, "value must be"),
    ("eth_call", [{"to": STRANGER, "data": "0xabc"}, "latest"], -32602, "data must be"),
    ("eth_estimateGas", [{"to": STRANGER, "value": "0x1"}], -32000, "does not cover the value"),
    ("eth_feeHistory", ["0x0", "latest", []], -32602, "1 to 1024"),
    ("eth_getLogs", [5], -32602, "filter must be an object"),
    ("eth_getLogs", [{"topics": ["0x1"]}], -32602, "32 bytes"),
    ("eth_getLogs", [{"topics": [None] * 5}], -32602, "at most 4"),
    ("eth_getLogs", [{"fromBlock": "0x0", "address": "x"}], -32602, "20 bytes"),
    ("eth_getProof", [STRANGER, [], "latest"], -32000, "lattice hash"),
    ("eth_sendRawTransaction", ["0x"], -32602, "1 to 131072 bytes"),
    ("eth_sendRawTransaction", ["0x02c0"], -32602, "list of 12 fields"),
    ("eth_sendRawTransaction", ["0x03c0"], -32000, "transaction type not supported"),
    ("eth_sendRawTransaction", ["0x04c0"], -32000, "transaction type not supported"),
    ("eth_sendRawTransaction", ["0x05"], -32602, "no transaction type 5"),
    ("eth_sendRawTransaction", ["hello"], -32602, "starting with 0x"),
    ("koinon_finality", ["0x0"], -32001, "no finality proof"),
    ("koinon_finality", ["0xff"], -32001, "no finality proof"),
    ("koinon_finality", ["abc"], -32602, "number or tag"),
    ("koinon_receiptProof", ["0x" + "22" * 32], -32001, "not final"),
    ("koinon_waitForBlock", ["0x1", 600], -32602, "0 to 60 seconds"),
    ("koinon_status", [1], -32602, "takes 0 parameters"),
]


async def test_bad_parameters_get_one_clear_error(client: Client) -> None:
    for method, parameters, code, says in BAD_PARAMETERS:
        error = await client.error(method, *parameters)
        assert error["code"] == code, (method, parameters, error)
        assert says in error["message"], (method, parameters, error)


async def test_bad_requests(client: Client) -> None:
    table = [
        (b"", -32700),
        (b"{", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b"3", -32600),
        (b'{"id": 1, "method": "eth_chainId"}', -32600),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "eth_chainId"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 5}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": "x"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": {}}', -32602),
        (b"[" + b",".join([b"1"] * 201) + b"]", -32600),
    ]
    for content, code in table:
        answer = await client.raw(content)
        assert answer.status_code == 200
        assert answer.json()["error"]["code"] == code, content[:50]


async def test_http_edges(client: Client) -> None:
    assert (await client.http.get("/")).status_code == 405
    assert (await client.http.post("/other", json={})).status_code == 404
    assert (await client.http.post("/", content=b"{}", headers={"content-type": "text/plain"})).status_code == 415
    assert (await client.raw(b"{}", host="evil.example")).status_code == 403
    assert (await client.raw(b" " * (2 * 1024 * 1024 + 1))).status_code == 413
    answer = await client.raw(b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}')
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_batches_answer_each_and_skip_notifications(client: Client) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "method": "eth_blockNumber"},
        {"jsonrpc": "2.0", "id": "b", "method": "eth_nope"},
        5,
    ]
    answers = (await client.raw(msgspec.json.encode(batch))).json()
    assert [answer.get("id") for answer in answers] == ["a", "b", None]
    assert answers[0]["result"] == hex(CHAIN_ID)


async def test_transactions_that_can_never_be_taken(client: Client, rich: LocalAccount) -> None:
    poor = Wallet.create()
    table = [
        (sign(rich, 0, STRANGER, chainId=1), "signed for chain 1"),
        (sign(rich, 0, STRANGER, gas=20_000), "intrinsic gas too low"),
        (sign(rich, 0, STRANGER, gas=10**9), "exceeds block gas limit"),
        (sign(rich, 0, STRANGER, maxFeePerGas=1), "max fee per gas less than block base fee"),
        (sign(rich, 256, STRANGER), "nonce too high"),
        (sign(rich, 0, STRANGER, value=10**25), "insufficient funds"),
        (sign(poor, 0, STRANGER), "insufficient funds"),
    ]
    for raw, says in table:
        error = await client.error("eth_sendRawTransaction", "0x" + raw.hex())
        assert error["code"] == -32000
        assert says in error["message"]
    assert len(client.validator.mempool) == 0
    first = sign(rich, 1, STRANGER)
    await client.result("eth_sendRawTransaction", "0x" + first.hex())
    assert "already known" in (await client.error("eth_sendRawTransaction", "0x" + first.hex()))["message"]
    cheap = sign(rich, 1, STRANGER, value=5)
    assert "underpriced" in (await client.error("eth_sendRawTransaction", "0x" + cheap.hex()))["message"]


async def test_a_revert_carries_its_data(client: Client, rich: LocalAccount) -> None:
    receipt = await client.settle(sign(rich, 0, data=REVERTING, gas=200_000))
    assert receipt["status"] == "0x1"
    call = {"to": receipt["contractAddress"]}
    for method in ("eth_call", "eth_estimateGas"):
        error = await client.error(method, call)
        assert error["code"] == 3
        assert error["data"] == "0xdeadbeef"
    failed = await client.settle(sign(rich, 1, receipt["contractAddress"], gas=50_000))
    assert failed["status"] == "0x0"
    assert failed["logs"] == []


async def test_finality_and_receipts_can_be_proven_and_forgeries_are_named(client: Client, rich: LocalAccount) -> None:
    receipt = await client.settle(sign(rich, 0, data=COUNTER_CREATION, gas=200_000))
    answer = await client.result("koinon_finality", receipt["blockNumber"])
    proof = decode(FinalityProof, bytes.fromhex(answer["proof"][2:]))
    validators = client.validator.chain.validators
    header = verify_finality(proof.headers, proof.certificates, validators)
    assert answer["hash"] == receipt["blockHash"]
    found = await client.result("koinon_receiptProof", receipt["transactionHash"])
    paths = decode(ReceiptProof, bytes.fromhex(found["proof"][2:]))
    parsed = decode(Receipt, paths.receipt)
    verify_receipt(
        header, paths.transaction, parsed, paths.index, paths.count, paths.transaction_path, paths.receipt_path
    )
    other = msgspec.structs.replace(parsed, status=0)
    with pytest.raises(Forged, match="receipt is not that"):
        verify_receipt(
            header, paths.transaction, other, paths.index, paths.count, paths.transaction_path, paths.receipt_path
        )
    edited = msgspec.structs.replace(proof.headers[0], gas_used=0)
    with pytest.raises(Forged, match="not the child"):
        verify_finality((edited, *proof.headers[1:]), proof.certificates, validators)
    with pytest.raises(Forged, match="exactly three"):
        verify_finality(proof.headers, proof.certificates[:2], validators)
    swapped = (proof.certificates[1], *proof.certificates[1:])
    with pytest.raises(Forged, match="for another block"):
        verify_finality(proof.headers, swapped, validators)


async def test_logs_are_found_by_address_and_topic(client: Client, rich: LocalAccount) -> None:
    # LOG1 with topic 1 and no data, then stop.
    runtime = "600160006000a100"
    creation = bytes.fromhex(f"6008600c60003960086000f3{runtime}")
    receipt = await client.settle(sign(rich, 0, data=creation, gas=200_000))
    logger = receipt["contractAddress"]
    called = await client.settle(sign(rich, 1, logger, gas=60_000))
    topic = "0x" + (1).to_bytes(32, "big").hex()
    everything = {"fromBlock": "0x0", "toBlock": "latest"}
    for criteria, count in (
        (everything, 1),
        ({**everything, "address": logger}, 1),
        ({**everything, "address": [STRANGER, logger], "topics": [[topic, "0x" + "00" * 32]]}, 1),
        ({**everything, "topics": [None, topic]}, 0),
        ({**everything, "address": STRANGER}, 0),
        ({"blockHash": called["blockHash"]}, 1),
        ({"fromBlock": "0x0", "toBlock": receipt["blockNumber"]}, 0),
    ):
        assert len(await client.result("eth_getLogs", criteria)) == count, criteria
    assert called["logs"] == await client.result("eth_getLogs", everything)
