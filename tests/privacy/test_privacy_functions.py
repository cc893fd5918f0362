"""Functions that studies bring: what JAX traced, as bytes that are checked and run without JAX."""

import json
import runpy
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from jax import lax
from test_privacy_jax import CASES, TOLERANCE

from koinon.cli.study import study
from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, KoinonError, MalformedMessage
from koinon.privacy.backend import Backend, PlainInput, Program
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import reveal, table
from koinon.privacy.computation import run as run_computation
from koinon.privacy.estimate import estimate
from koinon.privacy.graphs.function_code import (
    MOST_EQUATIONS,
    Block,
    Constant,
    Equation,
    FunctionCode,
    Kind,
    decode_code,
    equations_of,
    hash_of,
)
from koinon.privacy.graphs.function_public import computed
from koinon.privacy.graphs.function_running import run_code
from koinon.privacy.graphs.function_settings import SETTINGS
from koinon.privacy.graphs.function_text import lines_of
from koinon.privacy.graphs.function_tracing import traced
from koinon.privacy.graphs.jax_primitives import supported_primitives
from koinon.privacy.programs import registry
from koinon.privacy.programs.function import Settings
from koinon.privacy.programs.offer import Layout, Parameters, presented
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

ROOT = Path(__file__).parents[2]
CALLS = {"custom_jvp_call", "custom_vjp_call", "jit", "remat2"}
"""These are put in place of their call, and are in no written function."""
COLUMNS = (Column("size", -4.0, 4.0), Column("age", 0.0, 8.0), Column("ill", 0.0, 1.0))
ROWS = (24, 20)


def cells() -> np.ndarray:
    random = np.random.default_rng(5)
    size, age = random.uniform(-4, 4, sum(ROWS)), random.uniform(0, 8, sum(ROWS))
    return np.column_stack([size, age, size + age / 2 + random.normal(0, 1, sum(ROWS)) > 2])


def fitted(rows: Any) -> Any:
    """Logistic regression by gradient descent, and the loss at its end."""
    x, y = jnp.column_stack([rows[:, 0] / 4, rows[:, 1] / 4 - 1, jnp.ones(len(rows))]), rows[:, 2]

    def loss(w: Any) -> Any:
        return jnp.mean(jnp.logaddexp(0.0, -(2 * y - 1) * (x @ w)))

    w = lax.fori_loop(0, 6, lambda step, w: w - 2.0 / (1.0 + 0.1 * step) * jax.grad(loss)(w), jnp.zeros(3))
    return {"weights": w, "loss": loss(w)}


def loaded(code: bytes, layout: Layout, outputs: tuple[str, ...], *, saturating: bool = True) -> Program:
    return registry.load("function/1", encode(Parameters(layout, encode(Settings(code, saturating)), outputs)))


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_written_function_gives_what_jax_gives(name: str) -> None:
    function, inputs = CASES[name]
    ends = np.cumsum([each.size for each in inputs])

    def of_one_row(row: Any) -> Any:
        parts = [row[0, end - each.size : end].reshape(each.shape) for each, end in zip(inputs, ends, strict=True)]
        return function(
            *(part > 0.5 if each.dtype.kind == "b" else part for part, each in zip(parts, inputs, strict=True))
        )

    code = decode_code(traced(of_one_row, (1,), int(ends[-1])))
    assert name in {each.primitive for each in equations_of(code.body)} | CALLS
    row = table(np.concatenate([each.reshape(1, -1).astype(np.float64) for each in inputs], 1))
    found = run_computation(
        lambda rows: reveal(**dict(zip(code.names, run_code(code, rows, saturating=False), strict=True))),
        [row],
        ClearBackend(),
    ).outputs
    for one, two in zip(found.values(), jax.tree.leaves(function(*map(jnp.asarray, inputs))), strict=True):
        right = np.asarray(two).astype(float)
        assert one.shape == right.shape
        assert np.abs(one - right).max() <= TOLERANCE.get(name, 1e-4) * max(1.0, np.abs(right).max())


