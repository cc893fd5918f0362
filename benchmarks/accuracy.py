"""Every algorithm on secret rows beside the same on plain rows in scikit-learn, SciPy, lifelines or JAX: real data.

    pip install -r benchmarks/accuracy_requirements.txt
    PYTHONPATH=src python benchmarks/accuracy.py --json
    PYTHONPATH=src python benchmarks/accuracy.py --engine both --markdown docs/accuracy.md

A quarter of each data set is held out (stratified, seed 0) and used for nothing but the last column; no setting was
chosen by looking at it. Ranges of columns come from the training rows, and test rows outside are put on their ends, as
an owner would do before sharing. With the engine rep4, all four parties run in this process and seconds are CPU time of
all four together; the engine clear computes with the same fixed-point numbers on plain words, far faster. ``both``
does first one, then the other. What only measures or prepares columns is in ``accuracy_measures``.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from accuracy_measures import MEASURES, Measure
from sklearn import (
    cluster,
    datasets,
    decomposition,
    ensemble,
    linear_model,
    metrics,
    model_selection,
    naive_bayes,
    neighbors,
    neural_network,
    tree,
)

from koinon.crypto.random import SystemRng
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, program, reveal, run, table
from koinon.privacy.estimate import estimate
from koinon.privacy.learn.bayes import GaussianBayes
from koinon.privacy.learn.clusters import KMeans
from koinon.privacy.learn.components import PrincipalComponents
from koinon.privacy.learn.layers import Convolution, Dense
from koinon.privacy.learn.linear import LinearRegression
from koinon.privacy.learn.logistic import LogisticRegression, MultinomialRegression
from koinon.privacy.learn.neighbours import NeighboursClassifier
from koinon.privacy.learn.networks import LayeredNetwork, Schedule, batches
from koinon.privacy.learn.perceptron import Perceptron
from koinon.privacy.learn.poisson import PoissonRegression
from koinon.privacy.learn.recurrence import Gated
from koinon.privacy.learn.trees import (
    BoostedClassifier,
    BoostedRegressor,
    ForestClassifier,
    ForestRegressor,
    Shape,
    TreeClassifier,
    TreeRegressor,
)
from koinon.privacy.nets import functions
from koinon.privacy.rep4.simulation import SimulatedRep4

MOST_CLASSES = 20
"""Targets with more values than this are numbers, and are not stratified."""
LARGEST_COUNT = 512.0

INTRODUCTION = """# Accuracy beside scikit-learn

Made by `python benchmarks/accuracy.py --engine both --markdown docs/accuracy.md`. The same rows, the same split and the
same settings for both; a quarter of the rows is held out and was used for nothing but this table. *Koinon, clear*
computes with the fixed-point numbers of private computation on plain words; *Koinon, rep4* is the same computation by
four parties who see no row. The two differ by the rounding of last bits, which also decides between splits of a tree
that are equally good. Rounds and traffic are those of rep4, training and answering together. The convolutional and the
recurrent network stand beside the same network after the same steps from the same weights in JAX, in 32 bits, not
beside scikit-learn; the perceptron beside scikit-learn's, whose weights start elsewhere.

"""
MEASURED = """
## What measures and what prepares

Nothing is held out here: every number that a study opens, of the rows of three owners, is compared with that of plain
code on the same rows. The differences are the largest of all these numbers, in their own unit, beside the largest of
the numbers themselves. Cox regressions treat events of the same week by N. Breslow's method here and by B. Efron's in
lifelines, which is most of their difference; a number on the edge between two bins of a histogram may count in either.
Data: diabetes, breast cancer and wine as above, and arrests of released prisoners (`rossi`, from lifelines).

"""


@dataclass(frozen=True)
class Data:
    """Scaled rows, split: what owners share, and what scikit-learn is given in the clear."""

    train: np.ndarray
    test: np.ndarray
    target: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        loader: of scikit-learn's data set.
        top: the target's public range is ±top; codes and bits are shared as they are.
        ours: on (train, target, test) secret arrays; what it returns is opened.
        theirs: the same from scikit-learn.
        measure: of (what was opened, data) for either.
    """

    algorithm: str
    data: str
    loader: Callable[[], Any]
    top: float | None
    score: str
    ours: Callable[[SecretArray, SecretArray, SecretArray], SecretArray]
    theirs: Callable[[Data], np.ndarray]
    measure: Callable[[np.ndarray, Data], float]


