"""Methods that sign with keys the node holds. Only a development chain has them: its keys are known to everybody."""

from collections.abc import Mapping

from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import Gas
from koinon.ledger.rpc import forms, readers
from koinon.ledger.rpc.accounts import call_of
from koinon.ledger.rpc.forms import data
from koinon.ledger.rpc.readers import CallFields
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter, constant
from koinon.ledger.rpc.typed_data import typed_digest
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.signing import Unsigned
from koinon.ledger.transaction import Transaction

_ADDRESS = Parameter("the account", readers.address)
_MESSAGE = Parameter("the message", readers.data)


def wallet_methods(view: LedgerView, keys: Mapping[Address, AccountKey]) -> tuple[Method, ...]:
    """The methods."""

    def key_of(account: Address) -> AccountKey:
        key = keys.get(account)
        if key is None:
            raise Refused(f"unknown account: this node holds no key of {data(account)}; sign it yourself")
        return key

    async def signed(caller: Caller, fields: CallFields) -> Transaction:
        if fields.sender is None:
            raise InvalidInput("the transaction names no from; name one of eth_accounts")
        key = key_of(fields.sender)
        return (await _filled(view, caller, fields)).sign(key)

    async def send(caller: Caller, fields: CallFields) -> Json:
        return data((await view.submit((await signed(caller, fields)).raw)).hash)

    async def sign_transaction(caller: Caller, fields: CallFields) -> Json:
        transaction = await signed(caller, fields)
        return {"raw": data(transaction.raw), "tx": forms.transaction_form(transaction, None, 0, 0)}

    def sign(_caller: Caller, account: Address, message: bytes) -> Json:
        return data(key_of(account).sign_digest(personal_digest(message)))

    def personal_sign(caller: Caller, message: bytes, account: Address, _password: Json) -> Json:
        return sign(caller, account, message)

    def sign_typed(_caller: Caller, account: Address, digest: Hash32) -> Json:
        return data(key_of(account).sign_digest(digest))

    unsigned = Parameter("the transaction", readers.call)
    typed = Parameter("the typed data", typed_digest)
    password = Parameter("the password, which is not needed", readers.anything, default=None)
    return (
        constant("eth_accounts", [data(account) for account in keys]),
        Method("eth_sendTransaction", (unsigned,), send, 10),
        Method("eth_signTransaction", (unsigned,), sign_transaction, 10),
        Method("eth_sign", (_ADDRESS, _MESSAGE), sign),
        Method("personal_sign", (_MESSAGE, _ADDRESS, password), personal_sign),
        Method("eth_signTypedData", (_ADDRESS, typed), sign_typed),
        Method("eth_signTypedData_v4", (_ADDRESS, typed), sign_typed),
    )


def personal_digest(message: bytes) -> Hash32:
    """What an account signs for a message of a person's (EIP-191, version 0x45)."""
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)


async def _filled(view: LedgerView, caller: Caller, fields: CallFields) -> Unsigned:
    """The transaction with everything that was left out."""
    assert fields.sender is not None
    chain_id = view.chain.genesis.chain_id
    if fields.chain_id not in (None, chain_id):
        raise InvalidInput(f"the transaction names chain {fields.chain_id}; this is chain {chain_id}")
    state, context = view.state("pending"), view.next_context("pending")
    gas = fields.gas
    if gas is None:
        call = call_of(fields, Gas(min(context.gas_limit, view.lane.limits.call_gas)))
        gas = await view.lane.run(caller, lambda: view.estimate(call, context, state))
    priced = fields.gas_price is not None
    tip = fields.maximum_tip or 0
    fee = 2 * context.base_fee + tip if fields.maximum_fee is None else fields.maximum_fee
    return Unsigned(
        kind=(1 if fields.access_list else 0) if priced else 2,
        chain_id=chain_id,
        nonce=view.mempool.next_nonce(fields.sender, state) if fields.nonce is None else fields.nonce,
        maximum_tip=fields.gas_price if fields.gas_price is not None else tip,
        maximum_fee=fields.gas_price if fields.gas_price is not None else fee,
        gas=gas,
        to=fields.to,
        value=fields.value,
        data=fields.data,
        access_list=fields.access_list or (),
    )
