"""JAX functions on secrets: every supported primitive against JAX, whole functions on both engines, what is refused."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from koinon import privacy
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import table
from koinon.privacy.graphs.jax_primitives import supported_primitives
from koinon.privacy.rep4.simulation import SimulatedRep4

Function = Callable[..., Any]
CLEAR = ClearBackend()
ENGINES: list[Backend] = [CLEAR, SimulatedRep4()]
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)

GENERAL = np.array([[-2.5, -1.0, 0.5], [1.5, 0.25, -0.75], [3.0, -0.125, 2.0], [0.75, 1.25, -3.5]], np.float32)
OTHER = np.array([[1.5, -2.0, 0.25], [1.25, -0.25, 0.75], [-3.0, 2.125, 1.0], [0.5, -1.5, 2.5]], np.float32)
POSITIVE = np.abs(GENERAL) + 0.5
FLAGS = GENERAL > 0
CODES = np.array([2, 0, 3, 1], np.int32)
IMAGES = np.random.default_rng(0).normal(size=(2, 4, 5, 2)).astype(np.float32)
KERNELS = np.random.default_rng(1).normal(size=(3, 2, 2, 4)).astype(np.float32)


def scaled_loop(x: Any) -> Any:
    return lax.while_loop(lambda state: state[0] < 3, lambda state: (state[0] + 1, state[1] * 1.5), (0, x))[1]


def forgetting(x: Any) -> Any:
    return lax.scan(lambda state, row: (0.5 * state + row, state), jnp.zeros(3), x, reverse=True)


def pooled(x: Any, y: Any) -> Any:
    def loss(image: Any) -> Any:
        return (lax.reduce_window(image, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME") * y).sum()

    return jax.grad(loss)(x)


@jax.custom_vjp
def doubled(x: Any) -> Any:
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, slope: (2 * slope,))

CASES: dict[str, tuple[Function, tuple[np.ndarray, ...]]] = {
    "abs": (jnp.abs, (GENERAL,)),
    "add": (jnp.add, (GENERAL, OTHER)),
    "add_any": (jax.grad(lambda x: (x * x.sum()).sum() + (x * OTHER).sum()), (GENERAL,)),
    "and": (jnp.logical_and, (FLAGS, ~FLAGS | (OTHER > 1))),
    "argmax": (lambda x: jnp.argmax(x, 0), (GENERAL,)),
    "argmin": (lambda x: jnp.argmin(x, 1), (GENERAL,)),
    "broadcast_in_dim": (lambda x: jnp.broadcast_to(x[:, None, :], (4, 2, 3)), (GENERAL,)),
    "remat2": (jax.checkpoint(lambda x: x * 2), (GENERAL,)),
    "clamp": (lambda x: lax.clamp(-1.0, x, 1.5), (GENERAL,)),
    "concatenate": (lambda x: jnp.concatenate([x, OTHER, 2 * x], 1), (GENERAL,)),
    "cond": (lambda x: lax.cond(x[0, 0] > 0, lambda: x * 2, lambda: x - 1), (GENERAL,)),
    "conv_general_dilated": (
        lambda x, y: lax.conv_general_dilated(x, y, (1, 2), [(1, 0), (2, 1)], (2, 1), (1, 2), ("NHWC", "HWIO", "NHWC")),
        (IMAGES, KERNELS),
    ),
    "convert_element_type": (
        lambda x, flags: flags.astype(jnp.float32) + x.astype(jnp.float32),
        (CODES[:, None], FLAGS),
    ),
    "copy": (lambda x: lax.copy_p.bind(x), (GENERAL,)),
    "cumsum": (lambda x: lax.cumsum(x, 0, reverse=True), (GENERAL,)),
    "custom_jvp_call": (jax.nn.relu, (GENERAL,)),
    "custom_vjp_call": (lambda x: doubled(x), (GENERAL,)),
    "div": (jnp.divide, (GENERAL, OTHER)),
    "dot_general": (lambda x, y: jnp.einsum("ij,ik->ijk", x, y) @ y[0], (GENERAL, OTHER)),
    "dynamic_slice": (lambda x: lax.dynamic_slice(x, (jnp.int32(1), jnp.int32(1)), (2, 2)), (GENERAL,)),
    "dynamic_update_slice": (lambda x, y: lax.dynamic_update_slice(x, y[:1, :2], (2, 1)), (GENERAL, OTHER)),
    "eq": (lambda codes: codes[:, None] == jnp.arange(4), (CODES,)),
    "erf": (lambda x: lax.erf(x), (GENERAL,)),
    "exp": (jnp.exp, (GENERAL,)),
    "exp2": (jnp.exp2, (GENERAL,)),
    "expm1": (jnp.expm1, (GENERAL,)),
    "gather": (lambda x: x[np.array([2, 0, 0])], (GENERAL,)),
    "ge": (jnp.greater_equal, (GENERAL, OTHER)),
    "gt": (jnp.greater, (GENERAL, OTHER)),
    "integer_pow": (lambda x: lax.integer_pow(x, -3), (POSITIVE,)),
    "is_finite": (lambda x: jnp.where(jnp.isfinite(x), x, 0.0), (GENERAL,)),
    "jit": (jax.jit(lambda x: 3 * x), (GENERAL,)),
    "le": (jnp.less_equal, (CODES, CODES[::-1].copy())),
    "log": (jnp.log, (POSITIVE,)),
    "log1p": (jnp.log1p, (POSITIVE,)),
    "logistic": (jax.nn.sigmoid, (GENERAL,)),
    "lt": (jnp.less, (GENERAL, OTHER)),
    "max": (jnp.maximum, (GENERAL, OTHER)),
    "min": (jnp.minimum, (GENERAL, OTHER)),
    "mul": (jnp.multiply, (GENERAL, OTHER)),
    "ne": (jnp.not_equal, (CODES, CODES[::-1].copy())),
    "neg": (jnp.negative, (GENERAL,)),
    "not": (jnp.logical_not, (FLAGS,)),
    "optimization_barrier": (lambda x: lax.optimization_barrier((x, x))[1], (GENERAL,)),
    "or": (jnp.logical_or, (FLAGS, OTHER > 1)),
    "pad": (lambda x: lax.pad(x, np.float32(0.5), [(1, 0, 1), (-1, 2, 0)]), (GENERAL,)),
    "pow": (lambda x: x**1.5, (POSITIVE,)),
    "reduce_and": (lambda x: x.all(0), (FLAGS,)),
    "reduce_max": (lambda x: x.max(0), (GENERAL,)),
    "reduce_min": (lambda x: x.min(), (GENERAL,)),
    "reduce_or": (lambda x: x.any(1), (FLAGS,)),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 8, 23), (GENERAL,)),
    "reduce_prod": (lambda x: x.prod(1), (GENERAL,)),
    "reduce_sum": (lambda x: x.sum((0, 1)), (GENERAL,)),
    "reduce_window_max": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 2, 1), "SAME"),
        (IMAGES,),
    ),
    "reduce_window_min": (
        lambda x: lax.reduce_window(x, jnp.inf, lax.min, (1, 2, 2, 1), (1, 1, 2, 1), "VALID"),
        (IMAGES,),
    ),
    "reduce_window_sum": (
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 2, 1), (1, 2, 1, 1), "SAME"),
        (IMAGES,),
    ),
    "reshape": (lambda x: x.reshape(2, 6), (GENERAL,)),
    "rev": (lambda x: x[::-1, ::-1], (GENERAL,)),
    "rsqrt": (lax.rsqrt, (POSITIVE,)),
    "scan": (forgetting, (GENERAL,)),
    "scatter": (lambda x, y: x.at[np.array([3, 1])].set(y[:2]), (GENERAL, OTHER)),
    "scatter-add": (lambda x, y: x.at[np.array([3, 1, 3, 9])].add(y, mode="drop"), (GENERAL, OTHER)),
    "select_and_scatter_add": (pooled, (IMAGES, IMAGES[:, :2, :3].copy())),
    "select_n": (jnp.where, (FLAGS, GENERAL, OTHER)),
    "sign": (jnp.sign, (GENERAL,)),
    "slice": (lambda x: x[1:4:2, :2], (GENERAL,)),
    "sort": (lambda x: jnp.argsort(x, 0), (GENERAL,)),
    "split": (lambda x: jnp.split(x, [1], 0), (GENERAL,)),
    "sqrt": (jnp.sqrt, (POSITIVE,)),
    "square": (jnp.square, (GENERAL,)),
    "squeeze": (lambda x: jnp.squeeze(x[:, None, :], 1), (GENERAL,)),
    "stop_gradient": (lax.stop_gradient, (GENERAL,)),
    "sub": (lambda x: 1.0 - x, (GENERAL,)),
    "tanh": (jnp.tanh, (GENERAL,)),
    "transpose": (jnp.transpose, (GENERAL,)),
    "while": (scaled_loop, (GENERAL,)),
    "xor": (jnp.logical_xor, (FLAGS, OTHER > 1)),
}
"""For each primitive a function whose jaxpr holds it, and its secret inputs."""
TOLERANCE = {"erf": 2e-3, "logistic": 5e-4, "tanh": 1e-3}


def primitives_of(jaxpr: Any) -> set[str]:
    found = set()
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, tuple | list) else (parameter,):
                if hasattr(inner, "eqns"):
                    found |= primitives_of(getattr(inner, "jaxpr", inner))
    return found


def agrees(function: Function, inputs: tuple[np.ndarray, ...], tolerance: float, engine: Backend = CLEAR) -> None:
    found = jax.tree.leaves(privacy.run(function, inputs, engine))
    want = jax.tree.leaves(jax.jit(function)(*inputs))
    for one, two in zip(found, want, strict=True):
        right = np.asarray(two).astype(float)
        assert one.shape == right.shape
        assert np.abs(np.asarray(one).astype(float) - right).max() <= tolerance * max(1.0, np.abs(right).max())


def test_every_supported_primitive_has_a_case() -> None:
    assert set(CASES) == set(supported_primitives())


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_primitive_gives_what_jax_gives(name: str) -> None:
    function, inputs = CASES[name]
    assert name in primitives_of(jax.make_jaxpr(function)(*inputs).jaxpr)
    agrees(function, inputs, TOLERANCE.get(name, 1e-4))


@st.composite
def shaped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays whose shapes broadcast; sixteenths from −4 to 4, so that float32 holds them exactly."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    other = [draw(st.sampled_from([size, 1])) for size in shape]
    numbers = st.integers(-64, 64)
    arrays = [
        np.array(draw(st.lists(numbers, min_size=int(np.prod(sizes)), max_size=int(np.prod(sizes)))), np.float32)
        for sizes in (shape, other)
    ]
    return arrays[0].reshape(shape) / 16, arrays[1].reshape(other) / 16


@given(shaped())
@settings(max_examples=8, deadline=None)
def test_any_shapes(pair: tuple[np.ndarray, np.ndarray]) -> None:
    def several(x: Any, y: Any) -> Any:
        return x + y, x * y, jnp.maximum(x, y), x < y, (x - y).sum(-1), x.max(0), jnp.flip(x, 0), x.ravel() @ x.ravel()

    x, y = pair
    found = privacy.run(several, pair, CLEAR)
    want = (x + y, x * y, np.maximum(x, y), x < y, (x - y).sum(-1), x.max(0), np.flip(x, 0), x.ravel() @ x.ravel())
    for one, two in zip(found, want, strict=True):
        assert one.shape == two.shape
        assert np.abs(one - two).max(initial=0) <= 1e-3


def classified(x: Any, target: Any) -> Any:
    """Logistic regression as JAX's documentation writes it: a loss, its gradient, a loop."""

    def loss(weights: Any) -> Any:
        return jnp.mean(jax.nn.softplus(x @ weights) - target * (x @ weights))

    return lax.fori_loop(0, 3, lambda _, weights: weights - 0.5 * jax.grad(loss)(weights), jnp.zeros(x.shape[1]))


