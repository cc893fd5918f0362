"""What the instructions do to memory, storage and accounts, and what that costs beyond their static gas.

The names here are those that the table of instructions uses. Gas: yellow paper appendix G with EIP-2929 and 3529.
"""

from typing import Final

import sha3

from koinon.kernel.ids import Address
from koinon.ledger.evm.frame import Frame
from koinon.ledger.evm.halts import OutOfGas, ReturnDataOutOfBounds, WriteProtection
from koinon.ledger.evm.opcodes import MAX, SIGN
from koinon.ledger.execution import BLOCKHASH_DEPTH, Log

MEMORY_GAS: Final = 3
MEMORY_QUADRATIC_DIVISOR: Final = 512
LARGEST_MEMORY: Final = 1 << 25
"""Bytes that a call's memory may have; they cost more than 2 Ggas, which no block limit of ours allows."""

COPY_WORD_GAS: Final = 3
KECCAK_WORD_GAS: Final = 6
LOG_BYTE_GAS: Final = 8
WARM_GAS: Final = 100
COLD_ACCOUNT_GAS: Final = 2_600
COLD_SLOT_GAS: Final = 2_100
SET_SLOT_GAS: Final = 20_000
RESET_SLOT_GAS: Final = 2_900
CLEAR_SLOT_REFUND: Final = 4_800
STORE_STIPEND: Final = 2_300
NEW_ACCOUNT_GAS: Final = 25_000

_ADDRESS_MASK: Final = 2**160 - 1

from_bytes = int.from_bytes


def address_of(word: int) -> Address:
    """The account that a stack item names: its lower 20 bytes."""
    return Address((word & _ADDRESS_MASK).to_bytes(20))


# Gas and memory


def charge(frame: Frame, gas: int) -> None:
    """Take gas. Raises OutOfGas."""
    frame.gas -= gas
    if frame.gas < 0:
        raise OutOfGas


def expand(frame: Frame, offset: int, size: int) -> None:
    """Make memory reach ``offset + size`` in whole words, and charge for what is new. Raises OutOfGas."""
    if not size:
        return
    end = offset + size
    old = len(frame.memory)
    if end <= old:
        return
    if end > LARGEST_MEMORY:
        raise OutOfGas
    new_words, old_words = (end + 31) // 32, old // 32
    frame.gas -= (
        MEMORY_GAS * (new_words - old_words)
        + new_words * new_words // MEMORY_QUADRATIC_DIVISOR
        - old_words * old_words // MEMORY_QUADRATIC_DIVISOR
    )
    if frame.gas < 0:
        raise OutOfGas
    frame.memory.extend(bytes(new_words * 32 - old))


def read(frame: Frame, offset: int, size: int) -> bytes:
    """Bytes of memory, which grows to hold them."""
    if not size:
        return b""
    expand(frame, offset, size)
    return bytes(frame.memory[offset : offset + size])


