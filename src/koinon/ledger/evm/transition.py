"""What a transaction does to the state: terms, fees, message (EIP-1559, 2681, 2930, 3529, 3607, 3651, 4844)."""

from typing import Final

from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address
from koinon.ledger.evm.calls import created_address
from koinon.ledger.evm.frame import Kind, Message, Outcome
from koinon.ledger.evm.run import LARGEST_NONCE, Run
from koinon.ledger.execution import BlockContext
from koinon.ledger.journal import Journal
from koinon.ledger.state import EMPTY_CODE_HASH
from koinon.ledger.transaction import MAXIMUM_INITCODE_BYTES, Transaction

REFUND_QUOTIENT: Final = 5  # EIP-3529
BLOB_GAS: Final = 1 << 17
MOST_BLOBS: Final = 6
_BLOB_HASH_VERSION: Final = 1
_BLOB_FEE_FRACTION: Final = 3_338_477


def check_terms(transaction: Transaction, context: BlockContext, journal: Journal, gas_used: int) -> int:
    """Whether the transaction may be part of the block here; its intrinsic gas. Raises Refused."""
    intrinsic = transaction.intrinsic_gas
    _check_form(transaction, context, intrinsic)
    sender = transaction.sender
    nonce = journal.nonce(sender)
    if transaction.nonce != nonce:
        raise Refused(f"the transaction has nonce {transaction.nonce}; the sender's next is {nonce}")
    if nonce >= LARGEST_NONCE:
        raise Refused("the sender's nonce is the largest there is; no transaction can follow (EIP-2681)")
    if journal.code_hash(sender) != EMPTY_CODE_HASH:
        raise Refused("the sender of the transaction is a contract (EIP-3607)")
    if transaction.gas > context.gas_limit - gas_used:
        raise Refused(f"the transaction asks for {transaction.gas} gas; {context.gas_limit - gas_used} are left")
    cost = transaction.largest_cost + blob_gas(transaction) * transaction.maximum_blob_fee
    if journal.balance(sender) < cost:
        raise Refused(f"the sender owns {journal.balance(sender)} wei; the transaction may cost {cost}")
    return intrinsic


def _check_form(transaction: Transaction, context: BlockContext, intrinsic: int) -> None:
    """What needs no account."""
    # From before EIP-155 a transaction names no chain and fits any; blocks may hold it, the pool refuses it.
    if transaction.chain_id not in (None, context.chain_id):
        raise Refused(f"the transaction is signed for chain {transaction.chain_id}; this is chain {context.chain_id}")
    if transaction.to is None and len(transaction.data) > MAXIMUM_INITCODE_BYTES:
        raise Refused(f"creation code has at most {MAXIMUM_INITCODE_BYTES} bytes; got {len(transaction.data)}")
    if intrinsic > transaction.gas:
        raise Refused(f"the transaction needs at least {intrinsic} gas; it offers {transaction.gas}")
    if transaction.maximum_tip > transaction.maximum_fee:
        raise Refused(f"the transaction tips {transaction.maximum_tip} wei per gas out of {transaction.maximum_fee}")
    if transaction.maximum_fee < context.base_fee:
        raise Refused(f"the transaction pays {transaction.maximum_fee} wei per gas; the base fee is {context.base_fee}")
    if transaction.kind == 3:
        _check_blobs(transaction, context)


def _check_blobs(transaction: Transaction, context: BlockContext) -> None:
    hashes = transaction.blob_hashes
    if transaction.to is None or not 1 <= len(hashes) <= MOST_BLOBS:
        raise Refused(f"a blob transaction has a recipient and 1 to {MOST_BLOBS} blobs; this one has {len(hashes)}")
    if any(blob[0] != _BLOB_HASH_VERSION for blob in hashes):
        raise Refused(f"the version of a blob hash is {_BLOB_HASH_VERSION} (EIP-4844)")
    if transaction.maximum_blob_fee < context.blob_base_fee:
        raise Refused(
            f"the transaction pays {transaction.maximum_blob_fee} wei per blob gas; the fee is {context.blob_base_fee}"
        )


def blob_gas(transaction: Transaction) -> int:
    """Blob gas that the transaction uses (EIP-4844)."""
    return BLOB_GAS * len(transaction.blob_hashes)


def blob_base_fee(excess_blob_gas: int) -> int:
    """Wei per blob gas: e to the power of the excess over a constant, in integers (EIP-4844, ``fake_exponential``)."""
    total, term, number = 0, _BLOB_FEE_FRACTION, 1
    while term > 0:
        total += term
        term = term * excess_blob_gas // (_BLOB_FEE_FRACTION * number)
        number += 1
    return total // _BLOB_FEE_FRACTION


def transfer(
    journal: Journal, context: BlockContext, transaction: Transaction, to: Address, gas_price: int, gas: int
) -> None:
    """A transaction to an account without code: nothing in it can fail any more, and nothing runs.

    The terms are checked. Ends where ``run_transaction`` would, with ``gas`` used.
    """
    fee = gas * gas_price + blob_gas(transaction) * context.blob_base_fee
    journal.settle(transaction.sender, -fee - transaction.value, 1)
    journal.settle(to, transaction.value)
    journal.settle(context.beneficiary, gas * (gas_price - context.base_fee))


def run_transaction(
    run: Run, transaction: Transaction, gas_price: int, intrinsic: int
) -> tuple[Outcome, int, Address | None]:
    """Take the fee, run the message, give back what is left, pay the tip.

    The terms are checked and the journal's transaction has begun.

    Returns:
        The outcome, the gas used, and the contract a creation was to make.
    """
    journal, context, sender = run.journal, run.context, transaction.sender
    gas, left = transaction.gas, transaction.gas - intrinsic
    journal.add_balance(sender, -gas * gas_price - blob_gas(transaction) * context.blob_base_fee)
    journal.set_nonce(sender, transaction.nonce + 1)
    warm_up(run, transaction)
    contract, kind, target = None, Kind.CALL, transaction.to
    if target is None:
        contract = target = created_address(sender, transaction.nonce)
        kind = Kind.CREATE
    outcome = run.execute(
        Message(kind, sender, target, target, transaction.value, True, transaction.data, left, False, 0)
    )
    used = gas - outcome.gas_left
    used -= min(journal.refund, used // REFUND_QUOTIENT)
    journal.add_balance(sender, (gas - used) * gas_price)
    journal.add_balance(context.beneficiary, used * (gas_price - context.base_fee))
    journal.end_transaction()
    return outcome, used, contract


def warm_up(run: Run, transaction: Transaction) -> None:
    """What a transaction may reach at the price of warm from its start (EIP-2929, 2930, 3651)."""
    journal = run.journal
    warm = journal.warm
    warm[transaction.sender] = warm[run.context.beneficiary] = True
    if transaction.to is not None:
        warm[transaction.to] = True
    for address, slots in transaction.access_list:
        warm[address] = True
        storage = journal.storage(address)
        for slot in slots:
            storage.warm[slot] = True
