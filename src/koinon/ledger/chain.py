"""The chain as one validator holds it: final blocks and state in the store, executed blocks above them in memory."""

from collections.abc import Callable, Sequence
from typing import Final

from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import Forged, InvalidInput, Unavailable
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Epoch, Height, UnixSeconds, Wei
from koinon.ledger import lattice
from koinon.ledger.execution import BlockContext, ExecutedBlock
from koinon.ledger.fees import next_base_fee
from koinon.ledger.genesis import Genesis
from koinon.ledger.giskard.certificates import genesis_certificate
from koinon.ledger.giskard.state import Finalise, Persist, SafetyRecord
from koinon.ledger.history import (
    GENESIS_KEY,
    HEADERS_KEY,
    HEIGHT_KEY,
    PROGRESS_KEY,
    History,
    header_entries,
    number,
    pruning,
)
from koinon.ledger.history import block_entries as entries_of
from koinon.ledger.state import ACCUMULATOR_KEY, STATE_PREFIX, FinalState, Overlay, StateView
from koinon.ledger.transaction import Transaction
from koinon.ledger.types import Block, FinalityProof, Header, Validator, ValidatorSet, header_hash

_SAFETY: Final = b"m/safety"


class UnfinalisedBlock(Record, frozen=True):
    """A block that this validator signed something for, as it is kept until it is final."""

    block: Block
    signature: bytes | None


