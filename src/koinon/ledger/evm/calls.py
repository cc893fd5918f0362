"""The instructions that make calls or contracts, and SELFDESTRUCT: what they cost and what they ask for.

Each leaves a ``Message`` in ``frame.request``; the run makes the call and puts the result on the stack.
"""

from typing import Final

from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Address
from koinon.ledger import rlp
from koinon.ledger.evm.effects import (
    COLD_ACCOUNT_GAS,
    KECCAK_WORD_GAS,
    NEW_ACCOUNT_GAS,
    access,
    address_of,
    charge,
    expand,
    read,
)
from koinon.ledger.evm.frame import Frame, Kind, Message
from koinon.ledger.evm.halts import OutOfGas, WriteProtection
from koinon.ledger.transaction import MAXIMUM_INITCODE_BYTES

VALUE_GAS: Final = 9_000
CALL_STIPEND: Final = 2_300
INITCODE_WORD_GAS: Final = 2  # EIP-3860


def call(
    frame: Frame, gas: int, to: int, value: int, in_offset: int, in_size: int, out_offset: int, out_size: int
) -> None:
    """CALL."""
    if frame.static and value:
        raise WriteProtection
    address = address_of(to)
    data = _prepare(frame, address, in_offset, in_size, out_offset, out_size)
    extra = 0
    if value:
        extra = VALUE_GAS + (NEW_ACCOUNT_GAS if frame.journal.is_empty(address) else 0)
    _request(frame, Kind.CALL, gas, extra, frame.address, address, address, value, data, frame.static)


def call_code(
    frame: Frame, gas: int, to: int, value: int, in_offset: int, in_size: int, out_offset: int, out_size: int
) -> None:
    """CALLCODE: the other's code on our own storage and balance."""
    code_address = address_of(to)
    data = _prepare(frame, code_address, in_offset, in_size, out_offset, out_size)
    extra = VALUE_GAS if value else 0
    _request(frame, Kind.CALLCODE, gas, extra, frame.address, frame.address, code_address, value, data, frame.static)


def delegate_call(
    frame: Frame, gas: int, to: int, in_offset: int, in_size: int, out_offset: int, out_size: int
) -> None:
    """DELEGATECALL: like CALLCODE, with caller and value as they are here."""
    code_address = address_of(to)
    data = _prepare(frame, code_address, in_offset, in_size, out_offset, out_size)
    gas = _granted(frame, gas, 0)
    frame.request = Message(
        Kind.DELEGATECALL, frame.caller, frame.address, code_address, frame.value, False, data, gas, frame.static,
        frame.depth + 1,
    )  # fmt: skip


def static_call(frame: Frame, gas: int, to: int, in_offset: int, in_size: int, out_offset: int, out_size: int) -> None:
    """STATICCALL: nothing below it may change anything."""
    address = address_of(to)
    data = _prepare(frame, address, in_offset, in_size, out_offset, out_size)
    _request(frame, Kind.STATICCALL, gas, 0, frame.address, address, address, 0, data, True)


def _prepare(frame: Frame, address: Address, in_offset: int, in_size: int, out_offset: int, out_size: int) -> bytes:
    """Charge for memory and for reaching the account; the call data."""
    data = read(frame, in_offset, in_size)
    expand(frame, out_offset, out_size)
    frame.window = (out_offset, out_size)
    access(frame, address)
    return data


def _granted(frame: Frame, asked: int, extra: int) -> int:
    """Take ``extra`` and what the call gets: what it asks for, at most all but a 64th of what is left (EIP-150)."""
    left = frame.gas - extra
    if left < 0:
        raise OutOfGas
    granted = min(asked, left - left // 64)
    frame.gas = left - granted
    return granted


def _request(
    frame: Frame,
    kind: Kind,
    gas: int,
    extra: int,
    caller: Address,
    address: Address,
    code_address: Address,
    value: int,
    data: bytes,
    static: bool,
) -> None:
    granted = _granted(frame, gas, extra) + (CALL_STIPEND if value else 0)
    frame.request = Message(
        kind, caller, address, code_address, value, kind is Kind.CALL, data, granted, static, frame.depth + 1
    )


def create(frame: Frame, value: int, offset: int, size: int) -> None:
    """CREATE: the address follows from the creator and its nonce."""
    code = _creation_code(frame, offset, size, INITCODE_WORD_GAS)
    nonce = frame.journal.nonce(frame.address)
    _request_creation(frame, Kind.CREATE, created_address(frame.address, nonce), value, code)


def create_salted(frame: Frame, value: int, offset: int, size: int, salt: int) -> None:
    """CREATE2 (EIP-1014): the address follows from the creator, the salt and the creation code."""
    code = _creation_code(frame, offset, size, INITCODE_WORD_GAS + KECCAK_WORD_GAS)
    _request_creation(frame, Kind.CREATE2, salted_address(frame.address, salt, code), value, code)


def created_address(creator: Address, nonce: int) -> Address:
    """Where a contract goes that ``creator`` makes with ``nonce`` (yellow paper eq. 88)."""
    return Address(keccak256(rlp.encode([creator, nonce]))[12:])


def salted_address(creator: Address, salt: int, code: bytes) -> Address:
    """Where a contract goes that ``creator`` makes from this creation code with a salt (EIP-1014)."""
    return Address(keccak256(b"\xff" + creator + salt.to_bytes(32) + keccak256(code))[12:])


def _creation_code(frame: Frame, offset: int, size: int, word_gas: int) -> bytes:
    if frame.static:
        raise WriteProtection
    if size > MAXIMUM_INITCODE_BYTES:
        raise OutOfGas
    charge(frame, word_gas * ((size + 31) // 32))
    return read(frame, offset, size)


def _request_creation(frame: Frame, kind: Kind, address: Address, value: int, code: bytes) -> None:
    frame.window = (0, 0)
    gas = frame.gas - frame.gas // 64
    frame.gas -= gas
    frame.request = Message(kind, frame.address, address, address, value, True, code, gas, False, frame.depth + 1)


def destroy(frame: Frame, to: int) -> None:
    """SELFDESTRUCT (EIP-6780): the balance goes; the contract only if this transaction created it."""
    if frame.static:
        raise WriteProtection
    journal, beneficiary = frame.journal, address_of(to)
    if beneficiary not in journal.warm:
        charge(frame, COLD_ACCOUNT_GAS)
        journal.warm_address(beneficiary)
    balance = journal.balance(frame.address)
    if balance and journal.is_empty(beneficiary):
        charge(frame, NEW_ACCOUNT_GAS)
    journal.add_balance(frame.address, -balance)
    journal.add_balance(beneficiary, balance)
    if frame.address in journal.created:
        journal.set_balance(frame.address, 0)
        journal.write(journal.destroyed, frame.address, True)
    frame.run.destroyed(frame, beneficiary, balance)
