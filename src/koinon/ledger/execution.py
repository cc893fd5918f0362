"""From transactions to a new state: the engine's interface, and building and checking whole blocks with any engine."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

from koinon.crypto import merkle
from koinon.crypto.hash import keccak256
from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger.state import Difference, Overlay, StateView
from koinon.ledger.transaction import AccessList, Transaction, parse_transaction
from koinon.ledger.types import ValidatorSet
from koinon.wire.consensus import BLOOM_BYTES, Header

BLOCKHASH_DEPTH: Final = 256
SYSTEM_SENDER: Final = Address(bytes.fromhex("fffffffffffffffffffffffffffffffffffffffe"))
NO_COINS: Final = Wei(0)
BLOCK_TYPES: Final = frozenset({0, 1, 2})
"""Transaction types that blocks of our chains hold: nobody here keeps the blobs that type 3 pays for."""
_TRANSFER_GAS: Final = 21_000


class Log(Record, frozen=True):
    """A log entry of a contract."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes


class Receipt(Record, frozen=True):
    """What a transaction did.

    Attributes:
        status: 1 if it took effect, 0 if it was reverted (fees are charged all the same).
        gas_price: wei per gas that was paid.
        contract: the address created, None for a call.
    """

    transaction: Hash32
    status: int
    gas_used: Gas
    cumulative_gas: Gas
    gas_price: bytes
    contract: Address | None
    logs: tuple[Log, ...]


@dataclass(frozen=True)
class BlockContext:
    """What the EVM can see of the block it runs in."""

    chain_id: ChainId
    height: Height
    timestamp: UnixSeconds
    beneficiary: Address
    mix: Hash32
    gas_limit: Gas
    base_fee: Wei
    block_hash: Callable[[int], Hash32 | None]
    blob_base_fee: int = 1


@dataclass(frozen=True)
class Call:
    """A call outside any block: ``eth_call`` and gas estimation. Nonces and fees are not checked or charged."""

    sender: Address
    to: Address | None
    gas: Gas
    value: Wei
    data: bytes
    gas_price: Wei
    access_list: AccessList = ()


@dataclass(frozen=True)
class CallResult:
    """Attributes: succeeded; output or revert data; gas used with the refund taken off; gas needed before it."""

    succeeded: bool
    output: bytes
    gas_used: Gas
    gas_before_refund: Gas
    reason: str
    logs: tuple[Log, ...] = ()


class BlockExecution(Protocol):
    """One block being executed: transactions go in one after the other."""

    def apply(self, transaction: Transaction) -> Receipt:
        """Execute one transaction. Raises Refused, and changes nothing, if it cannot be part of this block here."""
        ...

    def system_call(self, to: Address, data: bytes, gas: Gas, value: Wei = NO_COINS) -> CallResult:
        """Call a contract as 0xffff…fffe, between transactions: nobody pays, no gas of the block is used.

        A call that fails leaves no change (EIP-4788's system call). ``value`` is created and passed on with the call,
        as EIP-4895 creates what it pays out; where the call fails, so does the creation.
        """
        ...

    def difference(self) -> Difference:
        """New values of everything that changed so far."""
        ...


BlockFinish = Callable[[BlockExecution, Sequence[Receipt]], ValidatorSet | None]
"""The system's work after a block's transactions; the next epoch's validators where an epoch ends."""


class ExecutionEngine(Protocol):
    """A virtual machine with Cancun's rules. Instances hold no state and may serve several threads at once."""

    def prepare(self) -> None:
        """Load what is slow to load, so that the first block does not wait for it."""
        ...

    def begin(self, context: BlockContext, state: StateView) -> BlockExecution: ...

    def call(self, call: Call, context: BlockContext, state: StateView) -> CallResult: ...


@dataclass(frozen=True)
class ExecutedBlock:
    """A block's effects.

    Attributes:
        validators: the next epoch's, where the block is its epoch's last.
    """

    transactions: tuple[Transaction, ...]
    receipts: tuple[Receipt, ...]
    state: Overlay
    gas_used: Gas
    bloom: bytes
    validators: ValidatorSet | None

    @cached_property
    def encoded_receipts(self) -> tuple[bytes, ...]:
        """Canonical encodings: what the receipts root commits to and what is stored; made once."""
        return tuple(map(encode, self.receipts))

    @cached_property
    def transactions_root(self) -> Hash32:
        return merkle.root([transaction.raw for transaction in self.transactions])

    @cached_property
    def receipts_root(self) -> Hash32:
        return merkle.root(self.encoded_receipts)


