"""Models as frameworks export them, on secret rows, against ONNX Runtime.

scikit-learn's are exported here through skl2onnx; those of PyTorch and TensorFlow are stored in ``exported`` beside the
scripts that made them.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.graphs.onnx_model import evaluate_model

SETTINGS = {"zipmap": False}
EXPORTED = sorted((Path(__file__).parent / "exported").glob("*.onnx"))


def exported(model: Any, rows: np.ndarray, **options: Any) -> Any:
    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_onnx(model, rows[:1].astype(np.float32), target_opset=18, **options)


def compared(model: Any, features: np.ndarray, target: np.ndarray, output: str, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = model.fit(features, target)
    rows = features[::40].astype(np.float32)
    graph = exported(fitted, features, **options)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    want = np.asarray(session.run([output], {"X": rows})[0], float)

    def compute(x: SecretArray) -> Revealed:
        return reveal(found=evaluate_model(graph, {"X": x}, [output])[output])  # type: ignore[arg-type]

    found = run(compute, [table(rows)], ClearBackend()).outputs["found"]
    assert np.abs(found.reshape(want.shape) - want).max() < 2e-3 * max(1.0, np.abs(want).max())


@pytest.mark.parametrize("output", ["probabilities", "label"])
def test_logistic_regressions(output: str) -> None:
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    compared(scaled, *load_iris(return_X_y=True), output, options={"zipmap": False})
    features, target = load_breast_cancer(return_X_y=True)
    compared(
        make_pipeline(LogisticRegression()), StandardScaler().fit_transform(features), target, output, options=SETTINGS
    )


def test_a_perceptron() -> None:
    features, target = load_iris(return_X_y=True)
    network = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=200, random_state=0))
    compared(network, features, target, "probabilities", options=SETTINGS)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_lines_on_rows_of_one_size(norm: str) -> None:
    features, target = load_diabetes(return_X_y=True)
    compared(make_pipeline(Normalizer(norm), LinearRegression()), features * 10, target / 100, "variable")


def test_classes_in_words_and_unknown_outputs_are_refused() -> None:
    features, target = load_iris(return_X_y=True)
    words = np.array(["one", "two", "three"])[target]
    graph = exported(LogisticRegression(max_iter=500).fit(features, words), features, options=SETTINGS)
    for outputs, sentence in ([], "words"), (["nothing"], "outputs are"):
        with pytest.raises(InvalidInput, match=sentence):
            run(
                lambda x, chosen=outputs: reveal(**evaluate_model(graph, {"X": x}, chosen)),
                [table(features[:2])],
                ClearBackend(),
            )


@pytest.mark.parametrize("output", ["probabilities", "label"])
@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(5, max_depth=4, random_state=0),
        DecisionTreeClassifier(max_depth=4, random_state=0),
        GradientBoostingClassifier(n_estimators=5, max_depth=2, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_trees_that_tell_classes(model: Any, output: str) -> None:
    features, target = load_iris(return_X_y=True)
    compared(model, features, target, output, options=SETTINGS)
    compared(model, features, target > 0, output, options=SETTINGS)


@pytest.mark.parametrize(
    "model",
    [
        RandomForestRegressor(4, max_depth=3, random_state=0),
        GradientBoostingRegressor(n_estimators=4, max_depth=2, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_trees_that_tell_numbers(model: Any) -> None:
    features, target = load_diabetes(return_X_y=True)
    compared(model, features * 10, target / 100, "variable")


@pytest.mark.parametrize("path", EXPORTED, ids=lambda path: path.stem)
def test_graphs_that_pytorch_and_tensorflow_wrote(path: Path) -> None:
    from koinon.privacy import onnxruntime as private

    plain, secret = onnxruntime.InferenceSession(path), private.InferenceSession(path)
    (rows,) = plain.get_inputs()
    values = np.random.default_rng(2).uniform(-1, 1, rows.shape).astype(np.float32)
    (want,) = plain.run(None, {rows.name: values})
    (found,) = secret.run(None, {rows.name: values}, engine=ClearBackend())
    assert found.shape == want.shape
    assert found.dtype == want.dtype
    assert np.abs(found - want).max() < 2e-3 * max(1.0, np.abs(want).max())


def test_both_frameworks_are_there() -> None:
    producers = {onnx.load(path).producer_name for path in EXPORTED}
    assert producers == {"pytorch", "tf2onnx"}
    assert sum(path.stat().st_size for path in EXPORTED) < 20_000


def test_an_onnxruntime_session_answers_with_four_parties() -> None:
    from koinon.privacy import onnxruntime as private

    path = next(path for path in EXPORTED if path.stem == "tensorflow_perceptron")
    session = private.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    values = np.random.default_rng(4).uniform(-1, 1, (4, 6)).astype(np.float32)
    (found,) = session.run([session.get_outputs()[0].name], {name: values})
    (want,) = onnxruntime.InferenceSession(path).run(None, {name: values})
    assert np.abs(found - want).max() < 2e-3
    with pytest.raises(InvalidInput, match="at least one number"):
        session.run(None, {})
    with pytest.raises(InvalidInput, match="missing"):
        session.run(None, {"other": values})
    with pytest.raises(InvalidInput, match="finite"):
        session.run(None, {name: values * np.inf})


CUT = {"nodes_truenodeids": [0, 0, 0], "nodes_falsenodeids": [0, 0, 0]}
DOUBLE = {"nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [1, 0, 0]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (CUT, "no path|two parents"),
        (DOUBLE, "two parents"),
        ({"nodes_modes": [b"BRANCH_MEMBER", b"LEAF", b"LEAF"]}, "BRANCH_MEMBER"),
        ({"nodes_nodeids": [0, 1, 1]}, "different nodes"),
        ({"nodes_truenodeids": [7, 0, 0]}, "cannot run"),
        ({"nodes_featureids": [9, 0, 0]}, "cannot run"),
        ({"aggregate_function": b"MAX"}, "added up or averaged"),
    ],
    ids=["cycle", "two parents", "unknown split", "twice", "no such node", "no such column", "largest"],
)
def test_malformed_trees_are_refused(change: dict[str, Any], sentence: str) -> None:
    from onnx import TensorProto, helper

    attributes = {
        "n_targets": 1,
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_modes": [b"BRANCH_LEQ", b"LEAF", b"LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
    }

    def answer(given: dict[str, Any]) -> np.ndarray:
        node = helper.make_node("TreeEnsembleRegressor", ["X"], ["Y"], domain="ai.onnx.ml", **given)
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in "XY"]
        graph = helper.make_model(
            helper.make_graph([node], "tree", ends[:1], ends[1:]),
            opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)],
        )
        return run(
            lambda x: reveal(found=evaluate_model(graph, {"X": x})["Y"]),  # type: ignore[arg-type]
            [table(np.array([[0.0, 0.0], [1.0, 0.0]]))],
            ClearBackend(),
        ).outputs["found"]

    assert np.abs(answer(attributes) - [[1.0], [2.0]]).max() < 1e-4
    with pytest.raises(InvalidInput, match=sentence):
        answer(attributes | change)