@dataclass(frozen=True)
class Row:
    """What the first table shows."""

    algorithm: str
    data: str
    rows: int
    columns: int
    score: str
    koinon: float
    scikit_learn: float
    rounds: int
    traffic_mb: float
    engine: str
    cpu_seconds: float


@dataclass(frozen=True)
class Difference:
    """What the second table shows. Attributes: difference, largest: of all numbers that are opened, in their unit."""

    measure: str
    data: str
    rows: int
    columns: int
    beside: str
    largest: float
    difference: float
    rounds: int
    traffic_mb: float
    engine: str
    cpu_seconds: float


def r2(predicted: np.ndarray, data: Data) -> float:
    return float(metrics.r2_score(data.truth, predicted))


def accuracy(predicted: np.ndarray, data: Data) -> float:
    return float(metrics.accuracy_score(data.truth, predicted.round()))


def right_classes(likely: np.ndarray, data: Data) -> float:
    return float(metrics.accuracy_score(data.truth, likely.argmax(1)))


def log_loss(probabilities: np.ndarray, data: Data) -> float:
    whole = probabilities if probabilities.ndim == 2 else np.column_stack([1 - probabilities, probabilities])
    kept = np.clip(whole, 2.0**-12, 1)
    return float(metrics.log_loss(data.truth, kept / kept.sum(1, keepdims=True)))


def deviance(predicted: np.ndarray, data: Data) -> float:
    return float(metrics.d2_tweedie_score(data.truth, np.maximum(predicted, 1e-6), power=1))


def kept_variance(components: np.ndarray, data: Data) -> float:
    centred = data.test - data.train.mean(0)
    return float(((centred @ components.T) ** 2).sum() / (centred**2).sum())


def inertia(centres: np.ndarray, data: Data) -> float:
    distances = ((data.test[:, None, :] - centres[None]) ** 2).sum(2)
    return float(distances.min(1).mean())


def plain_logistic() -> Any:
    return linear_model.LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000)


def standard(data: Data) -> tuple[np.ndarray, np.ndarray]:
    spread = np.where(data.train.std(0) > 0, data.train.std(0), 1)
    return (data.train - data.train.mean(0)) / spread, (data.test - data.train.mean(0)) / spread


def on_standard(model: Any, answer: str = "predict") -> Callable[[Data], np.ndarray]:
    """A scikit-learn model fitted to standardised columns, as ours standardise in secret."""

    def fitted(data: Data) -> np.ndarray:
        train, test = standard(data)
        return np.asarray(getattr(model().fit(train, data.target), answer)(test))

    return fitted


def on_scaled(model: Any, answer: str = "predict") -> Callable[[Data], np.ndarray]:
    """A scikit-learn model fitted to the columns as the owners share them."""

    def fitted(data: Data) -> np.ndarray:
        return np.asarray(getattr(model().fit(data.train, data.target), answer)(data.test))

    return fitted


def starting_centres(data: Data, count: int) -> np.ndarray:
    return data.train[np.sort(np.random.default_rng(0).choice(len(data.train), count, replace=False))]


def plain_clusters(data: Data) -> np.ndarray:
    start = starting_centres(data, 10)
    return np.asarray(cluster.KMeans(10, init=start, n_init=1, max_iter=10, tol=0).fit(data.train).cluster_centers_)


CONVOLUTIONS = (Convolution((8, 8, 1), 8), Dense(72, 10))
SMALL_STEPS = Schedule(epochs=6, batch=32, rate=0.1)
GATES = (Gated(4, 16, 10), Dense(10, 10))
LARGE_STEPS = Schedule(epochs=6, batch=126, rate=0.5)
"""Few: every step of a sequence takes rounds forwards and back. Chosen on a quarter of the training rows."""
PERCEPTRON = Perceptron(hidden=8, epochs=10, batch=32, rate=0.1)


def plain_perceptron() -> Any:
    return neural_network.MLPClassifier(
        PERCEPTRON.hidden,
        solver="sgd",
        alpha=0.0,
        batch_size=PERCEPTRON.batch,
        learning_rate_init=PERCEPTRON.rate,
        max_iter=PERCEPTRON.epochs,
        momentum=0.9,
        nesterovs_momentum=False,
        random_state=0,
    )


