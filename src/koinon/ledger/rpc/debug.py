"""``debug_trace…``: final transactions and calls, run again and shown.

Three tracers: the list of instructions (the default), ``callTracer`` and ``prestateTracer``. State is needed, so only
the newest final blocks can be traced.
"""

from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.errors import Refused, Unavailable
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import Gas, Height
from koinon.ledger.evm.tracing import Tracer
from koinon.ledger.execution import BlockContext, Call, CallResult
from koinon.ledger.history import TransactionPlace
from koinon.ledger.journal import Journal
from koinon.ledger.rpc import readers
from koinon.ledger.rpc.accounts import call_of, overridden_context
from koinon.ledger.rpc.forms import data
from koinon.ledger.rpc.limits import Deadline
from koinon.ledger.rpc.overrides import overridden
from koinon.ledger.rpc.readers import BlockChoice, BlockOverride, CallFields, StateOverride
from koinon.ledger.rpc.replay import Replayed, replay
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter
from koinon.ledger.rpc.tracers.call_tree import CallTree
from koinon.ledger.rpc.tracers.found_state import RecordedState, difference_form, prestate_form
from koinon.ledger.rpc.tracers.steps import StepList, StepOptions
from koinon.ledger.rpc.tracers.watch import Watch
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.state import StateView

_COST: Final = 100
_TRACERS: Final = ("callTracer", "prestateTracer")


@dataclass(frozen=True)
class TraceOptions:
    """What to show.

    Attributes:
        tracer: None for the list of instructions.
    """

    tracer: str | None = None
    steps: StepOptions = field(default_factory=StepOptions)
    only_top: bool = False
    with_logs: bool = False
    differences: bool = False
    accounts: StateOverride | None = None
    block: BlockOverride | None = None


DEFAULT: Final = TraceOptions()


def debug_methods(view: LedgerView) -> tuple[Method, ...]:
    """The methods."""

    async def transaction(caller: Caller, name: Hash32, options: TraceOptions) -> Json:
        place = view.chain.place_of(name)
        if place is None:
            raise Unavailable("transaction not found: it is not known or not final")
        return await view.lane.run(caller, lambda: _transaction_form(view, place, options))

    async def block(caller: Caller, choice: BlockChoice, options: TraceOptions) -> Json:
        height = view.final_height(choice)
        if height is None:
            raise Unavailable("the block is not known or not final")
        return await view.lane.run(caller, lambda: _block_form(view, height, options))

    async def call(caller: Caller, fields: CallFields, choice: BlockChoice, options: TraceOptions) -> Json:
        state, context = view.state(choice), view.next_context(choice)
        if options.accounts:
            state = overridden(state, options.accounts)
        if options.block is not None:
            context = overridden_context(context, options.block)
        made = call_of(fields, Gas(min(context.gas_limit, view.lane.limits.call_gas)))
        return await view.lane.run(caller, lambda: _call_form(view, made, context, state, options))

    options = Parameter("the options of the trace", read_options, default=DEFAULT)
    named = Parameter("the block number or tag", readers.block)
    return (
        Method(
            "debug_traceTransaction",
            (Parameter("the transaction hash", readers.digest), options),
            transaction,
            _COST,
        ),
        Method("debug_traceBlockByNumber", (named, options), block, 5 * _COST),
        Method("debug_traceBlockByHash", (Parameter("the block hash", readers.digest), options), block, 5 * _COST),
        Method(
            "debug_traceCall",
            (
                Parameter("a call", readers.call),
                Parameter("the block number or tag", readers.block, default="latest"),
                options,
            ),
            call,
            _COST,
        ),
    )


def read_options(value: Json, name: str) -> TraceOptions:
    """The options of a trace, in go-ethereum's names."""
    fields = readers.table(value, name)
    tracer = fields.get("tracer") or None
    if tracer is not None and tracer not in _TRACERS:
        raise Refused(
            f"there is no tracer {readers.shown(tracer)}; there are {' and '.join(_TRACERS)}, and none at all"
        )
    own = readers.table(fields.get("tracerConfig") or {}, "tracerConfig")

    def flag(table: dict[str, Json], key: str) -> bool:
        return table.get(key) is not None and readers.boolean(table[key], key)

    limit = fields.get("limit")
    overrides, block = fields.get("stateOverrides"), fields.get("blockOverrides")
    return TraceOptions(
        tracer=tracer,
        steps=StepOptions(
            memory=flag(fields, "enableMemory"),
            stack=not flag(fields, "disableStack"),
            storage=not flag(fields, "disableStorage"),
            return_data=flag(fields, "enableReturnData"),
            most=0 if limit is None else readers.number(limit, "limit"),
        ),
        only_top=flag(own, "onlyTopCall"),
        with_logs=flag(own, "withLog"),
        differences=flag(own, "diffMode"),
        accounts=None if overrides is None else readers.state_override(overrides, "stateOverrides"),
        block=None if block is None else readers.block_override(block, "blockOverrides"),
    )


def _transaction_form(view: LedgerView, place: TransactionPlace, options: TraceOptions) -> Json:
    deadline = view.deadline()
    return next(_shown(one, options, deadline) for one in replay(view, place.height, deadline, place.index))


def _block_form(view: LedgerView, height: Height, options: TraceOptions) -> Json:
    if height == 0:
        return []
    deadline = view.deadline()
    return [
        {"txHash": data(one.transaction.hash), "result": _shown(one, options, deadline)}
        for one in replay(view, height, deadline)
    ]


def _shown(one: Replayed, options: TraceOptions, deadline: Deadline) -> Json:
    """One transaction's trace."""
    if options.tracer == "prestateTracer":
        recorded = RecordedState(one.state)
        _, difference = one.run(Watch(deadline), recorded)
        return difference_form(one.state, difference) if options.differences else prestate_form(recorded)
    if options.tracer == "callTracer":
        tree = CallTree(deadline, with_logs=options.with_logs, only_top=options.only_top)
        receipt, _ = one.run(tree)
        return tree.form(one.transaction.gas, receipt.gas_used)
    steps = StepList(deadline, options.steps)
    receipt, _ = one.run(steps)
    return steps.form(receipt.gas_used)


def _call_form(view: LedgerView, call: Call, context: BlockContext, state: StateView, options: TraceOptions) -> Json:
    """A call's trace."""
    deadline = view.deadline()

    def run(tracer: Tracer) -> CallResult:
        return view.engine.call(call, context, state, tracer)

    if options.tracer == "prestateTracer":
        recorded = RecordedState(state)
        journal = Journal(recorded)
        journal.begin_transaction(view.engine.warm)
        view.engine.call_in(journal, call, context, Watch(deadline))
        journal.end_transaction()
        return difference_form(state, journal.difference()) if options.differences else prestate_form(recorded)
    if options.tracer == "callTracer":
        tree = CallTree(deadline, with_logs=options.with_logs, only_top=options.only_top)
        result = run(tree)
        if tree.root is None:
            raise Refused(f"the call failed: {result.reason}")
        return tree.form(call.gas, result.gas_used)
    steps = StepList(deadline, options.steps)
    result = run(steps)
    if not steps.ended:
        raise Refused(f"the call failed: {result.reason}")
    return steps.form(result.gas_used)
