"""What ``benchmarks/private.py`` measures: every job as shapes, data and a function on secret arrays.

Data are scikit-learn's own sets, or drawn from a fixed seed where a target asks for a size that no set there has.
Whatever a job opens is compared with scikit-learn's result on the same rows (``QUALITY``).
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final

import numpy as np

from koinon.crypto.signature import NodeKey
from koinon.privacy.arrays import SecretArray, concatenate, relu
from koinon.privacy.computation import Revealed, program, reveal
from koinon.privacy.learn.aggregated import joint_model, local_curvature
from koinon.privacy.learn.clusters import KMeans
from koinon.privacy.learn.linear import LinearRegression
from koinon.privacy.learn.moments import SUM_BITS, local_sums, summed
from koinon.privacy.learn.trees import BoostedClassifier, Shape
from koinon.privacy.programs import logistic_regression
from koinon.privacy.programs.logistic_regression import Parameters, to_raw_units
from koinon.privacy.rep4 import arithmetic, comparison, shuffling
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.machine import Rep4Machine
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import Shares, four
from koinon.privacy.secret import Product, Secret, aligned, joined
from koinon.privacy.sharing import Dealing, accept_package, deal
from koinon.wire.committee import POSITIONS, Column

Rounds = Generator[None, None, Any]
Jobs = dict[str, Callable[[], Rounds]]

SESSION: Final = bytes(32)
OWNERS: Final = 3
GRAM: Final = "XᵀX 20,000 × 100"
PRODUCT: Final = "matrix product 512³"
MLP: Final = "MLP 64-64-10, one answer"
CNN: Final = "CNN 28 × 28, one answer"
LOGISTIC: Final = "logistic regression 569 × 30"
LOGISTIC_SUMS: Final = "logistic regression 100,000 × 100, rows split"
LINEAR_SUMS: Final = "linear regression 100,000 × 100, rows split"
CLUSTERS: Final = "k-means, digits, k = 10, 10 iterations"
BOOSTING: Final = "boosted trees 10,000 × 20, 20 trees, depth 4"
ARRAYS: Final[dict[str, tuple[tuple[int, ...], Product | None, int | None]]] = {
    "product of 10⁶ numbers": ((1_000_000,), Product.ELEMENTWISE, None),
    "product of 10⁶ numbers, truncated": ((1_000_000,), Product.ELEMENTWISE, 20),
    GRAM: ((20_000, 100), Product.GRAM, 20),
    PRODUCT: ((512, 512), Product.MATRIX, 20),
    "signs of 10⁵ numbers": ((100_000,), None, None),
    "shuffle of 10⁵ numbers": ((100_000,), None, 0),
}
NAMES: Final = (*ARRAYS, MLP, CNN, LOGISTIC, LOGISTIC_SUMS, LINEAR_SUMS, CLUSTERS, BOOSTING)
LOGISTIC_STEPS: Final = 18
"""Enough to come within 0.02 of scikit-learn's log-loss on these rows, with some room; a study's default is 30."""

Sums = Mapping[str, list[np.ndarray]]
"""Of a job whose owners share sums: one row of each owner."""


def all_jobs(party: Party, sums: Sums) -> Jobs:
    """By name, what makes the job ready to run; ready inputs are not part of what is measured."""
    jobs: Jobs = {name: partial(_array_job, party, *settings) for name, settings in ARRAYS.items()}
    jobs[MLP] = partial(_answer, party, _mlp, MLP_SHAPE)
    jobs[CNN] = partial(_answer, party, _cnn, CNN_SHAPE)
    jobs[LOGISTIC] = partial(_regression_job, party)
    jobs[LOGISTIC_SUMS] = lambda: _program_job(party, _logistic_of_sums, sums[LOGISTIC_SUMS], SUM_BITS)
    jobs[LINEAR_SUMS] = lambda: _program_job(party, _line_of_sums, sums[LINEAR_SUMS], SUM_BITS)
    jobs[CLUSTERS] = lambda: _program_job(party, _clusters, [digits()], 20)
    jobs[BOOSTING] = lambda: _program_job(party, _boosted, np.array_split(labelled(*BOOSTING_SHAPE), OWNERS), 20)
    return jobs


def _array_job(party: Party, shape: tuple[int, ...], kind: Product | None, drop: int | None) -> Rounds:
    inputs = _random(party, shape)
    if kind is None:
        return comparison.negative(party, inputs) if drop is None else shuffling.shuffle(party, inputs)
    if drop is None:
        return arithmetic.multiply(party, inputs, inputs, kind)
    return arithmetic.multiply_truncate(party, inputs, inputs, kind, drop, None)


def _random(party: Party, shape: tuple[int, ...]) -> Shares:
    drawn = [party.draw(j, shape) for j in POSITIONS]
    return Shares(four([None if each is None else each >> np.uint64(50) for each in drawn]), shape)


def _program_job(
    party: Party, function: Callable[..., Revealed], tables: Sequence[np.ndarray], fraction_bits: int
) -> Rounds:
    """On tables of numbers in [−1, 1], shared as owners share them; every position deals alike and takes its own."""
    columns = [Column(f"c{number}", -1.0, 1.0) for number in range(tables[0].shape[1])]
    made = program("benchmark", function, [each.shape for each in tables], columns, fraction_bits, scaled=True)
    return _all_outputs(made.compute(machine := Rep4Machine(party), _dealt(machine, tables, columns, fraction_bits)))


def _dealt(
    machine: Rep4Machine, tables: Sequence[np.ndarray], columns: Sequence[Column], fraction_bits: int
) -> list[Secret]:
    # A public seed will do where nothing is secret.
    rng, dealing, secrets = SeededRng(SESSION), Dealing(SESSION, 0, bytes(32)), []
    for each in tables:
        manifest, packages = deal(each, tuple(columns), fraction_bits, dealing, NodeKey.generate(rng), rng)
        position = machine.party.position
        shares = accept_package(manifest, position, packages[position])
        secrets.append(Secret(machine, shares, fraction_bits, 1.0))
    return secrets


def _all_outputs(computation: Rounds) -> Generator[None, None, Secret]:
    outputs: Sequence[Secret] = yield from computation
    finest = outputs[0]
    for each in outputs[1:]:
        finest, _ = aligned(finest, each)
    flat = [each.widened(finest.fraction_bits - each.fraction_bits).reshape(-1) for each in outputs]
    return joined(flat, 0)


# One answer of a network whose weights are secret: inputs and weights in one vector of numbers in [−1, 1].

MLP_SHAPE = (64 + 64 * 64 + 64 + 64 * 10 + 10, 1)
CNN_SHAPE = (28 * 28 + 25 * 8 + 8 + 200 * 16 + 16 + 256 * 10 + 10, 1)


def _answer(party: Party, function: Callable[[SecretArray], Revealed], shape: tuple[int, int]) -> Rounds:
    network = program("network", function, [shape], [Column("numbers", -1.0, 1.0)])
    machine = Rep4Machine(party)
    return network.compute(machine, [Secret(machine, _random(party, shape), network.fraction_bits, 1.0)])


def _taken(numbers: SecretArray, *shapes: tuple[int, ...]) -> list[SecretArray]:
    flat, start, parts = numbers.ravel(), 0, []
    for shape in shapes:
        size = int(np.prod(shape))
        parts.append(flat[start : start + size].reshape(*shape))
        start += size
    return parts


def _mlp(numbers: SecretArray) -> Revealed:
    x, first, bias, second, shift = _taken(numbers, (1, 64), (64, 64), (64,), (64, 10), (10,))
    return reveal(answer=relu(x @ first + bias) @ second + shift)


def _cnn(numbers: SecretArray) -> Revealed:
    """Two convolutions 5 × 5 with stride 2 (8 and 16 channels), then a dense layer."""
    shapes = ((28, 28, 1), (25, 8), (8,), (200, 16), (16,), (256, 10), (10,))
    image, first, bias, second, shift, last, offset = _taken(numbers, *shapes)
    hidden = relu(_patches(image, 12) @ first + bias).reshape(12, 12, 8)
    features = relu(_patches(hidden, 4) @ second + shift)
    return reveal(answer=features.reshape(1, 256) @ last + offset)


def _patches(image: SecretArray, places: int) -> SecretArray:
    starts = 2 * np.arange(places)
    rows = (starts[:, None] + np.arange(5))[:, None, :, None]
    columns = (starts[:, None] + np.arange(5))[None, :, None, :]
    return image[rows, columns].reshape(places * places, -1)


# Logistic regression on shares as three owners deal them, with the program of studies.


def _cancer() -> tuple[np.ndarray, tuple[Column, ...]]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    tops = 2 * 10.0 ** np.ceil(np.log10(data.data.max(axis=0)))
    columns = (*(Column(f"c{i}", 0.0, float(top)) for i, top in enumerate(tops)), Column("target", 0.0, 1.0))
    return np.column_stack([data.data, data.target.astype(float)]), columns


def _regression_job(party: Party) -> Rounds:
    rows, columns = _cancer()
    parts = np.array_split(rows, OWNERS)
    parameters = Parameters(tuple(len(part) for part in parts), columns, iterations=LOGISTIC_STEPS)
    regression = logistic_regression.program(parameters)
    machine = Rep4Machine(party)
    return _all_outputs(regression.compute(machine, _dealt(machine, parts, columns, parameters.fraction_bits)))


def _cancer_quality(opened: np.ndarray) -> dict[str, float]:
    from sklearn.preprocessing import StandardScaler

    rows, columns = _cancer()
    slopes, bias = to_raw_units(opened[:-1], opened[-1], columns[:-1])
    standard = StandardScaler().fit_transform(rows[:, :-1])
    return _logistic_quality(rows[:, :-1] @ slopes + bias, standard, rows[:, -1])


def _logistic_quality(log_odds: np.ndarray, standard: np.ndarray, target: np.ndarray) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, roc_auc_score

    likely = LogisticRegression(max_iter=5000).fit(standard, target).predict_proba(standard)[:, 1]
    return {
        "log_loss": float(log_loss(target, 1 / (1 + np.exp(-log_odds)))),
        "log_loss_scikit_learn": float(log_loss(target, likely)),
        "area_under_curve": float(roc_auc_score(target, log_odds)),
    }


# Rows split by owner: one row of sums from each.

SUMS_SHAPE = (100_000, 100)
BOOSTING_SHAPE = (10_000, 20)


@cache
def labelled(count: int, width: int) -> np.ndarray:
    """(n, d + 1) rows in [−1, 1], the last column −1 or 1: likelier 1 by a line, a product and a threshold."""
    random = np.random.default_rng(5)
    rows = np.clip(random.normal(size=(count, width)) / 4, -1, 1)
    slopes = random.normal(size=width) * 4 / np.sqrt(width)
    log_odds = rows @ slopes + 12 * rows[:, 0] * rows[:, 1] + np.where(rows[:, 2] > 0.1, 1.0, -0.5)
    return np.column_stack([rows, np.where(random.uniform(size=count) < 1 / (1 + np.exp(-log_odds)), 1.0, -1.0)])


@cache
def _measured() -> np.ndarray:
    """(n, d + 1) rows in [−1, 1], the last column a noisy line of the others."""
    random = np.random.default_rng(6)
    rows = labelled(*SUMS_SHAPE)[:, :-1]
    line = rows @ random.normal(size=rows.shape[1]) / 10
    return np.column_stack([rows, np.clip(line + random.normal(size=len(rows)) / 10, -1, 1)])


def owners_sums(name: str) -> tuple[list[np.ndarray], float]:
    """What each owner shares, and the seconds of the slowest owner, who works on rows of its own."""
    rows = labelled(*SUMS_SHAPE) if name == LOGISTIC_SUMS else _measured()
    found, seconds = [], []
    for part in np.array_split(rows, OWNERS):
        began = time.perf_counter()
        if name == LOGISTIC_SUMS:
            found.append(local_curvature(part[:, :-1], (part[:, -1] > 0).astype(float), OWNERS).values)
        else:
            found.append(local_sums(part).values)
        seconds.append(time.perf_counter() - began)
    return found, max(seconds)


def _owners_rows() -> list[int]:
    return [len(part) for part in np.array_split(np.arange(SUMS_SHAPE[0]), OWNERS)]


def _logistic_of_sums(*sums: SecretArray) -> Revealed:
    model = joint_model(sums, _owners_rows())
    return reveal(coefficients=model.coefficients, intercept=model.intercept)


def _line_of_sums(*sums: SecretArray) -> Revealed:
    line = LinearRegression().fit_moments(summed(sums, _owners_rows()))
    return reveal(coefficients=line.coefficients, intercept=line.intercept)


def _sums_quality(opened: np.ndarray) -> dict[str, float]:
    rows = labelled(*SUMS_SHAPE)
    standard = (rows[:, :-1] - rows[:, :-1].mean(0)) / rows[:, :-1].std(0)
    return _logistic_quality(rows[:, :-1] @ opened[:-1] + opened[-1], standard, (rows[:, -1] > 0).astype(float))


def _line_quality(opened: np.ndarray) -> dict[str, float]:
    from sklearn.linear_model import LinearRegression as Line
    from sklearn.metrics import r2_score

    rows = _measured()
    plain = Line().fit(rows[:, :-1], rows[:, -1])
    return {
        "r2": float(r2_score(rows[:, -1], rows[:, :-1] @ opened[:-1] + opened[-1])),
        "r2_scikit_learn": float(plain.score(rows[:, :-1], rows[:, -1])),
        "largest_difference_of_slopes": float(np.abs(opened[:-1] - plain.coef_).max()),
    }


# Clusters and trees on secret rows.


def digits() -> np.ndarray:
    """(1797, 64) in [−1, 1]."""
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().data / 8 - 1)


def _clusters(rows: SecretArray) -> Revealed:
    return reveal(centres=KMeans(10, 10).fit(rows).centres)


def _clusters_quality(opened: np.ndarray) -> dict[str, float]:
    from sklearn.cluster import KMeans as Plain

    rows = digits()
    start = rows[np.sort(np.random.default_rng(0).choice(len(rows), 10, replace=False))]
    plain = Plain(10, init=start, n_init=1, max_iter=10, tol=0, algorithm="lloyd").fit(rows)

    def inertia(centres: np.ndarray) -> float:
        return float((((rows[:, None] - centres[None]) ** 2).sum(2)).min(1).sum())

    return {"inertia": inertia(opened.reshape(10, 64)), "inertia_scikit_learn": inertia(plain.cluster_centers_)}


TREES, DEPTH, RATE = 20, 4, 0.3


def _boosted(*tables: SecretArray) -> Revealed:
    rows = concatenate(tables)
    model = BoostedClassifier(2, TREES, RATE, Shape(DEPTH, 16)).fit(rows[:, :-1], rows[:, -1] > 0)
    parts = ("features", "thresholds", "leaves")
    opened = {part: concatenate([getattr(each, part) for each in model.trees]) for part in parts}
    return reveal(start=model.start, **opened)


def _boosted_quality(opened: np.ndarray) -> dict[str, float]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import log_loss

    rows, target = labelled(*BOOSTING_SHAPE)[:, :-1], labelled(*BOOSTING_SHAPE)[:, -1] > 0
    nodes, width = (1 << DEPTH) - 1, rows.shape[1]
    cuts = np.cumsum([1, TREES * nodes * width, TREES * nodes])
    start, features, thresholds, leaves = np.split(opened, cuts)
    columns = features.reshape(TREES, nodes, width).round()
    total = np.full(len(rows), start[0])
    for tree in range(TREES):
        left = rows @ columns[tree].T < thresholds.reshape(TREES, nodes)[tree]
        place = np.zeros(len(rows), int)
        for level in range(DEPTH):
            place = 2 * place + ~left[np.arange(len(rows)), (1 << level) - 1 + place]
        total += RATE * leaves.reshape(TREES, -1)[tree][place]
    plain = HistGradientBoostingClassifier(
        learning_rate=RATE, max_iter=TREES, max_depth=DEPTH, max_bins=16, min_samples_leaf=4, early_stopping=False
    ).fit(rows, target)
    return {
        "log_loss": float(log_loss(target, 1 / (1 + np.exp(-total)))),
        "log_loss_scikit_learn": float(log_loss(target, plain.predict_proba(rows)[:, 1])),
    }


QUALITY: Final[dict[str, Callable[[np.ndarray], dict[str, float]]]] = {
    LOGISTIC: _cancer_quality,
    LOGISTIC_SUMS: _sums_quality,
    LINEAR_SUMS: _line_quality,
    CLUSTERS: _clusters_quality,
    BOOSTING: _boosted_quality,
}
"""By job: what was opened → how good it is, beside scikit-learn on the same rows."""