def same_in_jax(data: Data, architecture: functions.Architecture, schedule: Schedule) -> np.ndarray:
    """Logits on the test rows after the same steps from the same weights, in 32 bits and with JAX's gradient."""

    def loss(weights: Any, x: np.ndarray, y: np.ndarray) -> Any:
        shares = jax.nn.log_softmax(architecture.forward(weights, x))
        return -shares[np.arange(len(x)), y].mean()

    slope, weights = jax.jit(jax.grad(loss)), architecture.start(schedule.seed)
    speeds = {name: np.zeros(each.shape) for name, each in weights.items()}
    for chosen in batches(len(data.train), schedule.batch, schedule.epochs, schedule.seed):
        slopes = slope(weights, data.train[chosen], data.target[chosen].astype(int))
        for name in weights:
            speeds[name] = 0.9 * speeds[name] - schedule.rate * np.asarray(slopes[name])
            weights[name] = weights[name] + speeds[name]
    return np.asarray(architecture.forward(weights, data.test))


CASES: list[Case] = [
    Case(
        "linear regression",
        "diabetes",
        datasets.load_diabetes,
        1.0,
        "R²",
        lambda x, y, t: LinearRegression().fit(x, y).predict(t),
        on_standard(linear_model.LinearRegression),
        r2,
    ),
    Case(
        "ridge regression, λ = 10",
        "diabetes",
        datasets.load_diabetes,
        1.0,
        "R²",
        lambda x, y, t: LinearRegression(10.0).fit(x, y).predict(t),
        on_standard(lambda: linear_model.Ridge(10.0)),
        r2,
    ),
    Case(
        "logistic regression",
        "breast cancer",
        datasets.load_breast_cancer,
        None,
        "log-loss",
        lambda x, y, t: LogisticRegression().fit(x, y > 0.5).predict_proba(t),
        on_standard(plain_logistic, "predict_proba"),
        log_loss,
    ),
    Case(
        "logistic regression",
        "breast cancer",
        datasets.load_breast_cancer,
        None,
        "accuracy",
        lambda x, y, t: LogisticRegression().fit(x, y > 0.5).predict(t),
        on_standard(plain_logistic),
        accuracy,
    ),
    Case(
        "multinomial regression",
        "wine",
        datasets.load_wine,
        None,
        "log-loss",
        lambda x, y, t: MultinomialRegression(3).fit(x, y).predict_proba(t),
        on_standard(plain_logistic, "predict_proba"),
        log_loss,
    ),
    Case(
        "Poisson regression, α = 1",
        "diabetes",
        datasets.load_diabetes,
        None,
        "D²",
        lambda x, y, t: PoissonRegression(LARGEST_COUNT, 1.0).fit(x, y).predict(t),
        on_standard(lambda: linear_model.PoissonRegressor(alpha=1.0, tol=1e-8, max_iter=1_000)),
        deviance,
    ),
    Case(
        "decision tree, depth 3",
        "wine",
        datasets.load_wine,
        None,
        "accuracy",
        lambda x, y, t: TreeClassifier(3, Shape(3)).fit(x, y).predict(t),
        on_scaled(lambda: tree.DecisionTreeClassifier(max_depth=3, random_state=0)),
        accuracy,
    ),
    Case(
        "regression tree, depth 3",
        "diabetes",
        datasets.load_diabetes,
        1.0,
        "R²",
        lambda x, y, t: TreeRegressor(Shape(3, smallest=5.0)).fit(x, y).predict(t),
        on_scaled(lambda: tree.DecisionTreeRegressor(max_depth=3, min_samples_leaf=5, random_state=0)),
        r2,
    ),
    Case(
        "random forest, 20 trees of depth 4",
        "breast cancer",
        datasets.load_breast_cancer,
        None,
        "log-loss",
        lambda x, y, t: ForestClassifier(2, 20, Shape(4)).fit(x, y > 0.5).predict_proba(t),
        on_scaled(lambda: ensemble.RandomForestClassifier(20, max_depth=4, random_state=0), "predict_proba"),
        log_loss,
    ),
    Case(
        "regression forest, 20 trees of depth 4",
        "diabetes",
        datasets.load_diabetes,
        1.0,
        "R²",
        lambda x, y, t: ForestRegressor(20, Shape(4, smallest=5.0)).fit(x, y).predict(t),
        on_scaled(
            lambda: ensemble.RandomForestRegressor(
                20, max_depth=4, min_samples_leaf=5, max_features=1 / 3, random_state=0
            )
        ),
        r2,
    ),
    Case(
        "boosted trees, 20 of depth 3",
        "breast cancer",
        datasets.load_breast_cancer,
        None,
        "log-loss",
        lambda x, y, t: BoostedClassifier(2, 20, 0.3, Shape(3)).fit(x, y > 0.5).predict_proba(t),
        on_scaled(
            lambda: ensemble.GradientBoostingClassifier(n_estimators=20, learning_rate=0.3, random_state=0),
            "predict_proba",
        ),
        log_loss,
    ),
    Case(
        "boosted regression trees, 20 of depth 3",
        "diabetes",
        datasets.load_diabetes,
        1.0,
        "R²",
        lambda x, y, t: BoostedRegressor(20, 0.1, Shape(3, smallest=5.0)).fit(x, y).predict(t),
        on_scaled(
            lambda: ensemble.GradientBoostingRegressor(
                n_estimators=20, learning_rate=0.1, min_samples_leaf=5, random_state=0
            )
        ),
        r2,
    ),
    Case(
        "5 nearest neighbours",
        "wine",
        datasets.load_wine,
        None,
        "accuracy",
        lambda x, y, t: NeighboursClassifier(3, 5).fit(x, y).predict(t),
        on_scaled(lambda: neighbors.KNeighborsClassifier(5)),
        accuracy,
    ),
    Case(
        "principal components, 3",
        "breast cancer",
        datasets.load_breast_cancer,
        None,
        "share of variance kept",
        lambda x, _y, _t: PrincipalComponents(3).fit(x).components,
        lambda data: np.asarray(decomposition.PCA(3).fit(data.train).components_),
        kept_variance,
    ),
    Case(
        "k-means, k = 10",
        "digits",
        datasets.load_digits,
        None,
        "mean squared distance",
        lambda x, _y, _t: KMeans(10).fit(x).centres,
        plain_clusters,
        inertia,
    ),
    Case(
        "naive Bayes",
        "wine",
        datasets.load_wine,
        None,
        "accuracy",
        lambda x, y, t: GaussianBayes(3).fit(x, y).predict(t),
        on_scaled(naive_bayes.GaussianNB),
        accuracy,
    ),
    Case(
        "perceptron, 8 hidden units",
        "breast cancer",
        datasets.load_breast_cancer,
        None,
        "log-loss",
        lambda x, y, t: PERCEPTRON.fit(x, y > 0.5).predict_proba(t),
        on_scaled(plain_perceptron, "predict_proba"),
        log_loss,
    ),
    Case(
        "convolutional network, 8 filters; beside it the same in JAX",
        "digits",
        datasets.load_digits,
        None,
        "accuracy",
        lambda x, y, t: LayeredNetwork(CONVOLUTIONS, SMALL_STEPS).fit(x, y).predict_proba(t),
        lambda data: same_in_jax(data, functions.convolutional((8, 8, 1), (8,), 10), SMALL_STEPS),
        right_classes,
    ),
    Case(
        "gated recurrent units, 4 steps of 16; beside them the same in JAX",
        "digits",
        datasets.load_digits,
        None,
        "accuracy",
        lambda x, y, t: LayeredNetwork(GATES, LARGE_STEPS).fit(x, y).predict_proba(t),
        lambda data: same_in_jax(data, functions.recurrent(4, 16, 10, 10), LARGE_STEPS),
        right_classes,
    ),
]


