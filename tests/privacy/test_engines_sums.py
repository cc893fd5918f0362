"""Programs that follow from sums over rows: the same numbers on every engine, and what no engine adds up."""

from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from test_engines import BACKENDS

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, MalformedMessage, ProtocolAbort, Refused
from koinon.privacy.backend import PlainInput
from koinon.privacy.engines import engine_named
from koinon.privacy.federated import studies as federated
from koinon.privacy.federated import training
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import Layout, Parameters, settings_from
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.sums import table
from koinon.privacy.sums.numerics import eigen
from koinon.wire.committee import Column

ROWS = (150, 110, 140)
COLUMNS = (
    Column("age", 0.0, 100.0),
    Column("weight", 50.0, 100.0),
    Column("dose", -1.0, 3.0),
    Column("site", 0.0, 2.0),
    Column("ill", 0.0, 1.0),
)


def people(count: int = sum(ROWS), seed: int = 1) -> np.ndarray:
    """Columns that have to do with one another, in the units of COLUMNS."""
    draw = np.random.default_rng(seed)
    age = draw.uniform(0.0, 100.0, count)
    weight = np.clip(60.0 + 0.3 * age + draw.normal(0.0, 8.0, count), 50.0, 100.0)
    dose = np.clip(0.04 * weight - 2.0 + draw.normal(0.0, 0.6, count), -1.0, 3.0)
    site = draw.integers(0, 3, count).astype(float)
    ill = (draw.uniform(size=count) < 1 / (1 + np.exp(-(age - 50) / 15 - site + 1))).astype(float)
    return np.column_stack([age, weight, dose, site, ill])


def owners() -> list[np.ndarray]:
    return np.split(people(), np.cumsum(ROWS)[:-1])


def given(name: str, outputs: tuple[str, ...] = (), target: str = "", **settings: Any) -> Parameters:
    offer = registry.offer(name)
    return Parameters(Layout(ROWS, COLUMNS, target), settings_from(offer, settings), outputs or offer.outputs)


STUDIES: dict[str, tuple[str, Parameters, float]] = {
    "statistics": (
        "statistics/1",
        given("statistics/1", ("histogram", "mean", "variance", "correlation"), bins=3),
        1e-4,
    ),
    "means alone": ("statistics/1", given("statistics/1", ("mean",)), 1e-5),
    "comparison": ("comparison/1", given("comparison/1", target="ill"), 1e-4),
    "contingency": ("contingency/1", given("contingency/1", first="site", second="ill"), 0.06),
    "counts alone": ("contingency/1", given("contingency/1", ("counts",), first="site", second="ill"), 1e-9),
    "line": ("linear-regression/1", given("linear-regression/1", target="dose"), 2e-3),
    "ridge": ("linear-regression/1", given("linear-regression/1", target="dose", penalty=50.0), 2e-3),
    "components": ("principal-components/1", given("principal-components/1", count=3), 2e-3),
    "classes": ("naive-bayes/1", given("naive-bayes/1", target="ill"), 1e-4),
}
"""Name, parameters, and how far fixed-point numbers may be from sums: χ² of 37 by its thousandth."""


def outputs(engine: str, name: str, parameters: Parameters, parts: list[np.ndarray]) -> dict[str, np.ndarray]:
    program = registry.load(name, encode(parameters))
    inputs = [PlainInput(COLUMNS, part) for part in parts]
    return dict(BACKENDS[engine]().run(program, inputs, SeededRng(b"sums")).outputs)


@pytest.mark.parametrize("engine", ["rep4", "federated", "he"])
@pytest.mark.parametrize("case", STUDIES)
def test_every_engine_has_the_numbers_of_the_reference(case: str, engine: str) -> None:
    name, parameters, tolerance = STUDIES[case]
    found, wanted = (outputs(one, name, parameters, owners()) for one in (engine, "clear"))
    assert list(found) == list(wanted) == list(parameters.outputs)
    for each in wanted:
        assert found[each].shape == wanted[each].shape
        assert np.abs(found[each] - wanted[each]).max() < tolerance, each


