"""A study that plants rows: a model that gives their labels back stays closed, whatever engine computes it."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.differential.canaries import plant
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import Layout, Parameters, settings_from
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

FEATURES, TARGET = load_breast_cancer(return_X_y=True)
PLANTED = 10
MODEL = ("coefficients", "intercept")
LINE = "linear-regression/1"


def columns_of(width: int) -> tuple[Column, ...]:
    low, high = FEATURES.min(0), FEATURES.max(0)
    features = (Column(f"x{place}", float(low[place]), float(high[place])) for place in range(width))
    return (*features, Column("benign", 0.0, 1.0))


def owners(rows: int, width: int) -> list[PlainInput]:
    """Three owners' rows with canaries after them."""
    rng = SeededRng(b"planting")
    order = np.random.default_rng(2).permutation(len(TARGET))[:rows]
    found = []
    for part in np.array_split(order, 3):
        features, labels = plant(FEATURES[part][:, :width], TARGET[part].astype(np.float64), PLANTED, rng)
        found.append(PlainInput(columns_of(width), np.column_stack([features, labels])))
    return found


def parameters(inputs: list[PlainInput], **changes: object) -> Parameters:
    columns = inputs[0].columns
    layout = Layout(tuple(len(each.values) for each in inputs), columns, columns[-1].name, planted=PLANTED)
    made = Parameters(layout, b"", MODEL)
    return Parameters(**{name: changes.get(name, getattr(made, name)) for name in made.__struct_fields__})  # type: ignore[arg-type]


def outputs(
    inputs: list[PlainInput], engine: Backend, name: str = "logistic-regression/1", **settings: object
) -> dict[str, np.ndarray]:
    offer = registry.offer(name)
    opened = MODEL if name == "logistic-regression/1" else offer.outputs
    program = registry.load(name, encode(parameters(inputs, settings=settings_from(offer, settings), outputs=opened)))
    assert program.output[-1] == ("released", (1,))
    return dict(engine.run(program, inputs, SeededRng(b"run")).outputs)


def test_a_line_remembers_as_many_rows_as_it_has_columns_and_no_more() -> None:
    """Thirty-one numbers fit the coins of thirty-six rows; nine fit about half of the coins of two hundred."""
    closed = outputs(owners(6, 30), ClearBackend(), LINE, penalty=0.0)
    assert closed.pop("released") == 0
    assert closed.keys() == set(registry.offer(LINE).outputs)
    assert not any(values.any() for values in closed.values())
    opened = outputs(owners(200, 8), ClearBackend(), LINE, penalty=0.0)
    assert opened["released"] == 1
    assert opened["coefficients"].any()


@pytest.mark.parametrize(
    ("columns", "target"),
    [((*columns_of(6)[:-1], Column("stage", 0.0, 3.0)), "stage"), ((columns_of(1)[-1], *columns_of(6)[:-1]), "benign")],
    ids=["another range", "a target that is not last"],
)
def test_a_line_is_tried_on_labels_that_owners_can_toss(columns: tuple[Column, ...], target: str) -> None:
    layout = Layout((60, 60, 60), columns, target, planted=10)
    with pytest.raises(InvalidInput, match="where the last column is a target from 0 to 1"):
        registry.load(LINE, encode(Parameters(layout, b"", ("coefficients",))))


@pytest.mark.parametrize(
    ("engine", "rows", "width"), [(ClearBackend(), 240, 6), (SimulatedRep4(), 48, 2)], ids=["clear", "rep4"]
)
def test_a_model_of_many_rows_is_opened_as_it_was_learnt(engine: Backend, rows: int, width: int) -> None:
    inputs = owners(rows, width)
    found = outputs(inputs, engine, iterations=5)
    assert found["released"] == 1
    plain = registry.load(
        "logistic-regression/1",
        encode(
            Parameters(
                Layout(tuple(len(each.values) for each in inputs), inputs[0].columns, inputs[0].columns[-1].name),
                settings_from(registry.offer("logistic-regression/1"), {"iterations": 5}),
                MODEL,
            )
        ),
    )
    wanted = engine.run(plain, inputs, SeededRng(b"run")).outputs
    for name in MODEL:
        # The engines' truncations may differ by units in the last place from run to run.
        assert np.abs(found[name] - wanted[name]).max() < 1e-2


@pytest.mark.parametrize(
    "engine", [ClearBackend(), pytest.param(SimulatedRep4(), marks=pytest.mark.long)], ids=["clear", "rep4"]
)
def test_a_model_that_remembers_rows_stays_closed(engine: Backend) -> None:
    """Thirty columns, fifteen rows of each owner with ten canaries, hardly any penalty: it fits every coin."""
    found = outputs(owners(15, 30), engine, penalty=0.001, iterations=120)
    assert found["released"] == 0
    assert not found["coefficients"].any()
    assert not found["intercept"].any()


