"""Open Inference Protocol v2 on the wire: request bytes to a matrix, a vector to response bytes. Pure functions.

Both forms of the protocol: JSON data, and the binary-data extension, where the raw little-endian tensor follows the
JSON part and ``Inference-Header-Content-Length`` says where. Models here have one input FP32 [N, columns] and one
output FP32 [N].
"""

from dataclasses import dataclass
from typing import Annotated, Final, NewType

import msgspec
import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import InvalidInput

Matrix = NewType("Matrix", NDArray[np.float32])
"""float32, shape (N, columns), finite."""

DATATYPE: Final = "FP32"
_ITEM_BYTES: Final = 4
_LONGEST_NAME: Final = 256
_LITTLE_ENDIAN: Final = np.dtype("<f4")

_Extent = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Parameter = bool | int | float | str


class _Input(msgspec.Struct):
    name: str
    shape: list[_Extent]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, _Parameter] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, _Parameter] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    outputs: list[_Output] = []
    parameters: dict[str, _Parameter] = {}


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives.

    Attributes:
        columns: features per row.
    """

    input_name: str
    output_name: str
    columns: int


@dataclass(frozen=True)
class InferenceRequest:
    """A request that fits the model: its rows, and how the answer is wanted."""

    matrix: Matrix
    identifier: str
    binary_output: bool


_request_decoder: Final = msgspec.json.Decoder(_Request)
_flat_decoder: Final = msgspec.json.Decoder(list[float])
_nested_decoder: Final = msgspec.json.Decoder(list[list[float]])
_encoder: Final = msgspec.json.Encoder()


def decode_request(
    body: bytes | bytearray, header_length: int | None, signature: Signature, most_rows: int
) -> InferenceRequest:
    """Read an inference request and check it whole against the model.

    Args:
        body: the request body, decompressed.
        header_length: value of ``Inference-Header-Content-Length``; None where the whole body is JSON.
        signature: the model's.
        most_rows: rows one call may hold.

    Raises:
        InvalidInput: anything else than one finite FP32 matrix of 1 to ``most_rows`` rows for this model.
    """
    if header_length is not None and not 0 < header_length <= len(body):
        raise InvalidInput(f"Inference-Header-Content-Length {header_length} does not fit a body of {len(body)} bytes")
    view = memoryview(body)
    split = len(body) if header_length is None else header_length
    try:
        request = _request_decoder.decode(view[:split])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidInput(f"the request is not an Open Inference v2 request: {_without_values(problem)}") from None
    if len(request.inputs) != 1:
        raise InvalidInput(f"the model takes one input, {signature.input_name!r}; got {len(request.inputs)}")
    rows = _check_shape(request.inputs[0], signature, most_rows)
    tensor = _tensor(request.inputs[0], view[split:], rows * signature.columns, signature)
    matrix = tensor.reshape(rows, signature.columns)
    if not np.isfinite(matrix).all():
        raise InvalidInput(f"input {signature.input_name!r} holds a value that is no finite FP32 number")
    if len(request.id) > _LONGEST_NAME:
        raise InvalidInput(f"the request id is longer than {_LONGEST_NAME} characters")
    return InferenceRequest(Matrix(matrix), request.id, _wants_binary(request, signature))


def encode_response(
    model: str, version: str, request: InferenceRequest, signature: Signature, answer: NDArray[np.float32]
) -> tuple[bytes, int | None]:
    """Write the response.

    Returns:
        The body, and the length of its JSON part where a binary tensor follows it.
    """
    output: dict[str, object] = {"name": signature.output_name, "datatype": DATATYPE, "shape": [len(answer)]}
    response = {"model_name": model, "model_version": version, "outputs": [output]}
    if request.identifier:
        response["id"] = request.identifier
    if not request.binary_output:
        output["data"] = answer.tolist()
        return _encoder.encode(response), None
    raw = answer.astype(_LITTLE_ENDIAN, copy=False).tobytes()
    output["parameters"] = {"binary_data_size": len(raw)}
    header = _encoder.encode(response)
    return header + raw, len(header)


def _check_shape(tensor: _Input, signature: Signature, most_rows: int) -> int:
    if tensor.name != signature.input_name:
        raise InvalidInput(f"the model's input is {signature.input_name!r}; got {tensor.name[:_LONGEST_NAME]!r}")
    if tensor.datatype != DATATYPE:
        raise InvalidInput(f"input {tensor.name!r} must have datatype {DATATYPE}; got {tensor.datatype[:16]!r}")
    if len(tensor.shape) != 2 or tensor.shape[1] != signature.columns or tensor.shape[0] < 1:
        shown = str(tensor.shape)[:64]
        raise InvalidInput(f"input {tensor.name!r} must have shape [rows, {signature.columns}]; got {shown}")
    if tensor.shape[0] > most_rows:
        raise InvalidInput(f"one call may hold {most_rows} rows; got {tensor.shape[0]}; split it")
    return tensor.shape[0]


def _tensor(tensor: _Input, binary: memoryview, count: int, signature: Signature) -> NDArray[np.float32]:
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if bytes(tensor.data):
            raise InvalidInput(f"input {tensor.name!r} has both data and binary_data_size; send one of them")
        if type(size) is not int or size != count * _ITEM_BYTES or size != len(binary):
            raise InvalidInput(
                f"input {tensor.name!r} needs {count * _ITEM_BYTES} bytes of binary data after the JSON part; "
                f"got {len(binary)}"
            )
        return np.frombuffer(binary, _LITTLE_ENDIAN).astype(np.float32, copy=False)
    if len(binary):
        raise InvalidInput(f"{len(binary)} bytes follow the JSON part, but no input has binary_data_size")
    values = _json_values(bytes(tensor.data), signature)
    if len(values) != count:
        raise InvalidInput(f"input {tensor.name!r} needs {count} numbers for its shape; got {len(values)}")
    with np.errstate(over="ignore"):  # a number above FP32 becomes infinite and is refused with the others
        return np.asarray(values, np.float64).astype(np.float32)


def _json_values(data: bytes, signature: Signature) -> list[float]:
    try:
        if not data[1:].lstrip().startswith(b"["):
            return _flat_decoder.decode(data)
        rows = _nested_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput(
            f"the data of input {signature.input_name!r} must be a list of numbers or of rows of numbers"
        ) from None
    if any(len(row) != signature.columns for row in rows):
        raise InvalidInput(f"each row of input {signature.input_name!r} must have {signature.columns} numbers")
    return [value for row in rows for value in row]


def _wants_binary(request: _Request, signature: Signature) -> bool:
    if not request.outputs:
        return request.parameters.get("binary_data_output") is True
    if len(request.outputs) != 1 or request.outputs[0].name != signature.output_name:
        raise InvalidInput(f"the model's only output is {signature.output_name!r}")
    parameters = request.outputs[0].parameters
    if "classification" in parameters:
        raise InvalidInput("the classification extension is not offered; ask for the plain output")
    wanted = parameters.get("binary_data", request.parameters.get("binary_data_output", False))
    return wanted is True


def _without_values(problem: Exception) -> str:
    """msgspec names paths and types, and quotes only enumerations and tags, of which the request has none."""
    return str(problem)[:200]
