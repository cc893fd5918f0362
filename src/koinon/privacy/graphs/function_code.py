"""A traced function as bytes that anybody can read, check and run without JAX.

A function is a list of equations over numbered values, one primitive each, with loops and choices as inner lists. There
is nothing in it but names of a closed list, numbers of values, small whole numbers and constants, so that reading one
executes nothing. ``function_tracing`` writes it; ``jax_interpreter`` runs what ``opened_code`` makes of it.

The types of results are part of what the function means (a whole result divides as whole numbers do); their shapes are
computed anew from the operands and must be those declared.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Hash32
from koinon.privacy.graphs import function_settings, function_shapes

LONGEST_FUNCTION: Final = 256 * 1024
MOST_EQUATIONS: Final = 4096
"""In all lists together, each counted once."""
MOST_EXECUTED: Final = 20_000
"""Equations, and lists of them, counted as often as they run: a loop over an empty list takes time too."""
LARGEST_EXECUTED: Final = 1 << 30
"""Numbers that equations take, counted as often as they run."""
MOST_CONSTANTS: Final = 1024
MOST_OPERANDS: Final = 256
DEEPEST: Final = 8
LARGEST_VALUE: Final = 1 << 22
"""Numbers in one value."""
LARGEST_ALL: Final = 1 << 26
"""Numbers in all values of all lists together, each counted once."""
MOST_AXES: Final = 8
MOST_RESULTS: Final = 64
_LONGEST_NAME: Final = 64
_DOMAIN: Final = "koinon/function/1"
TYPES: Final = ("bool", "int32", "uint32", "int64", "float32", "float64")


class Kind(Record, frozen=True):
    """Shape of a value, every size at least 1, and its type, one of ``TYPES``."""

    shape: tuple[int, ...]
    type: str


class Constant(Record, frozen=True):
    """Public numbers: little-endian bytes of all of them, or of one that stands everywhere."""

    kind: Kind
    data: bytes


class Equation(Record, frozen=True):
    """One operation.

    Attributes:
        primitive: its name in JAX.
        settings: in the order of ``function_settings.SETTINGS``.
        blocks: what a loop repeats or a choice chooses from.
        operands: numbers of values, each before this equation; below 0 those of constants (−1 is the first).
        results: each becomes the value of the next number.
    """

    primitive: str
    settings: tuple[Any, ...]
    blocks: "tuple[Block, ...]"
    operands: tuple[int, ...]
    results: tuple[Kind, ...]


class Block(Record, frozen=True):
    """A list of equations: values 0, 1, … are its inputs, and results name values as operands do."""

    inputs: tuple[Kind, ...]
    equations: tuple[Equation, ...]
    results: tuple[int, ...]


class FunctionCode(Record, frozen=True):
    """A function of one table.

    Attributes:
        rows: of each owner, in the study's order; of all, where owners bring different columns of the same people.
        columns: of the table.
        names: of the results, in order.
        body: takes one array (all rows, columns) of numbers in the columns' units.
        constants: that the body and its inner lists use.
    """

    rows: tuple[int, ...]
    columns: int
    names: tuple[str, ...]
    body: Block
    constants: tuple[Constant, ...]


def hash_of(code: bytes) -> Hash32:
    """The name by which an owner's policy allows a function."""
    return tagged_hash(_DOMAIN, code)


def encode_code(code: FunctionCode) -> bytes:
    """The bytes of a function that ``decode_code`` accepts. Raises InvalidInput where it would not."""
    encoded = encode(code)
    if len(encoded) > LONGEST_FUNCTION:
        raise InvalidInput(
            f"the function takes {len(encoded)} bytes, and at most {LONGEST_FUNCTION} travel in a study; compute large"
            " constants inside it, and repeat with lax.fori_loop instead of Python's for"
        )
    decode_code(encoded)
    return encoded


def decode_code(data: bytes) -> FunctionCode:
    """Read a function, whole or not at all; nothing is computed.

    Raises:
        MalformedMessage: not an encoding of a function.
        InvalidInput: some equation is none that can be run; says which, and what is wrong with it.
    """
    code = decode(FunctionCode, data, limit=LONGEST_FUNCTION)
    if not code.rows or min(code.rows) < 1 or code.columns < 1:
        raise InvalidInput("a function takes at least one row of every owner, and one column")
    if not 1 <= len(code.names) <= MOST_RESULTS or len(set(code.names)) != len(code.names):
        raise InvalidInput(f"a function has 1 to {MOST_RESULTS} results, each with a name of its own")
    for name in code.names:
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise InvalidInput(f"a result's name is 1 to {_LONGEST_NAME} printable characters; got {name[:80]!r}")
    if len(code.constants) > MOST_CONSTANTS:
        raise InvalidInput(f"a function has at most {MOST_CONSTANTS} constants; this one {len(code.constants)}")
    for number, constant in enumerate(code.constants):
        _check_kind(constant.kind, f"constant {number}")
        _numbers(constant, number)
    _check_body(code)
    return code


def constants_of(code: FunctionCode) -> list[np.ndarray]:
    """The constants, in order."""
    return [_numbers(constant, number) for number, constant in enumerate(code.constants)]


def constant_of(values: np.ndarray) -> Constant:
    """Public numbers as a constant. Raises InvalidInput for a type that is none of ``TYPES``."""
    if values.dtype.name not in TYPES:
        raise InvalidInput(f"a function on secrets computes with {', '.join(TYPES)}; got {values.dtype.name}")
    flat = np.ascontiguousarray(values).ravel()
    same = flat.size > 1 and bool((flat == flat[0]).all())
    data = (flat[:1] if same else flat).astype(values.dtype.newbyteorder("<")).tobytes()
    return Constant(Kind(tuple(values.shape), values.dtype.name), data)


