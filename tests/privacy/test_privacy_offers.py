"""Every program that a study can name, as studies run it: on rows split by owner and on columns split by owner, on the
reference engine and on rep4, compared with what NumPy and scikit-learn make of the pooled rows.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from offer_scenes import FEATURES, SCENES, Scene, features, inputs_of, layout_of

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.estimate import estimate
from koinon.privacy.programs import registry
from koinon.privacy.programs.groups import shown
from koinon.privacy.programs.offer import Layout, Parameters, decode_settings, settings_from, settings_table
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.privacy.valuation.shapley import WORTH

DEGENERATE = {
    "logistic-regression/1": ("coefficients", "intercept"),
    "multinomial-regression/1": ("coefficients", "intercepts"),
    "poisson-regression/1": ("coefficients", "intercept"),
}
BY_NAME = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.program)


def tables(scene: Scene, engine: Backend, *, by_columns: bool, outputs: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    offer, layout = registry.offer(scene.program), layout_of(scene, by_columns=by_columns)
    settings = settings_from(offer, scene.settings)
    # What rows are worth is no fact about the pooled rows; it has tests of its own.
    outputs = outputs or tuple(name for name in offer.outputs if name != WORTH)
    program = registry.load(scene.program, encode(Parameters(layout, settings, outputs)))
    assert estimate(program).rounds > 0
    result = engine.run(program, inputs_of(scene, layout), SeededRng(b"offers"))
    shown_tables = offer.present(result.outputs, layout, decode_settings(offer, settings))
    assert all(table.values.shape == (len(table.rows), len(table.columns)) for table in shown_tables)
    return {table.name: table.values for table in shown_tables}


def test_every_program_without_noise_has_a_scene() -> None:
    exact = tuple(name for name in registry.names() if registry.offer(name).exact)
    # What a function opens is not the program's to say; it has tests of its own.
    assert (*sorted((*(scene.program for scene in SCENES), "function/1")),) == exact


MANY_ROUNDS = {
    "boosted-regression/1",
    "cox-regression/1",
    "gradient-boosting/1",
    "multinomial-regression/1",
    "poisson-regression/1",
    "principal-components/1",
    "recurrent-network/1",
    "random-forest/1",
    "regression-tree/1",
}
"""What takes four parties in one process seconds; another program of the same parts is quicker, or is the sample."""
SPLIT = pytest.mark.parametrize("by_columns", [False, True], ids=["rows split", "columns split"])


def check(scene: Scene, engine: Backend, *, by_columns: bool) -> None:
    found = scene.reading(tables(scene, engine, by_columns=by_columns), scene.rows)
    wanted = scene.wanted(scene.rows)
    assert found.keys() == wanted.keys()
    for name, (values, error) in wanted.items():
        assert np.abs(found[name] - values).max() <= error, name


@BY_NAME
@SPLIT
def test_the_result_is_that_of_the_pooled_rows(scene: Scene, by_columns: bool) -> None:
    check(scene, ClearBackend(), by_columns=by_columns)


@pytest.mark.parametrize(
    "scene", [each for each in SCENES if each.program not in MANY_ROUNDS], ids=lambda scene: scene.program
)
def test_four_parties_find_it_too(scene: Scene) -> None:
    check(scene, SimulatedRep4(), by_columns=scene.program == "statistics/1")


@pytest.mark.long
@BY_NAME
@SPLIT
def test_four_parties_find_it_however_it_is_split_sample(scene: Scene, by_columns: bool) -> None:
    check(scene, SimulatedRep4(), by_columns=by_columns)


@BY_NAME
def test_only_what_the_study_opens_is_opened(scene: Scene) -> None:
    offer, layout = registry.offer(scene.program), layout_of(scene, by_columns=False)
    for name in (each for each in offer.outputs if each != WORTH):
        program = registry.load(
            scene.program, encode(Parameters(layout, settings_from(offer, scene.settings), (name,)))
        )
        result = ClearBackend().run(program, inputs_of(scene, layout), SeededRng(b"one"))
        assert list(result.outputs) == [name]


@BY_NAME
def test_the_hash_covers_every_module_a_run_loads(scene: Scene) -> None:
    """A module of this room that a run imports but the hash leaves out could change the result unnoticed."""
    script = (
        "import sys, importlib\n"
        "from koinon.privacy.programs import registry\n"
        f"registry.offer({scene.program!r})\n"
        "import koinon.privacy.rep4.session\n"
        "print('\\n'.join(m for m in sys.modules if m.startswith('koinon.privacy.')))"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    # The registry decides which program runs; the hash decides whether it is the agreed one.
    unrelated = {"koinon.privacy.programs", "koinon.privacy.programs.registry"}
    loaded = set(done.stdout.split()) - unrelated
    assert loaded <= set(registry.modules(scene.program))
    assert {"koinon.privacy.rep4.arithmetic", "koinon.privacy.secret"} <= set(registry.modules(scene.program))


GOOD = Layout((10, 10), FEATURES)
BAD_LAYOUTS = {
    "no owner": Layout((), FEATURES),
    "an owner without rows": Layout((10, 0), FEATURES),
    "too many rows": Layout((2**21,), FEATURES),
    "no column": Layout((10,), ()),
    "a column twice": Layout((10,), (FEATURES[0], FEATURES[0])),
    "unknown target": Layout((10,), FEATURES, "weight"),
    "unequal people": Layout((10, 11), FEATURES, "", ((0,), (1, 2))),
    "a column of two owners": Layout((10, 10), FEATURES, "", ((0, 1), (1, 2))),
    "a column of nobody": Layout((10, 10), FEATURES, "", ((0,), (1,))),
    "a column that does not exist": Layout((10, 10), FEATURES, "", ((0,), (1, 2, 3))),
    "an owner without columns": Layout((10, 10), FEATURES, "", ((0, 1, 2), ())),
    "more owners than sources": Layout((10, 10, 10), FEATURES, "", ((0,), (1, 2))),
}


@pytest.mark.parametrize("case", BAD_LAYOUTS)
def test_a_layout_that_cannot_be_is_refused(case: str) -> None:
    with pytest.raises(InvalidInput):
        registry.load("statistics/1", encode(Parameters(BAD_LAYOUTS[case], b"", ("mean",))))


@pytest.mark.parametrize(
    ("settings", "outputs", "error"),
    [
        ({}, (), InvalidInput),
        ({}, ("rows",), InvalidInput),
        ({}, ("mean", "mean"), InvalidInput),
        ({"bins": 1}, ("histogram",), InvalidInput),
        ({"bins": 10**6}, ("histogram",), InvalidInput),
        ({"minimum_group": 0}, ("histogram",), InvalidInput),
        ({"minimum_group": 21}, ("histogram",), InvalidInput),
        ({"quantiles": []}, ("quantiles",), InvalidInput),
        ({"quantiles": [0.5] * 101}, ("quantiles",), InvalidInput),
        ({"quantiles": [1.01]}, ("quantiles",), InvalidInput),
        ({"quantiles": [float("nan")]}, ("quantiles",), InvalidInput),
        ({"quantiles": [0.5, 0.05]}, ("quantiles",), InvalidInput),  # next to the smallest of 20 numbers
    ],
)
def test_settings_and_outputs_out_of_range_are_refused(
    settings: dict[str, Any], outputs: tuple[str, ...], error: type[KoinonError]
) -> None:
    encoded = settings_from(registry.offer("statistics/1"), settings)
    with pytest.raises(error):
        registry.load("statistics/1", encode(Parameters(GOOD, encoded, outputs)))


def test_other_bytes_than_settings_are_refused() -> None:
    with pytest.raises(MalformedMessage):
        registry.load("statistics/1", encode(Parameters(GOOD, b"\x91\x01", ("mean",))))


@pytest.mark.parametrize(
    ("table", "sentence"),
    [({"bin": 3}, "no setting 'bin'; it has bins"), ({"bins": "many"}, "'bins' does not fit"), ({"bins": 1.5}, "fit")],
)
def test_a_setting_that_does_not_fit_is_named(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        settings_from(registry.offer("statistics/1"), table)


def test_settings_come_back_as_they_were_written() -> None:
    offer = registry.offer("statistics/1")
    assert settings_from(offer, settings_table(offer, b"")) == b""
    assert settings_table(offer, settings_from(offer, {"bins": 7})) == {
        "bins": 7,
        "minimum_group": 5,
        "quantiles": (0.25, 0.5, 0.75),
        "solver": "rows",
    }


@pytest.mark.parametrize(
    ("counts", "visible"),
    [
        ([23, 5, 9, 14], [23, 5, 9, 14]),
        ([23, 5, 2, 21], [23, 0, 0, 21]),  # one small group could be found by subtraction: the next smallest goes too
        ([23, 4, 4, 20], [23, 0, 0, 20]),
        ([23, 4, 0, 24], [0, 0, 0, 24]),
        ([51, 0, 0, 0], [51, 0, 0, 0]),
        ([49, 2, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_small_groups_are_hidden_from_subtraction_too(counts: list[int], visible: list[int]) -> None:
    from koinon.privacy.computation import reveal, run, table

    hidden = run(lambda rows: reveal(counts=shown(rows[:, 0], 5, 51)), [table(np.array(counts, float))], ClearBackend())
    assert hidden.outputs["counts"].tolist() == visible


OUT_OF_RANGE: list[tuple[str, str, dict[str, Any]]] = [
    ("boosted-regression/1", "dose", {"rate": 0.0}),
    ("boosted-regression/1", "dose", {"trees": 10**9}),
    ("boosted-regression/1", "", {}),
    ("comparison/1", "size", {"minimum_group": 0}),
    ("comparison/1", "dose", {}),
    ("contingency/1", "", {"first": "dose", "second": "size"}),
    ("contingency/1", "", {"first": "size", "second": "size"}),
    ("contingency/1", "", {"first": "weight", "second": "size"}),
    ("contingency/1", "", {"first": "size", "second": "age"}),
    ("convolutional-network/1", "", {"image": [1, 2, 1], "window": 1, "pool": 1, "batch": 5}),
    ("convolutional-network/1", "dose", {"image": [1, 2, 1], "window": 1, "pool": 1, "batch": 5}),
    *(
        ("convolutional-network/1", "size", {"image": [1, 2, 1], "window": 1, "pool": 1, "batch": 5} | bad)
        for bad in (
            {"image": [8, 8, 1]},
            {"image": [1, 2, 0]},
            {"image": [2, 2, 1]},
            {"window": 2},
            {"pool": 2},
            {"pool": 0},
            {"pooling": "median"},
            {"filters": []},
            {"filters": [1, 1, 1, 1]},
            {"filters": [10**6]},
            {"hidden": -1},
            {"hidden": 10**6},
            {"predicts": "anything"},
            {"batch": 21},
            {"batch": 0},
            {"epochs": 10**9},
            {"rate": float("nan")},
            {"seed": -1},
        )
    ),
    ("cox-regression/1", "size", {"duration": "weight"}),
    ("cox-regression/1", "size", {"duration": "age", "times": [50.0, 50.0]}),
    ("cox-regression/1", "size", {"duration": "age", "penalty": -1.0}),
    ("cox-regression/1", "size", {"duration": "age", "iterations": 10**9}),
    ("cox-regression/1", "age", {}),
    ("decision-tree/1", "size", {"depth": 0}),
    ("decision-tree/1", "size", {"depth": 30}),
    ("decision-tree/1", "size", {"bins": 1}),
    ("decision-tree/1", "size", {"bins": 10**9}),
    ("decision-tree/1", "size", {"sample": 1}),
    ("decision-tree/1", "size", {"seed": -1}),
    ("decision-tree/1", "size", {"minimum_group": 21}),
    ("decision-tree/1", "age", {}),
    ("function/1", "", {}),
    ("gradient-boosting/1", "size", {"trees": 0}),
    ("gradient-boosting/1", "size", {"rate": 2.0}),
    ("k-means/1", "", {"clusters": 1}),
    ("k-means/1", "", {"clusters": 21}),
    ("k-means/1", "", {"iterations": 1}),
    ("k-means/1", "", {"iterations": 10**9}),
    ("k-means/1", "", {"seed": -1}),
    ("k-means/1", "", {"minimum_group": 0}),
    ("kaplan-meier/1", "size", {"duration": "weight"}),
    ("kaplan-meier/1", "size", {"duration": "size"}),
    ("kaplan-meier/1", "size", {"times": [50.0, 40.0]}),
    ("kaplan-meier/1", "size", {"times": [500.0]}),
    ("kaplan-meier/1", "size", {"minimum_group": 21}),
    ("kaplan-meier/1", "age", {}),
    ("linear-regression/1", "dose", {"penalty": -1.0}),
    ("linear-regression/1", "dose", {"penalty": float("nan")}),
    ("linear-regression/1", "dose", {"steps": 10**9}),
    ("linear-regression/1", "", {}),
    ("logistic-regression/1", "size", {"penalty": 0.0}),
    ("multinomial-regression/1", "size", {"penalty": float("inf")}),
    ("multinomial-regression/1", "size", {"iterations": 0}),
    ("multinomial-regression/1", "dose", {}),
    ("multinomial-regression/1", "age", {}),
    ("naive-bayes/1", "size", {"smoothing": 0.0}),
    ("naive-bayes/1", "size", {"minimum_group": 21}),
    ("naive-bayes/1", "age", {}),
    ("nearest-neighbours/1", "size", {}),
    ("nearest-neighbours/1", "size", {"asked": [[50.0]]}),
    ("nearest-neighbours/1", "size", {"asked": [[50.0, 9.0]]}),
    ("nearest-neighbours/1", "size", {"asked": [[50.0, float("nan")]]}),
    ("nearest-neighbours/1", "size", {"asked": [[50.0, 0.0]], "neighbours": 21}),
    ("nearest-neighbours/1", "size", {"asked": [[50.0, 0.0]] * 65}),
    ("perceptron/1", "size", {"hidden": 0}),
    ("perceptron/1", "size", {"hidden": 10**6}),
    ("perceptron/1", "size", {"batch": 21}),
    ("perceptron/1", "size", {"batch": 2, "epochs": 10**6}),
    ("perceptron/1", "size", {"batch": 5, "rate": float("nan")}),
    ("perceptron/1", "age", {}),
    ("poisson-regression/1", "dose", {}),
    ("poisson-regression/1", "age", {"iterations": 10**9}),
    ("poisson-regression/1", "age", {"penalty": -1.0}),
    ("principal-components/1", "", {"count": 4}),
    ("principal-components/1", "", {"count": 0}),
    ("random-forest/1", "size", {"trees": 0}),
    ("random-forest/1", "size", {"minimum_group": 14}),
    ("recurrent-network/1", "", {"length": 2, "batch": 5}),
    ("recurrent-network/1", "dose", {"length": 2, "batch": 5}),
    *(
        ("recurrent-network/1", "size", {"length": 2, "batch": 5} | bad)
        for bad in (
            {"length": 0},
            {"length": 3},
            {"length": -2},
            {"units": 0},
            {"units": 10**6},
            {"hidden": -1},
            {"predicts": ""},
            {"batch": 21},
            {"epochs": 0},
            {"rate": 2.0},
            {"seed": 1 << 32},
        )
    ),
    ("regression-forest/1", "dose", {"trees": 10**9}),
    ("regression-tree/1", "dose", {"depth": -1}),
]


@pytest.mark.parametrize(("name", "target", "settings"), OUT_OF_RANGE)
def test_what_a_program_cannot_do_is_refused_before_anything_is_shared(
    name: str, target: str, settings: dict[str, Any]
) -> None:
    found = registry.offer(name)
    layout = Layout((10, 10), FEATURES, target)
    outputs = tuple(each for each in found.outputs if each != WORTH)
    with pytest.raises(InvalidInput):
        registry.load(name, encode(Parameters(layout, settings_from(found, settings), outputs)))


def test_every_program_has_something_that_it_refuses() -> None:
    unrefused = {"noisy-network/1", "statistics/1"}  # which have tests of their own
    assert {name for name, _, _ in OUT_OF_RANGE} == set(registry.names()) - unrefused


def degenerate() -> np.ndarray:
    """Rows whose first column is constant and whose second and third are the same on another scale."""
    rows = features()
    rows[:, 0] = 50.0
    rows[:, 2] = (rows[:, 1] + 5) / 10
    return rows


@pytest.mark.parametrize(
    ("scene", "names"),
    [(scene, names) for scene in SCENES if (names := DEGENERATE.get(scene.program)) is not None],
    ids=lambda each: each.program if isinstance(each, Scene) else "",
)
def test_constant_and_collinear_columns_are_handled(scene: Scene, names: tuple[str, ...]) -> None:
    """A constant column weighs nothing; columns that say the same share a weight. Nothing overflows or is undefined."""
    rows = np.column_stack([degenerate(), scene.rows[:, -1]])
    found = tables(replace(scene, rows=rows), ClearBackend(), by_columns=False, outputs=names)
    assert all(np.isfinite(values).all() for values in found.values())
    assert np.abs(found[names[0]][0]).max() < 1e-2
    # Standardised they are one column, so both weigh as much.
    assert np.abs(found[names[0]][2] - 10 * found[names[0]][1]).max() < 0.1 * (1 + np.abs(found[names[0]][2]).max())


WITH_FEATURES = [scene for scene in SCENES if {column.name for column in FEATURES} <= {c.name for c in scene.columns}]


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(scene, id=scene.program, marks=[pytest.mark.long] if scene.program in MANY_ROUNDS else [])
        for scene in WITH_FEATURES
    ],
)
def test_no_program_is_upset_by_constant_and_collinear_columns(scene: Scene) -> None:
    """Whatever it makes of them is a number, and no bound that it claims is exceeded: the reference engine looks."""
    rows = scene.rows.copy()
    for column, values in zip(FEATURES, degenerate().T, strict=True):
        rows[:, [one.name for one in scene.columns].index(column.name)] = values
    found = tables(replace(scene, rows=rows), ClearBackend(), by_columns=False)
    assert found
    assert all(np.isfinite(values).all() for name, values in found.items() if name != "correlation p")


PENALTIES = {
    "linear-regression/1": (0.01, 300.0, 20.0),
    "logistic-regression/1": (0.01, 300.0, 20.0),
    "poisson-regression/1": (0.01, 5.0, 0.3),
}


Score = Callable[[Any, np.ndarray, np.ndarray], float]


def fold_scores(scene: Scene, score: Score, model: Callable[[float], Any]) -> list[float]:
    """Mean score of each penalty on folds that it was not fitted to, by scikit-learn."""
    place = [column.name for column in scene.columns].index(scene.target)
    table, target = np.delete(scene.rows, place, 1), scene.rows[:, place]
    fold, means = np.arange(len(table)) % 5, []
    for penalty in PENALTIES[scene.program]:
        scores = []
        for each in range(5):
            kept = fold != each
            mean, spread = table[kept].mean(0), table[kept].std(0)
            fitted = model(penalty).fit((table[kept] - mean) / spread, target[kept])
            scores.append(score(fitted, (table[~kept] - mean) / spread, target[~kept]))
        means.append(float(np.mean(scores)))
    return means


def plain_score(program: str) -> tuple[Score, Callable[[float], Any]]:
    from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
    from sklearn.metrics import log_loss

    match program:
        case "linear-regression/1":
            return lambda fitted, x, y: fitted.score(x, y), Ridge
        case "poisson-regression/1":
            return lambda fitted, x, y: fitted.score(x, y), lambda one: PoissonRegressor(alpha=one, max_iter=1000)
        case _:
            return (
                lambda fitted, x, y: -float(log_loss(y, fitted.predict_proba(x), labels=[0, 1])),
                lambda one: LogisticRegression(C=1 / one),
            )


@pytest.mark.parametrize(
    "program",
    ["linear-regression/1", "logistic-regression/1", pytest.param("poisson-regression/1", marks=pytest.mark.long)],
)
def test_the_penalty_is_chosen_on_rows_that_were_not_fitted_to(program: str) -> None:
    scene = next(each for each in SCENES if each.program == program)
    scores = fold_scores(scene, *plain_score(program))
    best = PENALTIES[program][int(np.argmax(scores))]
    assert sorted(scores)[-1] - sorted(scores)[-2] > 1e-3
    names = ("coefficients", "intercept")
    found = tables(
        with_settings(scene, {"penalties": PENALTIES[program]}), ClearBackend(), by_columns=False, outputs=names
    )
    alone = tables(with_settings(scene, {"penalty": best}), ClearBackend(), by_columns=False, outputs=names)
    for name in names:
        assert np.abs(found[name] - alone[name]).max() < 2e-2, name


def with_settings(scene: Scene, changed: dict[str, Any]) -> Scene:
    return replace(scene, settings={**scene.settings, **changed})


@pytest.mark.parametrize(
    "settings",
    [
        {"penalties": [1.0, 1.0]},
        {"penalties": [1.0, float("nan")]},
        {"penalties": [float(number) for number in range(1, 18)]},
        {"penalties": [1.0, -2.0]},
        {"penalties": [1.0, 2.0], "folds": 1},
        {"penalties": [1.0, 2.0], "folds": 7},
    ],
)
@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_that_cannot_be_chosen_from_are_refused(name: str, settings: dict[str, Any]) -> None:
    found = registry.offer(name)
    target = {"logistic-regression/1": "size", "linear-regression/1": "dose", "poisson-regression/1": "age"}[name]
    parameters = Parameters(Layout((10, 10), FEATURES, target), settings_from(found, settings), ("coefficients",))
    with pytest.raises(InvalidInput):
        registry.load(name, encode(parameters))


def test_noise_covers_one_fit_only() -> None:
    found = registry.offer("logistic-regression/1")
    settings = settings_from(found, {"penalties": [1.0, 2.0]})
    parameters = Parameters(Layout((20, 20), FEATURES, "size"), settings, ("coefficients", "intercept"), 1.0)
    with pytest.raises(InvalidInput, match="noise covers one fit"):
        registry.load("logistic-regression/1", encode(parameters))
