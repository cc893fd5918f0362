"""Counts of groups that are too small to be shown, taken out before anything is opened.

A count below the least is opened as 0, like a group without anybody. The table's total is public, so a reader could
still subtract: where all hidden counts together stay below the least, the smallest count that would be shown is hidden
too (secondary suppression; L. Willenborg, T. de Waal, "Elements of Statistical Disclosure Control", 2001, chapter 4).
"""

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, where
from koinon.privacy.ordering import index_of_smallest, one_hot


def check_minimum(minimum: int, people: int) -> None:
    """Refuse a least group size that nothing or everything passes. Raises InvalidInput."""
    if not 1 <= minimum <= people:
        raise InvalidInput(f"a minimum group size is from 1 to the {people} people of the study; got {minimum}")


def shown(counts: SecretArray, minimum: int, people: int) -> SecretArray:
    """(…, groups) whole counts that sum to ``people`` along the last axis → the same with small groups as 0."""
    if minimum == 1:
        return counts
    small = counts < minimum
    hidden = where(small, counts, 0).sum(-1)
    # Larger than any count where a group is hidden already, so that the smallest of the others is found.
    next_smallest = one_hot(index_of_smallest(where(small, people + 1, counts)), counts.shape[-1])
    traceable = (hidden > 0) & (hidden < minimum)
    also = next_smallest & traceable.reshape(*traceable.shape, 1)
    return where(small | also, 0, counts)
