"""From a JAX function to the bytes that a study brings: traced once, calls put in place, what is public computed.

Everything that depends on neither rows nor a loop's counter is computed here, by JAX, and becomes a constant; functions
that are called become their equations. What nothing depends on is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.graphs import function_settings
from koinon.privacy.graphs.function_code import (
    Block,
    Constant,
    Equation,
    FunctionCode,
    Kind,
    constant_of,
    encode_code,
)

_CALLS: Final = ("closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "remat2")
_BODIES: Final = ("jaxpr", "call_jaxpr", "fun_jaxpr")


@dataclass(frozen=True)
class _Secret:
    """A value of the list that is being written, by its number there."""

    number: int
    kind: Kind


_Known = np.ndarray | _Secret


@dataclass
class _Constants:
    """The constants so far, each once."""

    entries: list[Constant] = field(default_factory=list)
    numbers: dict[tuple[Kind, bytes], int] = field(default_factory=dict)

    def number(self, values: np.ndarray) -> int:
        made = constant_of(values)
        place = self.numbers.setdefault((made.kind, made.data), len(self.entries))
        if place == len(self.entries):
            self.entries.append(made)
        return -1 - place


@dataclass
class _Writer:
    """One list of equations while it is written."""

    constants: _Constants
    inputs: tuple[Kind, ...]
    known: int = 0
    equations: list[Equation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = len(self.inputs)

    def number(self, value: _Known) -> int:
        return value.number if isinstance(value, _Secret) else self.constants.number(value)

    def add(self, equation: Equation) -> list[_Known]:
        self.equations.append(equation)
        start, self.known = self.known, self.known + len(equation.results)
        return [_Secret(start + place, kind) for place, kind in enumerate(equation.results)]

    def block(self, results: Sequence[_Known]) -> Block:
        return _without_idle(Block(self.inputs, tuple(self.equations), tuple(map(self.number, results))))


def traced(function: Callable[..., Any], rows: Sequence[int], columns: int, *, together: bool = False) -> bytes:
    """A function of one table as bytes that a study can bring.

    Args:
        function: takes a float32 array (all rows, columns) in the columns' units; returns arrays, nested as it likes in
            tuples, lists and dicts, whose places are their names.
        rows: of each owner.
        together: owners bring different columns of the same people, so that the table has one owner's rows.

    Raises:
        InvalidInput: the function does something that is not done in studies; says what.
    """
    import jax
    import jax.numpy as jnp

    if not rows or min(rows) < 1 or columns < 1 or (together and len(set(rows)) != 1):
        raise InvalidInput("give the rows of each owner, the same where they are the same people, and the columns")
    table = jax.ShapeDtypeStruct((rows[0] if together else sum(rows), columns), jnp.float32)  # type: ignore[no-untyped-call]
    closed, results = jax.make_jaxpr(function, return_shape=True)(table)
    paths, _ = jax.tree_util.tree_flatten_with_path(results)
    names = tuple(_name([str(getattr(key, "key", getattr(key, "idx", key))) for key in path]) for path, _ in paths)
    kind = Kind(tuple(table.shape), "float32")
    writer = _Writer(_Constants(), (kind,))
    found = _written(closed.jaxpr, [np.asarray(each) for each in closed.consts], [_Secret(0, kind)], writer)
    for name, value in zip(names, found, strict=True):
        if not isinstance(value, _Secret):
            raise InvalidInput(f"the function's result {name!r} does not depend on the rows; leave it out")
    body = writer.block(found)
    body, constants = _used_only(body, writer.constants.entries)
    return encode_code(FunctionCode(tuple(rows), columns, names, body, constants))


def _name(path: Sequence[str]) -> str:
    if not path:
        return "result"
    return " ".join(path) if not path[0].isdecimal() else " ".join(("result", *path))


def _written(jaxpr: Any, constants: Sequence[_Known], operands: Sequence[_Known], writer: _Writer) -> list[_Known]:
    """Write a jaxpr's equations; its results."""
    values: dict[Any, _Known] = {}
    values.update(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, operands, strict=True))

    def value(atom: Any) -> _Known:
        return np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        given = [value(atom) for atom in equation.invars]
        values.update(zip(equation.outvars, _equation(equation, given, writer), strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _equation(equation: Any, given: Sequence[_Known], writer: _Writer) -> list[_Known]:
    name = equation.primitive.name
    if not any(isinstance(each, _Secret) for each in given):
        return _computed(equation, given)
    if name in _CALLS:
        inner = next(equation.params[body] for body in _BODIES if body in equation.params)
        jaxpr, constants = _opened(inner)
        return _written(jaxpr, constants, given, writer)
    if name == "cond" and not isinstance(given[0], _Secret):
        branches = equation.params["branches"]
        jaxpr, constants = _opened(branches[int(np.clip(int(given[0]), 0, len(branches) - 1))])
        return _written(jaxpr, constants, given[1:], writer)
    if name not in function_settings.SETTINGS:
        from koinon.privacy.graphs.jax_interpreter import line_of

        raise InvalidInput(
            f"JAX's {name} does not run on secrets, nor on what changes in a loop ({line_of(equation.source_info)});"
            " koinon.privacy.supported_primitives() lists what does"
        )
    results = tuple(_kind(each.aval) for each in equation.outvars)
    control = _CONTROL.get(name)
    if control is not None:
        operands, settings, blocks = control(equation.params, given, writer)
    else:
        operands, settings, blocks = list(given), _settings(name, equation.params), ()
    return writer.add(Equation(name, settings, blocks, tuple(map(writer.number, operands)), results))


def _computed(equation: Any, given: Sequence[_Known]) -> list[_Known]:
    primitive = equation.primitive
    found = primitive.bind(*given, **primitive.get_bind_params(equation.params))
    return list(map(_public, found)) if primitive.multiple_results else [_public(found)]


def _public(value: Any) -> Any:
    """NumPy's form, but of JAX's own types such as keys of random numbers, which only further computing takes."""
    import jax
    import jax.numpy as jnp

    extended = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended)
    return value if extended else np.asarray(value)


def _kind(aval: Any) -> Kind:
    return Kind(tuple(int(size) for size in aval.shape), np.dtype(aval.dtype).name)


def _opened(inner: Any) -> tuple[Any, list[_Known]]:
    if hasattr(inner, "consts"):
        return inner.jaxpr, [np.asarray(each) for each in inner.consts]
    return inner, []


def _settings(name: str, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(_plain(parameters[each]) for each in function_settings.SETTINGS[name])


def _plain(value: Any) -> Any:
    """A parameter of JAX as whole numbers, texts and tuples of them."""
    if value is None:
        return ()
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, tuple | list):
        return tuple(_plain(each) for each in value)
    return str(value.name)


_Parts = tuple[list[_Known], tuple[Any, ...], tuple[Block, ...]]
"""Operands, settings and inner lists of an equation."""
_Control = Callable[[Mapping[str, Any], Sequence[_Known], _Writer], _Parts]


def _list_of(
    inner: Any, fixed: Sequence[_Known], moving: Sequence[Kind], writer: _Writer
) -> tuple[Block, list[_Known]]:
    """An inner list, and what it is given of what does not change: constants are put in place."""
    jaxpr, constants = _opened(inner)
    secret = [each for each in fixed if isinstance(each, _Secret)]
    body = _Writer(writer.constants, (*(each.kind for each in secret), *moving))
    numbered = iter(range(len(secret)))
    given: list[_Known] = [_Secret(next(numbered), each.kind) if isinstance(each, _Secret) else each for each in fixed]
    given += [_Secret(len(secret) + place, kind) for place, kind in enumerate(moving)]
    return body.block(_written(jaxpr, constants, given, body)), list(secret)


def _kinds(values: Sequence[_Known]) -> list[Kind]:
    return [each.kind if isinstance(each, _Secret) else Kind(tuple(each.shape), each.dtype.name) for each in values]


def _choice(parameters: Mapping[str, Any], given: Sequence[_Known], writer: _Writer) -> _Parts:
    which, *operands = given
    blocks = []
    for branch in parameters["branches"]:
        block, _ = _list_of(branch, operands, (), writer)
        blocks.append(block)
    return [which, *(each for each in operands if isinstance(each, _Secret))], (), tuple(blocks)


def _scan(parameters: Mapping[str, Any], given: Sequence[_Known], writer: _Writer) -> _Parts:
    fixed, kept = parameters["num_consts"], parameters["num_carry"]
    state, rows = list(given[fixed : fixed + kept]), list(given[fixed + kept :])
    moving = [*_kinds(state), *(Kind(kind.shape[1:], kind.type) for kind in _kinds(rows))]
    block, used = _list_of(parameters["jaxpr"], given[:fixed], moving, writer)
    settings = (int(parameters["length"]), len(used), kept, bool(parameters["reverse"]))
    return [*used, *state, *rows], settings, (block,)


def _while(parameters: Mapping[str, Any], given: Sequence[_Known], writer: _Writer) -> _Parts:
    first, second = parameters["cond_nconsts"], parameters["body_nconsts"]
    state = list(given[first + second :])
    condition, tested = _list_of(parameters["cond_jaxpr"], given[:first], _kinds(state), writer)
    body, used = _list_of(parameters["body_jaxpr"], given[first : first + second], _kinds(state), writer)
    return [*tested, *used, *state], (len(tested), len(used)), (condition, body)


_CONTROL: Final[Mapping[str, _Control]] = {"cond": _choice, "scan": _scan, "while": _while}


# ------------------------------------------------------------------------------------------------- leaving out


def _without_idle(block: Block) -> Block:
    """The list without equations that none of its results depends on."""
    needed = {number for number in block.results if number >= 0}
    starts, start = [], len(block.inputs)
    for equation in block.equations:
        starts.append(start)
        start += len(equation.results)
    kept = []
    for first, equation in zip(reversed(starts), reversed(block.equations), strict=True):
        if needed & set(range(first, first + len(equation.results))):
            needed |= {number for number in equation.operands if number >= 0}
            kept.append((first, equation))
    numbers = {number: number for number in range(len(block.inputs))}
    following = len(block.inputs)
    for first, equation in reversed(kept):
        for place in range(len(equation.results)):
            numbers[first + place] = following
            following += 1

    def renamed(operands: Sequence[int]) -> tuple[int, ...]:
        return tuple(numbers[number] if number >= 0 else number for number in operands)

    equations = tuple(
        Equation(one.primitive, one.settings, one.blocks, renamed(one.operands), one.results)
        for _, one in reversed(kept)
    )
    return Block(block.inputs, equations, renamed(block.results))


def _used_only(body: Block, constants: Sequence[Constant]) -> tuple[Block, tuple[Constant, ...]]:
    """The function without constants that nothing names any more."""
    numbers: dict[int, int] = {}

    def renamed(operands: Sequence[int]) -> tuple[int, ...]:
        return tuple(n if n >= 0 else numbers.setdefault(n, -1 - len(numbers)) for n in operands)

    def rewritten(block: Block) -> Block:
        equations = tuple(
            Equation(
                one.primitive,
                one.settings,
                tuple(rewritten(inner) for inner in one.blocks),
                renamed(one.operands),
                one.results,
            )
            for one in block.equations
        )
        return Block(block.inputs, equations, renamed(block.results))

    made = rewritten(body)
    return made, tuple(constants[-1 - number] for number in numbers)
