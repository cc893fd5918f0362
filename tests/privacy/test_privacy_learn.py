"""Estimators on secret arrays against scikit-learn on its own data sets, and what they refuse."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.cluster import KMeans as PlainKMeans
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.linear_model import LinearRegression as PlainLine
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.learn.bayes import GaussianBayes
from koinon.privacy.learn.clusters import KMeans
from koinon.privacy.learn.linear import LinearRegression, to_units
from koinon.privacy.rep4.simulation import SimulatedRep4

ENGINES: list[Backend] = [ClearBackend(), SimulatedRep4()]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)


def ranged(features: np.ndarray, codes: np.ndarray) -> tuple[PlainInput, np.ndarray]:
    """A table with the codes last, ranges from the data, and the features scaled as the owners share them."""
    low, high = features.min(0), np.maximum(features.max(0), features.min(0) + 1e-3)
    top = float(codes.max())
    names = [f"x{number}" for number in range(features.shape[1])] + ["code"]
    rows = table(np.column_stack([features, codes]), names, [*zip(low, high, strict=True), (-top, top)])
    return rows, (features - (low + high) / 2) / ((high - low) / 2)


@each_engine
@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_a_line_has_scikit_learns_coefficients(engine: Backend, penalty: float) -> None:
    features, target = load_diabetes(return_X_y=True, scaled=False)
    rows = table(np.column_stack([features, target]))

    def fit(x: SecretArray) -> Revealed:
        line = LinearRegression(penalty).fit(x[:, :-1], x[:, -1])
        score = line.score(x[:, :-1], x[:, -1])
        return reveal(coefficients=line.coefficients, intercept=line.intercept, score=score)

    found = run(fit, [rows], engine, scaled=True).outputs
    slopes, intercept = to_units(found["coefficients"], float(found["intercept"]), rows.columns[:-1], rows.columns[-1])
    standard = StandardScaler().fit_transform(features)
    plain = (Ridge(penalty) if penalty else PlainLine()).fit(standard, target)
    want = plain.coef_ / features.std(0)
    assert np.abs(slopes / want - 1).max() < 2e-3
    assert abs(intercept - (plain.intercept_ - want @ features.mean(0))) < 0.1
    assert abs(found["score"] - plain.score(standard, target)) < 1e-4


@each_engine
def test_clusters_are_scikit_learns(engine: Backend) -> None:
    features, _ = load_iris(return_X_y=True)
    rows, scaled = ranged(features, np.ones(len(features)))
    start = np.sort(np.random.default_rng(0).choice(len(features), 3, replace=False))
    plain = PlainKMeans(3, init=scaled[start], n_init=1, max_iter=8, tol=0).fit(scaled)

    def fit(x: SecretArray) -> Revealed:
        clusters = KMeans(3, iterations=8).fit(x[:, :-1])
        return reveal(centres=clusters.centres, nearest=clusters.predict(x[:, :-1]), score=clusters.score(x[:, :-1]))

    found = run(fit, [rows], engine, scaled=True).outputs
    assert np.abs(found["centres"] - plain.cluster_centers_).max() < 1e-3
    assert (found["nearest"] == plain.predict(scaled)).all()
    assert abs(found["score"] - plain.score(scaled)) < 0.05


@each_engine
def test_bayes_says_what_scikit_learns_says(engine: Backend) -> None:
    features, classes = load_iris(return_X_y=True)
    rows, scaled = ranged(features, classes.astype(float))
    plain = GaussianNB().fit(scaled, classes)

    def fit(x: SecretArray) -> Revealed:
        features, codes = x[:, :-1], x[:, -1].times(2)
        model = GaussianBayes(3).fit(features, codes)
        return reveal(predicted=model.predict(features), score=model.score(features, codes), means=model.means)

    found = run(fit, [rows], engine, scaled=True).outputs
    assert (found["predicted"] == plain.predict(scaled)).mean() > 0.99
    assert abs(found["score"] - plain.score(scaled, classes)) < 0.01
    assert np.abs(found["means"] - plain.theta_).max() < 1e-4


def test_a_cluster_that_loses_every_row_keeps_its_centre() -> None:
    rows = np.array([[0.0], [0.0], [0.0], [1.0]])
    found = run(
        lambda x: reveal(centres=KMeans(3, iterations=4, seed=1).fit(x).centres), [table(rows)], ClearBackend()
    ).outputs["centres"]
    assert np.isfinite(found).all()
    assert set(found.ravel().round(3)) <= {0.0, 1.0}


def test_hard_rows_give_numbers_and_no_overflow() -> None:
    """Constant and collinear columns, an outlier: the reference engine checks every claimed bound on the way."""
    random = np.random.default_rng(3)
    rows = random.uniform(-1, 1, (60, 5))
    rows[:, 1] = 0.25
    rows[:, 2] = rows[:, 0]
    rows[0, 3] = 8.0
    found = run(
        lambda x: reveal(coefficients=LinearRegression().fit(x[:, :4], x[:, 4]).coefficients),
        [table(rows)],
        ClearBackend(),
        scaled=True,
    ).outputs["coefficients"]
    assert np.isfinite(found).all()
    assert found[1] == 0.0
    assert abs(found[0] - found[2]) < 1e-3


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: LinearRegression(-1.0).fit(x[:, :2], x[:, 2]).coefficients,
        lambda x: LinearRegression().fit(x[:, :2], x[:, 1:]).coefficients,
        lambda x: LinearRegression(steps=0).fit(x[:, :2], x[:, 2]).coefficients,
        lambda x: KMeans(1).fit(x).centres,
        lambda x: KMeans(50).fit(x).centres,
        lambda x: KMeans(3, iterations=0).fit(x).centres,
        lambda x: GaussianBayes(1).fit(x[:, :2], x[:, 2]).means,
        lambda x: GaussianBayes(2, smoothing=0.0).fit(x[:, :2], x[:, 2]).means,
        lambda x: GaussianBayes(2).fit(x, x).means,
    ],
)
def test_settings_and_shapes_that_do_not_fit_are_refused(misuse: Callable[[SecretArray], SecretArray]) -> None:
    with pytest.raises(InvalidInput) as problem:
        run(lambda x: reveal(x=misuse(x)), [table(np.random.default_rng(0).normal(size=(20, 3)))], ClearBackend())
    assert "\n" not in str(problem.value)


@pytest.mark.long
def test_sample_of_handwritten_digits_is_clustered_as_scikit_learn_does() -> None:
    features, _ = load_digits(return_X_y=True)
    rows, scaled = ranged(features[:600], np.ones(600))
    start = np.sort(np.random.default_rng(0).choice(600, 10, replace=False))
    plain = PlainKMeans(10, init=scaled[start], n_init=1, max_iter=10, tol=0).fit(scaled)
    found = run(
        lambda x: reveal(centres=KMeans(10).fit(x[:, :-1]).centres), [rows], SimulatedRep4(), scaled=True
    ).outputs["centres"]
    assert np.abs(found - plain.cluster_centers_).max() < 5e-3
