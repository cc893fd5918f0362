"""One table for every program that a study can name, and what plain code makes of the pooled rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from koinon.privacy.backend import PlainInput
from koinon.privacy.learn.networks import batches
from koinon.privacy.learn.perceptron import starting_weights
from koinon.privacy.programs.offer import Layout
from koinon.wire.committee import Column

ROWS = (17, 22, 12)
FEATURES = (Column("age", 0.0, 100.0), Column("dose", -5.0, 5.0), Column("size", 0.0, 1.0))


def features(seed: int = 5) -> np.ndarray:
    random = np.random.default_rng(seed)
    age = random.uniform(20, 90, sum(ROWS))
    dose = np.clip(age / 20 - 3 + random.normal(0, 1, sum(ROWS)), -5, 5)
    return np.column_stack([age, dose, random.beta(2, 5, sum(ROWS))])


def ill() -> np.ndarray:
    rows = features()
    chance = 1 / (1 + np.exp(-(rows[:, 1] + 2 * rows[:, 2])))
    return (np.random.default_rng(6).random(len(rows)) < chance).astype(np.float64)


@dataclass(frozen=True)
class Scene:
    """One program on one table.

    Attributes:
        target: its column, if it predicts one; it is the last of the table.
        settings: as people write them.
        wanted: name of each result table → what plain code makes of the pooled rows, and how far it may be off.
        reading: result tables and rows → what is compared; where several results are as good, what they have in common.
    """

    program: str
    columns: tuple[Column, ...]
    rows: np.ndarray
    target: str
    settings: Mapping[str, object]
    wanted: Callable[[np.ndarray], Mapping[str, tuple[np.ndarray, float]]]
    reading: Callable[[Mapping[str, np.ndarray], np.ndarray], Mapping[str, np.ndarray]] = lambda found, _: found


def plain_statistics(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from scipy.stats import pearsonr

    edges = [np.linspace(column.low, column.high, 6) for column in FEATURES]
    counts = np.array([np.histogram(rows[:, number], edges[number])[0] for number in range(3)])
    # None of these counts is from 1 to 2, so that nothing is hidden.
    assert not ((counts > 0) & (counts < 3)).any()
    return {
        "mean": (rows.mean(0).reshape(-1, 1), 1e-3),
        "variance": (rows.var(0, ddof=1).reshape(-1, 1), 1e-1),
        "correlation": (np.corrcoef(rows.T), 1e-3),
        "correlation p": (np.array([[pearsonr(one, two).pvalue for two in rows.T] for one in rows.T]), 3e-3),
        "quantiles": (np.quantile(rows, [0.2, 0.5, 0.75], 0).T, 1e-3),
        "histogram": (counts.astype(float), 0.0),
    }


def plain_logistic(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.linear_model import LogisticRegression

    table, target = rows[:, :-1], rows[:, -1]
    mean, spread = table.mean(0), table.std(0)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit((table - mean) / spread, target)
    slopes = model.coef_[0] / spread
    return {
        "coefficients": (slopes.reshape(-1, 1), 2e-2),
        "intercept": (np.array([[model.intercept_[0] - slopes @ mean]]), 5e-2),
    }


def plain_line(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.linear_model import Ridge

    table, target = rows[:, [0, 2]], rows[:, 1]
    mean, spread = table.mean(0), table.std(0)
    model = Ridge(2.0).fit((table - mean) / spread, target)
    slopes = model.coef_ / spread
    return {
        "coefficients": (slopes.reshape(-1, 1), 1e-2),
        "intercept": (np.array([[model.intercept_ - slopes @ mean]]), 3e-2),
        "score": (np.array([[model.score((table - mean) / spread, target)]]), 3e-3),
    }


def scaled(rows: np.ndarray) -> np.ndarray:
    low = np.array([column.low for column in FEATURES])
    high = np.array([column.high for column in FEATURES])
    return np.asarray(2 * (rows - low) / (high - low) - 1)


def plain_groups(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    points = scaled(rows)
    centres = points[np.sort(np.random.default_rng(1).choice(len(points), 3, replace=False))]
    for _ in range(6):
        nearest = ((points[:, None] - centres) ** 2).sum(2).argmin(1)
        centres = np.array([points[nearest == number].mean(0) for number in range(3)])
    sizes = np.bincount(nearest, minlength=3).astype(float)
    assert sizes.min() >= 5
    in_units = np.array([rows[nearest == number].mean(0) for number in range(3)])
    return {"centres": (in_units, 1e-2), "sizes": (sizes.reshape(-1, 1), 0.0)}


def plain_bayes(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    parts = [rows[rows[:, -1] == code, :-1] for code in (0, 1)]
    half = np.array([(column.high - column.low) / 2 for column in FEATURES])
    return {
        "priors": (np.array([[len(part) / len(rows)] for part in parts]), 1e-4),
        "means": (np.array([part.mean(0) for part in parts]), 1e-2),
        "variances": (np.array([part.var(0) for part in parts]) + 1e-4 * half**2, 3e-1),
    }


def plain_components(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.decomposition import PCA

    model = PCA(2).fit(scaled(rows))
    signs = np.sign(model.components_[range(2), np.abs(model.components_).argmax(1)])
    return {
        "components": (model.components_ * signs[:, None], 2e-2),
        "explained": (model.explained_variance_ratio_.reshape(-1, 1), 1e-2),
    }


# ------------------------------------------------------------------------------------------------------------- trees


def kinds() -> np.ndarray:
    rows = features()
    return np.digitize(rows[:, 1] + np.random.default_rng(8).normal(0, 0.7, len(rows)), [-0.7, 0.7]).astype(np.float64)


def visits() -> np.ndarray:
    mean = np.exp(0.4 + 0.2 * features()[:, 1])
    return np.clip(np.random.default_rng(7).poisson(mean), 0, 12).astype(np.float64)


def plain_tree(
    points: np.ndarray, weights: np.ndarray, targets: np.ndarray, bins: int, depth: int, least: float, looks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The greedy weighted tree by recursion; splits lie at quantiles. ``looks``: the columns of each inner node."""
    inner, last = (1 << depth) - 1, len(points)
    ordered = np.sort(points, 0)
    above = np.unique(np.clip(np.round(np.arange(1, bins) * last / bins), 1, last - 1).astype(int))
    middles = (ordered[above] + ordered[above - 1]) / 2
    columns, thresholds, leaves = np.zeros(inner), np.zeros(inner), np.zeros(inner + 1)

    def grow(place: int, inside: np.ndarray) -> None:
        heavy = weights * inside
        mean = (heavy @ targets) / heavy.sum() if heavy.sum() else 0.0
        if place >= inner:
            leaves[place - inner] = mean
            return
        found: list[tuple[float, int, float, np.ndarray]] = []
        for column in looks[place]:
            for threshold in middles[:, column]:
                left = points[:, column] < threshold
                sides = [heavy * left, heavy * ~left]
                sums = [side.sum() for side in sides]
                if min(sums) < least:
                    continue
                means = [side @ targets / total for side, total in zip(sides, sums, strict=True)]
                gain = sums[0] * sums[1] / heavy.sum() ** 2 * (means[0] - means[1]) ** 2
                found.append((gain, column, threshold, left))
        found.sort(key=lambda each: -each[0])
        if not found or found[0][0] < 1e-3:
            grow(2 * place + 1, inside)
            return
        # Of equally good splits a program may choose any, so all of them must part the node's rows alike.
        inner_rows = heavy > 0
        good = [each for each in found if each[0] > found[0][0] * (1 - 1e-4)]
        assert all((each[3] == good[0][3])[inner_rows].all() and each[1] == good[0][1] for each in good)
        _, column, thresholds[place], left = found[0]
        columns[place] = column + 1
        grow(2 * place + 1, inside & left)
        grow(2 * place + 2, inside & ~left)

    grow(0, np.ones(len(points), bool))
    return columns, thresholds, leaves


