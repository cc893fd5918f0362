"""Running a jaxpr on secrets: the one interpreter, for what JAX has just traced and for what a study brings as data.

Needs no JAX of its own: whatever has the attributes of a jaxpr that are read here is run. Equations of public operands
are given to the equation's own primitive.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.graph import made_by
from koinon.privacy.graphs.jax_primitives import PRIMITIVES
from koinon.privacy.graphs.jax_values import Hidden, Step, Value

Count = Callable[[int], None]
"""Called before every list of equations and every equation in it, with how many numbers that takes; may raise to end
what takes too long."""


class InvalidAt(InvalidInput):
    """An operation that is not done with secrets, with the line that asked for it."""


def run_closed(
    closed: Any, operands: Sequence[Value], *, saturating: bool, count: Count = lambda _: None
) -> list[Value]:
    """Interpret a closed jaxpr. Raises InvalidInput for what is not done with secrets."""
    return _run(closed.jaxpr, closed.consts, operands, saturating, count)


def _run(
    jaxpr: Any, constants: Sequence[Any], operands: Sequence[Value], saturating: bool, count: Count
) -> list[Value]:
    values: dict[Any, Value] = {}
    values.update(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, operands, strict=True))

    def value(atom: Any) -> Value:
        # Of the two kinds of operands, only a literal carries its value.
        return atom.val if hasattr(atom, "val") else values[atom]

    count(0)
    for equation in jaxpr.eqns:
        given = [value(atom) for atom in equation.invars]
        count(sum(prod(getattr(each, "shape", ())) for each in given))
        if any(isinstance(each, Hidden) for each in given) or getattr(equation.primitive, "interpreted", False):
            results = _secret(equation, given, saturating, count)
        else:
            results = _public(equation, given)
        values.update(zip(equation.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _public(equation: Any, operands: Sequence[Value]) -> list[Value]:
    primitive = equation.primitive
    found = primitive.bind(*operands, **primitive.get_bind_params(equation.params))
    return list(found) if primitive.multiple_results else [found]


def _secret(equation: Any, operands: Sequence[Value], saturating: bool, count: Count) -> list[Value]:
    name = equation.primitive.name
    rule, line = PRIMITIVES.get(name), line_of(equation.source_info)
    if rule is None:
        raise InvalidInput(
            f"JAX's {name} does not run on secrets ({line}); koinon.privacy.supported_primitives() lists what does"
        )

    def within(inner: Any, given: Sequence[Value]) -> list[Value]:
        jaxpr, constants = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
        return _run(jaxpr, constants, given, saturating, count)

    step = Step(
        name=name,
        parameters=equation.params,
        whole=np.dtype(getattr(equation.outvars[0].aval, "dtype", np.float32)).kind in "biu",
        shapes=tuple(tuple(getattr(each.aval, "shape", ())) for each in equation.outvars),
        public=partial(equation.primitive.bind, **equation.params),
        saturating=saturating,
        run=within,
    )
    try:
        with made_by(line):
            found = rule(step, *operands)
    except (Refused, InvalidAt):
        raise
    except InvalidInput as problem:
        raise InvalidAt(f"{problem} (JAX's {name}, {line})") from None
    return list(found) if isinstance(found, tuple) else [found]


def line_of(source: Any) -> str:
    """Where a function asked for an operation: JAX knows file, line and function, and data its equation's number."""
    if isinstance(source, str):
        return source
    from jax._src import source_info_util

    return str(source_info_util.summarize(source)) or "in JAX itself"
