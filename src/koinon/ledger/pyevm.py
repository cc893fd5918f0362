"""An execution engine that interprets contract code with py-evm's Cancun opcodes.

Everything around the interpreter is ours: transaction rules and fees (EIP-155, 1559, 2200, 2681, 2929, 2930, 3529,
3607, 3651, 3860), the account database and the difference it leaves. Plain transfers never enter the interpreter.

The pure Python precompiles for BN254 (6 to 8), BLAKE2f (9) and point evaluation (10) run far slower than their price
in gas allows for; here a call to them fails and takes the gas it was given. So does a call deeper than 640, which no
block gas limit below 150 million can reach, because a call hands on at most 63 of 64 parts of its gas.
"""

import sys
import threading
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

from koinon.crypto.hash import keccak256
from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Gas
from koinon.ledger import rlp
from koinon.ledger.evm_state import PRECOMPILES, EvmState
from koinon.ledger.execution import BlockContext, Call, CallResult, Log, Receipt
from koinon.ledger.journal import Journal
from koinon.ledger.state import EMPTY_CODE_HASH, Difference, StateView
from koinon.ledger.transaction import AccessList, Transaction

if TYPE_CHECKING:
    from eth.abc import ComputationAPI

_REFUND_QUOTIENT: Final = 5  # EIP-3529
_INITCODE_WORD_GAS: Final = 2
_TOO_SLOW: Final = range(6, 11)
_DEEPEST_CALL: Final = 640
_PYTHON_FRAMES: Final = 5_000
"""Frames that Python may nest: the interpreter takes five for each call, and the node around it a few hundred.

py-evm sets 12,288 and py_ecc 100,000, at which a deeply nested JSON text anywhere in the process, decoded by recursion
in C, overflows the machine's stack.
"""
_LOADING: Final = threading.Lock()


@dataclass(frozen=True)
class Message:
    """A transaction or call once its terms are settled.

    Attributes:
        gas: what is left for execution after the intrinsic gas.
        contract: address to create, None for a call.
    """

    sender: Address
    to: Address | None
    contract: Address | None
    value: int
    data: bytes
    gas: int
    gas_price: int
    access_list: AccessList


@dataclass(frozen=True)
class Outcome:
    """What running a message gave; ``gas_left`` and ``refund`` are before the refund is capped."""

    succeeded: bool
    output: bytes
    gas_left: int
    refund: int
    logs: tuple[Log, ...]
    reason: str


