"""What ``giskard_small`` searches: Giskard as nodes run it, and with one safeguard weakened or changed at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from giskard_world import Bounds, Key

from koinon.ledger.giskard.certificates import rank
from koinon.ledger.giskard.plants import PLANTS
from koinon.ledger.giskard.rules import Rules, VotedSlot
from koinon.ledger.types import Header


def _index_only(voted: Iterable[VotedSlot], header: Header) -> bool:
    return all(header.index > index for index, _ in voted)


def _two_consecutive(line: Sequence[Header]) -> bool:
    return len(line) == 2 and 0 <= line[1].view - line[0].view <= 1


_TWO: Final = replace(Rules(), is_final=_two_consecutive, linked_certificates=2)
_HEIGHT_ONLY: Final = PLANTS["height-only-voting"].rules


@dataclass(frozen=True)
class Rule:
    """A protocol to search.

    Attributes:
        forks: whether two conflicting blocks can become final within the default bounds.
        bounds: the default ones.
    """

    says: str
    forks: bool
    bounds: tuple[Bounds, ...]
    rules: Rules = field(default_factory=Rules)
    key: Key = rank


_SAFE: Final = (Bounds(4, 2), Bounds(3, 3), Bounds(6, 1))
RULES: Final[dict[str, Rule]] = {
    "ours": Rule(
        "the protocol as nodes run it", False, (Bounds(5, 2), Bounds(4, 3), Bounds(7, 1), Bounds(3, 2, nodes=7))
    ),
    "height-only": Rule("one vote for each height of a view, whatever the index", True, (Bounds(4, 1),), _HEIGHT_ONLY),
    "height-only-two": Rule(
        "the same, and a block counts as decided with one certified child in the same or the next view",
        True,
        (Bounds(3, 1),),
        replace(_HEIGHT_ONLY, is_final=_two_consecutive, linked_certificates=2),
    ),
    "two-certificates": Rule(
        "two linked certificates make final, whatever their views",
        True,
        (Bounds(4, 1),),
        PLANTS["two-certificate-finality"].rules,
    ),
    "textbook": Rule(
        "three linked certificates make final, whatever their views",
        True,
        (Bounds(6, 1),),
        PLANTS["finality-across-any-views"].rules,
    ),
    "unchecked-view-change": Rule(
        "the first block may extend any certified block",
        True,
        (Bounds(2, 3),),
        PLANTS["skipped-view-change-check"].rules,
    ),
    "highest-by-view": Rule(
        "the highest certificate is one of the latest view, any of them",
        True,
        (Bounds(3, 3),),
        key=lambda certificate: (certificate.view,),
    ),
    "highest-by-height-two": Rule(
        "the highest certificate is one of the greatest height, of any view, and two consecutive make final",
        True,
        (Bounds(3, 2),),
        _TWO,
        lambda certificate: (certificate.height,),
    ),
    "highest-by-height": Rule(
        "the highest certificate is one of the greatest height, of any view",
        False,
        _SAFE,
        key=lambda certificate: (certificate.height,),
    ),
    "highest-by-view-and-index": Rule(
        "certificates are ordered by view, then by index",
        False,
        _SAFE,
        key=lambda certificate: (certificate.view, certificate.index),
    ),
    "two-consecutive": Rule("two linked certificates of equal or consecutive views make final", False, _SAFE, _TWO),
    "index-only": Rule(
        "one vote for each index of a view, whatever the height",
        False,
        _SAFE,
        replace(Rules(), slot_is_free=_index_only),
    ),
    "any-chain": Rule(
        "a vote need not stand on the validator's own earlier block",
        False,
        _SAFE,
        replace(Rules(), follows_own_chain=_HEIGHT_ONLY.follows_own_chain),
    ),
}
"""By name. Where a weakened rule does not fork, the other rules alone hold within the bounds."""
PLAIN: Final = (Bounds(2, 3), Bounds(4, 1))
"""Bounds at which the protocol is searched without the order of views too."""
DEEP: Final[dict[str, tuple[Bounds, ...]]] = {
    "ours": (Bounds(6, 2), Bounds(5, 3), Bounds(8, 1), Bounds(4, 2, nodes=7), Bounds(7, 1, nodes=7)),
}
