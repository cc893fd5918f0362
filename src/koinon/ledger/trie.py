"""Root of a Merkle-Patricia trie (yellow paper, appendix D).

Other chains commit to their transactions, receipts and states this way; our own chain does not.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Final

from koinon.crypto.hash import keccak256
from koinon.kernel.ids import Hash32
from koinon.ledger import rlp

EMPTY_TRIE_ROOT: Final = keccak256(rlp.encode(b""))
_HASHED_FROM: Final = 32

_Pair = tuple[bytes, bytes]
"""Nibbles still to walk, one byte each, and the value."""


def trie_root(entries: Iterable[tuple[bytes, bytes]]) -> Hash32:
    """Root over keys, each once, and their values, which are not empty."""
    pairs: list[_Pair] = sorted((_nibbles(key), value) for key, value in entries)
    return keccak256(rlp.encode(_node(pairs))) if pairs else EMPTY_TRIE_ROOT


def _node(pairs: list[_Pair]) -> list[object]:
    if len(pairs) == 1:
        path, value = pairs[0]
        return [_compact(path, leaf=True), value]
    shared = _shared(pairs[0][0], pairs[-1][0])
    if shared:
        inner = [(path[shared:], value) for path, value in pairs]
        return [_compact(pairs[0][0][:shared], leaf=False), _reference(_node(inner))]
    branch: list[object] = [b""] * 17
    for nibble, below in groupby(pairs, key=lambda pair: pair[0][:1]):
        if nibble:
            branch[nibble[0]] = _reference(_node([(path[1:], value) for path, value in below]))
        else:
            branch[16] = next(below)[1]
    return branch


def _reference(node: list[object]) -> object:
    encoded = rlp.encode(node)
    return keccak256(encoded) if len(encoded) >= _HASHED_FROM else node


def _compact(path: bytes, *, leaf: bool) -> bytes:
    flag = 2 * leaf + len(path) % 2
    nibbles = [flag, *path] if len(path) % 2 else [flag, 0, *path]
    return bytes(16 * high + low for high, low in zip(nibbles[::2], nibbles[1::2], strict=True))


def _nibbles(key: bytes) -> bytes:
    return bytes(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _shared(first: bytes, last: bytes) -> int:
    count = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        count += 1
    return count
