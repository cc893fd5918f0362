"""One owner's side of an intersection over a link to the other owner."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np

from koinon.kernel.effects import Link, Rng
from koinon.kernel.errors import Expired, MalformedMessage
from koinon.kernel.quantities import Seconds
from koinon.privacy.joins.intersection import share_done, step
from koinon.privacy.joins.states import Begin, Event, Greeting, Learned, Received, State
from koinon.wire.catalogue import pack, unpack

_NUMBER_BYTES: Final = 2


async def _unseen(_: float) -> None:
    """For who does not want to know how far it is."""


async def intersect(
    link: Link,
    side: Greeting,
    rng: Rng,
    seconds: Seconds,
    progress: Callable[[float], Awaitable[None]] = _unseen,
) -> np.ndarray | None:
    """Carry an intersection out.

    Args:
        progress: told after every step how much is done, from 0 to 1.

    Returns:
        The numbers of this owner's items that both have, ascending; None where it agreed to learn nothing.

    Raises:
        Refused, Forged, MalformedMessage: as ``step``.
        Expired: not done after so many seconds.
        Unavailable: the link is gone.
    """
    try:
        async with asyncio.timeout(seconds):
            state: State = side
            event: Event = Begin()
            while True:
                # A step may work for seconds on a million items.
                state, effects = await asyncio.to_thread(step, state, event, rng)
                for effect in effects:
                    if isinstance(effect, Learned):
                        return effect.members
                    number, body = pack(effect.message)
                    await link.send(number.to_bytes(_NUMBER_BYTES, "big") + body)
                await progress(share_done(state))
                frame = await link.receive()
                if len(frame) < _NUMBER_BYTES:
                    raise MalformedMessage("a frame begins with the number of its message")
                event = Received(
                    unpack(int.from_bytes(frame[:_NUMBER_BYTES], "big"), memoryview(frame)[_NUMBER_BYTES:])
                )
    except TimeoutError:
        raise Expired(f"the intersection was not done after {seconds:.0f} s; begin again with more time") from None