def as_tables(
    trees: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], error: float
) -> dict[str, tuple[np.ndarray, float]]:
    columns, _, leaves = (np.array(parts) for parts in zip(*trees, strict=True))
    return {"columns": (columns, 0.0), "leaves": (leaves, error)}


def without_thresholds(found: Mapping[str, np.ndarray], _: np.ndarray) -> Mapping[str, np.ndarray]:
    """Leaves and columns say which rows were parted; several thresholds part them alike."""
    return {name: values for name, values in found.items() if name != "thresholds"}


def answers(found: Mapping[str, np.ndarray], rows: np.ndarray, features: Sequence[int]) -> Mapping[str, np.ndarray]:
    """What added trees say of every row: scikit-learn takes other thresholds between the same rows."""
    trees = zip(found["columns"], found["thresholds"], found["leaves"], strict=True)
    total = sum(fallen(rows[:, features], tree) for tree in trees)
    return {"answers": total + found.get("start", np.zeros((1, 1)))[0, 0]}


def plain_decision_tree(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.tree import DecisionTreeClassifier

    table, target = rows[:, :-1], rows[:, -1]
    model = DecisionTreeClassifier(max_depth=2, min_samples_leaf=5, random_state=0).fit(table, target)
    return {"answers": (model.predict_proba(table)[:, 1], 1e-3)}


def plain_number_tree(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.tree import DecisionTreeRegressor

    table, target = rows[:, [0, 2]], rows[:, 1]
    model = DecisionTreeRegressor(max_depth=2, min_samples_leaf=5, random_state=0).fit(table, target)
    return {"answers": (model.predict(table), 1e-3)}


def plain_boosted_numbers(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.ensemble import GradientBoostingRegressor

    table, target = rows[:, [0, 2]], rows[:, 1]
    model = GradientBoostingRegressor(
        n_estimators=3, learning_rate=0.5, max_depth=2, min_samples_leaf=5, random_state=0
    )
    return {"answers": (model.fit(table, target).predict(table), 2e-3)}


def plain_boosting(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    table, target = rows[:, :-1], rows[:, -1]
    start = np.log(target.mean() / (1 - target.mean()))
    sums, trees, looks = np.full(len(rows), start), [], np.tile(np.arange(3), (3, 1))
    for _ in range(2):
        likely = 1 / (1 + np.exp(-sums))
        weights = np.clip(likely * (1 - likely), 2.0**-6, 0.26)
        tree = plain_tree(table, weights, (target - likely) / weights, 10, 2, 0.26 * 5, looks)
        trees.append((*tree[:2], 0.3 * tree[2]))
        sums = sums + fallen(table, trees[-1])
    return as_tables(trees, 3e-3) | {"start": (np.array([[start]]), 1e-3)}


def fallen(table: np.ndarray, tree: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """The leaf of every row."""
    columns, thresholds, leaves = tree
    found = []
    for row in table:
        place = 0
        while place < len(columns):
            column = int(columns[place])
            place = 2 * place + (1 if not column or row[column - 1] < thresholds[place] else 2)
        found.append(leaves[place - len(columns)])
    return np.array(found)


def plain_forest(table: np.ndarray, target: np.ndarray, count: int, looked: int) -> list[Any]:
    """The public draws of the program, and greedy trees on them."""
    random, people = np.random.default_rng(3), len(table)
    chosen = random.random((count, people)).argsort(-1) < round(0.632 * people)
    looks = np.sort(random.random((count, 3, table.shape[1])).argsort(-1)[..., :looked], -1)
    return [
        plain_tree(table, one.astype(float), target, 8, 2, 5, look) for one, look in zip(chosen, looks, strict=True)
    ]


def plain_share_forest(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    return as_tables(plain_forest(rows[:, :-1], rows[:, -1], 4, 2), 1e-3)


def plain_mean_forest(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    return as_tables(plain_forest(rows[:, [0, 2]], rows[:, 1], 4, 1), 1e-2)


# ------------------------------------------------------------------------------------- counts, classes and durations


def plain_counts(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.linear_model import PoissonRegressor

    table, target = rows[:, :-1], rows[:, -1]
    mean, spread = table.mean(0), table.std(0)
    model = PoissonRegressor(alpha=0.1, tol=1e-10, max_iter=1000).fit((table - mean) / spread, target)
    slopes = model.coef_ / spread
    return {
        "coefficients": (slopes.reshape(-1, 1), 3e-2),
        "intercept": (np.array([[model.intercept_ - slopes @ mean]]), 6e-2),
        "score": (np.array([[model.score((table - mean) / spread, target)]]), 2e-2),
    }


def plain_classes(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.linear_model import LogisticRegression

    table, target = rows[:, :-1], rows[:, -1]
    mean, spread = table.mean(0), table.std(0)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit((table - mean) / spread, target)
    slopes = model.coef_.T / spread[:, None]
    return {
        "coefficients": (slopes, 2e-2),
        "intercepts": ((model.intercept_ - mean @ slopes).reshape(1, -1), 6e-2),
        "score": (np.array([[model.score((table - mean) / spread, target)]]), 1e-3),
    }


TIMES = (30.0, 45.0, 60.0, 75.0, 90.0)


def plain_survival(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    share, shares, counts, before = 1.0, [], [], -np.inf
    for time in TIMES:
        present = (rows[:, 0] > before).sum()
        share *= 1 - ((rows[:, 0] > before) & (rows[:, 0] <= time) & (rows[:, -1] == 1)).sum() / present
        shares.append([share if present >= 15 else 0.0])
        counts.append([present if present >= 15 else 0])
        before = time
    # The scene would not show that few are hidden if nobody were.
    assert counts[-1] == [0]
    assert counts[-2] != [0]
    return {"survivors": (np.array(shares), 1e-3), "present": (np.array(counts, float), 0.0)}


def plain_hazards(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    """Newton's method on the partial likelihood with Breslow's ties, in float64."""
    from scipy.stats import norm

    lives, table, seen = rows[:, 0], rows[:, 1:3], rows[:, 3] == 1
    befores = (-np.inf, *TIMES[:-1])
    weights = np.zeros(2)
    for _ in range(30):
        slope, curvature = np.zeros(2), np.zeros((2, 2))
        for before, time in zip(befores, TIMES, strict=True):
            there = table[lives > before]
            events = table[(lives > before) & (lives <= time) & seen]
            risk = np.exp(there @ weights)
            mean = risk @ there / risk.sum()
            slope += (events - mean).sum(0)
            curvature += len(events) * ((there.T * risk) @ there / risk.sum() - np.outer(mean, mean))
        weights = weights + np.linalg.solve(curvature, slope)
    hazard = table @ weights
    pairs = (lives[:, None] < lives) & seen[:, None]
    right = (pairs & (hazard[:, None] > hazard)).sum() / pairs.sum()
    errors = np.sqrt(np.linalg.inv(curvature).diagonal())
    likely = 2 * norm.sf(np.abs(weights / errors))
    return {
        "coefficients": (np.column_stack([weights, np.exp(weights), errors, likely]), 4e-2),
        "information": (curvature, 0.5),
        "concordance": (np.array([[right]]), 2e-2),
    }


# -------------------------------------------------------------------------------------- networks, neighbours, tables


def plain_perceptron(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    """The same steps in float64."""
    table, target = scaled(rows[:, :-1]), rows[:, -1:]
    weights = starting_weights(3, 4, 2)
    speeds = [np.zeros(each.shape) for each in weights]
    for chosen in batches(len(rows), 17, 4, 2):
        x, y = table[chosen], target[chosen]
        level = x @ weights[0] + weights[1]
        active = np.maximum(level, 0)
        error = (1 / (1 + np.exp(-(active @ weights[2] + weights[3]))) - y) / len(x)
        back = (error * weights[2].T) * (level > 0)
        slopes = [x.T @ back, back.sum(0), active.T @ error, error.sum(0)]
        speeds = [0.9 * speed - 0.5 * slope for speed, slope in zip(speeds, slopes, strict=True)]
        weights = [each + speed for each, speed in zip(weights, speeds, strict=True)]
    names = ("hidden", "hidden_bias", "output", "output_bias")
    return {name: (np.atleast_2d(each), 5e-3) for name, each in zip(names, weights, strict=True)}


IMAGE, LENGTH = (4, 5, 1), 3
PIXELS = tuple(Column(f"pixel {number}", 0.0, 16.0) for number in range(20))
STEPS = tuple(Column(f"step {number}", -2.0, 2.0) for number in range(2 * LENGTH))


def images() -> np.ndarray:
    """Noise around one of three bars, and which."""
    random = np.random.default_rng(9)
    codes = random.integers(0, 3, sum(ROWS))
    bars = np.zeros((3, 4, 5))
    bars[0, 1], bars[1, :, 2], bars[2, 3, 3:] = 1, 1, 1
    pixels = np.clip(bars[codes].reshape(-1, 20) * 12 + random.uniform(0, 4, (sum(ROWS), 20)), 0, 16)
    return np.column_stack([pixels, codes])


def sequences() -> np.ndarray:
    """Numbers, and a product of the first and the last step's."""
    steps = np.random.default_rng(10).uniform(-2, 2, (sum(ROWS), 2 * LENGTH))
    return np.column_stack([steps, steps[:, 0] * steps[:, -1] / 2])


def descended(architecture: Any, table: np.ndarray, truth: np.ndarray, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of one of the house's JAX networks after the same steps, with JAX's gradient."""
    import jax

    def loss(weights: Any, x: np.ndarray, y: np.ndarray) -> Any:
        levels = architecture.forward(weights, x)
        if architecture.outputs == 1:
            return ((levels[:, 0] - y) ** 2).sum() / 2 / len(x)
        return -jax.nn.log_softmax(levels)[np.arange(len(x)), y.astype(int)].sum() / len(x)

    slope = jax.jit(jax.grad(loss))
    weights = architecture.start(settings["seed"])
    speeds = {name: np.zeros(each.shape) for name, each in weights.items()}
    for chosen in batches(len(table), settings["batch"], settings["epochs"], settings["seed"]):
        slopes = slope(weights, table[chosen], truth[chosen])
        for name in weights:
            speeds[name] = 0.9 * speeds[name] - settings["rate"] * np.asarray(slopes[name])
            weights[name] = weights[name] + speeds[name]
    return weights


CONVOLUTIONS = {"image": IMAGE, "filters": (3,), "window": 2, "epochs": 3, "batch": 17, "rate": 0.3, "seed": 4}
RECURRENT = {
    "predicts": "number",
    "length": LENGTH,
    "units": 3,
    "epochs": 3,
    "batch": 17,
    "rate": 0.3,
    "seed": 5,
}


def plain_convolutions(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from koinon.privacy.nets.functions import convolutional

    found = descended(convolutional(IMAGE, (3,), 3, window=2), rows[:, :-1] / 8 - 1, rows[:, -1], CONVOLUTIONS)
    named = {
        "filters 1": found["filters 0"].reshape(4, 3),
        "filters 1 bias": found["bias 0"],
        "layer 1": found["dense"],
        "layer 1 bias": found["bias"],
    }
    return {name: (np.atleast_2d(each), 5e-3) for name, each in named.items()}


def plain_recurrence(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from koinon.privacy.nets.functions import recurrent

    found = descended(recurrent(LENGTH, 2, 3, 1), rows[:, :-1] / 2, rows[:, -1] / 2, RECURRENT)
    named = {
        "gates": found["gates"],
        "gates bias": found["gate bias"],
        "state": found["state"],
        "state bias": found["state bias"],
        "layer 1": found["dense"],
        "layer 1 bias": found["bias"],
    }
    return {name: (np.atleast_2d(each), 5e-3) for name, each in named.items()}


ASKED = ((30.0, -2.0, 0.2), (80.0, 1.0, 0.4))


def plain_neighbours(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(7).fit(scaled(rows[:, :-1]), rows[:, -1])
    return {"shares": (model.predict_proba(scaled(np.array(ASKED)))[:, 1:], 1e-4)}


def sites() -> np.ndarray:
    return np.digitize(features()[:, 0], [40, 65]).astype(np.float64)


def plain_pairs(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from scipy.stats import chi2_contingency

    counts = np.array([[((rows[:, 1] == a) & (rows[:, 2] == b)).sum() for b in range(3)] for a in range(3)], float)
    test = chi2_contingency(counts, correction=False)
    # Some counts are hidden, and together they are enough people not to be found by subtraction.
    few = counts < 4
    assert few.any()
    assert counts[few].sum() >= 4
    return {
        "counts": (np.where(few, 0, counts), 0.0),
        "chi_square": (np.array([[test.statistic, test.dof, test.pvalue]]), 2e-2),
    }


def plain_groups_of_two(rows: np.ndarray) -> Mapping[str, tuple[np.ndarray, float]]:
    from scipy.stats import ttest_ind

    parts = [rows[rows[:, -1] == code, :-1] for code in (0, 1)]
    test = ttest_ind(parts[1], parts[0], equal_var=False)
    return {
        "counts": (np.array([[len(part)] for part in parts], float), 0.0),
        "means": (np.array([part.mean(0) for part in parts]), 1e-3),
        "variances": (np.array([part.var(0, ddof=1) for part in parts]), 5e-2),
        "test": (np.column_stack([test.statistic, test.df, test.pvalue]), 1e-2),
    }


SCENES = (
    Scene(
        "statistics/1",
        FEATURES,
        features(),
        "",
        {"bins": 5, "minimum_group": 3, "quantiles": [0.2, 0.5, 0.75]},
        plain_statistics,
    ),
    Scene(
        "logistic-regression/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {},
        plain_logistic,
    ),
    Scene("linear-regression/1", FEATURES, features(), "dose", {"penalty": 2.0}, plain_line),
    Scene("k-means/1", FEATURES, features(), "", {"clusters": 3, "iterations": 6, "seed": 1}, plain_groups),
    Scene(
        "naive-bayes/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {},
        plain_bayes,
    ),
    Scene("principal-components/1", FEATURES, features(), "", {}, plain_components),
    Scene(
        "decision-tree/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {"depth": 2, "bins": 64},
        plain_decision_tree,
        lambda found, rows: answers(found, rows, [0, 1, 2]),
    ),
    Scene(
        "regression-tree/1",
        FEATURES,
        features(),
        "dose",
        {"depth": 2, "bins": 64},
        plain_number_tree,
        lambda found, rows: answers(found, rows, [0, 2]),
    ),
    Scene(
        "gradient-boosting/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {"depth": 2, "bins": 10, "trees": 2},
        plain_boosting,
        without_thresholds,
    ),
    Scene(
        "boosted-regression/1",
        FEATURES,
        features(),
        "dose",
        {"depth": 2, "bins": 64, "trees": 3, "rate": 0.5},
        plain_boosted_numbers,
        lambda found, rows: answers(found, rows, [0, 2]),
    ),
    Scene(
        "random-forest/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {"depth": 2, "bins": 8, "trees": 4, "seed": 3},
        plain_share_forest,
        without_thresholds,
    ),
    Scene(
        "regression-forest/1",
        FEATURES,
        features(),
        "dose",
        {"depth": 2, "bins": 8, "trees": 4, "seed": 3},
        plain_mean_forest,
        without_thresholds,
    ),
    Scene(
        "poisson-regression/1",
        (*FEATURES, Column("visits", 0.0, 12.0)),
        np.column_stack([features(), visits()]),
        "visits",
        {"penalty": 0.1, "iterations": 5},
        plain_counts,
    ),
    Scene(
        "multinomial-regression/1",
        (*FEATURES, Column("kind", 0.0, 2.0)),
        np.column_stack([features(), kinds()]),
        "kind",
        {},
        plain_classes,
    ),
    Scene(
        "kaplan-meier/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {"duration": "age", "times": list(TIMES), "minimum_group": 15},
        plain_survival,
    ),
    Scene(
        "cox-regression/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {"duration": "age", "times": list(TIMES), "iterations": 5},
        plain_hazards,
    ),
    Scene(
        "perceptron/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {"hidden": 4, "epochs": 4, "batch": 17, "rate": 0.5, "seed": 2},
        plain_perceptron,
    ),
    Scene(
        "convolutional-network/1",
        (*PIXELS, Column("shape", 0.0, 2.0)),
        images(),
        "shape",
        CONVOLUTIONS,
        plain_convolutions,
    ),
    Scene(
        "recurrent-network/1",
        (*STEPS, Column("product", -2.0, 2.0)),
        sequences(),
        "product",
        RECURRENT,
        plain_recurrence,
    ),
    Scene(
        "nearest-neighbours/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {"asked": ASKED, "neighbours": 7},
        plain_neighbours,
    ),
    Scene(
        "contingency/1",
        (FEATURES[0], Column("site", 0.0, 2.0), Column("kind", 0.0, 2.0)),
        np.column_stack([features()[:, 0], sites(), kinds()]),
        "",
        {"first": "site", "second": "kind", "minimum_group": 4},
        plain_pairs,
    ),
    Scene(
        "comparison/1",
        (*FEATURES, Column("ill", 0.0, 1.0)),
        np.column_stack([features(), ill()]),
        "ill",
        {},
        plain_groups_of_two,
    ),
)


def layout_of(scene: Scene, *, by_columns: bool) -> Layout:
    if not by_columns:
        return Layout(ROWS, scene.columns, scene.target)
    # The owners' columns are neither in order nor equally many.
    last = len(scene.columns) - 1
    sources = ((last, 0), tuple(range(1, last)))
    return Layout((sum(ROWS),) * 2, scene.columns, scene.target, sources)


def inputs_of(scene: Scene, layout: Layout) -> list[PlainInput]:
    if layout.sources:
        held = [list(source) for source in layout.sources]
        return [PlainInput(tuple(scene.columns[n] for n in own), scene.rows[:, own]) for own in held]
    return [PlainInput(scene.columns, part) for part in np.split(scene.rows, np.cumsum(ROWS)[:-1])]