def by_rows(x: Any, target: Any) -> Any:
    """Per-row gradients, as differentially private training takes them."""
    return jax.vmap(lambda row, y: jax.grad(lambda w: (jnp.tanh(row @ w) - y) ** 2)(jnp.ones(3) / 4))(x, target)


@each_engine
@pytest.mark.parametrize("function", [classified, by_rows])
def test_whole_functions(function: Function, engine: Backend) -> None:
    found = privacy.run(function, [GENERAL, FLAGS[:, 0].astype(np.float32)], engine, saturating=True)
    want = np.asarray(function(jnp.asarray(GENERAL), jnp.asarray(FLAGS[:, 0], jnp.float32)))
    assert np.abs(found - want).max() < 2e-3


def test_owners_tables_are_arguments() -> None:
    ranges = [(-4.0, 4.0)] * 3
    tables = [table(GENERAL, ["a", "b", "c"], ranges), table(OTHER, ["a", "b", "c"], ranges)]
    found = privacy.run(lambda one, two: {"means": jnp.concatenate([one, two]).mean(0)}, tables, CLEAR)
    assert np.abs(found["means"] - np.concatenate([GENERAL, OTHER]).mean(0)).max() < 1e-5


def test_what_could_outgrow_a_word_is_refused_or_saturates() -> None:
    def grown(x: Any) -> Any:
        return lax.fori_loop(0, 6, lambda _, state: state * state, x)

    with pytest.raises(Refused, match=r"overflow.*test_privacy_jax.py"):
        privacy.run(grown, [GENERAL], CLEAR)
    found = privacy.run(grown, [GENERAL / 4], CLEAR, saturating=True)
    assert np.abs(found - (GENERAL / 4.0) ** 64).max() < 1e-3
    large = privacy.run(grown, [GENERAL], CLEAR, saturating=True)
    assert (large[np.abs(GENERAL) > 1.5] > 1e5).all()


