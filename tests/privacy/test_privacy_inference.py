"""A model kept secret answers on secret rows behind the one call; what it refuses."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from koinon.kernel.errors import InvalidInput
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.encrypted.service import EncryptedPredictor
from koinon.privacy.inference import Predictor, SharedModel, SharedPredictor
from koinon.privacy.rep4.simulation import SimulatedRep4

ROWS = np.random.default_rng(3).uniform(-1, 1, (2, 1, 8, 8))


def network(weight: np.ndarray | None = None) -> ModelProto:
    """A convolution, a rectifier and a dense layer; the dense weights may be given."""
    random = np.random.default_rng(4)
    tensors = {
        "filters": random.normal(0, 0.3, (3, 1, 3, 3)),
        "offsets": random.normal(0, 0.1, 3),
        "dense": random.normal(0, 0.2, (4, 108)) if weight is None else weight,
        "slope": np.array([0.5]),
    }
    nodes = [
        helper.make_node("Conv", ["rows", "filters", "offsets"], ["maps"]),
        helper.make_node("PRelu", ["maps", "slope"], ["active"]),
        helper.make_node("Flatten", ["active"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense"], ["answer"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ROWS.shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, (2, 4))],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def in_the_clear(model: ModelProto, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"rows": rows.astype(np.float32)})[0])


@pytest.mark.parametrize("engine", [ClearBackend(), SimulatedRep4()], ids=["clear", "rep4"])
async def test_a_shared_model_answers_as_the_open_one(engine: Backend) -> None:
    shared = SharedModel.of(network())
    # What has a use that shares nothing, such as the rectifier's slope, stays public with the graph.
    assert {each.name for each in shared.graph.places} == {"filters", "offsets", "dense"}
    predictor: Predictor = SharedPredictor(shared, engine=engine)
    assert np.abs(await predictor.predict(ROWS) - in_the_clear(network(), ROWS)).max() < 1e-4


async def test_rows_in_other_units() -> None:
    predictor = SharedPredictor(SharedModel.of(network()), largest=5.0, engine=ClearBackend())
    assert np.abs(await predictor.predict(5 * ROWS) - in_the_clear(network(), 5 * ROWS)).max() < 1e-3


def asked_the_same_way(predictor: EncryptedPredictor) -> Predictor:
    """The type checker holds the encrypted predictor to the same call."""
    return predictor


@pytest.mark.parametrize(
    "rows",
    [ROWS * 2, ROWS * np.nan, np.zeros((0, 1, 8, 8)), np.ones((2, 3)), np.ones((2, 2, 8, 8))],
    ids=["too large", "not a number", "none", "other shape", "other channels"],
)
async def test_rows_that_do_not_fit_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        await SharedPredictor(SharedModel.of(network()), engine=ClearBackend()).predict(rows)


def test_models_without_weights_to_share_are_refused() -> None:
    model = network()
    del model.graph.node[:]
    with pytest.raises(InvalidInput, match="no weights"):
        SharedModel.of(model)
    with pytest.raises(InvalidInput, match="not finite"):
        SharedModel.of(network(np.full((4, 108), np.inf)))
    several = network()
    several.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, (1,)))
    with pytest.raises(InvalidInput, match="one input"):
        SharedModel.of(several)
