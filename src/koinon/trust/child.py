"""The program of an evaluation's child: it holds the rows and the labels, and asks its parent for the model's answers.

The model itself runs in a second child of the parent. A model file that takes over its own process therefore learns
the features it is asked about, which it must, and never a label, a score or the evidence.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import KoinonError, Unavailable
from koinon.trust.evaluation import Progress, evaluate
from koinon.trust.run import ANSWER, FAILURE, LARGEST_TASK_BYTES, OUTCOME, PROGRESS, QUERY, TaskFrame, task_of
from koinon.wire.failures import failure_of

if TYPE_CHECKING:
    from koinon.worker import AsyncChannel


async def main(channel: "AsyncChannel") -> None:
    """Run one evaluation over the channel and send its outcome."""
    task = task_of(decode(TaskFrame, await channel.receive(), limit=LARGEST_TASK_BYTES))
    remote = _RemoteModel(channel)

    async def report(progress: Progress) -> None:
        await channel.send((PROGRESS, encode(progress)))

    listening = asyncio.create_task(remote.listen())
    try:
        evaluation = await evaluate(remote.predict, task, report)
    except KoinonError as problem:
        await channel.send((FAILURE, encode(failure_of(problem))))
        return
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError, Unavailable):
            await listening
    await channel.send((OUTCOME, encode((evaluation.vector, evaluation.evidence))))


class _RemoteModel:
    """The model behind the parent: questions go out as they come, answers come back in the same order."""

    def __init__(self, channel: "AsyncChannel") -> None:
        self._channel = channel
        self._waiting: deque[asyncio.Future[bytes]] = deque()

    async def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        # Appended before anything is awaited, so that the order of waiting is the order of sending.
        self._waiting.append(answer)
        await self._channel.send((QUERY, len(rows).to_bytes(4, "little"), rows.data.cast("B")))
        return np.frombuffer(await answer, np.float32)

    async def listen(self) -> None:
        """Hand every answer to whoever asked first. Ends by Unavailable when the parent closes the channel."""
        while True:
            frame = await self._channel.receive()
            answer = self._waiting.popleft()
            if frame[:1] == ANSWER and not answer.done():
                answer.set_result(frame[1:])