def equations_of(block: Block) -> Iterator[Equation]:
    """All equations, those of inner lists after the one that holds them."""
    for equation in block.equations:
        yield equation
        for inner in equation.blocks:
            yield from equations_of(inner)


def results_of(code: FunctionCode) -> list[Kind]:
    """Shapes and types of what the function opens."""
    return _kinds_in(code.body, code.body.results, code.constants)


def _numbers(constant: Constant, number: int) -> np.ndarray:
    dtype = np.dtype(constant.kind.type).newbyteorder("<")
    size = prod(constant.kind.shape)
    if len(constant.data) not in (dtype.itemsize, size * dtype.itemsize):
        raise InvalidInput(f"constant {number} has {len(constant.data)} bytes, not what its shape and type take")
    raw = np.frombuffer(constant.data, np.uint8 if constant.kind.type == "bool" else dtype)
    if constant.kind.type == "bool" and (raw > 1).any():
        raise InvalidInput(f"constant {number} holds bytes that are no truth values")
    values = raw.astype(constant.kind.type)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise InvalidInput(f"constant {number} holds what is not a number")
    return np.broadcast_to(values.reshape(constant.kind.shape if raw.size == size else ()), constant.kind.shape)


def _check_kind(kind: Kind, where: str) -> None:
    if kind.type not in TYPES:
        raise InvalidInput(f"{where} is of type {kind.type[:40]!r}; there are {', '.join(TYPES)}")
    if len(kind.shape) > MOST_AXES or any(size < 1 for size in kind.shape) or prod(kind.shape) > LARGEST_VALUE:
        raise InvalidInput(
            f"{where} has a shape that is not computed with: at most {MOST_AXES} axes, none empty, and {LARGEST_VALUE}"
            " numbers"
        )


def _check_body(code: FunctionCode) -> None:
    table = Kind((_people(code), code.columns), "float32")
    if code.body.inputs not in ((table,), (Kind((sum(code.rows), code.columns), "float32"),)):
        raise InvalidInput(f"a function takes one float32 table of its rows and {code.columns} columns, and no more")
    counted = [0, 0]
    _check_block(code.body, code.constants, counted, "equation", DEEPEST)
    if len(code.body.results) != len(code.names):
        raise InvalidInput(f"the function has {len(code.body.results)} results and {len(code.names)} names for them")


def _people(code: FunctionCode) -> int:
    """Rows of the table where owners bring different columns of the same people."""
    return code.rows[0] if len(set(code.rows)) == 1 else sum(code.rows)


def _check_block(block: Block, constants: Sequence[Constant], counted: list[int], where: str, depth: int) -> None:
    """Refuse a list that cannot be run. ``counted`` are the equations and numbers so far; they are added to."""
    if depth < 0:
        raise InvalidInput(f"{where}: loops and choices are nested more than {DEEPEST} deep")
    known: list[Kind] = []
    for kind in block.inputs:
        _check_kind(kind, f"{where}: an input of a list")
        known.append(kind)

    def of(number: int, at: str) -> Kind:
        if not -len(constants) <= number < len(known):
            raise InvalidInput(f"{at} names value {number}, which is none that is known there")
        return known[number] if number >= 0 else constants[-1 - number].kind

    for place, equation in enumerate(block.equations):
        at = f"{where} {place} ({equation.primitive[:40]})"
        for kind in equation.results:
            _check_kind(kind, f"{at}: a result")
        counted[0] += 1
        counted[1] += sum(prod(kind.shape) for kind in equation.results)
        if counted[0] > MOST_EQUATIONS or counted[1] > LARGEST_ALL:
            raise InvalidInput(
                f"a function has at most {MOST_EQUATIONS} equations and {LARGEST_ALL} numbers in all its values"
            )
        if not 1 <= len(equation.operands) + (equation.primitive == "iota") <= MOST_OPERANDS:
            raise InvalidInput(f"{at} has {len(equation.operands)} operands; 1 to {MOST_OPERANDS} are allowed")
        if not equation.results:
            raise InvalidInput(f"{at} makes nothing")
        given = [of(number, at) for number in equation.operands]
        settings = function_settings.read(equation.primitive, equation.settings, at)
        for number, inner in enumerate(equation.blocks):
            _check_block(inner, constants, counted, f"{at}, list {number}, equation", depth - 1)
        _check_shapes(equation, given, settings, constants, at)
        known += equation.results
    for number in block.results:
        of(number, f"{where}: a result of the list")


def _check_shapes(
    equation: Equation, given: Sequence[Kind], settings: Mapping[str, Any], constants: Sequence[Constant], at: str
) -> None:
    blocks = [
        function_shapes.Inner(
            [kind.shape for kind in inner.inputs],
            [kind.shape for kind in _kinds_in(inner, inner.results, constants)],
        )
        for inner in equation.blocks
    ]
    declared = [kind.shape for kind in equation.results]
    try:
        found = function_shapes.shapes_of(
            equation.primitive, [kind.shape for kind in given], settings, declared, blocks
        )
    except InvalidInput as problem:
        raise InvalidInput(f"{at}: {problem}") from None
    if [tuple(shape) for shape in found] != declared:
        raise InvalidInput(f"{at} declares results of shapes {declared[:4]}, and makes {found[:4]}")


def _kinds_in(block: Block, numbers: Sequence[int], constants: Sequence[Constant]) -> list[Kind]:
    """Of values that a list is known to have."""
    known = [*block.inputs, *(kind for equation in block.equations for kind in equation.results)]
    return [known[number] if number >= 0 else constants[-1 - number].kind for number in numbers]
