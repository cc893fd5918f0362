"""The host's functions on the chain: call data, storage, accounts, calls, logs, the block.

Pointers and sizes are i32; addresses have 20 bytes in memory, numbers that the EVM holds in a word 32 with the big end
first. What the EVM prices, costs the same here, by the same functions; only the crossing comes on top.
"""

from typing import Final

from koinon.kernel.ids import Address
from koinon.ledger.evm import effects
from koinon.ledger.evm.calls import CALL_STIPEND, INITCODE_WORD_GAS, VALUE_GAS, created_address, salted_address
from koinon.ledger.evm.effects import access, charge
from koinon.ledger.evm.frame import Kind, Message
from koinon.ledger.evm.halts import OutOfGas, ReturnDataOutOfBounds, WriteProtection
from koinon.ledger.execution import Log
from koinon.ledger.transaction import MAXIMUM_INITCODE_BYTES
from koinon.ledger.wasm.host import ADDRESS, WORD, Crossing, Entry, Finished, entry
from koinon.ledger.wasm.limits import PAGE_GAS
from koinon.ledger.wasm.native import CANNOT_GROW

_FREE: Final = 0
_LOG_GAS: Final = 375
_LOG_TOPIC_GAS: Final = 375
_CREATE_GAS: Final = 32_000
_BLOCK_HASH_GAS: Final = 20
_MOST_TOPICS: Final = 4
_MASK_64: Final = 2**64 - 1


# Memory


def grow_memory(at: Crossing, pages: int) -> int:
    """What ``memory.grow`` becomes: the size before in pages, or 2^32 − 1 where it cannot grow so far."""
    before = at.instance.grow(pages)
    if before != CANNOT_GROW:
        charge(at.frame, PAGE_GAS * pages)
    return before


# Input and output


def call_data_size(at: Crossing) -> int:
    return len(at.frame.data)


def call_data_copy(at: Crossing, to: int, offset: int, size: int) -> None:
    at.copy(at.frame.data, to, offset, size)


def finish(at: Crossing, place: int, size: int) -> None:
    at.frame.output = at.take(place, size)
    raise Finished


def revert(at: Crossing, place: int, size: int) -> None:
    at.frame.output = at.take(place, size)
    at.frame.reverted = True
    raise Finished


def return_data_size(at: Crossing) -> int:
    return len(at.frame.returned)


def return_data_copy(at: Crossing, to: int, offset: int, size: int) -> None:
    """Unlike call data, what a call returned has no zeros behind it."""
    if offset + size > len(at.frame.returned):
        raise ReturnDataOutOfBounds
    at.copy(at.frame.returned, to, offset, size)


# Who, what, when


def own_address(at: Crossing, to: int) -> None:
    at.instance.write(to, at.frame.address)


def caller(at: Crossing, to: int) -> None:
    at.instance.write(to, at.frame.caller)


def origin(at: Crossing, to: int) -> None:
    at.instance.write(to, at.frame.run.origin)


def value(at: Crossing, to: int) -> None:
    at.put_word(to, at.frame.value)


def gas_price(at: Crossing, to: int) -> None:
    at.put_word(to, at.frame.run.gas_price)


def gas_left(at: Crossing) -> int:
    return at.frame.gas


def height(at: Crossing) -> int:
    return at.frame.run.context.height


def timestamp(at: Crossing) -> int:
    return at.frame.run.context.timestamp


def chain_id(at: Crossing) -> int:
    return at.frame.run.context.chain_id & _MASK_64


def gas_limit(at: Crossing) -> int:
    return at.frame.run.context.gas_limit


def base_fee(at: Crossing, to: int) -> None:
    at.put_word(to, at.frame.run.context.base_fee)


def beneficiary(at: Crossing, to: int) -> None:
    at.instance.write(to, at.frame.run.context.beneficiary)


def mix(at: Crossing, to: int) -> None:
    """The block's randomness, PREVRANDAO of the EVM."""
    at.instance.write(to, at.frame.run.context.mix)