def prepared(case: Case) -> Data:
    """Split, then scale by the training rows' ranges."""
    features, target = case.loader(return_X_y=True)
    train, test, known, truth = model_selection.train_test_split(
        features,
        target,
        test_size=0.25,
        random_state=0,
        stratify=target if len(np.unique(target)) <= MOST_CLASSES else None,
    )
    low, high = train.min(0), train.max(0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 1e-9)
    if case.top is not None:
        centre, reach = (known.min() + known.max()) / 2, (known.max() - known.min()) / 2
        known, truth = (known - centre) / reach, (truth - centre) / reach
    return Data(np.clip((train - middle) / half, -1, 1), np.clip((test - middle) / half, -1, 1), known, truth)


def measured(case: Case, engine: Backend) -> Row:
    """Run one case. Raises what the engine raises."""
    data = prepared(case)
    width = data.train.shape[1]
    largest = case.top or max(float(np.abs(data.target).max()), 1.0)
    names = [*(f"x{number}" for number in range(width)), "target"]
    ranges = [(-1.0, 1.0)] * width + [(-largest, largest)]

    def rows(features: np.ndarray, target: np.ndarray) -> PlainInput:
        return table(np.column_stack([features, target]), names, ranges)

    def compute(train: SecretArray, test: SecretArray) -> Revealed:
        target = train[:, -1] if largest == 1.0 else train[:, -1].times(round(largest))
        return reveal(answer=case.ours(train[:, :-1], target, test[:, :-1]))

    inputs = [rows(data.train, data.target), rows(data.test, np.zeros(len(data.test)))]
    made = program("local/1", compute, [each.values.shape for each in inputs], inputs[0].columns, scaled=True)
    cost = estimate(made)
    start = time.process_time()
    found = run(compute, inputs, engine, scaled=True).outputs["answer"]
    seconds = time.process_time() - start
    return Row(
        case.algorithm,
        case.data,
        len(data.train),
        width,
        case.score,
        case.measure(found, data),
        case.measure(case.theirs(data), data),
        cost.rounds,
        cost.traffic_bytes / 1e6,
        engine.name,
        seconds,
    )


