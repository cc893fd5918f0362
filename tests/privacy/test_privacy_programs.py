"""One suite over both engines; logistic regression against scikit-learn; range analysis; the algorithm hash."""

import warnings
from collections.abc import Generator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_scenes import cancer_columns

from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage, Refused
from koinon.privacy.backend import Backend, PlainInput, Program
from koinon.privacy.clear import ClearBackend, ClearMachine
from koinon.privacy.estimate import estimate
from koinon.privacy.learn import logistic_solver
from koinon.privacy.programs import logistic_regression, registry
from koinon.privacy.programs.logistic_regression import Parameters, in_study, to_raw_units
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.privacy.secret import Claim, Machine, Product, Secret, joined, multiply, public, truncate
from koinon.wire.committee import Column

ENGINES: list[Backend] = [ClearBackend(), SimulatedRep4()]
UNIT = (Column("a", -1.0, 1.0), Column("b", -1.0, 1.0))


def engine_name(engine: Backend) -> str:
    return engine.name


each_engine = pytest.mark.parametrize("engine", ENGINES, ids=engine_name)


def statistics(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, Sequence[Secret]]:
    table = joined(inputs, 0)
    gram = yield from multiply(table, table, kind=Product.GRAM, fraction_bits=20)
    total = yield from truncate(table.sum(0).widened(10), 20)
    return gram, total - public(machine, np.array([0.25, -0.25]), 20)


def small_program(rows: Sequence[int]) -> Program:
    shapes = tuple((count, 2) for count in rows)
    return Program("statistics", shapes, UNIT, 20, (), (("gram", (2, 2)), ("sum", (2,))), statistics)


