"""The suite's in-process EVM with everything a reader of blocks asks for."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts_chain import COINBASE, GAS_LIMIT, EvmChain
from eth.vm.forks.cancun.transactions import CancunTransactionBuilder

from koinon.kernel.ids import to_hex

GAS_PRICE = 8


@dataclass
class FullChain(EvmChain):
    """See the module.

    Attributes:
        confirmations: how far the final block is behind the last one.
        broken: methods that answer this instead of the truth.
    """

    confirmations: int = 0
    broken: dict[str, Any] = field(default_factory=dict)
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)

    def copy(self) -> "FullChain":
        """A chain that goes its own way from here; the state database only grows and can be shared."""
        other = copy.copy(self)
        other.blocks, other.logs, other.requests = list(self.blocks), list(self.logs), []
        other.receipts, other.broken, other.sent = dict(self.receipts), {}, dict(self.sent)
        return other

    async def request(self, method: str, parameters: Sequence[object]) -> Any:
        """See ``Rpc``."""
        if method in self.broken:
            answer = self.broken[method]
            if isinstance(answer, Exception):
                raise answer
            return answer
        return await super().request(method, parameters)

    def _eth_getBlockByNumber(self, tag: str, full: bool) -> dict[str, Any] | None:  # noqa: N802
        last = self.blocks[-1].number
        tag = {"finalized": hex(max(0, last - self.confirmations)), "pending": "latest"}.get(tag, tag)
        summary = super()._eth_getBlockByNumber(tag, full)
        if summary is None:
            return None
        number = int(summary["number"], 16)
        inside = [one for one in self.sent.values() if one["blockNumber"] == summary["number"]]
        return summary | {
            "parentHash": to_hex(self.blocks[number - 1].hash if number else bytes(32)),
            "miner": to_hex(COINBASE),
            "gasUsed": hex(sum(int(self.receipts[one["hash"]]["gasUsed"], 16) for one in inside)),
            "gasLimit": hex(GAS_LIMIT),
            "size": hex(600),
            "stateRoot": to_hex(self.blocks[number].root),
            "transactionsRoot": to_hex(bytes(32)),
            "receiptsRoot": to_hex(bytes(32)),
            "transactions": inside if full else [one["hash"] for one in inside],
        }

    def _eth_getBlockByHash(self, digest: str, full: bool) -> dict[str, Any] | None:  # noqa: N802
        number = next((block.number for block in self.blocks if to_hex(block.hash) == digest), None)
        return None if number is None else self._eth_getBlockByNumber(hex(number), full)

    def _web3_clientVersion(self) -> str:  # noqa: N802
        return "in-process py-evm"

    def _eth_sendRawTransaction(self, raw: str) -> str:  # noqa: N802
        digest = super()._eth_sendRawTransaction(raw)
        transaction = CancunTransactionBuilder.decode(bytes.fromhex(raw[2:]))
        self.sent[digest] = {
            "hash": digest,
            "blockNumber": self.receipts[digest]["blockNumber"],
            "from": to_hex(transaction.sender),
            "to": to_hex(transaction.to) if transaction.to else None,
            "input": to_hex(transaction.data),
            "value": hex(transaction.value),
            "gas": hex(transaction.gas),
            "nonce": hex(transaction.nonce),
            "type": "0x2",
        }
        self.receipts[digest] |= {"effectiveGasPrice": hex(GAS_PRICE)}
        return digest

    def _eth_getTransactionByHash(self, digest: str) -> dict[str, Any] | None:  # noqa: N802
        return self.sent.get(digest)

    def _eth_getLogs(self, query: dict[str, Any]) -> list[dict[str, Any]]:  # noqa: N802
        return super()._eth_getLogs({"topics": [], **query})
