"""Transactions: sending them, and finding them and their receipts by hash."""

from koinon.kernel.ids import Hash32
from koinon.ledger.rpc import forms, readers
from koinon.ledger.rpc.forms import data
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.transaction import parse_transaction

_HASH = Parameter("the transaction hash", readers.digest)


def transaction_methods(view: LedgerView) -> tuple[Method, ...]:
    """The methods. A receipt exists once its block is final."""
    chain, mempool = view.chain, view.mempool

    def by_hash(_caller: Caller, name: Hash32) -> Json:
        place = chain.place_of(name)
        if place is None:
            waiting = mempool.get(name)
            return None if waiting is None else forms.transaction_form(waiting, None, 0, 0)
        block = chain.block_at(place.height)
        transaction = parse_transaction(block.transactions[place.index])
        return forms.transaction_form(transaction, block, place.index, block.header.base_fee)

    def raw_by_hash(_caller: Caller, name: Hash32) -> Json:
        place = chain.place_of(name)
        if place is not None:
            return data(chain.block_at(place.height).transactions[place.index])
        waiting = mempool.get(name)
        return None if waiting is None else data(waiting.raw)

    def receipt(_caller: Caller, name: Hash32) -> Json:
        found = chain.receipt_of(name)
        if found is None:
            return None
        place, block = found.place, chain.block_at(found.place.height)
        transaction = parse_transaction(block.transactions[place.index])
        return forms.receipt_form(found.receipt, transaction, block, place.index, place.first_log)

    async def send_raw(_caller: Caller, raw: bytes) -> Json:
        return data((await view.submit(raw)).hash)

    return (
        Method("eth_sendRawTransaction", (Parameter("the transaction", readers.data),), send_raw),
        Method("eth_getTransactionByHash", (_HASH,), by_hash),
        Method("eth_getRawTransactionByHash", (_HASH,), raw_by_hash),
        Method("eth_getTransactionReceipt", (_HASH,), receipt, 2),
    )
