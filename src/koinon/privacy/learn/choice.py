"""The best of many secret scores, as bits, in few rounds.

A tournament of pairs over 300 scores takes nine times eleven rounds. Here groups of about √k scores play all against
all at once, then the winners do: 2 · (10 + log₂ √k) rounds for k^1.5 / 2 + k / 2 comparisons. Which scores meet never
depends on them.
"""

from math import ceil, sqrt

import numpy as np

from koinon.privacy.arrays import SecretArray, bounded, concatenate, constant_like, product
from koinon.privacy.secret import Product


def one_hot_of_largest(scores: SecretArray, least: float) -> SecretArray:
    """Bits (m, k): 1 at the largest of each of the m rows of scores; the first of equal ones.

    Args:
        scores: (m, k).
        least: public, below every score.
    """
    rows, count = scores.shape
    group = ceil(sqrt(count))
    groups = ceil(count / group)
    missing = groups * group - count
    padded = scores
    if missing:
        padded = concatenate([scores, constant_like(scores, np.full((rows, missing), least))], 1)
    table = padded.reshape(rows, groups, group)
    within = _unbeaten(table)
    best = product(within.transpose(2, 0, 1), table.transpose(2, 0, 1), Product.COLUMN_DOT)
    among = _unbeaten(best.reshape(rows, 1, groups)).reshape(rows, groups, 1)
    return _bits(within * among).reshape(rows, groups * group)[:, :count]


def _unbeaten(table: SecretArray) -> SecretArray:
    """Bits (m, g, k): which of k scores in each group is the largest, the first of equal ones."""
    count = table.shape[-1]
    if count == 1:
        return constant_like(table, np.ones(table.shape))
    first, second = np.triu_indices(count, 1)
    later_wins = table[..., first] < table[..., second]
    both = concatenate([~later_wins, later_wins], -1)
    matches = np.empty((count, count - 1), np.intp)
    pairs = len(first)
    for place in range(count):
        matches[place] = np.concatenate([pairs + np.flatnonzero(second == place), np.flatnonzero(first == place)])
    wins = both[..., matches]
    while (left := wins.shape[-1]) > 1:
        even = left - left % 2
        halves = _bits(wins[..., 0:even:2] * wins[..., 1:even:2])
        wins = concatenate([halves, wins[..., even:]], -1) if left % 2 else halves
    return wins[..., 0]


def _bits(array: SecretArray) -> SecretArray:
    return bounded(array, "BIT", 1.0)
