"""Finding received values among those that are sought."""

from dataclasses import dataclass

import numpy as np

from koinon.kernel.errors import Unavailable
from koinon.privacy.joins.pseudorandom import VALUE_BYTES


@dataclass(frozen=True)
class Sought:
    """The asker's values under one choice, in ascending order, and whose they are."""

    high: np.ndarray
    low: np.ndarray
    items: np.ndarray


def sought(values: np.ndarray, items: np.ndarray) -> Sought:
    """``values`` of shape (n, 12) of these items. Raises Unavailable where two of them are equal in eight bytes."""
    high, low = _halves(values)
    order = np.argsort(high)
    if (np.diff(high[order]) == 0).any():
        raise Unavailable("two items have one value, which happens once in many million sessions; begin again")
    return Sought(high[order], low[order], items[order])


def found(among: Sought, received: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Which of the received values are sought: their places in the batch, and the items they belong to."""
    if not len(among.high):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    high, low = _halves(np.frombuffer(received, np.uint8).reshape(-1, VALUE_BYTES))
    nearest = np.minimum(np.searchsorted(among.high, high), len(among.high) - 1)
    places = np.flatnonzero((among.high[nearest] == high) & (among.low[nearest] == low))
    return places, among.items[nearest[places]]


def _halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high = np.ascontiguousarray(values[:, :8]).view("<u8").reshape(-1)
    return high, np.ascontiguousarray(values[:, 8:]).view("<u4").reshape(-1)
