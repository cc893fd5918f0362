"""Four parties over links in memory: silence, stalls, lost links, lies."""

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import numpy as np
import pytest
from privacy_scenes import new_parties, shared

from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import NodeId
from koinon.privacy.rep4 import abort, arithmetic, comparison, links
from koinon.privacy.rep4.abort import CommitteeAbort
from koinon.privacy.rep4.checkpoint import checkpoint
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import Shares
from koinon.privacy.rep4.tampering import FaultyParty
from koinon.privacy.rep4.transcript import Transcript
from koinon.wire.committee import POSITIONS, Fault

SILENCE = 0.3


class MemoryLink:
    """One end of a link: an ordered queue each way; ``None`` marks its end."""

    def __init__(self, peer: int, inbox: asyncio.Queue[bytes | None], outbox: asyncio.Queue[bytes | None]) -> None:
        self.peer = NodeId(bytes([peer]) * 32)
        self._inbox, self._outbox = inbox, outbox
        self.mute = asyncio.Event()
        self.mute.set()

    async def send(self, frame: bytes, /) -> None:
        await self.mute.wait()
        await self._outbox.put(frame)

    def send_now(self, frame: bytes, /) -> bool:
        if not self.mute.is_set() or self._outbox.full():
            return False
        self._outbox.put_nowait(frame)
        return True

    def descriptor(self) -> int | None:
        return None

    def receive_now(self) -> bytes | None:
        return None

    async def receive(self) -> bytes:
        frame = await self._inbox.get()
        if frame is None:
            raise Unavailable("the link is closed")
        return frame

    async def close(self) -> None:
        await self._outbox.put(None)


def mesh(room: int = 0) -> list[dict[int, MemoryLink]]:
    queues: dict[tuple[int, int], asyncio.Queue[bytes | None]] = {
        (i, j): asyncio.Queue(room) for i in POSITIONS for j in POSITIONS if i != j
    }
    return [{j: MemoryLink(j, queues[j, i], queues[i, j]) for j in POSITIONS if j != i} for i in POSITIONS]


def program(party: Party, x: Shares) -> Generator[None, None, np.ndarray]:
    square = yield from arithmetic.multiply(party, x, x)
    sign = yield from comparison.negative(party, square)
    yield from checkpoint(party)
    return (yield from arithmetic.open_to_all(party, square + sign))


WORDS = np.array([3, 5, 2**40], np.uint64)
EXPECTED = WORDS * WORDS + (WORDS * WORDS >> np.uint64(63))


async def position(
    number: int,
    peers: dict[int, Any],
    *,
    deadline: float = 120.0,
    silence: float = SILENCE,
    kind: Callable[..., Party] = Party,
) -> tuple[np.ndarray, list[int]]:
    party, rounds = new_parties(kind=kind)[number], list[int]()
    try:
        result: np.ndarray = await links.run(
            party,
            program(party, shared(WORDS)[number]),
            peers,
            silence_seconds=silence,
            deadline_seconds=deadline,
            progress=rounds.append,
        )
        return result, rounds
    finally:
        for link in peers.values():
            await link.close()


async def test_four_parties_over_links() -> None:
    ends = mesh()
    for result, rounds in await asyncio.gather(*(position(i, ends[i], silence=10) for i in POSITIONS)):
        assert (result == EXPECTED).all()
        assert rounds == list(range(1, 8))


async def test_links_without_room_do_not_block_each_other() -> None:
    ends = mesh(room=1)
    for result, _ in await asyncio.gather(*(position(i, ends[i], silence=10) for i in POSITIONS)):
        assert (result == EXPECTED).all()


def reported(problems: list[Any], honest: tuple[int, ...]) -> list[CommitteeAbort]:
    for i in honest:
        assert isinstance(problems[i], CommitteeAbort), problems[i]
    return [problems[i] for i in honest]


async def test_a_lie_is_reported_by_all_three() -> None:
    ends = mesh()
    # In the first round position 1 sends its only value to position 0.
    faulty = partial(FaultyParty, transcript=Transcript(), fault=Fault(0, 0, 3))
    everybody = [position(i, ends[i], silence=10, kind=faulty if i == 1 else Party) for i in POSITIONS]
    problems = reported(await asyncio.gather(*everybody, return_exceptions=True), (0, 2, 3))
    assert all(1 in problem.suspects for problem in problems)
    assert {problem.triple for problem in problems} == {(1, 2, 0)}
    assert problems[0].complaint.reason == abort.MISMATCH


async def test_a_party_that_vanishes_is_named_at_once() -> None:
    ends = mesh()

    async def vanish() -> None:
        for link in ends[3].values():
            await link.close()

    everybody = [position(i, ends[i], silence=60) for i in (0, 1, 2)]
    problems = await asyncio.wait_for(asyncio.gather(*everybody, vanish(), return_exceptions=True), 30)
    for problem in reported(list(problems), (0, 1, 2)):
        assert 3 in problem.suspects
        assert problem.complaint.reason == abort.SILENCE


async def test_a_party_that_stalls_is_named_after_the_silence_allowed() -> None:
    ends = mesh()

    async def stall() -> None:
        for link in ends[2].values():
            link.mute.clear()
        await position(2, ends[2], silence=60, deadline=60)

    stalled = asyncio.create_task(stall())
    everybody = [position(i, ends[i]) for i in (0, 1, 3)]
    zeroth, first, third = await asyncio.wait_for(asyncio.gather(*everybody, return_exceptions=True), 30)
    stalled.cancel()
    for problem in reported([zeroth, first, None, third], (0, 1, 3)):
        assert 2 in problem.suspects
    await asyncio.gather(stalled, return_exceptions=True)


async def test_a_party_that_does_not_read_delays_nobody_else() -> None:
    """Position 3 sends what it should but takes nothing from position 0; position 0 still serves 1 and 2."""
    ends = mesh()
    ends[0][3].mute.clear()
    everybody = [position(i, ends[i]) for i in POSITIONS]
    problems = await asyncio.wait_for(asyncio.gather(*everybody, return_exceptions=True), 30)
    for problem in problems:
        assert isinstance(problem, CommitteeAbort)
        assert problem.suspects & {0, 3}


@pytest.mark.parametrize("frame", [b"", b"rubbish", b"rep4\x01", b"rep4\x02rubbish", bytes(5_000_000)])
async def test_a_frame_of_another_kind_is_malformed(frame: bytes) -> None:
    ends = mesh()

    async def babble() -> None:
        for link in ends[0].values():
            await link.send(frame)

    everybody = [position(i, ends[i], silence=10) for i in (1, 2, 3)]
    problems = await asyncio.wait_for(asyncio.gather(babble(), *everybody, return_exceptions=True), 30)
    for problem in reported(list(problems), (1, 2, 3)):
        assert 0 in problem.suspects


async def test_the_deadline_ends_a_run_whatever_happens() -> None:
    ends = mesh()
    # Three talk on and on; the fourth is never started.
    everybody = [position(i, ends[i], silence=60, deadline=0.3) for i in (0, 1, 2)]
    problems = await asyncio.wait_for(asyncio.gather(*everybody, return_exceptions=True), 30)
    for problem in problems:
        assert isinstance(problem, CommitteeAbort)
        assert 3 in problem.suspects