def test_what_runs_on_secrets_can_be_written() -> None:
    assert set(supported_primitives()) - CALLS <= set(SETTINGS)


def layout_of(*, by_columns: bool) -> Layout:
    if by_columns:
        return Layout((sum(ROWS),) * 2, COLUMNS, sources=((0, 2), (1,)))
    return Layout(ROWS, COLUMNS)


def inputs_of(layout: Layout) -> list[PlainInput]:
    rows = cells()
    if layout.sources:
        return [PlainInput(tuple(COLUMNS[n] for n in own), rows[:, list(own)]) for own in layout.sources]
    return [PlainInput(COLUMNS, part) for part in np.split(rows, [ROWS[0]])]


@pytest.mark.parametrize("by_columns", [False, True], ids=["rows split", "columns split"])
@pytest.mark.parametrize("engine", [ClearBackend(), SimulatedRep4()], ids=lambda engine: engine.name)
def test_a_function_learns_from_all_owners(engine: Backend, by_columns: bool) -> None:
    layout = layout_of(by_columns=by_columns)
    code = traced(fitted, layout.rows, len(COLUMNS), together=by_columns)
    program = loaded(code, layout, ("loss", "weights"))
    assert estimate(program).rounds > 0
    found = engine.run(program, inputs_of(layout), SeededRng(b"function")).outputs
    wanted = jax.jit(fitted)(jnp.asarray(cells(), jnp.float32))
    for name, values in wanted.items():
        assert np.abs(found[name] - np.asarray(values)).max() < 2e-3
    shown = presented(registry.offer("function/1"), found, layout, None)
    assert [each.name for each in shown] == ["loss", "weights"]
    assert float(wanted["loss"]) < 0.6


def test_a_node_without_jax_reads_and_runs_a_function() -> None:
    code = traced(fitted, ROWS, len(COLUMNS))
    parameters = encode(Parameters(Layout(ROWS, COLUMNS), encode(Settings(code, True)), ("loss", "weights")))
    script = (
        "import sys; sys.modules['jax'] = None; from koinon.privacy.programs import registry;"
        "from koinon.privacy.estimate import estimate;"
        "print(estimate(registry.load('function/1', bytes.fromhex(sys.stdin.read()))).rounds)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=parameters.hex(), capture_output=True, text=True, check=True, timeout=300
    )
    assert int(done.stdout) == estimate(registry.load("function/1", parameters)).rounds


def test_who_reads_a_function_sees_every_equation_and_what_it_opens() -> None:
    data = traced(fitted, ROWS, len(COLUMNS))
    lines = list(lines_of(decode_code(data)))
    assert lines[0] == "v0 = the table: float32 44×3, of 2 owners with 24 + 20 rows"
    assert "opens 'loss'" in lines[-2]
    assert "opens 'weights'" in lines[-1]
    assert sum(" = " in line and line.strip().startswith("v") for line in lines) == 1 + sum(
        1 for _ in equations_of(decode_code(data).body)
    )
    assert any("scan length=6" in line for line in lines)
    assert hash_of(data) != hash_of(traced(lambda rows: fitted(rows * 1.001), ROWS, len(COLUMNS)))


def test_who_reads_a_function_sees_every_constant_whole() -> None:
    weights = np.ones(44, np.float32)
    weights[20] = 1.0000001
    (line,) = [each for each in lines_of(decode_code(traced(lambda rows: weights @ rows, ROWS, 3))) if each[0] == "c"]
    assert line.count(" 1.0,") == 42
    assert "1.0000001" in line


TABLE = Kind((44, 3), "float32")


ZERO = Constant(Kind((), "float32"), bytes(4))


def code_with(*equations: Equation, **changes: Any) -> FunctionCode:
    """The sum of the columns after some equations."""
    total = Equation("reduce_sum", ((0,),), (), (0,), (Kind((3,), "float32"),))
    code = FunctionCode(ROWS, 3, ("sums",), Block((TABLE,), (*equations, total), (len(equations) + 1,)), (ZERO,))
    return msgspec.structs.replace(code, **changes)


