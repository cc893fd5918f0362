"""``function/1``: a function that the study itself brings, on the joint rows of all owners.

Somebody writes it with JAX (``koinon study function``); what travels is a list of equations (``graphs.function_code``)
that every node reads, checks and runs without JAX. It takes the whole table in the columns' units, and all its results
are opened. A function may as well give the rows themselves back: no check of its text can tell, so owners allow each
function by its hash (``jobs.policy``), and nothing beyond a crude limit on how much leaves is checked here.
"""

from collections.abc import Mapping
from math import prod
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.graphs.function_code import FunctionCode, decode_code, results_of
from koinon.privacy.graphs.function_running import run_code
from koinon.privacy.programs.offer import Layout, Offer, ResultTable, Target, halves, middles, on_table

NAME: Final = "function/1"


class Settings(Record, frozen=True):
    """Attributes:
    function: what ``koinon study function`` wrote.
    saturating: put numbers that could outgrow a word on the largest that fits, at the cost of a comparison, instead of
        refusing the function.
    """

    function: bytes = b""
    saturating: bool = False


def code_of(settings: Settings) -> FunctionCode:
    """The function of a study. Raises InvalidInput or MalformedMessage where there is none that can be run."""
    if not settings.function:
        raise InvalidInput(f"{NAME} needs a function; write one with koinon study function and name its file")
    return decode_code(settings.function)


def names(settings: Settings) -> tuple[str, ...]:
    """What the function opens."""
    return code_of(settings).names


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners.

    Raises:
        InvalidInput: the function is for other rows or columns, opens more than half as many numbers as are shared, or
            does something that is not done on secrets.
        Refused: it could overflow.
    """
    code = code_of(settings)
    check_rows(code, layout)
    if outputs != code.names:
        raise InvalidInput(f"{NAME} opens all results of its function, in order: {', '.join(code.names)}")

    def compute(rows: SecretArray) -> Revealed:
        scale = halves(layout.columns)
        table = rows if (scale == 1.0).all() else rows.times(scale)
        middle = middles(layout.columns)
        found = run_code(code, table + middle if middle.any() else table, saturating=settings.saturating)
        return reveal(**{name: _filled(each) for name, each in zip(code.names, found, strict=True)})

    return on_table(NAME, layout, outputs, compute)


def check_rows(code: FunctionCode, layout: Layout) -> None:
    """Refuse other rows or columns than the function was written for, and one that opens too many numbers.

    Raises:
        InvalidInput: says which.
    """
    if code.columns != len(layout.columns):
        raise InvalidInput(f"the function takes {code.columns} columns, and the study has {len(layout.columns)}")
    if code.rows != layout.rows or code.body.inputs[0].shape[0] != layout.people:
        raise InvalidInput(
            f"the function is for owners of {', '.join(map(str, code.rows))} rows, {code.body.inputs[0].shape[0]} in"
            f" all, and they have {', '.join(map(str, layout.rows))}, {layout.people} in all; write it anew for these"
        )
    opened, shared = sum(prod(kind.shape) for kind in results_of(code)), layout.people * len(layout.columns)
    if 2 * opened > shared:
        raise InvalidInput(
            f"{NAME}: the function opens {opened} numbers, and of {shared} that are shared it may open half: so many"
            " can only be rows"
        )


def _filled(array: SecretArray) -> SecretArray:
    """A single number as an array of one, which is what leaves a study."""
    return array.reshape(1) if array.shape == () else array


def present(outputs: Mapping[str, np.ndarray], _: Layout, __: Settings) -> tuple[ResultTable, ...]:
    """As opened, the first axes in rows and the last in columns."""
    tables = []
    for name, values in outputs.items():
        rows = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)
        labels = tuple(str(number) for number in range(len(rows)))
        heads = tuple(str(number) for number in range(rows.shape[1])) if values.ndim > 1 else ("value",)
        tables.append(ResultTable(name, labels, heads, rows))
    return tuple(tables)


OFFER: Final = Offer(
    name=NAME,
    summary="a function of the whole table that the study brings, written with JAX; owners allow each by its hash",
    target=Target.NONE,
    outputs=(),
    settings=Settings,
    build=program,
    present=present,
    named=names,
)
