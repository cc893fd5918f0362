"""ONNX on secret inputs: ONNX's own operator tests, whole models on both engines, and what is refused."""

import warnings
from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, constant_like
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.graphs.onnx_model import evaluate_model, supported_operators
from koinon.privacy.rep4.simulation import SimulatedRep4

ENGINES: list[Backend] = [ClearBackend(), SimulatedRep4()]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)

REFUSED = {
    "2d_ceil": "a window that begins inside and ends outside",
    "ceil_mode_is_True": "the same",
    "averagepool_2d_dilations": "the same",
    "averagepool_3d_dilations_small": "the same",
    "maxpool_3d_dilations_use_ref_impl_large": "the same",
    "maxpool_with_argmax": "a second output",
    "training": "random masks and running averages of training",
    "dropout_default_mask": "a second output",
    "_FLOAT_to_": "rounding to whole or coarser numbers",
    "pow_example": "another power for every number",
    "pow_bcast_array": "the same",
    "pow_types_float32": "the same",
}
"""Parts of names of operator tests that are refused, and why; whatever else runs must be right."""
REFUSED_ALONE = {"test_pow"}

PUBLIC_OPERANDS = {"Clip": (1, 2), "BatchNormalization": (1, 2, 3, 4), "Pad": (2,), "Pow": (1,), "Dropout": (1, 2)}
MODELS = (
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "Scaler",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
)
WITHOUT_TESTS = {"Cast", "Equal", *(f"ai.onnx.ml.{name}" for name in MODELS)}
"""ONNX tests these on whole numbers or not at all; see ``test_the_other_operators`` and the tests of frameworks."""