def one(
    primitive: str,
    *settings: Any,
    operands: tuple[int, ...] = (0,),
    shape: tuple[int, ...] = (44, 3),
    blocks: tuple[Block, ...] = (),
    kind: str = "float32",
) -> Equation:
    return Equation(primitive, settings, blocks, operands, (Kind(shape, kind),))


SELF = Block((TABLE,), (), (0,))
NUMBER = Kind((), "float32")


def nested(depth: int) -> Block:
    inner = SELF
    for _ in range(depth):
        inner = Block((TABLE,), (one("scan", 1, 0, 1, False, blocks=(inner,)),), (1,))
    return inner


BAD: dict[str, tuple[FunctionCode, str]] = {
    "unknown primitive": (code_with(one("pure_callback")), "none of the operations"),
    "custom call": (code_with(one("jit")), "none of the operations"),
    "value of later": (code_with(one("neg", operands=(1,))), "names value 1"),
    "constant that is not there": (code_with(one("neg", operands=(-2,))), "names value -2"),
    "shape that is not made": (code_with(one("neg", shape=(44, 4))), "declares results"),
    "broadcast by the way": (code_with(one("add", operands=(0, 0), shape=(44, 44))), "declares results"),
    "empty array": (code_with(one("neg", shape=(0, 3))), "a shape that is not computed with"),
    "negative size": (code_with(one("neg", shape=(-44, -3))), "a shape that is not computed with"),
    "40 GB": (
        code_with(one("broadcast_in_dim", (0, 1), shape=(44, 3, 80_000_000))),
        "a shape that is not computed with",
    ),
    "many large arrays": (
        code_with(*(one("broadcast_in_dim", (0, 1), shape=(44, 3, 30_000)) for _ in range(20))),
        "numbers in all its values",
    ),
    "many equations": (code_with(*(one("neg") for _ in range(MOST_EQUATIONS))), f"at most {MOST_EQUATIONS} equations"),
    "too deep": (code_with(one("scan", 1, 0, 1, False, blocks=(nested(9),))), "nested more than"),
    "unknown type": (code_with(one("neg", kind="object")), "is of type 'object'"),
    "setting of another form": (code_with(one("rev", "all")), "not of its form"),
    "axis that is not there": (code_with(one("rev", (2,))), "its axes are none"),
    "axis twice": (code_with(one("rev", (1, 1))), "its axes are none"),
    "huge setting": (code_with(one("rev", (1 << 30,))), "not of its form"),
    "missing setting": (code_with(one("rev")), "is set by 1 values"),
    "nested setting": (code_with(one("rev", ((1,),))), "not of its form"),
    "list without a loop": (code_with(one("neg", blocks=(SELF,))), "inner list"),
    "endless scan": (code_with(one("scan", 1 << 20, 0, 1, False, blocks=(SELF,))), "repeats 1 to"),
    "scan of another form": (
        code_with(one("scan", 2, 0, 1, False, blocks=(Block((TABLE,), (one("neg"),), (0, 1)),))),
        "makes",
    ),
    "choice between lists that differ": (
        code_with(one("cond", operands=(-1, 0), blocks=(SELF, Block((NUMBER,), (), (0,))))),
        "differ in form",
    ),
    "result of an inner list that is not there": (
        code_with(one("scan", 2, 0, 1, False, blocks=(Block((TABLE,), (), (5,)),))),
        "names value 5",
    ),
    "makes nothing": (code_with(Equation("neg", (), (), (0,), ())), "makes nothing"),
    "window beyond its operand": (
        code_with(one("reduce_window_sum", (99, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1))),
        "beyond its operand",
    ),
    "window without steps": (
        code_with(one("reduce_window_sum", (1, 1), (0, 1), ((0, 0), (0, 0)), (1, 1), (1, 1))),
        "no size, step or edge",
    ),
    "cut outside": (code_with(one("slice", (0, 0), (45, 3), ())), "cuts outside"),
    "gather beyond": (
        code_with(one("gather", ((1,), (0,), (7,), (), ()), (1, 3), "CLIP", operands=(0, -1))),
        "places",
    ),
    "unknown mode": (
        code_with(one("gather", ((1,), (0,), (0,), (), ()), (1, 3), "WRAP", operands=(0, -1))),
        "not of its form",
    ),
    "huge power": (code_with(one("integer_pow", 1 << 20)), "64th power"),
    "too few operands": (code_with(one("add")), "another number of operands"),
    "no rows": (code_with(rows=()), "at least one row"),
    "negative rows": (code_with(rows=(-1, 45)), "at least one row"),
    "rows of another table": (code_with(rows=(1, 1)), "takes one float32 table"),
    "name twice": (code_with(names=("sums", "sums")), "a name of its own"),
    "name that prints nothing": (code_with(names=("\n",)), "printable"),
    "results without a name": (code_with(names=("sums", "more")), "1 results and 2 names"),
    "short constant": (code_with(constants=(Constant(NUMBER, b"123"),)), "constant 0 has 3 bytes"),
    "constant that is no number": (code_with(constants=(Constant(NUMBER, b"\0\0\xc0\x7f"),)), "what is not a number"),
    "truth of 7": (code_with(constants=(Constant(Kind((), "bool"), b"\7"),)), "no truth values"),
    "huge constant": (
        code_with(constants=(Constant(Kind((1 << 12, 1 << 12), "float32"), bytes(4)),)),
        "a shape that is not computed with",
    ),
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_bad_functions_are_refused_unrun(kind: str) -> None:
    code, sentence = BAD[kind]
    with pytest.raises(InvalidInput, match=sentence):
        decode_code(encode(code))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91" * 5000, encode((1, 2)), traced(fitted, ROWS, 3)[:-1]])
def test_bytes_that_are_no_function(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_code(data)


def test_a_function_cut_or_changed_anywhere_is_refused_or_another_function() -> None:
    data = traced(fitted, ROWS, 3)
    random = np.random.default_rng(3)
    refused = 0
    for place in random.integers(0, len(data), 150).tolist():
        changed = data[:place] + bytes([int(random.integers(256))]) + data[place + 1 :]
        try:
            decode_code(changed)
        except KoinonError:
            refused += 1
    assert refused > 75


def refused(function: Callable[[Any], Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        loaded(traced(function, ROWS, 3), Layout(ROWS, COLUMNS), decode_code(traced(function, ROWS, 3)).names)


def test_what_opens_rows_is_refused() -> None:
    refused(lambda rows: rows, "opens 132 numbers, and of 132")
    refused(lambda rows: jnp.cumsum(rows[:, :2], 0), "opens 88 numbers")


def test_what_is_not_done_is_said_by_its_equation() -> None:
    refused(lambda rows: jnp.sin(rows).sum(0), "JAX's sin does not run on secrets")
    refused(lambda rows: rows[jnp.argmax(rows[:, 0])], "equation")
    refused(lambda _: jnp.zeros(3), "does not depend on the rows")


def test_a_function_that_takes_too_long_ends() -> None:
    def long(rows: Any) -> Any:
        return lax.fori_loop(0, 90_000, lambda _, x: x * 0.5 + 1.0, rows.mean(0))

    refused(long, "runs more than")


def test_public_fractions_become_whole_numbers_as_jax_has_it() -> None:
    fractions = np.array([1e30, -1e30, np.nan, np.inf, -np.inf, 3.7, -3.7, 2.0**31, -(2.0**31)], np.float32)
    for kind in ("int32", "uint32"):
        found = computed("convert_element_type", [fractions], {"new_dtype": kind}, fractions.shape, kind)
        np.testing.assert_array_equal(found, np.asarray(jnp.array(fractions).astype(kind)))


def test_public_choices_among_many_take_the_room_of_one() -> None:
    everywhere = np.broadcast_to(np.float32(7), (1 << 20,))
    tracemalloc.start()
    found = computed("select_n", [np.int32(3), *[everywhere] * 200], {}, (1 << 20,), "float32")
    assert (found == 7).all()
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_public_powers_without_a_result_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no result"):
        computed("pow", [np.array(2), np.array(-1)], {}, (), "int32")


def test_loops_over_nothing_end_too() -> None:
    inner = Block((TABLE,), (one("scan", 100_000, 0, 1, False, blocks=(SELF,)),), (1,))
    code = encode(code_with(one("scan", 100_000, 0, 1, False, blocks=(inner,))))
    with pytest.raises(InvalidInput, match="runs more than"):
        loaded(code, Layout(ROWS, COLUMNS), ("sums",))


def test_public_work_has_an_end() -> None:
    large = Constant(Kind((1 << 11, 1 << 11), "float32"), bytes(4))
    summed = one("reduce_sum", (0, 1), operands=(-1,), shape=())
    loop = one("scan", 10_000, 0, 1, False, blocks=(Block((TABLE,), (summed,), (0,)),))
    product = one("dot_general", (((1,), (0,)), ((), ())), operands=(-1, -1), shape=(1 << 11, 1 << 11))
    for equation, sentence in ((loop, "equations take more than"), (product, "a product of public numbers")):
        with pytest.raises(InvalidInput, match=sentence):
            loaded(encode(code_with(equation, constants=(large,))), Layout(ROWS, COLUMNS), ("sums",))


def test_results_of_inner_lists_are_looked_up_once() -> None:
    many = Block((), (Equation("iota", (0,), (), (), (Kind((1,), "bool"),)),) * 4000, (0,) * 100_000)
    code = encode(code_with(one("scan", 1, 0, 0, False, operands=(-1,), blocks=(many,))))
    before = time.process_time()
    with pytest.raises(InvalidInput, match="goes through arrays"):
        decode_code(code)
    assert time.process_time() - before < 5


def test_a_function_of_other_rows_or_columns_is_refused() -> None:
    code = traced(fitted, ROWS, 3)
    for layout in (
        Layout((20, 24), COLUMNS),
        Layout(ROWS, (*COLUMNS, Column("more", 0.0, 1.0))),
        Layout((44,), COLUMNS),
    ):
        with pytest.raises(InvalidInput, match="the function"):
            loaded(code, layout, ("loss", "weights"))


def test_results_leave_all_or_not() -> None:
    with pytest.raises(InvalidInput, match="opens all results"):
        loaded(traced(fitted, ROWS, 3), Layout(ROWS, COLUMNS), ("weights",))


@pytest.mark.long
def test_sample_a_keras_fit_is_written_by_the_command_and_learns(tmp_path: Path) -> None:
    example, written = ROOT / "examples" / "private" / "keras_study.py", tmp_path / "fit.bin"
    asked = ["--rows", "30", "--rows", "30", "--columns", "5", "-o", str(written)]
    done = CliRunner().invoke(study, ["function", f"{example}:fit", *asked, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    code = written.read_bytes()
    assert told["function"] == "0x" + hash_of(code).hex()
    assert told["opens"] == {"weights 0": [4, 6], "weights 1": [6], "weights 2": [6, 1], "weights 3": [1]}
    shown = CliRunner().invoke(study, ["equations", str(written)], catch_exceptions=False)
    assert all(line in shown.stdout for line in lines_of(decode_code(code)))
    columns = tuple(Column(f"x{number}", -4.0, 4.0) for number in range(4))
    layout = Layout((30, 30), (*columns, Column("y", 0.0, 1.0)))
    inputs = np.random.default_rng(0).uniform(-4, 4, (60, 4))
    rows = np.column_stack([inputs, inputs[:, 0] + inputs[:, 1] > 0])
    owners = [PlainInput(layout.columns, part) for part in np.split(rows, 2)]
    program = loaded(code, layout, decode_code(code).names)
    found = ClearBackend().run(program, owners, SeededRng(b"keras")).outputs
    keras_study = runpy.run_path(str(example))
    wanted = jax.jit(keras_study["fit"])(jnp.asarray(rows, jnp.float32))
    for name, values in wanted.items():
        assert np.abs(found[name] - np.asarray(values)).max() < 2e-3
    answers = np.asarray(keras_study["trained"](found)(inputs))[:, 0]
    assert np.mean((answers > 0) == rows[:, 4]) > 0.8