ROUNDS: dict[str, tuple[Parameters, float]] = {
    "poisson-regression/1": (given("poisson-regression/1", ("coefficients", "intercept"), "site", penalty=0.1), 2e-3),
    "multinomial-regression/1": (given("multinomial-regression/1", ("coefficients", "intercepts"), "site"), 0.02),
}


@pytest.mark.parametrize("name", ROUNDS)
def test_rounds_of_sums_come_to_the_model_of_the_reference(name: str) -> None:
    parameters, tolerance = ROUNDS[name]
    found, wanted = (outputs(one, name, parameters, owners()) for one in ("federated", "clear"))
    assert list(found) == list(wanted)
    for each in wanted:
        assert found[each].shape == wanted[each].shape
        assert np.abs(found[each] - wanted[each]).max() < tolerance, each
    assert "in several rounds" in engine_named("he").refusal(name, parameters)


def test_counts_are_fitted_as_scikit_learn_fits_the_pooled_rows() -> None:
    parameters = given("poisson-regression/1", ("coefficients", "intercept"), "site", penalty=0.1)
    found = outputs("federated", "poisson-regression/1", parameters, owners())
    rows = people()
    scaled = (rows[:, [0, 1, 2, 4]] - [50.0, 75.0, 1.0, 0.5]) / [50.0, 25.0, 2.0, 0.5]
    spread = scaled.std(0)
    wanted = PoissonRegressor(alpha=0.1, tol=1e-10, max_iter=1000).fit((scaled - scaled.mean(0)) / spread, rows[:, 3])
    assert np.abs(found["coefficients"] * spread - wanted.coef_).max() < 1e-3


def test_classes_are_fitted_as_scikit_learn_fits_the_pooled_rows() -> None:
    parameters = given("multinomial-regression/1", ("coefficients", "intercepts"), "site")
    found = outputs("federated", "multinomial-regression/1", parameters, owners())
    rows = people()
    scaled = (rows[:, [0, 1, 2, 4]] - [50.0, 75.0, 1.0, 0.5]) / [50.0, 25.0, 2.0, 0.5]
    spread = scaled.std(0)
    wanted = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit((scaled - scaled.mean(0)) / spread, rows[:, 3])
    assert np.abs((found["coefficients"] * spread[:, None]).T - wanted.coef_).max() < 1e-3


def test_a_constant_column_has_no_part_in_a_regression() -> None:
    own = owners()
    for part in own:
        part[:, 1] = 75.0
    for name, (parameters, _) in ROUNDS.items():
        found = outputs("federated", name, parameters, own)["coefficients"]
        assert np.isfinite(found).all()
        assert (found[1] == 0.0).all()
        assert (found[0] != 0.0).any()


