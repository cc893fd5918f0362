"""The methods of the Ethereum JSON-RPC, over a chain and its mempool.

``latest``, ``safe`` and ``finalized`` are the last final block, ``pending`` the newest block known. A receipt exists
once its block is final. State can be asked for at the newest final blocks only.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from koinon import __version__
from koinon.crypto.hash import keccak256
from koinon.kernel.errors import InvalidInput, Refused, Unavailable
from koinon.kernel.ids import ZERO_ADDRESS
from koinon.kernel.quantities import Gas, Height, UnixSeconds, Wei
from koinon.ledger import rpc_forms as forms
from koinon.ledger.chain import Chain
from koinon.ledger.execution import BlockContext, Call, ExecutionEngine
from koinon.ledger.mempool import Mempool
from koinon.ledger.rpc import Method
from koinon.ledger.rpc_calls import checked, estimate_gas
from koinon.ledger.rpc_forms import Json, data, quantity, read_address, read_data, read_hash, read_quantity
from koinon.ledger.rpc_logs import find_logs
from koinon.ledger.state import StateView, read_account, read_code, read_slot
from koinon.ledger.transaction import Transaction, parse_transaction
from koinon.ledger.types import Block, Header, header_hash

_FINAL_TAGS: Final = frozenset({"latest", "safe", "finalized"})
_MOST_FEE_BLOCKS: Final = 1024

_T = TypeVar("_T")


@dataclass(frozen=True)
class LedgerView:
    """What the methods read and the one thing they do.

    Attributes:
        tip: the newest executed block, final or not.
        submit: takes a signed transaction into the mempool and tells the validators.
        lane: runs contract calls beside the event loop.
    """

    chain: Chain
    mempool: Mempool
    engine: ExecutionEngine
    lane: Executor
    tip: Callable[[], Header]
    submit: Callable[[bytes], Transaction]


def ethereum_methods(view: LedgerView) -> dict[str, Method]:
    """The table of methods."""
    rpc = _EthereumMethods(view)
    return {
        "web3_clientVersion": _constant(f"koinon/{__version__}"),
        "web3_sha3": rpc.sha3,
        "net_version": _constant(str(view.chain.genesis.chain_id)),
        "net_listening": _constant(True),
        "eth_chainId": _constant(quantity(view.chain.genesis.chain_id)),
        "eth_syncing": _constant(False),
        "eth_accounts": _constant([]),
        "eth_gasPrice": _constant(quantity(view.chain.genesis.parameters.base_fee)),
        "eth_maxPriorityFeePerGas": _constant("0x0"),
        "eth_blockNumber": rpc.block_number,
        "eth_getBlockByNumber": rpc.block_by_number,
        "eth_getBlockByHash": rpc.block_by_hash,
        "eth_getBlockTransactionCountByNumber": rpc.transaction_count_of_block,
        "eth_getTransactionByHash": rpc.transaction_by_hash,
        "eth_getTransactionReceipt": rpc.receipt,
        "eth_getBlockReceipts": rpc.block_receipts,
        "eth_getTransactionCount": rpc.transaction_count,
        "eth_getBalance": rpc.balance,
        "eth_getCode": rpc.code,
        "eth_getStorageAt": rpc.storage,
        "eth_call": rpc.call,
        "eth_estimateGas": rpc.estimate_gas,
        "eth_feeHistory": rpc.fee_history,
        "eth_sendRawTransaction": rpc.send_raw,
        "eth_getLogs": rpc.logs,
        "eth_getProof": rpc.proof,
    }


def _constant(value: Json) -> Method:
    async def answer(parameters: list[Any]) -> Json:
        _take(parameters, 0)
        return value

    return answer


def _take(parameters: list[Any], least: int, most: int | None = None) -> list[Any]:
    """The parameters, padded with None to ``most``. Raises InvalidInput for too few or too many."""
    most = least if most is None else most
    if not least <= len(parameters) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise InvalidInput(f"the method takes {wanted} parameters; got {len(parameters)}")
    return [*parameters, *[None] * (most - len(parameters))]


class _EthereumMethods:
    def __init__(self, view: LedgerView) -> None:
        self._view = view
        self._chain = view.chain

    # Blocks

    async def sha3(self, parameters: list[Any]) -> Json:
        (value,) = _take(parameters, 1)
        return data(keccak256(read_data(value, "the data")))

    async def block_number(self, parameters: list[Any]) -> Json:
        _take(parameters, 0)
        return quantity(self._chain.final_height)

    async def block_by_number(self, parameters: list[Any]) -> Json:
        tag, whole = _take(parameters, 1, 2)
        if tag == "pending":
            return self._block_form(self._pending_block(), bool(whole))
        height = self._height(tag)
        return (
            None if height > self._chain.final_height else self._block_form(self._chain.block_at(height), bool(whole))
        )

    async def block_by_hash(self, parameters: list[Any]) -> Json:
        name, whole = _take(parameters, 1, 2)
        height = self._chain.height_of(read_hash(name, "the block hash"))
        return None if height is None else self._block_form(self._chain.block_at(height), bool(whole))

    async def transaction_count_of_block(self, parameters: list[Any]) -> Json:
        (tag,) = _take(parameters, 1)
        height = self._height(tag)
        return None if height > self._chain.final_height else quantity(len(self._chain.block_at(height).transactions))

    def _pending_block(self) -> Block:
        tip = self._view.tip()
        executed = self._chain.executed.get(header_hash(tip))
        if executed is None:
            return self._chain.block_at(self._chain.final_height)
        return Block(tip, tuple(transaction.raw for transaction in executed.transactions))

    def _block_form(self, block: Block, whole: bool) -> Json:
        transactions = [parse_transaction(raw) for raw in block.transactions]
        if not whole:
            return forms.block_form(block, [data(transaction.hash) for transaction in transactions])
        fee = block.header.base_fee
        return forms.block_form(
            block,
            [forms.transaction_form(transaction, block, i, fee) for i, transaction in enumerate(transactions)],
        )

    # Transactions

    async def transaction_by_hash(self, parameters: list[Any]) -> Json:
        (name,) = _take(parameters, 1)
        wanted = read_hash(name, "the transaction hash")
        place = self._chain.place_of(wanted)
        if place is None:
            waiting = self._view.mempool.get(wanted)
            return None if waiting is None else forms.transaction_form(waiting, None, 0, 0)
        block = self._chain.block_at(place.height)
        transaction = parse_transaction(block.transactions[place.index])
        return forms.transaction_form(transaction, block, place.index, block.header.base_fee)

    async def receipt(self, parameters: list[Any]) -> Json:
        (name,) = _take(parameters, 1)
        place = self._chain.place_of(read_hash(name, "the transaction hash"))
        if place is None:
            return None
        return self._receipt_forms(place.height)[place.index]

    async def block_receipts(self, parameters: list[Any]) -> Json:
        (tag,) = _take(parameters, 1)
        height = self._height(tag)
        return None if height > self._chain.final_height else self._receipt_forms(height)

    def _receipt_forms(self, height: Height) -> list[Json]:
        block, receipts = self._chain.block_at(height), self._chain.receipts_at(height)
        result, logs = [], 0
        for index, (raw, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
            result.append(forms.receipt_form(receipt, parse_transaction(raw), block, index, logs))
            logs += len(receipt.logs)
        return result

    async def send_raw(self, parameters: list[Any]) -> Json:
        (raw,) = _take(parameters, 1)
        return data(self._view.submit(read_data(raw, "the transaction")).hash)

    async def logs(self, parameters: list[Any]) -> Json:
        (criteria,) = _take(parameters, 1)
        if not isinstance(criteria, dict):
            raise InvalidInput("a log filter is an object")
        first, last = self._log_range(criteria)
        addresses = forms.read_addresses(criteria.get("address"))
        topics = forms.read_topics(criteria.get("topics"))
        return await self._run(lambda: find_logs(self._chain, first, last, addresses, topics))

    def _log_range(self, criteria: dict[str, Json]) -> tuple[Height, Height]:
        if "blockHash" in criteria:
            height = self._chain.height_of(read_hash(criteria["blockHash"], "blockHash"))
            if height is None:
                raise Unavailable("the block of the log filter is not known or not final")
            return height, height
        first = self._height(criteria.get("fromBlock", "latest"))
        last = min(self._height(criteria.get("toBlock", "latest")), self._chain.final_height)
        return first, last

    # State

    async def transaction_count(self, parameters: list[Any]) -> Json:
        address, tag = _take(parameters, 1, 2)
        sender = read_address(address, "the address")
        state = self._state(tag)
        if tag == "pending":
            return quantity(self._view.mempool.next_nonce(sender, state))
        return quantity(read_account(state, sender).nonce)

    async def balance(self, parameters: list[Any]) -> Json:
        address, tag = _take(parameters, 1, 2)
        return quantity(read_account(self._state(tag), read_address(address, "the address")).balance)

    async def code(self, parameters: list[Any]) -> Json:
        address, tag = _take(parameters, 1, 2)
        state = self._state(tag)
        return data(read_code(state, read_account(state, read_address(address, "the address")).code_hash))

    async def storage(self, parameters: list[Any]) -> Json:
        address, slot, tag = _take(parameters, 2, 3)
        owner, number = read_address(address, "the address"), _read_slot(slot)
        return data(read_slot(self._state(tag), owner, number).to_bytes(32, "big"))

    async def call(self, parameters: list[Any]) -> Json:
        fields, tag = _take(parameters, 1, 2)
        call, state, context = self._call(fields), self._state(tag), self._context(tag)
        result = await self._run(lambda: self._view.engine.call(call, context, state))
        return data(checked(result))

    async def estimate_gas(self, parameters: list[Any]) -> Json:
        fields, tag = _take(parameters, 1, 2)
        call, state, context = self._call(fields), self._state(tag), self._context(tag)
        return quantity(await self._run(lambda: estimate_gas(self._view.engine, call, context, state)))

    async def fee_history(self, parameters: list[Any]) -> Json:
        count, newest, percentiles = _take(parameters, 2, 3)
        wanted = read_quantity(count, "the block count") if isinstance(count, str) else count
        if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= _MOST_FEE_BLOCKS:
            raise InvalidInput(f"the block count of a fee history is 1 to {_MOST_FEE_BLOCKS}")
        last = min(self._height(newest), self._chain.final_height)
        first = max(0, last - wanted + 1)
        headers = [self._chain.header_at(height) for height in range(first, last + 1)]
        history: dict[str, Json] = {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [quantity(header.base_fee) for header in (*headers, headers[-1])],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
        }
        if isinstance(percentiles, list):
            history["reward"] = [["0x0"] * len(percentiles) for _ in headers]
        return history

    async def proof(self, parameters: list[Any]) -> Json:
        _take(parameters, 2, 3)
        raise Refused(
            "this chain commits to its state with a lattice hash, which has no inclusion proofs; "
            "prove a receipt with koinon_receiptProof instead"
        )

    def _height(self, tag: Json) -> Height:
        """Height a block parameter names. Raises InvalidInput."""
        if tag is None or (isinstance(tag, str) and tag in _FINAL_TAGS):
            return self._chain.final_height
        if tag == "earliest":
            return Height(0)
        if tag == "pending":
            return self._view.tip().height
        if isinstance(tag, dict) and "blockHash" in tag:
            height = self._chain.height_of(read_hash(tag["blockHash"], "blockHash"))
            if height is None:
                raise Unavailable("the block is not known or not final")
            return height
        if isinstance(tag, dict):
            tag = tag.get("blockNumber")
        return Height(read_quantity(tag, "the block number or tag"))

    def _state(self, tag: Json) -> StateView:
        if tag == "pending":
            tip = self._view.tip()
            if tip.height > self._chain.final_height:
                return self._chain.state_after(tip)
        return self._chain.state.view(min(self._height(tag), self._above(tag)))

    def _above(self, tag: Json) -> Height:
        """For ``pending`` the newest final block will do; otherwise a height above it is an error of its own."""
        return self._chain.final_height if tag == "pending" else Height(2**62)

    def _context(self, tag: Json) -> BlockContext:
        """The block that would come next if it were made now: what a transaction sent now would see."""
        parent = self._view.tip() if tag == "pending" else self._chain.header_at(self._height(tag))
        now = UnixSeconds(max(parent.timestamp, int(time.time())))
        return self._chain.context_for(parent, now, ZERO_ADDRESS, parent.mix)

    def _call(self, fields: Json) -> Call:
        if not isinstance(fields, dict):
            raise InvalidInput("a call is an object with to, from, data and value")
        limit = self._chain.genesis.parameters.gas_limit
        payload = fields.get("input", fields.get("data", "0x"))
        gas = min(read_quantity(fields["gas"], "gas"), limit) if fields.get("gas") is not None else limit
        price = fields.get("maxFeePerGas", fields.get("gasPrice", "0x0"))
        to = fields.get("to")
        return Call(
            sender=read_address(fields["from"], "from") if fields.get("from") is not None else ZERO_ADDRESS,
            to=None if to in (None, "0x", "") else read_address(to, "to"),
            gas=Gas(gas),
            value=Wei(read_quantity(fields["value"], "value") if fields.get("value") is not None else 0),
            data=read_data(payload, "data"),
            gas_price=Wei(read_quantity(price, "the gas price")),
        )

    async def _run(self, work: Callable[[], _T]) -> _T:
        future: Awaitable[_T] = asyncio.get_running_loop().run_in_executor(self._view.lane, work)
        return await future


def _read_slot(value: Json) -> int:
    """A storage slot: clients send it as a quantity or as 32 bytes. Raises InvalidInput."""
    return read_quantity(value, "the storage slot")
