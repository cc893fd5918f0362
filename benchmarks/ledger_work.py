"""Work for the ledger's benchmark: signed transactions, the blocks a proposer made of them, a validator to check them.

The proposer's part is prepared beforehand and not timed. What ``Checked`` does is all that a validator does for a block
somebody else proposed but exchange votes: take the transactions in from gossip (read, recover the sender, admit), check
and execute the block, write it down before voting, make it final with a durable write.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from koinon.contracts.artifacts import artifact
from koinon.crypto.bls import BlsKey
from koinon.crypto.hash import keccak256, sha256
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import BlockIndex, ChainId, Epoch, Gas, Milliseconds, UnixSeconds, View, Wei
from koinon.ledger import rlp
from koinon.ledger import transaction as transactions
from koinon.ledger.blocks import seal
from koinon.ledger.chain import Chain
from koinon.ledger.engine import network_engine
from koinon.ledger.execution import build_block, execute_block
from koinon.ledger.genesis import Genesis, GenesisValidator, Parameters, funded
from koinon.ledger.giskard.state import Finalise, Persist, SafetyRecord, Tracked, ViewEntry
from koinon.ledger.mempool import Mempool, read_offered
from koinon.ledger.transaction import parse_transaction
from koinon.ledger.types import Block, Header, QuorumCertificate, header_hash, make_bitmap
from koinon.store.keyvalue import LmdbStore, MemoryStore

CHAIN_ID: Final = ChainId(31337)
GAS_LIMIT: Final = Gas(60_000_000)
FEE: Final = 10**12
TIP: Final = 1
_TRANSFER: Final = bytes.fromhex("a9059cbb")

# JUMPDEST, x = x * x + 1, and back: 26 gas a round on numbers of 256 bits, until the gas is used up.
LOOP_CODE: Final = bytes.fromhex("60035b8002600101600256")


def account(number: int) -> AccountKey:
    return AccountKey.from_secret((number + 1).to_bytes(32, "big"))


def signed(key: AccountKey, nonce: int, to: Address | None, value: int, data: bytes, gas: int) -> bytes:
    """A type-2 transaction."""
    fields: list[Any] = [CHAIN_ID, nonce, TIP, FEE, gas, to or b"", value, data, []]
    signature = key.sign_digest(keccak256(b"\x02" + rlp.encode(fields)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return b"\x02" + rlp.encode([*fields, signature[64] - 27, r, s])


def genesis(accounts: int) -> Genesis:
    """One validator and ``accounts`` rich accounts."""
    node, bls = NodeKey.from_seed(b"\x01" * 32), BlsKey.from_seed(b"\x01" * 32)
    validator = GenesisValidator(
        node.node_id, account(10**6).address, bls.public_key, bls.prove_possession(), "127.0.0.1", 1
    )
    return Genesis(
        chain_id=CHAIN_ID,
        timestamp=UnixSeconds(1_700_000_000),
        validators=(validator,),
        accounts=tuple(funded(account(number).address, Wei(10**24)) for number in range(accounts)),
        parameters=Parameters(gas_limit=GAS_LIMIT, base_timeout=Milliseconds(1500)),
    )


def transfers(accounts: int, each: int) -> list[bytes]:
    """``each`` transfers from every account, in rounds, each to another account."""
    keys = [account(number) for number in range(accounts)]
    return [
        signed(key, nonce, keys[(number * 7 + nonce + 1) % accounts].address, 1, b"", 21_000)
        for nonce in range(each)
        for number, key in enumerate(keys)
    ]


def token_transfers(accounts: int, each: int) -> tuple[list[bytes], list[bytes]]:
    """Transactions that deploy the OpenZeppelin token and hand it out, and then as many transfers of it."""
    keys = [account(number) for number in range(accounts)]
    token = Address(keccak256(rlp.encode([keys[0].address, 0]))[12:])
    creation = artifact("Token").bytecode + (10**18).to_bytes(32, "big")
    setup = [signed(keys[0], 0, None, 0, creation, 3_000_000)]
    setup += [
        signed(keys[0], number, token, 0, _TRANSFER + bytes(12) + key.address + (10**9).to_bytes(32, "big"), 60_000)
        for number, key in enumerate(keys)
        if number
    ]
    first = [accounts] + [0] * (accounts - 1)
    moved = [
        signed(
            key,
            first[number] + nonce,
            token,
            0,
            _TRANSFER + bytes(12) + keys[(number * 7 + nonce + 1) % accounts].address + (1).to_bytes(32, "big"),
            60_000,
        )
        for nonce in range(each)
        for number, key in enumerate(keys)
    ]
    return setup, moved


@dataclass(frozen=True)
class Prepared:
    """Blocks as they come from a proposer; the first ``setup`` of them are not timed."""

    genesis: Genesis
    blocks: tuple[Block, ...]
    setup: int

    @property
    def transactions(self) -> int:
        return sum(len(block.transactions) for block in self.blocks[self.setup :])

    @property
    def gas(self) -> int:
        return sum(block.header.gas_used for block in self.blocks[self.setup :])


def prepare(first: Genesis, setup: Sequence[bytes], raws: Sequence[bytes], per_block: int) -> Prepared:
    """Execute the transactions as a proposer does, in blocks of ``per_block``, and two empty ones on top."""
    chain, engine = Chain(MemoryStore(), first), network_engine()
    blocks: list[Block] = []

    def add(batch: Sequence[bytes]) -> None:
        parent = blocks[-1].header if blocks else chain.final_header
        view, accumulator = chain.parent_state(header_hash(parent))
        mix = sha256(parent.mix)
        beneficiary = chain.validators.members[0].account
        context = chain.context_for(parent, UnixSeconds(parent.timestamp + 1), beneficiary, mix)
        candidates = [parse_transaction(raw) for raw in batch]
        executed, rejected = build_block(engine, context, view, accumulator, candidates, 600.0, 1 << 24)
        if len(executed.transactions) != len(batch):
            raise SystemExit(f"a block took {len(executed.transactions)} of {len(batch)}: {rejected[:1]}")
        header = seal(
            parent,
            context,
            executed,
            epoch=parent.epoch,
            view=View(1),
            index=BlockIndex(parent.height),
            proposer=0,
            randomness_proof=b"",
            validators=chain.validators.hash,
            next_validators=chain.validators.hash,
        )
        chain.add_executed(header, executed)
        blocks.append(Block(header, tuple(batch)))

    for start in range(0, len(setup), per_block):
        add(setup[start : start + per_block])
    count = len(blocks)
    for start in range(0, len(raws), per_block):
        add(raws[start : start + per_block])
    add(())
    add(())
    return Prepared(first, tuple(blocks), count)


def _certificate(header: Header) -> QuorumCertificate:
    return QuorumCertificate(
        header.epoch, header.view, header.index, header.height, header_hash(header), make_bitmap((0,), 1), bytes(96)
    )


class Checked:
    """A validator on a store of its own on disk, that checks prepared blocks."""

    def __init__(self, prepared: Prepared, folder: Path) -> None:
        self._store = LmdbStore.open(folder, 16 << 30)
        self._chain = Chain(self._store, prepared.genesis)
        self._engine = network_engine()
        self._engine.prepare()
        self._mempool = Mempool(CHAIN_ID, GAS_LIMIT, self._chain.next_base_fee(self._chain.final_header), 1 << 20)
        self._prepared = prepared
        self._unfinal: list[Block] = []
        for block in prepared.blocks[: prepared.setup]:
            self.take(block, offered=False)

    def run(self) -> tuple[float, float]:
        """Process and wall seconds for all the blocks that are timed."""
        cpu, wall = time.process_time(), time.perf_counter()
        for block in self._prepared.blocks[self._prepared.setup :]:
            self.take(block)
        return time.process_time() - cpu, time.perf_counter() - wall

    def take(self, block: Block, *, offered: bool = True) -> None:
        """One block from gossip, if its transactions were ``offered``, to finality (of the second block below it)."""
        header, chain = block.header, self._chain
        state, accumulator = chain.parent_state(header.parent)
        for raw in block.transactions if offered else ():
            self._mempool.add(read_offered(raw), state)
        parent = chain.header_of(header.parent)
        assert parent is not None
        context = chain.context_for(parent, header.timestamp, header.beneficiary, header.mix)
        chain.add_executed(header, execute_block(self._engine, context, state, accumulator, header, block.transactions))
        tip = _certificate(header)
        record = SafetyRecord(
            Epoch(0), View(1), False, (), Hash32(bytes(32)), 0, None, tip, ViewEntry(tip, None), (tip,)
        )
        chain.persist(Persist(record, (Tracked(block, bytes(96), None, True),)))
        self._unfinal.append(block)
        if len(self._unfinal) == 3:
            headers = tuple(known.header for known in self._unfinal)
            final = self._unfinal.pop(0)
            certificates = tuple(map(_certificate, headers))
            gone = chain.finalise(Finalise((final,), certificates[:1], headers, certificates))
            self._mempool.settle(gone, chain.next_base_fee(header))

    def close(self) -> None:
        self._store.close()


def forget_senders() -> None:
    """Make the next validator of this process recover every sender itself."""
    transactions.recovered.clear()
