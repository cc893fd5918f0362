"""The chain as one validator holds it: final blocks and state in the store, executed blocks above them in memory.

Keys of the store beside the state's (``koinon.ledger.state``); heights are eight bytes, big-endian:

    m/genesis          hash of the genesis record       h + block hash     height
    m/height           height of the last final block   t + hash           height and place (4 bytes) of a transaction
    b + height         block                            f + height         finality proof of this block
    q + height         certificate of the block         p + height         height of the nearest proof at or above it
    r + height         receipts                         u + block hash     unfinalised block that was voted for
                                                        m/safety           what Giskard persisted last
"""

from dataclasses import dataclass
from typing import Final

from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Height, UnixSeconds
from koinon.ledger import lattice
from koinon.ledger.execution import BlockContext, ExecutedBlock, Receipt
from koinon.ledger.genesis import Genesis
from koinon.ledger.giskard.certificates import genesis_certificate
from koinon.ledger.giskard.state import Finalise, Persist, SafetyRecord
from koinon.ledger.state import ACCUMULATOR_KEY, STATE_PREFIX, FinalState, Overlay, StateView
from koinon.ledger.transaction import Transaction
from koinon.ledger.types import Block, FinalityProof, Header, QuorumCertificate, header_hash

_GENESIS: Final = b"m/genesis"
_HEIGHT: Final = b"m/height"
_SAFETY: Final = b"m/safety"
_LONGEST_PROOF: Final = 4000


def _number(height: int) -> bytes:
    return height.to_bytes(8, "big")


class UnfinalisedBlock(Record, frozen=True):
    """A block that this validator signed something for, as it is kept until it is final."""

    block: Block
    signature: bytes | None


@dataclass(frozen=True)
class TransactionPlace:
    """Where a final transaction stands."""

    height: Height
    index: int


