"""The ledger's thread: whatever happens to a validator is taken in there, one event after the other, in its order."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from koinon.ledger.consensus import Heard, Wake
from koinon.ledger.giskard.state import Event, TimerFired

_MOST_HANDED_OVER: Final = 64

_T = TypeVar("_T")

Happening = Event | Wake | Heard


class EventLane:
    """Belongs to the event loop it is made on, but for ``take``, which is called in the thread.

    Args:
        take: works an event off.
    """

    def __init__(self, take: Callable[[Happening], None]) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[Happening, asyncio.Future[None] | None]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._timer: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many events wait."""
        return self._events.qsize()

    def put(self, event: Happening) -> None:
        """Let an event be taken in after those that wait."""
        self._events.put_nowait((event, None))

    async def feed(self, event: Happening) -> None:
        """The same, and return once it has been worked off."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._events.put_nowait((event, done))
        await done

    async def between(self, work: Callable[[], _T]) -> _T:
        """Run ``work`` in the thread, between two events; what it gives."""
        return await self._loop.run_in_executor(self._thread, work)

    def set_timer(self, at: float | None) -> None:
        """Put ``TimerFired`` at this monotonic time, instead of when it was to be put before; None for never."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            delay = max(0.0, at - time.monotonic())
            self._timer = self._loop.call_later(delay, lambda: self.put(TimerFired(max(at, time.monotonic()))))

    def wake_at(self, moment: float | None) -> None:
        """Put ``Wake`` at this time of the wall clock, instead of when it was to be put before; None for never."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if moment is not None:
            self._alarm = self._loop.call_later(max(0.0, moment - time.time()), self.put, Wake())

    async def work(self, prepare: Callable[[], None]) -> None:
        """Hand events to the thread, after ``prepare``: all that wait in one go, since each hand-over costs more than
        most events."""
        await self._loop.run_in_executor(self._thread, prepare)
        while True:
            waiting = [await self._events.get()]
            while not self._events.empty() and len(waiting) < _MOST_HANDED_OVER:
                waiting.append(self._events.get_nowait())
            await self._loop.run_in_executor(self._thread, self._take_all, [event for event, _ in waiting])
            for _, done in waiting:
                if done is not None and not done.done():
                    done.set_result(None)

    def _take_all(self, events: list[Happening]) -> None:
        for event in events:
            self._take(event)

    async def close(self) -> None:
        """Wait for the event that is being worked off; the others are dropped."""
        self.set_timer(None)
        self.wake_at(None)
        await asyncio.to_thread(self._thread.shutdown)
