"""Our own chain inside the test process: the real engine and headers, real certificates, and proofs of both kinds.

One transaction, one block. It answers the JSON-RPC requests that ``ChainClient`` makes.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from koinon.audit.ordered_trie import ordered_trie_root
from koinon.contracts.rpc import RpcError
from koinon.crypto import bls, merkle
from koinon.crypto.hash import keccak256, sha256
from koinon.kernel.codec import encode
from koinon.kernel.ids import Address, Hash32, NodeId, to_hex
from koinon.kernel.quantities import BlockIndex, ChainId, UnixSeconds, View, Wei
from koinon.ledger import rlp
from koinon.ledger.blocks import seal
from koinon.ledger.chain import Chain
from koinon.ledger.evm.engine import EvmEngine
from koinon.ledger.execution import Call, ExecutedBlock, Receipt, build_block
from koinon.ledger.genesis import Genesis, GenesisValidator, Parameters, funded
from koinon.ledger.giskard.certificates import vote_message
from koinon.ledger.rpc.koinon import ReceiptProof
from koinon.ledger.state import read_account
from koinon.ledger.transaction import Transaction, parse_transaction
from koinon.ledger.types import FinalityProof, Header, QuorumCertificate, header_hash, make_bitmap
from koinon.store.keyvalue import MemoryStore

CHAIN_ID = ChainId(20261)
START = UnixSeconds(1_800_000_000)
NOBODY = Address(bytes(20))


_NUMBERS = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas")


def _outside_receipt(receipt: Receipt) -> bytes:
    logs = [[log.address, list(log.topics), log.data] for log in receipt.logs]
    return b"\x02" + rlp.encode([receipt.status, receipt.cumulative_gas, bytes(256), logs])


class ProvingChain:
    """See the module. Implements ``koinon.contracts.rpc.Rpc``."""

    def __init__(self, accounts: Collection[Address], *, outside: bool = False) -> None:
        self.outside = outside
        self.keys = [bls.BlsKey.from_seed(sha256(b"validator %d" % number)) for number in range(4)]
        validators = tuple(
            GenesisValidator(
                NodeId(sha256(b"node %d" % number)),
                Address(sha256(b"account %d" % number)[:20]),
                key.public_key,
                key.prove_possession(),
                "127.0.0.1",
                7300 + number,
            )
            for number, key in enumerate(self.keys)
        )
        balances = tuple(funded(account, Wei(10**24)) for account in accounts)
        self.genesis = Genesis(CHAIN_ID, START, validators, balances, Parameters(gas_limit=30_000_000, base_fee=7))
        self.chain = Chain(MemoryStore(), self.genesis)
        self.engine = EvmEngine()
        self.headers: list[Header] = [self.chain.final_header]
        self.executed: list[ExecutedBlock | None] = [None]
        self.names: list[Hash32] = [header_hash(self.chain.final_header)]
        self.places: dict[Hash32, tuple[int, int]] = {}
        self.time = int(START)

    async def close(self) -> None:
        """Nothing to close."""

    def now(self) -> float:
        """The clock that clients look at."""
        return float(self.time)

    def mine(self, *transactions: Transaction) -> Header:
        """One block."""
        parent = self.headers[-1]
        mix = sha256(parent.mix)
        beneficiary = self.chain.validators.members[0].account
        context = replace(
            self.chain.context_for(parent, self.time, beneficiary, mix), block_hash=lambda height: self.names[height]
        )
        state, accumulator = self.chain.parent_state(header_hash(parent))
        executed, rejected = build_block(self.engine, context, state, accumulator, transactions, 60.0, 1 << 22)
        if rejected:
            raise RpcError("eth_sendRawTransaction", -32000, rejected[0].reason)
        header = seal(
            parent,
            context,
            executed,
            epoch=parent.epoch,
            view=View(1),
            index=BlockIndex(parent.height),
            proposer=0,
            randomness_proof=b"",
            validators=self.chain.validators.hash,
            next_validators=self.chain.validators.hash,
        )
        self.chain.add_executed(header, executed)
        self.headers.append(header)
        self.executed.append(executed)
        self.names.append(self._outside_name(header.height) if self.outside else header_hash(header))
        for index, transaction in enumerate(executed.transactions):
            self.places[transaction.hash] = (header.height, index)
        return header

    # Proofs

    def _koinon_epochEnds(self, _first: str) -> list[str]:  # noqa: N802
        return []

    def _koinon_validators(self, _epoch: str) -> dict[str, Any]:
        return {
            "members": [
                {"node": to_hex(member.node_id), "account": to_hex(member.account), "blsKey": to_hex(member.bls_key)}
                for member in self.chain.validators.members
            ]
        }

    def _koinon_finality(self, height: str) -> dict[str, Any]:
        """Headers from ``height`` to the next multiple of 50 or the tip, with the certificates of the last three."""
        first = int(height, 16)
        while len(self.headers) < first + 3:
            self.mine()
        headers = tuple(self.headers[first : max(first + 3, (first // 50 + 1) * 50)])
        certificates = tuple(self._certificate(header) for header in headers[-3:])
        return {"proof": to_hex(encode(FinalityProof(headers, certificates)))}

    def _koinon_receiptProof(self, digest: str) -> dict[str, Any]:  # noqa: N802
        height, index = self.places[Hash32(bytes.fromhex(digest[2:]))]
        executed = self.executed[height]
        assert executed is not None
        raws = [transaction.raw for transaction in executed.transactions]
        receipts = [encode(receipt) for receipt in executed.receipts]
        proof = ReceiptProof(
            height,
            index,
            len(raws),
            raws[index],
            receipts[index],
            merkle.prove(raws, index),
            merkle.prove(receipts, index),
        )
        return {"proof": to_hex(encode(proof))}

    def _certificate(self, header: Header) -> QuorumCertificate:
        statement = vote_message(CHAIN_ID, header.epoch, header.view, header.index, header.height, header_hash(header))
        signature = bls.aggregate_signatures([key.sign(statement) for key in self.keys[:3]])
        return QuorumCertificate(
            header.epoch,
            header.view,
            header.index,
            header.height,
            header_hash(header),
            make_bitmap((0, 1, 2), 4),
            signature,
        )

    def _outside_header(self, height: int) -> dict[str, Any]:
        """The block's header as an Ethereum node shows it."""
        executed, header = self.executed[height], self.headers[height]
        assert executed is not None
        raws = [transaction.raw for transaction in executed.transactions]
        receipts = [_outside_receipt(receipt) for receipt in executed.receipts]
        return {
            "parentHash": to_hex(self.names[height - 1]),
            "sha3Uncles": to_hex(keccak256(b"no uncles")),
            "miner": to_hex(header.beneficiary),
            "stateRoot": to_hex(header.state_root),
            "transactionsRoot": to_hex(ordered_trie_root(raws)),
            "receiptsRoot": to_hex(ordered_trie_root(receipts)),
            "logsBloom": to_hex(bytes(256)),
            "difficulty": "0x0",
            "number": hex(height),
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "timestamp": hex(header.timestamp),
            "extraData": "0x",
            "mixHash": to_hex(header.mix),
            "nonce": to_hex(bytes(8)),
            "baseFeePerGas": hex(header.base_fee),
        }

    def _outside_name(self, height: int) -> Hash32:
        fields = [
            int(value, 16) if key in _NUMBERS else bytes.fromhex(value[2:])
            for key, value in self._outside_header(height).items()
        ]
        return keccak256(rlp.encode(fields))

    # JSON-RPC

    async def request(self, method: str, parameters: Sequence[object]) -> Any:
        """See ``Rpc``."""
        answer = getattr(self, "_" + method, None)
        if answer is None:
            raise RpcError(method, -32601, "no such method")
        return answer(*parameters)

    def _eth_chainId(self) -> str:  # noqa: N802
        return hex(CHAIN_ID)

    def _eth_blockNumber(self) -> str:  # noqa: N802
        return hex(self.headers[-1].height)

    def _eth_maxPriorityFeePerGas(self) -> str:  # noqa: N802
        return hex(1)

    def _eth_getBlockByNumber(self, tag: str, _full: bool) -> dict[str, Any]:  # noqa: N802
        header = self.headers[-1 if tag == "latest" else int(tag, 16)]
        executed = self.executed[header.height]
        if self.outside and executed is not None:
            transactions = [to_hex(transaction.hash) for transaction in executed.transactions]
            name = to_hex(self.names[header.height])
            return {**self._outside_header(header.height), "hash": name, "transactions": transactions}
        return {
            "number": hex(header.height),
            "timestamp": hex(header.timestamp),
            "hash": to_hex(header_hash(header)),
            "baseFeePerGas": hex(header.base_fee),
        }

    def _eth_getTransactionCount(self, account: str, _tag: str) -> str:  # noqa: N802
        state, _ = self.chain.parent_state(header_hash(self.headers[-1]))
        return hex(read_account(state, Address(bytes.fromhex(account[2:]))).nonce)

    def _eth_call(self, message: dict[str, str], tag: str) -> str:
        result = self._simulate(message)
        if not result.succeeded:
            raise RpcError("eth_call", 3, "execution reverted", result.output)
        return to_hex(result.output)

    def _eth_estimateGas(self, message: dict[str, str]) -> str:  # noqa: N802
        result = self._simulate(message)
        if not result.succeeded:
            raise RpcError("eth_estimateGas", 3, "execution reverted", result.output)
        return hex(result.gas_before_refund)

    def _eth_sendRawTransaction(self, raw: str) -> str:  # noqa: N802
        transaction = parse_transaction(bytes.fromhex(raw[2:]))
        self.mine(transaction)
        return to_hex(transaction.hash)

    def _eth_getTransactionReceipt(self, digest: str) -> dict[str, Any] | None:  # noqa: N802
        place = self.places.get(Hash32(bytes.fromhex(digest[2:])))
        if place is None:
            return None
        executed, header = self.executed[place[0]], self.headers[place[0]]
        assert executed is not None
        receipt = executed.receipts[place[1]]
        return {
            "transactionHash": digest,
            "blockNumber": hex(header.height),
            "blockHash": to_hex(header_hash(header)),
            "gasUsed": hex(receipt.gas_used),
            "contractAddress": None if receipt.contract is None else to_hex(receipt.contract),
            "status": hex(receipt.status),
            "logs": self._logs(header.height),
            "cumulativeGasUsed": hex(receipt.cumulative_gas),
            "logsBloom": to_hex(bytes(256)),
            "type": "0x2",
        }

    def _eth_getRawTransactionByHash(self, digest: str) -> str:  # noqa: N802
        height, index = self.places[Hash32(bytes.fromhex(digest[2:]))]
        executed = self.executed[height]
        assert executed is not None
        return to_hex(executed.transactions[index].raw)

    def _eth_getLogs(self, query: dict[str, Any]) -> list[dict[str, Any]]:  # noqa: N802
        return [
            log
            for height in range(1, len(self.headers))
            for log in self._logs(height)
            if log["address"] in query["address"]
            and len(log["topics"]) >= len(query["topics"])
            and all(
                choice is None or topic in choice for topic, choice in zip(log["topics"], query["topics"], strict=False)
            )
        ]

    def _logs(self, height: int) -> list[dict[str, Any]]:
        executed, header = self.executed[height], self.headers[height]
        assert executed is not None
        return [
            {
                "address": to_hex(log.address),
                "topics": [to_hex(topic) for topic in log.topics],
                "data": to_hex(log.data),
                "blockNumber": hex(height),
                "blockHash": to_hex(header_hash(header)),
                "transactionHash": to_hex(receipt.transaction),
                "logIndex": hex(index),
            }
            for receipt in executed.receipts
            for index, log in enumerate(receipt.logs)
        ]

    def _simulate(self, message: dict[str, str]) -> Any:
        parent = self.headers[-1]
        state, _ = self.chain.parent_state(header_hash(parent))
        context = self.chain.context_for(parent, self.time, NOBODY, parent.mix)
        sender, to = message.get("from"), message.get("to")
        call = Call(
            sender=Address(bytes.fromhex(sender[2:])) if sender else NOBODY,
            to=Address(bytes.fromhex(to[2:])) if to else None,
            gas=context.gas_limit,
            value=Wei(int(message.get("value", "0x0"), 16)),
            data=bytes.fromhex(message.get("data", message.get("input", "0x"))[2:]),
            gas_price=Wei(0),
        )
        return self.engine.call(call, context, state)
