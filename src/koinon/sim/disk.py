"""A disk that forgets in a crash what was never made durable."""

from typing import Any


class Disk:
    """Named values. ``write`` is durable at once; ``write_later`` only after ``sync``."""

    def __init__(self) -> None:
        self._durable: dict[Any, Any] = {}
        self._pending: dict[Any, Any] = {}

    def write(self, name: Any, value: Any) -> None:
        self._pending.pop(name, None)
        self._durable[name] = value

    def write_later(self, name: Any, value: Any) -> None:
        self._pending[name] = value

    def sync(self) -> None:
        self._durable.update(self._pending)
        self._pending.clear()

    def crash(self) -> None:
        """Lose everything that was not synced."""
        self._pending.clear()

    def read(self, name: Any) -> Any:
        """The newest value, durable or not; None if there is none."""
        return self._pending.get(name, self._durable.get(name))

    def items(self) -> dict[Any, Any]:
        return {**self._durable, **self._pending}