class PyEvmEngine:
    """The engine. Loading the interpreter takes most of a second; ``prepare`` does it ahead of the first call."""

    def prepare(self) -> None:
        _computation_class()

    def begin(self, context: BlockContext, state: StateView) -> "PyEvmBlock":
        return PyEvmBlock(context, state)

    def call(self, call: Call, context: BlockContext, state: StateView) -> CallResult:
        journal = Journal(state)
        journal.begin_transaction()
        sender = journal.account(call.sender)
        contract = _created_address(call.sender, sender.nonce) if call.to is None else None
        journal.set_nonce(call.sender, sender.nonce + 1)
        shape = Transaction(
            b"", Hash32(b""), call.sender, 2, context.chain_id, 0, call.gas_price, call.gas_price, call.gas,
            call.to, call.value, call.data, (), 0, 0, 0,
        )  # fmt: skip
        intrinsic = shape.intrinsic_gas
        if intrinsic > call.gas:
            return CallResult(False, b"", call.gas, call.gas, f"the call needs at least {intrinsic} gas")
        if journal.account(call.sender).balance < call.value:
            return CallResult(False, b"", Gas(0), Gas(0), "the sender's balance does not cover the value")
        message = Message(
            sender=call.sender,
            to=call.to,
            contract=contract,
            value=call.value,
            data=call.data,
            gas=call.gas - intrinsic,
            gas_price=call.gas_price,
            access_list=(),
        )
        outcome = _run(journal, context, message)
        before_refund = call.gas - outcome.gas_left
        used = before_refund - min(outcome.refund, before_refund // _REFUND_QUOTIENT)
        return CallResult(outcome.succeeded, outcome.output, Gas(used), Gas(before_refund), outcome.reason)


class PyEvmBlock:
    """A block being executed over ``state``."""

    def __init__(self, context: BlockContext, state: StateView) -> None:
        self._context = context
        self._journal = Journal(state)
        self._gas_used = 0

    def apply(self, transaction: Transaction) -> Receipt:
        """Execute one transaction.

        Raises:
            Refused: its terms do not fit this block or its sender's account; nothing has changed.
        """
        context, journal = self._context, self._journal
        _check_terms(transaction, context, journal, self._gas_used)
        journal.begin_transaction()
        price = transaction.price(context.base_fee)
        sender = transaction.sender
        contract = _created_address(sender, transaction.nonce) if transaction.to is None else None
        journal.add_balance(sender, -transaction.gas * price)
        journal.set_nonce(sender, transaction.nonce + 1)
        outcome = _run(
            journal,
            context,
            Message(
                sender=sender,
                to=transaction.to,
                contract=contract,
                value=transaction.value,
                data=transaction.data,
                gas=transaction.gas - transaction.intrinsic_gas,
                gas_price=price,
                access_list=transaction.access_list,
            ),
        )
        used = transaction.gas - outcome.gas_left
        used -= min(outcome.refund, used // _REFUND_QUOTIENT)
        journal.add_balance(sender, (transaction.gas - used) * price)
        journal.add_balance(context.beneficiary, used * (price - context.base_fee))
        self._gas_used += used
        return Receipt(
            transaction=transaction.hash,
            status=int(outcome.succeeded),
            gas_used=Gas(used),
            cumulative_gas=Gas(self._gas_used),
            gas_price=price.to_bytes(16, "big"),
            contract=contract if outcome.succeeded else None,
            logs=outcome.logs,
        )

    def difference(self) -> Difference:
        return self._journal.difference()


def _check_terms(transaction: Transaction, context: BlockContext, journal: Journal, gas_used: int) -> None:
    """Whether the transaction may be part of the block here. Raises Refused."""
    account = journal.account(transaction.sender)
    if transaction.chain_id != context.chain_id:
        raise Refused(f"the transaction is signed for chain {transaction.chain_id}; this is chain {context.chain_id}")
    if transaction.nonce != account.nonce:
        raise Refused(f"the transaction has nonce {transaction.nonce}; the sender's next is {account.nonce}")
    if account.code_hash != EMPTY_CODE_HASH:
        raise Refused("the sender of the transaction is a contract (EIP-3607)")
    if transaction.intrinsic_gas > transaction.gas:
        raise Refused(f"the transaction needs at least {transaction.intrinsic_gas} gas; it offers {transaction.gas}")
    if transaction.gas > context.gas_limit - gas_used:
        raise Refused(f"the transaction asks for {transaction.gas} gas; {context.gas_limit - gas_used} are left")
    if transaction.maximum_fee < context.base_fee:
        raise Refused(f"the transaction pays {transaction.maximum_fee} wei per gas; the base fee is {context.base_fee}")
    if account.balance < transaction.largest_cost:
        raise Refused(f"the sender owns {account.balance} wei; the transaction may cost {transaction.largest_cost}")


def _created_address(sender: Address, nonce: int) -> Address:
    return Address(keccak256(rlp.encode([sender, nonce]))[12:])


def _run(journal: Journal, context: BlockContext, message: Message) -> Outcome:
    """Run a message: a plain transfer directly, code in the interpreter."""
    target = message.to
    if target is None or target in PRECOMPILES or journal.account(target).code_hash != EMPTY_CODE_HASH:
        return _interpret(journal, context, message)
    journal.add_balance(message.sender, -message.value)
    journal.add_balance(target, message.value)
    return Outcome(True, b"", message.gas, 0, (), "")


def _interpret(journal: Journal, context: BlockContext, message: Message) -> Outcome:
    computation_class = _computation_class()
    from eth.constants import CREATE_CONTRACT_ADDRESS
    from eth.vm.forks.cancun.transaction_context import CancunTransactionContext
    from eth.vm.message import Message as EvmMessage
    from eth_typing import Address as EvmAddress

    state = EvmState(journal, context)
    creates = message.contract is not None
    for address in (message.sender, message.contract or message.to, context.beneficiary):
        assert address is not None
        journal.make_warm(address)
    for address, slots in message.access_list:
        journal.make_warm(address)
        for slot in slots:
            journal.make_warm((address, slot))
    # py-evm charges for the words of creation code itself; our intrinsic gas holds them already.
    words = _INITCODE_WORD_GAS * ((len(message.data) + 31) // 32) if creates else 0
    evm_message = EvmMessage(
        gas=message.gas + words,
        to=CREATE_CONTRACT_ADDRESS if message.to is None else EvmAddress(message.to),
        sender=EvmAddress(message.sender),
        value=message.value,
        data=b"" if creates else message.data,
        code=message.data if creates else journal.code(message.to or Address(b"")),
        create_address=message.contract,  # type: ignore[arg-type]  # None is its default
    )
    terms = CancunTransactionContext(gas_price=message.gas_price, origin=EvmAddress(message.sender))
    if creates:
        assert message.contract is not None
        occupied = journal.account(message.contract)
        if occupied.nonce or occupied.code_hash != EMPTY_CODE_HASH:
            return Outcome(False, b"", 0, 0, (), "the address of the new contract is taken")
        computation = computation_class.apply_create_message(state, evm_message, terms)
    else:
        computation = computation_class.apply_message(state, evm_message, terms)
    return _outcome(journal, computation)


def _outcome(journal: Journal, computation: "ComputationAPI") -> Outcome:
    for address in computation.get_accounts_for_deletion():
        journal.destroy(Address(address))
    return Outcome(
        succeeded=computation.is_success,
        output=bytes(computation.output),
        gas_left=computation.get_gas_remaining(),
        refund=computation.get_gas_refund(),
        logs=tuple(
            Log(Address(address), tuple(topic.to_bytes(32, "big") for topic in topics), bytes(data))
            for address, topics, data in computation.get_log_entries()
        ),
        reason="" if computation.is_success else type(computation.error).__name__,
    )


@cache
def _computation_class() -> Any:
    """py-evm's Cancun computation without the precompiles that are too slow and without SELFDESTRUCT's warning."""
    with _LOADING, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from eth.exceptions import StackDepthLimit, VMError
        from eth.vm import mnemonics, opcode_values
        from eth.vm.forks.byzantium.opcodes import ensure_no_static
        from eth.vm.forks.cancun.computation import CancunComputation
        from eth.vm.forks.cancun.logic import selfdestruct_eip6780
        from eth.vm.forks.tangerine_whistle.constants import GAS_SELFDESTRUCT_EIP150
        from eth.vm.opcode import as_opcode

        sys.setrecursionlimit(_PYTHON_FRAMES)

    def unavailable(_computation: "ComputationAPI") -> None:
        raise VMError("this precompile is not available in the interim engine")

    class Computation(CancunComputation):
        """Cancun's, sharing what is known about a code's jump destinations between calls."""

        opcodes = {  # noqa: RUF012  # py-evm declares it an instance variable
            **CancunComputation.opcodes,
            opcode_values.SELFDESTRUCT: as_opcode(
                logic_fn=ensure_no_static(selfdestruct_eip6780),
                mnemonic=mnemonics.SELFDESTRUCT,
                gas_cost=GAS_SELFDESTRUCT_EIP150,
            ),
        }

        def __init__(self, state: Any, message: Any, transaction_context: Any) -> None:
            super().__init__(state, message, transaction_context)
            code: Any = self.code
            code.valid_positions, code.invalid_positions = _jump_cache(message.code)

        def generate_child_computation(self, child_msg: Any) -> "ComputationAPI":
            if child_msg.depth <= _DEEPEST_CALL:
                return super().generate_child_computation(child_msg)
            child = type(self)(self.state, child_msg, self.transaction_context)
            child.error = StackDepthLimit(f"calls nest at most {_DEEPEST_CALL} deep")
            return child

        _precompiles = {  # noqa: RUF012
            **CancunComputation.get_precompiles(),
            **{number.to_bytes(20, "big"): unavailable for number in _TOO_SLOW},
        }

    return Computation


@lru_cache(maxsize=256)
def _jump_cache(_code: bytes) -> tuple[set[int], set[int]]:
    """Positions of a code found to hold an opcode and found to hold data; filled by the interpreter as it jumps."""
    return set(), set()
