"""Dense layers as an ONNX model, and the check that both give the same answers: lines, counts, classes, perceptrons.

::

    features [N, d] --Sub centre--> --Mul scale--> [-1, 1] --Gemm--> (--Relu--> --Gemm--> …) --link--> answer

One number a row is answered as [N]; several as [N, c].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import Forged, InvalidInput
from koinon.models.onnx_export import INPUT_NAME, OUTPUT_NAME, model_of
from koinon.models.onnx_trees import NUMBER_NAME

if TYPE_CHECKING:
    import onnx

FloatArray = NDArray[np.float64]

TOLERANCE: Final = 2e-5
"""Largest allowed difference of two answers, relative to the largest answer; layers are computed in 32 bits."""
CLASSES_NAME: Final = "probabilities"
_LARGEST: Final = 1e15
_RANDOM_ROWS: Final = 512


class Link(Enum):
    """What the last layer's numbers become, and the operator that does it."""

    NUMBER = ""
    COUNT = "Exp"
    PROBABILITY = "Sigmoid"
    CLASSES = "Softmax"


OUTPUT_NAMES: Final = {
    Link.NUMBER: NUMBER_NAME,
    Link.COUNT: NUMBER_NAME,
    Link.PROBABILITY: OUTPUT_NAME,
    Link.CLASSES: CLASSES_NAME,
}


