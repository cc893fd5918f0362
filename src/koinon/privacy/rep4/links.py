"""Drive one party over real links: send a round's frames, wait for its peers' frames, never longer than agreed.

Each peer has a reader and a writer of its own, so that a peer which does not read delays nobody else's frames, and a
complaint is heard soon, whatever round it is. A frame goes to the writer only if its link cannot take it at once,
and the run is woken once a round, by the last frame it waits for. Where links can be waited for without the event
loop, only one in sixteen of the rounds that take a few milliseconds goes through it. A party that stops tells the
others why before it hangs up.
"""

import asyncio
import select
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final

from koinon.kernel.effects import PromptLink
from koinon.kernel.errors import KoinonError
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.abort import CommitteeAbort
from koinon.privacy.rep4.party import Party, complaint_frame, is_complaint

_FRAMES_AHEAD: Final = 2
"""A peer can be at most one round ahead of us; more unread frames than this are left in the link."""
_FRAMES_BEHIND: Final = 8
"""A peer that has not taken so many of our frames does not read."""
_PATIENCE_SECONDS: Final = 1.0
"""After silence, how long to collect what the others are waiting for. Of all complaints about silence the one of the
earliest round counts: whoever it is about had not even sent that round's frame, while everybody accused of a later
round may have been waiting itself."""
_MOST_COMPLAINTS: Final = 4
_FAREWELL_SECONDS: Final = 2.0
_PROMPT_SECONDS: Final = 0.005
"""How long the event loop may stand still while frames are waited for on the links themselves."""
_ROUNDS_PER_TURN: Final = 16
"""Rounds after which the event loop has a turn at the latest, for whatever else the process does."""

Progress = Callable[[int], None]
"""Told the number of rounds done."""


