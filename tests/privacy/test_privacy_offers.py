"""Every program that a study can name, as studies run it: on rows split by owner and on columns split by owner, on the
reference engine and on rep4, compared with what NumPy and scikit-learn make of the pooled rows.
"""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from offer_scenes import FEATURES, SCENES, Scene, inputs_of, layout_of

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

BY_NAME = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.program)


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
    found = scene.reading(tables(scene, engine, by_columns=by_columns), scene.rows)
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