def block_hash(at: Crossing, number: int, to: int) -> None:
    at.put_word(to, effects.block_hash(at.frame, number))


# Accounts


def _address(at: Crossing, place: int) -> Address:
    return Address(at.instance.read(place, ADDRESS))


def balance(at: Crossing, account: int, to: int) -> None:
    at.put_word(to, effects.balance(at.frame, int.from_bytes(_address(at, account))))


def code_size(at: Crossing, account: int) -> int:
    return len(effects.code_of(at.frame, int.from_bytes(_address(at, account))))


def code_copy(at: Crossing, account: int, to: int, offset: int, size: int) -> None:
    at.copy(effects.code_of(at.frame, int.from_bytes(_address(at, account))), to, offset, size)


def code_hash(at: Crossing, account: int, to: int) -> None:
    at.put_word(to, effects.code_hash_of(at.frame, int.from_bytes(_address(at, account))))


# Storage


def storage_read(at: Crossing, slot: int, to: int) -> None:
    at.put_word(to, effects.load(at.frame, at.take_word(slot)))


def storage_write(at: Crossing, slot: int, content: int) -> None:
    effects.store(at.frame, at.take_word(slot), at.take_word(content))


def transient_read(at: Crossing, slot: int, to: int) -> None:
    at.put_word(to, at.frame.storage.transient.get(at.take_word(slot), 0))


def transient_write(at: Crossing, slot: int, content: int) -> None:
    effects.store_transient(at.frame, at.take_word(slot), at.take_word(content))


# Logs


def log(at: Crossing, place: int, size: int, topics: int, count: int) -> None:
    """LOG0 to LOG4: the topics stand one behind the other, 32 bytes each. More than four trap."""
    if at.frame.static:
        raise WriteProtection
    if count > _MOST_TOPICS:
        raise OutOfGas
    charge(at.frame, _LOG_GAS + _LOG_TOPIC_GAS * count + effects.LOG_BYTE_GAS * size)
    data = at.take(place, size)
    words = at.instance.read(topics, WORD * count)
    entries = tuple(words[start : start + WORD] for start in range(0, len(words), WORD))
    at.frame.journal.logs.append(Log(at.frame.address, entries, data))


# Calls: 1 if they succeeded, 0 if not; what they returned is there to copy


def call(at: Crossing, gas: int, account: int, amount: int, place: int, size: int) -> int:
    frame, to, coins = at.frame, _address(at, account), at.take_word(amount)
    if frame.static and coins:
        raise WriteProtection
    data = at.take(place, size)
    access(frame, to)
    extra = 0
    if coins:
        extra = VALUE_GAS + (effects.NEW_ACCOUNT_GAS if frame.journal.is_empty(to) else 0)
    granted = _granted(at, gas, extra) + (CALL_STIPEND if coins else 0)
    return _send(
        at, Message(Kind.CALL, frame.address, to, to, coins, True, data, granted, frame.static, frame.depth + 1)
    )


def delegate_call(at: Crossing, gas: int, account: int, place: int, size: int) -> int:
    frame, code = at.frame, _address(at, account)
    data = at.take(place, size)
    access(frame, code)
    granted = _granted(at, gas, 0)
    return _send(
        at,
        Message(
            Kind.DELEGATECALL, frame.caller, frame.address, code, frame.value, False, data, granted, frame.static,
            frame.depth + 1,
        ),
    )  # fmt: skip


def static_call(at: Crossing, gas: int, account: int, place: int, size: int) -> int:
    frame, to = at.frame, _address(at, account)
    data = at.take(place, size)
    access(frame, to)
    granted = _granted(at, gas, 0)
    return _send(at, Message(Kind.STATICCALL, frame.address, to, to, 0, False, data, granted, True, frame.depth + 1))


def create(at: Crossing, amount: int, place: int, size: int, to: int) -> int:
    """CREATE: the new address is written to ``to``, zeros if it failed."""
    data = _creation_data(at, place, size, INITCODE_WORD_GAS)
    address = created_address(at.frame.address, at.frame.journal.nonce(at.frame.address))
    return _create(at, Kind.CREATE, address, amount, data, to)


