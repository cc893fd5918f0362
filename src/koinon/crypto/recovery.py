"""Recovering the account behind a secp256k1 signature, at the lowest level that coincurve offers.

Its public class builds three objects and encodes the key twice; a ledger does nothing more often than this.
"""

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from koinon.crypto.hash import keccak256
from koinon.kernel.errors import Forged
from koinon.kernel.ids import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_buffers = threading.local()
"""libsecp256k1 works without Python's lock, so every thread writes into memory of its own."""


def recover(digest: bytes, signature: bytes, recovery: int) -> Address:
    """The account whose key made a compact signature over a digest.

    Args:
        digest: 32 bytes.
        signature: ``r || s``, 64 bytes; whether s is in the lower half is for the caller to check.
        recovery: 0 or 1, the parity of the nonce point's y.

    Raises:
        Forged: no key recovers.
    """
    assert len(digest) == 32, "the caller hashed"
    assert len(signature) == 64, "the caller cut r and s"
    buffers = getattr(_buffers, "made", None)
    if buffers is None:
        buffers = _buffers.made = _make_buffers()
    parsed, key, length, output, view = buffers
    parse, find, serialise, context, uncompressed = _library()
    if not parse(context, parsed, signature, recovery) or not find(context, key, parsed, digest):
        raise Forged("no account key recovers from the signature")
    length[0] = 65
    serialise(context, output, length, key, uncompressed)
    return Address(keccak256(view[1:])[12:])


Signed = tuple[bytes, bytes, int]
"""Digest, ``r || s`` and recovery, as ``recover`` takes them."""


def recover_batch(signed: "Sequence[Signed]") -> list[Address | None]:
    """The account behind each signature, None where no key recovers."""
    found: list[Address | None] = []
    for digest, signature, recovery in signed:
        try:
            found.append(recover(digest, signature, recovery))
        except Forged:
            found.append(None)
    return found


@cache
def _library() -> "tuple[Callable[..., int], Callable[..., int], Callable[..., int], Any, int]":
    # Late: a process that recovers nothing does not pay for loading libsecp256k1.
    from coincurve._libsecp256k1 import lib
    from coincurve.context import GLOBAL_CONTEXT

    return (
        lib.secp256k1_ecdsa_recoverable_signature_parse_compact,
        lib.secp256k1_ecdsa_recover,
        lib.secp256k1_ec_pubkey_serialize,
        GLOBAL_CONTEXT.ctx,
        lib.SECP256K1_EC_UNCOMPRESSED,
    )


def _make_buffers() -> tuple[Any, Any, Any, Any, Any]:
    from coincurve._libsecp256k1 import ffi

    output = ffi.new("unsigned char[65]")
    return (
        ffi.new("secp256k1_ecdsa_recoverable_signature *"),
        ffi.new("secp256k1_pubkey *"),
        ffi.new("size_t *"),
        output,
        ffi.buffer(output),
    )
