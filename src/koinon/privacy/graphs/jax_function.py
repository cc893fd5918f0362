"""Any JAX function on secret arrays, through its jaxpr.

JAX traces the function once on shapes; ``grad``, ``vmap`` and ``jit`` inside are traced away. What depends on public
numbers alone is computed by JAX in the clear; every equation with a secret operand becomes operations on secret arrays
by the table in ``jax_primitives``. What is not in the table, and what would let a secret decide a shape or how long a
loop runs, is refused with the name of the primitive and the line that asked for it, before anything is shared.

    def slope(x, y):
        return jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))(jnp.zeros(x.shape[1]))

    koinon.privacy.run(slope, [x, y])
"""

from collections.abc import Callable, Sequence
from functools import wraps
from math import inf
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.computation import Revealed, reveal, table
from koinon.privacy.computation import run as run_computation
from koinon.privacy.graphs.jax_interpreter import run_closed
from koinon.privacy.graphs.jax_values import Hidden, Value

_RESULT: Final = "result {}"


def run(
    function: Callable[..., Any],
    inputs: "Sequence[PlainInput | np.ndarray]",
    engine: Backend | None = None,
    fraction_bits: int = 20,
    *,
    saturating: bool = False,
) -> Any:
    """What a JAX function makes of secret inputs; its results, and nothing else, are opened.

    Args:
        function: takes one array for each input and returns arrays, nested as it likes in tuples, lists and dicts.
        inputs: one owner's rows each, all with the same columns and ranges; or arrays of any shapes, of which numbers
            of whole or Boolean type stay whole. Ranges of arrays are the next power of two around their numbers.
        engine: by default four parties in this process.
        fraction_bits: of every number.
        saturating: put numbers that could outgrow a word on the largest that fits, at the cost of a comparison,
            instead of refusing the function.

    Raises:
        InvalidInput: the function does something that is not done with secrets; says what, and in which line.
        Refused: some input within its range could overflow the function.
        ProtocolAbort: a party deviated.
    """
    if not inputs:
        raise InvalidInput("a function on secrets needs at least one input")
    owners, arranged = _arranged(inputs)
    finish: list[Callable[[dict[str, np.ndarray]], Any]] = []

    def compute(*tables: SecretArray) -> Revealed:
        opened, rebuild = _opened(apply(function, *arranged(tables), saturating=saturating))
        finish.append(rebuild)
        return opened

    outputs = run_computation(compute, owners, engine, fraction_bits).outputs
    return finish[-1](dict(outputs))


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs on secrets wherever it is called, in place of ``jax.jit``: its arguments are shared among
    four parties of this process, and its results are opened. See ``run``; numbers that outgrow a word saturate.
    """

    @wraps(function)
    def on_secrets(*arguments: Any) -> Any:
        return run(function, [np.asarray(each) for each in arguments], saturating=True)

    return on_secrets


def apply(function: Callable[..., Any], *arguments: Any, saturating: bool = False) -> Any:
    """The function's results as SecretArrays, or NumPy arrays where they are public.

    Args:
        arguments: of the function, nested as it takes them; SecretArrays, Hidden or public arrays.

    Raises:
        InvalidInput: see ``run``.
    """
    import jax

    leaves, shape = jax.tree.flatten(arguments, is_leaf=_is_secret)
    values = [Hidden(leaf) if isinstance(leaf, SecretArray) else leaf for leaf in leaves]

    def flat(*each: Any) -> Any:
        return function(*jax.tree.unflatten(shape, each))

    outlines = [_outline(value) for value in values]
    closed, results = jax.make_jaxpr(flat, return_shape=True)(*outlines)
    found = run_closed(closed, values, saturating=saturating)
    plain = [each.array if isinstance(each, Hidden) else np.asarray(each) for each in found]
    return jax.tree.unflatten(jax.tree.structure(results), plain)


def _is_secret(leaf: Any) -> bool:
    return isinstance(leaf, SecretArray | Hidden)


def _outline(value: Value) -> Any:
    import jax
    import jax.numpy as jnp

    if not isinstance(value, Hidden):
        return value
    kind = jnp.bool_ if value.array.is_bit else jnp.int32 if value.whole else jnp.float32
    return jax.ShapeDtypeStruct(value.shape, kind)  # type: ignore[no-untyped-call]


def _arranged(
    inputs: "Sequence[PlainInput | np.ndarray]",
) -> "tuple[list[PlainInput], Callable[[Sequence[SecretArray]], list[Any]]]":
    """The owners' tables, and how the function's arguments are found in them."""
    owners = [each for each in inputs if isinstance(each, PlainInput)]
    if len(owners) == len(inputs):
        return owners, list
    if owners:
        raise InvalidInput("inputs are owners' tables or arrays, not both; make a table of each array")
    arrays = [np.asarray(each) for each in inputs]
    for number, array in enumerate(arrays):
        if array.dtype.kind not in "biuf" or not array.size:
            raise InvalidInput(f"input {number} is no array of numbers")
    if len({len(array) if array.ndim else 0 for array in arrays}) == 1 and arrays[0].ndim:
        columns = [array.reshape(len(array), -1).astype(np.float64) for array in arrays]
        joined = table(np.concatenate(columns, 1))
        ends = np.cumsum([column.shape[1] for column in columns])
        places = [(slice(None), slice(end - column.shape[1], end)) for column, end in zip(columns, ends, strict=True)]
    else:
        flat = [array.reshape(-1, 1).astype(np.float64) for array in arrays]
        joined = table(np.concatenate(flat))
        ends = np.cumsum([len(column) for column in flat])
        places = [(slice(end - len(column), end), slice(None)) for column, end in zip(flat, ends, strict=True)]

    def arguments(tables: Sequence[SecretArray]) -> list[Any]:
        (rows,) = tables
        return [_argument(rows[at].reshape(*array.shape), array) for at, array in zip(places, arrays, strict=True)]

    return [joined], arguments


def _argument(array: SecretArray, like: np.ndarray) -> Hidden:
    if like.dtype.kind == "b":
        return Hidden(array > 0.5, 0.0, 1.0, whole=True)
    return Hidden(array, -inf, inf, like.dtype.kind in "iu")


def _opened(results: Any) -> "tuple[Revealed, Callable[[dict[str, np.ndarray]], Any]]":
    """What is opened of a function's results, and how they are put together again."""
    import jax

    leaves, shape = jax.tree.flatten(results, is_leaf=_is_secret)
    secret = {_RESULT.format(n): leaf for n, leaf in enumerate(leaves) if isinstance(leaf, SecretArray)}
    if not secret:
        raise InvalidInput("the function's results do not depend on its inputs; run it without secrets")

    def rebuilt(outputs: dict[str, np.ndarray]) -> Any:
        return jax.tree.unflatten(shape, [outputs.get(_RESULT.format(n), leaf) for n, leaf in enumerate(leaves)])

    return reveal(**secret), rebuilt
