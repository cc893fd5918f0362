"""Scaling, encoding, filling in, choosing settings and joining owners' own fits: against NumPy and scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as PlainLogistic
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput, Program
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, program, reveal, run, table
from koinon.privacy.estimate import estimate
from koinon.privacy.learn.aggregated import joint_model, local_curvature
from koinon.privacy.learn.linear import LinearRegression
from koinon.privacy.learn.moments import SUM_BITS
from koinon.privacy.learn.preparation import (
    MeanFill,
    MedianFill,
    RangeScaler,
    StandardScaler,
    one_hot_columns,
    ordinal,
)
from koinon.privacy.learn.selection import chosen, validated
from koinon.privacy.learn.solvers import Links, Way, fastest, fit_linear, fit_logistic, linear_way, logistic_way
from koinon.privacy.learn.trees import Shape, TreeRegressor
from koinon.privacy.rep4.simulation import SimulatedRep4

ENGINES: list[Backend] = [ClearBackend(), SimulatedRep4()]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)


def unit(rows: np.ndarray) -> PlainInput:
    return table(rows, [f"x{n}" for n in range(rows.shape[1])], [(-1.0, 1.0)] * rows.shape[1])


@each_engine
def test_scaled_and_filled_columns_are_numpys(engine: Backend) -> None:
    random = np.random.default_rng(1)
    rows, gone = random.uniform(-1, 1, (21, 3)), random.uniform(size=(21, 3)) < 0.3
    rows[:, 2], gone[:, 2], gone[:, 0] = 0.25, True, False

    def prepare(x: SecretArray) -> Revealed:
        columns, missing = x[:, :3], x[:, 3:] > 0
        mean, median = MeanFill().fit(columns, missing), MedianFill().fit(columns, missing)
        return reveal(
            standard=StandardScaler().fit(columns).transform(columns),
            ranged=RangeScaler().fit(columns).transform(columns),
            mean=mean.numbers,
            median=median.numbers,
            filled=median.transform(columns, missing),
        )

    found = run(prepare, [unit(np.column_stack([rows, gone]))], engine, scaled=True).outputs
    two, here = rows[:, :2], np.where(gone, np.nan, rows)[:, :2]
    assert np.abs(found["standard"][:, :2] - (two - two.mean(0)) / two.std(0)).max() < 1e-4
    assert np.abs(found["ranged"][:, :2] - (two - two.min(0)) / np.ptp(two, axis=0)).max() < 1e-4
    assert not found["standard"][:, 2].any()
    assert not found["ranged"][:, 2].any()
    assert np.abs(found["mean"] - [*np.nanmean(here, 0), 0]).max() < 1e-5
    assert np.abs(found["median"] - [*np.nanmedian(here, 0), 0]).max() < 1e-5
    assert np.abs(found["filled"] - np.where(gone, found["median"], rows)).max() < 1e-5


@each_engine
def test_codes_are_the_nearest_categories(engine: Backend) -> None:
    values = np.array([[10.0], [20.0], [50.0], [20.0], [10.0]])

    def encode(x: SecretArray) -> Revealed:
        codes = ordinal(x, [10.0, 20.0, 50.0])
        return reveal(codes=codes, bits=one_hot_columns(codes, [3]))

    found = run(encode, [table(values)], engine).outputs
    assert found["codes"].ravel().tolist() == [0, 1, 2, 1, 0]
    assert (found["bits"] == np.eye(3)[[0, 1, 2, 1, 0]]).all()


PENALTIES = [0.0, 1.0, 10.0, 100.0]


def r_squared(line: object, rows: SecretArray, target: SecretArray) -> SecretArray:
    return line.score(rows, target)  # type: ignore[attr-defined, no-any-return]


def test_the_best_penalty_is_chosen_without_telling_which() -> None:
    random = np.random.default_rng(0)
    rows = random.uniform(-1, 1, (60, 12))
    rows[:, 11] = np.clip(rows[:, 0] * 0.3 + 0.3 * random.normal(size=60), -1, 1)

    def choose(x: SecretArray) -> Revealed:
        fits = [LinearRegression(penalty).fit for penalty in PENALTIES]
        model = chosen(fits, r_squared, x[:, :11], x[:, 11])
        return reveal(scores=validated(fits, r_squared, x[:, :11], x[:, 11]), slopes=model.coefficients)

    found = run(choose, [unit(rows)], ClearBackend(), scaled=True).outputs
    scores, fold = [], np.arange(60) % 5
    for penalty in PENALTIES:
        parts = []
        for each in range(5):
            known, held = rows[fold != each], rows[fold == each]
            spread = known[:, :11].std(0)
            plain = Ridge(penalty).fit(known[:, :11] / spread, known[:, 11])
            parts.append(plain.score(held[:, :11] / spread, held[:, 11]))
        scores.append(np.mean(parts))
    assert np.abs(found["scores"] - scores).max() < 1e-3
    spread = rows[:, :11].std(0)
    want = Ridge(PENALTIES[int(np.argmax(scores))]).fit(rows[:, :11] / spread, rows[:, 11]).coef_ / spread
    assert np.abs(found["slopes"] - want).max() < 1e-3


def test_trees_are_chosen_between_too() -> None:
    random = np.random.default_rng(2)
    rows = random.uniform(-1, 1, (60, 2))
    rows[:, 1] = np.where(rows[:, 0] > 0.2, 0.9, -0.9)

    def choose(x: SecretArray) -> Revealed:
        fits = [TreeRegressor(Shape(1, smallest=smallest)).fit for smallest in (29.0, 2.0)]

        def score(model: object, rows: SecretArray, target: SecretArray) -> SecretArray:
            wrong = model.predict(rows) - target  # type: ignore[attr-defined]
            return -(wrong * wrong).mean()  # type: ignore[no-any-return]

        return reveal(found=chosen(fits, score, x[:, :1], x[:, 1], 2).predict(x[:, :1]))

    found = run(choose, [unit(rows)], ClearBackend(), scaled=True).outputs["found"]
    assert np.abs(found - rows[:, 1]).mean() < 0.2


def people(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    rows = random.uniform(-1, 1, (count, 4))
    return rows, (random.uniform(size=count) < 1 / (1 + np.exp(-rows @ [-3, 1, 0, 2] - 0.5))).astype(float)


@each_engine
def test_owners_own_fits_make_the_joint_one(engine: Backend) -> None:
    rows, target = people(1_500)
    owners = [
        local_curvature(part, known, 3)
        for part, known in zip(np.array_split(rows, [400, 800]), np.array_split(target, [400, 800]), strict=True)
    ]

    def join(*sums: SecretArray) -> Revealed:
        model = joint_model(sums, [400, 400, 700])
        return reveal(slopes=model.coefficients, intercept=model.intercept)

    found = run(join, owners, engine, SUM_BITS, scaled=True).outputs
    spread = rows.std(0)
    plain = PlainLogistic(C=1.0, tol=1e-9, max_iter=1_000).fit(rows / spread, target)
    likely = 1 / (1 + np.exp(-rows @ found["slopes"] - found["intercept"]))
    assert np.abs(found["slopes"] - plain.coef_[0] / spread).max() < 0.06
    assert abs(log_loss(target, likely) - log_loss(target, plain.predict_proba(rows / spread))) < 2e-4


def test_the_cost_of_owners_own_fits_does_not_depend_on_the_number_of_people() -> None:
    def cost(count: int) -> object:
        sums = local_curvature(*people(count), 2)

        def join(*each: SecretArray) -> Revealed:
            return reveal(slopes=joint_model(each, [count] * 2).coefficients)

        return estimate(program("local/1", join, [sums.values.shape] * 2, sums.columns, SUM_BITS, scaled=True))

    assert cost(100) == cost(20_000)


LOCAL = Links(0.0005, 1e9)
FAR = Links(0.02, 1e7)


@pytest.mark.parametrize(
    ("rows", "columns", "links", "way"),
    [
        ((40_000, 60_000), 100, LOCAL, Way.SUMS),
        ((40_000, 60_000), 100, FAR, Way.SUMS),
        ((150, 150, 90), 30, FAR, Way.ROWS),  # too few for a fit of their own
        ((100_000, 100), 10, LOCAL, Way.ROWS),
    ],
)
def test_the_way_to_fit_follows_from_public_numbers(
    rows: tuple[int, ...], columns: int, links: Links, way: Way
) -> None:
    assert logistic_way(rows, columns, links) is way


def test_lines_of_many_rows_are_fitted_from_sums_and_of_few_from_rows() -> None:
    assert linear_way((40_000, 60_000), 100, LOCAL) is Way.SUMS
    assert linear_way((2, 2), 40, Links(0.0005, 1e4)) is Way.ROWS  # 861 sums of each are more than two rows


@each_engine
def test_both_ways_give_the_model_of_all_rows(engine: Backend) -> None:
    rows, target = people(1_200)
    owners = list(zip(np.array_split(rows, 2), np.array_split(target, 2), strict=True))
    few = [(part[:30], known[:30]) for part, known in owners]
    for part, way in ((owners, Way.SUMS), (few, Way.ROWS)):
        found = fit_logistic(part, LOCAL, engine=engine)
        whole, known = np.concatenate([r for r, _ in part]), np.concatenate([t for _, t in part])
        spread = whole.std(0)
        plain = PlainLogistic(C=1.0, tol=1e-9, max_iter=1_000).fit(whole / spread, known)
        assert found.way is way
        assert np.abs(found.coefficients - plain.coef_[0] / spread).max() < 0.08
        assert abs(found.intercept - plain.intercept_[0]) < 0.08
    height = rows @ [0.3, -0.2, 0.1, 0.0] + 0.1
    lines = list(zip(np.array_split(rows, 2), np.array_split(height, 2), strict=True))
    for links in (LOCAL, Links(0.0, 1e3)):
        line = fit_linear(lines if links is LOCAL else [(r[:3], h[:3]) for r, h in lines], links, engine=engine)
        assert line.way is (Way.SUMS if links is LOCAL else Way.ROWS)
        if line.way is Way.SUMS:
            assert np.abs(line.coefficients - [0.3, -0.2, 0.1, 0.0]).max() < 1e-3
            assert abs(line.intercept - 0.1) < 1e-3


@pytest.mark.parametrize("case", ["no owner", "other columns", "a target of another length", "a target of 2"])
def test_owners_that_do_not_fit_together_are_refused(case: str) -> None:
    rows, target = people(50)
    owners = {
        "no owner": [],
        "other columns": [(rows, target), (rows[:, :2], target)],
        "a target of another length": [(rows, target[:-1])],
        "a target of 2": [(rows, target * 2)],
    }[case]
    with pytest.raises(InvalidInput):
        fit_logistic(owners, LOCAL, engine=ClearBackend())


def test_slow_links_prefer_fewer_rounds_and_narrow_ones_fewer_bytes() -> None:
    def chatty(x: SecretArray) -> Revealed:
        product = x[:1]
        for row in range(1, 12):
            product = product * x[row : row + 1]
        return reveal(product=product)

    def bulky(x: SecretArray) -> Revealed:
        return reveal(product=(x.reshape(-1, 1) * x.reshape(-1)).sum(0))

    def made(function: Callable[[SecretArray], Revealed]) -> Callable[[], Program]:
        return lambda: program("local/1", function, [(12, 40)], unit(np.zeros((1, 40))).columns, scaled=True)

    ways = {Way.ROWS: made(chatty), Way.SUMS: made(bulky)}
    assert fastest(ways, Links(1.0, 1e9)) is Way.SUMS
    assert fastest(ways, Links(0.0001, 1e5)) is Way.ROWS


def test_ways_that_could_overflow_are_left_out() -> None:
    def overflowing() -> Program:
        columns = unit(np.zeros((1, 1))).columns
        return program("local/1", lambda x: reveal(power=(x.times(1e6)) ** 9), [(4, 1)], columns, scaled=True)

    with pytest.raises(Refused):
        fastest({Way.ROWS: overflowing}, LOCAL)
    with pytest.raises(InvalidInput):
        logistic_way((), 3, LOCAL)


@pytest.mark.parametrize("case", ["one class", "separable", "constant column", "collinear columns"])
def test_hard_rows_of_one_owner_give_a_bounded_model(case: str) -> None:
    rows, target = people(80)
    if case == "one class":
        target = np.ones(80)
    elif case == "separable":
        target = (rows[:, 0] > 0).astype(float)
    elif case == "constant column":
        rows[:, 1] = 0.5
    else:
        rows[:, 1] = rows[:, 0]
    sums = local_curvature(rows, target, 1)

    def join(each: SecretArray) -> Revealed:
        model = joint_model([each], [80])
        return reveal(slopes=model.coefficients, likely=model.intercept)

    found = run(join, [sums], ClearBackend(), SUM_BITS, scaled=True).outputs
    assert np.isfinite(found["slopes"]).all()


@pytest.mark.parametrize(
    ("rows", "target", "owners", "penalty"),
    [
        (np.zeros((4, 4)), np.zeros(4), 1, 1.0),
        (np.zeros((20, 2)), np.zeros(20), 0, 1.0),
        (np.zeros((20, 2)), np.zeros(19), 1, 1.0),
        (np.zeros((20, 2)), np.full(20, 0.5), 1, 1.0),
        (np.full((20, 2), 1.01), np.zeros(20), 1, 1.0),
        (np.full((20, 2), np.nan), np.zeros(20), 1, 1.0),
        (np.zeros((20, 2)), np.zeros(20), 1, 0.0),
        (np.zeros((20, 2)), np.zeros(20), 1, 6.0),
        (np.zeros((200, 131)), np.zeros(200), 1, 1.0),
    ],
)
def test_unusable_rows_of_an_owner_are_refused(
    rows: np.ndarray, target: np.ndarray, owners: int, penalty: float
) -> None:
    with pytest.raises(InvalidInput):
        local_curvature(rows, target, owners, penalty)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: StandardScaler().fit(x[:1]).centres,
        lambda x: RangeScaler().fit(x[0]).centres,
        lambda x: MeanFill().fit(x, x[:, :1] > 0).numbers,
        lambda x: MedianFill().fit(x, x).numbers,
        lambda x: ordinal(x, [1.0]),
        lambda x: ordinal(x, [1.0, 1.0]),
        lambda x: one_hot_columns(x, [2, 2]),
        lambda x: one_hot_columns(x, [2, 2, 1]),
        lambda x: joint_model([x], [40]).coefficients,
        lambda x: validated([], r_squared, x[:, :2], x[:, 2]),
        lambda x: validated([LinearRegression().fit], r_squared, x[:, :2], x[:, 2], 1),
        lambda x: validated([LinearRegression().fit], r_squared, x[:, :2], x[:, 2], 21),
        lambda x: chosen(
            [TreeRegressor(Shape(1)).fit, TreeRegressor(Shape(2)).fit], _error, x[:, :2], x[:, 2], 2
        ).predict(x[:, :2]),
    ],
)
def test_settings_and_shapes_that_do_not_fit_are_refused(misuse: Callable[[SecretArray], SecretArray]) -> None:
    rows = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    with pytest.raises(InvalidInput) as problem:
        run(lambda x: reveal(x=misuse(x)), [unit(rows)], ClearBackend(), scaled=True)
    assert "\n" not in str(problem.value)


def _error(model: object, rows: SecretArray, target: SecretArray) -> SecretArray:
    return -abs(model.predict(rows) - target).mean()  # type: ignore[attr-defined, no-any-return]
