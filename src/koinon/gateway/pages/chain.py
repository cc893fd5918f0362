"""Blocks and transactions: what they hold, what that means, and whether it can still change."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

from koinon.contracts.rpc import quantity
from koinon.gateway.decoding import arguments
from koinon.gateway.facts import Absent, Facts, moment
from koinon.gateway.journal import about
from koinon.gateway.origins import rpc_command, sentence
from koinon.gateway.pages.tracing import call_name, traced
from koinon.gateway.reading import Block, height_of, parse_block, text
from koinon.gateway.views.chain import BlockPage, BlockRow, BlocksPage, DecodedLog, TransactionPage, TransactionRow
from koinon.gateway.views.parts import Origin, Party, Quantity, Sentence
from koinon.kernel.errors import MalformedMessage, Unavailable

BLOCKS_OF_A_PAGE: Final = 24
TRANSACTIONS_OF_A_PAGE: Final = 200
LOGS_OF_A_PAGE: Final = 100
HEIGHT: Final = re.compile(r"[0-9]{1,15}")
HASH: Final = re.compile(r"(0x)?[0-9a-fA-F]{64}")
STUDY: Final = re.compile(r"(?:study|研究)\s*([0-9]{1,15})", re.IGNORECASE)


async def block_rows(facts: Facts, below: int, count: int) -> tuple[BlockRow, ...]:
    """The ``count`` blocks under height ``below``, the highest first."""
    blocks = await asyncio.gather(
        *(facts.reader.block(height) for height in range(below - 1, max(-1, below - 1 - count), -1))
    )
    return tuple(_row(facts, block) for block in blocks if block is not None)


async def blocks_page(facts: Facts, before: int | None) -> BlocksPage:
    """``/blocks``, or the blocks under ``before``."""
    below = facts.head.height + 1 if before is None else min(before, facts.head.height + 1)
    rows = await block_rows(facts, below, BLOCKS_OF_A_PAGE)
    waiting = facts.head.height - facts.head.final_height
    answer = (
        sentence("Block {height} is the last and is final.", height=f"{facts.head.height:,}")
        if waiting <= 0
        else sentence(
            "Block {height} is the last; everything up to block {final} is final.",
            height=f"{facts.head.height:,}",
            final=f"{facts.head.final_height:,}",
            count=f"{waiting:,}",
        )
    )
    last = rows[-1].height if rows else 0
    return BlocksPage(
        head=facts.head, answer=answer, blocks=rows, newest=before is None, older=last if last > 0 else None
    )


async def block_page(facts: Facts, height: int) -> BlockPage:
    """``/blocks/{height}``. Raises Absent above the tip."""
    block = await facts.reader.block(height, whole=True)
    if block is None:
        raise Absent(f"There is no block {height:,} yet; the last one is {facts.head.height:,}.")
    row = _row(facts, block)
    shown = block.transactions[:TRANSACTIONS_OF_A_PAGE]
    fee = None
    if block.base_fee is not None:
        fee = Quantity(
            value=block.base_fee, unit="wei", origin=_origin(facts, "eth_getBlockByNumber", hex(height), False)
        )
    return BlockPage(
        head=facts.head,
        answer=sentence(
            "Transactions: {count}. The block is final: it cannot change any more."
            if row.final
            else "Transactions: {count}. The block is not final yet: it can still be replaced.",
            count=row.transactions,
        ),
        block=row,
        parent=block.parent,
        state_root=block.state_root,
        transactions_root=block.transactions_root,
        receipts_root=block.receipts_root,
        gas_limit=block.gas_limit,
        base_fee=fee,
        size=block.size,
        transactions=tuple(_transaction_row(facts, one) for one in shown),
        not_shown=len(block.transactions) - len(shown),
    )


async def transaction_page(facts: Facts, identifier: str) -> TransactionPage:
    """``/transactions/{hash}``. Raises Absent for one the chain does not know."""
    requests = facts.reader.requests
    found, receipt = await asyncio.gather(
        requests.request("eth_getTransactionByHash", identifier),
        requests.request("eth_getTransactionReceipt", identifier),
    )
    if found is None:
        raise Absent("The chain does not know this transaction; it may never have been sent, or it was dropped.")
    if not isinstance(found, dict) or not (receipt is None or isinstance(receipt, dict)):
        raise MalformedMessage("the chain's transaction or receipt is no object")
    height = None if receipt is None else height_of(receipt)
    block = None if height is None else await facts.reader.block(height)
    if height is not None and block is None:
        raise Unavailable(f"the chain has a receipt in block {height} but does not give that block; it may be behind")
    recipient = found.get("to")
    decoded = facts.reader.decoder.call(recipient, text(found, "input")) if isinstance(recipient, str) else None
    logs = [] if receipt is None else receipt.get("logs") or []
    created = None if receipt is None else receipt.get("contractAddress")
    return TransactionPage(
        head=facts.head,
        answer=_answer(facts, receipt, height, block),
        hash=text(found, "hash"),
        tone=_tone(facts, receipt, height),
        height=height,
        at=None if block is None else block.timestamp,
        sender=facts.party(text(found, "from")),
        recipient=facts.party(recipient.lower()) if isinstance(recipient, str) else None,
        created=facts.party(created.lower()) if isinstance(created, str) else None,
        call=call_name(decoded.name if decoded else None, text(found, "input")),
        arguments=arguments(decoded) if decoded else (),
        input=text(found, "input"),
        value=_wei(facts, found, identifier),
        fee=None if receipt is None else _fee(facts, receipt, identifier),
        gas_limit=quantity(found.get("gas"), "gas limit"),
        gas_used=None if receipt is None else quantity(receipt.get("gasUsed"), "gas used"),
        nonce=quantity(found.get("nonce"), "nonce"),
        kind=quantity(found.get("type", "0x0"), "transaction type"),
        trace=None if receipt is None else await traced(facts, identifier),
        logs=tuple(_log(facts, log) for log in logs[:LOGS_OF_A_PAGE]),
        not_shown=max(0, len(logs) - LOGS_OF_A_PAGE),
    )


def _row(facts: Facts, block: Block) -> BlockRow:
    return BlockRow(
        height=block.height,
        hash=block.hash,
        timestamp=block.timestamp,
        transactions=len(block.transactions),
        gas_used=block.gas_used,
        proposer=facts.party(block.proposer),
        final=block.height <= facts.head.final_height,
    )


def _transaction_row(facts: Facts, found: Any) -> TransactionRow:
    if not isinstance(found, dict):
        raise MalformedMessage("the chain's block lists a transaction that is no object")
    recipient = found.get("to")
    decoded = facts.reader.decoder.call(recipient, text(found, "input")) if isinstance(recipient, str) else None
    return TransactionRow(
        hash=text(found, "hash"),
        sender=facts.party(text(found, "from")),
        recipient=facts.party(recipient.lower()) if isinstance(recipient, str) else None,
        call=call_name(decoded.name if decoded else None, text(found, "input")),
        value=Quantity(value=quantity(found.get("value"), "value"), unit="wei"),
    )


def _answer(facts: Facts, receipt: Mapping[str, Any] | None, height: int | None, block: Block | None) -> Sentence:
    if receipt is None or height is None or block is None:
        return sentence("It waits to be put into a block. Nothing has changed yet.")
    succeeded = quantity(receipt.get("status", "0x1"), "receipt status") == 1
    done = (
        sentence("It was carried out in block {height} at {time}.", height=f"{height:,}", time=moment(block.timestamp))
        if succeeded
        else sentence(
            "It failed in block {height} at {time}: it changed nothing but the fee that was paid.",
            height=f"{height:,}",
            time=moment(block.timestamp),
        )
    )
    final = "It is final." if height <= facts.head.final_height else "It is not final yet."
    return sentence("{done} {final}", done=done, final=sentence(final))


def _tone(facts: Facts, receipt: Mapping[str, Any] | None, height: int | None) -> Any:
    if receipt is not None and quantity(receipt.get("status", "0x1"), "receipt status") != 1:
        return "failed"
    return "final" if height is not None and height <= facts.head.final_height else "pending"


def _wei(facts: Facts, found: Mapping[str, Any], identifier: str) -> Quantity:
    return Quantity(
        value=quantity(found.get("value"), "value"),
        unit="wei",
        origin=_origin(facts, "eth_getTransactionByHash", identifier),
    )


def _fee(facts: Facts, receipt: Mapping[str, Any], identifier: str) -> Quantity:
    price = quantity(receipt.get("effectiveGasPrice", "0x0"), "gas price")
    return Quantity(
        value=quantity(receipt.get("gasUsed"), "gas used") * price,
        unit="wei",
        origin=_origin(facts, "eth_getTransactionReceipt", identifier),
    )


def _origin(facts: Facts, method: str, *given: object) -> Origin:
    return Origin(
        statement=sentence("What the chain answers to {method}.", method=method),
        command=rpc_command(facts.reader.public_rpc, method, *given),
    )


def _log(facts: Facts, log: Any) -> DecodedLog:
    if not isinstance(log, dict) or not isinstance(log.get("topics"), list):
        raise MalformedMessage("the chain's receipt lists an event that is no object")
    address, data, topics = text(log, "address"), text(log, "data"), [str(topic) for topic in log["topics"]]
    decoded = facts.reader.decoder.event(address, topics, data)
    return DecodedLog(
        index=quantity(log.get("logIndex"), "log index"),
        contract=_contract(facts, address),
        event=decoded.name if decoded else "",
        arguments=arguments(decoded) if decoded else (),
        topics=tuple(topics),
        data=data,
    )


def _contract(facts: Facts, address: str) -> Party:
    return facts.party(address)


async def find(facts: Facts, wanted: str) -> str | None:
    """The address of the page that this text means, or None."""
    wanted = wanted.strip()
    study = STUDY.fullmatch(wanted)
    if study is not None:
        return f"/studies/{int(study.group(1))}"
    if HEIGHT.fullmatch(wanted):
        return f"/blocks/{int(wanted)}"
    if HASH.fullmatch(wanted):
        identifier = "0x" + wanted.removeprefix("0x").lower()
        if await facts.reader.requests.request("eth_getTransactionByHash", identifier) is not None:
            return f"/transactions/{identifier}"
        block = await facts.reader.requests.request("eth_getBlockByHash", identifier, False)
        return None if block is None else f"/blocks/{parse_block(block).height}"
    return f"/models/{wanted}" if about(facts.journal, "name", wanted) else None
