"""All four parties in one process, round by round: for tests, simulation and measurements.

A ``Corruption`` sees a party's state before it sends and every frame before it is delivered, and may change anything;
a party that aborts sends its complaint, as in a real run, and the others receive it in the next round.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from koinon.privacy.rep4.abort import CommitteeAbort
from koinon.privacy.rep4.agreement import testimony
from koinon.privacy.rep4.party import Party, complaint_frame, is_complaint
from koinon.wire.committee import OpenedFrame


class Corruption(Protocol):
    """What corrupted positions do instead of what they should."""

    def before(self, party: Party) -> None:
        """Called when a round is composed, before its frames are made: may change the party's queued arrays."""

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        """The party's frames by peer → what is really sent."""
        ...


@dataclass(slots=True)
class Ending:
    """How one position's run ended: with a result or an abort; what it sent, by round; and what it may then show."""

    result: Any = None
    abort: CommitteeAbort | None = None
    rounds_sent: list[int] = field(default_factory=list)
    shown: tuple[OpenedFrame, ...] = ()


def run(
    parties: Sequence[Party],
    protocols: Sequence[Generator[None, None, Any]],
    corruption: Corruption | None = None,
) -> list[Ending]:
    """Drive the four protocols to their ends.

    Returns:
        One Ending per position. A party that stops early leaves the others waiting; here that is silence at once.
    """
    endings = [Ending() for _ in parties]
    running = dict(enumerate(protocols))
    complaints: dict[int, list[tuple[int, bytes]]] = {position: [] for position in running}

    def stop(position: int, problem: CommitteeAbort) -> None:
        endings[position].abort = problem
        endings[position].shown = testimony(parties[position], problem)
        del running[position]
        for peer in parties[position].peers:
            complaints[peer].append((position, complaint_frame(problem.complaint)))

    while running:
        sent: dict[int, dict[int, bytes]] = {position: {} for position in range(4)}
        for position in list(running):
            try:
                next(running[position])
            except StopIteration as end:
                endings[position].result = end.value
                del running[position]
                continue
            except CommitteeAbort as problem:
                stop(position, problem)
                continue
            party = parties[position]
            if corruption is not None:
                corruption.before(party)
            frames = party.send_frames()
            endings[position].rounds_sent.append(party.round)
            for peer, frame in (corruption.frames(party, frames) if corruption else frames).items():
                sent[peer][position] = frame
        for position in list(running):
            try:
                _receive(parties[position], sent[position], complaints[position])
            except CommitteeAbort as problem:
                stop(position, problem)
    return endings


def finished(endings: Sequence[Ending]) -> list[Any]:
    """The four results. Raises the first CommitteeAbort, if there is one."""
    for ending in endings:
        if ending.abort is not None:
            raise ending.abort
    return [ending.result for ending in endings]


def _receive(party: Party, frames: dict[int, bytes], complaints: list[tuple[int, bytes]]) -> None:
    for peer, complaint in complaints:
        raise party.heard(peer, complaint)
    for peer, frame in frames.items():
        if is_complaint(frame):
            raise party.heard(peer, frame)
    party.receive_frames(frames)
