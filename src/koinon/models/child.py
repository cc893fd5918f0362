"""The program of a model's child: scan the file, load it, answer until the parent closes the channel.

Everything that touches an untrusted ONNX file happens here: the protobuf parser, shape inference, graph rewriting and
onnxruntime. The process can open no socket, start no process, and dies alone.
"""

import struct
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.codec import MAXIMUM_MESSAGE_BYTES, decode, encode
from koinon.kernel.errors import InvalidInput, KoinonError
from koinon.models.frames import (
    REPLY,
    REQUEST,
    ModelMetadata,
    OpenModel,
    Operation,
    Status,
    TensorSpec,
    joined,
)
from koinon.models.runtime import open_session
from koinon.models.scan import ScanLimits, ScanReport, scan

if TYPE_CHECKING:
    import onnxruntime

    from koinon.worker import Channel

_NUMBER_TYPES: Final = {"float": np.float32, "double": np.float64, "float16": np.float16}
_PREFERRED_OUTPUTS: Final = ("probability", "probabilities")
_MOST_REPEATS: Final = 100_000


def main(channel: "Channel") -> None:
    """Serve one model over the channel; ends by Unavailable when the parent closes it."""
    model = _Model.open(decode(OpenModel, channel.receive(), limit=channel.frame_bytes + MAXIMUM_MESSAGE_BYTES))
    channel.send((REPLY.pack(Status.DONE, 0), encode(model.metadata)))
    while True:
        frame = channel.receive()
        operation, sequence, rows, columns = REQUEST.unpack_from(frame)
        try:
            body = model.serve(Operation(operation), memoryview(frame)[REQUEST.size :], rows, columns)
        except KoinonError as problem:
            channel.send((REPLY.pack(Status.FAILED, sequence), str(problem).encode()))
        else:
            channel.send(joined(REPLY.pack(Status.DONE, sequence), body))


class _Model:
    """A loaded session and how rows go in and answers come out of it."""

    def __init__(self, onnx_bytes: bytes, session: "onnxruntime.InferenceSession", metadata: ModelMetadata) -> None:
        self.metadata = metadata
        self._bytes = onnx_bytes
        self._session = session
        self._input = metadata.inputs[0].name
        self._dtype = _NUMBER_TYPES.get(metadata.inputs[0].type, np.float32)
        output = _answer_of(metadata.outputs)
        self._outputs = [output.name] if output is not None else []

    @classmethod
    def open(cls, request: OpenModel) -> "_Model":
        limits = ScanLimits(
            request.model_bytes,
            request.nodes,
            request.constant_bytes,
            request.batch_activation_bytes,
            request.batch_rows,
        )
        report = scan(request.onnx_bytes, limits)
        try:
            session = open_session(request.onnx_bytes)
        except Exception as problem:
            # onnxruntime raises a type of its own per kind of failure, and its texts quote the file.
            raise InvalidInput(
                f"onnxruntime cannot load the model ({type(problem).__name__}); check its export"
            ) from None
        return cls(request.onnx_bytes, session, _describe(session, report))

    def serve(self, operation: Operation, body: memoryview, rows: int, columns: int) -> "bytes | memoryview":
        if operation is Operation.DERIVE:
            from koinon.models.variants import derive

            return derive(self._bytes, bytes(body).decode())
        if operation is Operation.TIME:
            (repeats,) = struct.unpack_from("<I", body)
            matrix = np.frombuffer(body, np.float32, rows * columns, 4).reshape(rows, columns)
            return self._time(matrix, min(repeats, _MOST_REPEATS)).tobytes()
        return self._run(np.frombuffer(body, np.float32).reshape(rows, columns)).data.cast("B")

    def _run(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        rows: NDArray[Any] = matrix if self._dtype is np.float32 else matrix.astype(self._dtype)
        try:
            (answer,) = self._session.run(self._outputs, {self._input: rows})
        except Exception as problem:
            # As above: the type says enough, the text may hold anything.
            raise InvalidInput(f"the model failed on {len(matrix)} rows ({type(problem).__name__})") from None
        if answer.ndim == 2 and answer.shape[1] in (1, 2):
            answer = answer[:, -1]
        if answer.shape != (len(matrix),):
            raise InvalidInput(f"the model answered shape {tuple(answer.shape)} for {len(matrix)} rows")
        return np.ascontiguousarray(answer, dtype=np.float32)

    def _time(self, matrix: NDArray[np.float32], repeats: int) -> NDArray[np.float64]:
        seconds = np.empty(repeats)
        for repeat in range(repeats):
            started = time.perf_counter()
            self._run(matrix)
            seconds[repeat] = time.perf_counter() - started
        return seconds


def _describe(session: "onnxruntime.InferenceSession", report: ScanReport) -> ModelMetadata:
    inputs = tuple(_spec(value) for value in session.get_inputs())
    outputs = tuple(_spec(value) for value in session.get_outputs())
    first = inputs[0]
    takes_rows = len(inputs) == 1 and first.type in _NUMBER_TYPES and len(first.shape) == 2 and first.shape[1] > 0
    columns = first.shape[1] if takes_rows and first.shape[0] == -1 and _answer_of(outputs) is not None else 0
    return ModelMetadata(inputs, outputs, columns, report.operators, report.constant_bytes, report.activation_bytes)


def _spec(value: Any) -> TensorSpec:
    kind = str(value.type).removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape or ())
    return TensorSpec(str(value.name), kind, shape)


def _answer_of(outputs: tuple[TensorSpec, ...]) -> TensorSpec | None:
    """The output that holds one number per row: by name, else the first of a number type with one or two columns."""
    fitting = [
        output
        for output in outputs
        if output.type in _NUMBER_TYPES and len(output.shape) in (1, 2) and output.shape[1:] in ((), (1,), (2,), (-1,))
    ]
    named = [output for output in fitting if output.name in _PREFERRED_OUTPUTS]
    return next(iter(named or fitting), None)