class Chain:
    """Final history, final state and executed unfinalised blocks. One thread changes it; any may read."""

    def __init__(self, store: Store, genesis: Genesis) -> None:
        self._store = store
        self.genesis = genesis
        self.validators = genesis.validator_set()
        self.executed: dict[Hash32, ExecutedBlock] = {}
        self._headers: dict[Hash32, Header] = {}
        height = store.get(_HEIGHT)
        if height is None:
            self._begin(genesis)
            height = _number(0)
        elif store.get(_GENESIS) != genesis.hash:
            raise InvalidInput(
                "the ledger in this home folder belongs to another genesis; use an empty folder or the right genesis"
            )
        self.state = FinalState(store, Height(int.from_bytes(height, "big")))
        if self.state.root != self.final_header.state_root:
            raise InvalidInput("the ledger's state does not match its last block; restore the folder or sync anew")

    def _begin(self, genesis: Genesis) -> None:
        genesis.check()
        entries = genesis.state()
        header = genesis.header()
        certificate = genesis_certificate(header, len(genesis.validators), genesis.parameters.blocks_per_view)
        accumulator = lattice.updated(lattice.EMPTY_ACCUMULATOR, ((k, None, v) for k, v in entries.items()))
        self._store.write(
            {
                **{STATE_PREFIX + key: value for key, value in entries.items()},
                ACCUMULATOR_KEY: accumulator,
                b"b" + _number(0): encode(Block(header, ())),
                b"q" + _number(0): encode(certificate),
                b"r" + _number(0): encode(()),
                b"h" + header_hash(header): _number(0),
                _GENESIS: genesis.hash,
                _HEIGHT: _number(0),
            }
        )

    # Final history

    @property
    def final_height(self) -> Height:
        return self.state.height

    @property
    def final_header(self) -> Header:
        return self.header_at(self.final_height)

    def block_at(self, height: int) -> Block:
        """A final block. Raises Unavailable above the last."""
        entry = self._store.get(b"b" + _number(height)) if 0 <= height < 2**63 else None
        if entry is None:
            raise Unavailable(f"block {height} is not final; the last final block is {self.final_height}")
        return decode(Block, entry)

    def header_at(self, height: int) -> Header:
        """Header of a final block. Raises Unavailable above the last."""
        return self.block_at(height).header

    def height_of(self, block: Hash32) -> Height | None:
        """Height of a final block by its hash."""
        entry = self._store.get(b"h" + block)
        return None if entry is None else Height(int.from_bytes(entry, "big"))

    def certificate_at(self, height: int) -> QuorumCertificate:
        """Certificate of a final block. Raises Unavailable above the last."""
        entry = self._store.get(b"q" + _number(height))
        if entry is None:
            raise Unavailable(f"block {height} is not final; the last final block is {self.final_height}")
        return decode(QuorumCertificate, entry)

    def receipts_at(self, height: int) -> tuple[Receipt, ...]:
        """Receipts of a final block, in order. Raises Unavailable above the last."""
        entry = self._store.get(b"r" + _number(height))
        if entry is None:
            raise Unavailable(f"block {height} is not final; the last final block is {self.final_height}")
        return decode(tuple[Receipt, ...], entry)

    def place_of(self, transaction: Hash32) -> TransactionPlace | None:
        """Where a final transaction stands, None if it is not final."""
        entry = self._store.get(b"t" + transaction)
        if entry is None:
            return None
        return TransactionPlace(Height(int.from_bytes(entry[:8], "big")), int.from_bytes(entry[8:], "big"))

    def finality_proof(self, height: int) -> FinalityProof:
        """Headers from ``height`` to the nearest block proven final and the two above it, with their certificates.

        Raises:
            Unavailable: the block is not final yet, is genesis, or the proof would be too long.
        """
        entry = self._store.get(b"p" + _number(height)) if 0 < height < 2**63 else None
        if entry is None:
            raise Unavailable(f"block {height} has no finality proof; blocks 1 to {self.final_height} have")
        proven = int.from_bytes(entry, "big")
        if proven - height > _LONGEST_PROOF:
            raise Unavailable(f"the finality proof of block {height} would hold {proven - height} headers")
        stored = self._store.get(b"f" + entry)
        assert stored is not None, "both are written together"
        proof = decode(FinalityProof, stored)
        below = tuple(self.header_at(number) for number in range(height, proven))
        return FinalityProof((*below, *proof.headers), proof.certificates)

    # Execution above the final block

    def parent_state(self, parent: Hash32) -> tuple[StateView, bytes]:
        """State and accumulator that a child of ``parent`` is executed on.

        Raises:
            Unavailable: the parent is neither final nor executed.
        """
        if parent == header_hash(self.final_header):
            return self.state, self.state.accumulator
        executed = self.executed.get(parent)
        if executed is None:
            raise Unavailable("the parent of the block is neither final nor executed")
        return executed.state, executed.state.accumulator

    def state_after(self, header: Header) -> StateView:
        """State after an executed block above the last final one; the final state once it is final."""
        executed = self.executed.get(header_hash(header))
        return self.state.view() if executed is None else executed.state

    def header_of(self, block: Hash32) -> Header | None:
        """Header of an executed or final block."""
        known = self._headers.get(block)
        if known is not None:
            return known
        height = self.height_of(block)
        return None if height is None else self.header_at(height)

    def context_for(self, parent: Header, timestamp: UnixSeconds, beneficiary: Address, mix: Hash32) -> BlockContext:
        """What the EVM sees in a child of ``parent``."""
        parameters = self.genesis.parameters

        def block_hash(number: int) -> Hash32 | None:
            header: Header | None = parent
            while header is not None and header.height > number and header.height > self.final_height:
                header = self.header_of(header.parent)
            if header is not None and header.height == number:
                return header_hash(header)
            return header_hash(self.header_at(number)) if number >= 0 else None

        return BlockContext(
            chain_id=self.genesis.chain_id,
            height=Height(parent.height + 1),
            timestamp=timestamp,
            beneficiary=beneficiary,
            mix=mix,
            gas_limit=parameters.gas_limit,
            base_fee=parameters.base_fee,
            block_hash=block_hash,
        )

    def add_executed(self, header: Header, executed: ExecutedBlock) -> None:
        """Keep the result of executing a block until it is final."""
        name = header_hash(header)
        self._headers[name] = header
        self.executed[name] = executed

    # Durability

    def persist(self, effect: Persist) -> None:
        """GISKARD-SAFETY-7: make a safety record durable, with the blocks it speaks of."""
        put = {b"m/safety": encode(effect.record)}
        for tracked in effect.blocks:
            put[b"u" + tracked.hash] = encode(UnfinalisedBlock(tracked.block, tracked.signature))
        self._store.write(put)

    def restored(self) -> tuple[SafetyRecord | None, tuple[UnfinalisedBlock, ...]]:
        """What ``persist`` made durable, for a validator that starts again."""
        entry = self._store.get(_SAFETY)
        blocks = tuple(decode(UnfinalisedBlock, value) for _, value in self._store.scan(b"u"))
        return None if entry is None else decode(SafetyRecord, entry), blocks

    def finalise(self, effect: Finalise) -> tuple[Transaction, ...]:
        """Write blocks and their states as final, all or none; the transactions in them."""
        put: dict[bytes, bytes] = {}
        overlays: list[tuple[Height, Overlay]] = []
        transactions: list[Transaction] = []
        proven = effect.headers[0].height
        for block, certificate in zip(effect.blocks, effect.certificates, strict=True):
            name, height = header_hash(block.header), block.header.height
            executed = self.executed[name]
            overlays.append((height, executed.state))
            transactions.extend(executed.transactions)
            put[b"b" + _number(height)] = encode(block)
            put[b"q" + _number(height)] = encode(certificate)
            put[b"r" + _number(height)] = encode(executed.receipts)
            put[b"h" + name] = _number(height)
            put[b"p" + _number(height)] = _number(proven)
            for index, transaction in enumerate(executed.transactions):
                put[b"t" + transaction.hash] = _number(height) + index.to_bytes(4, "big")
        put[b"f" + _number(proven)] = encode(FinalityProof(effect.headers, effect.proof))
        put[_HEIGHT] = _number(proven)
        stale = [
            b"u" + key[1:]
            for key, value in self._store.scan(b"u")
            if decode(UnfinalisedBlock, value).block.header.height <= proven
        ]
        self.state.write(overlays, put, stale)
        self._rebase(proven, [state for _, state in overlays])
        return tuple(transactions)

    def _rebase(self, final_height: int, final_overlays: list[Overlay]) -> None:
        """Drop what is final or lost, and let the rest stand on the final state."""
        dropped = [name for name, header in self._headers.items() if header.height <= final_height]
        for name in dropped:
            del self._headers[name]
            del self.executed[name]
        for executed in self.executed.values():
            if any(executed.state.parent is overlay for overlay in final_overlays):
                executed.state.parent = self.state
