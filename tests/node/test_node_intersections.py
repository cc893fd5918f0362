"""What an owner's node does where the other owner's breaks an intersection off."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from koinon.crypto.random import SystemRng
from koinon.kernel.errors import Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.node.intersections import Occasion, intersection
from koinon.privacy.joins.intersection import begin, step
from koinon.privacy.joins.states import Begin, Received, Send, State, Terms
from koinon.wire.catalogue import Message, from_frame, to_frame

SESSION = bytes(range(32))
PEER = NodeId(bytes(32))


class Leaving:
    """A link to an asker that is gone as soon as it hears a message of one kind."""

    peer = PEER

    def __init__(self, last: str) -> None:
        self._last, self._rng = last, SystemRng()
        self._state: State = begin(Terms(SESSION, asks=True, both_learn=True), ["a guess"], self._rng)
        self._said: list[bytes] = []
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        self._do(Begin())

    def _do(self, event: Begin | Received) -> None:
        self._state, effects = step(self._state, event, self._rng)
        self._said.extend(to_frame(effect.message) for effect in effects if isinstance(effect, Send))

    async def send(self, frame: bytes) -> None:
        self._heard.put_nowait(from_frame(frame))

    async def receive(self) -> bytes:
        while not self._said:
            message = await self._heard.get()
            if type(message).__name__ == self._last:
                raise Unavailable("the link is gone")
            self._do(Received(message))
        return self._said.pop(0)

    async def close(self) -> None: ...


@pytest.mark.parametrize(("last", "runs"), [("Values", 1), ("TransferChoices", 5)])
async def test_an_asker_that_breaks_off_once_it_has_values_cannot_ask_again(
    last: str, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could ask for other identifiers each time, and so for more than the other accepts."""
    monkeypatch.setattr("koinon.node.intersections.RETRY_SECONDS", 0.0)
    links: list[Leaving] = []

    async def accept_link(*_: Any) -> Leaving:
        links.append(Leaving(last))
        return links[-1]

    context: Any = SimpleNamespace(transport=SimpleNamespace(accept_link=accept_link))
    occasion = Occasion(PEER, SESSION, asks=False, both_learn=True, most=100)
    with pytest.raises(Unavailable):
        await intersection(context, occasion, ["a", "b"], Seconds(120.0))
    assert len(links) == runs
