"""Moments from owners' sums, components, neighbours, counts and survival: against scikit-learn, SciPy and NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression as PlainLine
from sklearn.linear_model import PoissonRegressor
from sklearn.linear_model import Ridge as PlainRidge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, program, reveal, run, table
from koinon.privacy.estimate import estimate
from koinon.privacy.learn.bayes import GaussianBayes, local_class_sums
from koinon.privacy.learn.clusters import KMeans
from koinon.privacy.learn.components import PrincipalComponents
from koinon.privacy.learn.linear import LinearRegression
from koinon.privacy.learn.moments import SUM_BITS, local_sums, moments, summed, welch
from koinon.privacy.learn.neighbours import NeighboursClassifier, NeighboursRegressor
from koinon.privacy.learn.newton import newton_step
from koinon.privacy.learn.poisson import PoissonRegression
from koinon.privacy.learn.survival import CoxRegression
from koinon.privacy.learn.trees import TreeRegressor
from koinon.privacy.rep4.simulation import SimulatedRep4

ENGINES: list[Backend] = [ClearBackend(), SimulatedRep4()]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)


def scaled(rows: np.ndarray) -> np.ndarray:
    low, high = rows.min(0), np.maximum(rows.max(0), rows.min(0) + 1e-3)
    return np.clip((rows - (low + high) / 2) / ((high - low) / 2), -1, 1)


def unit(rows: np.ndarray) -> PlainInput:
    return table(rows, [f"x{n}" for n in range(rows.shape[1])], [(-1.0, 1.0)] * rows.shape[1])


def diabetes() -> np.ndarray:
    features, target = load_diabetes(return_X_y=True)
    return scaled(np.column_stack([features, target]))


@each_engine
def test_owners_sums_are_enough_for_lines_and_correlations(engine: Backend) -> None:
    rows = diabetes()[:, [0, 2, 3, 10]]
    owners = [local_sums(part) for part in np.array_split(rows, [100, 300])]

    def fit(*sums: SecretArray) -> Revealed:
        known = summed(sums, [100, 200, len(rows) - 300])
        line, ridge = LinearRegression().fit_moments(known), LinearRegression(20.0).fit_moments(known)
        return reveal(
            slopes=line.coefficients,
            intercept=line.intercept,
            ridge=ridge.coefficients,
            correlation=known.correlation(),
        )

    found = run(fit, owners, engine, SUM_BITS, scaled=True).outputs
    plain = PlainLine().fit(rows[:, :-1], rows[:, -1])
    spread = rows[:, :-1].std(0)
    shrunk = PlainRidge(20.0).fit((rows[:, :-1] - rows[:, :-1].mean(0)) / spread, rows[:, -1])
    assert np.abs(found["slopes"] - plain.coef_).max() < 2e-4
    assert abs(found["intercept"] - plain.intercept_) < 2e-4
    assert np.abs(found["ridge"] - shrunk.coef_ / spread).max() < 2e-4
    assert np.abs(found["correlation"] - np.corrcoef(rows.T)).max() < 1e-4


@each_engine
def test_owners_sums_are_enough_for_bayes_and_t_tests(engine: Backend) -> None:
    features, codes = load_iris(return_X_y=True)
    rows = scaled(features)
    order = np.random.default_rng(0).permutation(150)
    parts = np.split(order, [60])
    classes = [local_class_sums(rows[part], codes[part], 3) for part in parts]
    found = run(
        lambda *sums: reveal(**vars(GaussianBayes(3).fit_sums(sums, [60, 90]))), classes, engine, SUM_BITS, scaled=True
    ).outputs
    plain = GaussianNB(var_smoothing=0.0).fit(rows, codes)
    assert np.abs(found["priors"] - plain.class_prior_).max() < 1e-5
    assert np.abs(found["means"] - plain.theta_).max() < 1e-5
    assert np.abs(found["variances"] - 1e-4 - plain.var_).max() < 1e-5

    def compare(one: SecretArray, two: SecretArray) -> Revealed:
        test = welch(summed([one], [80]), summed([two], [70]))
        assert isinstance(test.freedom, SecretArray)
        return reveal(t=test.statistic, freedom=test.freedom)

    groups = rows[order[:80]], rows[order[80:]]
    test = run(compare, [local_sums(group) for group in groups], engine, SUM_BITS, scaled=True).outputs
    want = stats.ttest_ind(*groups, equal_var=False)
    assert np.abs(test["t"] - want.statistic).max() < 1e-3
    assert np.abs(test["freedom"] / want.df - 1).max() < 1e-3


def test_the_cost_of_sums_does_not_depend_on_the_number_of_people() -> None:
    random = np.random.default_rng(0)

    def cost(people: int) -> object:
        sums = local_sums(random.uniform(-1, 1, (people, 5)))

        def fit(one: SecretArray, two: SecretArray) -> Revealed:
            return reveal(slopes=LinearRegression().fit_moments(summed([one, two], [people] * 2)).coefficients)

        return estimate(program("local/1", fit, [sums.values.shape] * 2, sums.columns, SUM_BITS, scaled=True))

    assert cost(100) == cost(50_000)


@each_engine
def test_components_are_scikit_learns(engine: Backend) -> None:
    rows = diabetes()[:120, :4]

    def fit(x: SecretArray) -> Revealed:
        found = PrincipalComponents(2, 7).fit(x)
        return reveal(
            components=found.components, variances=found.variances, share=found.explained(), at=found.transform(x[:4])
        )

    found = run(fit, [unit(rows)], engine, scaled=True).outputs
    plain = PCA(2).fit(rows)
    assert np.abs(found["components"] - plain.components_).max() < 1e-3
    assert np.abs(found["variances"] / (plain.explained_variance_ * 119 / 120) - 1).max() < 1e-4
    assert np.abs(found["share"] - plain.explained_variance_ratio_).max() < 1e-4
    assert np.abs(found["at"] - plain.transform(rows[:4])).max() < 2e-3


@each_engine
def test_neighbours_are_scikit_learns(engine: Backend) -> None:
    features, target = load_iris(return_X_y=True)
    rows = np.column_stack([scaled(features), target / 2])
    asked, kept = rows[::19], np.delete(rows, np.s_[::19], 0)

    def fit(x: SecretArray, t: SecretArray) -> Revealed:
        near = NeighboursClassifier(3, 3).fit(x[:, :4], x[:, 4].times(2))
        mean = NeighboursRegressor(2).fit(x[:, :4], x[:, 3]).predict(t[:, :4])
        return reveal(classes=near.predict(t[:, :4]), score=near.score(t[:, :4], t[:, 4].times(2)), mean=mean)

    found = run(fit, [unit(kept), unit(asked)], engine, scaled=True).outputs
    plain = KNeighborsClassifier(3, algorithm="brute").fit(kept[:, :4], kept[:, 4] * 2)
    assert (found["classes"] == plain.predict(asked[:, :4])).all()
    assert abs(found["score"] - plain.score(asked[:, :4], asked[:, 4] * 2)) < 1e-4
    want = KNeighborsRegressor(2, algorithm="brute").fit(kept[:, :4], kept[:, 3]).predict(asked[:, :4])
    assert np.abs(found["mean"] - want).max() < 1e-5


def counted(people: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = scaled(random.normal(size=(people, 3)))
    return np.column_stack([rows, np.minimum(random.poisson(np.exp(0.3 + rows @ [1, -0.5, 0.2])), 16) / 16])


def poisson(iterations: int) -> Callable[[SecretArray], Revealed]:
    def fit(x: SecretArray) -> Revealed:
        rows, counts = x[:, :-1], x[:, -1].times(16)
        model = PoissonRegression(16.0, 0.1, iterations).fit(rows, counts)
        return reveal(slopes=model.coefficients, mean=model.predict(rows), score=model.score(rows, counts))

    return fit


def test_counts_are_predicted_as_scikit_learn_does() -> None:
    rows = counted(250, 0)
    found = run(poisson(10), [unit(rows)], ClearBackend(), scaled=True).outputs
    spread, counts = rows[:, :-1].std(0), rows[:, -1] * 16
    standard = (rows[:, :-1] - rows[:, :-1].mean(0)) / spread
    plain = PoissonRegressor(alpha=0.1, tol=1e-10, max_iter=1_000).fit(standard, counts)
    assert np.abs(found["slopes"] - plain.coef_ / spread).max() < 1e-3
    assert np.abs(found["mean"] - plain.predict(standard)).max() < 2e-3
    assert abs(found["score"] - plain.score(standard, counts)) < 1e-3


def lives(people: int, seed: int) -> np.ndarray:
    """Two columns, months until the event or the last look, from 1 to 20, and whether the event was seen."""
    random = np.random.default_rng(seed)
    rows = scaled(random.normal(size=(people, 2)))
    months = np.clip(np.ceil(random.exponential(8 * np.exp(-rows @ [1, -0.7]))), 1, 20)
    return np.column_stack([rows, months / 20, random.uniform(size=people) < 0.7])


def cox(penalty: float, iterations: int) -> Callable[[SecretArray], Revealed]:
    def fit(x: SecretArray) -> Revealed:
        rows, months, seen = x[:, :-2], x[:, -2].times(20), x[:, -1] > 0.5
        model = CoxRegression([float(month) for month in range(1, 21)], penalty, iterations).fit(rows, months, seen)
        return reveal(slopes=model.coefficients, hazard=model.predict(rows), score=model.score(rows, months, seen))

    return fit


@pytest.mark.parametrize("penalty", [0.0, 5.0])
def test_hazards_maximise_breslows_partial_likelihood(penalty: float) -> None:
    rows = lives(150, 1)
    columns, months, seen = rows[:, :2], np.round(rows[:, 2] * 20), rows[:, 3] > 0

    def loss(weights: np.ndarray) -> float:
        hazard = columns @ weights
        total = 0.5 * penalty * float(((weights * columns.std(0)) ** 2).sum())
        for month in np.unique(months[seen]):
            now = (months == month) & seen
            total -= hazard[now].sum() - now.sum() * np.log(np.exp(hazard[months >= month]).sum())
        return total

    want = minimize(loss, np.zeros(2), tol=1e-10).x
    found = run(cox(penalty, 8), [unit(rows)], ClearBackend(), scaled=True).outputs
    assert np.abs(found["slopes"] - want).max() < 2e-3
    assert np.abs(found["hazard"] - (columns - columns.mean(0)) @ want).max() < 4e-3
    # An event comes before whoever was last seen in the same month.
    known = ((months[:, None] < months) | ((months[:, None] == months) & ~seen)) & seen[:, None]
    hazard = columns @ want
    assert abs(found["score"] - (known & (hazard[:, None] > hazard)).sum() / known.sum()) < 5e-3


@pytest.mark.parametrize("kind", ["poisson", "cox"])
def test_four_parties_find_what_the_reference_finds(kind: str) -> None:
    function, rows = (poisson(1), counted(30, 3)) if kind == "poisson" else (cox(1.0, 1), lives(30, 3))
    clear, shared = (run(function, [unit(rows)], engine, scaled=True).outputs for engine in ENGINES)
    for name, values in clear.items():
        assert np.abs(values - shared[name]).max() < 5e-3, name


def test_a_newton_step_solves_its_equations() -> None:
    random = np.random.default_rng(4)
    factor = random.normal(size=(6, 3))
    rows = np.column_stack([factor.T @ factor / 30, random.uniform(-0.1, 0.1, 3)])
    found = run(lambda x: reveal(step=newton_step(x[:, 3], x[:, :3])), [table(rows)], ClearBackend()).outputs["step"]
    ridge = np.trace(rows[:, :3]) / 4096 * np.eye(3)
    assert np.abs(found + np.linalg.solve(rows[:, :3] + ridge, rows[:, 3])).max() < 2e-3


def test_hard_rows_give_bounded_models() -> None:
    """The reference engine checks every claimed bound on the way."""
    random = np.random.default_rng(6)
    rows = random.uniform(-1, 1, (50, 5))
    rows[:, 1], rows[:, 2] = 0.25, rows[:, 0]
    rows[:, 3:] = np.abs(rows[:, 3:])
    rows[0, 4] = 1.0

    def everything(x: SecretArray) -> Revealed:
        columns, counts = x[:, :3], x[:, 3].times(16)
        none, all_of_them = x[:, 4] > 2.0, x[:, 4] > -2.0
        months = x[:, 4].times(20)
        grid = [5.0, 10.0, 15.0, 20.0]
        return reveal(
            nobody=CoxRegression(grid, iterations=2).fit(columns, months, none).coefficients,
            everybody=CoxRegression(grid, iterations=3).fit(columns, months, all_of_them).coefficients,
            zeros=PoissonRegression(16.0, iterations=4).fit(columns, counts.times(0)).predict(columns),
            ones=PoissonRegression(16.0, iterations=4).fit(columns, counts.times(0) + 16).predict(columns),
            components=PrincipalComponents(3).fit(columns).components,
            variances=PrincipalComponents(3).fit(columns).variances,
            slopes=LinearRegression().fit_moments(moments(x)).coefficients,
        )

    found = run(everything, [unit(rows)], ClearBackend(), scaled=True).outputs
    assert np.abs(found["nobody"]).max() < 1e-3
    assert np.isfinite(found["everybody"]).all()
    assert np.abs(found["zeros"]).max() < 0.1
    assert np.abs(found["ones"] / 16 - 1).max() < 0.05
    assert found["variances"][1:].max() < 1e-4
    assert np.abs(found["components"][1:]).max() <= 1.05
    assert abs(found["slopes"][0] - found["slopes"][2]) < 1e-3
    assert found["slopes"][1] == 0.0


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: PrincipalComponents(4).fit(x).components,
        lambda x: PrincipalComponents(0).fit(x).components,
        lambda x: PrincipalComponents(1, squarings=0).fit(x).components,
        lambda x: PrincipalComponents(1).fit(x[:1]).components,
        lambda x: NeighboursClassifier(3, 0).fit(x[:, :2], x[:, 2]).answers,
        lambda x: NeighboursClassifier(1).fit(x[:, :2], x[:, 2]).answers,
        lambda x: NeighboursRegressor(21).fit(x[:, :2], x[:, 2]).answers,
        lambda x: NeighboursRegressor(2).fit(x[:, :2], x[:, 2]).predict(x),
        lambda x: PoissonRegression(0.5).fit(x[:, :2], x[:, 2]).coefficients,
        lambda x: PoissonRegression(4.0, -1.0).fit(x[:, :2], x[:, 2]).coefficients,
        lambda x: PoissonRegression(4.0).fit(x[:2, :2], x[:2, 2]).coefficients,
        lambda x: CoxRegression([]).fit(x[:, :2], x[:, 2], x[:, 2] > 0).coefficients,
        lambda x: CoxRegression([2.0, 1.0]).fit(x[:, :2], x[:, 2], x[:, 2] > 0).coefficients,
        lambda x: CoxRegression([1.0], iterations=0).fit(x[:, :2], x[:, 2], x[:, 2] > 0).coefficients,
        lambda x: CoxRegression([1.0]).fit(x[:, :2], x[:, 2], x > 0).coefficients,
        lambda x: LinearRegression(steps=0).fit_moments(moments(x)).coefficients,
        lambda x: LinearRegression().fit_moments(moments(x[:, :1])).coefficients,
        lambda x: summed([x, x], [20, 20]).means,
        lambda x: welch(moments(x), moments(x[:, :2])).statistic,
        lambda x: GaussianBayes(2).fit_sums([x, x], [20, 20]).means,
        lambda x: GaussianBayes(1).fit_sums([x], [40]).means,
    ],
)
def test_settings_and_shapes_that_do_not_fit_are_refused(misuse: Callable[[SecretArray], SecretArray]) -> None:
    rows = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    with pytest.raises(InvalidInput) as problem:
        run(lambda x: reveal(x=misuse(x)), [unit(rows)], ClearBackend(), scaled=True)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (np.zeros((0, 2)), ()),
        (np.zeros(3), ()),
        (np.zeros((2, 140)), ()),
        (np.full((2, 2), 1.5), ()),
        (np.full((2, 2), np.nan), ()),
        (np.zeros((2, 2)), ("only one",)),
    ],
)
def test_sums_of_unusable_rows_are_refused(rows: np.ndarray, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput):
        local_sums(rows, names)


@pytest.mark.parametrize(
    "fit",
    [
        lambda x: moments(x).means,
        lambda x: NeighboursRegressor(2).fit(x[:, :2], x[:, 2]).predict(x[:, :2]),
        lambda x: NeighboursRegressor(2).fit(x[:, :2] * 0.1, x[:, 2]).predict(x[:, :2]),
        lambda x: GaussianBayes(2).fit(x[:, :2], x[:, 2]).means,
        lambda x: KMeans(2).fit(x).centres,
        lambda x: TreeRegressor().fit(x[:, :2], x[:, 2] * 0.1).trees.leaves,
    ],
)
def test_columns_that_are_not_scaled_are_refused(fit: Callable[[SecretArray], SecretArray]) -> None:
    rows = np.random.default_rng(0).uniform(-5, 5, (20, 3))
    with pytest.raises(Refused, match="scaled"):
        run(lambda x: reveal(x=fit(x)), [table(rows)], ClearBackend())


@pytest.mark.parametrize(
    ("rows", "codes", "classes"),
    [
        (np.zeros((3, 2)), np.zeros(2), 2),
        (np.zeros((3, 2)), np.full(3, 2), 2),
        (np.zeros((3, 2)), np.full(3, 0.5), 2),
        (np.zeros((3, 2)), np.zeros(3), 1),
        (np.full((3, 2), np.inf), np.zeros(3), 2),
        (np.zeros((0, 2)), np.zeros(0), 2),
    ],
)
def test_class_sums_of_unusable_rows_are_refused(rows: np.ndarray, codes: np.ndarray, classes: int) -> None:
    with pytest.raises(InvalidInput):
        local_class_sums(rows, codes, classes)
