"""Every program that a study can name, as studies run it: on rows split by owner and on columns split by owner, on the
reference engine and on rep4, compared with what NumPy and scikit-learn make of the pooled rows.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.estimate import estimate
from koinon.privacy.programs import registry
from koinon.privacy.programs.groups import shown
from koinon.privacy.programs.offer import Layout, Parameters, decode_settings, settings_from, settings_table
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.privacy.valuation.shapley import WORTH
from koinon.wire.committee import Column

ROWS = (17, 22, 12)
FEATURES = (Column("age", 0.0, 100.0), Column("dose", -5.0, 5.0), Column("size", 0.0, 1.0))


def features(seed: int = 5) -> np.ndarray:
    random = np.random.default_rng(seed)
    age = random.uniform(20, 90, sum(ROWS))
    dose = np.clip(age / 20 - 3 + random.normal(0, 1, sum(ROWS)), -5, 5)
    return np.column_stack([age, dose, random.beta(2, 5, sum(ROWS))])


def ill() -> np.ndarray:
    rows = features()
    chance = 1 / (1 + np.exp(-(rows[:, 1] + 2 * rows[:, 2])))
    return (np.random.default_rng(6).random(len(rows)) < chance).astype(np.float64)


@dataclass(frozen=True)
class Scene:
    """One program on one table.

    Attributes:
        target: its column, if it predicts one; it is the last of the table.
        settings: as people write them.
        wanted: name of each result table → what plain code makes of the pooled rows, and how far it may be off.
    """

    program: str
    columns: tuple[Column, ...]
    rows: np.ndarray
    target: str
    settings: Mapping[str, object]
    wanted: Callable[[np.ndarray], Mapping[str, tuple[np.ndarray, float]]]


def plain_statistics(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    edges = [np.linspace(column.low, column.high, 6) for column in FEATURES]
    counts = np.array([np.histogram(rows[:, number], edges[number])[0] for number in range(3)])
    # None of these counts is from 1 to 2, so that nothing is hidden.
    assert not ((counts > 0) & (counts < 3)).any()
    return {
        "mean": (rows.mean(0).reshape(-1, 1), 1e-3),
        "variance": (rows.var(0, ddof=1).reshape(-1, 1), 1e-1),
        "correlation": (np.corrcoef(rows.T), 1e-3),
        "quartiles": (np.quantile(rows, [0.25, 0.5, 0.75], 0).T, 1e-3),
        "histogram": (counts.astype(float), 0.0),
    }


def plain_logistic(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.linear_model import LogisticRegression

    table, target = rows[:, :-1], rows[:, -1]
    mean, spread = table.mean(0), table.std(0)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit((table - mean) / spread, target)
    slopes = model.coef_[0] / spread
    return {
        "coefficients": (slopes.reshape(-1, 1), 2e-2),
        "intercept": (np.array([[model.intercept_[0] - slopes @ mean]]), 5e-2),
    }


def plain_line(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.linear_model import Ridge

    table, target = rows[:, [0, 2]], rows[:, 1]
    mean, spread = table.mean(0), table.std(0)
    model = Ridge(2.0).fit((table - mean) / spread, target)
    slopes = model.coef_ / spread
    return {
        "coefficients": (slopes.reshape(-1, 1), 1e-2),
        "intercept": (np.array([[model.intercept_ - slopes @ mean]]), 3e-2),
        "score": (np.array([[model.score((table - mean) / spread, target)]]), 3e-3),
    }


def scaled(rows: np.ndarray) -> np.ndarray:
    low = np.array([column.low for column in FEATURES])
    high = np.array([column.high for column in FEATURES])
    return np.asarray(2 * (rows - low) / (high - low) - 1)


def plain_groups(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    points = scaled(rows)
    centres = points[np.sort(np.random.default_rng(1).choice(len(points), 3, replace=False))]
    for _ in range(6):
        nearest = ((points[:, None] - centres) ** 2).sum(2).argmin(1)
        centres = np.array([points[nearest == number].mean(0) for number in range(3)])
    sizes = np.bincount(nearest, minlength=3).astype(float)
    assert sizes.min() >= 5
    in_units = np.array([rows[nearest == number].mean(0) for number in range(3)])
    return {"centres": (in_units, 1e-2), "sizes": (sizes.reshape(-1, 1), 0.0)}


def plain_bayes(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    parts = [rows[rows[:, -1] == code, :-1] for code in (0, 1)]
    half = np.array([(column.high - column.low) / 2 for column in FEATURES])
    return {
        "priors": (np.array([[len(part) / len(rows)] for part in parts]), 1e-4),
        "means": (np.array([part.mean(0) for part in parts]), 1e-2),
        "variances": (np.array([part.var(0) for part in parts]) + 1e-4 * half**2, 3e-1),
    }


def plain_components(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.decomposition import PCA

    model = PCA(2).fit(scaled(rows))
    signs = np.sign(model.components_[range(2), np.abs(model.components_).argmax(1)])
    return {
        "components": (model.components_ * signs[:, None], 2e-2),
        "explained": (model.explained_variance_ratio_.reshape(-1, 1), 1e-2),
    }


SCENES = (
    Scene("statistics/1", FEATURES, features(), "", {"bins": 5, "minimum_group": 3}, plain_statistics),
    Scene(
        "logistic-regression/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {},
        plain_logistic,
    ),
    Scene("linear-regression/1", FEATURES, features(), "dose", {"penalty": 2.0}, plain_line),
    Scene("k-means/1", FEATURES, features(), "", {"clusters": 3, "iterations": 6, "seed": 1}, plain_groups),
    Scene(
        "naive-bayes/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {},
        plain_bayes,
    ),
    Scene("principal-components/1", FEATURES, features(), "", {}, plain_components),
)
BY_NAME = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.program)


def layout_of(scene: Scene, *, by_columns: bool) -> Layout:
    if not by_columns:
        return Layout(ROWS, scene.columns, scene.target)
    # The owners' columns are neither in order nor equally many.
    last = len(scene.columns) - 1
    sources = ((last, 0), tuple(range(1, last)))
    return Layout((sum(ROWS),) * 2, scene.columns, scene.target, sources)


def inputs_of(scene: Scene, layout: Layout) -> list[PlainInput]:
    if layout.sources:
        held = [list(source) for source in layout.sources]
        return [PlainInput(tuple(scene.columns[n] for n in own), scene.rows[:, own]) for own in held]
    return [PlainInput(scene.columns, part) for part in np.split(scene.rows, np.cumsum(ROWS)[:-1])]


def tables(scene: Scene, engine: Backend, *, by_columns: bool) -> dict[str, np.ndarray]:
    offer, layout = registry.offer(scene.program), layout_of(scene, by_columns=by_columns)
    settings = settings_from(offer, scene.settings)
    # What rows are worth is no fact about the pooled rows; it has tests of its own.
    outputs = tuple(name for name in offer.outputs if name != WORTH)
    program = registry.load(scene.program, encode(Parameters(layout, settings, outputs)))
    assert estimate(program).rounds > 0
    result = engine.run(program, inputs_of(scene, layout), SeededRng(b"offers"))
    shown_tables = offer.present(result.outputs, layout, decode_settings(offer, settings))
    assert all(table.values.shape == (len(table.rows), len(table.columns)) for table in shown_tables)
    return {table.name: table.values for table in shown_tables}


def test_every_program_without_noise_has_a_scene() -> None:
    exact = tuple(name for name in registry.names() if registry.offer(name).exact)
    assert tuple(sorted(scene.program for scene in SCENES)) == exact


@BY_NAME
@pytest.mark.parametrize("by_columns", [False, True], ids=["rows split", "columns split"])
@pytest.mark.parametrize("engine", [ClearBackend(), SimulatedRep4()], ids=["clear", "rep4"])
def test_the_result_is_that_of_the_pooled_rows(scene: Scene, engine: Backend, by_columns: bool) -> None:
    found = tables(scene, engine, by_columns=by_columns)
    wanted = scene.wanted(scene.rows)
    assert found.keys() == wanted.keys()
    for name, (values, error) in wanted.items():
        assert np.abs(found[name] - values).max() <= error, name


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
    assert settings_table(offer, settings_from(offer, {"bins": 7})) == {"bins": 7, "minimum_group": 5}


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
