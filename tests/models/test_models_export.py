"""The export: the formula and the file give the same answers, the same parameters the same bytes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.kernel.errors import Forged, InvalidInput
from koinon.models.onnx_export import (
    LogisticParameters,
    check_equal,
    check_equal_confined,
    edge_rows,
    export_logistic,
    weights_hash,
)
from koinon.models.scan import scan


def test_the_file_answers_as_the_formula(parameters: LogisticParameters, exported: bytes) -> None:
    assert 0 < check_equal(exported, parameters) < 2e-6


def test_the_formula_is_scikit_learns() -> None:
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression

    features, target = load_breast_cancer(return_X_y=True)
    low, high = features.min(axis=0) - 1, features.max(axis=0) + 1
    model = LogisticRegression(max_iter=2000).fit(2 * (features - low) / (high - low) - 1, target)
    ours = LogisticParameters(low, high, model.coef_[0], float(model.intercept_[0]))
    theirs = model.predict_proba(2 * (features - low) / (high - low) - 1)[:, 1]
    assert np.abs(ours.probability(features) - theirs).max() < 1e-12
    check_equal(export_logistic(ours), ours)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), width=st.integers(1, 60), size=st.floats(-4, 6))
def test_any_reasonable_model_exports_equal(seed: int, width: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    low = rng.normal(0, 10**size, width)
    high = low + (10**size) * rng.uniform(0.05, 3, width)
    parameters = LogisticParameters(low, high, rng.standard_normal(width), float(rng.normal()))
    data = export_logistic(parameters)
    # Rounding grows with how far the ranges lie from zero, in units of their span, as it must in float32.
    offset = np.abs(parameters.centre * parameters.scale)
    check_equal(data, parameters, tolerance=2e-6 + 2e-7 * float(offset @ np.abs(parameters.coefficients)))
    scan(data)


def test_the_same_parameters_give_the_same_bytes(parameters: LogisticParameters, exported: bytes) -> None:
    assert export_logistic(replace(parameters)) == exported
    assert weights_hash(exported).hex() == "1b4ca2a58a235832c3bf412e87d4c5cf20fd6995d311c66081690b48efe3ada3"
    changed = replace(parameters, intercept=parameters.intercept + 1e-6)
    assert export_logistic(changed) != exported


def test_other_weights_than_the_trained_ones_are_forged(parameters: LogisticParameters, exported: bytes) -> None:
    coefficients = parameters.coefficients.copy()
    coefficients[2] += 1e-3
    for other in (replace(parameters, intercept=0.251), replace(parameters, coefficients=coefficients)):
        with pytest.raises(Forged, match="differs from the trained weights"):
            check_equal(exported, other)
    narrower = LogisticParameters(parameters.low[:5], parameters.high[:5], parameters.coefficients[:5], 0.25)
    with pytest.raises(Forged, match="cannot run on the trained columns"):
        check_equal(exported, narrower)


async def test_a_node_checks_in_a_sandbox_and_finds_the_same(parameters: LogisticParameters, exported: bytes) -> None:
    assert await check_equal_confined(exported, parameters) == check_equal(exported, parameters)
    with pytest.raises(Forged, match="differs from the trained weights"):
        await check_equal_confined(exported, replace(parameters, intercept=0.251))
    narrower = LogisticParameters(parameters.low[:5], parameters.high[:5], parameters.coefficients[:5], 0.25)
    with pytest.raises(Forged, match="trained columns"):
        await check_equal_confined(exported, narrower)


def test_edge_rows_contain_the_ends_of_every_range(parameters: LogisticParameters) -> None:
    rows = edge_rows(parameters, np.random.default_rng(0))
    for column in range(6):
        assert parameters.low[column] in rows[:, column]
        assert parameters.high[column] in rows[:, column]
    assert (rows < parameters.low).any()
    assert (rows > parameters.high).any()


@pytest.mark.parametrize(
    "change",
    [
        {"coefficients": np.array([1.0, np.nan, 0, 0, 0, 0])},
        {"coefficients": np.ones(5)},
        {"coefficients": np.ones((6, 1))},
        {"coefficients": np.full(6, 1e39)},
        {"intercept": float("inf")},
        {"high": np.zeros(6), "low": np.zeros(6)},
        {"low": np.full(6, np.nan)},
        {"low": np.zeros(6), "high": np.full(6, 1e-38)},
    ],
)
def test_parameters_that_are_no_model_are_refused(parameters: LogisticParameters, change: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        export_logistic(replace(parameters, **change))


def test_no_score_overflows(parameters: LogisticParameters) -> None:
    steep = replace(parameters, coefficients=np.full(6, 1e4))
    answers = steep.probability(np.stack([parameters.low, parameters.high]))
    assert answers.tolist() == [0.0, 1.0]
