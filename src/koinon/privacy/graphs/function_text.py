"""A function as text, equation by equation, for whoever is asked to allow it."""

from collections.abc import Iterator, Sequence

import numpy as np

from koinon.privacy.graphs.function_code import Block, FunctionCode, Kind, constants_of, results_of
from koinon.privacy.graphs.function_settings import SETTINGS


def lines_of(code: FunctionCode) -> Iterator[str]:
    """What it takes, every equation in order, and what it opens."""
    rows = " + ".join(map(str, code.rows))
    yield f"v0 = the table: {_kind(code.body.inputs[0])}, of {len(code.rows)} owners with {rows} rows"
    for number, values in enumerate(constants_of(code)):
        yield f"c{number} = {_values(values)}: {values.dtype.name} {_shape(values.shape)}"
    yield from _equations(code.body, "")
    for name, number, kind in zip(code.names, code.body.results, results_of(code), strict=True):
        yield f"opens {name!r} = {_named(number)}: {_kind(kind)}"


def _equations(block: Block, indent: str) -> Iterator[str]:
    following = len(block.inputs)
    for equation in block.equations:
        results = ", ".join(f"v{following + place}" for place in range(len(equation.results)))
        following += len(equation.results)
        operands = " ".join(_named(number) for number in equation.operands)
        names = SETTINGS[equation.primitive]
        told = "".join(f" {name}={_plain(value)}" for name, value in zip(names, equation.settings, strict=True))
        kinds = ", ".join(_kind(kind) for kind in equation.results)
        yield f"{indent}{results} = {equation.primitive}{told} {operands}: {kinds}"
        for inner in equation.blocks:
            inputs = ", ".join(f"v{place}: {_kind(kind)}" for place, kind in enumerate(inner.inputs))
            yield f"{indent}    with {inputs or 'nothing'}"
            yield from _equations(inner, indent + "    ")
            yield f"{indent}    gives {', '.join(_named(number) for number in inner.results)}"


def _named(number: int) -> str:
    return f"v{number}" if number >= 0 else f"c{-1 - number}"


def _kind(kind: Kind) -> str:
    return f"{kind.type} {_shape(kind.shape)}"


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "number"


def _plain(value: object) -> str:
    return f"({','.join(map(_plain, value))})" if isinstance(value, list | tuple) else str(value)


def _values(values: np.ndarray) -> str:
    """Every number with all its digits: one of thousands may be what picks a person out."""
    flat = values.ravel()
    if (flat == flat[0]).all():
        return f"{flat[0]!s}" + (" everywhere" if flat.size > 1 else "")
    return ", ".join(map(str, flat))
