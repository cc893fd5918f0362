"""Logistic and multinomial regression on secret arrays against scikit-learn: coefficients, probabilities, log-loss."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression as PlainLogistic
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.learn.logistic import SMALLEST_PROBABILITY, LogisticRegression, MultinomialRegression
from koinon.privacy.rep4.simulation import SimulatedRep4


def ranged(features: np.ndarray, codes: np.ndarray) -> PlainInput:
    low, high = features.min(0), np.maximum(features.max(0), features.min(0) + 1e-3)
    top = max(float(codes.max()), 1.0)
    names = [f"x{number}" for number in range(features.shape[1])] + ["code"]
    return table(np.column_stack([features, codes]), names, [*zip(low, high, strict=True), (-top, top)])


def two_classes(settings: LogisticRegression) -> Callable[[SecretArray], Revealed]:
    def fit(x: SecretArray) -> Revealed:
        rows, target = x[:, :-1], x[:, -1] > 0.5
        model = settings.fit(rows, target)
        return reveal(
            likely=model.predict_proba(rows),
            coefficients=model.coefficients,
            score=model.score(rows, target),
            loss=model.log_loss(rows, target),
        )

    return fit


def test_two_classes_have_scikit_learns_probabilities() -> None:
    features, target = load_breast_cancer(return_X_y=True)
    found = run(two_classes(LogisticRegression()), [ranged(features, target)], ClearBackend(), scaled=True).outputs
    standard = StandardScaler().fit_transform(features)
    plain = PlainLogistic(C=1.0, tol=1e-8, max_iter=10_000).fit(standard, target)
    want = plain.predict_proba(standard)[:, 1]
    assert abs(log_loss(target, np.clip(found["likely"], 1e-6, 1 - 1e-6)) - log_loss(target, want)) < 0.005
    assert np.abs(found["likely"] - want).max() < 0.05
    assert abs(found["score"] - plain.score(standard, target)) < 0.005
    given = np.where(target == 1, found["likely"], 1 - found["likely"])
    assert abs(found["loss"] + np.log(np.clip(given, SMALLEST_PROBABILITY, 1)).mean()) < 2e-4


def test_three_classes_have_scikit_learns_probabilities() -> None:
    features, target = load_wine(return_X_y=True)

    def fit(x: SecretArray) -> Revealed:
        rows, codes = x[:, :-1], x[:, -1].times(2)
        model = MultinomialRegression(3).fit(rows, codes)
        return reveal(likely=model.predict_proba(rows), score=model.score(rows, codes))

    found = run(fit, [ranged(features, target)], ClearBackend(), scaled=True).outputs
    standard = StandardScaler().fit_transform(features)
    want = PlainLogistic(C=1.0, tol=1e-8, max_iter=10_000).fit(standard, target).predict_proba(standard)
    assert np.abs(found["likely"].sum(1) - 1).max() < 1e-4
    assert np.abs(found["likely"] - want).max() < 0.02
    assert abs(found["score"] - 1) < 1e-4


@pytest.mark.parametrize("kind", ["two", "three"])
def test_four_parties_find_what_the_reference_finds(kind: str) -> None:
    features, target = load_wine(return_X_y=True)
    rows = ranged(features[::4, :3], (target[::4] > 0).astype(float) if kind == "two" else target[::4])

    def three(x: SecretArray) -> Revealed:
        return reveal(c=MultinomialRegression(3, iterations=3).fit(x[:, :-1], x[:, -1].times(2)).coefficients)

    function = two_classes(LogisticRegression(iterations=6)) if kind == "two" else three
    engines: list[Backend] = [ClearBackend(), SimulatedRep4()]
    clear, shared = (run(function, [rows], engine, scaled=True).outputs for engine in engines)
    for name, values in clear.items():
        assert np.abs(values - shared[name]).max() < 2e-3


@pytest.mark.parametrize("case", ["one class", "separable", "constant and collinear", "two rows"])
def test_hard_rows_give_a_bounded_model(case: str) -> None:
    """The reference engine checks every claimed bound on the way."""
    random = np.random.default_rng(1)
    rows = random.uniform(-1, 1, (40, 4))
    rows[:, -1] = rows[:, 0] > 0
    if case == "one class":
        rows[:, -1] = 1.0
    elif case == "constant and collinear":
        rows[:, 1], rows[:, 2] = 0.5, rows[:, 0]
    elif case == "two rows":
        rows = rows[[0, 1]]
    ends = [(-1.0, 1.0)] * 4
    found = run(two_classes(LogisticRegression()), [table(rows, list("abcd"), ends)], ClearBackend(), scaled=True)
    assert np.isfinite(found.outputs["coefficients"]).all()
    if case != "two rows":
        assert found.outputs["score"] > 0.9

    def three(x: SecretArray) -> Revealed:
        return reveal(c=MultinomialRegression(3, iterations=20).fit(x[:, :-1], x[:, -1]).coefficients)

    assert np.isfinite(run(three, [table(rows, list("abcd"), ends)], ClearBackend(), scaled=True).outputs["c"]).all()


@pytest.mark.parametrize(
    ("misuse", "problem"),
    [
        (lambda x: LogisticRegression().fit(x[:, :2], x[:, 2]).coefficients, "bits"),
        (lambda x: LogisticRegression().fit(x[:, :2], x > 0).coefficients, "belong together"),
        (lambda x: LogisticRegression().fit(x[:1, :2], x[:1, 2] > 0).coefficients, "belong together"),
        (lambda x: LogisticRegression(0.0).fit(x[:, :2], x[:, 2] > 0).coefficients, "penalty"),
        (lambda x: LogisticRegression(iterations=0).fit(x[:, :2], x[:, 2] > 0).coefficients, "iterations"),
        (lambda x: MultinomialRegression(1).fit(x[:, :2], x[:, 2]).coefficients, "classes"),
        (lambda x: MultinomialRegression(3, -1.0).fit(x[:, :2], x[:, 2]).coefficients, "penalty"),
        (lambda x: MultinomialRegression(3, iterations=0).fit(x[:, :2], x[:, 2]).coefficients, "iterations"),
        (lambda x: MultinomialRegression(3).fit(x, x).coefficients, "belong together"),
    ],
)
def test_settings_and_shapes_that_do_not_fit_are_refused(
    misuse: Callable[[SecretArray], SecretArray], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        run(lambda x: reveal(x=misuse(x)), [table(np.random.default_rng(0).normal(size=(20, 3)))], ClearBackend())


def test_columns_that_are_not_scaled_are_refused() -> None:
    with pytest.raises(Refused, match="scaled to"):
        run(two_classes(LogisticRegression()), [table(np.full((9, 3), 5.0))], ClearBackend())
