"""Trained logistic-regression parameters as an ONNX model, and the check that both give the same answers.

The graph reads as the formula does::

    features [N, d] --Sub centre--> --Mul scale--> [-1, 1] --Gemm coefficients, intercept--> --Sigmoid--> --Squeeze-->
    probability [N]

``variants.fuse_affine`` later folds it into one Gemm; what is published first is the form a reader can check by eye.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import Hash32

if TYPE_CHECKING:
    import onnx

FloatArray = NDArray[np.float64]

INPUT_NAME: Final = "features"
OUTPUT_NAME: Final = "probability"
OPSET: Final = 17
IR_VERSION: Final = 8
DEFAULT_TOLERANCE: Final = 2e-6
"""Largest allowed difference of two probabilities; float32 arithmetic over a hundred columns stays below 1e-6."""
_RANDOM_ROWS: Final = 512


@dataclass(frozen=True, eq=False)
class LogisticParameters:
    """A logistic model over columns scaled by their public ranges to [-1, 1].

    ``p(x) = sigmoid(intercept + sum_j coefficients_j * (2 * (x_j - low_j) / (high_j - low_j) - 1))``

    Attributes:
        low, high: float64 (d,), public column ranges in original units, ``low < high``.
        coefficients: float64 (d,), per unit of the scaled column.
        intercept: float64.
    """

    low: FloatArray
    high: FloatArray
    coefficients: FloatArray
    intercept: float

    def probability(self, features: FloatArray) -> FloatArray:
        """The reference answer in float64: features (N, d) in original units to probabilities (N,)."""
        scaled = (np.asarray(features, np.float64) - self.centre) * self.scale
        score = scaled @ self.coefficients + self.intercept
        # exp of a non-positive number only, so that no score overflows.
        small = np.exp(-np.abs(score))
        return np.where(score >= 0, 1 / (1 + small), small / (1 + small))

    @property
    def centre(self) -> FloatArray:
        return (self.high + self.low) / 2

    @property
    def scale(self) -> FloatArray:
        return 2 / (self.high - self.low)


def check_parameters(parameters: LogisticParameters) -> None:
    """Refuse parameters that are no model. Raises InvalidInput."""
    shape = parameters.coefficients.shape
    if len(shape) != 1 or not shape[0] or parameters.low.shape != shape or parameters.high.shape != shape:
        raise InvalidInput("low, high and coefficients must be vectors of one length, at least 1")
    everything = np.concatenate(
        [parameters.low, parameters.high, parameters.coefficients, np.array([parameters.intercept])]
    )
    if not np.isfinite(everything).all():
        raise InvalidInput("ranges, coefficients and intercept must be finite; the training did not converge")
    if not (parameters.low < parameters.high).all():
        raise InvalidInput("every column's range must have low below high")
    if (np.abs(everything) > float(np.finfo(np.float32).max) / 4).any() or (parameters.scale > 1e30).any():
        raise InvalidInput("ranges, coefficients and intercept must fit 32-bit numbers; rescale the columns")


def export_logistic(parameters: LogisticParameters) -> bytes:
    """ONNX bytes of the model: ``features`` float32 [N, d] in original units to ``probability`` float32 [N].

    The same parameters always give the same bytes. Call ``check_equal`` before publishing them.

    Raises:
        InvalidInput: the parameters are no model.
    """
    check_parameters(parameters)
    from onnx import TensorProto, helper, numpy_helper

    width = len(parameters.coefficients)
    constants: dict[str, NDArray[Any]] = {
        "centre": parameters.centre.astype(np.float32),
        "scale": parameters.scale.astype(np.float32),
        "coefficients": parameters.coefficients.astype(np.float32).reshape(width, 1),
        "intercept": np.array([parameters.intercept], np.float32),
        "column": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Sub", [INPUT_NAME, "centre"], ["centred"], name="centre_columns"),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"], name="scale_columns"),
        helper.make_node("Gemm", ["scaled", "coefficients", "intercept"], ["score"], name="weigh_columns"),
        helper.make_node("Sigmoid", ["score"], ["probability_column"], name="to_probability"),
        helper.make_node("Squeeze", ["probability_column", "column"], [OUTPUT_NAME], name="to_vector"),
    ]
    graph = helper.make_graph(
        nodes,
        "logistic_regression",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return model_of(graph)


def model_of(graph: "onnx.GraphProto", further: Mapping[str, int] | None = None) -> bytes:
    """The bytes of a model of ours.

    Args:
        further: versions of operator sets that it needs besides ONNX's own.
    """
    from onnx import helper

    versions = {"": OPSET, **(further or {})}
    return serialise(
        helper.make_model(
            graph,
            producer_name="koinon",
            producer_version="1",
            opset_imports=[helper.make_opsetid(name, version) for name, version in versions.items()],
            ir_version=IR_VERSION,
        )
    )


def serialise(model: "onnx.ModelProto") -> bytes:
    """One byte string per model: protobuf's deterministic form."""
    return bytes(model.SerializeToString(deterministic=True))


