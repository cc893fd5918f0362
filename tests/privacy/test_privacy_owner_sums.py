"""Programs on sums that owners make of their own rows: what they give, what they refuse, and what manifests say."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from privacy_scenes import revealed
from sklearn.linear_model import LinearRegression as PlainLine
from sklearn.linear_model import LogisticRegression as PlainLogistic
from sklearn.linear_model import Ridge as PlainRidge

from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage
from koinon.privacy.backend import Backend, PlainInput, Program
from koinon.privacy.clear import ClearBackend
from koinon.privacy.estimate import estimate
from koinon.privacy.learn.moments import SUM_BITS
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import Layout, Parameters, decode_settings, settings_from
from koinon.privacy.programs.owner_sums import local_sums
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.order import accepted_input
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.privacy.sharing import Dealing, accept_package, check_manifest, deal, deal_sums
from koinon.wire.committee import POSITIONS, Column, Input

LINE, LOGISTIC = "linear-regression/1", "logistic-regression/1"
FEATURES = tuple(Column(f"x{number}", -2.0, 6.0) for number in range(4))
COUNTS = (150, 420, 330)
OWNER = NodeKey.from_seed(bytes([3]) * 32)
DEALING = Dealing(bytes(32), 0, bytes([7]) * 32)
each_engine = pytest.mark.parametrize("engine", [ClearBackend(), SimulatedRep4()], ids=lambda engine: engine.name)


def people(name: str, counts: tuple[int, ...] = COUNTS) -> list[np.ndarray]:
    """Each owner's rows, the target last; owners' people differ."""
    random = np.random.default_rng(5)
    found = []
    for number, count in enumerate(counts):
        rows = np.clip(random.normal(2.0 + 0.3 * number, 1.3, (count, 4)), -2.0, 6.0)
        height = rows @ [0.4, -0.3, 0.2, 0.0] + 0.5
        chance = 1 / (1 + np.exp(-1.5 * (height - 1.0)))
        target = random.uniform(size=count) < chance if name == LOGISTIC else height + random.normal(size=count) / 4
        found.append(np.column_stack([rows, target]))
    return found


def parameters(name: str, counts: tuple[int, ...] = COUNTS, **settings: object) -> Parameters:
    target = Column("y", 0.0, 1.0) if name == LOGISTIC else Column("y", -4.0, 6.0)
    outputs = ("coefficients", "intercept") if name == LOGISTIC else ("coefficients", "intercept", "score")
    encoded = settings_from(registry.offer(name), {"solver": "sums", **settings})
    return Parameters(Layout(counts, (*FEATURES, target), "y"), encoded, outputs)


def summed(name: str, given: Parameters, rows: np.ndarray) -> np.ndarray:
    found = registry.offer(name)
    return local_sums(found, given, decode_settings(found, given.settings), rows)


def opened(name: str, given: Parameters, owners: list[np.ndarray], engine: Backend) -> dict[str, np.ndarray]:
    """In the units of the columns."""
    made = registry.load(name, encode(given))
    shared = [summed(name, given, rows).reshape(1, -1) if made.summed else rows for rows in owners]
    result = engine.run(made, [PlainInput(made.columns, each) for each in shared], SeededRng(b"sums"))
    offer = registry.offer(name)
    tables = offer.present(result.outputs, given.layout, decode_settings(offer, given.settings))
    return {table.name: table.values.ravel() for table in tables}


@each_engine
@pytest.mark.parametrize("penalty", [0.0, 50.0])
def test_a_line_of_sums_is_that_of_all_rows(engine: Backend, penalty: float) -> None:
    owners = people(LINE)
    found = opened(LINE, parameters(LINE, penalty=penalty), owners, engine)
    whole = np.concatenate(owners)
    rows, target = whole[:, :-1], whole[:, -1]
    spread = rows.std(0)
    plain = (PlainRidge(penalty) if penalty else PlainLine()).fit(rows / spread, target)
    assert np.abs(found["coefficients"] - plain.coef_ / spread).max() < 5e-4
    assert abs(found["intercept"][0] - plain.intercept_) < 2e-3
    assert abs(found["score"][0] - plain.score(rows / spread, target)) < 1e-3


def test_a_line_of_sums_is_that_of_rows_of_any_columns() -> None:
    """Collinear and constant columns too."""
    for spoil in (lambda rows: rows[:, 0], lambda rows: np.full(len(rows), 1.5), lambda rows: rows[:, 1]):
        owners = people(LINE)
        for rows in owners:
            rows[:, 1] = spoil(rows)
        both = [opened(LINE, parameters(LINE, solver=solver), owners, ClearBackend()) for solver in ("sums", "rows")]
        for name, values in both[0].items():
            assert np.abs(values - both[1][name]).max() < 2e-3


@each_engine
def test_a_logistic_model_of_sums_is_nearly_that_of_all_rows(engine: Backend) -> None:
    owners = people(LOGISTIC)
    found = opened(LOGISTIC, parameters(LOGISTIC), owners, engine)
    whole = np.concatenate(owners)
    spread = whole[:, :-1].std(0)
    plain = PlainLogistic(C=1.0, tol=1e-9, max_iter=1_000).fit(whole[:, :-1] / spread, whole[:, -1])
    error = np.sqrt(np.diag(np.linalg.inv(_information(whole, plain.predict_proba(whole[:, :-1] / spread)[:, 1]))))
    assert (np.abs(found["coefficients"] - plain.coef_[0] / spread) < 0.2 * error[:-1]).all()
    assert abs(found["intercept"][0] - plain.intercept_[0]) < 0.2 * error[-1]


def _information(whole: np.ndarray, likely: np.ndarray) -> np.ndarray:
    design = np.column_stack([whole[:, :-1], np.ones(len(whole))])
    return np.asarray(design.T @ (design * (likely * (1 - likely))[:, None]))


STATISTICS, COMPONENTS, BAYES = "statistics/1", "principal-components/1", "naive-bayes/1"
OF_MOMENTS: dict[str, tuple[tuple[str, ...], float]] = {
    STATISTICS: (("mean", "variance", "correlation"), 1e-4),
    COMPONENTS: (("components", "explained"), 5e-3),
    BAYES: (("priors", "means", "variances"), 1e-4),
}
"""Outputs that sums give, and how far they may be from those of rows where columns are in [−1, 1]."""


def described(name: str, solver: str, **settings: object) -> Parameters:
    kind = LOGISTIC if name == BAYES else LINE
    layout = parameters(kind).layout
    layout = msgspec.structs.replace(layout, target="y" if name == BAYES else "")
    encoded = settings_from(registry.offer(name), {"solver": solver, **settings})
    return Parameters(layout, encoded, OF_MOMENTS[name][0])


def run_raw(name: str, given: Parameters, owners: list[np.ndarray], engine: Backend) -> dict[str, np.ndarray]:
    made = registry.load(name, encode(given))
    shared = [summed(name, given, rows).reshape(1, -1) if made.summed else rows for rows in owners]
    return dict(engine.run(made, [PlainInput(made.columns, each) for each in shared], SeededRng(b"sums")).outputs)


@pytest.mark.parametrize("name", OF_MOMENTS)
@each_engine
def test_what_follows_from_moments_is_the_same_of_sums_and_of_rows(name: str, engine: Backend) -> None:
    owners = people(LOGISTIC if name == BAYES else LINE)
    by_sums = run_raw(name, described(name, "sums"), owners, engine)
    by_rows = run_raw(name, described(name, "rows"), owners, ClearBackend())
    assert by_sums.keys() == by_rows.keys()
    for output, values in by_rows.items():
        # A direction and its opposite are the same one.
        near = min(np.abs(by_sums[output] - values).max(), np.abs(by_sums[output] + values).max())
        assert (near if output == "components" else np.abs(by_sums[output] - values).max()) < OF_MOMENTS[name][1]


def test_a_mean_of_sums_is_that_of_the_rows() -> None:
    owners = people(LINE, (9, 40_000, 20_001))
    given = _laid(described(STATISTICS, "sums"), rows=(9, 40_000, 20_001))
    found = run_raw(STATISTICS, given, owners, ClearBackend())["mean"]
    columns = given.layout.columns
    half = np.array([(one.high - one.low) / 2 for one in columns])
    middle = np.array([(one.high + one.low) / 2 for one in columns])
    assert np.abs(found * half + middle - np.concatenate(owners).mean(0)).max() < 1e-7


@pytest.mark.parametrize("people_of_one_class", [(0, 4, 0), (1, 2, 1)])
def test_a_class_of_too_few_people_is_not_shown(people_of_one_class: tuple[int, ...]) -> None:
    """Five or more are asked for; sums tell apart four of nine hundred and five."""
    owners = people(LOGISTIC)
    for few, rows in zip(people_of_one_class, owners, strict=True):
        rows[:, -1] = 1.0
        rows[:few, -1] = 0.0
    assert not any(values.any() for values in run_raw(BAYES, described(BAYES, "sums"), owners, ClearBackend()).values())
    owners[2][-1, -1] = 0.0
    found = run_raw(BAYES, described(BAYES, "sums"), owners, ClearBackend())
    assert found["priors"][0] == pytest.approx(5 / 900, abs=1e-6)


@pytest.mark.parametrize("output", ["quantiles", "histogram"])
def test_statistics_that_take_rows_are_refused_of_sums(output: str) -> None:
    given = msgspec.structs.replace(described(STATISTICS, "sums"), outputs=("mean", output))
    with pytest.raises(InvalidInput, match=f"{output} take rows; open mean, variance and correlation only"):
        registry.load(STATISTICS, encode(given))


def test_the_cost_of_a_study_on_sums_does_not_depend_on_the_number_of_people() -> None:
    for name in (LINE, LOGISTIC):
        few, many = (
            estimate(registry.load(name, encode(parameters(name, counts)))) for counts in ((110, 130), (40_000, 60_000))
        )
        assert few == many


@pytest.mark.parametrize("name", [LINE, LOGISTIC])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.nan, "column 'x2' holds a value that is missing or not finite"),
        (np.inf, "column 'x2' holds a value that is missing or not finite"),
        (6.25, "column 'x2' holds a value outside its declared range -2 to 6"),
        (-2.5, "column 'x2' holds a value outside its declared range -2 to 6"),
        (1e300, "column 'x2' holds a value outside its declared range -2 to 6"),
    ],
)
def test_rows_that_cannot_be_added_up_are_refused(name: str, value: float, sentence: str) -> None:
    rows = people(name)[0]
    rows[17, 2] = value
    with pytest.raises(InvalidInput) as refused:
        summed(name, parameters(name), rows)
    assert sentence in str(refused.value)
    assert "6.25" not in str(refused.value)


def test_a_target_that_is_neither_0_nor_1_is_refused() -> None:
    rows = people(LOGISTIC)[0]
    rows[3, -1] = 0.5
    with pytest.raises(InvalidInput, match="the target is 0 or 1"):
        summed(LOGISTIC, parameters(LOGISTIC), rows)


NO_SUMS: dict[str, tuple[str, Callable[[Parameters], Parameters], str]] = {
    "columns of different owners": (
        LINE,
        lambda given: _laid(given, rows=(150, 150), sources=((0, 1), (2, 3, 4))),
        "owners of different columns have no sums of their own",
    ),
    "noise": (LOGISTIC, lambda given: msgspec.structs.replace(given, epsilon=1.0), "noise is measured for single rows"),
    "planted rows": (LOGISTIC, lambda given: _laid(given, planted=8), "rows are planted among rows"),
    "worth of data": (
        LOGISTIC,
        lambda given: msgspec.structs.replace(given, outputs=("coefficients", "intercept", "worth")),
        "takes the rows of every owner apart",
    ),
    "a choice of penalties": (
        LINE,
        lambda given: _set(LINE, given, penalties=(0.1, 1.0)),
        "takes the rows of every fold apart",
    ),
    "a choice of penalties of a logistic model": (
        LOGISTIC,
        lambda given: _set(LOGISTIC, given, penalties=(0.1, 1.0)),
        "takes the rows of every fold apart",
    ),
    "prepared columns": (LINE, lambda given: _set(LINE, given, scale="standard"), "columns are prepared among shares"),
    "too few rows of one owner": (
        LOGISTIC,
        lambda given: _laid(given, rows=(150, 99, 330)),
        "every owner needs 100 rows for a fit of its own, and one has 99",
    ),
    "nobody chose": (LINE, lambda given: _set(LINE, given, solver="auto"), "still to be chosen"),
    "no such solver": (LINE, lambda given: _set(LINE, given, solver="magic"), "one of rows, sums, auto; got 'magic'"),
    "a penalty too large": (LOGISTIC, lambda given: _set(LOGISTIC, given, penalty=300.0), "the penalty is above 0"),
    "a negative penalty": (LINE, lambda given: _set(LINE, given, penalty=-1.0), "a penalty is not negative"),
    "too many columns": (LOGISTIC, lambda given: _wide(given, 132, "y"), "at most 130 columns; share rows"),
    "too many columns of a line": (LINE, lambda given: _wide(given, 140, "y"), "at most 139 columns; share rows"),
}


def _laid(given: Parameters, **changes: object) -> Parameters:
    return msgspec.structs.replace(given, layout=msgspec.structs.replace(given.layout, **changes))


def _set(name: str, given: Parameters, **settings: object) -> Parameters:
    encoded = settings_from(registry.offer(name), {"solver": "sums", **settings})
    return msgspec.structs.replace(given, settings=encoded)


def _wide(given: Parameters, width: int, target: str) -> Parameters:
    columns = (*(Column(f"x{number}", 0.0, 1.0) for number in range(width - 1)), Column(target, 0.0, 1.0))
    return _laid(given, columns=columns, rows=(10_000, 10_000))


@pytest.mark.parametrize("case", NO_SUMS)
def test_a_study_that_sums_do_not_give_is_refused(case: str) -> None:
    name, change, sentence = NO_SUMS[case]
    given = change(parameters(name))
    with pytest.raises(KoinonError) as refused:
        registry.load(name, encode(given))
    assert sentence in str(refused.value)


def test_shares_of_sums_say_over_how_many_rows_of_which_columns_they_are() -> None:
    given, rows = parameters(LINE), people(LINE)[0]
    sums = summed(LINE, given, rows)
    columns = given.layout.columns
    manifest, packages = deal_sums(sums, len(rows), columns, SUM_BITS, DEALING, OWNER, SeededRng(b"sums"))
    assert (manifest.rows, manifest.columns, manifest.sums) == (150, columns, 20)
    held = [accept_package(manifest, position, packages[position]) for position in POSITIONS]
    assert np.abs(revealed(held).view(np.int64) / 2.0**SUM_BITS - sums).max() <= 2.0**-SUM_BITS


def _program(**settings: object) -> Program:
    return registry.load(LINE, encode(parameters(LINE, **settings)))


def test_rows_for_sums_and_sums_for_rows_are_not_accepted() -> None:
    given, rows = parameters(LINE), people(LINE)[0]
    columns, rng = given.layout.columns, SeededRng(b"sums")
    shared_rows = deal(rows, columns, SUM_BITS, DEALING, OWNER, rng)
    sums = summed(LINE, given, rows)
    shared_sums = deal_sums(sums, len(rows), columns, SUM_BITS, DEALING, OWNER, rng)
    others = deal_sums(sums, len(rows), columns[::-1], SUM_BITS, DEALING, OWNER, rng)
    fewer = deal_sums(sums[:-1], len(rows), columns, SUM_BITS, DEALING, OWNER, rng)
    coarse = deal_sums(sums, len(rows), columns, 20, DEALING, OWNER, rng)
    accepted_input(Input(shared_sums[0], shared_sums[1][1]), _program(), 0, 1)
    for program, (manifest, packages), sentence in (
        (_program(), shared_rows, "input 0 is rows; the study takes others"),
        (_program(solver="rows"), shared_sums, "input 0 is sums over rows; the study takes others"),
        (_program(), others, "other rows or columns"),
        (_program(), fewer, "other rows or columns"),
        (_program(), coarse, "other fraction bits"),
    ):
        with pytest.raises(InvalidInput, match=sentence):
            accepted_input(Input(manifest, packages[1]), program, 0, 1)


@pytest.mark.parametrize(
    "sums", [np.zeros(0), np.zeros((1, 3)), np.array([0.5, 1.01]), np.array([np.nan]), np.zeros(10_001)]
)
def test_what_are_no_sums_are_not_shared(sums: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="nothing was"):
        deal_sums(sums, 20, FEATURES, SUM_BITS, DEALING, OWNER, SeededRng(b"sums"))


@pytest.mark.parametrize("count", [-1, 10_001, 1 << 40])
def test_a_manifest_of_impossibly_many_sums_is_malformed(count: int) -> None:
    manifest, _ = deal_sums(np.zeros(3), 20, FEATURES, SUM_BITS, DEALING, OWNER, SeededRng(b"sums"))
    check_manifest(manifest)
    with pytest.raises(MalformedMessage, match="at most 10000 sums"):
        check_manifest(msgspec.structs.replace(manifest, sums=count))
