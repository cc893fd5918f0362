"""Long work inside a node that its operator started:

numbered, narrated, cancellable, its result kept until the node stops.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import InvalidInput, KoinonError, Refused
from koinon.wire.control import TaskReport
from koinon.wire.failures import failure_of

MAXIMUM_RUNNING: Final = 32
MAXIMUM_KEPT: Final = 1000
NEWS_SECONDS: Final = 1.0


@dataclass
class Narrator:
    """How a task tells where it is: one sentence at a time, and a fraction from 0 to 1."""

    notes: list[str] = field(default_factory=list)
    fraction: float = 0.0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, sentence: str, fraction: float | None = None) -> None:
        """Add a sentence; ``fraction`` never goes back."""
        self.notes.append(sentence)
        if fraction is not None:
            self.fraction = max(self.fraction, min(float(fraction), 1.0))
        self.news.set()


TaskBody = Callable[[bytes, Narrator], Awaitable[Record]]


@dataclass
class _Entry:
    narrator: Narrator
    running: "asyncio.Task[bytes]"


class TaskBoard:
    """All tasks of one node. ``offer`` names what can be started; roles offer their own."""

    def __init__(self) -> None:
        self._offered: dict[str, TaskBody] = {}
        self._entries: dict[int, _Entry] = {}
        self._next = 1

    def offer(self, name: str, body: TaskBody) -> None:
        """Make ``name`` startable. ``body`` gets the encoded argument and a narrator and returns its result."""
        self._offered[name] = body

    def start(self, name: str, argument: bytes) -> int:
        """Start a task and give its number.

        Raises:
            InvalidInput: this node offers no such task.
            Refused: too many are running.
        """
        body = self._offered.get(name)
        if body is None:
            known = ", ".join(sorted(self._offered)) or "none"
            raise InvalidInput(f"this node offers no task {name[:60]!r}; with its roles it offers: {known}")
        if sum(not entry.running.done() for entry in self._entries.values()) >= MAXIMUM_RUNNING:
            raise Refused(f"{MAXIMUM_RUNNING} tasks are running at this node; wait for one to end or cancel one")
        for number in [n for n, entry in self._entries.items() if entry.running.done()][:-MAXIMUM_KEPT]:
            del self._entries[number]
        number, self._next = self._next, self._next + 1
        narrator = Narrator()

        async def run() -> bytes:
            try:
                return encode(await body(argument, narrator))
            finally:
                narrator.news.set()

        self._entries[number] = _Entry(narrator, asyncio.create_task(run(), name=f"{name} {number}"))
        return number

    async def report(self, number: int, first_note: int) -> TaskReport:
        """Where the task stands, after waiting up to a second for news. Raises InvalidInput for an unknown number."""
        entry = self._entry(number)
        if len(entry.narrator.notes) <= first_note and not entry.running.done():
            entry.narrator.news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(entry.narrator.news.wait(), NEWS_SECONDS)
        notes = tuple(entry.narrator.notes[max(first_note, 0) :])
        fraction = entry.narrator.fraction
        if not entry.running.done():
            return TaskReport("running", notes, fraction, b"", "", "")
        if entry.running.cancelled():
            return TaskReport("cancelled", notes, fraction, b"", "", "")
        problem = entry.running.exception()
        if problem is None:
            return TaskReport("done", notes, 1.0, entry.running.result(), "", "")
        if isinstance(problem, KoinonError):
            return TaskReport("failed", notes, fraction, b"", failure_of(problem).kind, str(problem))
        # What an unexpected error says may hold data; its kind is enough for the operator, the journal has the place.
        return TaskReport(
            "failed", notes, fraction, b"", "KoinonError", f"internal error ({type(problem).__name__}); see node.log"
        )

    def cancel(self, number: int) -> None:
        """Cancel a task. Raises InvalidInput for an unknown number."""
        self._entry(number).running.cancel()

    def running(self) -> list[str]:
        """Names of what is running."""
        return [entry.running.get_name() for entry in self._entries.values() if not entry.running.done()]

    async def close(self) -> None:
        """Cancel everything and wait until it is over."""
        tasks = [entry.running for entry in self._entries.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _entry(self, number: int) -> _Entry:
        entry = self._entries.get(number)
        if entry is None:
            raise InvalidInput(f"this node has no task number {number}; it may have restarted since")
        return entry
