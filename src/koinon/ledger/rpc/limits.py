"""How much one client may ask for: sizes, rates and how many things it may hold open.

A client is an IPv4 address or an IPv6 /64, as one household gets; whatever a client sends in headers counts for
nothing. Time comes in as a value, so that a test needs no clock.
"""

import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.quantities import Gas, Seconds
from koinon.ledger.rpc.failures import LimitExceeded

_MOST_CLIENTS: Final = 4096
_IPV6_HOUSEHOLD: Final = 64
_CALL_GAS: Final = Gas(50_000_000)
_CALL_SECONDS: Final = Seconds(5.0)
_FILTER_SECONDS: Final = Seconds(300.0)


@dataclass(frozen=True)
class Limits:
    """What is granted to each client.

    Attributes:
        body_bytes: of one HTTP request or WebSocket message.
        batch: requests in one batch.
        answer_bytes: of the answer to one request or batch.
        units_per_second: rate at which a client's budget fills; a plain request costs one unit, a heavy one more.
        burst_units: what the budget holds at most.
        call_gas: of one ``eth_call`` or trace; also what a call that names no gas gets.
        call_seconds: after which a call is given up.
        waiting_calls: calls of one client that run or wait to run; a dozen nodes may stand behind one address.
        filters: that one client may have installed.
        filter_seconds: without being asked, after which a filter is forgotten.
        connections: WebSocket connections of one client.
        subscriptions: of one WebSocket connection.
        sockets: TCP connections of one client, of either kind.
        unread_messages: to a WebSocket client that reads too slowly, before the connection is closed.
    """

    body_bytes: int = 2 * 1024 * 1024
    batch: int = 200
    answer_bytes: int = 24 * 1024 * 1024
    units_per_second: int = 5_000
    burst_units: int = 20_000
    call_gas: Gas = _CALL_GAS
    call_seconds: Seconds = _CALL_SECONDS
    waiting_calls: int = 256
    filters: int = 64
    filter_seconds: Seconds = _FILTER_SECONDS
    connections: int = 16
    subscriptions: int = 32
    sockets: int = 128
    unread_messages: int = 1024


BOUNDS: Final = {
    "body_bytes": (1 << 10, 1 << 26),
    "batch": (1, 10_000),
    "answer_bytes": (1 << 10, 1 << 28),
    "units_per_second": (1, 10**9),
    "burst_units": (1_000, 10**9),
    "call_gas": (21_000, 2**40),
    "call_seconds": (1, 3600),
    "waiting_calls": (1, 10_000),
    "filters": (1, 100_000),
    "filter_seconds": (1, 30 * 86_400),
    "connections": (1, 10_000),
    "subscriptions": (1, 10_000),
    "sockets": (1, 10_000),
    "unread_messages": (1, 1_000_000),
}
"""The least and the most that an operator may set for each. The dearest request costs 500 units: less saved up than
1,000 would forbid it for ever."""


@dataclass(frozen=True)
class Deadline:
    """When a whole request must be done with: monotonic seconds, and what was granted."""

    at: float
    seconds: Seconds

    @classmethod
    def after(cls, seconds: Seconds) -> "Deadline":
        """So many seconds from now."""
        return cls(time.monotonic() + seconds, seconds)

    def check(self) -> None:
        """Raise LimitExceeded when the time is over."""
        if time.monotonic() > self.at:
            raise LimitExceeded(f"the call did not end within {self.seconds:g} seconds; do less in one call")


@dataclass
class Client:
    """What one client has used up.

    Attributes:
        units: left of its budget at ``filled_at`` (monotonic seconds).
        calls: that run or wait to run now.
        filters: installed now.
        connections: WebSockets open now.
        sockets: TCP connections open now.
    """

    units: float
    filled_at: float
    calls: int = 0
    filters: int = 0
    connections: int = 0
    sockets: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost by forgetting the client."""
        return not (self.calls or self.filters or self.connections or self.sockets)

    def spend(self, units: int, limits: Limits, now: float) -> bool:
        """Take ``units`` from the budget; False, and nothing taken, if there are fewer (a token bucket)."""
        filled = self.units + max(0.0, now - self.filled_at) * limits.units_per_second
        self.units, self.filled_at = min(float(limits.burst_units), filled), now
        if self.units < units:
            return False
        self.units -= units
        return True


@dataclass
class Clients:
    """Everybody who asked lately. The longest idle one is forgotten when there are too many."""

    limits: Limits
    _known: OrderedDict[str, Client] = field(default_factory=OrderedDict)

    def at(self, host: str, now: float) -> Client:
        """The client at an address."""
        name = household(host)
        client = self._known.get(name)
        if client is None:
            client = self._known[name] = Client(float(self.limits.burst_units), now)
            self._forget_one()
        self._known.move_to_end(name)
        return client

    def _forget_one(self) -> None:
        if len(self._known) > _MOST_CLIENTS:
            idle = next((name for name, client in self._known.items() if client.is_idle), None)
            if idle is not None:
                del self._known[idle]


def household(host: str) -> str:
    """What counts as one client: an IPv4 address, or the first half of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_HOUSEHOLD), strict=False))
    return str(address)
