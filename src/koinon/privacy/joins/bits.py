"""Matrices of bits, packed eight to a byte, the lowest bit first."""

from typing import Final

import numpy as np

_SWAPS: Final = (
    (np.uint64(7), np.uint64(0x00AA00AA00AA00AA)),
    (np.uint64(14), np.uint64(0x0000CCCC0000CCCC)),
    (np.uint64(28), np.uint64(0x00000000F0F0F0F0)),
)


def transposed(packed: np.ndarray) -> np.ndarray:
    """The transpose of a bit matrix.

    Args:
        packed: uint8, shape (rows, columns / 8); rows a multiple of 8.

    Returns:
        uint8, shape (columns, rows / 8).
    """
    rows, width = packed.shape
    # Blocks of 8 × 8 bits become one word each, are turned over by three swaps (Warren, Hacker's Delight, 7-3), and
    # only whole bytes have to change places.
    blocks = np.ascontiguousarray(packed.reshape(rows // 8, 8, width).transpose(2, 0, 1)).view(np.uint64)
    for distance, mask in _SWAPS:
        moved = (blocks ^ (blocks >> distance)) & mask
        blocks ^= moved
        blocks ^= moved << distance
    turned = blocks.view(np.uint8).reshape(width, rows // 8, 8).transpose(0, 2, 1)
    return np.ascontiguousarray(turned).reshape(8 * width, rows // 8)
