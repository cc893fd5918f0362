"""Reading from a node what a bundle needs to prove: one reader for our chain, one for any other EVM chain."""

from collections.abc import Collection, Mapping
from typing import Any

from koinon.audit.bundle import ChainProof
from koinon.audit.evidence import KOINON_CHAIN, OUTSIDE_CHAIN, ContractAddress, Fact, Network, OutsideBlock
from koinon.contracts.client import ChainClient
from koinon.contracts.rpc import binary, quantity
from koinon.crypto.hash import keccak256
from koinon.kernel.codec import decode
from koinon.kernel.errors import MalformedMessage, Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId, to_hex
from koinon.kernel.quantities import Height
from koinon.ledger import rlp
from koinon.ledger.rpc.koinon import ReceiptProof
from koinon.ledger.types import Validator, is_closing
from koinon.wire.consensus import FinalityProof
from koinon.wire.ledger import EpochEnd

_HEADER_FIELDS = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "#difficulty",
    "#number",
    "#gasLimit",
    "#gasUsed",
    "#timestamp",
    "extraData",
    "mixHash",
    "nonce",
    "#baseFeePerGas",
    "withdrawalsRoot",
    "#blobGasUsed",
    "#excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
)
"""Fields of a block header in the order of the encoding (EIP-1559, 4895, 4844, 4788, 7685); '#' marks numbers."""


class KoinonProofs:
    """Proofs from a node of our chain. Implements ``bundle.ProofReader``."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client

    async def network(self, contracts: Mapping[str, Address]) -> Network:
        """Chain, contracts, validators and how they changed. Raises Unavailable if the node cannot be asked."""
        answer = await self._client.request("koinon_validators", hex(0))
        members = tuple(
            Validator(
                NodeId(binary(member["node"], "node id", 32)),
                Address(binary(member["account"], "account", 20)),
                binary(member["blsKey"], "BLS key"),
            )
            for member in answer["members"]
        )
        epochs: list[EpochEnd] = []
        while page := await self._client.request("koinon_epochEnds", hex(len(epochs))):
            epochs += [decode(EpochEnd, binary(entry, "end of an epoch")) for entry in page]
        return Network(KOINON_CHAIN, await self._client.chain_id(), _addresses(contracts), members, tuple(epochs))

    async def prove(self, transactions: Collection[Hash32], heights: Collection[int], /) -> ChainProof:
        """See ``ProofReader``."""
        facts = [await self._fact(transaction) for transaction in transactions]
        facts.sort(key=lambda fact: (fact.height, fact.index))
        wanted = sorted({fact.height for fact in facts} | set(heights))
        proofs: list[FinalityProof] = []
        covered = -1
        for height in wanted:
            if height <= covered:
                continue
            answer = await self._client.request("koinon_finality", hex(height))
            proofs.append(decode(FinalityProof, binary(answer["proof"], "finality proof")))
            covered = _last_final(proofs[-1])
        return ChainProof(finality=tuple(proofs), facts=tuple(facts))

    async def _fact(self, transaction: Hash32) -> Fact:
        answer = await self._client.request("koinon_receiptProof", to_hex(transaction))
        proof = decode(ReceiptProof, binary(answer["proof"], "receipt proof"))
        return Fact(
            Height(proof.height),
            proof.index,
            proof.count,
            proof.transaction,
            tuple(Hash32(step) for step in proof.transaction_path),
            proof.receipt,
            tuple(Hash32(step) for step in proof.receipt_path),
        )


def _last_final(proof: FinalityProof) -> int:
    """Height up to which a proof is of use: the last two headers only carry certificates, closing blocks too."""
    return max(header.height for header in proof.headers[:-2] if not is_closing(header))


class OutsideProofs:
    """Blocks from a node of any EVM chain, put into the bytes their hashes cover. Implements ``bundle.ProofReader``."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client

    async def network(self, contracts: Mapping[str, Address]) -> Network:
        """Chain and contracts. Raises Unavailable if the node cannot be asked."""
        return Network(OUTSIDE_CHAIN, await self._client.chain_id(), _addresses(contracts), ())

    async def prove(self, transactions: Collection[Hash32], heights: Collection[int], /) -> ChainProof:
        """See ``ProofReader``."""
        wanted = set(heights)
        for transaction in transactions:
            receipt = await self._client.request("eth_getTransactionReceipt", to_hex(transaction))
            if receipt is None:
                raise Unavailable(f"the chain does not know transaction {to_hex(transaction)}")
            wanted.add(quantity(receipt["blockNumber"], "block number"))
        return ChainProof(blocks=tuple([await self._block(height) for height in sorted(wanted)]))

    async def _block(self, height: int) -> OutsideBlock:
        block = await self._client.request("eth_getBlockByNumber", hex(height), False)
        if block is None:
            raise Unavailable(f"the chain does not show block {height}")
        header = rlp.encode(_header(block))
        digest = Hash32(binary(block["hash"], "block hash", 32))
        if keccak256(header) != digest:
            raise MalformedMessage(f"block {height} of this chain has a header of another form; it cannot be shown")
        raws: list[bytes] = []
        receipts: list[bytes] = []
        for transaction in block["transactions"]:
            raw = await self._client.request("eth_getRawTransactionByHash", transaction)
            receipt = await self._client.request("eth_getTransactionReceipt", transaction)
            if raw is None or receipt is None:
                raise Unavailable(f"the chain does not show the bytes of transaction {transaction}")
            raws.append(binary(raw, "transaction"))
            receipts.append(_receipt(receipt))
        return OutsideBlock(Height(height), digest, header, tuple(raws), tuple(receipts))


def _header(block: Mapping[str, Any]) -> list[object]:
    fields: list[object] = []
    for name in _HEADER_FIELDS:
        key = name.removeprefix("#")
        if block.get(key) is None:
            break
        fields.append(quantity(block[key], key) if name.startswith("#") else binary(block[key], key))
    return fields


def _receipt(receipt: Mapping[str, Any]) -> bytes:
    """Consensus encoding of a receipt (EIP-2718)."""
    logs = [
        [
            binary(log["address"], "address", 20),
            [binary(topic, "topic", 32) for topic in log["topics"]],
            binary(log["data"], "log data"),
        ]
        for log in receipt["logs"]
    ]
    encoded = rlp.encode(
        [
            quantity(receipt["status"], "status"),
            quantity(receipt["cumulativeGasUsed"], "cumulative gas"),
            binary(receipt["logsBloom"], "bloom", 256),
            logs,
        ]
    )
    kind = quantity(receipt.get("type", "0x0"), "transaction type")
    return encoded if kind == 0 else bytes([kind]) + encoded


def _addresses(contracts: Mapping[str, Address]) -> tuple[ContractAddress, ...]:
    return tuple(ContractAddress(name, address) for name, address in contracts.items())
