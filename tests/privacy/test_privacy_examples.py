"""The tutorials of examples/private: as published, one import apart, and saying nearly the same."""

import difflib
import hashlib
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "private"
PUBLISHED = {
    "plot_frozen_examples.py": "96d74b8f5b1f75dfb5cd38d1690fdafe8cec4820dc542dd10a000b6aef7a7124",
    "sequential-model-guide.md": "36e546645e1acbff2fc9be477d6dd1e4d5d64b4f6428e95eb2d15a814ab89b5e",
    "plot_convert_model.py": "de9c2a2b497e2bf0817baca3944d3cbe493ee842fcdd0532aa0e99ec555b12ca",
}
"""SHA-256 of what scikit-learn 1.9.1 (examples/frozen), Keras 2.0.8 (docs/templates/getting-started) and skl2onnx
1.20.0 (docs/examples) ship in their source distributions."""
TUTORIALS = [
    "jax_logistic",
    "keras_convnet",
    "published/plot_convert_model",
    "published/plot_frozen_examples",
    "published/sequential_model_guide",
]
IMPORT = re.compile(r"[-+](from \S+ import \S+|import \S+)( as \S+)?")


def source(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text()


@pytest.mark.parametrize("name", TUTORIALS)
def test_one_import_changes(name: str) -> None:
    lines = difflib.unified_diff(source(name).splitlines(), source(f"{name}_private").splitlines(), lineterm="", n=0)
    changed = [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]
    assert [line[0] for line in changed] == ["-", "+"]
    assert all(IMPORT.fullmatch(line) for line in changed)
    assert "koinon.privacy" in changed[1]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_tutorials_are_the_published_ones(name: str) -> None:
    assert hashlib.sha256((EXAMPLES / "published" / name).read_bytes()).hexdigest() == PUBLISHED[name]


def test_the_keras_guides_code_is_the_guides() -> None:
    guide = (EXAMPLES / "published" / "sequential-model-guide.md").read_text()
    section = guide[guide.index("### MLP for binary classification:") :]
    assert section.split("```python\n")[1].split("```")[0] == source("published/sequential_model_guide")


def ran(name: str, change: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """The tutorial's names after it ran, with one text of it changed where the whole would take too long."""
    text, names = source(name).replace(*change) if change[0] else source(name), {"__name__": name}
    np.random.seed(0)  # what tutorials that fix no seed draw from
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(text, name, "exec"), names)
    return names


@pytest.mark.long
def test_the_jax_tutorial_finds_the_same_weights_sample() -> None:
    before, after = ran("jax_logistic"), ran("jax_logistic_private")
    assert np.abs(np.asarray(before["W"]) - after["W"]).max() < 2e-3
    assert abs(float(before["b"]) - float(after["b"])) < 2e-3


@pytest.mark.long
def test_the_scikit_learn_tutorial_finds_the_same_classes_sample() -> None:
    before, after = (ran(f"published/plot_frozen_examples{which}") for which in ("", "_private"))
    assert type(after["classifier"]).__module__.startswith("koinon.")
    rows = before["X_test"]
    for name in ("classifier", "threshold_classifier", "calibrated_classifier"):
        assert (before[name].predict(rows) == after[name].predict(rows)).mean() > 0.97
    assert abs(before["clf_score"] - after["clf_score"]) < 0.005
    assert abs(before["calibrated_score"] - after["calibrated_score"]) < 0.005


@pytest.mark.long
def test_the_onnx_tutorial_gives_the_same_answers_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = [], []
    for printed, which in ((before, ""), (after, "_private")):
        names = ran(f"published/plot_convert_model{which}")
        printed.append(capsys.readouterr().out)
    assert type(names["sess"]).__module__.startswith("koinon.")
    assert before == after
    assert before[0].count("[") == 2, "the forest's classes and the line's"


@pytest.mark.long
def test_the_keras_guide_trains_the_same_sample() -> None:
    from koinon.privacy import keras

    scores, losses = [], []
    for which in ("", "_private"):
        keras.utils.set_random_seed(3)
        names = ran(f"published/sequential_model_guide{which}", ("epochs=20", "epochs=1"))
        scores.append(names["score"][0])
        losses.append(names["model"].history.history["loss"])
    assert type(names["model"]).__module__.startswith("koinon.")
    # Dropout draws other masks, and the rows come in another order; the labels are random.
    assert abs(scores[0] - scores[1]) < 0.05
    assert np.abs(np.subtract(*losses)).max() < 0.05


@pytest.mark.long
def test_the_keras_tutorial_learns_the_same_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn import datasets

    features, classes = datasets.load_digits(return_X_y=True)
    monkeypatch.setattr(datasets, "load_digits", lambda **_: (features[:320], classes[:320]))
    before, after = ran("keras_convnet"), ran("keras_convnet_private")
    losses = [each["history"].history["loss"] for each in (before, after)]
    # Dropout draws other masks, and the rows come in another order.
    assert np.abs(np.subtract(*losses)).max() < 0.25
    assert losses[1][1] < losses[1][0]
