"""What a transport counts: messages, connections, and everything it refused, by reason."""

from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.errors import KoinonError
from koinon.kernel.ids import NodeId
from koinon.kernel.measures import Tally
from koinon.kernel.quantities import Seconds

SHUNNED_SECONDS: Final = Seconds(30.0)
MOST_POINTS: Final = 100.0
FADING_PER_SECOND: Final = 0.5
OFFENCES: Final = {"MalformedMessage": 20.0, "Forged": 10.0}
"""Points by kind of error. Being refused, late or slow is no offence: honest peers are that too."""

_MOST_NAMES: Final = 10_000


@dataclass
class NetMeasures:
    """Counters of one transport.

    Attributes:
        received, sent: messages by type.
        refused: messages by type and kind of error.
        turned_away: connections that never became a conversation, by reason.
        ended: conversations by the kind of error that ended them.
        greeted: connections whose keys were proven.
    """

    received: Tally = field(default_factory=Tally)
    sent: Tally = field(default_factory=Tally)
    bytes_received: int = 0
    bytes_sent: int = 0
    refused: Tally = field(default_factory=Tally)
    turned_away: Tally = field(default_factory=Tally)
    ended: Tally = field(default_factory=Tally)
    greeted: int = 0


class Standings:
    """How much each peer has offended. Points fade; at the limit a peer is shunned for a while, then starts afresh.

    A shunned peer is hung up on and not let in. It keeps its key and its rights: a validator that lied is still
    counted as one, and its certificates are taken from others.
    """

    def __init__(self) -> None:
        self._points: dict[NodeId, tuple[float, Seconds]] = {}
        self._shunned: dict[NodeId, Seconds] = {}
        self._swept = Seconds(0)

    def points(self, peer: NodeId, now: Seconds) -> float:
        """What is left of a peer's points, 0 to 100."""
        points, then = self._points.get(peer, (0.0, now))
        return max(0.0, points - (now - then) * FADING_PER_SECOND)

    def offend(self, peer: NodeId, points: float, now: Seconds) -> bool:
        """Add points; says whether this peer is shunned from now on."""
        level = self.points(peer, now) + points
        if level < MOST_POINTS:
            self._sweep(now)
            if peer in self._points or len(self._points) < _MOST_NAMES:
                self._points[peer] = (level, now)
            return False
        self._points.pop(peer, None)
        self._sweep(now)
        if len(self._shunned) >= _MOST_NAMES:
            del self._shunned[next(iter(self._shunned))]  # the one that has waited longest
        self._shunned[peer] = Seconds(now + SHUNNED_SECONDS)
        return True

    def _sweep(self, now: Seconds) -> None:
        """Forget what has faded, at most once a second: with ever new keys each offence would cost a pass otherwise."""
        if max(len(self._points), len(self._shunned)) < _MOST_NAMES or now < self._swept + 1:
            return
        self._swept = now
        self._points = {name: entry for name, entry in self._points.items() if self.points(name, now) > 0}
        self._shunned = {name: until for name, until in self._shunned.items() if until > now}

    def is_shunned(self, peer: NodeId, now: Seconds) -> bool:
        until = self._shunned.get(peer)
        if until is not None and until <= now:
            del self._shunned[peer]
            return False
        return until is not None

    def known(self, now: Seconds) -> dict[NodeId, float]:
        """Every peer with points left or shunned (then 100), for showing."""
        found = {peer: round(self.points(peer, now), 1) for peer in self._points}
        found |= {peer: MOST_POINTS for peer, until in self._shunned.items() if until > now}
        return {peer: points for peer, points in found.items() if points > 0}


def offence_of(problem: KoinonError) -> float:
    """Points for what a peer's message did wrong."""
    return OFFENCES.get(type(problem).__name__, 0.0)