@cache
def operator_tests() -> dict[str, list[Any]]:
    """ONNX's own tests of one operator each, by operator."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found = defaultdict(list)
    for case in cases:
        if len(case.model.graph.node) == 1:
            node = case.model.graph.node[0]
            found[f"{node.domain}.{node.op_type}" if node.domain else node.op_type].append(case)
    return found


def answered(case: Any, operator: str) -> tuple[np.ndarray, np.ndarray] | None:
    """What we answer and what is right, with every fractional or Boolean operand secret; None where there is none."""
    inputs, outputs = ([_array(value) for value in values] for values in case.data_sets[0])
    secret = [
        place
        for place, value in enumerate(inputs)
        if value.dtype in (np.float32, np.float64, np.bool_)
        and value.size
        and place not in PUBLIC_OPERANDS.get(operator, ())
    ]
    if not secret or outputs[0].dtype.kind not in "fbiu":
        return None
    flat = np.concatenate([inputs[place].astype(float).ravel() for place in secret])
    if not np.isfinite(flat).all():
        return None

    def compute(x: SecretArray) -> Revealed:
        values, at = {}, 0
        for place, (declared, value) in enumerate(zip(case.model.graph.input, inputs, strict=True)):
            if place in secret:
                part = x[at : at + value.size, 0].reshape(*value.shape)
                at += value.size
                values[declared.name] = part > 0.5 if value.dtype == np.bool_ else part
            else:
                values[declared.name] = value
        first = next(iter(evaluate_model(case.model, values).values()))
        return reveal(result=first if isinstance(first, SecretArray) else constant_like(x, first))

    return run(compute, [table(flat)], ClearBackend()).outputs["result"], outputs[0].astype(float)


def _array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


@pytest.mark.parametrize("operator", sorted(set(supported_operators()) - WITHOUT_TESTS))
def test_operators_pass_onnxs_own_tests(operator: str) -> None:
    passed = 0
    for case in operator_tests()[operator]:
        if case.name in REFUSED_ALONE or any(part in case.name for part in REFUSED):
            with pytest.raises(InvalidInput):
                answered(case, operator)
            continue
        pair = answered(case, operator)
        if pair is None:
            continue
        found, want = pair
        assert found.shape == want.shape, case.name
        assert np.abs(found - want).max(initial=0.0) <= 2e-3 * max(1.0, np.abs(want).max(initial=0.0)), case.name
        passed += 1
    assert passed, f"no test of {operator} ran"


def tensor(name: str, values: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(values.astype(np.float32), name)


def network(nodes: list[Any], weights: list[TensorProto], shape: tuple[int, ...], outputs: int) -> Any:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, (shape[0], outputs))],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def by_onnxruntime(model: Any, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"rows": rows.astype(np.float32)})[0])


@each_engine
def test_a_network_trained_on_digits_answers_in_secret(engine: Backend) -> None:
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    features, target = load_digits(return_X_y=True)
    scaled = features / 16
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = MLPClassifier((32,), max_iter=40, random_state=0).fit(scaled[:1200], target[:1200])
    nodes = [
        helper.make_node("Gemm", ["rows", "w0", "b0"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w1", "b1"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["answer"]),
    ]
    weights = [tensor(f"w{place}", values) for place, values in enumerate(trained.coefs_)]
    weights += [tensor(f"b{place}", values) for place, values in enumerate(trained.intercepts_)]
    rows = scaled[1200:1206]
    model = network(nodes, weights, rows.shape, 10)
    found = run(
        lambda x: reveal(answer=evaluate_model(model, {"rows": x})["answer"]),  # type: ignore[arg-type]
        [table(rows, ranges=[(-1.0, 1.0)] * 64)],
        engine,
    ).outputs["answer"]
    assert np.abs(found - by_onnxruntime(model, rows)).max() < 1e-3
    assert (found.argmax(1) == trained.predict(rows)).all()


@each_engine
def test_a_convolutional_network_answers_in_secret(engine: Backend) -> None:
    random = np.random.default_rng(2)
    nodes = [
        helper.make_node("Reshape", ["rows", "image"], ["pixels"]),
        helper.make_node("Conv", ["pixels", "filters", "bias"], ["maps"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("MaxPool", ["active"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["answer"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([2, 1, 8, 8], np.int64), "image"),
        tensor("filters", random.normal(size=(4, 1, 3, 3)) / 3),
        tensor("bias", random.normal(size=4)),
        tensor("dense", random.normal(size=(64, 5)) / 8),
    ]
    rows = random.uniform(-1, 1, (2, 64))
    model = network(nodes, weights, rows.shape, 5)
    found = run(
        lambda x: reveal(answer=evaluate_model(model, {"rows": x})["answer"]),  # type: ignore[arg-type]
        [table(rows, ranges=[(-1.0, 1.0)] * 64)],
        engine,
    ).outputs["answer"]
    assert np.abs(found - by_onnxruntime(model, rows)).max() < 1e-3


@pytest.mark.parametrize(
    ("node", "want"),
    [
        (helper.make_node("Equal", ["rows", "three"], ["answer"]), lambda x: x == 3),
        (helper.make_node("Cast", ["rows"], ["answer"], to=TensorProto.BOOL), lambda x: x != 0),
        (
            helper.make_node("Scaler", ["rows"], ["answer"], domain="ai.onnx.ml", offset=[1.0, 0.0], scale=[2.0, 0.5]),
            lambda x: (x - [1.0, 0.0]) * [2.0, 0.5],
        ),
        (
            helper.make_node(
                "LinearRegressor", ["rows"], ["answer"], domain="ai.onnx.ml", coefficients=[2.0, -1.0], intercepts=[0.5]
            ),
            lambda x: x @ [[2.0], [-1.0]] + 0.5,
        ),
    ],
    ids=["Equal", "Cast", "Scaler", "LinearRegressor"],
)
def test_the_other_operators(node: Any, want: Any) -> None:
    rows = np.array([[3.0, 0.0], [0.0, -2.0], [1.0, 3.0]])
    model = network([node], [tensor("three", np.array([3.0]))], rows.shape, 2)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    found = run(
        lambda x: reveal(answer=evaluate_model(model, {"rows": x.times(1)})["answer"]),  # type: ignore[arg-type]
        [table(rows)],
        ClearBackend(),
    ).outputs["answer"]
    assert np.abs(found - np.asarray(want(rows), float)).max() < 1e-4


def refused(nodes: list[Any], weights: list[TensorProto], inputs: tuple[str, ...] = ("rows",)) -> str:
    model = network(nodes, weights, (2, 4), 4)
    with pytest.raises(InvalidInput) as problem:
        run(
            lambda x: reveal(answer=evaluate_model(model, dict.fromkeys(inputs, x))["answer"]),  # type: ignore[arg-type]
            [table(np.ones((2, 4)))],
            ClearBackend(),
        )
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_what_cannot_run_on_secrets_is_refused_with_its_name() -> None:
    assert "NonZero" in refused([helper.make_node("NonZero", ["rows"], ["answer"])], [])
    assert "depends on a secret" in refused([helper.make_node("Reshape", ["rows", "rows"], ["answer"])], [])
    assert "unknown" in refused([helper.make_node("Identity", ["rows"], ["answer"])], [], ("rows", "others"))
    assert "missing" in refused([helper.make_node("Identity", ["rows"], ["answer"])], [], ())
    shape = numpy_helper.from_array(np.array([3, 5], np.int64), "shape")
    assert "cannot run" in refused([helper.make_node("Reshape", ["rows", "shape"], ["answer"])], [shape])
    elsewhere = tensor("weights", np.ones((4, 4)))
    elsewhere.external_data.add(key="location", value="/etc/passwd")
    assert "other files" in refused([helper.make_node("MatMul", ["rows", "weights"], ["answer"])], [elsewhere])
