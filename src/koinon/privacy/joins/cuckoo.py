"""Cuckoo hashing: every item in one of three bins of its own choice, at most one item in a bin.

Pagh and Rodler, "Cuckoo hashing" (ESA 2001); three choices and no stash as in Pinkas, Schneider and Zohner, "Scalable
private set intersection based on OT extension" (2018), section 6.
"""

from typing import Final

import numpy as np

from koinon.kernel.errors import Unavailable

CHOICES: Final = 3
EMPTY: Final = -1
_MOST_PASSES: Final = 5_000


def bins_for(count: int) -> int:
    """How many bins ``count`` items get, a multiple of 8, so that placing them fails about once in 2⁴⁰ sets."""
    # Large tables fail at 1.27 items' worth of bins about that rarely; in small ones, a handful of items that share
    # all their choices is what fails, and plenty of room makes that rare.
    return (max(count * 131 // 100, min(2 * count, 1 << 18)) + 71) // 8 * 8


def place(choices: np.ndarray, bins: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Place every item.

    Args:
        choices: int64 of shape (items, 3): the bins each item may be in.
        bins: how many there are.
        random: decides who moves where.

    Returns:
        The item in each bin or EMPTY, int64 of shape (bins,); and which of its choices each item is in, uint8.

    Raises:
        Unavailable: these items find no place, which another hashing would give them.
    """
    table = np.full(bins, EMPTY, np.int64)
    chosen = np.zeros(len(choices), np.uint8)
    moving = np.arange(len(choices))
    for _ in range(_MOST_PASSES):
        if not moving.size:
            return table, chosen
        wanted = choices[moving, chosen[moving]]
        before = table[wanted]
        table[wanted] = moving
        moved_in = table[wanted] == moving
        moving = np.concatenate((moving[~moved_in], np.unique(before[before != EMPTY])))
        steps = random.integers(1, CHOICES, len(moving), np.uint8)
        chosen[moving] = (chosen[moving] + steps) % CHOICES
    raise Unavailable("the items found no places in the table; begin again, which hashes them anew")
