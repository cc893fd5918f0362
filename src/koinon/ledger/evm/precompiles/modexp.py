"""0x05: base ** exponent % modulus for numbers of any size (EIP-198, priced by EIP-2565)."""

from typing import Final

from koinon.ledger.precompile import Precompile

_LEAST_GAS: Final = 200
_GAS_QUOTIENT: Final = 3


def _part(data: bytes, offset: int, size: int) -> int:
    """A number in the data, zeros behind the data's end."""
    part = data[offset : offset + size]
    return int.from_bytes(part) << 8 * (size - len(part))


def _sizes(data: bytes) -> tuple[int, int, int]:
    return _part(data, 0, 32), _part(data, 32, 32), _part(data, 64, 32)


def _gas(data: bytes) -> int:
    base_size, exponent_size, modulus_size = _sizes(data)
    words = (max(base_size, modulus_size) + 7) // 8
    # Sizes may be any 256-bit number: the head is read from the data that is there.
    head_bytes = min(exponent_size, 32)
    head = int.from_bytes(data[96 + base_size : 96 + base_size + head_bytes].ljust(head_bytes, b"\0"))
    rounds = max(head.bit_length() - 1, 0) + 8 * max(exponent_size - 32, 0)
    return max(_LEAST_GAS, words * words * max(rounds, 1) // _GAS_QUOTIENT)


def _power(data: bytes) -> bytes:
    base_size, exponent_size, modulus_size = _sizes(data)
    if modulus_size == 0:
        return b""
    base = _part(data, 96, base_size)
    exponent = _part(data, 96 + base_size, exponent_size)
    modulus = _part(data, 96 + base_size + exponent_size, modulus_size)
    return (pow(base, exponent, modulus) if modulus else 0).to_bytes(modulus_size)


MODEXP: Final = Precompile(_gas, _power)
