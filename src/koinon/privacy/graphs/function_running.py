"""A decoded function in the form of a jaxpr, so that the one interpreter of jaxprs runs it without JAX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.graphs import function_code, function_settings
from koinon.privacy.graphs.function_code import Block, Equation, FunctionCode
from koinon.privacy.graphs.function_public import computed
from koinon.privacy.graphs.jax_interpreter import run_closed
from koinon.privacy.graphs.jax_values import Hidden, Value

_SEVERAL: Final = ("optimization_barrier", "sort", "split")
"""Primitives whose results are several, even where there is one."""


@dataclass(frozen=True)
class Outline:
    """As JAX's abstract values."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Variable:
    """As JAX's variables: each is itself only."""

    aval: Outline


@dataclass(frozen=True, eq=False)
class Literal:
    """As JAX's literals."""

    val: np.ndarray


@dataclass(frozen=True)
class Primitive:
    """As JAX's primitives, for one equation; loops and choices are interpreted whatever their operands are."""

    name: str
    outline: Outline
    interpreted: bool
    multiple_results: bool

    def get_bind_params(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return settings

    def bind(self, *operands: Any, **settings: Any) -> Any:
        return computed(self.name, operands, settings, self.outline.shape, self.outline.dtype)


@dataclass(frozen=True)
class Line:
    """As JAX's equations."""

    primitive: Primitive
    params: Mapping[str, Any]
    invars: tuple[Any, ...]
    outvars: tuple[Variable, ...]
    source_info: str


@dataclass(frozen=True)
class Lines:
    """As JAX's jaxprs."""

    invars: tuple[Variable, ...]
    eqns: tuple[Line, ...]
    outvars: tuple[Any, ...]
    constvars: tuple[Variable, ...] = ()


@dataclass(frozen=True)
class ClosedLines:
    """As JAX's closed jaxprs."""

    jaxpr: Lines
    consts: tuple[np.ndarray, ...] = ()


def closed_lines(code: FunctionCode) -> ClosedLines:
    """What the interpreter runs, of a function that ``decode_code`` has read."""
    constants = [Literal(values) for values in function_code.constants_of(code)]
    return ClosedLines(_lines(code.body, constants, "equation"))


def run_code(code: FunctionCode, table: SecretArray, *, saturating: bool) -> list[SecretArray]:
    """The function's results, of a table in the columns' units; none of them is opened.

    Raises:
        InvalidInput: an operation is not done with secrets in this way, a result does not depend on the rows, or too
            much would be computed.
    """
    left, numbers_left = function_code.MOST_EXECUTED, function_code.LARGEST_EXECUTED

    def count(numbers: int) -> None:
        nonlocal left, numbers_left
        left, numbers_left = left - 1, numbers_left - numbers
        if left < 0:
            raise InvalidInput(f"the function runs more than {function_code.MOST_EXECUTED} equations; make fewer steps")
        if numbers_left < 0:
            raise InvalidInput(
                f"the function's equations take more than {function_code.LARGEST_EXECUTED} numbers; make fewer or"
                " smaller steps"
            )

    found: list[Value] = run_closed(closed_lines(code), [Hidden(table)], saturating=saturating, count=count)
    results = []
    for name, value in zip(code.names, found, strict=True):
        if not isinstance(value, Hidden):
            raise InvalidInput(f"the function's result {name!r} does not depend on the rows; leave it out")
        results.append(value.array)
    return results


def _lines(block: Block, constants: Sequence[Literal], where: str) -> Lines:
    known: list[Variable] = [Variable(Outline(kind.shape, kind.type)) for kind in block.inputs]
    inputs = tuple(known)

    def of(number: int) -> Any:
        return known[number] if number >= 0 else constants[-1 - number]

    lines = []
    for place, equation in enumerate(block.equations):
        at = f"{where} {place}"
        given = tuple(of(number) for number in equation.operands)
        made = tuple(Variable(Outline(kind.shape, kind.type)) for kind in equation.results)
        lines.append(Line(_primitive(equation), _settings(equation, constants, at), given, made, at))
        known += made
    return Lines(inputs, tuple(lines), tuple(of(number) for number in block.results))


def _primitive(equation: Equation) -> Primitive:
    first = Outline(equation.results[0].shape, equation.results[0].type) if equation.results else Outline((), "bool")
    control = equation.primitive in ("cond", "scan", "while")
    return Primitive(equation.primitive, first, control, equation.primitive in _SEVERAL)


def _settings(equation: Equation, constants: Sequence[Literal], at: str) -> dict[str, Any]:
    found = function_settings.read(equation.primitive, equation.settings, at)
    inner = [_lines(one, constants, f"{at}, list {n}, equation") for n, one in enumerate(equation.blocks)]
    if equation.primitive == "cond":
        found["branches"] = tuple(inner)
    else:
        found.update(zip(function_settings.LISTS.get(equation.primitive, ()), inner, strict=True))
    if equation.primitive == "select_and_scatter_add":
        found["select_prim"] = Named(found["select_prim"])
    if equation.primitive == "convert_element_type":
        found["new_dtype"] = equation.results[0].type
    return found


@dataclass(frozen=True)
class Named:
    """As JAX's primitives where only their name is read."""

    name: str
