"""Largest, smallest, sorted, looked up: what depends on the order of secret numbers, done without showing any of it.

Which numbers are compared with which never depends on the numbers: tournaments for extremes, Batcher's odd-even merge
network for sorting (K. E. Batcher, "Sorting networks and their applications", 1968). Putting two in order takes
at most four rounds, however many pairs there are; one more where something else is carried along.
"""

from collections.abc import Sequence
from math import ceil, log2

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, concatenate, constant_like, exchange, maximum, ordered, where
from koinon.privacy.graph import Node
from koinon.privacy.secret import shuffled


def largest(x: SecretArray, axis: int = -1) -> SecretArray:
    """Largest number along an axis: four rounds for every doubling of its length."""
    table = _last(x, axis)
    while (count := table.shape[-1]) > 1:
        even = count - count % 2
        best = maximum(table[..., 0:even:2], table[..., 1:even:2])
        table = concatenate([best, table[..., even:]], -1) if count % 2 else best
    return table[..., 0]


def smallest(x: SecretArray, axis: int = -1) -> SecretArray:
    """Smallest number along an axis."""
    return -largest(-x, axis)


def index_of_largest(x: SecretArray, axis: int = -1) -> SecretArray:
    """Position of the largest number along an axis, as a secret whole number; the first of equal ones."""
    table = _last(x, axis)
    return _champion(table, (_positions(table),))[1]


def index_of_smallest(x: SecretArray, axis: int = -1) -> SecretArray:
    """Position of the smallest number along an axis; the first of equal ones."""
    return index_of_largest(-x, axis)


def sort(x: SecretArray, axis: int = -1, carried: Sequence[SecretArray] = ()) -> tuple[SecretArray, ...]:
    """The numbers in ascending order, and whatever was ``carried`` with them in the same order. Equal ones may swap.

    Args:
        carried: arrays of x's shape.

    Returns:
        (sorted, *carried), of x's shape: ½ ⌈log₂ n⌉ (⌈log₂ n⌉ + 1) stages of four rounds, or five where
        something is carried.
    """
    columns = [_last(x, axis), *(_last(other, axis) for other in carried)]
    if any(column.shape != columns[0].shape for column in columns):
        raise InvalidInput("what is carried through a sort has the shape of what is sorted")
    count = columns[0].shape[-1]
    for low, high in _stages(count):
        columns = _exchanged(columns, low, high)
    place = axis % x.ndim
    back = [*range(place), x.ndim - 1, *range(place, x.ndim - 1)]
    return tuple(column.transpose(*back) for column in columns)


def shuffle(rows: SecretArray) -> SecretArray:
    """The rows (along axis 0) in a uniformly random order that nobody knows, not even the four: four rounds."""
    if not rows.ndim:
        raise InvalidInput("one number has no rows to shuffle")
    return SecretArray(Node((rows.node,), rows.shape, shuffled), rows.precision, is_bit=rows.is_bit)


def quantile(x: SecretArray, fraction: float, axis: int = -1) -> SecretArray:
    """The number below which ``fraction`` of them lie, interpolated linearly as NumPy does by default."""
    if not 0.0 <= fraction <= 1.0:
        raise InvalidInput(f"a quantile is for a fraction from 0 to 1; got {fraction:g}")
    (ordered,) = sort(_last(x, axis))
    place = fraction * (ordered.shape[-1] - 1)
    below = int(place)
    above = min(below + 1, ordered.shape[-1] - 1)
    lower, upper = ordered[..., below], ordered[..., above]
    return lower if place == below else lower + (upper - lower).times(place - below)


def median(x: SecretArray, axis: int = -1) -> SecretArray:
    """The middle number, or the mean of the two in the middle."""
    return quantile(x, 0.5, axis)


def one_hot(codes: SecretArray, count: int) -> SecretArray:
    """Bits (*shape, count): 1 at the position each code from 0 to count − 1 names. Any other code gives no 1.

    Args:
        codes: whole numbers.
    """
    edges = np.arange(count + 1) - 0.5
    reached = codes.reshape(*codes.shape, 1) > edges
    lower, upper = reached[..., :-1], reached[..., 1:]
    return lower & ~upper


def looked_up(codes: SecretArray, table: "SecretArray | np.ndarray") -> SecretArray:
    """table[code] for every secret code: one comparison with every row of the table, and one product.

    Args:
        codes: whole numbers (n,), each below the table's length.
        table: (m,) or (m, d), secret or public.
    """
    if codes.ndim != 1 or table.ndim not in (1, 2):
        raise InvalidInput(f"codes of shape {codes.shape} cannot be looked up in a table of shape {table.shape}")
    return one_hot(codes, table.shape[0]) @ table


def _champion(table: SecretArray, carried: Sequence[SecretArray]) -> tuple[SecretArray, ...]:
    """The largest along the last axis and what was carried with it; neighbours meet, so the first of equals wins."""
    columns = [table, *carried]
    while (count := columns[0].shape[-1]) > 1:
        even = count - count % 2
        first, second = [c[..., 0:even:2] for c in columns], [c[..., 1:even:2] for c in columns]
        wins = first[0] < second[0]
        best = [where(wins, two, one) for one, two in zip(first, second, strict=True)]
        unmatched = [column[..., even:] for column in columns]
        columns = [concatenate(both, -1) for both in zip(best, unmatched, strict=True)] if count % 2 else best
    return tuple(column[..., 0] for column in columns)


def _exchanged(columns: Sequence[SecretArray], low: np.ndarray, high: np.ndarray) -> list[SecretArray]:
    """One stage of a sorting network: where a number at ``high`` is below its partner at ``low``, the two swap."""
    count = columns[0].shape[-1]
    rest = np.setdiff1d(np.arange(count), np.concatenate([low, high]))
    back = np.argsort(np.concatenate([low, high, rest]))
    pairs = [(column[..., low], column[..., high]) for column in columns]
    if len(pairs) == 1:
        swapped = [ordered(*pairs[0])]
    else:
        swap = pairs[0][1] < pairs[0][0]
        swapped = [exchange(swap, *pair) for pair in pairs]
    return [
        concatenate([*pair, column[..., rest]], -1)[..., back] for pair, column in zip(swapped, columns, strict=True)
    ]


def _stages(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Index pairs of each stage of merge exchange, for any number of elements (Knuth, TAOCP 3, 5.2.2, algorithm M)."""
    stages = []
    top = 1 << max(0, ceil(log2(max(count, 1))) - 1)
    part = top
    while part and count > 1:
        width, offset, distance = top, 0, part
        while True:
            low = np.array([i for i in range(count - distance) if i & part == offset], np.intp)
            stages.append((low, low + distance))
            if width == part:
                break
            distance, width, offset = width - part, width >> 1, part
        part >>= 1
    return [(low, high) for low, high in stages if low.size]


def _last(x: SecretArray, axis: int) -> SecretArray:
    """The same array with ``axis`` last."""
    if not x.ndim or not -x.ndim <= axis < x.ndim:
        raise InvalidInput(f"an array of shape {x.shape} has no axis {axis}")
    place = axis % x.ndim
    if not x.shape[place]:
        raise InvalidInput("no numbers: there is nothing to order along an empty axis")
    return x.transpose(*(other for other in range(x.ndim) if other != place), place)


def _positions(table: SecretArray) -> SecretArray:
    return constant_like(table, np.arange(table.shape[-1])).broadcast_to(*table.shape)
