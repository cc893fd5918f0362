"""What studies opened becomes an ONNX model that answers as the tables that people are shown do."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from offer_scenes import FEATURES, IMAGE, LENGTH, SCENES, Scene, answers, fallen, inputs_of, layout_of

from koinon.data.commitment import DatasetCommitment
from koinon.data.demonstration import demo_split
from koinon.jobs.study import Party, StudyFile, Terms
from koinon.journey import results
from koinon.journey.predictors import features_of, makes_model, predictor_of
from koinon.journey.publish import card_of
from koinon.journey.validate import check_kind
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput, Refused
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import BasisPoints, TokenAmount
from koinon.models.onnx_export import weights_hash
from koinon.models.onnx_layers import LayerParameters, Link, check_equal_layers, export_layers
from koinon.models.onnx_networks import (
    ConvolutionLayer,
    DenseLayer,
    GatedLayer,
    NetworkParameters,
    check_equal_network,
    export_network,
)
from koinon.models.onnx_trees import TreeParameters, check_equal_trees, export_trees
from koinon.models.runtime import open_session
from koinon.models.scan import scan
from koinon.models.variants import derive
from koinon.privacy.arrays import SecretArray, constant_like
from koinon.privacy.backend import PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.learn.networks import FittedLayers, starting_weights
from koinon.privacy.nets import functions
from koinon.privacy.programs import convolutional_network, noisy_network, recurrent_network, registry
from koinon.privacy.programs.offer import Layout, Parameters, Target, decode_settings, settings_from
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.valuation.shapley import WORTH
from koinon.trust.evaluation import Task, evaluate
from koinon.trust.evidence import EvaluationSettings
from koinon.trust.recompute import check_linked
from koinon.wire.committee import Column

Tables = Mapping[str, np.ndarray]


def line(tables: Tables, rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows @ tables["coefficients"][:, 0] + tables["intercept"][0, 0])


def sigmoid(odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-odds)))


def mean_of_trees(tables: Tables, rows: np.ndarray) -> np.ndarray:
    trees = list(zip(tables["columns"], tables["thresholds"], tables["leaves"], strict=True))
    return np.asarray(sum(fallen(rows, tree) for tree in trees) / len(trees))


def sum_of_trees(tables: Tables, rows: np.ndarray) -> np.ndarray:
    return answers(tables, rows, range(rows.shape[1]))["answers"]


def shares(tables: Tables, rows: np.ndarray) -> np.ndarray:
    odds = np.exp(rows @ tables["coefficients"] + tables["intercepts"])
    return np.asarray(odds / odds.sum(1, keepdims=True))


def likelier(tables: Tables, rows: np.ndarray) -> np.ndarray:
    odds = [
        np.log(prior) - ((rows - mean) ** 2 / variance + np.log(variance)).sum(1) / 2
        for prior, mean, variance in zip(tables["priors"][:, 0], tables["means"], tables["variances"], strict=True)
    ]
    return sigmoid(odds[1] - odds[0])


def two_layers(tables: Tables, rows: np.ndarray) -> np.ndarray:
    """Of a scene's columns, whose ranges the shown weights are for."""
    low, high = np.array([(column.low, column.high) for column in FEATURES]).T
    units = (rows - (low + high) / 2) / ((high - low) / 2)
    active = np.maximum(units @ tables["hidden"] + tables["hidden_bias"], 0.0)
    return sigmoid((active @ tables["output"] + tables["output_bias"])[:, 0])


def convolutions(tables: Tables, rows: np.ndarray) -> np.ndarray:
    """The house's JAX function with the shown weights, on a scene's pixels."""
    weights = {
        "filters 0": tables["filters 1"].reshape(2, 2, 1, 3),
        "bias 0": tables["filters 1 bias"][0],
        "dense": tables["layer 1"],
        "bias": tables["layer 1 bias"][0],
    }
    levels = np.asarray(functions.convolutional(IMAGE, (3,), 3, window=2).forward(weights, rows / 8 - 1), np.float64)
    odds = np.exp(levels)
    return np.asarray(odds / odds.sum(1, keepdims=True))


