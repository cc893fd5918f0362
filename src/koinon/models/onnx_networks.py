"""Convolutional and recurrent networks as an ONNX model, and the check that both give the same answers.

::

    features [N, d] --Sub centre--> --Mul scale--> [-1, 1] --layer--> … --layer--> (--Sigmoid | Softmax-->) answer

A convolution is Reshape, Transpose, Conv, pooling and Clip; gated units are Reshape, Transpose, GRU; a dense layer is
Gemm, and Clip where it is cut. One number a row is answered as [N]; several as [N, c].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import InvalidInput
from koinon.models.onnx_export import INPUT_NAME
from koinon.models.onnx_layers import (
    OUTPUT_NAMES,
    Link,
    answering,
    check_numbers,
    check_same,
    linked,
    on_range,
    sigmoid,
)

if TYPE_CHECKING:
    import onnx

FloatArray = NDArray[np.float64]

_RANDOM_ROWS: Final = 128


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """Attributes:
    weights, bias: float64 (inputs, outputs) and (outputs,).
    top: what it gives is cut to [0, top]; None for no cut.
    """

    weights: FloatArray
    bias: FloatArray
    top: float | None = None


@dataclass(frozen=True, eq=False)
class ConvolutionLayer:
    """Attributes:
    image: height, width, channels of what it takes, which a row holds in this order.
    weights, bias: float64 (window² · channels, filters) and (filters,).
    window, pool: sides; a pool of 1 is none.
    largest: whether a pool gives its largest number, else its mean.
    top: what the filters give is cut to [0, top].
    """

    image: tuple[int, int, int]
    weights: FloatArray
    bias: FloatArray
    window: int
    pool: int
    largest: bool
    top: float


@dataclass(frozen=True, eq=False)
class GatedLayer:
    """Attributes:
    length, width: steps of a sequence, and numbers in a step.
    gates, gates_bias: float64 (width + units, 2 · units) of reset then update, and (2 · units,).
    state, state_bias: float64 (width + units, units) and (units,).
    """

    length: int
    width: int
    gates: FloatArray
    gates_bias: FloatArray
    state: FloatArray
    state_bias: FloatArray


NetworkLayer = DenseLayer | ConvolutionLayer | GatedLayer


@dataclass(frozen=True, eq=False)
class NetworkParameters:
    """Layers over columns scaled by their public ranges to [-1, 1].

    Attributes:
        low, high: float64 (d,), public column ranges in original units, ``low < high``.
        layers: each takes what the one before gives.
        link: what the last numbers become.
        unit, level: a predicted number's unit, and what 0 stands for.
    """

    low: FloatArray
    high: FloatArray
    layers: tuple[NetworkLayer, ...]
    link: Link
    unit: float = 1.0
    level: float = 0.0

    @property
    def name(self) -> str:
        """Of the output."""
        return OUTPUT_NAMES[self.link]

    def answer(self, features: FloatArray) -> FloatArray:
        """The reference answer in float64, (N,) or (N, c), for (N, d) features in original units."""
        found = on_range(self, features)
        for layer in self.layers:
            found = _answer(layer, found)
        return linked(self.link, found * self.unit + self.level if self.link is Link.NUMBER else found)


def export_network(parameters: NetworkParameters) -> bytes:
    """ONNX bytes of the model: ``features`` float32 [N, d] in original units to its answer.

    The same parameters always give the same bytes. Call ``check_equal_network`` before publishing them.

    Raises:
        InvalidInput: the parameters are no model.
    """
    _check(parameters)
    from onnx import helper

    constants: dict[str, NDArray[Any]] = {}
    nodes: list[onnx.NodeProto] = []
    current = INPUT_NAME

    def then(operator: str, given: dict[str, NDArray[Any]], **attributes: Any) -> None:
        """One operator on the current value and these constants."""
        nonlocal current
        made = f"{operator.lower()}_{len(nodes)}"
        names = {name: f"{made}_{name}" if name else "" for name in given}
        constants.update({names[name]: value for name, value in given.items() if name})
        nodes.append(helper.make_node(operator, [current, *names.values()], [f"{made}_out"], name=made, **attributes))
        current = f"{made}_out"

    then("Sub", {"centre": _single((parameters.high + parameters.low) / 2)})
    then("Mul", {"scale": _single(2 / (parameters.high - parameters.low))})
    for layer in parameters.layers:
        match layer:
            case DenseLayer():
                _dense(layer, then)
            case ConvolutionLayer():
                _convolution(layer, then)
            case GatedLayer():
                _gated(layer, then)
    several = parameters.link is Link.CLASSES
    if parameters.link is Link.NUMBER:
        then("Mul", {"unit": _single(parameters.unit)})
        then("Add", {"level": _single(parameters.level)})
    else:
        then(parameters.link.value, {}, **({"axis": 1} if several else {}))
    if several:
        then("Identity", {})
    else:
        then("Squeeze", {"axis": np.array([1], np.int64)})
    return answering("network", parameters, nodes, constants, _outputs(parameters.layers[-1]) if several else 0)


def check_equal_network(onnx_bytes: bytes, parameters: NetworkParameters, seed: int = 0) -> float:
    """Run our own exported model beside the float64 formula on random and edge rows.

    Only for bytes that we made ourselves: they are loaded in this process, without a sandbox.

    Returns:
        The largest absolute difference of answers seen.

    Raises:
        Forged: the two differ by more than ``TOLERANCE`` of the largest answer.
    """
    return check_same(onnx_bytes, parameters, seed, _RANDOM_ROWS)


Then = Callable[..., None]


def _dense(layer: DenseLayer, then: Then) -> None:
    then("Gemm", {"weights": _single(layer.weights), "bias": _single(layer.bias)})
    if layer.top is not None:
        _cut(layer.top, then)


def _convolution(layer: ConvolutionLayer, then: Then) -> None:
    height, width, channels = layer.image
    filters = layer.weights.reshape(layer.window, layer.window, channels, -1).transpose(3, 2, 0, 1)
    then("Reshape", {"shape": np.array([-1, height, width, channels], np.int64)})
    then("Transpose", {}, perm=[0, 3, 1, 2])
    then("Conv", {"filters": _single(filters), "bias": _single(layer.bias)})
    _cut(layer.top, then)
    if layer.pool > 1:
        sides = {"kernel_shape": [layer.pool] * 2, "strides": [layer.pool] * 2}
        then("MaxPool" if layer.largest else "AveragePool", {}, **sides)
    then("Transpose", {}, perm=[0, 2, 3, 1])
    then("Reshape", {"shape": np.array([-1, _outputs(layer)], np.int64)})


def _gated(layer: GatedLayer, then: Then) -> None:
    units = layer.state.shape[1]
    order = np.r_[units : 2 * units, 0:units]  # ONNX takes update before reset
    kernel = np.concatenate([layer.gates[:, order], layer.state], 1).T
    bias = np.concatenate([layer.gates_bias[order], layer.state_bias, np.zeros(3 * units)])
    then("Reshape", {"shape": np.array([-1, layer.length, layer.width], np.int64)})
    then("Transpose", {}, perm=[1, 0, 2])
    weights = {"input": _single(kernel[None, :, : layer.width]), "recurrence": _single(kernel[None, :, layer.width :])}
    then("GRU", {**weights, "bias": _single(bias[None])}, hidden_size=units, linear_before_reset=0)
    # Of [steps, directions, N, units] the last step.
    then("Gather", {"last": np.array(layer.length - 1, np.int64)}, axis=0)
    then("Squeeze", {"direction": np.array([0], np.int64)})


def _cut(top: float, then: Then) -> None:
    then("Clip", {"low": np.array(0.0, np.float32), "high": np.array(top, np.float32)})


def _single(values: FloatArray | float) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _answer(layer: NetworkLayer, signals: FloatArray) -> FloatArray:
    match layer:
        case DenseLayer():
            level = signals @ layer.weights + layer.bias
            return level if layer.top is None else np.clip(level, 0.0, layer.top)
        case ConvolutionLayer():
            return _filtered(layer, signals)
        case GatedLayer():
            return _last_state(layer, signals)


def _filtered(layer: ConvolutionLayer, signals: FloatArray) -> FloatArray:
    image = signals.reshape(-1, *layer.image)
    seen = np.lib.stride_tricks.sliding_window_view(image, (layer.window, layer.window), axis=(1, 2))
    rows, height, width = seen.shape[:3]
    patches = seen.transpose(0, 1, 2, 4, 5, 3).reshape(rows, height, width, -1)
    level = np.clip(patches @ layer.weights + layer.bias, 0.0, layer.top)
    high, wide = height // layer.pool, width // layer.pool
    windows = level[:, : high * layer.pool, : wide * layer.pool].reshape(rows, high, layer.pool, wide, layer.pool, -1)
    pooled = windows.max((2, 4)) if layer.largest else windows.mean((2, 4))
    return np.asarray(pooled.reshape(rows, -1))


def _last_state(layer: GatedLayer, signals: FloatArray) -> FloatArray:
    units = layer.state.shape[1]
    state = np.zeros((len(signals), units))
    for numbers in signals.reshape(-1, layer.length, layer.width).transpose(1, 0, 2):
        gates = sigmoid(np.concatenate([numbers, state], 1) @ layer.gates + layer.gates_bias)
        proposed = np.tanh(np.concatenate([numbers, gates[:, :units] * state], 1) @ layer.state + layer.state_bias)
        state = proposed + gates[:, units:] * (state - proposed)
    return state


def _outputs(layer: NetworkLayer) -> int:
    match layer:
        case DenseLayer():
            return int(layer.weights.shape[1])
        case GatedLayer():
            return int(layer.state.shape[1])
        case ConvolutionLayer():
            high, wide = ((side - layer.window + 1) // layer.pool for side in layer.image[:2])
            return int(high * wide * layer.weights.shape[1])


def _taken(layer: NetworkLayer) -> tuple[int, bool]:
    """Numbers that a layer takes, and whether its arrays belong together."""
    match layer:
        case DenseLayer():
            fits = layer.weights.ndim == 2 and layer.bias.shape == layer.weights.shape[1:]
            return int(layer.weights.shape[0]), fits
        case GatedLayer():
            units = layer.state.shape[-1]
            both = layer.width + units
            fits = layer.gates.shape == (both, 2 * units) and layer.gates_bias.shape == (2 * units,)
            fits = fits and layer.state.shape == (both, units) and layer.state_bias.shape == (units,)
            return layer.length * layer.width, fits and layer.length >= 1
        case ConvolutionLayer():
            taps = layer.window**2 * layer.image[2]
            fits = min(*layer.image, layer.window, layer.pool) >= 1 and layer.weights.shape == (taps, len(layer.bias))
            return int(np.prod(layer.image)), fits and _outputs(layer) >= 1


def _check(parameters: NetworkParameters) -> None:
    """Refuse parameters that are no model. Raises InvalidInput."""
    width = len(parameters.low)
    if not width or parameters.high.shape != (width,) or not parameters.layers:
        raise InvalidInput("a model needs a column with both ends of its range, and a layer")
    numbers = [np.array([parameters.unit, parameters.level])]
    for layer in parameters.layers:
        taken, fits = _taken(layer)
        if taken != width or not fits:
            raise InvalidInput("every layer takes what the one before it gives, and has a bias for each output")
        width = _outputs(layer)
        numbers += [value for value in vars(layer).values() if isinstance(value, np.ndarray)]
    if not isinstance(parameters.layers[-1], DenseLayer) or (width == 1) == (parameters.link is Link.CLASSES):
        raise InvalidInput("the last layer is dense, and has one output, or one for each of several classes")
    if parameters.link is Link.COUNT:
        raise InvalidInput("a network answers a number, a probability or classes, and no count")
    check_numbers(parameters, numbers)