async def run(
    party: Party,
    protocol: Generator[None, None, Any],
    links: Mapping[int, PromptLink],
    *,
    silence_seconds: float,
    deadline_seconds: float,
    progress: Progress,
) -> Any:
    """Run a protocol to its end.

    Args:
        links: to the three peers by position.
        silence_seconds: the longest wait for the frames of one round.
        deadline_seconds: the longest the whole run may take.

    Returns:
        The protocol's result, after every frame of ours was handed to its link.

    Raises:
        CommitteeAbort: a peer deviated, fell silent or complained; the others have been told.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_seconds
    async with _Exchange(links) as exchange:
        try:
            while True:
                try:
                    next(protocol)
                except StopIteration as end:
                    await exchange.flush(silence_seconds)
                    return end.value
                if loop.time() >= deadline:
                    raise party.complain(abort.WITHDRAWN)
                expected = party.expected()
                exchange.post(party)
                wait = min(silence_seconds, max(deadline - loop.time(), 0.0))
                party.receive_frames(await exchange.collect(party, expected, wait))
                progress(party.round)
        except CommitteeAbort as problem:
            await exchange.tell_all(complaint_frame(problem.complaint))
            raise


async def say_farewell(links: Mapping[int, PromptLink], problem: CommitteeAbort) -> None:
    """Tell the peers that are connected why the run will not begin."""
    async with _Exchange(links) as exchange:
        await exchange.tell_all(complaint_frame(problem.complaint))


class _Exchange:
    """Frames in and out of three links, each with its own reader and writer task.

    Attributes:
        under_way: exchanges in this process; of several none may keep the event loop from the others.
    """

    under_way: ClassVar[int] = 0

    def __init__(self, links: Mapping[int, PromptLink]) -> None:
        self._links = links
        self._arrived: dict[int, deque[bytes]] = {peer: deque() for peer in links}
        self._outgoing: dict[int, deque[bytes]] = {peer: deque() for peer in links}
        self._complaints: list[tuple[int, bytes]] = []
        self._gone: set[int] = set()
        self._deaf: set[int] = set()
        self._awaited: set[int] = set()
        self._news = asyncio.Event()
        self._space = {peer: asyncio.Event() for peer in links}
        self._work = {peer: asyncio.Event() for peer in links}
        self._tasks: list[asyncio.Task[None]] = []
        self._heard_of = dict.fromkeys(links, 0)
        self._loop = asyncio.get_running_loop()
        self._prompt_rounds = 0
        self._latest = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "_Exchange":
        _Exchange.under_way += 1
        for peer, link in self._links.items():
            self._tasks.append(asyncio.create_task(self._read(peer, link), name=f"read from position {peer}"))
            self._tasks.append(asyncio.create_task(self._write(peer, link), name=f"write to position {peer}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        _Exchange.under_way -= 1
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def post(self, party: Party) -> None:
        """Hand over the frames of this round. Raises CommitteeAbort about a peer that takes none."""
        for peer, frame in party.send_frames().items():
            waiting = self._outgoing[peer]
            if not waiting and self._links[peer].send_now(frame):
                continue
            if len(waiting) >= _FRAMES_BEHIND:
                raise party.complain(abort.SILENCE, peer)
            waiting.append(frame)
            self._work[peer].set()

    async def collect(self, party: Party, expected: frozenset[int], seconds: float) -> dict[int, bytes]:
        """One frame from each expected peer. Raises CommitteeAbort on a complaint, silence or a lost link."""
        self._awaited = {peer for peer in expected if not self._arrived[peer]}
        if self._prompt_rounds < _ROUNDS_PER_TURN:
            self._prompt_rounds += 1
            self._await_promptly(seconds)
            if not self._awaited and not self._complaints:
                return {peer: self._take(peer) for peer in expected}
        else:
            await asyncio.sleep(0)
        self._prompt_rounds = 0
        self._wait_until(self._loop.time() + seconds)
        while not self._heard(party):
            self._awaited = {peer for peer in expected if not self._arrived[peer]}
            if not self._awaited:
                return {peer: self._take(peer) for peer in expected}
            if not self._gone.isdisjoint(self._awaited) or self._loop.time() >= self._latest:
                break
            self._news.clear()
            await self._news.wait()
        missing = [peer for peer in sorted(expected) if not self._arrived[peer]]
        raise await self._explained(party, missing)

    async def flush(self, seconds: float) -> None:
        """Wait until every frame was handed to its link, or its peer is gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(self._outgoing[peer] and peer not in self._deaf for peer in self._links):
                    self._news.clear()
                    await self._news.wait()

    async def tell_all(self, frame: bytes) -> None:
        """Send a last frame to every peer that still listens."""
        self._post_all(frame)
        await self.flush(_FAREWELL_SECONDS)

    def _post_all(self, frame: bytes) -> None:
        for peer in self._links:
            self._outgoing[peer].append(frame)
            self._work[peer].set()

    def _wait_until(self, latest: float) -> None:
        """Wake the run then. One timer serves all rounds: it goes off at an earlier round's time and is set anew."""
        self._latest = latest
        if self._alarm is None or latest < self._alarm.when():
            self._ring()

    def _ring(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._loop.time() < self._latest:
            self._alarm = self._loop.call_at(self._latest, self._ring)
        else:
            self._news.set()

    def _heard(self, party: Party) -> list[CommitteeAbort]:
        """Complaints about silence so far. Raises the first one about anything else: that one explains itself."""
        problems = [party.heard(peer, frame) for peer, frame in self._complaints]
        for problem in problems:
            if problem.complaint.reason != abort.SILENCE:
                raise problem
        return problems

    async def _explained(self, party: Party, missing: list[int]) -> CommitteeAbort:
        """Say whom we miss, hear whom the others miss, and blame the silence that came first."""
        ours = []
        if missing:
            culprit = min(missing, key=lambda peer: peer not in self._gone)
            ours.append(party.complain(abort.SILENCE, culprit))
            self._post_all(complaint_frame(ours[0].complaint))
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while True:
                    self._heard(party)
                    self._news.clear()
                    await self._news.wait()
        return min(ours + self._heard(party), key=lambda problem: problem.complaint.round)

    def _await_promptly(self, seconds: float) -> None:
        """Take what is awaited from links that can be waited for directly, for a few milliseconds at most."""
        if _Exchange.under_way > 1 or any(self._outgoing.values()):
            return
        latest = time.monotonic() + min(seconds, _PROMPT_SECONDS)
        # One after the other: what the others send in the meantime wakes nobody.
        for peer in sorted(self._awaited):
            link = self._links[peer]
            while peer in self._awaited:
                descriptor = link.descriptor()
                left = latest - time.monotonic()
                if descriptor is None or left <= 0:
                    return
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                if not poll.poll(left * 1000):
                    return
                frame = link.receive_now()
                if frame is not None:
                    self._accept(peer, frame)
                    if self._complaints:
                        return

    def _accept(self, peer: int, frame: bytes) -> None:
        if is_complaint(frame):
            self._heard_of[peer] += 1
            self._complaints.append((peer, frame))
            self._news.set()
            return
        self._arrived[peer].append(frame)
        self._awaited.discard(peer)
        if not self._awaited:
            self._news.set()

    def _take(self, peer: int) -> bytes:
        self._space[peer].set()
        return self._arrived[peer].popleft()

    async def _read(self, peer: int, link: PromptLink) -> None:
        try:
            while self._heard_of[peer] < _MOST_COMPLAINTS:
                self._accept(peer, await link.receive())
                while len(self._arrived[peer]) >= _FRAMES_AHEAD:
                    self._space[peer].clear()
                    await self._space[peer].wait()
        except KoinonError:
            self._gone.add(peer)
            self._news.set()

    async def _write(self, peer: int, link: PromptLink) -> None:
        try:
            while True:
                while self._outgoing[peer]:
                    await link.send(self._outgoing[peer][0])
                    self._outgoing[peer].popleft()
                self._news.set()
                self._work[peer].clear()
                await self._work[peer].wait()
        except KoinonError:
            # What it has sent before it went may still explain why; only its frames decide whether it is missed.
            self._deaf.add(peer)
            self._news.set()
