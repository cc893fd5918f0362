"""The scan: hostile files are refused by name before onnxruntime sees them, honest ones pass."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_hostile import build, endless_loop, forty_gigabytes, outside_constant
from onnx import TensorProto, helper, numpy_helper

from koinon.kernel.errors import InvalidInput
from koinon.models.scan import ScanLimits, scan

IDENTITY = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)]


def node(operator: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), ["y"], **attributes)


def with_constant(tensor: onnx.TensorProto) -> bytes:
    return build([node("Add", "x", "w")], change=lambda model: model.graph.initializer.append(tensor))


def in_attribute() -> bytes:
    constant = helper.make_node("Constant", [], ["w"])
    attribute = constant.attribute.add()
    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
    attribute.t.CopyFrom(outside_constant("weights.bin"))
    return build([constant, node("Add", "x", "w")])


def in_list_attribute() -> bytes:
    odd = node("Add", "x", "x")
    attribute = odd.attribute.add()
    attribute.name, attribute.type = "extra", onnx.AttributeProto.TENSORS
    attribute.tensors.append(outside_constant("weights.bin"))
    return build([odd])


def quietly_outside() -> bytes:
    tensor = numpy_helper.from_array(np.zeros(6, np.float32), "w")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return with_constant(tensor)


def sparse() -> bytes:
    def change(model: onnx.ModelProto) -> None:
        constant = model.graph.sparse_initializer.add()
        constant.dims.extend([10_000_000_000])
        constant.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "w"))
        constant.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "i"))

    return build([node("Add", "x", "w")], change=change)


def claims_more_than_it_holds() -> bytes:
    tensor = numpy_helper.from_array(np.zeros(6, np.float32), "w")
    tensor.dims[0] = 10_000_000_000
    return with_constant(tensor)


def negative_size() -> bytes:
    tensor = numpy_helper.from_array(np.zeros(6, np.float32), "w")
    tensor.dims[0] = -6
    return with_constant(tensor)


def odd_bytes() -> bytes:
    tensor = numpy_helper.from_array(np.zeros(6, np.float32), "w")
    tensor.raw_data += b"\x00"
    return with_constant(tensor)


def segmented() -> bytes:
    tensor = numpy_helper.from_array(np.zeros(6, np.float32), "w")
    tensor.segment.begin = 1
    return with_constant(tensor)


def edited(change: Callable[[onnx.ModelProto], None]) -> bytes:
    return build(IDENTITY, change=change)


def own_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Identity", ["a"], ["b"])]
    model.functions.append(helper.make_function("", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))


def foreign_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.evil"
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def hidden_foreign_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


def sequence_output(model: onnx.ModelProto) -> None:
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))


INT64 = np.int64
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "pickle": (lambda: pickle.dumps({"a": 1}), "only ONNX is accepted"),
    "text": (lambda: b"hello, this is no model", "only ONNX is accepted"),
    "no graph": (lambda: onnx.ModelProto(ir_version=8).SerializeToString(), "no ONNX graph"),
    "40 GB from 142 bytes": (forty_gigabytes, "'ConstantOfShape' brings the model's results to more than"),
    "outside, above": (lambda: with_constant(outside_constant("../../etc/passwd")), "'w' lies outside"),
    "outside, absolute": (lambda: with_constant(outside_constant("/etc/passwd")), "'w' lies outside"),
    "outside, beside": (lambda: with_constant(outside_constant("weights.bin")), "'w' lies outside"),
    "outside, in an attribute": (in_attribute, "lies outside"),
    "outside, in a list attribute": (in_list_attribute, "lies outside"),
    "outside, without saying so": (quietly_outside, "'w' lies outside"),
    "sparse": (sparse, "sparse constants"),
    "claims more than it holds": (claims_more_than_it_holds, "declares 10000000000 numbers but the file holds 6"),
    "negative constant": (negative_size, "negative size"),
    "odd constant": (odd_bytes, "declares 6 numbers but the file holds 7"),
    "segmented constant": (segmented, "segments"),
    "Loop": (endless_loop, "'Loop' runs a subgraph"),
    "If": (lambda: build([node("If", "x")]), "'If' runs a subgraph"),
    "subgraph in another operator": (
        lambda: build([node("Add", "x", "x", body=helper.make_graph([], "b", [], []))]),
        "'Add' carries a subgraph",
    ),
    "random numbers": (lambda: build([node("RandomNormal", shape=[6])]), "draws random numbers"),
    "training mode": (lambda: build([node("Dropout", "x", training_mode=1)]), "training mode"),
    "own functions": (lambda: edited(own_function), "functions of its own"),
    "training graph": (lambda: edited(lambda model: model.training_info.add()), "training graphs"),
    "foreign operators": (lambda: edited(foreign_domain), "'com.evil'"),
    "foreign operators, not declared": (lambda: edited(hidden_foreign_domain), "belongs to 'com.microsoft'"),
    "unknown operator": (lambda: build([node("Frobnicate", "x")]), "'Frobnicate' is not a standard"),
    "operator set of the future": (lambda: build(IDENTITY, opset=9999), "operator set 9999"),
    "sequence output": (lambda: edited(sequence_output), "'y' is not a tensor"),
    "no input": (lambda: edited(lambda model: model.graph.ClearField("input")), "at least one input"),
    "Expand": (
        lambda: build([node("Expand", "x", "s")], {"s": np.array([100_000, 1, 6], INT64)}),
        "'Expand' brings the model's results to more than",
    ),
    "Tile": (
        lambda: build([node("Tile", "x", "s")], {"s": np.array([1, 10_000_000], INT64)}),
        "'Tile' brings the model's results to more than",
    ),
    "Expand by a computed shape": (
        lambda: build([helper.make_node("Cast", ["x"], ["s"], to=TensorProto.INT64), node("Expand", "x", "s")]),
        "contradict each other",
    ),
    "ConstantOfShape by a computed shape": (
        lambda: build(
            [
                helper.make_node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=0),
                helper.make_node("Cast", ["m"], ["s"], to=TensorProto.INT64),
                node("ConstantOfShape", "s"),
            ]
        ),
        "size is only known at run time",
    ),
    "outer product": (
        lambda: build(
            [helper.make_node("MatMul", ["a", "b"], ["c"]), node("Add", "c", "c")],
            {"a": np.ones((20_000, 1), np.float32), "b": np.ones((1, 20_000), np.float32)},
        ),
        "more than the",
    ),
    "types that contradict": (lambda: build([node("And", "x", "x")]), "contradict each other"),
    "a name that is not there": (lambda: build([node("Add", "x", "nowhere")]), "contradict each other"),
    "a cycle": (
        lambda: build([helper.make_node("Add", ["x", "y"], ["z"]), helper.make_node("Add", ["z", "x"], ["y"])]),
        "contradict each other",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_one_sentence(name: str) -> None:
    make, expected = HOSTILE[name]
    with pytest.raises(InvalidInput) as caught:
        scan(make())
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_forty_gigabyte_file_is_as_small_as_reported() -> None:
    assert len(forty_gigabytes()) <= 142


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (ScanLimits(model_bytes=100), "at most 100 are allowed"),
        (ScanLimits(nodes=4), "more than the 4 operators"),
        (ScanLimits(constant_bytes=64), "more than the 64 bytes"),
        (ScanLimits(activation_bytes=1000), "more than the 1000 bytes"),
        (ScanLimits(nodes=1), "too many parts|more than the 1 operators"),
    ],
)
def test_each_limit_is_kept(exported: bytes, limits: ScanLimits, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        scan(exported, limits)


def test_an_honest_model_passes_and_is_described(exported: bytes) -> None:
    report = scan(exported)
    assert dict(report.operators) == {"Sub": 1, "Mul": 1, "Gemm": 1, "Sigmoid": 1, "Squeeze": 1}
    assert report.unknown_shapes == 0
    # Six columns of float32 for centre, scale and coefficients, the intercept, and one index of eight bytes.
    assert report.constant_bytes == 3 * 6 * 4 + 4 + 8
    # The input, two results of its shape and three of one column, for 1024 rows.
    assert report.activation_bytes == 1024 * 4 * (3 * 6 + 3)


def test_a_model_of_another_library_passes() -> None:
    """A network as an exporter writes it: MatMul, Add, Relu, a Reshape to a fixed shape, Softmax."""
    rng = np.random.default_rng(0)
    constants = {
        "w1": rng.standard_normal((6, 8)).astype(np.float32),
        "b1": np.zeros(8, np.float32),
        "w2": rng.standard_normal((8, 2)).astype(np.float32),
        "shape": np.array([-1, 2], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h1"]),
        helper.make_node("Add", ["h1", "b1"], ["h2"]),
        helper.make_node("Relu", ["h2"], ["h3"]),
        helper.make_node("MatMul", ["h3", "w2"], ["h4"]),
        helper.make_node("Reshape", ["h4", "shape"], ["h5"]),
        helper.make_node("Softmax", ["h5"], ["y"], axis=1),
    ]
    assert scan(build(nodes, constants)).unknown_shapes == 0


@settings(deadline=None, max_examples=150)
@given(position=st.integers(0, 10_000), byte=st.integers(1, 255), cut=st.booleans())
def test_damaged_files_are_refused_or_still_within_every_limit(
    exported: bytes, position: int, byte: int, cut: bool
) -> None:
    damaged = bytearray(exported)
    position %= len(damaged)
    if cut:
        del damaged[position:]
    else:
        damaged[position] ^= byte
    try:
        report = scan(bytes(damaged))
    except InvalidInput:
        return
    assert report.activation_bytes <= ScanLimits().activation_bytes
