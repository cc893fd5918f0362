"""JSON forms of the Ethereum RPC: quantities, data, and the objects made of them; and reading parameters."""

import re
from typing import Any, Final

from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, Hash32
from koinon.ledger.execution import Log, Receipt
from koinon.ledger.transaction import Transaction
from koinon.ledger.types import Block, header_hash

_EMPTY_UNCLES: Final = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
_MAXIMUM_TOPICS: Final = 4
_QUANTITY: Final = re.compile("0x[0-9a-fA-F]{1,64}")

Json = Any
"""A value as JSON has it; checked piece by piece as it is read."""


def quantity(value: int) -> str:
    return hex(value)


def data(value: bytes) -> str:
    return "0x" + value.hex()


def read_quantity(value: Json, name: str) -> int:
    """Read a hexadecimal quantity. Raises InvalidInput."""
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise InvalidInput(f"{name} must be a hexadecimal quantity such as 0x1f; got {str(value)[:80]!r}")
    return int(value, 16)


def read_data(value: Json, name: str, length: int | None = None) -> bytes:
    """Read hexadecimal bytes, of ``length`` if given. Raises InvalidInput."""
    wanted = "bytes in hexadecimal" if length is None else f"{length} bytes in hexadecimal"
    if not isinstance(value, str) or not value.startswith("0x"):
        raise InvalidInput(f"{name} must be {wanted}, starting with 0x; got {str(value)[:80]!r}")
    try:
        result = bytes.fromhex(value[2:])
    except ValueError:
        raise InvalidInput(f"{name} must be {wanted}, starting with 0x; got {value[:80]!r}") from None
    if (length is not None and len(result) != length) or 2 * len(result) != len(value) - 2:
        raise InvalidInput(f"{name} must be {wanted}, starting with 0x; got {value[:80]!r}")
    return result


def read_address(value: Json, name: str) -> Address:
    """Read an address. Raises InvalidInput."""
    return Address(read_data(value, name, 20))


def read_hash(value: Json, name: str) -> Hash32:
    """Read a hash. Raises InvalidInput."""
    return Hash32(read_data(value, name, 32))


def block_form(block: Block, transactions: Json) -> Json:
    """A block; ``transactions`` are hashes or whole objects."""
    header = block.header
    return {
        "number": quantity(header.height),
        "hash": data(header_hash(header)),
        "parentHash": data(header.parent),
        "nonce": "0x0000000000000000",
        "sha3Uncles": _EMPTY_UNCLES,
        "logsBloom": data(header.bloom or bytes(256)),
        "transactionsRoot": data(header.transactions_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipts_root),
        "miner": data(header.beneficiary),
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": "0x",
        "size": quantity(600 + sum(len(raw) for raw in block.transactions)),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "baseFeePerGas": quantity(header.base_fee),
        "mixHash": data(header.mix),
        "uncles": [],
        "transactions": transactions,
        "koinonView": quantity(header.view),
        "koinonIndex": quantity(header.index),
        "koinonProposer": quantity(header.proposer),
    }


def transaction_form(transaction: Transaction, block: Block | None, index: int, base_fee: int) -> Json:
    """A transaction; ``block`` is None while it waits."""
    typed = transaction.kind != 0
    form: dict[str, Json] = {
        "hash": data(transaction.hash),
        "type": quantity(transaction.kind),
        "nonce": quantity(transaction.nonce),
        "blockHash": None if block is None else data(header_hash(block.header)),
        "blockNumber": None if block is None else quantity(block.header.height),
        "transactionIndex": None if block is None else quantity(index),
        "from": data(transaction.sender),
        "to": None if transaction.to is None else data(transaction.to),
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(transaction.maximum_fee if block is None else transaction.price(base_fee)),
        "input": data(transaction.data),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
        "v": quantity(transaction.parity if typed else 35 + 2 * (transaction.chain_id or 0) + transaction.parity),
        "chainId": quantity(transaction.chain_id or 0),
    }
    if typed:
        form["yParity"] = quantity(transaction.parity)
        form["accessList"] = [
            {"address": data(address), "storageKeys": [data(slot.to_bytes(32, "big")) for slot in slots]}
            for address, slots in transaction.access_list
        ]
    if transaction.kind == 2:
        form["maxFeePerGas"] = quantity(transaction.maximum_fee)
        form["maxPriorityFeePerGas"] = quantity(transaction.maximum_tip)
    return form


def receipt_form(receipt: Receipt, transaction: Transaction, block: Block, index: int, first_log: int) -> Json:
    """A receipt; ``first_log`` is how many logs stand before it in the block."""
    from koinon.ledger.execution import logs_bloom

    return {
        "transactionHash": data(receipt.transaction),
        "transactionIndex": quantity(index),
        "blockHash": data(header_hash(block.header)),
        "blockNumber": quantity(block.header.height),
        "from": data(transaction.sender),
        "to": None if transaction.to is None else data(transaction.to),
        "contractAddress": None if receipt.contract is None else data(receipt.contract),
        "status": quantity(receipt.status),
        "type": quantity(transaction.kind),
        "gasUsed": quantity(receipt.gas_used),
        "cumulativeGasUsed": quantity(receipt.cumulative_gas),
        "effectiveGasPrice": quantity(int.from_bytes(receipt.gas_price, "big")),
        "logs": [log_form(log, receipt, block, index, first_log + number) for number, log in enumerate(receipt.logs)],
        "logsBloom": data(logs_bloom(receipt.logs) or bytes(256)),
    }


def log_form(log: Log, receipt: Receipt, block: Block, index: int, log_index: int) -> Json:
    """A log entry with its place."""
    return {
        "address": data(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "blockNumber": quantity(block.header.height),
        "blockHash": data(header_hash(block.header)),
        "transactionHash": data(receipt.transaction),
        "transactionIndex": quantity(index),
        "logIndex": quantity(log_index),
        "removed": False,
    }


TopicFilter = tuple[frozenset[bytes], ...]
"""Allowed topics by position; an empty set allows any."""


def read_topics(value: Json) -> TopicFilter:
    """Read the topics of a log filter. Raises InvalidInput."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAXIMUM_TOPICS:
        raise InvalidInput(f"topics must be a list of at most {_MAXIMUM_TOPICS} entries")
    return tuple(
        frozenset(
            read_hash(topic, "a topic")
            for topic in (entry if isinstance(entry, list) else [] if entry is None else [entry])
        )
        for entry in value
    )


def read_addresses(value: Json) -> frozenset[Address]:
    """Read the addresses of a log filter; empty allows any. Raises InvalidInput."""
    entries = value if isinstance(value, list) else [] if value is None else [value]
    return frozenset(read_address(entry, "address") for entry in entries)
