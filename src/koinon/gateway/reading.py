"""Reading an EVM chain over JSON-RPC: blocks, transactions, logs, and the suite's reading functions.

Every answer is hostile until it was parsed: a missing or odd field is a MalformedMessage, never a guess.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from koinon.contracts.rpc import RpcError, quantity
from koinon.gateway.decoding import SuiteDecoder
from koinon.gateway.journal import Entry
from koinon.kernel.errors import MalformedMessage, Unavailable

RANGE_BLOCKS: Final = 2_000
"""Most blocks asked for in one ``eth_getLogs``; halved where a chain node finds that too many."""
PARALLEL_REQUESTS: Final = 8
REMEMBERED_ANSWERS: Final = 4_096


class Requests(Protocol):
    """What this room needs of a chain client; ``koinon.contracts.client.ChainClient`` is one."""

    async def request(self, method: str, *parameters: object) -> Any: ...


@dataclass(frozen=True, slots=True)
class Block:
    """A block as the chain node tells it. Hashes and accounts are ``0x`` text; ``transactions`` as they came."""

    height: int
    hash: str
    parent: str
    timestamp: int
    proposer: str
    gas_used: int
    gas_limit: int
    base_fee: int | None
    size: int
    state_root: str
    transactions_root: str
    receipts_root: str
    transactions: tuple[Any, ...]


class ChainReader:
    """Reads one chain and the contracts of one suite on it.

    Args:
        requests: a chain client.
        addresses: ``0x`` address of each contract of the suite by its name.
        public_rpc: address of a chain node that readers may use, for the commands shown; None writes ``$RPC``.
    """

    def __init__(self, requests: Requests, addresses: Mapping[str, str], public_rpc: str | None = None) -> None:
        self.requests = requests
        self.addresses = dict(addresses)
        self.public_rpc = public_rpc
        self.decoder = SuiteDecoder(addresses)
        self._answers: dict[tuple[Any, ...], tuple[object, Any]] = {}
        self._slots = asyncio.Semaphore(PARALLEL_REQUESTS)

    async def number(self, method: str, *parameters: object) -> int:
        """The answer to a request that is a quantity."""
        return quantity(await self.requests.request(method, *parameters), f"answer to {method}")

    async def block(self, tag: int | str, *, whole: bool = False) -> Block | None:
        """The block at a height or tag; with ``whole``, its transactions as objects instead of hashes."""
        place = hex(tag) if isinstance(tag, int) else tag
        async with self._slots:
            answer = await self.requests.request("eth_getBlockByNumber", place, whole)
        return None if answer is None else parse_block(answer)

    async def final_height(self) -> int:
        """Height of the last final block; 0 on a chain that does not tell one yet."""
        try:
            block = await self.block("finalized")
        except RpcError:
            return 0  # chains from before finality, and some before their first final block, answer with an error
        return 0 if block is None else block.height

    async def view(self, contract: str, function: str, *given: object, since: object) -> Any:
        """What a reading function of the suite answers: one value, or a dictionary by name for several.

        Args:
            since: what the answer depends on. It is remembered for as long as this is the same: the last event of the
                subject, or None for what never changes once it exists.

        Raises:
            RpcError: the contract refused, for instance because nothing has this number.
        """
        key = (contract, function, *given)
        if key in self._answers and self._answers[key][0] == since:
            return self._answers[key][1]
        method = self.decoder.interfaces[contract].functions[function]
        async with self._slots:
            answer = await self.requests.request(
                "eth_call",
                {"to": self.addresses[contract], "data": self.call_data(contract, function, *given)},
                "latest",
            )
        values = self.decoder.outputs(method, answer)
        if len(self._answers) >= REMEMBERED_ANSWERS:
            self._answers.clear()
        self._answers[key] = (since, values)
        return values

    def call_data(self, contract: str, function: str, *given: object) -> str:
        """The bytes of a call, as ``0x`` text."""
        return "0x" + self.decoder.interfaces[contract].encode_call(function, *given).hex()

    def forget(self) -> None:
        """Drop remembered answers: the chain was cut back."""
        self._answers.clear()

    async def entries(self, first: int, last: int) -> list[Entry]:
        """Every event of the suite in the blocks ``first`` to ``last``, in order."""
        logs = await self._logs(first, last)
        times = await self._times(logs)
        entries = [self._entry(log, times) for log in logs]
        return sorted((entry for entry in entries if entry is not None), key=lambda one: (one.height, one.index))

    async def _logs(self, first: int, last: int) -> list[Mapping[str, Any]]:
        query = {"address": list(self.addresses.values()), "fromBlock": hex(first), "toBlock": hex(last)}
        try:
            async with self._slots:
                answer = await self.requests.request("eth_getLogs", query)
        except RpcError:
            # Chain nodes limit how much they give at once, each with an error of its own; half as much may pass.
            if first == last:
                raise
            middle = (first + last) // 2
            return [*await self._logs(first, middle), *await self._logs(middle + 1, last)]
        if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
            raise MalformedMessage("the chain's logs are no list of objects")
        return answer

    async def _times(self, logs: list[Mapping[str, Any]]) -> dict[int, int]:
        heights = {height_of(log) for log in logs if "blockTimestamp" not in log}
        blocks = await asyncio.gather(*(self.block(height) for height in sorted(heights)))
        if any(block is None for block in blocks):
            raise Unavailable("the chain names events of a block that it does not give; it may be behind")
        return {block.height: block.timestamp for block in blocks if block is not None}

    def _entry(self, log: Mapping[str, Any], times: Mapping[int, int]) -> Entry | None:
        address, topics, data = log.get("address"), log.get("topics"), log.get("data")
        transaction = log.get("transactionHash")
        if not (isinstance(address, str) and isinstance(topics, list) and isinstance(data, str)):
            raise MalformedMessage("a log of the chain lacks its address, topics or data")
        decoded = self.decoder.event(address, topics, data)
        if decoded is None or not isinstance(transaction, str):
            return None
        height = height_of(log)
        at = quantity(log["blockTimestamp"], "log time") if "blockTimestamp" in log else times[height]
        names = self.decoder.names
        values = {
            name: names.get(value, value) if name in ("by", "drawnFor") else value
            for name, value in decoded.values.items()
        }
        return Entry(
            contract=decoded.contract,
            event=decoded.name,
            values=values,
            at=at,
            height=height,
            transaction=transaction,
            index=quantity(log.get("logIndex"), "log index"),
        )


def height_of(log: Mapping[str, Any]) -> int:
    """Block height of a log or transaction."""
    return quantity(log.get("blockNumber"), "block number")


def parse_block(answer: Any) -> Block:
    """Read a block. Raises MalformedMessage where a field that every chain has is missing or odd."""
    if not isinstance(answer, dict):
        raise MalformedMessage("the chain's block is no object")
    transactions = answer.get("transactions", [])
    if not isinstance(transactions, list):
        raise MalformedMessage("the chain's block has no list of transactions")
    fee = answer.get("baseFeePerGas")
    return Block(
        height=height_of({"blockNumber": answer.get("number")}),
        hash=text(answer, "hash"),
        parent=text(answer, "parentHash"),
        timestamp=quantity(answer.get("timestamp"), "block time"),
        proposer=text(answer, "miner"),
        gas_used=quantity(answer.get("gasUsed"), "gas used"),
        gas_limit=quantity(answer.get("gasLimit"), "gas limit"),
        base_fee=None if fee is None else quantity(fee, "base fee"),
        size=quantity(answer.get("size", "0x0"), "block size"),
        state_root=text(answer, "stateRoot"),
        transactions_root=text(answer, "transactionsRoot"),
        receipts_root=text(answer, "receiptsRoot"),
        transactions=tuple(transactions),
    )


def text(fields: Mapping[str, Any], name: str) -> str:
    """A ``0x`` text field. Raises MalformedMessage where it is none."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.startswith("0x"):
        raise MalformedMessage(f"the chain's {name} is not in hexadecimal")
    return value.lower()
