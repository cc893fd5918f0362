"""What happens on the ledger, told to whoever listens: filters and WebSocket subscriptions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from koinon.kernel.quantities import Height
from koinon.ledger.transaction import Transaction


class Listener(Protocol):
    """Called on the event loop; must not take long."""

    def final(self, height: Height) -> None:
        """Every block up to this height is final now."""
        ...

    def waiting(self, transaction: Transaction) -> None:
        """This transaction came into the mempool."""
        ...


@dataclass
class Announcements:
    """Belongs to one event loop."""

    _listeners: list[Listener] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell ``listener`` everything from now on; gives what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def final(self, height: Height) -> None:
        for listener in tuple(self._listeners):
            listener.final(height)

    def waiting(self, transaction: Transaction) -> None:
        for listener in tuple(self._listeners):
            listener.waiting(transaction)
