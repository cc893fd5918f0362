"""JSON forms of the Ethereum RPC: quantities, data, and the objects made of them."""

from typing import Final

from koinon.kernel.ids import Hash32
from koinon.ledger.execution import Log, Receipt, logs_bloom
from koinon.ledger.rpc.table import Json
from koinon.ledger.transaction import AccessList, Transaction
from koinon.ledger.types import Block, Header, header_hash

_EMPTY_UNCLES: Final = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
_EMPTY_TRIE: Final = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
_HEADER_BYTES: Final = 600


def quantity(value: int) -> str:
    return hex(value)


def data(value: bytes) -> str:
    return "0x" + value.hex()


def header_form(header: Header) -> dict[str, Json]:
    """A block without its transactions. There are no withdrawals, uncles or blobs; their fields say so."""
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
        "withdrawalsRoot": _EMPTY_TRIE,
        "parentBeaconBlockRoot": data(bytes(32)),
        "miner": data(header.beneficiary),
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": "0x",
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "blobGasUsed": "0x0",
        "excessBlobGas": "0x0",
        "timestamp": quantity(header.timestamp),
        "baseFeePerGas": quantity(header.base_fee),
        "mixHash": data(header.mix),
        "koinonView": quantity(header.view),
        "koinonIndex": quantity(header.index),
        "koinonProposer": quantity(header.proposer),
    }


def block_form(block: Block, transactions: Json) -> dict[str, Json]:
    """A block; ``transactions`` are hashes or whole objects."""
    return {
        **header_form(block.header),
        "size": quantity(_HEADER_BYTES + sum(len(raw) for raw in block.transactions)),
        "uncles": [],
        "withdrawals": [],
        "transactions": transactions,
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
        "v": quantity(_v(transaction)),
    }
    if transaction.chain_id is not None:
        form["chainId"] = quantity(transaction.chain_id)
    if typed:
        form["yParity"] = quantity(transaction.parity)
        form["accessList"] = access_list_form(transaction.access_list)
    if transaction.kind == 2:
        form["maxFeePerGas"] = quantity(transaction.maximum_fee)
        form["maxPriorityFeePerGas"] = quantity(transaction.maximum_tip)
    return form


def _v(transaction: Transaction) -> int:
    """The parity as a type writes it: bare, with the chain (EIP-155), or from 27 on (before that)."""
    if transaction.kind != 0:
        return transaction.parity
    return transaction.parity + (27 if transaction.chain_id is None else 35 + 2 * transaction.chain_id)


def access_list_form(accesses: AccessList) -> Json:
    """Addresses with their storage keys."""
    return [
        {"address": data(address), "storageKeys": [data(slot.to_bytes(32, "big")) for slot in slots]}
        for address, slots in accesses
    ]


def receipt_form(receipt: Receipt, transaction: Transaction, block: Block, index: int, first_log: int) -> Json:
    """A receipt; ``first_log`` is how many logs stand before it in the block."""
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
        "logs": [
            log_form(log, receipt.transaction, block, index, first_log + number)
            for number, log in enumerate(receipt.logs)
        ],
        "logsBloom": data(logs_bloom(receipt.logs) or bytes(256)),
    }


def log_form(log: Log, transaction: Hash32, block: Block, index: int, log_index: int) -> Json:
    """A log entry with its place."""
    return {
        "address": data(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "blockNumber": quantity(block.header.height),
        "blockHash": data(header_hash(block.header)),
        "transactionHash": data(transaction),
        "transactionIndex": quantity(index),
        "blockTimestamp": quantity(block.header.timestamp),
        "logIndex": quantity(log_index),
        "removed": False,
    }
