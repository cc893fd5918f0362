"""Time and randomness that one seed decides."""

import heapq
import random
from collections.abc import Callable
from typing import Final

from koinon.kernel.errors import Expired
from koinon.kernel.quantities import Seconds, UnixSeconds

_START_OF_TIME: Final = 1_800_000_000
_MOST_EVENTS: Final = 5_000_000


class World:
    """A clock that jumps from event to event, and one stream of randomness. Two worlds of one seed do the same.

    It is a ``kernel.effects.Clock`` and a ``kernel.effects.Rng``.

    Attributes:
        random: every decision must be drawn from here, and from nowhere else.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311  # a simulation must be repeatable, not unguessable
        self._now = 0.0
        self._order = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def monotonic(self) -> Seconds:
        return Seconds(self._now)

    def unix(self) -> UnixSeconds:
        return UnixSeconds(_START_OF_TIME + int(self._now))

    def bytes(self, count: int, /) -> bytes:
        return self.random.randbytes(count)

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Do something ``delay`` seconds from now; at equal times in the order of the calls."""
        self._order += 1
        heapq.heappush(self._events, (self._now + max(0.0, delay), self._order, action))

    def run(self, until: float) -> None:
        """Let time pass to ``until`` seconds.

        Raises:
            Expired: more than five million events happened; something repeats itself without time passing.
        """
        for _ in range(_MOST_EVENTS):
            if not self._events or self._events[0][0] > until:
                self._now = max(self._now, until)
                return
            self._now, _, action = heapq.heappop(self._events)
            action()
        raise Expired(f"the world of seed {self.seed} did not reach second {until} within {_MOST_EVENTS} events")
