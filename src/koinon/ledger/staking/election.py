"""Who validates the next epoch: alternates by stake, seats by a weighted draw, few changes at a time.

    candidates ──top by stake──> alternates ──draw──> ranking ──vacancies and rotation──> seats ──shuffle──> the set

Source: PlatON's PPoS as its documents describe it. Pure functions of integers and bytes: every validator computes the
same set from the same state. Two departures, both for the sake of what can be checked: a candidate's draw is a hash of
the seed and its own key, so the order in which candidates are listed changes nothing; and the seed is the newest
output of the chain's random function alone, which already covers every older one.

Whoever proposes the election's block can withhold it and so have one other draw made in its place; that is the bias a
chain of unique signatures leaves, and rotation bounds what one such draw is worth.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Final

from koinon.crypto.hash import sha256
from koinon.kernel.codec import encode
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import ALL_BASIS_POINTS, BasisPoints, Epoch, Wei
from koinon.ledger.staking.binomial import inverse_binomial

_TICKET: Final = "koinon/staking/ticket/1"
_TIE: Final = "koinon/staking/tie/1"
_ORDER: Final = "koinon/staking/order/1"


@dataclass(frozen=True)
class Candidate:
    """One candidate as the staking contract holds it at the election.

    Attributes:
        number: counts registrations; the smaller is the older.
        key: BLS key, 48 bytes.
        stake: own and delegated.
        bonus: what verified useful work adds to the weight.
        since: first epoch of its present term as validator; None while it does not validate.
        fit: may validate: neither leaving nor punished, and above the least stake.
    """

    number: int
    key: bytes
    stake: Wei
    bonus: BasisPoints
    since: Epoch | None
    fit: bool


@dataclass(frozen=True)
class Seats:
    """How large the set is, and how far it may change at once.

    Attributes:
        count: of validators.
        least: below so many fit ones, unfit members keep their seats rather than leave them empty.
        unit: stake in wei that counts as one vote.
    """

    count: int
    least: int
    unit: Wei

    @property
    def most_rotated(self) -> int:
        """f: so many of the fit members make room for others at one election."""
        return (self.count - 1) // 3


def alternates(candidates: Iterable[Candidate], count: int) -> tuple[Candidate, ...]:
    """The fit candidates with the most stake, older first among equals; the best first."""
    return tuple(sorted((one for one in candidates if one.fit), key=lambda one: (-one.stake, one.number))[:count])


def weight(candidate: Candidate, unit: Wei) -> int:
    """How many trials a candidate has: the square root of its votes, raised by its bonus; rounded down twice."""
    return isqrt(candidate.stake // unit) * (ALL_BASIS_POINTS + candidate.bonus) // ALL_BASIS_POINTS


def rank(contenders: Iterable[Candidate], places: int, unit: Wei, seed: Hash32) -> tuple[Candidate, ...]:
    """Contenders by their successes in the draw, most first; equals by a second ticket divided by their weight.

    Each has as many trials as its weight, and each trial succeeds with probability ``places`` / sum of weights, so that
    about ``places`` successes are expected in all. They often fall on fewer contenders than there are places, and an
    even order of the rest would then give small stakes more seats than their weight: hence the division.
    """
    entered = tuple(contenders)
    weights = [weight(one, unit) for one in entered]
    total = max(1, sum(weights))

    def order(pair: tuple[Candidate, int]) -> tuple[int, int, int]:
        one, trials = pair
        draw = int.from_bytes(sha256(encode((_TICKET, seed, one.key))), "big")
        tie = int.from_bytes(sha256(encode((_TIE, seed, one.key))), "big")
        return -inverse_binomial(trials, places, total, draw), tie // max(1, trials), one.number

    return tuple(one for one, _ in sorted(zip(entered, weights, strict=True), key=order))


def elect(
    present: Sequence[Candidate], contenders: Iterable[Candidate], seats: Seats, seed: Hash32
) -> tuple[Candidate, ...]:
    """The next validator set, in its order of proposing.

    Members that are not fit lose their seats first. Then up to f of the fit ones, those with the longest term, then
    the smallest stake, then the newest, make room, as far as drawn contenders can take their places.

    Args:
        present: the present set, with what is now known of each.
        contenders: the alternates; members among them are passed over.
        seed: the random output of the election's block.
    """
    members = {one.number for one in present}
    staying = [one for one in present if one.fit]
    entering = list(rank((c for c in contenders if c.fit and c.number not in members), seats.count, seats.unit, seed))
    vacancies = max(0, seats.count - len(staying))
    dropped = len(present) - len(staying)
    rotated = min(max(0, seats.most_rotated - dropped), max(0, len(entering) - vacancies), len(staying))
    staying.sort(key=_leaves_last_first)
    staying = staying[: min(len(staying) - rotated, seats.count)]
    chosen = staying + entering[: seats.count - len(staying)]
    if len(chosen) < seats.least:
        unfit = sorted((one for one in present if not one.fit), key=lambda one: (-one.stake, one.number))
        chosen += unfit[: seats.least - len(chosen)]
    return shuffled(chosen, seed)


def shuffled(members: Iterable[Candidate], seed: Hash32) -> tuple[Candidate, ...]:
    """Members in an order that only the seed and their keys decide."""
    return tuple(sorted(members, key=lambda one: sha256(encode((_ORDER, seed, one.key)))))


def _leaves_last_first(one: Candidate) -> tuple[int, int, int]:
    """Sorts members so that those at the end leave: longest term, then smaller stake, then newer."""
    assert one.since is not None, "a member has a term"
    return -one.since, -one.stake, one.number
