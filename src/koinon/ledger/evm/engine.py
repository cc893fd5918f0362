"""The execution engine: blocks, calls outside of blocks, and system calls, on our own virtual machine."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Gas, Wei
from koinon.ledger.evm.calls import created_address
from koinon.ledger.evm.frame import Kind, Message, Outcome
from koinon.ledger.evm.precompiles import cancun_precompiles
from koinon.ledger.evm.program import ProgramCache
from koinon.ledger.evm.run import Machine, Run
from koinon.ledger.evm.tracing import Tracer
from koinon.ledger.evm.transition import REFUND_QUOTIENT, check_terms, run_transaction, transfer, warm_up
from koinon.ledger.execution import NO_COINS, SYSTEM_SENDER, BlockContext, Call, CallResult, Log, Receipt
from koinon.ledger.journal import Journal
from koinon.ledger.precompile import Precompile
from koinon.ledger.state import EMPTY_CODE_HASH, Difference, StateView
from koinon.ledger.transaction import Transaction


class EvmEngine:
    """Cancun's rules. Holds no state but prepared code, and serves any number of threads at once.

    Args:
        precompiles: beside Cancun's own: those of later forks, and the network's.
        machines: for code that the EVM does not run.
        programs: where prepared code is kept; one of its own by default.
        occupied: accounts with storage but neither nonce nor code, where nothing may be created (EIP-7610). Ethereum
            has some from before EIP-161; a chain that began with it cannot have any.
    """

    def __init__(
        self,
        precompiles: Mapping[Address, Precompile] | None = None,
        machines: Sequence[Machine] = (),
        programs: ProgramCache | None = None,
        occupied: frozenset[Address] = frozenset(),
    ) -> None:
        self._occupied = occupied
        self._added = dict(precompiles or {})
        self._machines = tuple(machines)
        self._programs = ProgramCache() if programs is None else programs

    @cached_property
    def precompiles(self) -> Mapping[Address, Precompile]:
        """All of them, by address."""
        return {**cancun_precompiles(), **self._added}

    @cached_property
    def warm(self) -> Mapping[Address, bool]:
        """What is warm when any transaction begins (EIP-2929)."""
        return dict.fromkeys(self.precompiles, True)

    def prepare(self) -> None:
        """See ``ExecutionEngine``: loads the libraries behind the precompiled contracts."""
        _ = self.warm

    def begin(self, context: BlockContext, state: StateView) -> "EvmBlock":
        return EvmBlock(self, context, state)

    def call(self, call: Call, context: BlockContext, state: StateView, tracer: Tracer | None = None) -> CallResult:
        """See ``ExecutionEngine``; ``tracer`` watches."""
        journal = Journal(state)
        journal.begin_transaction(self.warm)
        return self.call_in(journal, call, context, tracer)

    def call_in(self, journal: Journal, call: Call, context: BlockContext, tracer: Tracer | None = None) -> CallResult:
        """The call in a journal whose transaction has begun; changes stay in it."""
        nonce = journal.nonce(call.sender)
        journal.set_nonce(call.sender, nonce + 1)
        target = created_address(call.sender, nonce) if call.to is None else call.to
        shape = Transaction(
            b"", Hash32(b""), call.sender, 2, context.chain_id, nonce, call.gas_price, call.gas_price, call.gas,
            call.to, call.value, call.data, call.access_list, 0, 0, 0,
        )  # fmt: skip
        intrinsic = shape.intrinsic_gas
        if intrinsic > call.gas:
            return CallResult(False, b"", call.gas, call.gas, f"the call needs at least {intrinsic} gas")
        if journal.balance(call.sender) < call.value:
            return CallResult(False, b"", Gas(0), Gas(0), "the sender's balance does not cover the value")
        run = self.run(journal, context, call.sender, call.gas_price, tracer=tracer)
        warm_up(run, shape)
        kind = Kind.CREATE if call.to is None else Kind.CALL
        outcome = run.execute(
            Message(kind, call.sender, target, target, call.value, True, call.data, call.gas - intrinsic, False, 0)
        )
        return _result(outcome, call.gas, journal)

    def run(
        self,
        journal: Journal,
        context: BlockContext,
        origin: Address,
        gas_price: int,
        blob_hashes: Sequence[bytes] = (),
        tracer: Tracer | None = None,
    ) -> Run:
        """A run of this engine's machine."""
        return Run(
            journal, context, self._programs, self.precompiles, self._machines, self._occupied, origin, gas_price,
            blob_hashes, tracer,
        )  # fmt: skip


class EvmBlock:
    """A block being executed over ``state``."""

    def __init__(self, engine: EvmEngine, context: BlockContext, state: StateView) -> None:
        self._engine = engine
        self._context = context
        self._journal = Journal(state)
        self._gas_used = 0

    def apply(self, transaction: Transaction, tracer: Tracer | None = None) -> Receipt:
        """See ``BlockExecution``; ``tracer`` watches.

        Raises:
            Refused: its terms do not fit this block or its sender's account; nothing has changed.
        """
        context, journal = self._context, self._journal
        gas = check_terms(transaction, context, journal, self._gas_used)
        price, to, contract, status = transaction.price(context.base_fee), transaction.to, None, 1
        if to and not tracer and journal.code_hash(to) == EMPTY_CODE_HASH and to not in self._engine.precompiles:
            transfer(journal, context, transaction, to, price, gas)
            logs: tuple[Log, ...] = ()
        else:
            journal.begin_transaction(self._engine.warm)
            run = self._engine.run(journal, context, transaction.sender, price, transaction.blob_hashes, tracer)
            outcome, gas, created = run_transaction(run, transaction, price, gas)
            contract = created if outcome.succeeded else None
            status, logs = int(outcome.succeeded), tuple(journal.logs)
        self._gas_used += gas
        return Receipt(
            transaction=transaction.hash,
            status=status,
            gas_used=Gas(gas),
            cumulative_gas=Gas(self._gas_used),
            gas_price=price.to_bytes(16),
            contract=contract,
            logs=logs,
        )

    def system_call(self, to: Address, data: bytes, gas: Gas, value: Wei = NO_COINS) -> CallResult:
        """See ``BlockExecution``."""
        journal = self._journal
        journal.begin_transaction(self._engine.warm)
        checkpoint = journal.checkpoint()
        # Created before the call and not after it: the contract must own it while it runs.
        journal.add_balance(SYSTEM_SENDER, value)
        run = self._engine.run(journal, self._context, SYSTEM_SENDER, 0)
        outcome = run.execute(Message(Kind.CALL, SYSTEM_SENDER, to, to, value, True, data, gas, False, 0))
        if not outcome.succeeded:
            journal.revert(checkpoint)
        result = _result(outcome, gas, journal)
        journal.end_transaction()
        return result

    def difference(self) -> Difference:
        return self._journal.difference()


def _result(outcome: Outcome, gas: int, journal: Journal) -> CallResult:
    before_refund = gas - outcome.gas_left
    used = before_refund - min(journal.refund, before_refund // REFUND_QUOTIENT)
    return CallResult(
        outcome.succeeded, outcome.output, Gas(used), Gas(before_refund), outcome.reason, tuple(journal.logs)
    )