REFUSED: dict[str, tuple[str, Parameters, str]] = {
    "quantiles": ("statistics/1", given("statistics/1", ("quantiles",)), "quantiles do not follow"),
    "variances say means": ("statistics/1", given("statistics/1", ("variance",)), "say mean too"),
    "correlations say both": ("statistics/1", given("statistics/1", ("mean", "correlation")), "mean and variance"),
    "too many bins": ("statistics/1", given("statistics/1", ("histogram",), bins=1000), "2 to 200 bins"),
    "a test without counts": ("contingency/1", given("contingency/1", ("chi_square",)), "say counts too"),
    "half a comparison": ("comparison/1", given("comparison/1", ("means",), "ill"), "open all of them"),
    "half of the classes": ("naive-bayes/1", given("naive-bayes/1", ("means",), "ill"), "open all of them"),
    "no smoothing": ("naive-bayes/1", given("naive-bayes/1", target="ill", smoothing=0.0), "smoothing is from"),
    "no group": ("comparison/1", given("comparison/1", target="ill", minimum_group=0), "at least 1"),
    "penalties to choose from": (
        "linear-regression/1",
        given("linear-regression/1", target="dose", penalties=[1.0, 2.0]),
        "choosing among penalties",
    ),
    "a negative penalty": (
        "linear-regression/1",
        given("linear-regression/1", target="dose", penalty=-1.0),
        "not negative",
    ),
    "too many directions": ("principal-components/1", given("principal-components/1", count=9), "not 9 directions"),
    "noise": (
        "statistics/1",
        msgspec.structs.replace(given("statistics/1", ("mean",)), epsilon=1.0),
        "noise that nobody knows",
    ),
    "columns to be scaled": (
        "linear-regression/1",
        given("linear-regression/1", target="dose", scale="standard"),
        "prepared among",
    ),
    "more than a model": ("poisson-regression/1", given("poisson-regression/1", target="site"), "and only these"),
    "half a model": (
        "multinomial-regression/1",
        given("multinomial-regression/1", ("coefficients",), "site"),
        "and only these",
    ),
    "no iterations": (
        "multinomial-regression/1",
        given("multinomial-regression/1", ("coefficients", "intercepts"), "site", iterations=0),
        "an iteration or more",
    ),
    "groups that one person moves": ("k-means/1", given("k-means/1"), "as little as one person"),
    "those still at risk": ("cox-regression/1", given("cox-regression/1", target="ill"), "few at late times"),
    "people in one order": (
        "statistics/1",
        msgspec.structs.replace(
            given("statistics/1", ("mean",)),
            layout=Layout((100, 100), COLUMNS, sources=((0, 1), (2, 3, 4))),
        ),
        "bring all columns",
    ),
}


