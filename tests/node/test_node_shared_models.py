"""A model that four real nodes keep as shares: dealt, asked, restarted, refused, forgotten."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from node_joins_world import ordered
from node_market_world import Network
from onnx import TensorProto, helper, load_from_string, numpy_helper

from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, ProtocolAbort, Refused
from koinon.kernel.ids import NodeId
from koinon.node import disputes, orders
from koinon.node.context import Context
from koinon.node.roles.shared_models import SharedModelsRole
from koinon.privacy.answering import RemotePredictor, find_card, question_id
from koinon.privacy.inference import FRACTION_BITS, NUMBERS, Predictor, SharedModel
from koinon.privacy.sharing import Dealing, accept_package, deal, encoded
from koinon.wire.committee import POSITIONS, Input, ShareManifest
from koinon.wire.inference import AskSharedModel, FindSharedModelSeat, ForgetSharedModel, KeepSharedModel

MEMBERS = ("first", "second", "third", "fourth")
ROWS = np.random.default_rng(2).uniform(-3, 3, (5, 6))
WEIGHTS = {
    "hidden": np.random.default_rng(3).normal(0, 0.4, (6, 8)),
    "offset": np.random.default_rng(4).normal(0, 0.2, 8),
    "last": np.random.default_rng(5).normal(0, 0.4, (8, 2)),
}


def in_the_clear(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(rows @ WEIGHTS["hidden"] + WEIGHTS["offset"], 0) @ WEIGHTS["last"])


def write_model(path: Path) -> Path:
    """A perceptron of six inputs."""
    nodes = [
        helper.make_node("Gemm", ["rows", "hidden", "offset"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["active"]),
        helper.make_node("MatMul", ["active", "last"], ["answer"]),
    ]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in WEIGHTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def write_rows(path: Path, rows: np.ndarray) -> Path:
    names = ",".join(f"c{number}" for number in range(rows.shape[1]))
    path.write_text("\n".join([names, *(",".join(map(repr, row)) for row in rows.tolist())]) + "\n")
    return path


class Scene:
    """An owner, a caller and four members, each a node with a transport of its own."""

    def __init__(self, network: Network, owner: Context, caller: Context, members: list[Context]) -> None:
        self.network, self.owner, self.caller, self.members = network, owner, caller, members
        self.roles = [self.attached(member) for member in members]
        for context in (owner, caller):
            SharedModelsRole(context).offer()
        self.model = write_model(owner.home.path / "model.onnx")

    def attached(self, member: Context) -> SharedModelsRole:
        member.config = replace(member.config, shared_models_of=(self.owner.keys.node.node_id,))
        role = SharedModelsRole(member)
        role.attach()
        return role

    @property
    def ids(self) -> tuple[NodeId, ...]:
        return tuple(member.keys.node.node_id for member in self.members)

    async def shared(self, callers: Sequence[NodeId] = (), path: Path | None = None) -> orders.SharedWith:
        order = orders.ShareModel(str(path or self.model), "risk", 3.0, self.ids, tuple(callers))
        return await ordered(self.owner, "model.share", order, orders.SharedWith)

    async def predictor(self, model: bytes) -> RemotePredictor:
        caller = self.caller
        endpoints = [member.transport.endpoint for member in self.members]
        return await RemotePredictor.find(caller.transport, endpoints, model, caller.keys.node, caller.rng)


@pytest.fixture
async def scene(network: Network) -> Scene:
    owner, caller = await network.node("owner"), await network.node("caller")
    return Scene(network, owner, caller, [await network.node(name) for name in MEMBERS])


async def test_four_nodes_answer_for_rows_that_none_of_them_sees(scene: Scene) -> None:
    card = await scene.shared()
    assert (card.row, card.weights, card.largest) == ((6,), 48 + 8 + 16, 4.0)
    asked = orders.AskShared(card.model, scene.ids[2], str(write_rows(scene.caller.home.path / "rows.csv", ROWS)))
    found = await ordered(scene.caller, "model.ask", asked, orders.PrivateAnswers)
    answers = np.array(found.values).reshape(-1, found.outputs)
    assert np.abs(answers - in_the_clear(ROWS)).max() < 1e-3
    # What a node has on its disk is three of four components, of which no sum is a weight.
    graph = SharedModel.of(load_from_string(scene.model.read_bytes()))
    words = encoded(graph.weights.reshape(-1, 1), NUMBERS, FRACTION_BITS)
    for position, (role, member) in enumerate(zip(scene.roles, scene.members, strict=True)):
        assert role.report() == [f"risk {card.model.hex()[:18]}"]
        (path,) = member.home.shared_models.iterdir()
        assert path.stat().st_mode & 0o077 == 0
        given = disputes.read(path, KeepSharedModel)
        shares = accept_package(given.card.weights, position, given.weights.package)
        held = [shares.part(j) for j in POSITIONS if j != position]
        for count in (1, 2, 3):
            for some in combinations(held, count):
                assert not (np.sum(some, axis=0, dtype=np.uint64) == words).any()
    predictor: Predictor = await scene.predictor(card.model)
    for rows in (ROWS[:1], ROWS[2:4]):
        assert np.abs(await predictor.predict(rows) - in_the_clear(rows)).max() < 1e-3


async def test_a_member_that_was_restarted_has_its_share_until_it_is_let_go_of(scene: Scene) -> None:
    card = await scene.shared()
    predictor = await scene.predictor(card.model)
    assert np.abs(await predictor.predict(ROWS[:1]) - in_the_clear(ROWS[:1])).max() < 1e-3
    # The node once more on the same disk: another transport, another child under another key.
    scene.members[1] = await scene.network.node(MEMBERS[1])
    scene.attached(scene.members[1])
    predictor = await scene.predictor(card.model)
    assert np.abs(await predictor.predict(ROWS[1:2]) - in_the_clear(ROWS[1:2])).max() < 1e-3
    with pytest.raises(Refused, match="only its owner"):
        await scene.caller.transport.call(scene.members[0].transport.endpoint, ForgetSharedModel(card.model))
    await ordered(scene.owner, "model.forget", orders.ForgetShared(card.model, scene.ids[0]), orders.Nothing)
    assert [list(member.home.shared_models.iterdir()) for member in scene.members] == [[]] * 4
    with pytest.raises(Refused, match="no share of that model"):
        await predictor.predict(ROWS[:1])


async def test_rows_and_callers_that_are_not_welcome_are_refused_and_harm_nobody(scene: Scene) -> None:
    card = await scene.shared(callers=[scene.caller.keys.node.node_id])
    predictor = await scene.predictor(card.model)
    for rows in (ROWS[:, :5], ROWS * 2, ROWS * np.nan, ROWS[0], ROWS[:0]):
        with pytest.raises(InvalidInput):
            await predictor.predict(rows)
    narrow = write_rows(scene.caller.home.path / "narrow.csv", ROWS[:, :5])
    order = orders.AskShared(card.model, scene.ids[0], str(narrow))
    with pytest.raises(InvalidInput, match="rows of 6 numbers"):
        await ordered(scene.caller, "model.ask", order, orders.PrivateAnswers)
    endpoint = scene.members[0].transport.endpoint
    with pytest.raises(Refused, match="no share of that model"):
        await find_card(scene.caller.transport, endpoint, bytes(32))
    strangers = [endpoint, scene.caller.transport.endpoint, *predictor.endpoints[2:]]
    with pytest.raises(InvalidInput, match="not the four nodes"):
        await RemotePredictor.find(scene.caller.transport, strangers, card.model, predictor.key, predictor.rng)
    with pytest.raises(Refused, match="four members"):
        await scene.caller.transport.call(endpoint, FindSharedModelSeat(card.model))
    owner = replace(predictor, caller=scene.owner.transport, key=scene.owner.keys.node)
    with pytest.raises(Refused, match="does not let this caller ask"):
        await owner.predict(ROWS[:1])

    # What the caller sends otherwise than it signed opens nothing.
    def altered(position: int, given: Input) -> Input:
        assert given.package is not None
        first, second, third = given.package.components
        wrong = msgspec.structs.replace(first, value=bytes(len(first.value)))
        package = msgspec.structs.replace(given.package, components=(wrong, second, third))
        return given if position else msgspec.structs.replace(given, package=package)

    def elsewhere(_: int, given: Input) -> Input:
        manifest = msgspec.structs.replace(given.manifest, study=bytes(32))
        return msgspec.structs.replace(given, manifest=manifest)

    manifest, questions = question(scene, card.model)
    ended = await asked(scene, [changed(altered, position, each) for position, each in enumerate(questions)])
    assert all(isinstance(each, ProtocolAbort) for each in ended)
    ended = await asked(scene, [changed(elsewhere, position, each) for position, each in enumerate(questions)])
    assert all(isinstance(each, Forged) for each in ended)

    # The members answer the next question as if nothing had been; and no question twice.
    manifest, questions = question(scene, card.model)
    assert all(each.package.session == question_id(manifest) for each in await asked(scene, questions))
    for each in await asked(scene, questions):
        assert isinstance(each, Refused)
        assert "asked before" in str(each)


async def test_models_that_are_not_welcome_are_not_kept(scene: Scene) -> None:
    text = scene.owner.home.path / "model.txt"
    text.write_text("no model")
    with pytest.raises(InvalidInput, match="not an ONNX model"):
        await scene.shared(path=text)
    await scene.shared()
    endpoint = scene.members[0].transport.endpoint
    path = next(scene.members[0].home.shared_models.iterdir())
    given, call = disputes.read(path, KeepSharedModel), scene.owner.transport.call
    with pytest.raises(Forged, match="graph"):
        await call(endpoint, msgspec.structs.replace(given, graph=b"another"))
    with pytest.raises(MalformedMessage, match="power of two"):
        await call(endpoint, msgspec.structs.replace(given, card=msgspec.structs.replace(given.card, largest=3.0)))
    with pytest.raises(Refused, match="has named"):
        await scene.caller.transport.call(endpoint, given)
    # One of four refuses, and the three that took another model are told to let go of it.
    scene.members[3].config = replace(scene.members[3].config, shared_models_of=())
    with pytest.raises(Refused, match="owners that its operator has named"):
        await scene.shared()
    assert [len(list(member.home.shared_models.iterdir())) for member in scene.members] == [1] * 4


def question(scene: Scene, model: bytes) -> tuple[ShareManifest, list[AskSharedModel]]:
    """One row of the caller's, for each member its package."""
    caller = scene.caller
    dealing = Dealing(model, 0, caller.rng.bytes(32))
    numbers = (ROWS[:1] / 4).reshape(-1, 1)
    manifest, packages = deal(numbers, NUMBERS, FRACTION_BITS, dealing, caller.keys.node, caller.rng)
    return manifest, [AskSharedModel(model, Input(manifest, package)) for package in packages]


def changed(change: Callable[[int, Input], Input], position: int, asked: AskSharedModel) -> AskSharedModel:
    return msgspec.structs.replace(asked, rows=change(position, asked.rows))


async def asked(scene: Scene, questions: Sequence[AskSharedModel]) -> list[Any]:
    """How each of the four ended."""
    calls = (
        scene.caller.transport.call(member.transport.endpoint, each, 300.0)
        for member, each in zip(scene.members, questions, strict=True)
    )
    return list(await asyncio.gather(*calls, return_exceptions=True))