def weights_hash(onnx_bytes: bytes) -> Hash32:
    """The name of a model's weights everywhere: SHA-256 of its ONNX bytes."""
    from koinon.crypto.hash import sha256

    return sha256(onnx_bytes)


def check_equal(
    onnx_bytes: bytes, parameters: LogisticParameters, tolerance: float = DEFAULT_TOLERANCE, seed: int = 0
) -> float:
    """Run our own exported model beside the float64 formula on random and edge rows.

    Only for bytes that we made ourselves: they are loaded in this process, without a sandbox.

    Returns:
        The largest absolute difference of probabilities seen.

    Raises:
        Forged: the two differ by more than ``tolerance`` on some row, or the model does not take these columns.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

    from koinon.models.runtime import open_session

    rows = _float32_edge_rows(parameters, seed)
    try:
        session = open_session(onnx_bytes)
        (answers,) = session.run([OUTPUT_NAME], {INPUT_NAME: rows})
    except (InvalidArgument, InvalidGraph, InvalidProtobuf, Fail) as problem:
        raise Forged(f"the exported model cannot run on the trained columns: {type(problem).__name__}") from None
    return _largest_difference(np.asarray(answers), rows, parameters, tolerance)


async def check_equal_confined(
    onnx_bytes: bytes, parameters: LogisticParameters, tolerance: float = DEFAULT_TOLERANCE, seed: int = 0
) -> float:
    """``check_equal`` in a sandboxed child, for a node, whose own process never loads onnxruntime.

    Raises:
        Forged: as ``check_equal``.
        InvalidInput, Unavailable, Expired: the sandbox refuses the model or fails.
    """
    from koinon.models.sandbox import SandboxedModel

    rows = _float32_edge_rows(parameters, seed)
    async with SandboxedModel.open(onnx_bytes) as model:
        if model.metadata().columns != rows.shape[1]:
            raise Forged("the exported model does not take the trained columns")
        return _largest_difference(await model.predict(rows), rows, parameters, tolerance)


def _float32_edge_rows(parameters: LogisticParameters, seed: int) -> NDArray[np.float32]:
    check_parameters(parameters)
    return edge_rows(parameters, np.random.default_rng(seed)).astype(np.float32)


def _largest_difference(
    answers: NDArray[np.float32], rows: NDArray[np.float32], parameters: LogisticParameters, tolerance: float
) -> float:
    # The formula sees the same float32 rows: rounding an input is not an error of the export.
    expected = parameters.probability(rows.astype(np.float64))
    if answers.shape != expected.shape or not np.isfinite(answers).all():
        raise Forged("the exported model does not answer one finite probability per row")
    worst = float(np.abs(answers - expected).max())
    if worst > tolerance:
        raise Forged(f"the exported model differs from the trained weights by {worst:.3g}, more than {tolerance:.3g}")
    return worst


def edge_rows(parameters: LogisticParameters, rng: np.random.Generator) -> FloatArray:
    """Rows (n, d) in original units: random inside the ranges, their ends and corners, and a tenth outside."""
    low, high = parameters.low, parameters.high
    width = len(low)
    span = high - low
    middle = parameters.centre
    inside = rng.uniform(low, high, (_RANDOM_ROWS, width))
    outside = rng.uniform(low - span / 10, high + span / 10, (_RANDOM_ROWS // 4, width))
    corners = np.where(rng.random((_RANDOM_ROWS // 4, width)) < 0.5, low, high)
    worst_corners = np.where(np.outer([1, -1], parameters.coefficients) > 0, high, low)
    one_low = np.where(np.eye(width, dtype=bool), low, middle)[:64]
    one_high = np.where(np.eye(width, dtype=bool), high, middle)[:64]
    return np.concatenate([inside, outside, corners, worst_corners, one_low, one_high, [low, high, middle]])
