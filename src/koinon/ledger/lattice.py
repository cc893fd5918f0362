"""Commitment to the whole state that changes with the difference, not with the size: a lattice hash.

The accumulator is a vector of 1,024 numbers modulo 2^16: the sum of one BLAKE3-expanded vector per entry (LtHash16,
Lewi et al., ePrint 2019/227). Adding and taking away commute, so the order of changes does not matter. Finding two
states with one accumulator is a short-vector problem. There are no inclusion proofs: state is checked by replay.
"""

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Final

from koinon.crypto.hash import tagged_hash
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Hash32

if TYPE_CHECKING:
    import numpy as np
    from blake3 import blake3
    from numpy.typing import NDArray

LANES: Final = 1024
ACCUMULATOR_BYTES: Final = 2 * LANES
EMPTY_ACCUMULATOR: Final = bytes(ACCUMULATOR_BYTES)
_BATCH: Final = 256

_ROOT_DOMAIN: Final = "koinon/lattice/root/1"
_ENTRY_DOMAINS: Final = {
    b"a": "koinon 2026 lattice hash: account",
    b"s": "koinon 2026 lattice hash: storage slot",
    b"c": "koinon 2026 lattice hash: code",
}

Change = tuple[bytes, bytes | None, bytes | None]
"""Key, value before, value after; None where there was or is none. The key's first byte names its kind."""


def updated(accumulator: bytes, changes: Iterable[Change]) -> bytes:
    """The accumulator after the changes; 2,048 bytes, little-endian lanes.

    Raises:
        InvalidInput: the accumulator has another length, or a key is of no known kind.
    """
    import numpy as np

    if len(accumulator) != ACCUMULATOR_BYTES:
        raise InvalidInput(f"a state accumulator has {ACCUMULATOR_BYTES} bytes; got {len(accumulator)}")
    total: NDArray[np.uint16] = np.frombuffer(accumulator, "<u2").copy()
    come: list[bytes] = []
    gone: list[bytes] = []
    for key, before, after in changes:
        if before == after:
            continue
        if before is not None:
            gone.append(_expanded(key, before))
        if after is not None:
            come.append(_expanded(key, after))
        # Many vectors in one pass of numpy: one at a time, its overhead is as large as the hash.
        if len(come) + len(gone) >= _BATCH:
            total += _sum(come) - _sum(gone)
            come, gone = [], []
    total += _sum(come) - _sum(gone)
    return total.tobytes()


def root(accumulator: bytes) -> Hash32:
    """What a header carries: the hash of the accumulator."""
    return tagged_hash(_ROOT_DOMAIN, accumulator)


def _sum(vectors: list[bytes]) -> "NDArray[np.uint16]":
    import numpy as np

    rows = np.frombuffer(b"".join(vectors), "<u2").reshape(-1, LANES)
    total: NDArray[np.uint16] = rows.sum(axis=0, dtype=np.uint16)
    return total


def _expanded(key: bytes, value: bytes) -> bytes:
    begin = _beginnings().get(key[:1])
    if begin is None:
        raise InvalidInput(f"a state key starts with a, s or c; got {key[:1]!r}")
    hasher = begin.copy()
    hasher.update(len(key).to_bytes(4, "big") + key + value)
    return hasher.digest(ACCUMULATOR_BYTES)


@cache
def _beginnings() -> "dict[bytes, blake3]":
    """Hashers that have taken in the domain of each kind of entry, to be copied."""
    from blake3 import blake3

    return {kind: blake3(derive_key_context=domain) for kind, domain in _ENTRY_DOMAINS.items()}
