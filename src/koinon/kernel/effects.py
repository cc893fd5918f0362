"""What the outside world looks like to our protocols: time, randomness, storage, links, the chain.

A protocol is a pure function ``step(state, event) -> (state, effects)``. Events carry the time and the random bytes
they need; effects are values that say what should be done. A driver performs effects and feeds the answers back as
events: the node's driver with sockets and disks, the simulator's with a seeded world.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar, runtime_checkable

from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds, UnixSeconds

State = TypeVar("State")
Event = TypeVar("Event", contravariant=True)
Effect = TypeVar("Effect", covariant=True)


class Step(Protocol[State, Event, Effect]):
    """The frozen shape of every protocol: no clock, no randomness, no input or output inside."""

    def __call__(self, state: State, event: Event, /) -> tuple[State, tuple[Effect, ...]]: ...


@runtime_checkable
class Clock(Protocol):
    """Time. ``monotonic`` for durations, ``unix`` for deadlines that others must agree on."""

    def monotonic(self) -> Seconds: ...

    def unix(self) -> UnixSeconds: ...


@runtime_checkable
class Rng(Protocol):
    """Random bytes: the operating system's in a node, a seeded stream in the simulator."""

    def bytes(self, count: int, /) -> bytes: ...


class StoreView(Protocol):
    """What can be read from an ordered key-value store."""

    def get(self, key: bytes, /) -> bytes | None: ...

    def scan(self, prefix: bytes, /, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]: ...


@runtime_checkable
class Store(StoreView, Protocol):
    """An ordered key-value store whose ``write`` is atomic and durable when it returns.

    ``reading`` gives a view that stays as things stood when it began, for as long as the context is open.
    """

    def reading(self) -> AbstractContextManager[StoreView]: ...

    def write(self, put: Mapping[bytes, bytes], delete: Iterable[bytes] = ()) -> None: ...

    def close(self) -> None: ...


class Link(Protocol):
    """An authenticated, ordered stream of frames to one peer."""

    @property
    def peer(self) -> NodeId: ...

    async def send(self, frame: bytes, /) -> None: ...

    async def receive(self) -> bytes: ...

    async def close(self) -> None: ...


class PromptLink(Link, Protocol):
    """A link that can also be used without waiting for the event loop."""

    def send_now(self, frame: bytes, /) -> bool:
        """Whether it was sent; where it was not, only ``send`` can."""
        ...

    def descriptor(self) -> int | None:
        """A file descriptor that becomes readable when a frame may be here; None while only ``receive`` can wait."""
        ...

    def receive_now(self) -> bytes | None:
        """The next frame if it is here, also while a task waits in ``receive``."""
        ...