def recurrence(tables: Tables, rows: np.ndarray) -> np.ndarray:
    """The house's JAX function with the shown weights, on a scene's sequences; the target is from −2 to 2."""
    weights = {
        "gates": tables["gates"],
        "gate bias": tables["gates bias"][0],
        "state": tables["state"],
        "state bias": tables["state bias"][0],
        "dense": tables["layer 1"],
        "bias": tables["layer 1 bias"][0],
    }
    return 2 * np.asarray(functions.recurrent(LENGTH, 2, 3, 1).forward(weights, rows / 2), np.float64)[:, 0]


ANSWERS: dict[str, Callable[[Tables, np.ndarray], np.ndarray]] = {
    "boosted-regression/1": sum_of_trees,
    "convolutional-network/1": convolutions,
    "decision-tree/1": mean_of_trees,
    "gradient-boosting/1": lambda tables, rows: sigmoid(sum_of_trees(tables, rows)),
    "linear-regression/1": line,
    "logistic-regression/1": lambda tables, rows: sigmoid(line(tables, rows)),
    "multinomial-regression/1": shares,
    "naive-bayes/1": likelier,
    "perceptron/1": two_layers,
    "poisson-regression/1": lambda tables, rows: np.exp(line(tables, rows)),
    "random-forest/1": mean_of_trees,
    "recurrent-network/1": recurrence,
    "regression-forest/1": mean_of_trees,
    "regression-tree/1": mean_of_trees,
}


def party(number: int) -> Party:
    return Party(f"party-{number}", NodeId(bytes([number]) * 32), Address(bytes([number]) * 20))


def study_of(scene: Scene, outputs: tuple[str, ...]) -> StudyFile:
    offer = registry.offer(scene.program)
    binary = offer.target is Target.BINARY
    return StudyFile(
        version=1,
        title="A study",
        purpose="To see what becomes of it",
        algorithm=scene.program,
        algorithm_hash=registry.algorithm_hash(scene.program),
        columns=scene.columns[:-1] if binary else scene.columns,
        target=scene.target,
        sensitive_column=scene.columns[0].name if binary else "",
        outputs=outputs,
        epsilon=0.0,
        minimum_rows=10,
        owners=(party(1), party(2), party(3)),
        publisher=party(4),
        owner_revenue=BasisPoints(2000),
        terms=Terms(TokenAmount(5), TokenAmount(7), TokenAmount(11), 60, 30, 90, 4, 3),
        chain_id=4242,
        studies_contract=Address(b"s" * 20),
        settings=settings_from(offer, scene.settings),
    )


def opened_as(outputs: Tables) -> results.Trained:
    return results.Trained(
        results.Study(1, Hash32(bytes(32)), b"", (Hash32(b"d" * 32),) * 3),
        0,
        (),
        Hash32(bytes(32)),
        tuple(results.Output(name, values.shape, tuple(values.ravel().tolist())) for name, values in outputs.items()),
        (20, 20, 20),
        (),
        (),
    )


def computed(scene: Scene) -> tuple[results.Trained, StudyFile, Tables]:
    """The study, what its committee would have opened, and the tables that people see."""
    offer, layout = registry.offer(scene.program), layout_of(scene, by_columns=False)
    names = tuple(name for name in offer.outputs if name != WORTH)
    study = study_of(scene, names)
    program = registry.load(scene.program, encode(Parameters(layout, study.settings, names)))
    opened = ClearBackend().run(program, inputs_of(scene, layout), SeededRng(b"predictors")).outputs
    shown = offer.present(opened, layout, decode_settings(offer, study.settings))
    return opened_as(opened), study, {table.name: table.values for table in shown}


MODELS = [scene for scene in SCENES if makes_model(scene.program)]


