"""Rows and columns both split among owners whose people were matched in pairs, before anything was shared.

Owners who bring the same columns are of one table, and there are two tables. Every owner's rows are in parts: first
those whose people are with the first owner of the other table, then with the second, and so on, in party order; a row
is in one part only. So the parts of both owners of a pair hold the same people in the same order, and one owner after
the other of the first table has whole rows:

    first table      A: parts (a, b)     B: parts (c, d)
    second table     C: parts (a, c)     D: parts (b, d)      rows of A: C's a, D's b; rows of B: C's c, D's d

A program sees rows that are split among the owners of the first table, and nothing of the second's.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, concatenate
from koinon.privacy.backend import Program
from koinon.privacy.graph import Leaf, evaluate
from koinon.privacy.secret import Machine, Secret

if TYPE_CHECKING:
    from koinon.privacy.programs.offer import Layout

Parts = tuple[tuple[int, ...], ...]
"""Of each owner, in party order: its rows with each owner of the other table, in party order."""


def check_parts(rows: Sequence[int], tables: Sequence[Sequence[int]], parts: Parts) -> None:
    """Raises InvalidInput where these cannot be the parts of so many rows of the owners of two tables."""
    if len(tables) != 2 or len(parts) != len(rows):
        raise InvalidInput("rows and columns are both split between two groups of owners of the same columns each")
    first, second = tables
    for table, others in ((first, len(second)), (second, len(first))):
        for owner in table:
            if len(parts[owner]) != others or min(parts[owner]) < 0 or sum(parts[owner]) != rows[owner]:
                raise InvalidInput(f"owner {owner + 1} must say how many of its rows each of {others} owners has")
    for place, owner in enumerate(first):
        for number, other in enumerate(second):
            if parts[owner][number] != parts[other][place]:
                raise InvalidInput(
                    f"owners {owner + 1} and {other + 1} do not say the same of how many people both have"
                )


def spread(rows: Sequence[int], tables: Sequence[Sequence[int]]) -> Parts:
    """Parts that so many rows of each owner could have, where it is not known which they have.

    Where both tables cannot hold as many people each pair gets the same number, as large as every owner's rows allow.
    """
    first, second = tables
    found = np.zeros((len(first), len(second)), np.int64)
    if sum(rows[owner] for owner in first) == sum(rows[owner] for owner in second):
        left = {owner: rows[owner] for owner in (*first, *second)}
        for place, owner in enumerate(first):
            for number, other in enumerate(second):
                found[place, number] = taken = min(left[owner], left[other])
                left[owner] -= taken
                left[other] -= taken
    else:
        most = [rows[owner] // len(other) for table, other in ((first, second), (second, first)) for owner in table]
        found[:] = max(1, min(most))
    parts: dict[int, tuple[int, ...]] = {owner: tuple(found[place].tolist()) for place, owner in enumerate(first)}
    parts |= {owner: tuple(found[:, number].tolist()) for number, owner in enumerate(second)}
    return tuple(parts[owner] for owner in range(len(rows)))


def inside(layout: "Layout") -> "Layout":
    """The layout that the program sees."""
    rows = tuple(layout.rows[owner] for owner in layout.tables[0])
    return msgspec.structs.replace(layout, rows=rows, sources=(), parts=())


def assembled(inner: Program, layout: "Layout") -> Program:
    """The program that puts the tables together and goes on as ``inner``, which was made for ``inside(layout)``.

    Raises:
        InvalidInput: ``inner`` takes something other than the owners' rows.
    """
    if inner.shapes != inside(layout).shapes:
        raise InvalidInput(f"{inner.name} takes something else than rows here; let every owner share rows")
    leaves = [Leaf(shape) for shape in layout.shapes]
    whole = [rows.node for rows in _whole([SecretArray(leaf, layout.fraction_bits) for leaf in leaves], layout)]

    def compute(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, list[Secret]]:
        rows = yield from evaluate(whole, dict(zip(leaves, inputs, strict=True)))
        return list((yield from inner.compute(machine, rows)))

    return replace(inner, shapes=layout.shapes, sources=layout.sources, compute=compute)


def _whole(shared: Sequence[SecretArray], layout: "Layout") -> list[SecretArray]:
    """Rows of each owner of the first table, with all columns in their order."""
    first, second = layout.tables
    order = np.argsort([*layout.sources[first[0]], *layout.sources[second[0]]])
    cut = {owner: list(pairwise(accumulate(layout.parts[owner], initial=0))) for owner in second}
    found = []
    for place, owner in enumerate(first):
        pieces = [(other, *cut[other][place]) for other in second]
        beside = [shared[other][start:stop] for other, start, stop in pieces if stop > start]
        found.append(concatenate([shared[owner], concatenate(beside)], 1)[:, order])
    return found
