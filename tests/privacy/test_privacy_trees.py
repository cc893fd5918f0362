"""Trees, forests and boosting on secret arrays: against a greedy tree in NumPy, and scikit-learn on held-out rows."""

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import ensemble, tree
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import train_test_split

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.learn.choice import one_hot_of_largest
from koinon.privacy.learn.growing import Targets, grow, quantile_bins
from koinon.privacy.learn.trees import (
    BoostedClassifier,
    BoostedRegressor,
    ForestClassifier,
    ForestRegressor,
    Shape,
    TreeClassifier,
    TreeRegressor,
)
from koinon.privacy.rep4.simulation import SimulatedRep4


def unit(rows: np.ndarray) -> PlainInput:
    names = [f"x{number}" for number in range(rows.shape[1])]
    return table(rows, names, [(-1.0, 1.0)] * rows.shape[1])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_first_of_the_largest_is_chosen(count: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(-3, 4, (4, count)) / 4
    found = run(lambda x: reveal(bits=one_hot_of_largest(x, -2.0)), [unit(scores)], ClearBackend(), scaled=True)
    assert (found.outputs["bits"] == np.eye(count)[scores.argmax(1)]).all()


def greedy(rows: np.ndarray, target: np.ndarray, thresholds: np.ndarray, depth: int, smallest: int) -> np.ndarray:
    """Fitted means of the greedy tree, by recursion."""
    best, way = 1e-4 * len(target), None
    for column, candidates in enumerate(thresholds):
        for candidate in candidates:
            left = rows[:, column] < candidate
            if min(left.sum(), (~left).sum()) < smallest:
                continue
            rest = sum(((target[side] - target[side].mean()) ** 2).sum() for side in (left, ~left))
            gain = ((target - target.mean()) ** 2).sum() - rest
            if gain > best:
                best, way = gain, left
    if way is None or not depth:
        return np.full(len(target), target.mean())
    fitted = np.empty(len(target))
    for side in (way, ~way):
        fitted[side] = greedy(rows[side], target[side], thresholds, depth - 1, smallest)
    return fitted


def test_a_tree_is_the_greedy_one() -> None:
    random = np.random.default_rng(2)
    rows = random.uniform(-1, 1, (150, 4))
    rows[:, 3] = np.clip(np.sign(rows[:, 0]) * rows[:, 1] + random.normal(0, 0.1, 150), -1, 1)

    def fit(x: SecretArray) -> Revealed:
        bins = quantile_bins(x[:, :3], 8, 64, 0)
        targets = Targets(np.ones((1, 150)), 1.0, x[:, 3].reshape(1, 1, -1), 1.0)
        grown = grow(bins, targets, 4, 6.0)
        return reveal(thresholds=bins.thresholds, fitted=grown.fitted[0, :, 0], again=grown.trees.means(x[:, :3]))

    found = run(fit, [unit(rows)], ClearBackend(), scaled=True).outputs
    want = greedy(rows[:, :3], rows[:, 3], found["thresholds"], 4, 6)
    assert np.abs(found["fitted"] - want).max() < 1e-4
    assert np.abs(found["again"][0, :, 0] - found["fitted"]).max() < 1e-5


def split(
    loader: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> tuple[PlainInput, PlainInput, np.ndarray, np.ndarray]:
    """Training rows with the target last, test rows, and the targets; numbers are scaled, codes halved."""
    features, target = cast(tuple[np.ndarray, np.ndarray], loader(return_X_y=True))
    scaled = target / 2 if target.dtype.kind == "i" else (target - target.mean()) / np.ptp(target)
    train, test, known, truth = train_test_split(features, scaled, test_size=0.3, random_state=1)
    low, high = train.min(0), train.max(0)
    train, test = (np.clip((rows - (low + high) / 2) / ((high - low) / 2), -1, 1) for rows in (train, test))
    return unit(np.column_stack([train, known])), unit(np.column_stack([test, truth])), known, truth


def test_classes_of_held_out_rows_are_guessed_as_well_as_scikit_learn_does() -> None:
    train, test, known, truth = split(load_wine)

    def fit(x: SecretArray, t: SecretArray) -> Revealed:
        rows, codes, asked, right = x[:, :-1], x[:, -1].times(2), t[:, :-1], t[:, -1].times(2)
        boosted = BoostedClassifier(3, 6, shape=Shape(2)).fit(rows, codes)
        return reveal(
            tree=TreeClassifier(3, Shape(3)).fit(rows, codes).score(asked, right),
            forest=ForestClassifier(3, 15, Shape(4)).fit(rows, codes).score(asked, right),
            boosted=boosted.score(asked, right),
            likely=boosted.predict_proba(asked),
        )

    found = run(fit, [train, test], ClearBackend(), scaled=True).outputs
    codes, right, rows, asked = known * 2, truth * 2, train.values[:, :-1], test.values[:, :-1]
    assert (
        found["tree"]
        > tree.DecisionTreeClassifier(max_depth=3, random_state=0).fit(rows, codes).score(asked, right) - 0.06
    )
    assert found["forest"] > 0.94
    assert found["boosted"] > 0.94
    assert np.abs(found["likely"].sum(1) - 1).max() < 2e-3
    assert (found["likely"].argmax(1) == right).mean() > 0.94


@pytest.mark.long
def test_sample_of_two_boosted_classes_has_calibrated_probabilities() -> None:
    train, test, known, truth = split(load_breast_cancer)

    def fit(x: SecretArray, t: SecretArray) -> Revealed:
        model = BoostedClassifier(2, 20, shape=Shape(3)).fit(x[:, :-1], x[:, -1] > 0.25)
        return reveal(likely=model.predict_proba(t[:, :-1]))

    likely = run(fit, [train, test], ClearBackend(), scaled=True).outputs["likely"]
    plain = ensemble.GradientBoostingClassifier(n_estimators=20, learning_rate=0.3, random_state=0).fit(
        train.values[:, :-1], known * 2
    )
    want = log_loss(truth * 2, plain.predict_proba(test.values[:, :-1])[:, 1])
    assert log_loss(truth * 2, np.clip(likely, 1e-4, 1 - 1e-4)) < want + 0.02


def test_numbers_of_held_out_rows_are_guessed_as_well_as_scikit_learn_does() -> None:
    train, test, known, truth = split(load_diabetes)

    def fit(x: SecretArray, t: SecretArray) -> Revealed:
        rows, numbers, asked = x[:, :-1], x[:, -1], t[:, :-1]
        return reveal(
            tree=TreeRegressor(Shape(3, smallest=5.0)).fit(rows, numbers).predict(asked),
            forest=ForestRegressor(15, Shape(4, smallest=5.0)).fit(rows, numbers).predict(asked),
            boosted=BoostedRegressor(10, shape=Shape(2)).fit(rows, numbers).predict(asked),
        )

    found = run(fit, [train, test], ClearBackend(), scaled=True).outputs
    peers = {
        "tree": tree.DecisionTreeRegressor(max_depth=3, min_samples_leaf=5),
        "forest": ensemble.RandomForestRegressor(15, max_depth=4, min_samples_leaf=5, random_state=0),
        "boosted": ensemble.GradientBoostingRegressor(n_estimators=10, learning_rate=0.3, max_depth=2, random_state=0),
    }
    for name, peer in peers.items():
        want = peer.fit(train.values[:, :-1], known).score(test.values[:, :-1], truth)
        assert r2_score(truth, found[name]) > want - 0.07, name


def test_late_trees_of_boosting_still_split() -> None:
    random = np.random.default_rng(3)
    rows = random.uniform(-1, 1, (400, 3))
    target = random.uniform(size=400) < 1 / (1 + np.exp(-6 * rows[:, 0] * rows[:, 1] - rows[:, 2]))

    def fit(x: SecretArray) -> Revealed:
        model = BoostedClassifier(2, 12, 0.3, Shape(2, 8)).fit(x[:, :3], x[:, 3] > 0.5)
        return reveal(likely=model.predict_proba(x[:, :3]))

    likely = run(fit, [unit(np.column_stack([rows, target]))], ClearBackend(), scaled=True).outputs["likely"]
    plain = ensemble.GradientBoostingClassifier(n_estimators=12, learning_rate=0.3, max_depth=2, random_state=0).fit(
        rows, target
    )
    assert log_loss(target, likely.clip(1e-6, 1 - 1e-6)) < log_loss(target, plain.predict_proba(rows)[:, 1]) + 0.02


@pytest.mark.parametrize("kind", ["boosted", "forest"])
def test_four_parties_grow_the_trees_of_the_reference(kind: str) -> None:
    random = np.random.default_rng(5)
    rows = random.uniform(-1, 1, (40, 4))
    rows[:, 3] = np.where(rows[:, 0] > 0.1, 1.0, np.where(rows[:, 1] > 0, 0.5, 0.0))
    shape = Shape(2, bins=4, sample=16)

    def fit(x: SecretArray) -> Revealed:
        if kind == "forest":
            return reveal(c=ForestClassifier(3, 2, shape).fit(x[:, :3], x[:, 3].times(2)).predict_proba(x[:, :3]))
        return reveal(c=BoostedClassifier(2, 2, shape=shape).fit(x[:, :3], x[:, 3] > 0.75).predict_proba(x[:, :3]))

    engines: list[Backend] = [ClearBackend(), SimulatedRep4()]
    clear, shared = (run(fit, [unit(rows)], engine, scaled=True).outputs["c"] for engine in engines)
    assert np.abs(clear - shared).max() < 1e-3
    assert np.ptp(clear) > 0.3


@pytest.mark.parametrize("case", ["one class", "constant columns", "fewer rows than leaves", "one far row"])
def test_hard_rows_grow_trees_within_their_bounds(case: str) -> None:
    """The reference engine checks every claimed bound on the way."""
    random = np.random.default_rng(7)
    rows = random.uniform(-1, 1, (60, 4))
    rows[:, 3] = rows[:, 0] > 0
    if case == "one class":
        rows[:, 3] = 1.0
    elif case == "constant columns":
        rows[:, 1:3] = 0.5
    elif case == "fewer rows than leaves":
        rows = rows[:6]
    else:
        rows[:, 0] = 0.001 * rows[:, 0]
        rows[0, 0] = 1.0

    def fit(x: SecretArray) -> Revealed:
        columns, target = x[:, :3], x[:, 3]
        return reveal(
            tree=TreeRegressor(Shape(4)).fit(columns, target).predict(columns),
            forest=ForestClassifier(2, 3, Shape(2)).fit(columns, target > 0.5).predict_proba(columns),
            boosted=BoostedClassifier(2, 6, 1.0, Shape(2, smallest=0.02)).fit(columns, target > 0.5).predict(columns),
            numbers=BoostedRegressor(3, 1.0, Shape(2)).fit(columns, target).predict(columns),
        )

    found = run(fit, [unit(rows)], ClearBackend(), scaled=True).outputs
    assert np.abs(found["tree"] - rows[:, 3]).mean() < 0.2
    assert ((found["forest"] > 0.5) == rows[:, 3]).mean() > 0.6
    assert (found["boosted"] == rows[:, 3]).mean() > 0.95
    assert np.abs(found["numbers"] - rows[:, 3]).mean() < 0.1


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: TreeClassifier(1).fit(x[:, :2], x[:, 2]).trees.leaves,
        lambda x: TreeClassifier(2).fit(x[:, :2], x[:, 1:]).trees.leaves,
        lambda x: TreeRegressor().fit(x[:1, :2], x[:1, 2]).trees.leaves,
        lambda x: TreeRegressor(Shape(0)).fit(x[:, :2], x[:, 2]).trees.leaves,
        lambda x: TreeRegressor(Shape(9)).fit(x[:, :2], x[:, 2]).trees.leaves,
        lambda x: TreeRegressor(Shape(bins=1)).fit(x[:, :2], x[:, 2]).trees.leaves,
        lambda x: TreeRegressor(Shape(sample=1)).fit(x[:, :2], x[:, 2]).trees.leaves,
        lambda x: TreeRegressor(Shape(smallest=0.0)).fit(x[:, :2], x[:, 2]).trees.leaves,
        lambda x: TreeRegressor(Shape(smallest=21.0)).fit(x[:, :2], x[:, 2]).trees.leaves,
        lambda x: ForestRegressor(0).fit(x[:, :2], x[:, 2]).trees.leaves,
        lambda x: BoostedRegressor(0).fit(x[:, :2], x[:, 2]).start,
        lambda x: BoostedRegressor(rate=1.5).fit(x[:, :2], x[:, 2]).start,
        lambda x: BoostedClassifier(rate=0.0).fit(x[:, :2], x[:, 2]).start,
        lambda x: TreeRegressor().fit(x[:, :2], x[:, 2]).predict(x),
    ],
)
def test_settings_and_shapes_that_do_not_fit_are_refused(misuse: Callable[[SecretArray], SecretArray]) -> None:
    with pytest.raises(InvalidInput) as problem:
        run(
            lambda x: reveal(x=misuse(x)),
            [unit(np.random.default_rng(0).uniform(-1, 1, (20, 3)))],
            ClearBackend(),
            scaled=True,
        )
    assert "\n" not in str(problem.value)