@each_engine
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32))
@settings(max_examples=5, deadline=None)
def test_engines_agree_with_numpy(engine: Backend, first: int, second: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [random.uniform(-1, 1, (count, 2)) for count in (first, second)]
    rows = np.concatenate(parts)
    result = engine.run(
        small_program((first, second)), [PlainInput(UNIT, part) for part in parts], SeededRng(b"engine")
    )
    assert np.abs(result.outputs["gram"] - rows.T @ rows).max() < len(rows) * 2.0**-18
    assert np.abs(result.outputs["sum"] - (rows.sum(0) - [0.25, -0.25])).max() < len(rows) * 2.0**-18
    assert result.liars == ()


@each_engine
def test_engines_refuse_inputs_the_program_does_not_declare(engine: Backend) -> None:
    program, rows = small_program((3,)), np.zeros((3, 2))
    other = (UNIT[0], Column("b", -1.0, 2.0))
    for inputs in (
        [],
        [PlainInput(UNIT, rows), PlainInput(UNIT, rows)],
        [PlainInput(UNIT, np.zeros((4, 2)))],
        [PlainInput(other, rows)],
        [PlainInput(UNIT, rows + 1.5)],
        [PlainInput(UNIT, rows * np.nan)],
    ):
        with pytest.raises(InvalidInput):
            engine.run(program, inputs, SeededRng(b"engine"))


def test_every_engine_says_against_whom_it_protects() -> None:
    for engine in ENGINES:
        assert engine.adversary.parties >= 1
        assert engine.adversary.statement.endswith(".")
    assert SimulatedRep4().adversary.corrupted == 1
    assert SimulatedRep4().adversary.may_deviate


# Range analysis.


def overflowing(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, Sequence[Secret]]:
    value = inputs[0]
    for _ in range(3):
        value = yield from multiply(value.times(1000), value.times(1000), fraction_bits=20)
    return (value,)


def test_a_program_that_could_overflow_is_refused_before_anything_is_shared() -> None:
    class Unused(SeededRng):
        def bytes(self, count: int, /) -> bytes:
            raise AssertionError(f"{count} bytes were drawn")

    program = Program("overflow", ((1, 1),), UNIT[:1], 20, (), (("x", (1, 1)),), overflowing)
    with pytest.raises(Refused, match="could overflow"):
        estimate(program)
    with pytest.raises(Refused, match="could overflow"):
        SimulatedRep4().run(program, [PlainInput(UNIT[:1], np.zeros((1, 1)))], Unused(b""))


def test_a_wrong_claim_is_found_by_the_reference_engine() -> None:
    def claiming(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, Sequence[Secret]]:
        square = yield from multiply(inputs[0], inputs[0], fraction_bits=20, claim=Claim("FALSE", 0.1))
        return (square,)

    program = Program("claim", ((1, 1),), UNIT[:1], 20, (), (("x", (1, 1)),), claiming)
    with pytest.raises(Refused, match="FALSE"):
        ClearBackend().run(program, [PlainInput(UNIT[:1], np.full((1, 1), 0.9))], SeededRng(b""))


# Logistic regression.


def cancer(seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Three skewed hospitals with 390 rows together, and 179 rows nobody trains on; the target last."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    rows = np.column_stack([data.data, data.target.astype(float)])
    order = np.random.default_rng(seed).permutation(len(rows))
    train, held_out = rows[order[:390]], rows[order[390:]]
    train = train[np.argsort(train[:, 0] + np.random.default_rng(seed).normal(0, 2, 390))]
    return [train[:90], train[90:250], train[250:]], held_out


def scores(rows: np.ndarray, chance: np.ndarray) -> tuple[float, float]:
    from sklearn.metrics import log_loss, roc_auc_score

    return float(roc_auc_score(rows[:, -1], chance)), float(log_loss(rows[:, -1], chance))


def pooled_scores(parts: list[np.ndarray], held_out: np.ndarray) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = np.concatenate(parts)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(train[:, :-1], train[:, -1])
        return scores(held_out, model.predict_proba(held_out[:, :-1])[:, 1])


def joint_scores(engine: Backend, parts: list[np.ndarray], held_out: np.ndarray) -> tuple[float, float]:
    columns = cancer_columns(np.concatenate(parts)[:, :-1])
    program = logistic_regression.program(Parameters(tuple(len(part) for part in parts), columns))
    result = engine.run(program, [PlainInput(columns, part) for part in parts], SeededRng(b"study"))
    slopes, bias = to_raw_units(result.outputs["coefficients"], result.outputs["intercept"][0], columns[:-1])
    return scores(held_out, 1 / (1 + np.exp(-(held_out[:, :-1] @ slopes + bias))))


@pytest.mark.parametrize("seed", range(6))
def test_joint_model_is_as_good_as_scikit_learn_on_pooled_rows(seed: int) -> None:
    parts, held_out = cancer(seed)
    (area, loss), (want_area, want_loss) = joint_scores(ENGINES[0], parts, held_out), pooled_scores(parts, held_out)
    assert abs(area - want_area) < 0.005
    assert abs(loss - want_loss) < 0.01


@pytest.mark.parametrize("seed", [3])
def test_four_parties_train_the_same_model(seed: int) -> None:
    parts, held_out = cancer(seed)
    (area, loss), (want_area, want_loss) = joint_scores(ENGINES[1], parts, held_out), pooled_scores(parts, held_out)
    assert abs(area - want_area) < 0.005
    assert abs(loss - want_loss) < 0.01


def hard_rows(kind: str, rows: int, features: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    table = random.uniform(-1, 1, (rows, features + 1))
    table[:, -1] = random.integers(0, 2, rows)
    match kind:
        case "constant column":
            table[:, 0] = 0.37
        case "nearly constant column":
            table[:, 0] = 0.5 + 1e-5 * random.normal(size=rows)
        case "collinear columns":
            table[:, 1:features] = table[:, :1]
        case "one class":
            table[:, -1] = 1.0
        case "one of the other class":
            table[:, -1] = 0.0
            table[0, -1] = 1.0
        case "separable":
            table[:, 0] = np.where(table[:, -1] > 0, 1.0, -1.0)
        case "outlier":
            table[:, 0] = -1.0
            table[0, 0] = 1.0
        case "extremes":
            table[:, :features] = np.sign(table[:, :features])
    return table


KINDS = (
    "constant column",
    "nearly constant column",
    "collinear columns",
    "one class",
    "one of the other class",
    "separable",
    "outlier",
    "extremes",
)


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(2, 60), st.integers(2, 12), st.sampled_from([1e-3, 1.0, 100.0]), st.integers(0, 2**32))
@settings(max_examples=6, deadline=None)
def test_lemmas_hold_on_hard_rows(kind: str, rows: int, features: int, penalty: float, seed: int) -> None:
    """The reference engine checks every claimed bound on the way."""
    columns = (*(Column(f"c{i}", -1.0, 1.0) for i in range(features)), Column("target", 0.0, 1.0))
    program = logistic_regression.program(Parameters((rows,), columns, penalty))
    table = hard_rows(kind, rows, features, seed)
    result = ClearBackend().run(program, [PlainInput(columns, table)], SeededRng(b""))
    assert np.isfinite(result.outputs["coefficients"]).all()


def test_the_mean_of_a_million_rows_is_right() -> None:
    """LR-RADIUS needs centred columns: a mean that is off by a thousandth moves narrow ones by a whole deviation."""
    rows = 975_685  # 2³⁰ times its inverse lies half-way between two whole numbers
    plan = logistic_solver.plan_of(rows, 1, 1.0, 1, 20)
    words = np.full((rows, 1), 1 << 20, np.uint64)
    protocol = logistic_solver._standardised(Secret(ClearMachine(SeededRng(b"")), words, 20, 1.0), plan)
    # The reference engine sends nothing, so that its first step is the whole.
    with pytest.raises(StopIteration) as end:
        next(protocol)
    mean, _, _ = end.value.value
    assert abs(int(mean.data[0]) - (1 << 20)) <= 1


def test_small_problem_has_scikit_learns_coefficients() -> None:
    """With enough steps the solver reaches the optimum itself, as far as the sigmoid's error of a thousandth allows."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(2)
    features = random.uniform(-1, 1, (200, 3))
    target = (features @ [2.0, -1.0, 0.5] + random.logistic(size=200) > 0.3).astype(float)
    columns = (*(Column(f"c{i}", -1.0, 1.0) for i in range(3)), Column("target", 0.0, 1.0))
    rows = np.column_stack([features, target])
    spread, mean = features.std(0), features.mean(0)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit((features - mean) / spread, target)
    program = logistic_regression.program(Parameters((120, 80), columns, iterations=120))
    inputs = [PlainInput(columns, rows[:120]), PlainInput(columns, rows[120:])]
    result = ClearBackend().run(program, inputs, SeededRng(b"small"))
    want = model.coef_[0] / spread
    assert np.abs(result.outputs["coefficients"] - want).max() < 5e-3
    assert abs(result.outputs["intercept"][0] - (model.intercept_[0] - want @ mean)) < 5e-3


GOOD = (*(Column(f"c{i}", -1.0, 1.0) for i in range(3)), Column("target", 0.0, 1.0))
BAD_PARAMETERS = {
    "no owner": Parameters((), GOOD),
    "an owner without rows": Parameters((5, 0), GOOD),
    "a single row": Parameters((1,), GOOD),
    "too many rows": Parameters((2**21,), GOOD),
    "negative rows": Parameters((-5, 20), GOOD),
    "no feature": Parameters((5,), GOOD[-1:]),
    "target of another range": Parameters((5,), GOOD[:-1]),
    "no penalty": Parameters((5,), GOOD, penalty=0.0),
    "penalty that is no number": Parameters((5,), GOOD, penalty=float("nan")),
    "no iterations": Parameters((5,), GOOD, iterations=0),
    "endless iterations": Parameters((5,), GOOD, iterations=10**9),
    "too few fraction bits": Parameters((5,), GOOD, fraction_bits=10),
    "more than fits": Parameters((2**20,), GOOD, iterations=1000, fraction_bits=30),
}


@pytest.mark.parametrize("case", BAD_PARAMETERS)
def test_unusable_parameters_are_refused(case: str) -> None:
    with pytest.raises(InvalidInput):
        registry.load(logistic_regression.NAME, in_study(BAD_PARAMETERS[case]))


def test_target_other_than_two_values_is_refused() -> None:
    program = logistic_regression.program(Parameters((5,), GOOD))
    rows = np.zeros((5, 4))
    rows[2, 3] = 0.5
    with pytest.raises(InvalidInput, match="'target'"):
        ClearBackend().run(program, [PlainInput(GOOD, rows)], SeededRng(b""))


@given(st.binary(max_size=300))
def test_any_bytes_as_parameters_give_a_clear_error(data: bytes) -> None:
    with pytest.raises(KoinonError):
        registry.load(logistic_regression.NAME, data)


def test_unknown_program_and_algorithm_hash() -> None:
    with pytest.raises(InvalidInput, match="no program"):
        registry.load("quantum-regression/1", b"")
    with pytest.raises(InvalidInput, match="no program"):
        registry.algorithm_hash("quantum-regression/1")
    with pytest.raises(MalformedMessage):
        registry.load(logistic_regression.NAME, b"\xc0")


def test_estimate_counts_the_rounds_that_are_run() -> None:
    from koinon.crypto.signature import NodeKey
    from koinon.privacy.rep4 import simulation
    from koinon.privacy.rep4.session import FIXED_ROUNDS, ROUNDS_PER_CHECKPOINT
    from koinon.privacy.sharing import Dealing, deal

    program = logistic_regression.program(Parameters((6, 5), GOOD, iterations=2))
    rng, cost = SeededRng(b"rounds"), estimate(program)
    inputs = []
    for rows in (6, 5):
        table = np.zeros((rows, 4))
        table[::2] = 1.0
        inputs.append(deal(table, GOOD, 20, Dealing(bytes(32), 0, bytes(32)), NodeKey.generate(rng), rng))
    endings = simulation.simulate(program, inputs, rng)
    rounds = cost.rounds + cost.rounds // ROUNDS_PER_CHECKPOINT + FIXED_ROUNDS
    assert [ending.result is not None for ending in endings] == [True] * 4
    # A party that sends nothing in a round is counted too.
    assert all(len(ending.rounds_sent) == rounds for ending in endings)
    assert cost.traffic_bytes > 0
