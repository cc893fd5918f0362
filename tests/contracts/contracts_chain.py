"""An EVM chain inside the test process that answers the JSON-RPC requests of ``ChainClient``.

One transaction, one block, no block without a transaction. Calls see the number and time of the last block, as they do
on chains that make blocks on demand. Time stands still until a test moves it. The state trie keeps every old root, so
going back to an earlier state costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.cancun.state import CancunState
from eth.vm.forks.cancun.transactions import CancunTransactionBuilder
from eth.vm.spoof import SpoofTransaction
from eth_utils import ValidationError

from koinon.contracts.rpc import RpcError
from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address, to_hex

CHAIN_ID = 7919
GENESIS_TIME = 1_800_000_000
GAS_LIMIT = 30_000_000
BASE_FEE = 7
COINBASE = bytes([0xC0]) * 20
EMPTY_ROOT = keccak256(b"\x80")


@dataclass(frozen=True)
class _Block:
    number: int
    time: int
    hash: bytes
    root: bytes


@dataclass(frozen=True)
class Snapshot:
    """Everything that makes a chain; restore it with ``EvmChain.restore``."""

    blocks: tuple[_Block, ...]
    receipts: dict[str, dict[str, Any]]
    logs: tuple[dict[str, Any], ...]
    time: int


@dataclass
class EvmChain:
    """See the module. Implements ``koinon.contracts.rpc.Rpc``."""

    time: int = GENESIS_TIME
    blocks: list[_Block] = field(default_factory=list)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._db = AtomicDB()
        self._append(EMPTY_ROOT, b"genesis")

    async def close(self) -> None:
        """Nothing to close."""

    # ------------------------------------------------------------------------------------------ the world's side

    def now(self) -> float:
        """The clock that clients look at."""
        return float(self.time)

    def sleep(self, seconds: int) -> None:
        """Let time pass; no block is made."""
        self.time += seconds

    def mine(self, count: int) -> None:
        """Empty blocks."""
        for _ in range(count):
            self._append(self.blocks[-1].root, b"empty")

    def fund(self, account: Address, wei: int = 10**24) -> None:
        """Give gas money."""
        state = self._state(self.blocks[-1])
        state.set_balance(account, wei)
        self._append(self._persist(state), b"fund")

    def snapshot(self) -> Snapshot:
        """The present state."""
        return Snapshot(tuple(self.blocks), dict(self.receipts), tuple(self.logs), self.time)

    def restore(self, snapshot: Snapshot) -> None:
        """Back to an earlier state."""
        self.blocks[:] = snapshot.blocks
        self.receipts = dict(snapshot.receipts)
        self.logs[:] = snapshot.logs
        self.time = snapshot.time

    # ------------------------------------------------------------------------------------------ the client's side

    async def request(self, method: str, parameters: Sequence[object]) -> Any:
        """See ``Rpc``."""
        self.requests.append(method)
        answer = getattr(self, "_" + method, None)
        if answer is None:
            raise RpcError(method, -32601, "no such method")
        return answer(*parameters)

    def _eth_chainId(self) -> str:  # noqa: N802
        return hex(CHAIN_ID)

    def _eth_blockNumber(self) -> str:  # noqa: N802
        return hex(self.blocks[-1].number)

    def _eth_getBlockByNumber(self, tag: str, _full: bool) -> dict[str, Any] | None:  # noqa: N802
        block = self._block(tag)
        if block is None:
            return None
        return {
            "number": hex(block.number),
            "timestamp": hex(block.time),
            "hash": to_hex(block.hash),
            "baseFeePerGas": hex(BASE_FEE),
        }

    def _eth_maxPriorityFeePerGas(self) -> str:  # noqa: N802
        return hex(1)

    def _eth_getBalance(self, account: str, _tag: str) -> str:  # noqa: N802
        return hex(self._state(self.blocks[-1]).get_balance(bytes.fromhex(account[2:])))

    def _eth_getCode(self, account: str, _tag: str) -> str:  # noqa: N802
        return to_hex(self._state(self.blocks[-1]).get_code(bytes.fromhex(account[2:])))

    def _eth_getTransactionCount(self, account: str, _tag: str) -> str:  # noqa: N802
        return hex(self._state(self.blocks[-1]).get_nonce(bytes.fromhex(account[2:])))

    def _eth_getTransactionByHash(self, digest: str) -> dict[str, Any] | None:  # noqa: N802
        return {"hash": digest} if digest in self.receipts else None

    def _eth_getTransactionReceipt(self, digest: str) -> dict[str, Any] | None:  # noqa: N802
        return self.receipts.get(digest)

    def _eth_call(self, message: dict[str, str], tag: str) -> str:
        computation, _ = self._simulate("eth_call", message, tag)
        return to_hex(computation.output)

    def _eth_estimateGas(self, message: dict[str, str]) -> str:  # noqa: N802
        _, used = self._simulate("eth_estimateGas", message, "latest")
        return hex(used)

    def _eth_sendRawTransaction(self, raw: str) -> str:  # noqa: N802
        transaction = CancunTransactionBuilder.decode(bytes.fromhex(raw[2:]))
        number = self.blocks[-1].number + 1
        state = self._state(self.blocks[-1], number=number, time=self.time, base_fee=BASE_FEE)
        try:
            computation = state.apply_transaction(transaction)
        except ValidationError as problem:
            raise RpcError("eth_sendRawTransaction", -32000, str(problem)) from None
        block = self._append(self._persist(state), transaction.hash)
        entries = computation.get_log_entries() if computation.is_success else ()
        logs = [
            {
                "address": to_hex(address),
                "topics": ["0x" + topic.to_bytes(32, "big").hex() for topic in topics],
                "data": to_hex(data),
                "blockNumber": hex(block.number),
                "blockHash": to_hex(block.hash),
                "transactionHash": to_hex(transaction.hash),
                "logIndex": hex(index),
            }
            for index, (address, topics, data) in enumerate(entries)
        ]
        created = computation.msg.storage_address if computation.msg.is_create and computation.is_success else None
        self.logs += logs
        self.receipts[to_hex(transaction.hash)] = {
            "transactionHash": to_hex(transaction.hash),
            "blockNumber": hex(block.number),
            "blockHash": to_hex(block.hash),
            "gasUsed": hex(transaction.gas - computation.get_gas_remaining()),
            "contractAddress": None if created is None else to_hex(created),
            "status": hex(int(computation.is_success)),
            "logs": logs,
        }
        return to_hex(transaction.hash)

    def _eth_getLogs(self, query: dict[str, Any]) -> list[dict[str, Any]]:  # noqa: N802
        first = int(query["fromBlock"], 16)
        last = self.blocks[-1].number if query["toBlock"] == "latest" else int(query["toBlock"], 16)
        return [
            log
            for log in self.logs
            if log["address"] in query["address"]
            and first <= int(log["blockNumber"], 16) <= last
            and len(log["topics"]) >= len(query["topics"])
            and all(
                choice is None or topic in choice for topic, choice in zip(log["topics"], query["topics"], strict=False)
            )
        ]

    # ------------------------------------------------------------------------------------------ inside

    def _block(self, tag: str) -> _Block | None:
        if tag == "latest":
            return self.blocks[-1]
        number = int(tag, 16)
        return self.blocks[number] if number < len(self.blocks) else None

    def _append(self, root: bytes, content: bytes) -> _Block:
        number = len(self.blocks)
        parent = self.blocks[-1].hash if self.blocks else bytes(32)
        seal = keccak256(parent + root + content + self.time.to_bytes(8, "big"))
        self.blocks.append(_Block(number, self.time, seal, root))
        return self.blocks[-1]

    def _state(
        self, block: _Block, number: int | None = None, time: int | None = None, base_fee: int = 0
    ) -> CancunState:
        """State after ``block``, seen from that block or from the next one."""
        height = block.number if number is None else number
        ancestors = [entry.hash for entry in reversed(self.blocks[max(0, height - 256) : height])]
        context = ExecutionContext(
            coinbase=COINBASE,
            timestamp=block.time if time is None else time,
            block_number=height,
            difficulty=0,
            mix_hash=block.hash,
            gas_limit=GAS_LIMIT,
            prev_hashes=ancestors,
            chain_id=CHAIN_ID,
            base_fee_per_gas=base_fee,
            excess_blob_gas=0,
        )
        return CancunState(self._db, context, block.root)

    def _persist(self, state: CancunState) -> bytes:
        state.lock_changes()
        root = state.make_state_root()
        state.persist()
        return root

    def _simulate(self, method: str, message: dict[str, str], tag: str) -> tuple[Any, int]:
        block = self._block(tag)
        assert block is not None
        state = self._state(block)
        sender = bytes.fromhex(message.get("from", "0x" + "00" * 20)[2:])
        unsigned = CancunTransactionBuilder.new_unsigned_dynamic_fee_transaction(
            chain_id=CHAIN_ID,
            nonce=state.get_nonce(sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=GAS_LIMIT,
            to=bytes.fromhex(message["to"][2:]) if "to" in message else b"",
            value=int(message.get("value", "0x0"), 16),
            data=bytes.fromhex(message["data"][2:]),
            access_list=(),
        )
        computation = state.apply_transaction(SpoofTransaction(unsigned, from_=sender))
        if computation.is_error:
            data = bytes(computation.output)
            raise RpcError(method, 3, f"execution reverted: {computation.error!r}", data)
        # Refunds come after the run, and calls pass on at most 63/64 of the gas: leave room for both.
        return computation, (GAS_LIMIT - computation.get_gas_remaining()) * 64 // 63 + 10_000