def difference(measure: Measure, engine: Backend) -> Difference:
    """Run one measure. Raises what the engine raises."""
    rows = measure.rows()
    made = measure.made(rows)
    cost = estimate(made.program)
    start = time.process_time()
    found = made.read(engine.run(made.program, made.inputs, SystemRng()).outputs)
    seconds = time.process_time() - start
    wanted = measure.theirs(rows)
    if found.shape != wanted.shape:
        raise AssertionError(f"{measure.what}: {found.shape} numbers stand beside {wanted.shape}")
    return Difference(
        measure.what,
        rows.name,
        *rows.values.shape,
        measure.beside,
        float(np.abs(wanted).max()),
        float(np.abs(found - wanted).max()),
        cost.rounds,
        cost.traffic_bytes / 1e6,
        engine.name,
        seconds,
    )


def markdown(rows: Sequence[Row], differences: Sequence[Difference]) -> str:
    """The page that ``docs/accuracy.md`` is, from rows of the engine clear and, where there are, of rep4."""
    head = (
        "| algorithm | data | training rows x columns | score on test rows | Koinon, clear | Koinon, rep4"
        " | scikit-learn | rounds | MB, all parties |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    private = {(r.algorithm, r.data, r.score): f"{r.koinon:.4f}" for r in rows if r.engine == SimulatedRep4().name}
    lines = [
        f"| {r.algorithm} | {r.data} | {r.rows} x {r.columns} | {r.score} | {r.koinon:.4f}"
        f" | {private.get((r.algorithm, r.data, r.score), '—')} | {r.scikit_learn:.4f}"
        f" | {r.rounds:,} | {r.traffic_mb:,.1f} |\n"
        for r in rows
        if r.engine == ClearBackend().name
    ]
    return INTRODUCTION + head + "".join(lines) + MEASURED + _measured(differences)


def _measured(found: Sequence[Difference]) -> str:
    head = (
        "| measure | data | rows x columns | beside | largest number | difference, clear | difference, rep4 | rounds"
        " | MB, all parties |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    private = {one.measure: f"{one.difference:.1e}" for one in found if one.engine == SimulatedRep4().name}
    lines = [
        f"| {one.measure} | {one.data} | {one.rows} x {one.columns} | {one.beside} | {one.largest:,.4g}"
        f" | {one.difference:.1e} | {private.get(one.measure, '—')} | {one.rounds:,} | {one.traffic_mb:,.1f} |\n"
        for one in found
        if one.engine == ClearBackend().name
    ]
    return head + "".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments.add_argument("--markdown", type=Path, help="write the table to this file")
    arguments.add_argument("--engine", choices=("rep4", "clear", "both"), default="rep4")
    arguments.add_argument("--only", default="", help="algorithms whose name contains this")
    chosen = arguments.parse_args()
    engines: dict[str, list[Backend]] = {"rep4": [SimulatedRep4()], "clear": [ClearBackend()]}
    engines["both"] = [*engines["clear"], *engines["rep4"]]
    rows: list[Row] = []
    differences: list[Difference] = []
    for engine in engines[chosen.engine]:
        for case in CASES:
            if chosen.only in case.algorithm:
                rows.append(measured(case, engine))
                tell(rows[-1], quiet=chosen.json)
        for measure in MEASURES:
            if chosen.only in measure.what:
                differences.append(difference(measure, engine))
                tell(differences[-1], quiet=chosen.json)
    if chosen.markdown:
        chosen.markdown.write_text(markdown(rows, differences), "utf-8")
    if chosen.json:
        print(json.dumps([asdict(row) for row in (*rows, *differences)], indent=2))


def tell(row: Row | Difference, *, quiet: bool) -> None:
    """A run of all takes minutes: each row is shown when it is there."""
    if not quiet:
        print(row, flush=True)


if __name__ == "__main__":
    main()