def copy(frame: Frame, to: int, source: bytes, offset: int, size: int) -> None:
    """Copy ``size`` bytes into memory; zeros stand for what the source does not have."""
    if not size:
        return
    if size > LARGEST_MEMORY:
        raise OutOfGas
    charge(frame, COPY_WORD_GAS * ((size + 31) // 32))
    expand(frame, to, size)
    frame.memory[to : to + size] = source[offset : offset + size].ljust(size, b"\0")


def copy_returned(frame: Frame, to: int, offset: int, size: int) -> None:
    """RETURNDATACOPY: unlike the other copies it fails beyond the end."""
    if offset + size > len(frame.returned):
        raise ReturnDataOutOfBounds
    copy(frame, to, frame.returned, offset, size)


def copy_memory(frame: Frame, to: int, offset: int, size: int) -> None:
    """MCOPY (EIP-5656); the areas may overlap."""
    if not size:
        return
    if size > LARGEST_MEMORY:
        raise OutOfGas
    charge(frame, COPY_WORD_GAS * ((size + 31) // 32))
    expand(frame, max(to, offset), size)
    frame.memory[to : to + size] = frame.memory[offset : offset + size]


def data_word(data: bytes, offset: int) -> int:
    """32 bytes of call data as a number, zeros behind its end."""
    word = data[offset : offset + 32]
    return from_bytes(word) if len(word) == 32 else from_bytes(word.ljust(32, b"\0"))


def keccak(frame: Frame, offset: int, size: int) -> int:
    """KECCAK256 of memory."""
    if size > LARGEST_MEMORY:
        raise OutOfGas
    charge(frame, KECCAK_WORD_GAS * ((size + 31) // 32))
    if size and offset + size > len(frame.memory):
        expand(frame, offset, size)
    return from_bytes(sha3.keccak_256(frame.memory[offset : offset + size] if size else b"").digest())


def log(frame: Frame, offset: int, size: int, topics: tuple[int, ...]) -> None:
    """LOG0 to LOG4."""
    if frame.static:
        raise WriteProtection
    charge(frame, LOG_BYTE_GAS * size)
    data = read(frame, offset, size)
    frame.journal.logs.append(Log(frame.address, tuple([topic.to_bytes(32) for topic in topics]), data))


# Arithmetic with sign: two's complement


def signed_divide(a: int, b: int) -> int:
    """SDIV, rounding towards zero."""
    if not b:
        return 0
    dividend, divisor = _signed(a), _signed(b)
    quotient = abs(dividend) // abs(divisor)
    return (-quotient if (dividend < 0) != (divisor < 0) else quotient) & MAX


def signed_modulo(a: int, b: int) -> int:
    """SMOD; the result has the dividend's sign."""
    if not b:
        return 0
    dividend = _signed(a)
    rest = abs(dividend) % abs(_signed(b))
    return (-rest if dividend < 0 else rest) & MAX


def sign_extended(size: int, value: int) -> int:
    """SIGNEXTEND from ``size + 1`` bytes."""
    if size >= 31:
        return value
    bit = 8 * size + 7
    low = value & (1 << bit) - 1
    return low | MAX ^ (1 << bit) - 1 if value >> bit & 1 else low


def shifted_signed(shift: int, value: int) -> int:
    """SAR."""
    return (_signed(value) >> min(shift, 256)) & MAX


def _signed(word: int) -> int:
    return word - MAX - 1 if word & SIGN else word


# Storage


def load(frame: Frame, slot: int) -> int:
    """SLOAD."""
    storage = frame.storage
    if slot in storage.warm:
        frame.gas -= WARM_GAS
    else:
        frame.gas -= COLD_SLOT_GAS
        frame.journal.warm_slot(storage, slot)
    if frame.gas < 0:
        raise OutOfGas
    value = storage.current.get(slot)
    return frame.journal.slot(storage, slot) if value is None else value


def store(frame: Frame, slot: int, value: int) -> None:
    """SSTORE."""
    if frame.static:
        raise WriteProtection
    if frame.gas <= STORE_STIPEND:
        raise OutOfGas
    journal, storage = frame.journal, frame.storage
    gas = 0
    if slot not in storage.warm:
        gas = COLD_SLOT_GAS
        journal.warm_slot(storage, slot)
    current = journal.slot(storage, slot)
    if value == current:
        charge(frame, gas + WARM_GAS)
        return
    original = storage.original.get(slot, current)
    if current != original:
        gas += WARM_GAS
    else:
        gas += RESET_SLOT_GAS if original else SET_SLOT_GAS
    charge(frame, gas)
    journal.refund += _store_refund(original, current, value)
    journal.set_slot(storage, slot, value)


def _store_refund(original: int, current: int, value: int) -> int:
    """EIP-2200 with the amounts of EIP-3529."""
    refund = 0
    if original:
        if current == 0:
            refund -= CLEAR_SLOT_REFUND
        if value == 0:
            refund += CLEAR_SLOT_REFUND
    if value == original:
        refund += (RESET_SLOT_GAS if original else SET_SLOT_GAS) - WARM_GAS
    return refund


def store_transient(frame: Frame, slot: int, value: int) -> None:
    """TSTORE."""
    if frame.static:
        raise WriteProtection
    frame.journal.write(frame.storage.transient, slot, value)


# Accounts and the block


def access(frame: Frame, address: Address) -> None:
    """Charge for reading an account: cold the first time in a transaction, warm from then on."""
    if address in frame.journal.warm:
        frame.gas -= WARM_GAS
    else:
        frame.gas -= COLD_ACCOUNT_GAS
        frame.journal.warm_address(address)
    if frame.gas < 0:
        raise OutOfGas


def balance(frame: Frame, word: int) -> int:
    """BALANCE."""
    address = address_of(word)
    access(frame, address)
    return frame.journal.balance(address)


def code_of(frame: Frame, word: int) -> bytes:
    """The code of an account, for EXTCODESIZE and EXTCODECOPY."""
    address = address_of(word)
    access(frame, address)
    return frame.journal.code(address)


def code_hash_of(frame: Frame, word: int) -> int:
    """EXTCODEHASH: zero for an account that is empty."""
    address = address_of(word)
    access(frame, address)
    return 0 if frame.journal.is_empty(address) else from_bytes(frame.journal.code_hash(address))


def block_hash(frame: Frame, number: int) -> int:
    """BLOCKHASH of the last 256 blocks, zero for others."""
    context = frame.run.context
    if not context.height - BLOCKHASH_DEPTH <= number < context.height:
        return 0
    return from_bytes(context.block_hash(number) or b"")


def blob_hash(frame: Frame, index: int) -> int:
    """BLOBHASH."""
    hashes = frame.run.blob_hashes
    return from_bytes(hashes[index]) if index < len(hashes) else 0
