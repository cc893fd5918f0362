"""An evaluation as the node sees it: two disposable children, progress, one result, and nothing left behind.

The suite runs in one child with the rows and labels; the model runs in another, sandboxed; this process only passes
questions and answers between them, so that the node's event loop is never held up. Workers may start no processes of
their own, and a model must not share a process with the labels it is judged by.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np

from koinon.data.table import Table
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Unavailable
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import Seconds
from koinon.models.card import ModelCard
from koinon.models.onnx_export import weights_hash
from koinon.models.sandbox import SandboxedModel, SandboxLimits
from koinon.trust.evaluation import Evaluation, Progress, Task, check_task
from koinon.trust.evidence import EvaluationSettings, Evidence
from koinon.trust.recompute import check_linked
from koinon.trust.vector import TrustVector
from koinon.wire.catalogue import Failure
from koinon.wire.failures import error_of
from koinon.worker import Limits, Worker

CHILD: Final = "koinon.trust.child:main"
QUERY: Final = b"Q"
"""Child to parent: number of rows as 4 bytes, then float32 rows."""
ANSWER: Final = b"A"
"""Parent to child: float32 answers, in the order of the questions."""
PROGRESS: Final = b"P"
OUTCOME: Final = b"R"
FAILURE: Final = b"F"
"""Child to parent: a ``Failure``; the evaluation ended without a result."""
LARGEST_TASK_BYTES: Final = 256 * 1024 * 1024
_START_SECONDS: Final = 30.0


class TaskFrame(Record, frozen=True):
    """A ``Task`` on its way to the child; matrices as little-endian float64 bytes."""

    card: ModelCard
    weights_hash: bytes
    features: bytes
    target: bytes
    rows_root: bytes
    settings: EvaluationSettings
    seed: bytes
    member_features: bytes
    member_target: bytes


@dataclass(frozen=True)
class EvaluationLimits:
    """What the children of one evaluation may use.

    Attributes:
        memory_bytes: address space of the suite's child.
        cpu_seconds: processor time of each child.
        model: limits of the model's sandbox; its lifetime is that of the evaluation.
    """

    memory_bytes: int = 2 * 1024**3
    cpu_seconds: int = 120
    model: SandboxLimits = field(default_factory=lambda: SandboxLimits(call_seconds=10.0, cpu_seconds=120))


class EvaluationRun:
    """A running evaluation. Made by ``EvaluationRun.start``; leaving the block cancels it and kills both children."""

    def __init__(self, suite: Worker, model: SandboxedModel, task: Task) -> None:
        self._suite = suite
        self._model = model
        self._task = task
        self._progress: asyncio.Queue[Progress | None] = asyncio.Queue()
        self._relay = asyncio.create_task(self._pass_on(), name="evaluation relay")

    @classmethod
    @asynccontextmanager
    async def start(cls, onnx_bytes: bytes, task: Task, limits: EvaluationLimits | None = None) -> AsyncIterator[Self]:
        """Start both children and the evaluation.

        Raises:
            InvalidInput: the task cannot be carried out, the weights hash is not that of the bytes, or the scan
                refuses the model.
            Unavailable, Expired: a child could not be started, or the model not loaded in time.
        """
        limits = limits or EvaluationLimits()
        check_task(task)
        if weights_hash(onnx_bytes) != task.weights_hash:
            raise InvalidInput("the model's bytes are not those of the weights hash that is to be evaluated")
        wall = task.settings.deadline_milliseconds / 1000 + _START_SECONDS
        confinement = Limits(
            memory_bytes=limits.memory_bytes, cpu_seconds=limits.cpu_seconds, wall_seconds=Seconds(wall)
        )
        async with SandboxedModel.open(onnx_bytes, limits.model) as model, Worker.start(CHILD, confinement) as suite:
            columns = len(task.card.features)
            if model.metadata().columns != columns:
                raise InvalidInput(f"the model does not take the {columns} columns that its card declares")
            await suite.send(encode(_frame_of(task)))
            run = cls(suite, model, task)
            try:
                yield run
            finally:
                run._relay.cancel()
                await asyncio.wait({run._relay})
                if not run._relay.cancelled():
                    # Told to whoever awaited ``result``; a caller that left early did not want to know.
                    run._relay.exception()

    async def progress(self) -> AsyncIterator[Progress]:
        """Every stage as it begins, until the evaluation ends, in whatever way."""
        while (progress := await self._progress.get()) is not None:
            yield progress

    async def result(self) -> Evaluation:
        """Wait for the outcome.

        Raises:
            InvalidInput, Refused, Expired: as ``evaluate``.
            Unavailable: a child died or hit a limit; says which.
            Forged: the outcome contradicts itself.
        """
        return await asyncio.shield(self._relay)

    async def _pass_on(self) -> Evaluation:
        try:
            while True:
                frame = await self._suite.receive()
                kind, body = frame[:1], memoryview(frame)[1:]
                if kind == QUERY:
                    answer = (await self._model.predict(_rows_of(body))).data.cast("B")
                    # A suite that ended in the meantime has said why; what it said is received next.
                    with suppress(Unavailable):
                        await self._suite.send((ANSWER, answer))
                elif kind == PROGRESS:
                    self._progress.put_nowait(decode(Progress, body))
                elif kind == OUTCOME:
                    return self._conclude(body)
                elif kind == FAILURE:
                    raise error_of(decode(Failure, body))
                else:
                    raise MalformedMessage("the evaluation's process sent a frame of an unknown kind")
        finally:
            self._progress.put_nowait(None)

    def _conclude(self, body: memoryview) -> Evaluation:
        vector, evidence = decode(tuple[TrustVector, Evidence], body)
        check_linked(vector, evidence)
        if vector.weights_hash != self._task.weights_hash or evidence.rows_root != self._task.rows_root:
            raise Forged("the outcome is about another model or other rows than were asked for")
        return Evaluation(vector, evidence)


def task_of(frame: TaskFrame) -> Task:
    """The task in a frame. Raises InvalidInput where it cannot be carried out."""
    schema = frame.card.schema

    def table_of(features: bytes, target: bytes) -> Table:
        columns = len(schema.columns)
        return Table(schema, np.frombuffer(features, "<f8").reshape(-1, columns), np.frombuffer(target, "<f8"))

    members = table_of(frame.member_features, frame.member_target) if frame.member_target else None
    task = Task(
        frame.card,
        Hash32(frame.weights_hash),
        table_of(frame.features, frame.target),
        Hash32(frame.rows_root),
        frame.settings,
        frame.seed,
        members,
    )
    check_task(task)
    return task


def _frame_of(task: Task) -> TaskFrame:
    def matrix(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> bytes:
        return np.ascontiguousarray(values, "<f8").tobytes()

    members = task.members
    return TaskFrame(
        task.card,
        task.weights_hash,
        matrix(task.table.features),
        matrix(task.table.target),
        task.rows_root,
        task.settings,
        task.seed,
        matrix(members.features) if members is not None else b"",
        matrix(members.target) if members is not None else b"",
    )


def _rows_of(body: memoryview) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    count = int.from_bytes(body[:4], "little")
    values = np.frombuffer(body, np.float32, offset=4)
    return values.reshape(count, -1) if count else values.reshape(0, 1)