def create_salted(at: Crossing, amount: int, place: int, size: int, salt: int, to: int) -> int:
    """CREATE2."""
    data = _creation_data(at, place, size, INITCODE_WORD_GAS + effects.KECCAK_WORD_GAS)
    address = salted_address(at.frame.address, at.take_word(salt), data)
    return _create(at, Kind.CREATE2, address, amount, data, to)


def _creation_data(at: Crossing, place: int, size: int, word_gas: int) -> bytes:
    if at.frame.static:
        raise WriteProtection
    if size > MAXIMUM_INITCODE_BYTES:
        raise OutOfGas
    charge(at.frame, word_gas * ((size + 31) // 32))
    return at.take(place, size)


def _create(at: Crossing, kind: Kind, address: Address, amount: int, data: bytes, to: int) -> int:
    frame, coins = at.frame, at.take_word(amount)
    granted = _granted(at, frame.gas, 0)
    message = Message(kind, frame.address, address, address, coins, True, data, granted, False, frame.depth + 1)
    succeeded = _send(at, message)
    if succeeded:
        frame.returned = b""
    at.instance.write(to, address if succeeded else bytes(ADDRESS))
    return succeeded


def _granted(at: Crossing, asked: int, extra: int) -> int:
    """Take ``extra`` and what the call gets: what it asks for, at most all but a 64th of what is left (EIP-150)."""
    left = at.frame.gas - extra
    if left < 0:
        raise OutOfGas
    granted = min(asked, left - left // 64)
    at.frame.gas = left - granted
    return granted


def _send(at: Crossing, message: Message) -> int:
    outcome = at.frame.run.execute(message)
    at.frame.gas += outcome.gas_left
    at.frame.returned = outcome.output
    return int(outcome.succeeded)


CHAIN_FUNCTIONS: Final[dict[str, Entry]] = {
    "call_data_size": entry(">i", _FREE, call_data_size),
    "call_data_copy": entry("iii", _FREE, call_data_copy),
    "finish": entry("ii", _FREE, finish),
    "revert": entry("ii", _FREE, revert),
    "return_data_size": entry(">i", _FREE, return_data_size),
    "return_data_copy": entry("iii", _FREE, return_data_copy),
    "address": entry("i", _FREE, own_address),
    "caller": entry("i", _FREE, caller),
    "origin": entry("i", _FREE, origin),
    "value": entry("i", _FREE, value),
    "gas_price": entry("i", _FREE, gas_price),
    "gas_left": entry(">l", _FREE, gas_left),
    "height": entry(">l", _FREE, height),
    "timestamp": entry(">l", _FREE, timestamp),
    "chain_id": entry(">l", _FREE, chain_id),
    "gas_limit": entry(">l", _FREE, gas_limit),
    "base_fee": entry("i", _FREE, base_fee),
    "beneficiary": entry("i", _FREE, beneficiary),
    "mix": entry("i", _FREE, mix),
    "block_hash": entry("li", _BLOCK_HASH_GAS, block_hash),
    "balance": entry("ii", _FREE, balance),
    "code_size": entry("i>i", _FREE, code_size),
    "code_copy": entry("iiii", _FREE, code_copy),
    "code_hash": entry("ii", _FREE, code_hash),
    "storage_read": entry("ii", _FREE, storage_read),
    "storage_write": entry("ii", _FREE, storage_write),
    "transient_read": entry("ii", effects.WARM_GAS, transient_read),
    "transient_write": entry("ii", effects.WARM_GAS, transient_write),
    "log": entry("iiii", _FREE, log),
    "call": entry("liiii>i", _FREE, call),
    "delegate_call": entry("liii>i", _FREE, delegate_call),
    "static_call": entry("liii>i", _FREE, static_call),
    "create": entry("iiii>i", _CREATE_GAS, create),
    "create2": entry("iiiii>i", _CREATE_GAS, create_salted),
}