@pytest.mark.parametrize("scene", MODELS, ids=lambda scene: scene.program)
def test_a_model_answers_what_its_tables_say(scene: Scene) -> None:
    trained, study, tables = computed(scene)
    predictor = predictor_of(trained, study)
    scan(predictor.onnx)
    places = [number for number, column in enumerate(scene.columns) if column in features_of(study)]
    rows = scene.rows[:, places].astype(np.float32)
    (found,) = open_session(predictor.onnx).run(None, {"features": rows})
    wanted = ANSWERS[scene.program](tables, rows.astype(np.float64))
    assert np.asarray(found).shape == wanted.shape
    assert np.abs(np.asarray(found) - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())
    assert (predictor.task == "binary-classification") == (registry.offer(scene.program).target is Target.BINARY)


def test_every_program_that_makes_a_model_says_so() -> None:
    assert {scene.program for scene in MODELS} == ANSWERS.keys()
    assert {name for name in registry.names() if makes_model(name)} == ANSWERS.keys() | {"noisy-network/1"}
    for name in registry.names():
        assert makes_model(name) == registry.offer(name).summary.endswith("makes a model")


@pytest.mark.parametrize("scene", MODELS, ids=lambda scene: scene.program)
def test_a_model_needs_everything_it_is_made_of(scene: Scene) -> None:
    trained, study, _ = computed(scene)
    for number in range(len(trained.outputs)):
        if trained.outputs[number].name == "score":
            continue
        fewer = trained.outputs[:number] + trained.outputs[number + 1 :]
        with pytest.raises(InvalidInput, match="does not open"):
            predictor_of(results.Trained(**{**_fields(trained), "outputs": fewer}), study)


@pytest.mark.parametrize("units", [0, 4])
def test_a_network_learnt_through_noise_answers_as_its_formula(units: int) -> None:
    random = np.random.default_rng(units)
    outputs = {
        "hidden": random.normal(0, 2, (4, units)) if units else np.zeros((1, 1)),
        "output": random.normal(0, 2, (units or 3) + 1),
    }
    scene = Scene(
        "noisy-network/1", (*FEATURES, Column("ill", 0.0, 1.0)), np.zeros((1, 4)), "ill", {"hidden": units}, dict
    )
    onnx = predictor_of(opened_as(outputs), study_of(scene, ("hidden", "output"))).onnx
    low, high = np.array([(column.low, column.high) for column in FEATURES]).T
    rows = random.uniform(low, high, (40, 3)).astype(np.float32)
    (found,) = open_session(onnx).run(None, {"features": rows})
    units_of_range = (rows.astype(np.float64) - (low + high) / 2) / ((high - low) / 2)
    assert np.abs(np.asarray(found) - sigmoid(noisy_network.decision(outputs, units_of_range))).max() < 1e-5


