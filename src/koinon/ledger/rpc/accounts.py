"""State, and contract calls on it."""

from dataclasses import replace

from koinon.kernel.errors import Refused
from koinon.kernel.ids import ZERO_ADDRESS, Address
from koinon.kernel.quantities import Gas, Height, UnixSeconds, Wei
from koinon.ledger.execution import BlockContext, Call
from koinon.ledger.rpc import readers
from koinon.ledger.rpc.calls import checked
from koinon.ledger.rpc.forms import data, quantity
from koinon.ledger.rpc.overrides import overridden
from koinon.ledger.rpc.readers import BlockChoice, BlockOverride, CallFields, StateOverride
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.state import StateView, read_account, read_code, read_slot

_ADDRESS = Parameter("the address", readers.address)
_BLOCK = Parameter("the block number or tag", readers.block, default="latest")
_CALL = Parameter("a call", readers.call)
_STATE = Parameter("the state override", readers.state_override, default=None)
_CONTEXT = Parameter("the block override", readers.block_override, default=None)
_CALL_COST = 5


def account_methods(view: LedgerView) -> tuple[Method, ...]:
    """The methods. State is kept for the newest final blocks only."""
    accounts = _Accounts(view)
    return (
        Method("eth_getBalance", (_ADDRESS, _BLOCK), accounts.balance),
        Method("eth_getTransactionCount", (_ADDRESS, _BLOCK), accounts.transaction_count),
        Method("eth_getCode", (_ADDRESS, _BLOCK), accounts.code),
        Method("eth_getStorageAt", (_ADDRESS, Parameter("the storage slot", readers.slot), _BLOCK), accounts.storage),
        Method("eth_getProof", (_ADDRESS, Parameter("the slots", readers.anything), _BLOCK), accounts.proof),
        Method("eth_call", (_CALL, _BLOCK, _STATE, _CONTEXT), accounts.call, _CALL_COST),
        Method("eth_estimateGas", (_CALL, _BLOCK, _STATE, _CONTEXT), accounts.estimate_gas, 2 * _CALL_COST),
    )


class _Accounts:
    def __init__(self, view: LedgerView) -> None:
        self._view = view

    def balance(self, _caller: Caller, address: Address, choice: BlockChoice) -> Json:
        return quantity(read_account(self._view.state(choice), address).balance)

    def transaction_count(self, _caller: Caller, address: Address, choice: BlockChoice) -> Json:
        state = self._view.state(choice)
        if choice == "pending":
            return quantity(self._view.mempool.next_nonce(address, state))
        return quantity(read_account(state, address).nonce)

    def code(self, _caller: Caller, address: Address, choice: BlockChoice) -> Json:
        state = self._view.state(choice)
        return data(read_code(state, read_account(state, address).code_hash))

    def storage(self, _caller: Caller, address: Address, slot: int, choice: BlockChoice) -> Json:
        return data(read_slot(self._view.state(choice), address, slot).to_bytes(32, "big"))

    def proof(self, _caller: Caller, _address: Address, _slots: Json, _choice: BlockChoice) -> Json:
        raise Refused(
            "this chain commits to its state with a lattice hash, which has no inclusion proofs; "
            "prove a receipt with koinon_receiptProof instead"
        )

    async def call(
        self,
        caller: Caller,
        fields: CallFields,
        choice: BlockChoice,
        accounts: StateOverride | None,
        block: BlockOverride | None,
    ) -> Json:
        call, state, context = self._prepared(fields, choice, accounts, block)
        return data(checked(await self._view.lane.run(caller, lambda: self._view.run(call, context, state))))

    async def estimate_gas(
        self,
        caller: Caller,
        fields: CallFields,
        choice: BlockChoice,
        accounts: StateOverride | None,
        block: BlockOverride | None,
    ) -> Json:
        call, state, context = self._prepared(fields, choice, accounts, block)
        return quantity(await self._view.lane.run(caller, lambda: self._view.estimate(call, context, state)))

    def _prepared(
        self,
        fields: CallFields,
        choice: BlockChoice,
        accounts: StateOverride | None,
        block: BlockOverride | None,
    ) -> tuple[Call, StateView, BlockContext]:
        state, context = self._view.state(choice), self._view.next_context(choice)
        if accounts:
            state = overridden(state, accounts)
        if block is not None:
            context = overridden_context(context, block)
        return call_of(fields, Gas(min(context.gas_limit, self._view.lane.limits.call_gas))), state, context


def call_of(fields: CallFields, most_gas: Gas) -> Call:
    """A call outside any block; with all the gas it may have if it names none."""
    price = fields.gas_price if fields.gas_price is not None else fields.maximum_fee or 0
    return Call(
        sender=fields.sender or ZERO_ADDRESS,
        to=fields.to,
        gas=most_gas if fields.gas is None else Gas(min(fields.gas, most_gas)),
        value=Wei(fields.value),
        data=fields.data,
        gas_price=Wei(price),
        access_list=fields.access_list or (),
    )


def overridden_context(context: BlockContext, block: BlockOverride) -> BlockContext:
    """The block of a call with some of it replaced."""
    return replace(
        context,
        height=context.height if block.height is None else Height(block.height),
        timestamp=context.timestamp if block.timestamp is None else UnixSeconds(block.timestamp),
        gas_limit=context.gas_limit if block.gas_limit is None else Gas(block.gas_limit),
        beneficiary=block.beneficiary or context.beneficiary,
        mix=block.mix or context.mix,
        base_fee=context.base_fee if block.base_fee is None else Wei(block.base_fee),
    )
