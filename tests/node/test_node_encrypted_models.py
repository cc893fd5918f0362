"""A node's model answers rows that another node encrypts: by order, across a restart, for whom the operator names."""

from pathlib import Path

import numpy as np
import pytest
from node_joins_world import ordered
from node_market_world import Network
from onnx import ModelProto, TensorProto, helper, numpy_helper

from koinon.kernel.errors import InvalidInput, Refused
from koinon.node import orders
from koinon.node.context import Context
from koinon.node.roles.encrypted_models import EncryptedModelsRole
from koinon.privacy.encrypted.onnx_layers import layers_of

ROWS = np.random.default_rng(1).uniform(-2, 2, (4, 3))
NUMBERS = {
    "centre": np.array([0.5, -0.25, 1.0]),
    "scale": np.array([0.5, 2.0, 1.0]),
    "first": np.random.default_rng(2).normal(0, 0.5, (4, 3)),
    "offset": np.array([0.1, -0.2, 0.3, 0.0]),
    "last": np.random.default_rng(3).normal(0, 0.5, (4, 1)),
    "bias": np.array([-0.4]),
    "two": np.array(2.0),
    "flat": np.array([-1]),
}
NODES = [
    helper.make_node("Sub", ["rows", "centre"], ["a"]),
    helper.make_node("Mul", ["scale", "a"], ["b"]),
    helper.make_node("Gemm", ["b", "first", "offset"], ["c"], transB=1),
    helper.make_node("Pow", ["c", "two"], ["d"]),
    helper.make_node("MatMul", ["d", "last"], ["e"]),
    helper.make_node("Add", ["e", "bias"], ["f"]),
    helper.make_node("Sigmoid", ["f"], ["g"]),
    helper.make_node("Reshape", ["g", "flat"], ["answer"]),
]


def model(*nodes: object, columns: int | str = 3) -> ModelProto:
    graph = helper.make_graph(
        list(nodes) or NODES,
        "model",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", columns])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.asarray(values, np.int64 if name == "flat" else np.float32), name)
            for name, values in NUMBERS.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def in_the_clear(given: ModelProto, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(given.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"rows": rows.astype(np.float32)})[0])


def test_layers_of_a_graph_answer_as_the_graph() -> None:
    layers = layers_of(model())
    assert layers.depth == 3
    np.testing.assert_allclose(layers.in_the_clear(ROWS)[:, 0], in_the_clear(model(), ROWS), atol=1e-5)
    turned = [
        helper.make_node("Sub", ["centre", "rows"], ["a"]),
        helper.make_node("Div", ["a", "scale"], ["b"]),
        helper.make_node("Mul", ["b", "b"], ["c"]),
        helper.make_node("Gemm", ["c", "first", "offset"], ["d"], transB=1, alpha=0.5, beta=2.0),
        helper.make_node("Softmax", ["d"], ["answer"]),
    ]
    np.testing.assert_allclose(
        layers_of(model(*turned)).in_the_clear(ROWS), in_the_clear(model(*turned), ROWS), atol=1e-5
    )


REFUSED: dict[str, tuple[ModelProto, str]] = {
    "a rectifier": (model(helper.make_node("Relu", ["rows"], ["answer"])), "Relu cannot be computed"),
    "two unknowns": (model(helper.make_node("Add", ["rows", "more"], ["answer"])), "takes something other"),
    "a power of three": (model(helper.make_node("Pow", ["rows", "scale"], ["answer"])), "cannot be computed"),
    "two strands": (model(helper.make_node("Add", ["centre", "scale"], ["answer"])), "only a chain does"),
    "a product from the left": (model(helper.make_node("MatMul", ["last", "rows"], ["answer"])), "cannot be|not fit"),
    "a matrix of another size": (model(helper.make_node("MatMul", ["rows", "last"], ["answer"])), "does not fit"),
    "columns that are not declared": (model(columns="d"), "declares its input"),
    "after the sigmoid": (
        model(helper.make_node("Sigmoid", ["rows"], ["a"]), helper.make_node("Add", ["a", "centre"], ["answer"])),
        "nothing does",
    ),
    "an end that is not the output": (model(helper.make_node("Add", ["rows", "centre"], ["a"])), "not the end"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_computed_on_ciphertexts_is_refused(case: str) -> None:
    given, named = REFUSED[case]
    with pytest.raises(InvalidInput, match=named):
        layers_of(given)


async def answering(network: Network, name: str) -> Context:
    context = await network.node(name)
    EncryptedModelsRole(context).offer()
    return context


async def test_rows_leave_their_node_encrypted_and_the_answers_are_the_models(network: Network, tmp_path: Path) -> None:
    caller, owner = await answering(network, "caller"), await answering(network, "owner")
    path, rows = tmp_path / "model.onnx", tmp_path / "rows.csv"
    path.write_bytes(model().SerializeToString())
    rows.write_text("\n".join(["a,b,c", *(",".join(map(repr, row)) for row in ROWS.tolist())]))
    given = orders.AnswerEncrypted(str(path), "risk", (caller.keys.node.node_id,))
    await ordered(owner, "model.answer", given, orders.Nothing)
    wish = orders.AskEncrypted(owner.keys.node.node_id, "risk", str(rows))
    found = await ordered(caller, "model.ask_encrypted", wish, orders.PrivateAnswers)
    np.testing.assert_allclose(found.values, in_the_clear(model(), ROWS), atol=1e-3)
    with pytest.raises(Refused, match="does not let this caller ask"):
        await ordered(owner, "model.ask_encrypted", wish, orders.PrivateAnswers)
    # The node once more on the same disk answers as before.
    await answering(network, "owner")
    found = await ordered(caller, "model.ask_encrypted", wish, orders.PrivateAnswers)
    np.testing.assert_allclose(found.values, in_the_clear(model(), ROWS), atol=1e-3)
    with pytest.raises(InvalidInput, match="a model's name"):
        await ordered(owner, "model.answer", orders.AnswerEncrypted(str(path), "../risk"), orders.Nothing)
    rows.write_text("a\n1\n")
    with pytest.raises(InvalidInput, match="rows of 3 numbers"):
        await ordered(caller, "model.ask_encrypted", wish, orders.PrivateAnswers)
