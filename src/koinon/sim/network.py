"""A network that loses, delays, doubles and reorders messages, and can be cut in two."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from koinon.sim.world import World


@dataclass(frozen=True)
class Faults:
    """How bad the network is. Probabilities are per message, unless stated otherwise.

    Attributes:
        delay: least and most seconds on the way; uniform, so messages overtake one another.
        loss: probability that a message never arrives.
        duplication: probability that it arrives twice.
        slow_link: probability, for a directed link and a period, that all its messages take ``slow_delay`` instead.
        slow_delay: least and most seconds on a slow link.
        period: seconds for which a link stays slow or fast.
    """

    delay: tuple[float, float] = (0.001, 0.01)
    loss: float = 0.0
    duplication: float = 0.0
    slow_link: float = 0.0
    slow_delay: tuple[float, float] = (0.5, 5.0)
    period: float = 1.0


GOOD_NETWORK = Faults()


class Network:
    """Delivers between numbered nodes. A node that is detached (crashed) receives nothing."""

    def __init__(self, world: World, faults: Faults) -> None:
        self.faults = faults
        self._world = world
        self._receivers: dict[int, Callable[[int, Any], None]] = {}
        self._groups: tuple[frozenset[int], ...] = ()
        self._slow: dict[tuple[int, int, int], bool] = {}

    def attach(self, node: int, receive: Callable[[int, Any], None]) -> None:
        """Let ``receive(sender, message)`` take what arrives for ``node``."""
        self._receivers[node] = receive

    def detach(self, node: int) -> None:
        """Let what arrives for ``node`` be lost until it is attached again."""
        self._receivers.pop(node, None)

    def partition(self, *groups: Collection[int]) -> None:
        """Let messages pass within each group only; what is on its way already arrives."""
        self._groups = tuple(frozenset(group) for group in groups)

    def heal(self) -> None:
        """End the partition."""
        self._groups = ()

    def send(self, sender: int, receiver: int, message: Any) -> None:
        """Put a message on its way."""
        if self._groups and not any(sender in group and receiver in group for group in self._groups):
            return
        draw, faults = self._world.random, self.faults
        if draw.random() < faults.loss:
            return
        copies = 2 if draw.random() < faults.duplication else 1
        for _ in range(copies):
            span = faults.slow_delay if self._is_slow(sender, receiver) else faults.delay
            self._world.after(draw.uniform(*span), lambda: self._deliver(sender, receiver, message))

    def _is_slow(self, sender: int, receiver: int) -> bool:
        if not self.faults.slow_link:
            return False
        period = int(self._world.monotonic() / self.faults.period)
        link = (sender, receiver, period)
        if link not in self._slow:
            self._slow[link] = self._world.random.random() < self.faults.slow_link
        return self._slow[link]

    def _deliver(self, sender: int, receiver: int, message: Any) -> None:
        receive = self._receivers.get(receiver)
        if receive is not None:
            receive(sender, message)
