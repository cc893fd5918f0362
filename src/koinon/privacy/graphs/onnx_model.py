"""An ONNX model answered on secret inputs.

    def answer(rows: SecretArray) -> Revealed:
        return reveal(probability=evaluate_model(model, {"rows": rows})["probability"])

Weights, shapes and everything computed from them alone are public here and folded with ONNX's own reference
implementation; what depends on a secret runs by the table in ``onnx_operators``. A model that uses anything else, or a
shape or an index that depends on a secret, is refused before anything runs.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.graphs.onnx_operands import Value
from koinon.privacy.graphs.onnx_operators import OPERATORS

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

MOST_NODES: Final = 10_000
MOST_WEIGHTS: Final = 1 << 26


def supported_operators() -> tuple[str, ...]:
    """Names of the operators that run on secret inputs; those of ``ai.onnx.ml`` with their domain."""
    return tuple(sorted(OPERATORS))


def evaluate_model(
    model: "ModelProto", inputs: Mapping[str, SecretArray | np.ndarray], outputs: Sequence[str] = ()
) -> dict[str, Value]:
    """The model's outputs by name.

    Args:
        model: loaded without external data.
        inputs: by name; at least one of them secret. A weight's name stands for the weight, which may be secret too.
        outputs: which of the model's outputs are wanted; all where none are named. What only the others need is left
            out, such as the labels of a classifier asked for its probabilities.

    Raises:
        InvalidInput: an input is missing or unknown; the model is too large, uses an operator that does not run on
            secrets, or lets a secret decide a shape.
    """
    from onnx import numpy_helper

    graph = model.graph
    if len(graph.node) > MOST_NODES:
        raise InvalidInput(f"the model has {len(graph.node)} nodes; at most {MOST_NODES} run on secret inputs")
    if sum(_size(tensor.dims) for tensor in graph.initializer) > MOST_WEIGHTS:
        raise InvalidInput(f"the model has more than {MOST_WEIGHTS} weights")
    if any(tensor.external_data for tensor in graph.initializer):
        raise InvalidInput("the model keeps weights in other files; save it as one file")
    values: dict[str, Value] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    declared = [each.name for each in graph.input if each.name not in values]
    known = {each.name for each in graph.input} | set(values)
    missing, unknown = sorted(set(declared) - set(inputs)), sorted(set(inputs) - known)
    if missing or unknown:
        raise InvalidInput(f"the model takes inputs {declared}; missing: {missing}, unknown: {unknown}")
    values.update(inputs)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    wanted = list(outputs) or [output.name for output in graph.output]
    if not set(wanted) <= {output.name for output in graph.output}:
        raise InvalidInput(f"the model's outputs are {[output.name for output in graph.output]}; got {wanted}")
    for node in _needed(graph.node, wanted):
        _run(node, values, versions)
    return {name: values[name] for name in wanted}


def _needed(nodes: "Sequence[NodeProto]", wanted: Sequence[str]) -> "list[NodeProto]":
    """The nodes that the wanted values depend on, in the graph's order, which has operands first."""
    names, found = set(wanted), []
    for node in reversed(nodes):
        if names & set(node.output):
            names |= set(node.input)
            found.append(node)
    return found[::-1]


def _run(node: "NodeProto", values: dict[str, Value], versions: Mapping[str, int]) -> None:
    operands = [values[name] if name else None for name in node.input]
    if any(isinstance(operand, SecretArray) for operand in operands):
        results = _secret(node, operands, versions)
    else:
        results = _public(node, operands, versions)
    values.update({name: result for name, result in zip(node.output, results, strict=False) if name})


def _secret(node: "NodeProto", operands: list[Value | None], versions: Mapping[str, int]) -> tuple[Value, ...]:
    from onnx import helper

    name = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    operator = OPERATORS.get(name)
    if operator is None:
        raise InvalidInput(f"operator {name} does not run on secret inputs; supported_operators() lists those that do")
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    attributes.setdefault("num_outputs", len(node.output))
    try:
        result = operator(operands, attributes, versions.get(node.domain, 1))
    except (IndexError, KeyError, TypeError, ValueError) as problem:
        raise InvalidInput(f"node {node.name or name} of the model cannot run on secret inputs: {problem}") from None
    results = result if isinstance(result, tuple) else (result,)
    if len(results) < sum(1 for output in node.output if output):
        raise InvalidInput(f"operator {name} gives {len(results)} output on secret inputs; the model uses more")
    return results


def _public(node: "NodeProto", operands: list[Value | None], versions: Mapping[str, int]) -> tuple[Value, ...]:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    given = {name: value for name, value in zip(node.input, operands, strict=True) if name and value is not None}
    inputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in given]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name]
    alone = helper.make_graph([node], "constant", inputs, outputs)
    imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    found = ReferenceEvaluator(helper.make_model(alone, opset_imports=imports)).run(None, given)
    return tuple(np.asarray(each) for each in found)


def _size(dimensions: "tuple[int, ...] | list[int]") -> int:
    size = 1
    for dimension in dimensions:
        size *= dimension
    return size
