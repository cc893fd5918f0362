"""Shapley values: what each owner adds to a joint model, averaged over all orders in which owners could have come.

Up to five owners all 2ⁿ coalitions are trained and the value is exact; beyond, random orders are drawn (Castro, Gómez
and Tejada, 2009) and the value has an interval. Either way the value is a public linear map of the coalitions'
utilities, so an engine can apply it to utilities that nobody sees.

A coalition is a bit mask: bit i is set where owner i takes part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import Final

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import ALL_BASIS_POINTS, BasisPoints

WORTH: Final = "worth"
"""Name of the output with what each owner's rows add; a study that opens it shares revenue by it."""
MOST_EXACT: Final = 5
MOST_OWNERS: Final = 16
DEFAULT_ORDERS: Final = 24
_ORDER_DOMAIN: Final = "koinon/valuation/order/1"


@dataclass(frozen=True)
class Plan:
    """Which coalitions are trained and how values follow.

    Attributes:
        owners: n.
        coalitions: masks, ascending, without the empty one, whose utility is 0.
        marginals: (orders, n, coalitions): the utility an owner adds in each order is a row of it times the utilities.
            For an exact plan there is one "order", the weighted mean over all n! of them.
    """

    owners: int
    coalitions: tuple[int, ...]
    marginals: np.ndarray

    @property
    def exact(self) -> bool:
        return self.owners <= MOST_EXACT

    def values(self, utilities: np.ndarray) -> np.ndarray:
        """(n,) values of (coalitions,) utilities. They add up to the utility of all owners together."""
        return np.asarray(self.marginals.mean(0) @ utilities)

    def half_widths(self, utilities: np.ndarray) -> np.ndarray:
        """(n,) half-widths of 95 % intervals, 0 where the plan is exact."""
        if self.exact:
            return np.zeros(self.owners)
        added = self.marginals @ utilities
        return np.asarray(1.96 * added.std(0, ddof=1) / len(added) ** 0.5)


def plan(owners: int, orders: int = DEFAULT_ORDERS, seed: bytes = b"") -> Plan:
    """Exact for up to five owners; beyond, ``orders`` random orders and their reverses, the same for the same seed.

    Raises:
        InvalidInput: fewer than two owners, more than 16, or fewer than two orders.
    """
    if not 2 <= owners <= MOST_OWNERS or orders < 2:
        raise InvalidInput(f"worth is shared among 2 to {MOST_OWNERS} owners in 2 orders or more; got {owners}")
    if owners <= MOST_EXACT:
        coalitions = tuple(range(1, 1 << owners))
        return Plan(owners, coalitions, _exact_weights(owners, coalitions)[None])
    drawn = [_order(owners, number, seed) for number in range((orders + 1) // 2)]
    # An order and its reverse put every owner early once and late once: less variance for the same work.
    walks = [walk for order in drawn for walk in (order, order[::-1])]
    prefixes = {_mask(walk[:length]) for walk in walks for length in range(1, owners + 1)}
    coalitions = tuple(sorted(prefixes))
    place = {mask: number for number, mask in enumerate(coalitions)}
    marginals = np.zeros((len(walks), owners, len(coalitions)))
    for number, walk in enumerate(walks):
        for length, owner in enumerate(walk):
            marginals[number, owner, place[_mask(walk[: length + 1])]] += 1.0
            if length:
                marginals[number, owner, place[_mask(walk[:length])]] -= 1.0
    return Plan(owners, coalitions, marginals)


def members(mask: int, owners: int) -> tuple[bool, ...]:
    """Which owners are in a coalition."""
    return tuple(bool(mask >> owner & 1) for owner in range(owners))


def revenue_shares(values: Sequence[float], total: BasisPoints) -> tuple[BasisPoints, ...]:
    """``total`` basis points shared in proportion to worth; whoever added nothing, or did harm, gets nothing.

    Integers throughout, so that everybody computes the same: worth counts in millionths, each share is rounded down,
    and the points left over go to the largest remainders, the earlier owner first where they are equal. If nobody
    added anything, all get the same.

    Raises:
        InvalidInput: no owners, a value that is no number, or a total that is none.
    """
    if not len(values) or not all(np.isfinite(value) and abs(value) < 1e9 for value in values):
        raise InvalidInput("revenue is shared by the finite worth of at least one owner")
    if not 0 <= total <= ALL_BASIS_POINTS:
        raise InvalidInput(f"a share of revenue is 0 to {ALL_BASIS_POINTS} basis points; got {total}")
    worth = [max(0, round(float(value) * 1_000_000)) for value in values]
    if not any(worth):
        worth = [1] * len(worth)
    whole = sum(worth)
    shares = [total * each // whole for each in worth]
    remainders = [total * each % whole for each in worth]
    order = sorted(range(len(worth)), key=lambda owner: (-remainders[owner], owner))
    for owner in order[: total - sum(shares)]:
        shares[owner] += 1
    return tuple(BasisPoints(share) for share in shares)


def _exact_weights(owners: int, coalitions: Sequence[int]) -> np.ndarray:
    """(n, coalitions): φᵢ = Σ over S without i of |S|! (n − |S| − 1)! / n! · (u(S ∪ i) − u(S))."""
    place = {mask: number for number, mask in enumerate(coalitions)}
    weights = np.zeros((owners, len(coalitions)))
    for owner in range(owners):
        others = [other for other in range(owners) if other != owner]
        for size in range(owners):
            share = factorial(size) * factorial(owners - size - 1) / factorial(owners)
            for chosen in combinations(others, size):
                without = _mask(chosen)
                weights[owner, place[without | 1 << owner]] += share
                if without:
                    weights[owner, place[without]] -= share
    return weights


def _order(owners: int, number: int, seed: bytes) -> tuple[int, ...]:
    """A random order that everybody computes alike: owners sorted by a hash."""
    keys = [tagged_hash(_ORDER_DOMAIN, seed, number.to_bytes(4, "big"), bytes([owner])) for owner in range(owners)]
    return tuple(sorted(range(owners), key=lambda owner: keys[owner]))


def _mask(owners: Sequence[int]) -> int:
    return sum(1 << owner for owner in owners)
