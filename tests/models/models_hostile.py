"""ONNX files that no honest exporter writes, built with onnx's own helpers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def build(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any] | None = None,
    inputs: list[Any] | None = None,
    change: Callable[[onnx.ModelProto], None] | None = None,
    opset: int = 17,
) -> bytes:
    """A model x [N, 6] -> y with the given nodes; ``change`` edits it before it is written."""
    graph = helper.make_graph(
        nodes,
        "g",
        inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if change is not None:
        change(model)
    return model.SerializeToString()


def forty_gigabytes() -> bytes:
    """ConstantOfShape of 10^10 floats, in about 142 bytes."""
    shape = numpy_helper.from_array(np.array([10_000_000_000], np.int64), "s")
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["s"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [shape],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def outside_constant(location: str) -> onnx.TensorProto:
    """A constant whose numbers lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[6], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def endless_loop() -> bytes:
    """A Loop of 2^40 rounds."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["co"]), helper.make_node("Identity", ["v"], ["vo"])],
        "b",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("co", TensorProto.BOOL, []),
            helper.make_tensor_value_info("vo", TensorProto.FLOAT, None),
        ],
    )
    return build(
        [helper.make_node("Loop", ["n", "t", "x"], ["y"], body=body)],
        {"n": np.array(2**40, np.int64), "t": np.array(True)},
    )


def slow_model(exponent: int) -> bytes:
    """Standard operators only, small results, but minutes of arithmetic: matrix products one after the other."""
    matrix = np.eye(1 << exponent, dtype=np.float32)
    nodes = [helper.make_node("MatMul", ["x", "spread"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{step}", "big"], [f"m{step + 1}"]) for step in range(60)]
    nodes.append(helper.make_node("ReduceMean", ["m60"], ["y"], axes=[1], keepdims=0))
    spread = np.ones((6, 1 << exponent), np.float32)
    return build(nodes, {"big": matrix, "spread": spread})
