"""0x01: the account behind a secp256k1 signature (yellow paper, appendix E)."""

from typing import Final

from coincurve import PublicKey

from koinon.crypto.hash import keccak256
from koinon.crypto.signature import SECP256K1_ORDER
from koinon.ledger.precompile import Precompile

_GAS: Final = 3_000


def _recover(data: bytes) -> bytes:
    """Digest, v, r, s; unlike a transaction's, s may be in the upper half. Empty where nothing recovers."""
    data = data[:128].ljust(128, b"\0")
    v, r, s = (int.from_bytes(data[offset : offset + 32]) for offset in (32, 64, 96))
    if v not in (27, 28) or not 0 < r < SECP256K1_ORDER or not 0 < s < SECP256K1_ORDER:
        return b""
    try:
        key = PublicKey.from_signature_and_message(data[64:] + bytes([v - 27]), data[:32], hasher=None)
    except ValueError:
        return b""
    return bytes(12) + keccak256(key.format(compressed=False)[1:])[12:]


ECRECOVER: Final = Precompile(lambda _data: _GAS, _recover)