class Chain(History):
    """Final history, final state and executed unfinalised blocks. One thread changes it; any may read.

    Args:
        keep_blocks: bodies of how many final blocks to keep; None keeps all.
    """

    def __init__(self, store: Store, genesis: Genesis, keep_blocks: int | None = None) -> None:
        super().__init__(store)
        self._store = store
        self.genesis = genesis
        self._sets = {Epoch(0): genesis.validator_set()}
        self.executed: dict[Hash32, ExecutedBlock] = {}
        self._headers: dict[Hash32, Header] = {}
        self._keep_blocks = keep_blocks
        if store.get(HEIGHT_KEY) is None:
            if store.get(PROGRESS_KEY) is not None:
                raise InvalidInput(
                    "the import of a snapshot was interrupted; run it again with the same file, or start the node when "
                    "another validator can be reached"
                )
            self._begin(genesis)
        elif store.get(GENESIS_KEY) != genesis.hash:
            raise InvalidInput(
                "the ledger in this home folder belongs to another genesis; use an empty folder or the right genesis"
            )
        self._open()

    def _open(self) -> None:
        """Stand on the last final block in the store."""
        self.state = FinalState(self._store, super().final_height)
        self._final_header = self.header_at(self.state.height)
        if self.state.root != self._final_header.state_root:
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
                b"e" + number(0): encode(header),
                b"b" + number(0): encode(()),
                b"q" + number(0): encode(certificate),
                b"r" + number(0): encode(()),
                b"h" + header_hash(header): number(0),
                GENESIS_KEY: genesis.hash,
                HEIGHT_KEY: number(0),
            }
        )

    # Epochs

    def epoch_of(self, height: int) -> Epoch:
        """The epoch that a block of this height belongs to, unless it is a closing block."""
        epochs = self.genesis.parameters.epochs
        return Epoch(0) if epochs is None else epochs.epoch_of(height)

    def last_height(self, epoch: int) -> Height | None:
        """Height of an epoch's last block; None where it never ends."""
        return self.genesis.last_height(epoch)

    @property
    def epoch(self) -> Epoch:
        """The epoch of the block above the last final one."""
        return self.epoch_of(self.final_height + 1)

    @property
    def validators(self) -> ValidatorSet:
        """The set that signs the block above the last final one."""
        return self.set_of(self.epoch)

    def set_of(self, epoch: int) -> ValidatorSet:
        """The validators of an epoch. Raises Unavailable where the block that decides on them is not final yet."""
        known = self._sets.get(Epoch(epoch))
        if known is None:
            entry = self._store.get(b"v" + number(epoch)) if 0 < epoch < 2**63 else None
            if entry is None:
                raise Unavailable(f"the validators of epoch {epoch} are not known yet; this is epoch {self.epoch}")
            known = self._sets[Epoch(epoch)] = ValidatorSet(decode(tuple[Validator, ...], entry))
        return known

    @property
    def heartbeat(self) -> UnixSeconds | None:
        """When a block is due though nothing waits; None for never. Every validator knows the same moment."""
        epochs = self.genesis.parameters.epochs
        if epochs is None or not epochs.heartbeat:
            return None
        return UnixSeconds(self.final_header.timestamp + epochs.heartbeat)

    def begin_epoch(self) -> None:
        """Forget the closing blocks of the epoch that has ended."""
        self.executed.clear()
        self._headers.clear()

    @property
    def final_height(self) -> Height:
        return self.state.height

    @property
    def final_header(self) -> Header:
        return self._final_header

    def add_ancestors(self, headers: Sequence[Header]) -> None:
        """Keep the headers right below the oldest one kept; for a node that began from a snapshot.

        Args:
            headers: ascending, the last of them the oldest's parent.

        Raises:
            Forged: they are not the ancestors of the oldest header; nothing has changed.
        """
        child = self.header_at(self.oldest_header)
        put: dict[bytes, bytes] = {}
        proven = self._store.get(b"p" + number(child.height))
        for header in reversed(headers):
            if header_hash(header) != child.parent or header.height != child.height - 1:
                raise Forged(f"header {header.height} is not the parent of header {child.height}")
            put.update(header_entries(header))
            if proven is not None:
                put[b"p" + number(header.height)] = proven
            child = header
        self._store.write({**put, HEADERS_KEY: number(child.height)})

    @property
    def is_half_replaced(self) -> bool:
        """Whether the store holds no whole state, because taking one over was interrupted."""
        return self._store.get(HEIGHT_KEY) is None

    def replace(self, change: Callable[[], object]) -> None:
        """Let ``change`` put another final state into the store, and stand on whatever is there afterwards.

        Whoever reads the state meanwhile gets Unavailable. What was executed above the final block is forgotten.

        Raises:
            KoinonError: what ``change`` raised. The chain stands on the old state again unless that is half replaced
                (``is_half_replaced``), which only the next start of the node goes on from.
        """
        self.state.retire()
        self.executed.clear()
        self._headers.clear()
        try:
            change()
        finally:
            if not self.is_half_replaced:
                self._open()

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

    def next_base_fee(self, parent: Header) -> Wei:
        """Wei per gas in a child of ``parent``."""
        return next_base_fee(parent, self.genesis.parameters.base_fee)

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
            base_fee=self.next_base_fee(parent),
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
            put[b"u" + number(tracked.block.header.height) + tracked.hash] = encode(
                UnfinalisedBlock(tracked.block, tracked.signature)
            )
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
        last = effect.headers[0]
        for block, certificate in zip(effect.blocks, effect.certificates, strict=True):
            executed = self.executed[header_hash(block.header)]
            overlays.append((block.header.height, executed.state))
            transactions.extend(executed.transactions)
            if executed.validators is not None:
                next_epoch = self.epoch_of(block.header.height) + 1
                put[b"v" + number(next_epoch)] = encode(executed.validators.members)
            put.update(entries_of(block, certificate, executed, last.height))
        put[b"f" + number(last.height)] = encode(FinalityProof(effect.headers, effect.proof))
        put[HEIGHT_KEY] = number(last.height)
        gone = self._stale(last.height)
        if self._keep_blocks is not None:
            moved, pruned = pruning(self._store, self._keep_blocks, last.height)
            put.update(moved)
            gone += pruned
        self.state.write(overlays, put, gone)
        self._final_header = last
        self._rebase(last.height, [state for _, state in overlays])
        return tuple(transactions)

    def _stale(self, final_height: int) -> list[bytes]:
        """Keys of blocks that were voted for and are now final or lost."""
        stale: list[bytes] = []
        for key, _ in self._store.scan(b"u"):
            if key[1:9] > number(final_height):
                break
            stale.append(key)
        return stale

    def _rebase(self, final_height: int, final_overlays: list[Overlay]) -> None:
        """Drop what is final or lost, and let the rest stand on the final state."""
        dropped = [name for name, header in self._headers.items() if header.height <= final_height]
        for name in dropped:
            del self._headers[name]
            del self.executed[name]
        for executed in self.executed.values():
            if any(executed.state.parent is overlay for overlay in final_overlays):
                executed.state.parent = self.state
