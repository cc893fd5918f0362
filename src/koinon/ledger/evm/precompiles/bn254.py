"""0x06 to 0x08: the curve BN254, its addition, multiplication and pairing check (EIP-196, 197, priced by EIP-1108)."""

from typing import Final

from koinon.crypto import bn254
from koinon.kernel.errors import InvalidInput
from koinon.ledger.precompile import Precompile, PrecompileFailure

_ADD_GAS: Final = 150
_MULTIPLY_GAS: Final = 6_000
_PAIRING_GAS: Final = 45_000
_PAIR_GAS: Final = 34_000


def _point(data: bytes) -> bn254.Point:
    try:
        return bn254.decode_point(data)
    except InvalidInput as problem:
        raise PrecompileFailure(str(problem)) from None


def _add(data: bytes) -> bytes:
    data = data[:128].ljust(128, b"\0")
    return bn254.encode_point(bn254.add(_point(data[:64]), _point(data[64:])))


def _multiply(data: bytes) -> bytes:
    data = data[:96].ljust(96, b"\0")
    return bn254.encode_point(bn254.multiply(_point(data[:64]), int.from_bytes(data[64:])))


def _pairing_gas(data: bytes) -> int:
    return _PAIRING_GAS + _PAIR_GAS * (len(data) // bn254.PAIR_BYTES)


def _pairing(data: bytes) -> bytes:
    """Whether the product of the pairings is one."""
    if len(data) % bn254.PAIR_BYTES:
        raise PrecompileFailure(f"the pairs have {bn254.PAIR_BYTES} bytes each; got {len(data)} in all")
    pairs = [data[at : at + bn254.PAIR_BYTES] for at in range(0, len(data), bn254.PAIR_BYTES)]
    try:
        is_one = bn254.pairing_is_one([(_point(pair[:64]), pair[64:]) for pair in pairs])
    except InvalidInput as problem:
        raise PrecompileFailure(str(problem)) from None
    return int(is_one).to_bytes(32)


ADD: Final = Precompile(lambda _data: _ADD_GAS, _add)
MULTIPLY: Final = Precompile(lambda _data: _MULTIPLY_GAS, _multiply)
PAIRING: Final = Precompile(_pairing_gas, _pairing)