WHOLE = Column("kind", 0.0, 2.0)
NETWORKS: dict[str, Scene] = {
    "means, two convolutions, a hidden layer, two classes": Scene(
        "convolutional-network/1",
        (*(Column(f"x{n}", -3.0, 5.0) for n in range(8 * 9 * 2)), Column("ill", 0.0, 1.0)),
        np.zeros((1, 145)),
        "ill",
        {"image": (8, 9, 2), "filters": (3, 4), "window": 2, "pooling": "mean", "hidden": 5},
        dict,
    ),
    "the largest, no pool behind, a number": Scene(
        "convolutional-network/1",
        (*(Column(f"x{n}", 0.0, 255.0) for n in range(25)), Column("score", 10.0, 90.0)),
        np.zeros((1, 26)),
        "score",
        {"image": (5, 5, 1), "filters": (2,), "pool": 1, "predicts": "number"},
        dict,
    ),
    "a sequence, a hidden layer, three classes": Scene(
        "recurrent-network/1",
        (WHOLE, *(Column(f"x{n}", -1.0, 4.0) for n in range(12))),
        np.zeros((1, 13)),
        "kind",
        {"length": 4, "units": 5, "hidden": 3},
        dict,
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_a_network_answers_as_the_committee_would(case: str) -> None:
    """The exported model beside the very layers that are trained on secret rows."""
    scene = NETWORKS[case]
    study, random = study_of(scene, ("weights",)), np.random.default_rng(8)
    settings = decode_settings(registry.offer(scene.program), study.settings)
    module = convolutional_network if scene.program.startswith("conv") else recurrent_network
    layers = module.layers_of(Layout((1,), scene.columns, scene.target), settings)
    weights = [each + random.normal(0, 0.3, each.shape) for each in starting_weights(layers, 1)]
    flat = np.concatenate([each.ravel() for each in weights])
    predictor = predictor_of(opened_as({"weights": flat}), study)
    scan(predictor.onnx)
    low, high = np.array([(column.low, column.high) for column in features_of(study)]).T
    rows = random.uniform(low, high, (30, len(low))).astype(np.float32)
    (found,) = open_session(predictor.onnx).run(None, {"features": rows})

    def answer(secret: SecretArray) -> Revealed:
        known = tuple(constant_like(secret, each) for each in weights)
        fitted = FittedLayers(tuple(layers), known, settings.predicts == "number")
        return reveal(answer=fitted.predict(secret) if fitted.numbers else fitted.predict_proba(secret))

    units = table((rows - (low + high) / 2) / ((high - low) / 2), ranges=[(-1.0, 1.0)] * len(low))
    wanted = run(answer, [units], ClearBackend()).outputs["answer"]
    if settings.predicts == "number":
        wanted = wanted * 40 + 50
    assert np.asarray(found).shape == wanted.shape
    # The sigmoid on shares is right to 3 · 10⁻⁴, and a network adds a few of them up.
    assert np.abs(np.asarray(found) - wanted).max() < 4e-3 * max(1.0, np.abs(wanted).max())
    with pytest.raises(InvalidInput, match="must have"):
        predictor_of(opened_as({"weights": flat[1:]}), study)


LAYERED = NetworkParameters(
    np.zeros(4),
    np.ones(4),
    (
        ConvolutionLayer((2, 2, 1), np.ones((1, 2)), np.zeros(2), 1, 2, True, 16.0),
        DenseLayer(np.ones((2, 1)), np.ones(1)),
    ),
    Link.PROBABILITY,
)
GATES = GatedLayer(2, 2, np.ones((3, 2)), np.ones(2), np.ones((3, 1)), np.ones(1))
BAD_NETWORKS = {
    "no layer": replace(LAYERED, layers=()),
    "layers that do not meet": replace(LAYERED, layers=LAYERED.layers[::-1]),
    "an image of other columns": replace(LAYERED, low=np.zeros(3), high=np.ones(3)),
    "no dense layer at the end": replace(LAYERED, layers=LAYERED.layers[:1]),
    "one class": replace(LAYERED, link=Link.CLASSES),
    "a count": replace(LAYERED, link=Link.COUNT),
    "a gate too few": replace(
        LAYERED, layers=(replace(GATES, gates_bias=np.ones(1)), DenseLayer(np.ones((1, 1)), np.ones(1)))
    ),
    "no window": replace(LAYERED, layers=(replace(LAYERED.layers[0], window=0), LAYERED.layers[1])),  # type: ignore[type-var]
    "a weight that is no number": replace(
        LAYERED, layers=(LAYERED.layers[0], DenseLayer(np.full((2, 1), np.nan), np.ones(1)))
    ),
    "a huge weight": replace(LAYERED, layers=(LAYERED.layers[0], DenseLayer(np.full((2, 1), 1e20), np.ones(1)))),
    "an empty range": replace(LAYERED, high=np.zeros(4)),
    "a unit that is no number": replace(LAYERED, unit=np.inf),
}


@pytest.mark.parametrize("case", BAD_NETWORKS)
def test_what_is_no_network_is_not_exported(case: str) -> None:
    assert export_network(LAYERED)
    with pytest.raises(InvalidInput):
        export_network(BAD_NETWORKS[case])


@pytest.mark.parametrize("scene", MODELS, ids=lambda scene: scene.program)
def test_a_model_that_nobody_measures_is_not_sent_to_be_measured(scene: Scene) -> None:
    study = study_of(scene, ("columns",))
    if registry.offer(scene.program).target is Target.BINARY:
        check_kind(study)
    else:
        with pytest.raises(Refused, match="Nothing was sent"):
            check_kind(study)


def _fields(trained: results.Trained) -> dict[str, object]:
    return {name: getattr(trained, name) for name in trained.__struct_fields__}


RANDOM = np.random.default_rng(4)
LOW, HIGH = np.full(3, -2.0), np.full(3, 4.0)
TREES = TreeParameters(
    LOW,
    HIGH,
    RANDOM.integers(-1, 3, (4, 7)),
    RANDOM.uniform(-2, 4, (4, 7)),
    RANDOM.normal(0, 1, (4, 8)),
    start=0.5,
    log_odds=True,
)
LAYERS = LayerParameters(
    LOW,
    HIGH,
    (RANDOM.normal(0, 1, (3, 5)), RANDOM.normal(0, 1, (5, 1))),
    (RANDOM.normal(0, 1, 5), RANDOM.normal(0, 1, 1)),
    Link.PROBABILITY,
)


def grown_to_the_right(depth: int) -> TreeParameters:
    """A tree that splits only what went right: most places of the full one are empty."""
    inner = (1 << depth) - 1
    columns = np.full((1, inner), -1)
    place = 0
    while place < inner:
        columns[0, place], place = place % 3, 2 * place + 2
    return TreeParameters(LOW, HIGH, columns, RANDOM.uniform(-2, 1, (1, inner)), RANDOM.normal(0, 1, (1, inner + 1)))


@pytest.mark.parametrize("depth", [1, 2, 5, 8])
def test_a_tree_with_gaps_is_exported_without_them(depth: int) -> None:
    trees = grown_to_the_right(depth)
    assert check_equal_trees(export_trees(trees), trees) < 1e-6
    nothing = replace(trees, columns=np.full_like(trees.columns, -1))
    assert check_equal_trees(export_trees(nothing), nothing) < 1e-6


BAD_TREES = {
    "no tree": replace(TREES, columns=TREES.columns[:0], thresholds=TREES.thresholds[:0], leaves=TREES.leaves[:0]),
    "not full": replace(TREES, columns=TREES.columns[:, :6], thresholds=TREES.thresholds[:, :6]),
    "too few leaves": replace(TREES, leaves=TREES.leaves[:, :7]),
    "an unknown column": replace(TREES, columns=np.full((4, 7), 3)),
    "a leaf that is no number": replace(TREES, leaves=np.full((4, 8), np.nan)),
    "a threshold without end": replace(TREES, columns=np.zeros((4, 7), int), thresholds=np.full((4, 7), np.inf)),
    "a huge leaf": replace(TREES, leaves=np.full((4, 8), 1e31)),
}
BAD_LAYERS = {
    "no layer": replace(LAYERS, weights=(), biases=()),
    "layers that do not meet": replace(LAYERS, weights=LAYERS.weights[::-1]),
    "a bias too few": replace(LAYERS, biases=(LAYERS.biases[0][:4], LAYERS.biases[1])),
    "one class": replace(LAYERS, link=Link.CLASSES),
    "a weight that is no number": replace(LAYERS, weights=(np.full((3, 5), np.nan), LAYERS.weights[1])),
    "an empty range": replace(LAYERS, high=LOW),
    "a range too narrow": replace(LAYERS, high=LOW + 1e-16),
    "a huge weight": replace(LAYERS, weights=(np.full((3, 5), 1e20), LAYERS.weights[1])),
}


@pytest.mark.parametrize("case", BAD_TREES)
def test_what_are_no_trees_is_not_exported(case: str) -> None:
    with pytest.raises(InvalidInput):
        export_trees(BAD_TREES[case])


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_what_are_no_layers_is_not_exported(case: str) -> None:
    with pytest.raises(InvalidInput):
        export_layers(BAD_LAYERS[case])


def test_other_numbers_than_the_trained_ones_are_forged() -> None:
    trees, layers = export_trees(TREES), export_layers(LAYERS)
    assert check_equal_trees(trees, TREES) < 1e-6
    assert check_equal_layers(layers, LAYERS) < 1e-5
    with pytest.raises(Forged, match="differ from the trained ones"):
        check_equal_trees(trees, replace(TREES, leaves=TREES.leaves + 0.01))
    with pytest.raises(Forged, match="differ from the trained ones"):
        check_equal_trees(trees, replace(TREES, thresholds=TREES.thresholds + 1e-3))
    with pytest.raises(Forged, match="differs from the trained one"):
        check_equal_network(export_network(LAYERED), replace(LAYERED, low=np.full(4, -0.5)))
    with pytest.raises(Forged, match="differs from the trained one"):
        check_equal_layers(layers, replace(LAYERS, biases=(LAYERS.biases[0], LAYERS.biases[1] + 0.01)))


def test_trees_have_no_half_precision_and_no_fused_form_but_say_so() -> None:
    """Hardening tries every variant; what a model cannot become is a sentence in its report."""
    for variant in ("fused-affine", "float16"):
        with pytest.raises(InvalidInput):
            derive(export_trees(TREES), variant)
    assert derive(export_layers(LAYERS), "fused-affine")


@pytest.mark.long
@pytest.mark.parametrize(
    ("program", "least"), [("decision-tree/1", 0.95), ("random-forest/1", 0.97), ("gradient-boosting/1", 0.97)]
)
async def test_what_studies_learn_is_measured_by_the_whole_suite(program: str, least: float) -> None:
    await through_the_suite(program, least)


@pytest.mark.long
async def test_a_perceptron_is_measured_by_the_whole_suite_sample() -> None:
    await through_the_suite("perceptron/1", 0.97)


async def through_the_suite(program: str, least: float) -> None:
    """Three hospitals' rows → program → ONNX → every criterion that an evaluator has, on rows of its own."""
    split, target = demo_split(7), Column(demo_split(7).schema.target, 0.0, 1.0)
    columns, parts = (*split.schema.columns, target), [table.matrix for table in split.hospitals]
    offer, rows = registry.offer(program), tuple(len(part) for part in parts)
    scene = Scene(program, columns, np.concatenate(parts), target.name, {}, dict)
    study, layout = study_of(scene, offer.outputs), Layout(rows, columns, target.name)
    made = registry.load(program, encode(Parameters(layout, study.settings, offer.outputs)))
    opened = ClearBackend().run(made, [PlainInput(columns, part) for part in parts], SeededRng(b"suite")).outputs
    predictor = predictor_of(opened_as(opened), study)
    session = open_session(predictor.onnx)

    async def predict(asked: np.ndarray) -> np.ndarray:
        (answer,) = session.run(None, {"features": asked.astype(np.float32)})
        return np.asarray(answer)

    card = card_of(opened_as(opened), study, predictor, "a-model", ())
    root = DatasetCommitment.make(split.evaluation, bytes(range(32))).root
    settings = EvaluationSettings(columns[0].name, resamples=200, load_rates=())
    found = await evaluate(
        predict, Task(card, weights_hash(predictor.onnx), split.evaluation, root, settings, bytes(32))
    )
    check_linked(found.vector, found.evidence)
    assert found.vector.find("auc").value > least * 1_000_000