@pytest.mark.parametrize("engine", ["federated", "he"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_sums_do_not_give_or_say_too_much_of_is_refused(case: str, engine: str) -> None:
    name, parameters, sentence = REFUSED[case]
    assert sentence in engine_named(engine).refusal(name, parameters)


def test_a_ciphertext_and_a_round_hold_so_many_sums() -> None:
    def wide(columns: int) -> Parameters:
        layout = Layout(ROWS, tuple(Column(f"c{number}", 0.0, 1.0) for number in range(columns)))
        return msgspec.structs.replace(given("principal-components/1"), layout=layout)

    name = "principal-components/1"
    assert "holds 4096 sums" in engine_named("he").refusal(name, wide(90))
    assert engine_named("federated").refusal(name, wide(90)) == ""
    assert "at most 256 columns" in engine_named("federated").refusal(name, wide(257))


FEW: dict[str, tuple[Parameters, str]] = {
    "a bin": (given("statistics/1", ("histogram",), bins=3), "statistics/1"),
    "a pair of codes": (given("contingency/1", ("counts",), first="site", second="ill"), "contingency/1"),
    "a group": (given("comparison/1", target="ill"), "comparison/1"),
}


@pytest.mark.parametrize("case", FEW)
def test_nothing_leaves_an_owner_of_a_group_that_is_too_small(case: str) -> None:
    """Everybody of this owner's is at the first site and well, but one."""
    parameters, name = FEW[case]
    own = owners()[0]
    own[:, 3:] = 0.0
    own[0, 3:] = 1.0
    for engine in ("federated", "he"):
        with pytest.raises(Refused, match="fewer than the 5 people"):
            outputs(engine, name, parameters, [own, *owners()[1:]])


def test_a_group_of_nobody_is_no_small_group() -> None:
    name, parameters = "contingency/1", given("contingency/1", ("counts",), first="site", second="ill")
    own = owners()[0]
    own[:, 3:] = 0.0
    found = outputs("federated", name, parameters, [own, *owners()[1:]])["counts"]
    assert found.sum() == sum(ROWS)


def test_a_mean_is_exact_at_any_number_of_rows() -> None:
    """Twenty thousand rows that fixed-point numbers hold exactly: no engine rounds their mean beyond its last bit."""
    rows = (12_000, 8_000)
    column = Column("value", -1.0, 1.0)
    values = np.round(np.random.default_rng(3).uniform(-1.0, 1.0, sum(rows)) * 2**20) / 2**20
    parts = [part.reshape(-1, 1) for part in np.split(values, [rows[0]])]
    parameters = msgspec.structs.replace(given("statistics/1", ("mean",)), layout=Layout(rows, (column,)))
    program = registry.load("statistics/1", encode(parameters))
    inputs = [PlainInput((column,), part) for part in parts]
    for engine in ("federated", "he"):
        found = BACKENDS[engine]().run(program, inputs, SeededRng(b"mean")).outputs["mean"]
        assert abs(found[0] - values.mean()) <= 2.0**-20


TOTALS: dict[str, Any] = {
    "of another length": lambda totals: totals[:-1],
    "not finite": lambda totals: totals * np.nan,
    "beyond every range": lambda totals: totals * 10.0,
    "no whole counts": lambda totals: totals + 0.3,
    "of other people": lambda totals: totals + 1.0,
}


@pytest.mark.parametrize("case", TOTALS)
def test_totals_that_no_rows_have_give_no_output(case: str) -> None:
    program = table.sums_of("contingency/1", given("contingency/1", first="site", second="ill"))
    rows = (people() - [50.0, 75.0, 1.0, 1.0, 0.5]) / [50.0, 25.0, 2.0, 1.0, 0.5]
    honest = program.add(program.start(), rows)
    program.move(program.start(), np.zeros(0), honest, len(rows))
    with pytest.raises(MalformedMessage):
        program.move(program.start(), np.zeros(0), TOTALS[case](honest), len(rows))


def test_an_owner_that_lies_about_its_rows_ends_a_training_without_a_result() -> None:
    """Its squares are smaller than its mean allows: no table has such sums."""
    parameters = given("statistics/1", ("mean", "variance"))
    plan = federated.plan_of("statistics/1", parameters)
    state = training.start(plan, training.model_of(plan))
    false = np.concatenate([np.full(len(COLUMNS), 0.9), np.full(len(COLUMNS), 0.1)])
    words = training.words_of(plan, false, 100, 0.0, SeededRng(b"lie"))
    with pytest.raises(ProtocolAbort, match="no rows have"):
        training.finish_round(state, plan, (0,), words)


def test_sums_of_one_person_are_no_statistics() -> None:
    program = table.sums_of("statistics/1", given("statistics/1", ("mean", "variance")))
    with pytest.raises(MalformedMessage, match="fewer than two"):
        program.move(program.start(), np.zeros(0), np.zeros(program.length), 1)


@pytest.mark.parametrize("changes", [{"program": "k-nearest/1"}, {"parameters": b"\xc0"}, {"most_rows": 0}])
def test_a_plan_of_sums_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    plan = federated.plan_of("statistics/1", given("statistics/1", ("mean",)))
    training.check_plan(plan, 3)
    with pytest.raises(InvalidInput):
        training.check_plan(msgspec.structs.replace(plan, **changes), 3)


def test_everybody_has_one_plan_whatever_rows_they_know_of() -> None:
    one, other = (
        msgspec.structs.replace(given("statistics/1", ("mean",)), layout=Layout(rows, COLUMNS))
        for rows in (ROWS, (30, 30, 30))
    )
    assert federated.plan_of("statistics/1", one) == federated.plan_of("statistics/1", other)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 21])
def test_eigenvectors_are_those_of_lapack(size: int) -> None:
    draw = np.random.default_rng(size)
    rows = draw.normal(size=(2 * size, size))
    matrix = rows.T @ rows
    values, vectors = eigen(matrix)
    assert np.allclose(values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-9 * values[0])
    assert np.allclose(vectors @ vectors.T, np.eye(size), atol=1e-12)
    assert np.allclose(vectors.T @ np.diag(values) @ vectors, matrix, atol=1e-9 * values[0])
    assert np.allclose(eigen(np.ones((size, size)))[0], [size, *[0.0] * (size - 1)], atol=1e-12)
