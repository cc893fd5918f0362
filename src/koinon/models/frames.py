"""What a model's parent and child say to each other: a few bytes of head and raw numbers, no text format.

The parent treats every reply as hostile: the child has run somebody else's file.
"""

import struct
from enum import IntEnum
from typing import Final

from koinon.kernel.codec import Record
from koinon.kernel.errors import MalformedMessage

REQUEST: Final = struct.Struct("<BIII")
"""Operation, sequence number, rows, columns; then the body."""
REPLY: Final = struct.Struct("<BI")
"""Status, sequence number; then the body."""
LONGEST_REASON: Final = 300
_JOINED_BYTES: Final = 64 * 1024
"""Up to here copying is cheaper than one more system call for each part."""


class Operation(IntEnum):
    """What the parent asks for."""

    PREDICT = 1
    """Body: float32 rows. Reply: float32 answers, one per row."""
    TIME = 2
    """Body: number of repeats as 4 bytes, float32 rows. Reply: float64 seconds of each repeat."""
    DERIVE = 3
    """Body: a variant's name. Reply: that variant's ONNX bytes."""


class Status(IntEnum):
    """How the child answers."""

    DONE = 0
    FAILED = 1
    """The body is one sentence."""


class TensorSpec(Record, frozen=True):
    """One input or output: name, element type such as ``float`` or ``int64``, sizes with −1 for those that vary."""

    name: str
    type: str
    shape: tuple[int, ...]


class ModelMetadata(Record, frozen=True):
    """What a loaded model takes and gives.

    Attributes:
        inputs, outputs: in the model's order.
        columns: how many columns ``predict`` takes; 0 for a model that is not "rows of numbers to one number per row".
        operators: how often each operator occurs.
        constant_bytes, activation_bytes: the scan's bounds.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    columns: int
    operators: tuple[tuple[str, int], ...]
    constant_bytes: int
    activation_bytes: int


class OpenModel(Record, frozen=True):
    """The first frame to a model's child: the file, and what the scan allows."""

    onnx_bytes: bytes
    model_bytes: int
    nodes: int
    constant_bytes: int
    batch_activation_bytes: int
    batch_rows: int


def joined(head: bytes, body: bytes | memoryview) -> bytes | tuple[bytes, bytes | memoryview]:
    """Head and body as one buffer where that is cheaper, else as two."""
    return head + body if len(body) <= _JOINED_BYTES else (head, body)


def parse_reply(frame: bytes) -> tuple[Status, int, memoryview]:
    """Status, sequence number and body of a reply. Raises MalformedMessage for anything else."""
    if len(frame) < REPLY.size or frame[0] not in (Status.DONE, Status.FAILED):
        raise MalformedMessage("the model's process answered with something that is no reply; it was stopped")
    status, sequence = REPLY.unpack_from(frame)
    return Status(status), sequence, memoryview(frame)[REPLY.size :]


def parse_reason(body: memoryview) -> str:
    """The sentence of a failed reply, printable and short whatever the child sent."""
    text = bytes(body[:LONGEST_REASON]).decode("utf-8", errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text) or "the model failed"
