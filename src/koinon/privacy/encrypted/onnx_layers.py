"""From an ONNX graph to the layers that are computed on ciphertexts: one chain of affine operators and squares.

    rows [N, d] – (Sub, Add, Mul, Div by numbers; MatMul, Gemm) – (Mul by itself, or Pow 2) – … – Sigmoid or Softmax

What only renames or reshapes one answer for each row is left out. Anything else cannot be computed on ciphertexts.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.encrypted.models import MOST_FEATURES, EncryptedModel, Layer, Link, layer

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_LINKS: Final = {"Sigmoid": Link.SIGMOID, "Softmax": Link.SOFTMAX}
_AFFINE: Final = frozenset({"Add", "Div", "Gemm", "MatMul", "Mul", "Pow", "Sub"})
_SAME: Final = frozenset({"Identity", "Cast"})
_RESHAPED: Final = frozenset({"Flatten", "Reshape", "Squeeze"})
"""Where there is one number for each row, it stays the same."""
_MOST_NODES: Final = 1_000


@dataclass
class _Chain:
    """What has been read so far: whole layers, and the affine map that the next one begins with."""

    weights: np.ndarray
    bias: np.ndarray
    layers: list[Layer] = field(default_factory=list)
    link: Link = Link.IDENTITY

    def scaled(self, factor: np.ndarray) -> None:
        """Each column times its factor."""
        self.weights, self.bias = self.weights * factor[:, None], self.bias * factor

    def mapped(self, matrix: np.ndarray) -> None:
        """Columns times a (columns, units) matrix."""
        self.weights, self.bias = matrix.T @ self.weights, self.bias @ matrix

    def squared(self) -> None:
        self.layers.append(layer(self.weights, self.bias, square=True))
        self.weights, self.bias = np.eye(len(self.bias)), np.zeros(len(self.bias))


def layers_of(model: "ModelProto") -> EncryptedModel:
    """The same model for encrypted rows.

    Args:
        model: with one input (N, d), d declared.

    Raises:
        InvalidInput: it is no such chain, or too large; names the operator.
    """
    graph = model.graph
    numbers = _numbers(graph)
    inputs = [each for each in graph.input if each.name not in numbers]
    if len(inputs) != 1 or not graph.output or len(graph.node) > _MOST_NODES:
        raise InvalidInput("a model for encrypted rows has one input, and one chain of operators to its output")
    sizes = [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim]
    if len(sizes) != 2 or not 1 <= sizes[1] <= MOST_FEATURES:
        raise InvalidInput(f"a model for encrypted rows declares its input as rows of 1 to {MOST_FEATURES} columns")
    chain, value = _Chain(np.eye(sizes[1]), np.zeros(sizes[1])), inputs[0].name
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        if value not in node.input or len(node.output) != 1:
            raise InvalidInput(f"operator {node.op_type} does not follow from what is before it; only a chain does")
        try:
            _take(chain, node, value, numbers)
        except (ValueError, IndexError) as problem:
            raise InvalidInput(f"operator {node.op_type} does not fit what comes before it: {problem}") from None
        value = node.output[0]
    if value != graph.output[0].name:
        raise InvalidInput("the model's output is not the end of its chain of operators")
    made = EncryptedModel((*chain.layers, layer(chain.weights, chain.bias)), chain.link)
    made.check()
    return made


def _numbers(graph: "GraphProto") -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer if not each.external_data}
    for node in graph.node:
        if node.op_type == "Constant":
            for each in node.attribute:
                if each.name == "value":
                    stored[node.output[0]] = numpy_helper.to_array(each.t)
    return stored


def _take(chain: _Chain, node: "NodeProto", value: str, numbers: dict[str, np.ndarray]) -> None:
    if node.op_type in _SAME:
        return
    if node.op_type in _RESHAPED and len(chain.bias) == 1:
        return
    if chain.link is not Link.IDENTITY:
        raise InvalidInput(f"operator {node.op_type} follows the model's last one; nothing does for encrypted rows")
    if node.op_type in _LINKS:
        chain.link = _LINKS[node.op_type]
        return
    if node.op_type not in _AFFINE:
        raise _unable(node)
    others = [name for name in node.input if name != value]
    if node.op_type == "Mul" and not others:
        chain.squared()
        return
    if not others or any(name not in numbers for name in others):
        raise InvalidInput(f"operator {node.op_type} takes something other than numbers of the model's own")
    first, leads = np.asarray(numbers[others[0]], np.float64), node.input[0] == value
    if node.op_type in ("MatMul", "Gemm") and leads:
        _product(chain, node, first, [numbers[name] for name in others[1:]])
        return
    column = np.broadcast_to(first.reshape(-1) if first.ndim else first, chain.bias.shape)
    match node.op_type:
        case "Pow" if leads and (column == 2).all():
            chain.squared()
        case "Add":
            chain.bias = chain.bias + column
        case "Sub" if leads:
            chain.bias = chain.bias - column
        case "Sub":
            chain.scaled(np.full(chain.bias.shape, -1.0))
            chain.bias = chain.bias + column
        case "Mul":
            chain.scaled(column)
        case "Div" if leads and (column != 0).all():
            chain.scaled(1 / column)
        case _:
            raise _unable(node)


def _unable(node: "NodeProto") -> InvalidInput:
    return InvalidInput(
        f"operator {node.op_type} cannot be computed on encrypted rows; a model for them has dense layers with squares"
        " between, and a sigmoid or softmax at its end"
    )


def _product(chain: _Chain, node: "NodeProto", matrix: np.ndarray, rest: list[np.ndarray]) -> None:
    from onnx import helper

    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if matrix.ndim != 2:
        raise ValueError("a matrix of weights is due")
    if given.get("transA", 0):
        raise ValueError("rows cannot be transposed")
    chain.mapped((matrix.T if given.get("transB", 0) else matrix) * given.get("alpha", 1.0))
    if rest:
        chain.bias = chain.bias + np.broadcast_to(
            rest[0].astype(np.float64).reshape(-1) * given.get("beta", 1.0), chain.bias.shape
        )
