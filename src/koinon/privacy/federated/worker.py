"""The disposable child in which an owner trains: ``koinon.privacy.federated.worker:main``. It reaches no network.

node → HoldRows, then TrainLocally as often as there are rounds; worker → LocalWords for each
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import numpy as np

from koinon.crypto.random import SystemRng
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, MalformedMessage
from koinon.kernel.quantities import Seconds
from koinon.privacy.federated import encoding, training
from koinon.privacy.federated.training import Rows, TrainingPlan
from koinon.wire.catalogue import from_frame, to_frame
from koinon.wire.federated import HoldRows, LocalWords, TrainLocally
from koinon.wire.frames import LARGEST_BODY
from koinon.worker import Limits, Worker
from koinon.worker.channel import Channel

TARGET: Final = "koinon.privacy.federated.worker:main"
_MEMORY_BYTES: Final = 4 * 1024**3


def main(channel: Channel) -> None:
    """Train as often as asked. An error of the training ends the child and reaches the node as it was raised."""
    held = from_frame(channel.receive())
    if not isinstance(held, HoldRows):
        raise MalformedMessage("a training worker is given its rows first")
    plan = decode(TrainingPlan, held.plan)
    features = np.frombuffer(held.features, "<f8").reshape(-1, plan.features)
    rows = Rows(features, np.frombuffer(held.targets, "<f8"))
    model = training.check_plan(plan, held.owners)
    training.check_rows(plan, rows)
    rng = SystemRng()
    while True:
        order = from_frame(channel.receive())
        if not isinstance(order, TrainLocally):
            raise MalformedMessage("a training worker that has its rows is asked to train, and nothing else")
        parameters = parameters_from(order.parameters, model.size)
        words = training.contribution(plan, model, parameters, rows, held.owner, order.round, rng)
        channel.send(to_frame(LocalWords(encoding.to_bytes(words))))


def parameters_from(data: bytes, size: int) -> np.ndarray:
    """Parameters (size,) from little-endian float64. Raises MalformedMessage unless these are ``size`` finite ones."""
    if len(data) != 8 * size:
        raise MalformedMessage(f"a model of {size} parameters takes {8 * size} bytes")
    parameters = np.frombuffer(data, "<f8")
    if not np.isfinite(parameters).all():
        raise MalformedMessage("a parameter of the joint model is not finite")
    return parameters


def parameters_to(parameters: np.ndarray) -> bytes:
    """Little-endian float64."""
    return np.ascontiguousarray(parameters, "<f8").tobytes()


class LocalTraining:
    """A child that holds this owner's rows and trains on them."""

    def __init__(self, worker: Worker, plan: TrainingPlan, length: int) -> None:
        self._worker, self._plan, self._length = worker, plan, length

    async def words(self, number: int, parameters: np.ndarray) -> np.ndarray:
        """The encoded update of one round.

        Raises:
            InvalidInput: the rows do not fit the plan, or training diverged.
            Unavailable, Expired: the child ended otherwise.
        """
        await self._worker.send(to_frame(TrainLocally(number, parameters_to(parameters))))
        answer = from_frame(await self._worker.receive())
        if not isinstance(answer, LocalWords):
            raise InvalidInput("the training worker answered with something other than an update")
        return encoding.from_bytes(answer.words, self._length, self._plan.word_bits)


@asynccontextmanager
async def local_training(
    plan: TrainingPlan, owners: int, owner: int, rows: Rows, seconds: Seconds
) -> AsyncIterator[LocalTraining]:
    """Start a child for a whole training, with at most so many seconds for all of it.

    Raises:
        InvalidInput: a plan that so many owners cannot use, or rows that do not fit it.
    """
    model = training.check_plan(plan, owners)
    training.check_rows(plan, rows)
    limits = Limits(
        memory_bytes=_MEMORY_BYTES, cpu_seconds=int(seconds) + 60, wall_seconds=seconds, frame_bytes=LARGEST_BODY
    )
    async with Worker.start(TARGET, limits) as worker:
        hold = HoldRows(encode(plan), owners, owner, parameters_to(rows.features), parameters_to(rows.targets))
        await worker.send(to_frame(hold))
        yield LocalTraining(worker, plan, training.length_of(plan, model))
