"""Running somebody else's model: in a child without network, with limits on memory and time, watched on every call.

A model is loaded from bytes, so it has no folder to read from; it is scanned and parsed inside the child only. A
child that dies or hangs is an error of that call and of every later one; opening again works.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Expired, InvalidInput, MalformedMessage
from koinon.kernel.quantities import Seconds
from koinon.models.frames import (
    REQUEST,
    ModelMetadata,
    OpenModel,
    Operation,
    Status,
    joined,
    parse_reason,
    parse_reply,
)
from koinon.models.scan import DEFAULT_SCAN_LIMITS, ScanLimits
from koinon.worker import Limits, Worker

CHILD: Final = "koinon.models.child:main"
_FOREVER: Final = 10 * 365 * 86_400


@dataclass(frozen=True)
class SandboxLimits:
    """What a model's child may use.

    Attributes:
        memory_bytes: address space of the child. Python, numpy and onnxruntime reserve about 600 MB of it before the
        model. start_seconds: until the model is scanned and loaded. call_seconds: of one ``predict``; a child that
        takes longer is killed. lifetime_seconds: wall-clock time of the child; the default is as long as a service
        may run. cpu_seconds: processor time of the child in all. rows_per_call: largest batch. scan: what the file
        may contain.
    """

    memory_bytes: int = 2 * 1024**3
    start_seconds: float = 30.0
    call_seconds: float = 10.0
    lifetime_seconds: float = float(_FOREVER)
    cpu_seconds: int = _FOREVER
    rows_per_call: int = 65_536
    scan: ScanLimits = field(default=DEFAULT_SCAN_LIMITS)


DEFAULT_SANDBOX_LIMITS: Final = SandboxLimits()


class SandboxedModel:
    """A model in its own child. Made by ``SandboxedModel.open``; calls are answered one after the other."""

    def __init__(self, worker: Worker, limits: SandboxLimits, metadata: ModelMetadata) -> None:
        self._worker = worker
        self._limits = limits
        self._metadata = metadata
        self._turn = asyncio.Lock()
        self._sequence = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, onnx_bytes: bytes, limits: SandboxLimits = DEFAULT_SANDBOX_LIMITS) -> AsyncIterator[Self]:
        """Scan and load a model in a fresh child, and kill the child when the block is left.

        Raises:
            InvalidInput: the scan or onnxruntime refuses the file.
            Expired: it was not loaded within ``start_seconds``.
            Unavailable: the child could not be started, or died while loading.
        """
        if len(onnx_bytes) > limits.scan.model_bytes:
            raise InvalidInput(
                f"the model file has {len(onnx_bytes)} bytes; at most {limits.scan.model_bytes} are allowed"
            )
        async with Worker.start(CHILD, _worker_limits(limits)) as worker:
            request = OpenModel(
                onnx_bytes,
                limits.scan.model_bytes,
                limits.scan.nodes,
                limits.scan.constant_bytes,
                limits.scan.activation_bytes,
                limits.scan.batch_rows,
            )
            try:
                async with asyncio.timeout(limits.start_seconds):
                    await worker.send(encode(request))
                    _, _, body = parse_reply(await worker.receive())
            except TimeoutError:
                raise Expired(f"the model was not loaded within {limits.start_seconds:g} seconds") from None
            yield cls(worker, limits, decode(ModelMetadata, body))

    def metadata(self) -> ModelMetadata:
        """Inputs, outputs and the scan's bounds."""
        return self._metadata

    async def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """One answer per row.

        Args:
            rows: float32 (N, columns) in original units, N up to ``rows_per_call``.

        Returns:
            float32 (N,), finite.

        Raises:
            InvalidInput: rows of another shape or type, or the model answers these rows with nothing usable.
            Expired: the call took longer than ``call_seconds``; the child was killed.
            Unavailable: the child is dead; open the model again.
        """
        self._check(rows)
        if not len(rows):
            return np.empty(0, np.float32)
        body = await self._ask(Operation.PREDICT, _bytes_of(rows), rows.shape[0], rows.shape[1])
        if body.nbytes != 4 * len(rows):
            self._worker.cancel()
            raise MalformedMessage("the model's process answered another number of rows; it was stopped")
        answers = np.frombuffer(body, np.float32)
        if not np.isfinite(answers).all():
            raise InvalidInput("the model answered something that is not a finite number on one of the rows")
        return answers

    async def time(self, rows: NDArray[np.float32], repeats: int) -> NDArray[np.float64]:
        """Seconds of each of ``repeats`` runs on ``rows``, taken inside the child. Raises as ``predict`` does."""
        self._check(rows)
        body = await self._ask(
            Operation.TIME, struct.pack("<I", repeats) + _bytes_of(rows), rows.shape[0], rows.shape[1]
        )
        if body.nbytes != 8 * repeats:
            raise MalformedMessage("the model's process answered another number of timings")
        return np.frombuffer(body, np.float64)

    async def derive(self, variant: str) -> bytes:
        """ONNX bytes of a variant, rewritten inside the child; see ``models.variants``. Untrusted like the model
        itself.

        Raises:
            InvalidInput: this model has no such variant.
            Expired, Unavailable: as ``predict``.
        """
        return bytes(await self._ask(Operation.DERIVE, variant.encode(), 0, 0))

    def _check(self, rows: NDArray[np.float32]) -> None:
        columns = self._metadata.columns
        if not columns:
            raise InvalidInput(
                "the model does not take rows of numbers and answer one number each; only such models run here"
            )
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != columns:
            raise InvalidInput(
                f"the model takes float32 rows of {columns} columns; got {rows.dtype} of shape {tuple(rows.shape)}"
            )
        if len(rows) > self._limits.rows_per_call:
            raise InvalidInput(f"{len(rows)} rows are more than the {self._limits.rows_per_call} allowed in one call")

    async def _ask(self, operation: Operation, body: bytes | memoryview, rows: int, columns: int) -> memoryview:
        async with self._turn:
            self._sequence = sequence = (self._sequence + 1) % 2**32
            try:
                async with asyncio.timeout(self._limits.call_seconds):
                    await self._worker.send(joined(REQUEST.pack(operation, sequence, rows, columns), body))
                    while True:
                        status, answered, reply = parse_reply(await self._worker.receive())
                        # The answer to a call whose caller went away meanwhile comes first and is dropped.
                        if answered == sequence:
                            break
            except TimeoutError:
                self._worker.cancel()
                raise Expired(
                    f"the model did not answer within {self._limits.call_seconds:g} seconds and was stopped; "
                    "open it again"
                ) from None
            except MalformedMessage:
                self._worker.cancel()
                raise
        if status is Status.FAILED:
            raise InvalidInput(parse_reason(reply))
        return reply


def _worker_limits(limits: SandboxLimits) -> Limits:
    largest = max(limits.scan.model_bytes + 4096, limits.rows_per_call * 4096 * 4)
    return Limits(
        memory_bytes=limits.memory_bytes,
        cpu_seconds=limits.cpu_seconds,
        wall_seconds=Seconds(limits.lifetime_seconds),
        file_bytes=2 * limits.scan.model_bytes,
        frame_bytes=min(largest, Limits().frame_bytes),
        network=False,
    )


def _bytes_of(rows: NDArray[np.float32]) -> memoryview:
    return np.ascontiguousarray(rows).data.cast("B") if rows.size else memoryview(b"")