@dataclass(frozen=True)
class Rejected:
    """A candidate that could not go into the block."""

    transaction: Transaction
    reason: str


def build_block(
    engine: ExecutionEngine,
    context: BlockContext,
    parent: StateView,
    accumulator: bytes,
    candidates: Iterable[Transaction],
    seconds: float,
    byte_limit: int,
    finish: BlockFinish | None = None,
) -> tuple[ExecutedBlock, tuple[Rejected, ...]]:
    """Execute candidates until the gas, the bytes or the time (``seconds`` of it) are used up; leave out what fails."""
    execution = engine.begin(context, parent)
    deadline = time.monotonic() + seconds
    taken: list[Transaction] = []
    receipts: list[Receipt] = []
    rejected: list[Rejected] = []
    passed: set[Address] = set()  # senders of whom one was left out: their next nonces cannot follow
    gas, size = 0, 0
    for candidate in candidates:
        if time.monotonic() > deadline or gas + _TRANSFER_GAS > context.gas_limit:
            break
        if candidate.sender in passed:
            continue
        if gas + candidate.gas > context.gas_limit or size + len(candidate.raw) > byte_limit:
            passed.add(candidate.sender)
            continue
        try:
            receipts.append(execution.apply(candidate))
        except Refused as problem:
            rejected.append(Rejected(candidate, str(problem)))
            passed.add(candidate.sender)
            continue
        taken.append(candidate)
        gas, size = receipts[-1].cumulative_gas, size + len(candidate.raw)
    return _executed(taken, receipts, parent, accumulator, execution, finish), tuple(rejected)


def execute_block(
    engine: ExecutionEngine,
    context: BlockContext,
    parent: StateView,
    accumulator: bytes,
    header: Header,
    raw_transactions: Iterable[bytes],
    finish: BlockFinish | None = None,
) -> ExecutedBlock:
    """Execute a block somebody else built and compare with what its header claims.

    Raises:
        Forged: a transaction does not parse, cannot be applied, or the header claims another result; names which.
    """
    execution = engine.begin(context, parent)
    taken: list[Transaction] = []
    receipts: list[Receipt] = []
    for number, raw in enumerate(raw_transactions):
        try:
            transaction = parse_transaction(raw)
            if transaction.kind not in BLOCK_TYPES:
                raise Refused(f"transaction type not supported: type {transaction.kind}")
            receipts.append(execution.apply(transaction))
        except (InvalidInput, MalformedMessage, Forged) as problem:
            raise Forged(f"transaction {number} of block {header.height} cannot be applied: {problem}") from None
        taken.append(transaction)
    result = _executed(taken, receipts, parent, accumulator, execution, finish)
    claims: Mapping[str, tuple[object, object]] = {
        "gas used": (header.gas_used, result.gas_used),
        "state root": (header.state_root, result.state.root),
        "transactions root": (header.transactions_root, result.transactions_root),
        "receipts root": (header.receipts_root, result.receipts_root),
        "logs bloom": (header.bloom, result.bloom),
    }
    for name, (claimed, found) in claims.items():
        if claimed != found:
            raise Forged(f"block {header.height} claims another {name} than its transactions give")
    return result


def _executed(
    taken: list[Transaction],
    receipts: list[Receipt],
    parent: StateView,
    accumulator: bytes,
    execution: BlockExecution,
    finish: BlockFinish | None,
) -> ExecutedBlock:
    validators = None if finish is None else finish(execution, receipts)
    return ExecutedBlock(
        transactions=tuple(taken),
        receipts=tuple(receipts),
        state=Overlay.over(parent, accumulator, execution.difference()),
        gas_used=receipts[-1].cumulative_gas if receipts else Gas(0),
        bloom=logs_bloom(log for receipt in receipts for log in receipt.logs),
        validators=validators,
    )


def logs_bloom(logs: Iterable[Log]) -> bytes:
    """The 2,048-bit filter over addresses and topics (yellow paper, eq. 30); empty for no log at all."""
    bits = 0
    # A block's logs name the same contracts and events again and again: each counts once.
    for item in {item for log in logs for item in (log.address, *log.topics)}:
        bits |= bloom_bits(item)
    return bits.to_bytes(BLOOM_BYTES, "big") if bits else b""


def bloom_bits(item: bytes) -> int:
    """The three bits an address or topic sets."""
    digest = int.from_bytes(keccak256(item)[:6], "big")
    return 1 << (digest >> 32 & 2047) | 1 << (digest >> 16 & 2047) | 1 << (digest & 2047)
