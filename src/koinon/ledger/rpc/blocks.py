"""Blocks, and what stands in them, by place."""

from koinon.kernel.quantities import Height
from koinon.ledger.rpc import forms, readers
from koinon.ledger.rpc.forms import data, quantity
from koinon.ledger.rpc.readers import BlockChoice
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.transaction import parse_transaction
from koinon.ledger.types import Block

_BLOCK = Parameter("the block number or tag", readers.block)
_HASH = Parameter("the block hash", readers.digest)
_WHOLE = Parameter("whether to give whole transactions", readers.boolean, default=False)
_INDEX = Parameter("the index", readers.quantity)


def block_methods(view: LedgerView) -> tuple[Method, ...]:
    """The methods."""
    blocks = _Blocks(view)
    return (
        Method("eth_blockNumber", (), lambda _: quantity(view.chain.final_height)),
        Method("eth_getBlockByNumber", (_BLOCK, _WHOLE), blocks.by_number, 2),
        Method("eth_getBlockByHash", (_HASH, _WHOLE), blocks.by_number, 2),
        Method("eth_getBlockTransactionCountByNumber", (_BLOCK,), blocks.count),
        Method("eth_getBlockTransactionCountByHash", (_HASH,), blocks.count),
        Method("eth_getBlockReceipts", (_BLOCK,), blocks.receipts, 4),
        Method("eth_getTransactionByBlockNumberAndIndex", (_BLOCK, _INDEX), blocks.transaction),
        Method("eth_getTransactionByBlockHashAndIndex", (_HASH, _INDEX), blocks.transaction),
        Method("eth_getRawTransactionByBlockNumberAndIndex", (_BLOCK, _INDEX), blocks.raw_transaction),
        Method("eth_getRawTransactionByBlockHashAndIndex", (_HASH, _INDEX), blocks.raw_transaction),
        # There are no uncles; tools that count them get what they expect of such a chain.
        Method("eth_getUncleCountByBlockNumber", (_BLOCK,), blocks.no_uncles),
        Method("eth_getUncleCountByBlockHash", (_HASH,), blocks.no_uncles),
        Method("eth_getUncleByBlockNumberAndIndex", (_BLOCK, _INDEX), lambda _caller, _choice, _index: None),
        Method("eth_getUncleByBlockHashAndIndex", (_HASH, _INDEX), lambda _caller, _choice, _index: None),
    )


class _Blocks:
    def __init__(self, view: LedgerView) -> None:
        self._view = view
        self._chain = view.chain

    async def by_number(self, caller: Caller, choice: BlockChoice, whole: bool) -> Json:
        if choice == "pending":
            return self._pending(whole)
        block = self._final(choice)
        if block is None:
            return None
        if not block.transactions:
            return _block_form(block, whole)
        # Every sender may have to be recovered from its signature.
        return await self._view.lane.run(caller, lambda: _block_form(block, whole))

    def count(self, _caller: Caller, choice: BlockChoice) -> Json:
        if choice == "pending":
            return quantity(len(self._pending(False)["transactions"]))
        block = self._final(choice)
        return None if block is None else quantity(len(block.transactions))

    async def receipts(self, caller: Caller, choice: BlockChoice) -> Json:
        height = self._view.final_height(choice)
        if height is None:
            return None
        wanted = height
        return await self._view.lane.run(caller, lambda: receipt_forms(self._view, wanted))

    def transaction(self, _caller: Caller, choice: BlockChoice, index: int) -> Json:
        block = self._final(choice)
        if block is None or index >= len(block.transactions):
            return None
        return forms.transaction_form(parse_transaction(block.transactions[index]), block, index, block.header.base_fee)

    def raw_transaction(self, _caller: Caller, choice: BlockChoice, index: int) -> Json:
        block = self._final(choice)
        return None if block is None or index >= len(block.transactions) else data(block.transactions[index])

    def no_uncles(self, _caller: Caller, choice: BlockChoice) -> Json:
        return None if self._final(choice) is None else "0x0"

    def _final(self, choice: BlockChoice) -> Block | None:
        height = self._view.final_height(choice)
        return None if height is None else self._chain.block_at(height)

    def _pending(self, whole: bool) -> dict[str, Json]:
        """The newest block while it is not final, or else an empty one on the last final block; it has no hash yet."""
        unfinalised = self._view.unfinalised()
        if unfinalised is not None:
            header, executed = unfinalised
            form = _block_form(Block(header, tuple(transaction.raw for transaction in executed.transactions)), whole)
        else:
            context = self._view.next_context("latest")
            form = _block_form(Block(self._chain.final_header, ()), whole)
            form |= {
                "number": quantity(context.height),
                "parentHash": form["hash"],
                "timestamp": quantity(context.timestamp),
                "gasUsed": "0x0",
                "gasLimit": quantity(context.gas_limit),
                "baseFeePerGas": quantity(context.base_fee),
            }
        return form | {"hash": None, "nonce": None, "logsBloom": None}


def receipt_forms(view: LedgerView, height: Height) -> list[Json]:
    """The receipts of a final block."""
    block, receipts = view.chain.block_at(height), view.chain.receipts_at(height)
    result, logs = [], 0
    for index, (raw, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
        result.append(forms.receipt_form(receipt, parse_transaction(raw), block, index, logs))
        logs += len(receipt.logs)
    return result


def _block_form(block: Block, whole: bool) -> dict[str, Json]:
    transactions = [parse_transaction(raw) for raw in block.transactions]
    if not whole:
        return forms.block_form(block, [data(transaction.hash) for transaction in transactions])
    fee = block.header.base_fee
    return forms.block_form(
        block, [forms.transaction_form(transaction, block, i, fee) for i, transaction in enumerate(transactions)]
    )
