"""From a function on secret arrays to a program any engine runs, and running it.

result = run(lambda rows: reveal(mean=rows.mean(0)), [PlainInput(columns, mine), PlainInput(columns, theirs)])
result.outputs["mean"]
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Final

import numpy as np

from koinon.crypto.random import SystemRng
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend, PlainInput, Program, Result
from koinon.privacy.graph import Leaf, carry_out, planned
from koinon.privacy.secret import Machine, Secret
from koinon.privacy.sharing import check_columns
from koinon.wire.committee import Column

MOST_OUTPUTS: Final = 256
LOCAL: Final = "local/1"
"""Name of programs made by ``run``, which no study can name."""


@dataclass(frozen=True)
class Revealed:
    """What a function opens, by name. Nothing else leaves the computation."""

    arrays: tuple[tuple[str, SecretArray], ...]


def reveal(**arrays: SecretArray) -> Revealed:
    """Open these to the result party, and only these.

    Raises:
        InvalidInput: nothing, or something that is not a secret array, would be opened.
    """
    if not 1 <= len(arrays) <= MOST_OUTPUTS:
        raise InvalidInput(f"a computation reveals 1 to {MOST_OUTPUTS} arrays; this one {len(arrays)}")
    for name, array in arrays.items():
        if not isinstance(array, SecretArray):
            raise InvalidInput(f"{name!r} is no secret array; what is public already need not be revealed")
    return Revealed(tuple(arrays.items()))


Function = Callable[..., Revealed]


def program(
    name: str,
    function: Function,
    shapes: Sequence[tuple[int, int]],
    columns: Sequence[Column],
    fraction_bits: int = 20,
    flags: Sequence[int] = (),
    *,
    scaled: bool = False,
    sources: Sequence[Sequence[int]] = (),
) -> Program:
    """The program that computes ``function`` of the owners' tables.

    Args:
        function: takes one SecretArray (rows, columns) for each owner, in the units of the columns; or, if ``scaled``,
            with every column mapped from its range to [−1, 1], which is how it is shared and loses nothing.
        shapes: of each owner's table.
        columns: names and public ranges.
        flags: positions of the columns that hold only the two ends of their range.
        sources: numbers of the columns that each owner's table holds; empty where every table holds all of them.

    Raises:
        InvalidInput: unusable columns, or a function that reveals nothing.
    """
    check_columns(columns, fraction_bits)
    leaves = [Leaf(shape) for shape in shapes]
    arrays = [SecretArray(leaf, fraction_bits) for leaf in leaves]
    held = [[columns[number] for number in source] for source in sources] or [list(columns)] * len(arrays)
    in_units = (_in_units(array, own) for array, own in zip(arrays, held, strict=True))
    revealed = function(*(arrays if scaled else in_units))
    if not isinstance(revealed, Revealed):
        raise InvalidInput("a computation returns reveal(name=array, …), so that what is opened can be seen")
    plan = planned([array.node for _, array in revealed.arrays])

    def compute(_machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, list[Secret]]:
        return carry_out(plan, dict(zip(leaves, inputs, strict=True)))

    return Program(
        name=name,
        shapes=tuple(shapes),
        columns=tuple(columns),
        fraction_bits=fraction_bits,
        flags=tuple(flags),
        output=tuple((label, array.shape) for label, array in revealed.arrays),
        compute=compute,
        sources=tuple(tuple(source) for source in sources),
    )


def run(
    function: Function,
    inputs: Sequence[PlainInput],
    engine: Backend | None = None,
    fraction_bits: int = 20,
    *,
    scaled: bool = False,
) -> Result:
    """Compute ``function`` of the inputs in this process, with all four parties in it unless an engine is given.

    For studies between organisations, see ``koinon study``; this is the same arithmetic for notebooks and tests.

    Raises:
        InvalidInput: an input does not fit its declared columns.
        Refused: the computation could overflow with numbers inside the declared ranges.
        ProtocolAbort: a party deviated.
    """
    from koinon.privacy.rep4.simulation import SimulatedRep4

    if not inputs or any(each.columns != inputs[0].columns for each in inputs):
        raise InvalidInput("a computation needs at least one table, and the same columns and ranges in all of them")
    shapes = [(each.values.shape[0], len(each.columns)) for each in inputs]
    made = program(LOCAL, function, shapes, inputs[0].columns, fraction_bits, scaled=scaled)
    return (engine or SimulatedRep4()).run(made, inputs, SystemRng())


def table(values: np.ndarray, names: Sequence[str] = (), ranges: Sequence[tuple[float, float]] = ()) -> PlainInput:
    """Rows (n, d) or numbers (n,) with their columns; ranges default to the next power of two around each column.

    A default range says something about the data; owners who do not trust each other agree on ranges instead.
    """
    rows = np.asarray(values, np.float64)
    rows = rows.reshape(-1, 1) if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise InvalidInput("a table has rows and columns of finite numbers")
    labels = names or [f"column {number}" for number in range(rows.shape[1])]
    wide = ranges or [(-top, top) for top in (2.0 ** ceil(log2(max(t, 2.0**-10))) for t in np.abs(rows).max(0))]
    if not len(labels) == len(wide) == rows.shape[1]:
        raise InvalidInput(f"a table of {rows.shape[1]} columns needs as many names and ranges")
    return PlainInput(
        tuple(Column(n, float(low), float(high)) for n, (low, high) in zip(labels, wide, strict=True)), rows
    )


def _in_units(array: SecretArray, columns: Sequence[Column]) -> SecretArray:
    """Words in [−1, 1] of each column's range as numbers in the column's own unit."""
    middle = np.array([(column.low + column.high) / 2 for column in columns])
    half = np.array([(column.high - column.low) / 2 for column in columns])
    scaled = array if (half == 1.0).all() else array.times(half)
    return scaled if not middle.any() else scaled + middle
