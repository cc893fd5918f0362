"""Token buckets by name: how much of something each peer and each address may use, whatever connections they open."""

from dataclasses import dataclass
from typing import Final

from koinon.kernel.quantities import Seconds


@dataclass(frozen=True, slots=True)
class Allowance:
    """``per_second`` on average, ``burst`` at once."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class Allowances:
    """What a transport grants. A peer beyond its messages or bytes is read more slowly; an address beyond its
    connections is hung up on.
    """

    messages_per_peer: Allowance = Allowance(per_second=2_000, burst=8_000)
    bytes_per_peer: Allowance = Allowance(per_second=256 * 2**20, burst=1024 * 2**20)
    connections_per_address: Allowance = Allowance(per_second=50, burst=500)


DEFAULT_ALLOWANCES: Final = Allowances()


class Quotas:
    """One bucket for each name, created full; a full bucket is forgotten when room is needed.

    ``most_names`` bounds the memory that strangers with many names can take. While that many buckets are below full,
    a new name is treated as one whose bucket is empty.
    """

    def __init__(self, allowance: Allowance, most_names: int = 10_000) -> None:
        self._allowance = allowance
        self._most_names = most_names
        self._buckets: dict[bytes, tuple[float, Seconds]] = {}

    def spend(self, name: bytes, amount: float, now: Seconds) -> Seconds:
        """Take ``amount`` from the bucket of ``name``, below zero if need be.

        Args:
            name: whose bucket.
            amount: tokens, at least 0.
            now: monotonic time.

        Returns:
            The seconds to wait until the bucket is above zero again; 0 if it is.
        """
        level = self._level(name, now) - amount
        self._buckets[name] = (level, now)
        return Seconds(max(0.0, -level / self._allowance.per_second))

    def try_spend(self, name: bytes, amount: float, now: Seconds) -> bool:
        """Take ``amount`` if the bucket holds as much; otherwise change nothing and say False."""
        level = self._level(name, now)
        if level < amount:
            return False
        self._buckets[name] = (level - amount, now)
        return True

    def _level(self, name: bytes, now: Seconds) -> float:
        if name not in self._buckets:
            if len(self._buckets) >= self._most_names:
                self._forget_full(now)
            return self._allowance.burst if len(self._buckets) < self._most_names else 0.0
        level, then = self._buckets[name]
        return min(self._allowance.burst, level + (now - then) * self._allowance.per_second)

    def _forget_full(self, now: Seconds) -> None:
        for name in [name for name in self._buckets if self._level(name, now) >= self._allowance.burst]:
            del self._buckets[name]