REFUSED: dict[str, tuple[Function, str]] = {
    "no rule": (lambda x: jnp.sin(x), r"sin does not run on secrets \(.*test_privacy_jax.py"),
    "loop of secret length": (
        lambda x: lax.while_loop(lambda state: state.sum() < 3, lambda state: state * 2, x),
        "public number of times",
    ),
    "secret exponent": (lambda x: 2.0**x, "an exponent depends on a secret"),
    "rounding": (lambda x: x.astype(jnp.int32), "not rounded"),
    "division by zero": (lambda x: x / jnp.zeros(3), "public 0"),
    "infinity": (lambda x: x + jnp.inf, "not finite"),
    "secret place": (lambda x: x[jnp.argmax(x[:, 0])], "index depends on a secret"),
    "nothing secret": (lambda x: jnp.zeros(x.shape), "do not depend"),
    "sorting by two keys": (lambda x: lax.sort((x[0], x[1]), num_keys=2), "one key"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_done_with_secrets_is_said(name: str) -> None:
    function, sentence = REFUSED[name]
    with pytest.raises(InvalidInput, match=sentence):
        privacy.run(function, [GENERAL], CLEAR)


@pytest.mark.parametrize(
    "inputs", [[], [np.array(["a"])], [np.zeros((0, 2))], [np.array([np.nan])], [GENERAL, table(GENERAL)]]
)
def test_unusable_inputs(inputs: list[Any]) -> None:
    with pytest.raises(InvalidInput):
        privacy.run(lambda *arrays: arrays, inputs, CLEAR)


@pytest.mark.parametrize("divisors", [[1, 2, 3, 5, 17, 100], [1, 1, 2], [7, 1, 63]])
def test_a_whole_secret_number_divides_from_1_on(divisors: list[int]) -> None:
    """Its words have no fraction, in which levels between 1 and 2 would be told apart."""
    found = privacy.run(lambda x: 3.5 / x, [np.array(divisors)], ClearBackend())
    assert np.abs(np.asarray(found) * np.array(divisors) / 3.5 - 1).max() < 1e-4