@dataclass(frozen=True, eq=False)
class LayerParameters:
    """Layers over columns scaled by their public ranges to [-1, 1], with rectifiers or cuts at ±1 between them.

    Attributes:
        low, high: float64 (d,), public column ranges in original units, ``low < high``.
        weights: of each layer, float64 (inputs, outputs).
        biases: of each layer, float64 (outputs,).
        link: what the last layer's numbers become.
        highest: no last number is taken for larger; so that a count stays finite beyond the ranges.
        cut: between layers, numbers are cut at ±1; otherwise negative ones become 0.
    """

    low: FloatArray
    high: FloatArray
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    link: Link
    highest: float = 80.0
    cut: bool = False

    @property
    def name(self) -> str:
        """Of the output."""
        return OUTPUT_NAMES[self.link]

    def answer(self, features: FloatArray) -> FloatArray:
        """The reference answer in float64, (N,) or (N, c), for (N, d) features in original units."""
        found = on_range(self, features)
        for number, (weights, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                found = np.clip(found, -1.0, 1.0) if self.cut else np.maximum(found, 0.0)
            found = found @ weights + bias
        return linked(self.link, np.minimum(found, self.highest) if self.link is Link.COUNT else found)


def check_parameters(parameters: LayerParameters) -> None:
    """Refuse parameters that are no model. Raises InvalidInput."""
    width = len(parameters.low)
    if not width or parameters.high.shape != (width,) or not parameters.weights:
        raise InvalidInput("a model needs a column with both ends of its range, and a layer")
    for weights, bias in zip(parameters.weights, parameters.biases, strict=True):
        if weights.ndim != 2 or weights.shape[0] != width or bias.shape != weights.shape[1:]:
            raise InvalidInput("every layer takes what the one before it gives, and has a bias for each output")
        width = weights.shape[1]
    if (width == 1) == (parameters.link is Link.CLASSES):
        raise InvalidInput("the last layer has one output, or one for each of several classes")
    check_numbers(parameters, [*parameters.weights, *parameters.biases, np.array([parameters.highest])])


def export_layers(parameters: LayerParameters) -> bytes:
    """ONNX bytes of the model: ``features`` float32 [N, d] in original units to its answer.

    The same parameters always give the same bytes. Call ``check_equal_layers`` before publishing them.

    Raises:
        InvalidInput: the parameters are no model.
    """
    check_parameters(parameters)
    from onnx import helper

    constants: dict[str, NDArray[Any]] = {
        "centre": ((parameters.high + parameters.low) / 2).astype(np.float32),
        "scale": (2 / (parameters.high - parameters.low)).astype(np.float32),
    }
    if parameters.cut and len(parameters.weights) > 1:
        constants |= {"lower": np.array(-1.0, np.float32), "upper": np.array(1.0, np.float32)}
    nodes = [
        helper.make_node("Sub", [INPUT_NAME, "centre"], ["centred"], name="centre_columns"),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"], name="scale_columns"),
    ]
    current = "scaled"

    def then(operator: str, others: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, [current, *others], [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    for number, (weights, bias) in enumerate(zip(parameters.weights, parameters.biases, strict=True)):
        if number:
            current = (
                then("Clip", ["lower", "upper"], f"cut_{number}")
                if parameters.cut
                else then("Relu", [], f"rectify_{number}")
            )
        constants |= {f"weights_{number}": weights.astype(np.float32), f"bias_{number}": bias.astype(np.float32)}
        current = then("Gemm", [f"weights_{number}", f"bias_{number}"], f"layer_{number}")
    if parameters.link is Link.COUNT:
        constants["highest"] = np.array([parameters.highest], np.float32)
        current = then("Min", ["highest"], "stay_finite")
    several = parameters.link is Link.CLASSES
    if parameters.link is not Link.NUMBER:
        current = then(parameters.link.value, [], "link", **({"axis": 1} if several else {}))
    if several:
        current = then("Identity", [], "answer")
    else:
        constants["axis"] = np.array([1], np.int64)
        current = then("Squeeze", ["axis"], "answer")
    return answering("layers", parameters, nodes, constants, parameters.weights[-1].shape[1] if several else 0)


def check_equal_layers(onnx_bytes: bytes, parameters: LayerParameters, seed: int = 0) -> float:
    """Run our own exported model beside the float64 formula on random and edge rows.

    Only for bytes that we made ourselves: they are loaded in this process, without a sandbox.

    Returns:
        The largest absolute difference of answers seen.

    Raises:
        Forged: the two differ by more than ``TOLERANCE`` of the largest answer.
    """
    return check_same(onnx_bytes, parameters, seed, _RANDOM_ROWS)


class Answering(Protocol):
    """Ranges of columns, the name of an answer, and the formula for it."""

    @property
    def low(self) -> FloatArray: ...

    @property
    def high(self) -> FloatArray: ...

    @property
    def name(self) -> str: ...

    def answer(self, features: FloatArray) -> FloatArray: ...


def on_range(formula: Answering, features: FloatArray) -> FloatArray:
    """Columns scaled by their public ranges to [-1, 1]."""
    middle, factor = (formula.high + formula.low) / 2, 2 / (formula.high - formula.low)
    return np.asarray((np.asarray(features, np.float64) - middle) * factor)


def sigmoid(level: FloatArray) -> FloatArray:
    """1 / (1 + e⁻ˣ)."""
    # exp of a non-positive number only, so that nothing overflows.
    small = np.exp(-np.abs(level))
    return np.where(level >= 0, 1 / (1 + small), small / (1 + small))


def linked(link: Link, found: FloatArray) -> FloatArray:
    """(N,) or, for classes, (N, c) answers from the last layer's numbers."""
    match link:
        case Link.COUNT:
            found = np.exp(found)
        case Link.PROBABILITY:
            found = sigmoid(found)
        case Link.CLASSES:
            parts = np.exp(found - found.max(1, keepdims=True))
            return np.asarray(parts / parts.sum(1, keepdims=True))
        case Link.NUMBER:
            pass
    return np.asarray(found[:, 0], np.float64)


def check_numbers(formula: Answering, weights: Sequence[FloatArray]) -> None:
    """Refuse ranges and weights that no 32-bit model can have. Raises InvalidInput."""
    everything = np.concatenate([np.ravel(part) for part in (formula.low, formula.high, *weights)])
    if not np.isfinite(everything).all() or not (formula.low < formula.high).all():
        raise InvalidInput("ranges and weights must be finite, with low below high; the training did not converge")
    if (np.abs(everything) > _LARGEST).any() or (formula.high - formula.low < 1 / _LARGEST).any():
        raise InvalidInput("ranges and weights must fit 32-bit numbers; rescale the columns")


def answering(
    label: str,
    formula: Answering,
    nodes: "Sequence[onnx.NodeProto]",
    constants: Mapping[str, NDArray[Any]],
    classes: int,
) -> bytes:
    """The model of these operators, the last of which gives the answer: one number a row, or one for each class."""
    from onnx import TensorProto, helper, numpy_helper

    nodes[-1].output[0] = formula.name
    shape: list[str | int | None] = ["N", classes] if classes else ["N"]
    graph = helper.make_graph(
        nodes,
        label,
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", len(formula.low)])],
        [helper.make_tensor_value_info(formula.name, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return model_of(graph)


def check_same(onnx_bytes: bytes, formula: Answering, seed: int, count: int) -> float:
    """As ``check_equal_layers``, for any formula, on ``count`` random rows and some at the edges."""
    from koinon.models.runtime import open_session

    random, span = np.random.default_rng(seed), formula.high - formula.low
    inside = random.uniform(formula.low, formula.high, (count, len(span)))
    outside = random.uniform(formula.low - span / 10, formula.high + span / 10, (count // 4, len(span)))
    corners = np.where(random.random((count // 4, len(span))) < 0.5, formula.low, formula.high)
    rows = np.concatenate([inside, outside, corners]).astype(np.float32)
    (answers,) = open_session(onnx_bytes).run([formula.name], {INPUT_NAME: rows})
    # The formula sees the same float32 rows: rounding an input is not an error of the export.
    expected = formula.answer(rows.astype(np.float64))
    worst = float(np.abs(np.asarray(answers) - expected).max())
    if not worst <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise Forged(f"the exported model differs from the trained one by {worst:.3g}; it is not published")
    return worst
