"""Reading an operator's own ONNX file, and rows for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.kernel.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

    from koinon.privacy.encrypted.models import EncryptedModel

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


def read_encrypted_work(model: Path, rows: Path, piece_rows: int) -> "tuple[EncryptedModel, np.ndarray]":
    """A model for encrypted rows, and rows (n, features) for it, to be answered in pieces.

    Raises:
        InvalidInput: files that cannot be used so or do not fit, or pieces that do not fit into a ciphertext.
    """
    from koinon.data.table import read_features
    from koinon.privacy.encrypted.ckks import rows_for
    from koinon.privacy.encrypted.onnx_layers import layers_of

    layers = layers_of(read_onnx(model))
    if not 1 <= piece_rows <= rows_for(layers.depth):
        raise InvalidInput(f"a piece has 1 to {rows_for(layers.depth)} rows, not {piece_rows}")
    values = read_features(rows, ())
    if values.shape[1] != layers.features:
        raise InvalidInput(f"the model takes rows of {layers.features} numbers; the file has {values.shape[1]} columns")
    return layers, values
