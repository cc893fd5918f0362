"""Naive Bayes as an ONNX model answers as its formula, and as scikit-learn does."""

from dataclasses import replace

import numpy as np
import pytest

from koinon.kernel.errors import Forged, InvalidInput
from koinon.models.onnx_gaussian import GaussianParameters, check_equal_gaussian, export_gaussian
from koinon.models.runtime import open_session
from koinon.models.sandbox import SandboxedModel

LOW, HIGH = np.array([0.0, -5.0, 100.0]), np.array([10.0, 5.0, 900.0])


def rows(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    ill = random.random(200) < 0.4
    values = random.normal(np.where(ill[:, None], [6, 1, 600], [4, -1, 400]), [1.5, 1.0, 90])
    return np.clip(values, LOW, HIGH), ill.astype(float)


@pytest.fixture
def fitted() -> GaussianParameters:
    values, ill = rows()
    scaled = (values - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2)
    parts = [scaled[ill == code] for code in (0, 1)]
    return GaussianParameters(
        LOW,
        HIGH,
        np.array([len(part) / len(scaled) for part in parts]),
        np.array([part.mean(0) for part in parts]),
        np.array([part.var(0) for part in parts]),
    )


def test_the_answers_are_scikit_learns(fitted: GaussianParameters) -> None:
    from sklearn.naive_bayes import GaussianNB

    values, ill = rows()
    expected = GaussianNB(var_smoothing=0.0).fit(values, ill).predict_proba(values)[:, 1]
    assert np.abs(fitted.probability(values) - expected).max() < 1e-9
    (answers,) = open_session(export_gaussian(fitted)).run(None, {"features": values.astype(np.float32)})
    assert np.abs(np.asarray(answers) - expected).max() < 1e-3


async def test_it_runs_in_the_sandbox(fitted: GaussianParameters) -> None:
    values, _ = rows()
    async with SandboxedModel.open(export_gaussian(fitted)) as model:
        answers = await model.predict(values.astype(np.float32))
    assert np.abs(answers - fitted.probability(values)).max() < 1e-3


def test_other_weights_than_the_trained_ones_are_forged(fitted: GaussianParameters) -> None:
    data = export_gaussian(fitted)
    assert check_equal_gaussian(data, fitted) < 1e-3
    with pytest.raises(Forged, match="differs from the trained one"):
        check_equal_gaussian(data, replace(fitted, means=fitted.means + 0.05))


@pytest.mark.parametrize(
    "change",
    [
        {"low": HIGH},
        {"low": LOW[:2]},
        {"priors": np.array([1.0, 0.0])},
        {"means": np.full((2, 3), np.nan)},
        {"means": np.zeros((3, 2))},
        {"variances": np.zeros((2, 3))},
        {"variances": np.full((2, 3), np.inf)},
    ],
)
def test_parameters_that_are_no_model_are_refused(fitted: GaussianParameters, change: dict[str, np.ndarray]) -> None:
    with pytest.raises(InvalidInput):
        export_gaussian(replace(fitted, **change))  # type: ignore[arg-type]
