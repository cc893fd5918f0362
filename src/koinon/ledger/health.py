"""Whether a validator does its part: facts about it, and the sentence that names what is wrong."""

from dataclasses import dataclass
from typing import Final

from koinon.kernel.quantities import Epoch, Height, View

STUCK_SECONDS: Final = 60.0
"""How long work may wait without a new final block."""
MOST_BEHIND: Final = 100
"""Blocks that a node may lack of what the others hold as final."""

FORGETFUL: Final = (
    "this validator follows the chain but signs nothing: the ledger in its folder is not the one in which it kept what "
    "it signed; put that folder back, or have the network replace this validator's key"
)


@dataclass(frozen=True)
class LedgerFacts:
    """How a validator is.

    Attributes:
        certified_height: of the highest block with a certificate.
        known_height: final at more validators than may lie, as far as they have said.
        timed_out: whether this view was given up and the next is awaited.
        waiting_events: not worked off yet.
        connected: validators in reach, itself included.
        has_work: whether anything waits to become final.
        final_age: seconds since the last block became final here, or since the start.
        signs: whether it takes part, or only follows because it has forgotten what it signed.
        waits_for_disk: whether a durable write waits for room.
        writes_delayed: how often one had to be tried again.
    """

    final_height: Height
    certified_height: Height
    known_height: Height
    epoch: Epoch
    view: View
    timed_out: bool
    halted: bool
    waiting_transactions: int
    waiting_events: int
    validators: int
    quorum: int
    connected: int
    has_work: bool
    final_age: float
    signs: bool
    waits_for_disk: bool
    writes_delayed: int


def unfitness(facts: LedgerFacts) -> str | None:
    """Why this validator is not ready, or None if it is: a quiet network with nothing to do is."""
    if facts.halted:
        return "consensus has halted; the log says why"
    if not facts.signs:
        return FORGETFUL
    if facts.waits_for_disk:
        return "the disk is full; free some space"
    if facts.known_height - facts.final_height > MOST_BEHIND:
        return f"catching up: {facts.known_height - facts.final_height} final blocks behind the others"
    if facts.connected < facts.quorum:
        return f"{facts.connected} of {facts.validators} validators are in reach; {facts.quorum} are needed"
    if facts.has_work and facts.final_age > STUCK_SECONDS:
        return f"nothing became final for {facts.final_age:.0f} s although there is work"
    return None
