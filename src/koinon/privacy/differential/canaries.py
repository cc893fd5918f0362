"""Does a model remember single rows? Planted rows tell before anything is opened.

Every owner plants rows that look like its own (each number is drawn from that column of its rows) with labels of fair
coins. Nobody can know those labels but from the rows themselves. A model that gives them back has memorised: a nearest
neighbour or a table of rows gives back all of them, a fitted line about half.

The measure is the exposure of Carlini et al., "The Secret Sharer" (USENIX Security 2019): how many bits of the 2ᵐ
possible label vectors the model rules out, log2(2ᵐ / rank), where the rank is how many vectors agree with its answers
at least as well as the planted one. Under no memorisation an exposure above b bits has a probability of at most 2⁻ᵇ.

The count is made inside the joint computation. Where the exposure is too large, every output is multiplied by 0 before
it is opened, and ``released`` says so.
"""

from functools import cache
from math import comb, log2
from typing import Final

import numpy as np

from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.computation import Revealed, reveal

MOST_EXPOSURE: Final = 13.0
"""Bits. A model that memorises nothing is held back once in 8,192 runs."""
LEAST_PLANTED: Final = 24
"""Over all owners; with fewer, a model that gives back nearly every label would not stand out."""
MOST_PLANTED: Final = 4096
RELEASED: Final = "released"
"""Name of the output that says whether the others left: 1 or 0."""


def plant(features: np.ndarray, labels: np.ndarray, count: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """An owner's rows with ``count`` canaries after them.

    Args:
        features: (n, d).
        labels: (n,) of 0 and 1.

    Raises:
        InvalidInput: fewer than two rows to draw from, or no count.
    """
    rows, width = features.shape
    if rows < 2 or not 1 <= count <= MOST_PLANTED:
        raise InvalidInput(f"an owner plants 1 to {MOST_PLANTED} canaries among at least two rows; got {count}, {rows}")
    picked = np.frombuffer(rng.bytes(8 * count * width), "<u8").reshape(count, width) % np.uint64(rows)
    canaries = np.take_along_axis(features, picked.astype(np.int64), 0)
    coins = np.frombuffer(rng.bytes(count), np.uint8) & 1
    return np.concatenate([features, canaries]), np.concatenate([labels, coins.astype(np.float64)])


@cache
def exposure(hits: int, planted: int) -> float:
    """Bits of the planted label vector that a model gives away which answers ``hits`` of its labels right."""
    return planted - log2(sum(comb(planted, right) for right in range(hits, planted + 1)))


def most_hits(planted: int) -> int:
    """The most right answers at which a model is released. Raises InvalidInput for too few or too many canaries."""
    if not LEAST_PLANTED <= planted <= MOST_PLANTED:
        raise InvalidInput(f"all owners together plant {LEAST_PLANTED} to {MOST_PLANTED} canaries; got {planted}")
    return max(hits for hits in range(planted + 1) if exposure(hits, planted) <= MOST_EXPOSURE)


def released(answers: SecretArray, labels: SecretArray, **outputs: SecretArray) -> Revealed:
    """Open ``outputs`` if the model does not remember the canaries, else zeros; and ``released``, which of the two.

    Args:
        answers: (m,) the model's answer for every canary: positive for the label 1, else not.
        labels: (m,) planted labels, 1 or −1.

    Raises:
        InvalidInput: shapes that do not belong together, or too few canaries.
    """
    if answers.ndim != 1 or answers.shape != labels.shape:
        raise InvalidInput(f"each canary has one answer and one label; got {answers.shape} and {labels.shape}")
    allowed = most_hits(answers.size)
    hits = (~((answers > 0) ^ (labels > 0))).sum()
    passed = hits < allowed + 1
    return reveal(**{name: array * passed for name, array in outputs.items()}, **{RELEASED: passed.reshape(1)})
