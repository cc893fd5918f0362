"""Secret arrays against NumPy, on both engines: arithmetic, layout, order, and what they refuse."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy import arrays, ordering, secret
from koinon.privacy.arrays import SecretArray, where
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, program, reveal, run, table
from koinon.privacy.estimate import estimate
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

ENGINES: list[Backend] = [ClearBackend(), SimulatedRep4()]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
ROWS = np.random.default_rng(5).normal(size=(23, 3)).round(3)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


Pair = tuple[Callable[[SecretArray], SecretArray], Callable[[np.ndarray], object], float]
"""On secrets, in NumPy, and the largest error allowed."""

SAME: dict[str, Pair] = {
    "add and subtract": (lambda x: 1.5 - x[:, 0] + x[:, 1] - 2, lambda x: 1.5 - x[:, 0] + x[:, 1] - 2, 1e-5),
    "broadcasting": (lambda x: x - x[0] * x[:, :1], lambda x: x - x[0] * x[:, :1], 1e-5),
    "product": (lambda x: x * x[:, ::-1], lambda x: x * x[:, ::-1], 1e-5),
    "public factors": (lambda x: 3 * x * np.array([0.1, -2.0, 1e-3]), lambda x: 3 * x * [0.1, -2.0, 1e-3], 2e-5),
    "powers": (lambda x: x**5, lambda x: x**5, 1e-3),
    "matrix product": (lambda x: x.T @ x, lambda x: x.T @ x, 1e-4),
    "matrix and vector": (lambda x: x @ x[0], lambda x: x @ x[0], 1e-5),
    "inner product": (lambda x: x[:, 0] @ x[:, 1], lambda x: x[:, 0] @ x[:, 1], 1e-4),
    "public matrix": (lambda x: np.eye(23) @ x, lambda x: x, 1e-5),
    "gram": (arrays.gram, lambda x: x.T @ x, 1e-4),
    "sum of everything": (lambda x: x.sum(), np.sum, 1e-4),
    "sum and mean": (lambda x: x.sum(1) + x.mean(1), lambda x: x.sum(1) + x.mean(1), 1e-5),
    "running sum": (lambda x: x.cumsum(0), lambda x: x.cumsum(0), 1e-4),
    "layout": (lambda x: x.T.reshape(-1)[3:9].reshape(2, 3).ravel(), lambda x: x.T.reshape(-1)[3:9], 3e-6),
    "one number": (lambda x: x[3, 1] * x[4, 2] + 1, lambda x: x[3, 1] * x[4, 2] + 1, 1e-5),
    "joined": (lambda x: arrays.stack([x[0], -x[1]]), lambda x: np.stack([x[0], -x[1]]), 3e-6),
    "absolute": (abs, np.abs, 3e-6),
    "quotient by public": (lambda x: x / 7.0, lambda x: x / 7.0, 1e-5),
    "quotient": (lambda x: x[:, 0] / (abs(x[:, 1]) + 0.5), lambda x: x[:, 0] / (abs(x[:, 1]) + 0.5), 1e-4),
    "reciprocal": (lambda x: 2 / (x - 8), lambda x: 2 / (x - 8), 1e-5),
    "comparison": (lambda x: x[:, 0] < x[:, 1], lambda x: x[:, 0] < x[:, 1], 0),
    "comparison with public": (lambda x: (x >= 0.5).sum(0), lambda x: (x >= 0.5).sum(0), 0),
    "equal": (lambda x: (x == x[:, :1]).sum(1), lambda x: (x == x[:, :1]).sum(1), 0),
    "logic": (
        lambda x: (x > 0)[:, 0] & ~(x > 1)[:, 1] | (x < 0)[:, 2] ^ (x > 0)[:, 1],
        lambda x: (x > 0)[:, 0] & ~(x > 1)[:, 1] | (x < 0)[:, 2] ^ (x > 0)[:, 1],
        0,
    ),
    "choice": (lambda x: where(x > 0, x, -2.5), lambda x: np.where(x > 0, x, -2.5), 1e-5),
    "extremes": (lambda x: arrays.maximum(x, 0.25), lambda x: np.maximum(x, 0.25), 1e-5),
    "exponential": (arrays.exponential, np.exp, 1e-4),
    "logarithm": (lambda x: arrays.logarithm(abs(x) + 0.01, 0.01), lambda x: np.log(abs(x) + 0.01), 1e-3),
    "square root": (lambda x: arrays.square_root(abs(x), 1e-3), lambda x: np.sqrt(abs(x)) * (abs(x) > 1e-3), 1e-4),
    "sigmoid": (arrays.sigmoid, lambda x: 1 / (1 + np.exp(-x)), 3e-4),
    "rectifier": (arrays.relu, lambda x: np.maximum(x, 0), 3e-6),
    "softmax": (arrays.softmax, softmax, 1e-5),
    "largest": (lambda x: ordering.largest(x, 0), lambda x: x.max(0), 3e-6),
    "smallest": (lambda x: ordering.smallest(x, 1), lambda x: x.min(1), 3e-6),
    "place of the largest": (lambda x: ordering.index_of_largest(x, 0), lambda x: x.argmax(0), 0),
    "place of the smallest": (lambda x: ordering.index_of_smallest(x, 1), lambda x: x.argmin(1), 0),
    "sorted after a shuffle": (lambda x: ordering.sort(ordering.shuffle(x), 0)[0], lambda x: np.sort(x, 0), 3e-6),
    "sorted": (lambda x: ordering.sort(x, 0)[0], lambda x: np.sort(x, 0), 3e-6),
    "median": (lambda x: ordering.median(x, 0), lambda x: np.median(x, 0), 1e-5),
    "quantile": (lambda x: ordering.quantile(x[:, 1], 0.9), lambda x: np.quantile(x[:, 1], 0.9), 1e-5),
}


@each_engine
@pytest.mark.parametrize("case", SAME)
def test_secret_arrays_compute_what_numpy_computes(engine: Backend, case: str) -> None:
    secretly, plainly, allowed = SAME[case]
    result = run(lambda x: reveal(result=secretly(x)), [table(ROWS)], engine).outputs["result"]
    want = np.asarray(plainly(ROWS), np.float64)
    assert result.shape == want.shape
    assert np.abs(result - want).max() <= allowed


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_sorting_carries_what_belongs_together(keys: list[int], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(keys))
    rows = np.column_stack([np.array(keys), order]).astype(float)

    def sorted_rows(x: SecretArray) -> object:
        key, carried = ordering.sort(x[:, 0], carried=(x[:, 1],))
        return reveal(key=key, carried=carried, first=ordering.index_of_largest(x[:, 0]))

    result = run(sorted_rows, [table(rows)], ClearBackend()).outputs  # type: ignore[arg-type]
    assert result["key"].round(3).tolist() == sorted(keys)
    carried = [(round(key), round(place)) for key, place in zip(result["key"], result["carried"], strict=True)]
    assert sorted(carried) == sorted((key, int(place)) for key, place in zip(keys, order, strict=True))
    assert int(result["first"]) == int(np.argmax(keys))


@each_engine
@pytest.mark.parametrize("count", [1_000, 20_000, 100_000])
def test_a_mean_and_a_sum_are_exact_however_many_rows_there_are(engine: Backend, count: int) -> None:
    """1 / 20,000 in 20 fraction bits is off by 0.8 %, and so is a mean of numbers that are each multiplied by that."""
    bits = 20
    words = np.random.default_rng(2).integers(0, 1 << bits, (count, 1))
    numbers = words / 2.0**bits
    result = run(lambda x: reveal(mean=x.mean(0), sum=x.sum(0)), [table(numbers, ranges=[(-1.0, 1.0)])], engine, bits)
    assert abs(result.outputs["mean"][0] - numbers.mean()) <= 2.0**-bits
    assert result.outputs["sum"][0] == numbers.sum()
    if count == 20_000:
        naive = (numbers * (round(2**bits / count) / 2**bits)).sum()
        assert naive / numbers.mean() - 1 == pytest.approx(-0.0082, abs=1e-4)


def test_a_private_table_is_looked_up_without_showing_the_code() -> None:
    codes, values = np.array([[3.0], [0.0], [2.0]]), np.array([[1.5, -1.0], [2.5, 4.0], [3.5, 0.0], [-7.25, 8.0]])

    def look(x: SecretArray, y: SecretArray) -> object:
        return reveal(public=ordering.looked_up(x[:, 0], values), secret=ordering.looked_up(x[:, 0], y[:, :1] * 2.0))

    ranges = [(-8.0, 8.0)]
    inputs = [table(codes, ["code"], ranges), table(values[:, :1], ["code"], ranges)]
    for engine in ENGINES:
        result = run(look, inputs, engine).outputs  # type: ignore[arg-type]
        assert np.abs(result["public"] - values[[3, 0, 2]]).max() < 1e-5
        assert np.abs(result["secret"] - 2 * values[[3, 0, 2], :1]).max() < 1e-5


def test_independent_operations_share_their_rounds() -> None:
    columns = (Column("x", -1.0, 1.0),)

    def rounds(function: Callable[[SecretArray], SecretArray]) -> int:
        return estimate(program("rounds", lambda x: reveal(result=function(x)), [(8, 1)], columns)).rounds

    product = rounds(lambda x: x * x)
    assert rounds(lambda x: arrays.stack([x * x, x * (x + 1), (x - 1) * x])) == product
    assert rounds(lambda x: (x * x) * (x * (x + 1))) == 2 * product


def test_what_nothing_depends_on_is_never_computed() -> None:
    def wasteful(x: SecretArray) -> object:
        ordering.sort(x, 0)
        return reveal(mean=x.mean(0))

    columns = (Column("x", -1.0, 1.0),)
    lean = estimate(program("lean", lambda x: reveal(mean=x.mean(0)), [(64, 1)], columns))
    assert estimate(program("wasteful", wasteful, [(64, 1)], columns)) == lean  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "misuse",
    [bool, float, int, np.asarray, len, lambda x: [1, 2, 3][x], lambda x: {x: 1}],
    ids=["if", "float", "int", "numpy", "len of a number", "index", "key"],
)
def test_a_secret_never_becomes_a_plain_value(misuse: Callable[[SecretArray], object]) -> None:
    def leak(x: SecretArray) -> object:
        with pytest.raises(TypeError):
            misuse(x[0, 0])
        return reveal(x=x)

    run(leak, [table(ROWS)], ClearBackend())  # type: ignore[arg-type]


REFUSED: dict[str, Callable[[SecretArray], object]] = {
    "shapes that do not go together": lambda x: x + x[:, :2],
    "matrices that do not go together": lambda x: x @ x,
    "an axis that is not there": lambda x: x.sum(5),
    "division by public zero": lambda x: x / 0.0,
    "a public number that is none": lambda x: x + float("nan"),
    "text": lambda x: x + np.array(["a", "b", "c"]),
    "a condition that is no bit": lambda x: where(x, x, x),
    "a power that is no whole number": lambda x: x**0.5,  # type: ignore[operator]
    "a quantile beyond one": lambda x: ordering.quantile(x, 1.5),
    "an empty axis": lambda x: ordering.largest(x[:0], 0),
    "nothing but a plain number": lambda _: 3.0,
}


@pytest.mark.parametrize("case", REFUSED)
def test_misuse_is_refused_in_one_sentence_before_anything_runs(case: str) -> None:
    with pytest.raises(InvalidInput) as problem:
        run(lambda x: reveal(result=REFUSED[case](x)), [table(ROWS)], ClearBackend())  # type: ignore[arg-type]
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 1e4) * (x * 1e4),
        lambda x: arrays.exponential(x * 100.0),
        lambda x: arrays.reciprocal(abs(x), 1e-14),
        lambda x: x * 1e17,
    ],
    ids=["product", "exponential", "reciprocal", "constant"],
)
def test_what_could_overflow_is_refused(function: Callable[[SecretArray], SecretArray]) -> None:
    with pytest.raises(Refused):
        run(lambda x: reveal(result=function(x)), [table(ROWS)], ClearBackend())


def test_a_function_says_what_it_opens() -> None:
    with pytest.raises(InvalidInput, match="reveal"):
        run(lambda x: x, [table(ROWS)], ClearBackend())  # type: ignore[arg-type,return-value]
    with pytest.raises(InvalidInput, match="1 to"):
        reveal()
    with pytest.raises(InvalidInput, match="at least one table"):
        run(lambda: reveal(), [], ClearBackend())


@each_engine
def test_many_comparisons_are_made_piece_by_piece(engine: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def compared(x: SecretArray) -> Revealed:
        return reveal(above=x > 0.2)

    monkeypatch.setattr(secret, "MOST_COMPARED", 16)
    assert (run(compared, [table(ROWS)], engine).outputs["above"] == (ROWS > 0.2)).all()
    rounds = estimate(program("local/1", compared, [ROWS.shape], table(ROWS).columns)).rounds
    assert rounds == 3 * 5  # 69 numbers
