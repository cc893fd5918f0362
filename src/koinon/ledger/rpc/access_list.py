"""``eth_createAccessList``: which accounts and slots a transaction should name to pay less (EIP-2930)."""

from dataclasses import replace
from typing import Final

from koinon.kernel.ids import Address
from koinon.kernel.quantities import Gas
from koinon.ledger.evm.calls import created_address
from koinon.ledger.execution import BlockContext, Call
from koinon.ledger.rpc import readers
from koinon.ledger.rpc.accounts import call_of
from koinon.ledger.rpc.forms import access_list_form, quantity
from koinon.ledger.rpc.overrides import overridden
from koinon.ledger.rpc.readers import BlockChoice, CallFields, StateOverride
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter
from koinon.ledger.rpc.tracers.accesses import Accesses
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.state import StateView, read_account

_MOST_RUNS: Final = 8
"""What a list names changes the gas, which may change the way a contract takes; mostly the second run agrees."""


def access_list_methods(view: LedgerView) -> tuple[Method, ...]:
    """The method."""

    async def create(caller: Caller, fields: CallFields, choice: BlockChoice, accounts: StateOverride | None) -> Json:
        state, context = view.state(choice), view.next_context(choice)
        if accounts:
            state = overridden(state, accounts)
        # Naming costs gas as well, so the gas that the transaction was to have without a list is no bound here.
        call = call_of(replace(fields, gas=None), Gas(min(context.gas_limit, view.lane.limits.call_gas)))
        return await view.lane.run(caller, lambda: _found(view, call, context, state))

    return (
        Method(
            "eth_createAccessList",
            (
                Parameter("the transaction", readers.call),
                Parameter("the block number or tag", readers.block, default="latest"),
                Parameter("the state override", readers.state_override, default=None),
            ),
            create,
            20,
        ),
    )


def _found(view: LedgerView, call: Call, context: BlockContext, state: StateView) -> Json:
    """Run until the list names what the run with it accesses."""
    target = call.to or created_address(call.sender, read_account(state, call.sender).nonce)
    known: set[Address] = {call.sender, target, context.beneficiary, *view.engine.precompiles}
    deadline = view.deadline()
    for _ in range(_MOST_RUNS):
        accesses = Accesses(deadline, known)
        result = view.engine.call(call, context, state, accesses)
        named = accesses.access_list()
        if named == call.access_list:
            break
        call = replace(call, access_list=named)
    form: dict[str, Json] = {"accessList": access_list_form(call.access_list), "gasUsed": quantity(result.gas_used)}
    if not result.succeeded:
        form["error"] = "execution reverted" if result.reason == "Revert" else result.reason
    return form
