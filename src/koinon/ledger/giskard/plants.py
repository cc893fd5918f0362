"""Bugs to plant, so that the simulator can show that it would notice them. No node ever imports this."""

from collections.abc import Iterable, Sequence
from typing import Final

from koinon.kernel.quantities import Height
from koinon.ledger.giskard.rules import LINKED_CERTIFICATES, Rules, VotedSlot
from koinon.ledger.giskard.simulation import Scenario
from koinon.ledger.types import Header


def _height_only(voted: Iterable[VotedSlot], header: Header) -> bool:
    return all(header.height != height for _, height in voted)


def _two_are_enough(line: Sequence[Header]) -> bool:
    return len(line) == LINKED_CERTIFICATES - 1


def _any_views(line: Sequence[Header]) -> bool:
    return len(line) == LINKED_CERTIFICATES


def _believe(*_: object) -> None:
    """Check nothing."""


def _no_end(proven: Height, _last_height: Height | None) -> Height:
    return proven


def _anything(*_: object) -> bool:
    return True


PLANTS: Final[dict[str, Scenario]] = {
    "height-only-voting": Scenario(
        rules=Rules(slot_is_free=_height_only, considers=_anything, follows_own_chain=_anything)
    ),
    "two-certificate-finality": Scenario(rules=Rules(is_final=_two_are_enough, linked_certificates=2)),
    "finality-across-any-views": Scenario(rules=Rules(is_final=_any_views)),
    "no-write-ahead": Scenario(write_ahead=False, crashes=12),
    "skipped-view-change-check": Scenario(rules=Rules(check_view_change=_believe, extends_highest=_anything)),
    "final-closing-blocks": Scenario(rules=Rules(final_height=_no_end), epochs=3, spare=2),
    "full-closing-blocks": Scenario(rules=Rules(may_hold=_anything), epochs=3, spare=2),
    "unmarked-closing-blocks": Scenario(rules=Rules(is_marked=_anything), epochs=3, spare=2),
}
"""Scenario with one safeguard taken away, by name."""
