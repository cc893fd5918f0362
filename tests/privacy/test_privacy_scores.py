"""Every estimator's ``score`` is that of its own predictions, as scikit-learn's metrics have it."""

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score

from koinon.privacy import learn
from koinon.privacy.arrays import SecretArray
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.learn.bayes import GaussianBayes
from koinon.privacy.learn.layers import Dense
from koinon.privacy.learn.linear import LinearRegression
from koinon.privacy.learn.logistic import LogisticRegression, MultinomialRegression
from koinon.privacy.learn.neighbours import NeighboursClassifier, NeighboursRegressor
from koinon.privacy.learn.networks import LayeredNetwork, Schedule
from koinon.privacy.learn.perceptron import Perceptron
from koinon.privacy.learn.trees import (
    BoostedClassifier,
    BoostedRegressor,
    ForestClassifier,
    ForestRegressor,
    Shape,
    TreeClassifier,
    TreeRegressor,
)

OF_THEIR_OWN = {"FittedClusters", "FittedCox", "FittedPoisson"}
"""Whose score is another: distances to centres, concordance, and deviance; see their own tests."""
SHAPE, SCHEDULE = Shape(2), Schedule(2, 16, 0.1, 0)
CLASSES: dict[str, tuple[Any, int]] = {
    "naive Bayes": (GaussianBayes(4), 4),
    "logistic": (LogisticRegression(1.0), 2),
    "multinomial": (MultinomialRegression(4, 0.01), 4),
    "neighbours": (NeighboursClassifier(4, 3), 4),
    "tree": (TreeClassifier(2, SHAPE), 2),
    "forest": (ForestClassifier(4, 3, SHAPE), 4),
    "boosting": (BoostedClassifier(2, 2, shape=SHAPE), 2),
    "perceptron": (Perceptron(4, 2, 16), 2),
}
NUMBERS: dict[str, Any] = {
    "line": LinearRegression(),
    "neighbours": NeighboursRegressor(3),
    "tree": TreeRegressor(SHAPE),
    "forest": ForestRegressor(3, SHAPE),
    "boosting": BoostedRegressor(2, shape=SHAPE),
}


def rows(classes: int = 0) -> np.ndarray:
    """(60, 4), the last column a code or a number that follows from the others and chance."""
    random = np.random.default_rng(7)
    known = random.uniform(-1, 1, (60, 3))
    level = known @ [0.5, -0.3, 0.1] + random.normal(size=60) / 20
    last = np.digitize(level, np.quantile(level, np.arange(1, classes) / classes)) if classes else level
    return np.column_stack([known, last])


def scored(fit: Callable[[SecretArray, SecretArray], Any], data: np.ndarray, classes: int) -> tuple[np.ndarray, float]:
    """What is predicted on the training rows, and the score that the estimator gives; 0 classes for numbers."""
    data = data / [1, 1, 1, max(classes, 1)]  # so that all columns are in [−1, 1]

    def compute(x: SecretArray) -> Revealed:
        target = x[:, -1] > 0.25 if classes == 2 else x[:, -1].times(max(classes, 1))
        fitted = fit(x[:, :-1], target)
        return reveal(found=fitted.predict(x[:, :-1]), score=fitted.score(x[:, :-1], target))

    outputs = run(compute, [table(data, ranges=[(-1.0, 1.0)] * 4)], ClearBackend(), scaled=True).outputs  # type: ignore[arg-type]
    return outputs["found"], float(outputs["score"].reshape(()))


@pytest.mark.parametrize("name", CLASSES)
def test_a_classifier_scores_its_share_of_right_answers(name: str) -> None:
    estimator, classes = CLASSES[name]
    data = rows(classes)
    found, score = scored(estimator.fit, data, classes)
    assert score == pytest.approx(accuracy_score(data[:, -1], found.round()), abs=1e-4)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_regressor_scores_its_determination(name: str) -> None:
    found, score = scored(NUMBERS[name].fit, rows(), 0)
    assert score == pytest.approx(r2_score(rows()[:, -1], found), abs=2e-3)


@pytest.mark.parametrize("numbers", [True, False])
def test_a_network_scores_what_it_predicts(numbers: bool) -> None:
    network = LayeredNetwork((Dense(3, 4, cut=True), Dense(4, 1)), SCHEDULE, numbers)
    data = rows(0 if numbers else 2)
    found, score = scored(network.fit, data, 0 if numbers else 2)
    wanted = r2_score(data[:, -1], found) if numbers else accuracy_score(data[:, -1], found.round())
    assert score == pytest.approx(wanted, abs=2e-3)


def test_every_fitted_estimator_predicts_and_scores() -> None:
    modules = (import_module(f"{learn.__name__}.{each.name}") for each in pkgutil.iter_modules(learn.__path__))
    fitted = {
        name: each
        for module in modules
        for name, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and hasattr(each, "predict")
    }
    assert set(fitted) > OF_THEIR_OWN
    assert [name for name, each in fitted.items() if not hasattr(each, "score")] == []