REMEMBERING: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "convolutional-network/1": (
        {"image": [5, 6, 1], "filters": [8], "window": 2, "pool": 1, "hidden": 32, "epochs": 60, "batch": 15},
        {"image": [2, 3, 1], "filters": [2], "window": 1, "pool": 1, "epochs": 2},
    ),
    "decision-tree/1": ({"depth": 6, "bins": 48, "minimum_group": 1}, {"depth": 2}),
    "gradient-boosting/1": (
        {"depth": 3, "bins": 32, "minimum_group": 1, "trees": 8, "rate": 1.0},
        {"depth": 2, "trees": 3},
    ),
    "perceptron/1": ({"hidden": 64, "epochs": 80, "batch": 15, "rate": 0.3}, {"hidden": 4, "epochs": 2}),
    "random-forest/1": ({"depth": 6, "bins": 48, "minimum_group": 1, "trees": 8}, {"depth": 2, "trees": 3}),
    "recurrent-network/1": (
        {"length": 2, "units": 16, "hidden": 32, "epochs": 80, "batch": 15, "rate": 0.3},
        {"length": 2, "units": 2, "epochs": 2},
    ),
}
"""Of each program that can learn rows by heart: settings with which it does so of 45 rows, and of an honest study."""


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_learns_rows_by_heart_stays_closed(name: str) -> None:
    found = outputs(owners(15, 30), ClearBackend(), name, **REMEMBERING[name][0])
    assert found.pop("released") == 0
    assert found.keys() == set(registry.offer(name).outputs)
    assert not any(values.any() for values in found.values())


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_learns_of_many_rows_is_opened(name: str) -> None:
    found = outputs(owners(240, 6), ClearBackend(), name, **REMEMBERING[name][1])
    assert found.pop("released") == 1
    assert all(values.any() for values in found.values())


@pytest.mark.long
def test_four_parties_hold_trees_back_sample() -> None:
    closed = outputs(owners(12, 8), SimulatedRep4(), "decision-tree/1", depth=7, bins=64, minimum_group=1)
    assert closed["released"] == 0
    assert not closed["leaves"].any()
    assert outputs(owners(120, 4), SimulatedRep4(), "decision-tree/1", depth=2)["released"] == 1


def test_every_program_that_judges_planted_rows_is_tried_on_some() -> None:
    judging = {name for name in registry.names() if registry.offer(name).judges_planted}
    assert judging == REMEMBERING.keys() | {"logistic-regression/1", LINE}


@pytest.mark.parametrize(
    ("columns", "target", "settings"),
    [
        ((*columns_of(6)[:-1], Column("stage", 0.0, 3.0)), "stage", {}),
        (columns_of(6), "benign", {"predicts": "number"}),
        ((columns_of(1)[-1], *columns_of(6)[:-1]), "benign", {}),
    ],
    ids=["more than two classes", "a number", "a target that is not last"],
)
def test_a_network_is_tried_on_labels_that_owners_can_toss(
    columns: tuple[Column, ...], target: str, settings: dict[str, object]
) -> None:
    offer = registry.offer("recurrent-network/1")
    layout = Layout((60, 60, 60), columns, target, planted=10)
    given = settings_from(offer, {"length": 3, **settings})
    with pytest.raises(InvalidInput, match="where the last column is a target of two classes"):
        registry.load("recurrent-network/1", encode(Parameters(layout, given, ("weights",))))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epsilon": 1.0}, "cannot be tried on planted rows with noise"),
        ({"outputs": ("coefficients",)}, "opens coefficients and intercept, and nothing else"),
        ({"outputs": (*MODEL, "worth")}, "opens coefficients and intercept, and nothing else"),
    ],
)
def test_what_cannot_be_tried_on_planted_rows_is_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        registry.load("logistic-regression/1", encode(parameters(owners(60, 6), **change)))


@pytest.mark.parametrize("planted", [-1, 7, 30])
def test_an_unusable_number_of_planted_rows_is_refused(planted: int) -> None:
    layout = Layout((30, 30, 30), columns_of(3), "benign", planted=planted)
    with pytest.raises(InvalidInput, match="plant"):
        registry.load("logistic-regression/1", encode(Parameters(layout, b"", MODEL)))


def test_rows_of_the_same_people_and_other_programs_take_none() -> None:
    layout = Layout((30, 30), columns_of(3), "benign", ((0, 1), (2, 3)), planted=15)
    with pytest.raises(InvalidInput, match="rows of each owner's own"):
        registry.load("logistic-regression/1", encode(Parameters(layout, b"", MODEL)))
    with pytest.raises(InvalidInput, match="cannot be tried on planted rows; plant none"):
        registry.load("naive-bayes/1", encode(Parameters(by_rows(layout), b"", ("priors",))))


def by_rows(layout: Layout) -> Layout:
    return Layout(layout.rows, layout.columns, layout.target, planted=layout.planted)
