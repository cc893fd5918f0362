"""A join inside the computation: rows of the same person side by side, and nobody learns who is in both.

Owners replace identifiers by pseudonyms: a hash under a key that only the owners know, so that the committee, even one
member with all it sees, could not test a guess. Both tables are sorted by pseudonym, without showing the order, and
each row meets its neighbour: the two belong together where left and right have one pseudonym. What comes out has
n + m − 1 places for n and m rows, each with a secret bit that says whether it holds a pair; how many there are is
secret too. A third table meets the places of the first two in the same way, where a place without a pair has a key that
nobody has, and so on: a place then holds rows of one person from every table, or nothing.

Several owners may hold rows of one table. A person whom two of them have counts once, with the row of either.

Cost, for every table after the first: ½ ⌈log₂(n + m)⌉² stages of one comparison and one exchange. Two different
identifiers of k in all get one pseudonym with a probability of at most k² / 2⁵⁸ (three in a hundred million for
100,000).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from blake3 import blake3

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, clip, concatenate, constant_like, reciprocal, where
from koinon.privacy.graph import Node
from koinon.privacy.ordering import sort
from koinon.privacy.secret import Claim, Secret
from koinon.privacy.statistics import ascending
from koinon.wire.committee import Column

DIGITS: Final = 3
_DIGIT_BITS: Final = 19
_KEY_BITS: Final = 58
"""Fraction bits of a pseudonym in one word: the distance of two different ones is a multiple of 4 · 2⁻⁵⁸."""
_SHARED_BITS: Final = 20
_FEWEST_SHARE: Final = 1 << 10
_STEP: Final = 2.0**-_KEY_BITS
"""What is added to the key of a right row, so that of equal ones the left comes first."""
_OUT_OF_REACH: Final = 1.25
"""Above the word of any three digits in [−1, 1]."""
_APART: Final = 2.0**-40
_MOST_APART: Final = 1 << 24
COLUMNS: Final = tuple(Column(f"pseudonym {number}", -1.0, 1.0) for number in range(DIGITS))
"""The columns in which an owner shares pseudonyms."""


class Pairs(NamedTuple):
    """What a join of two tables gives.

    Attributes:
        left: (n + m − 1, p): rows of the left table where ``both`` is 1, else something of no meaning.
        right: (n + m − 1, q): the rows of the same people in the right table.
        both: whether a place holds a pair.
    """

    left: SecretArray
    right: SecretArray
    both: SecretArray


class Met(NamedTuple):
    """What a join of two or more tables gives, k places for rows of one person each.

    Attributes:
        tables: for each table its rows (k, columns) where ``all`` is 1, else something of no meaning.
        all: (k,) whether a place holds a row of every table.
    """

    tables: tuple[SecretArray, ...]
    all: SecretArray


def pseudonyms(identifiers: Sequence[str], key: bytes) -> np.ndarray:
    """What an owner shares in place of identifiers: float64 of shape (n, 3), for ``COLUMNS``.

    Args:
        identifiers: of the rows, each once.
        key: 32 bytes that the owners agreed on and nobody else knows.

    Raises:
        InvalidInput: identifiers that are empty or repeated; none of them is quoted.
    """
    if not identifiers or not all(identifiers):
        raise InvalidInput("every row needs an identifier that is not empty")
    if repeated := len(identifiers) - len(set(identifiers)):
        raise InvalidInput(f"{repeated} identifiers occur more than once; keep one row for each")
    digests = b"".join(blake3(identifier.encode(), key=key).digest(length=8) for identifier in identifiers)
    words = np.frombuffer(digests, "<u8")[:, None] >> np.arange(0, DIGITS * _DIGIT_BITS, _DIGIT_BITS).astype(np.uint64)
    half = 1 << (_DIGIT_BITS - 1)
    return ((words % np.uint64(2 * half)).astype(np.float64) - half) / half


def join(left_key: SecretArray, left: SecretArray, right_key: SecretArray, right: SecretArray) -> Pairs:
    """Put the rows of two tables side by side where their pseudonyms are equal; as ``meet`` of two."""
    tables, both = meet([(left_key, left), (right_key, right)])
    return Pairs(tables[0], tables[1], both)


def meet(tables: Sequence[tuple[SecretArray, SecretArray]]) -> Met:
    """Put the rows of two or more tables side by side where their pseudonyms are equal.

    Args:
        tables: for each the pseudonyms (n, 3), as ``pseudonyms`` makes them, shared with 20 fraction bits, and the rows
            (n, p). Where a table has a pseudonym more than once, one of its rows is taken.

    Returns:
        As many places as there are rows in all, less one for every table after the first.

    Raises:
        InvalidInput: fewer than two tables, or shapes that do not belong together.
    """
    if len(tables) < 2:
        raise InvalidInput("a join needs two tables or more")
    for keys, rows in tables:
        if keys.shape != (keys.shape[0], DIGITS) or rows.ndim != 2 or rows.shape[0] != keys.shape[0]:
            raise InvalidInput(f"rows of shape {rows.shape} cannot be joined by pseudonyms of shape {keys.shape}")
    (first_key, first), *others = tables
    order, held = _in_one_word(first_key), [first]
    everybody: SecretArray | None = None
    for keys, rows in others:
        if everybody is not None:
            order = _only(everybody, order)
        order, held, everybody = _beside(order, held, _in_one_word(keys), rows)
    assert everybody is not None
    return Met(tuple(held), everybody)


def _beside(
    left_order: SecretArray, left: Sequence[SecretArray], right_order: SecretArray, right: SecretArray
) -> tuple[SecretArray, list[SecretArray], SecretArray]:
    """Key and rows of each place, and whether it holds a left row and a right one of the same person."""
    counts = left_order.shape[0], right_order.shape[0]
    sides = np.repeat([0.0, 1.0], counts)
    order = concatenate([left_order, right_order]) + sides * _STEP
    columns = [_below(table[:, number], counts[1]) for table in left for number in range(table.shape[1])]
    columns += [_above(right[:, number], counts[0]) for number in range(right.shape[1])]
    ordered, is_right, *carried = sort(order, carried=[constant_like(order, sides), *columns])
    # A pair is one row of either table. From keys alone an owner that shares words no hash gives, one step apart, would
    # make pairs of its own rows, and with them a group of the least size around somebody else's single row.
    both = (ordered[1:] - ordered[:-1] < 1.5 * _STEP) & (is_right[1:] & ~is_right[:-1])
    width = len(carried) - right.shape[1]
    lefts = iter([column[:-1] for column in carried[:width]])
    tables = [_columns([next(lefts) for _ in range(table.shape[1])]) for table in left]
    return ordered[:-1], [*tables, _columns([column[1:] for column in carried[width:]])], both


def _only(both: SecretArray, order: SecretArray) -> SecretArray:
    """The keys of the places with a pair; every other place has a key of its own above all that can be shared."""
    if both.shape[0] > _MOST_APART:
        raise InvalidInput(f"a join has at most {_MOST_APART} places")
    return where(both, order, constant_like(order, _OUT_OF_REACH + _APART * np.arange(1, both.shape[0] + 1)))


def neutral(rows: SecretArray, both: SecretArray, least: int, reach: float | None = None) -> SecretArray:
    """The rows with the mean of the pairs in every place that holds none.

    Centred moments are then those of the pairs times a factor that is the same for all columns, so that correlation,
    least squares and principal components come out as if only the pairs were there.

    Args:
        least: how many pairs there are at least; public, as the study's smallest group is.
        reach: what no number of the rows exceeds in size; the mean, a little off, does not exceed it either.
    """
    mean = masked_mean(rows, both, least)
    if reach is not None:
        mean = clip(mean, -reach, reach)
    return where(both.reshape(-1, 1), rows, mean.reshape(1, -1).broadcast_to(*rows.shape))


def masked_mean(rows: SecretArray, both: SecretArray, least: int) -> SecretArray:
    """Mean of every column over the pairs. With fewer pairs than ``least`` the result has no meaning."""
    if not 1 <= least <= both.shape[0]:
        raise InvalidInput(f"among {both.shape[0]} places there can be no {least} pairs")
    if least * _FEWEST_SHARE < both.shape[0]:
        raise InvalidInput(f"{least} pairs among {both.shape[0]} places are too few to divide by; bring fewer rows")
    mean = (rows * both.reshape(-1, 1)).mean(0) / both.mean()

    def bounded(quotient: Secret, numbers: Secret) -> Secret:
        return quotient.within(Claim("MASKED-MEAN", 1.02 * numbers.bound + 2.0**-10))

    return SecretArray(Node((mean.node, rows.node), mean.shape, bounded), mean.precision)


def masked_variance(rows: SecretArray, both: SecretArray, least: int) -> SecretArray:
    """Variance of every column over the pairs, with their number less one as divisor. As ``masked_mean`` otherwise."""
    centred = rows - masked_mean(rows, both, least)
    count = both.shape[0]
    others = reciprocal(both.mean() - 1.0 / count, 1.0 / _FEWEST_SHARE).times(1.0 / count)
    return masked_mean(centred * centred, both, least) * (others + 1.0)


def masked_histogram(values: SecretArray, both: SecretArray, edges: Sequence[float]) -> SecretArray:
    """As ``statistics.histogram``, of the pairs only."""
    bounds = ascending(edges, 2)
    reached = (values.reshape(-1, 1) >= bounds[:-1]) & both.reshape(-1, 1)
    above = (values.reshape(-1, 1) > bounds[-1:]) & both.reshape(-1, 1)
    counts = concatenate([reached.sum(0), above.sum(0)])
    return counts[:-1] - counts[1:]


def _in_one_word(keys: SecretArray) -> SecretArray:
    def composed(digits: Secret) -> Secret:
        surplus = _KEY_BITS - _SHARED_BITS
        high, middle, low = (digits[:, number] for number in range(DIGITS))
        lower = low.halved(2 * _DIGIT_BITS) + middle.halved(_DIGIT_BITS).widened(surplus - _DIGIT_BITS)
        return high.widened(surplus) + lower

    if keys.precision != _SHARED_BITS:
        raise InvalidInput(f"pseudonyms are shared with {_SHARED_BITS} fraction bits; these have {keys.precision}")
    return SecretArray(Node((keys.node,), keys.shape[:1], composed), _KEY_BITS)


def _below(column: SecretArray, count: int) -> SecretArray:
    return concatenate([column, constant_like(column, np.zeros(count))])


def _above(column: SecretArray, count: int) -> SecretArray:
    return concatenate([constant_like(column, np.zeros(count)), column])


def _columns(columns: Sequence[SecretArray]) -> SecretArray:
    return concatenate([column.reshape(-1, 1) for column in columns], 1)
