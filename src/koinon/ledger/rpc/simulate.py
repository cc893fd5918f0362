"""``eth_simulateV1``: blocks of calls on top of a real one, each seeing what those before it did. Nothing is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from koinon.crypto import merkle
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH, Hash32
from koinon.kernel.quantities import Gas, Height, UnixSeconds, Wei
from koinon.ledger.evm.run import REVERT
from koinon.ledger.execution import BlockContext, Log, logs_bloom
from koinon.ledger.fees import next_base_fee
from koinon.ledger.journal import Journal
from koinon.ledger.rpc import forms, readers
from koinon.ledger.rpc.accounts import call_of, overridden_context
from koinon.ledger.rpc.calls import revert_message
from koinon.ledger.rpc.failures import LimitExceeded
from koinon.ledger.rpc.forms import data, quantity
from koinon.ledger.rpc.limits import Deadline
from koinon.ledger.rpc.overrides import overridden
from koinon.ledger.rpc.readers import BlockChoice, BlockOverride, CallFields, StateOverride
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter
from koinon.ledger.rpc.tracers.found_state import LayeredState
from koinon.ledger.rpc.tracers.transfers import Transfers
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.signing import Unsigned
from koinon.ledger.state import StateView, read_account
from koinon.ledger.transaction import Transaction
from koinon.ledger.types import Block, Header, header_hash

_MOST_BLOCKS: Final = 64
_MOST_CALLS: Final = 1_000
_SECONDS_BETWEEN_BLOCKS: Final = 1
_REVERTED: Final = 3
_FAILED: Final = -32015


@dataclass
class Budget:
    """What is left of the gas of a whole request, and until when it must be done."""

    gas: int
    deadline: Deadline


@dataclass(frozen=True)
class SimulatedCall:
    """What a call did; ``reason`` is why it failed, empty if it did not."""

    transaction: Transaction
    output: bytes
    gas_used: int
    reason: str
    logs: tuple[Log, ...]


@dataclass(frozen=True)
class SimulatedBlock:
    """What one block shall be."""

    block: BlockOverride
    accounts: StateOverride
    calls: tuple[CallFields, ...]


@dataclass(frozen=True)
class Simulation:
    """A whole request.

    Attributes:
        validation: whether nonces, balances and the base fee count as in a real block.
        transfers: whether transfers of coins are shown as logs.
    """

    blocks: tuple[SimulatedBlock, ...]
    validation: bool
    transfers: bool
    whole: bool


def simulation_methods(view: LedgerView) -> tuple[Method, ...]:
    """The method."""

    async def simulate(caller: Caller, simulation: Simulation, choice: BlockChoice) -> Json:
        state, parent = view.state(choice), _parent(view, choice)
        return await view.lane.run(caller, lambda: _run(view, simulation, parent, state))

    return (
        Method(
            "eth_simulateV1",
            (
                Parameter("the simulation", read_simulation),
                Parameter("the block number or tag", readers.block, default="latest"),
            ),
            simulate,
            50,
        ),
    )


def read_simulation(value: Json, name: str) -> Simulation:
    """The request, by shape."""
    fields = readers.table(value, name)
    entries = readers.items(fields.get("blockStateCalls"), "blockStateCalls", _MOST_BLOCKS)
    if not entries:
        raise InvalidInput("a simulation has at least one entry in blockStateCalls")
    blocks = tuple(_read_block(readers.table(entry, "an entry of blockStateCalls")) for entry in entries)
    if sum(len(block.calls) for block in blocks) > _MOST_CALLS:
        raise InvalidInput(f"a simulation makes at most {_MOST_CALLS} calls")

    def flag(key: str) -> bool:
        return fields.get(key) is not None and readers.boolean(fields[key], key)

    return Simulation(blocks, flag("validation"), flag("traceTransfers"), flag("returnFullTransactions"))


def _read_block(fields: dict[str, Json]) -> SimulatedBlock:
    block, accounts = fields.get("blockOverrides"), fields.get("stateOverrides")
    return SimulatedBlock(
        BlockOverride() if block is None else readers.block_override(block, "blockOverrides"),
        {} if accounts is None else readers.state_override(accounts, "stateOverrides"),
        tuple(readers.call(call, "a call") for call in readers.items(fields.get("calls") or [], "calls", _MOST_CALLS)),
    )


def _parent(view: LedgerView, choice: BlockChoice) -> Header:
    if choice == "pending":
        return view.tip()
    height = view.final_height(choice)
    if height is None:
        raise Unavailable("the block is not known or not final")
    return view.chain.header_at(height)


def _run(view: LedgerView, simulation: Simulation, parent: Header, state: StateView) -> Json:
    budget = Budget(view.lane.limits.call_gas, view.deadline())
    hashes: dict[int, Hash32] = {}
    results: list[Json] = []
    for wanted in simulation.blocks:
        context = _context(view, simulation, wanted, parent, hashes)
        changed = LayeredState(overridden(state, wanted.accounts), {})
        made = [simulate_call(view, simulation, context, changed, fields, budget) for fields in wanted.calls]
        state = changed
        parent = _header(parent, context, made)
        hashes[parent.height] = header_hash(parent)
        results.append(_block_form(parent, made, simulation.whole))
    return results


def simulate_call(
    view: LedgerView,
    simulation: Simulation,
    context: BlockContext,
    state: LayeredState,
    fields: CallFields,
    budget: Budget,
) -> SimulatedCall:
    """Make one call; what it changes goes into ``state``.

    Raises:
        LimitExceeded: the request's gas or time is used up.
        Refused: the call could not be part of a block, and the request wants that checked.
    """
    budget.deadline.check()
    left = min(budget.gas, context.gas_limit)
    if (fields.gas or 1) > left:
        raise LimitExceeded(f"the simulation uses more gas than it has; {max(left, 0)} are left")
    watch = Transfers(budget.deadline, with_coins=simulation.transfers)
    transaction = _transaction(context, state, fields, left)
    if simulation.validation:
        execution = view.engine.begin(context, state)
        receipt = execution.apply(transaction, watch)
        gas_used, logs, difference = receipt.gas_used, receipt.logs, execution.difference()
        output, reason = watch.output, watch.reason
    else:
        journal = Journal(state)
        journal.begin_transaction(view.engine.warm)
        call = call_of(replace(fields, gas=transaction.gas), transaction.gas)
        result = view.engine.call_in(journal, call, context, watch)
        journal.end_transaction()
        gas_used, logs, difference = result.gas_used, result.logs, journal.difference()
        output, reason = result.output, result.reason
    state.difference.update(difference)
    budget.gas -= gas_used
    return SimulatedCall(transaction, output, gas_used, reason, tuple(watch.logs) if simulation.transfers else logs)


def _transaction(context: BlockContext, state: StateView, fields: CallFields, left: int) -> Transaction:
    """The call as a transaction that nobody has signed."""
    sender = fields.sender or ZERO_ADDRESS
    price = fields.gas_price
    return Unsigned(
        kind=2 if price is None else 0,
        chain_id=context.chain_id,
        nonce=read_account(state, sender).nonce if fields.nonce is None else fields.nonce,
        maximum_tip=(fields.maximum_tip or 0) if price is None else price,
        maximum_fee=(fields.maximum_fee or 0) if price is None else price,
        gas=left if fields.gas is None else fields.gas,
        to=fields.to,
        value=fields.value,
        data=fields.data,
        access_list=fields.access_list or (),
    ).from_sender(sender)


def _context(
    view: LedgerView, simulation: Simulation, wanted: SimulatedBlock, parent: Header, hashes: Mapping[int, Hash32]
) -> BlockContext:
    timestamp = UnixSeconds(parent.timestamp + _SECONDS_BETWEEN_BLOCKS)
    real = view.chain.context_for(view.chain.final_header, timestamp, ZERO_ADDRESS, ZERO_HASH)
    floor = view.chain.genesis.parameters.base_fee
    context = replace(
        real,
        height=Height(parent.height + 1),
        base_fee=next_base_fee(parent, floor) if simulation.validation else Wei(0),
        block_hash=lambda height: hashes.get(height) or real.block_hash(height),
    )
    context = overridden_context(context, wanted.block)
    if context.height <= parent.height or context.timestamp < parent.timestamp:
        raise InvalidInput("the blocks of a simulation ascend in number and time")
    return context


def _header(parent: Header, context: BlockContext, made: Sequence[SimulatedCall]) -> Header:
    """The header of a simulated block: its state root is not computed."""
    raws = [call.transaction.raw for call in made]
    return msgspec.structs.replace(
        parent,
        height=context.height,
        parent=header_hash(parent),
        beneficiary=context.beneficiary,
        timestamp=context.timestamp,
        mix=context.mix,
        state_root=ZERO_HASH,
        transactions_root=merkle.root(raws),
        receipts_root=ZERO_HASH,
        bloom=logs_bloom(log for call in made for log in call.logs),
        gas_limit=context.gas_limit,
        gas_used=Gas(sum(call.gas_used for call in made)),
        base_fee=context.base_fee,
    )


def _block_form(header: Header, made: Sequence[SimulatedCall], whole: bool) -> Json:
    block = Block(header, tuple(call.transaction.raw for call in made))
    transactions: list[Json] = [
        forms.transaction_form(call.transaction, block, index, header.base_fee)
        if whole
        else data(call.transaction.hash)
        for index, call in enumerate(made)
    ]
    calls, first_log = [], 0
    for index, call in enumerate(made):
        calls.append(_call_form(call, block, index, first_log))
        first_log += len(call.logs)
    return forms.block_form(block, transactions) | {"calls": calls}


def _call_form(call: SimulatedCall, block: Block, index: int, first_log: int) -> Json:
    name = call.transaction.hash
    form: dict[str, Json] = {
        "returnData": data(call.output),
        "logs": [forms.log_form(log, name, block, index, first_log + i) for i, log in enumerate(call.logs)],
        "gasUsed": quantity(call.gas_used),
        "status": quantity(int(not call.reason)),
    }
    if call.reason == REVERT:
        form["error"] = {"code": _REVERTED, "message": revert_message(call.output), "data": data(call.output)}
    elif call.reason:
        form["error"] = {"code": _FAILED, "message": f"the call failed: {call.reason}"}
    return form
