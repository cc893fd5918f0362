"""The tutorials of examples/private: one import apart, and saying nearly the same."""

import difflib
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "private"
TUTORIALS = ["jax_logistic", "keras_convnet", "sklearn_logistic"]
IMPORT = re.compile(r"[-+](from \S+ import \S+|import \S+)")


def source(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text()


@pytest.mark.parametrize("name", TUTORIALS)
def test_one_import_changes(name: str) -> None:
    lines = difflib.unified_diff(source(name).splitlines(), source(f"{name}_private").splitlines(), lineterm="", n=0)
    changed = [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]
    assert [line[0] for line in changed] == ["-", "+"]
    assert all(IMPORT.fullmatch(line) for line in changed)
    assert "koinon.privacy" in changed[1]


def ran(name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(source(name), name, "exec"), names)
    return names


@pytest.mark.long
def test_the_jax_tutorial_finds_the_same_weights_sample() -> None:
    before, after = ran("jax_logistic"), ran("jax_logistic_private")
    assert np.abs(np.asarray(before["W"]) - after["W"]).max() < 2e-3
    assert abs(float(before["b"]) - float(after["b"])) < 2e-3


@pytest.mark.long
def test_the_scikit_learn_tutorial_finds_the_same_classes_sample() -> None:
    before, after = ran("sklearn_logistic"), ran("sklearn_logistic_private")
    rows = before["X"]
    assert (before["clf"].predict(rows) == after["clf"].predict(rows)).mean() > 0.97
    assert abs(before["score"] - after["score"]) < 0.03


@pytest.mark.long
def test_the_keras_tutorial_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn import datasets

    features, classes = datasets.load_digits(return_X_y=True)
    monkeypatch.setattr(datasets, "load_digits", lambda **_: (features[:320], classes[:320]))
    before, after = ran("keras_convnet"), ran("keras_convnet_private")
    losses = [each["history"].history["loss"] for each in (before, after)]
    # Dropout draws other masks, and the rows come in another order.
    assert np.abs(np.subtract(*losses)).max() < 0.25
    assert losses[1][1] < losses[1][0]
