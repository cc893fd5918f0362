"""Binary Merkle trees over Keccak-256, simple enough for a contract to check.

Leaf ``keccak256(0x00 || leaf)``, node ``keccak256(0x01 || left || right)``; the last node of an odd level moves up as
it is (RFC 6962's shape, so no leaf is ever counted twice). The root is ``keccak256(0x02 || count as 8 bytes || top)``:
it fixes the number of leaves too, or else one leaf could be shown at two positions. The empty tree has 32 zero bytes as
top.
"""

from collections.abc import Sequence
from typing import Final

from koinon.crypto.hash import keccak256
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import ZERO_HASH, Hash32

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_ROOT: Final = b"\x02"
_COUNT_BYTES: Final = 8


def root(leaves: Sequence[bytes]) -> Hash32:
    """Root over ``leaves`` in order; any lengths, any number from 0."""
    level = _leaf_level(leaves)
    while len(level) > 1:
        level = _next_level(level)
    return _seal(level[0] if level else ZERO_HASH, len(leaves))


def prove(leaves: Sequence[bytes], index: int) -> tuple[Hash32, ...]:
    """The siblings on the way from leaf ``index`` to the top, lowest first; at most ceil(log2(count)) of them.

    Raises:
        InvalidInput: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise InvalidInput(f"leaf {index} does not exist in a tree of {len(leaves)}")
    siblings: list[Hash32] = []
    level = _leaf_level(leaves)
    while len(level) > 1:
        if index ^ 1 < len(level):
            siblings.append(level[index ^ 1])
        level = _next_level(level)
        index //= 2
    return tuple(siblings)


def verify(tree_root: bytes, leaf: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """Whether ``leaf`` is number ``index`` of ``count`` under ``tree_root``; False for any malformed proof."""
    if not 0 <= index < count < 1 << 8 * _COUNT_BYTES:
        return False
    remaining = iter(proof)
    node, width = keccak256(_LEAF + leaf), count
    while width > 1:
        if index ^ 1 < width:
            sibling = next(remaining, None)
            if sibling is None or len(sibling) != len(ZERO_HASH):
                return False
            node = keccak256(_NODE + (sibling + node if index % 2 else node + sibling))
        width = (width + 1) // 2
        index //= 2
    return next(remaining, None) is None and _seal(node, count) == tree_root


def _leaf_level(leaves: Sequence[bytes]) -> list[Hash32]:
    return [keccak256(_LEAF + leaf) for leaf in leaves]


def _next_level(level: list[Hash32]) -> list[Hash32]:
    above = [keccak256(_NODE + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        above.append(level[-1])
    return above


def _seal(top: Hash32, count: int) -> Hash32:
    return keccak256(_ROOT + count.to_bytes(_COUNT_BYTES, "big") + top)
