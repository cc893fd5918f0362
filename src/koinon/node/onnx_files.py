"""Reading an operator's own ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.kernel.errors import InvalidInput

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST_FILE: Final = 64 * 1024**2


def read_onnx(path: Path) -> "ModelProto":
    """A model without external data. Raises InvalidInput for what is none, or cannot be read."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs among our packages
    from onnx import load_from_string

    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InvalidInput(f"{path.name} is larger than {LARGEST_FILE >> 20} MiB")
        model = load_from_string(path.read_bytes())
    except OSError as problem:
        raise InvalidInput(f"cannot read {path.name}: {problem.strerror}") from None
    except (DecodeError, RecursionError):
        raise InvalidInput(f"{path.name} is not an ONNX model") from None
    if any(each.external_data for each in model.graph.initializer):
        raise InvalidInput(f"{path.name} keeps weights in other files; save it as one file")
    return model
