"""What every engine of private computation offers, and against whom it protects.

A *program* is a generator written once against ``Secret`` arrays; an *engine* (``Backend``) decides what a secret array
is: four replicated components in ``rep4``, plain numbers in ``clear``; ``federated`` and ``he`` run programs that
follow from sums over owners' rows. One suite holds every engine against ``clear`` on each program that it runs.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput, MalformedMessage
from koinon.privacy.secret import Machine, Secret
from koinon.wire.committee import Column

Rounds = Generator[None, None, Any]
"""A protocol: every ``yield`` ends one round of messages; the return value is the result."""


@dataclass(frozen=True, slots=True)
class Adversary:
    """Against whom an engine protects, in words a user can weigh.

    Attributes:
        parties: how many parties compute.
        corrupted: how many of them may work together without learning anything or changing the result unnoticed.
        may_deviate: whether those may do anything at all, or only look at what they receive.
        statement: one sentence for a person.
    """

    parties: int
    corrupted: int
    may_deviate: bool
    statement: str


@dataclass(frozen=True, slots=True)
class PlainInput:
    """One owner's rows: float64 ``values`` of shape (rows, columns) in the units of the declared ``columns``."""

    columns: tuple[Column, ...]
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class Program:
    """A named computation whose declared output is all that anybody learns.

    Attributes:
        name: such as ``"logistic-regression/1"``.
        shapes: the (rows, columns) of each owner's input, from the parameters.
        columns: all columns and their ranges, from the parameters.
        fraction_bits: of the inputs, from the parameters.
        flags: numbers of the columns that may hold only the two ends of their range.
        output: name and shape of each declared output, in order, from the parameters.
        compute: the computation on inputs in [−1, 1]; returns one Secret vector per declared output.
        sources: numbers of the columns each input holds; empty where every input holds all of them.
        parameters: canonical encoding of what a study made it from; empty for a program of a function.
        summed: the columns of the rows, where every input is one row of sums over an owner's rows (``columns`` are then
            the sums'); empty where inputs are rows.
    """

    name: str
    shapes: tuple[tuple[int, int], ...]
    columns: tuple[Column, ...]
    fraction_bits: int
    flags: tuple[int, ...]
    output: tuple[tuple[str, tuple[int, ...]], ...]
    compute: Callable[[Machine, Sequence[Secret]], Generator[None, None, Sequence[Secret]]]
    sources: tuple[tuple[int, ...], ...] = ()
    parameters: bytes = b""
    summed: tuple[Column, ...] = ()

    def columns_of(self, number: int) -> tuple[Column, ...]:
        """The columns that input ``number`` must declare."""
        return tuple(self.columns[column] for column in self.sources[number]) if self.sources else self.columns

    def flags_of(self, number: int) -> tuple[int, ...]:
        """Which columns of input ``number``, counted in that input, are flagged."""
        held = self.sources[number] if self.sources else range(len(self.columns))
        return tuple(place for place, column in enumerate(held) if column in self.flags)


@dataclass(frozen=True, slots=True)
class Result:
    """The declared outputs by name, and the positions whose output packages were outvoted."""

    outputs: Mapping[str, np.ndarray]
    liars: tuple[int, ...] = ()


class Backend(Protocol):
    """An engine."""

    @property
    def name(self) -> str: ...

    @property
    def adversary(self) -> Adversary: ...

    def run(self, program: Program, inputs: Sequence[PlainInput], rng: Rng) -> Result:
        """Run ``program`` on the owners' rows and open its declared output.

        Raises:
            InvalidInput: an input does not have the shape, columns or ranges the program declares.
            Refused: the program could overflow its numbers; refused before anything is shared.
            ProtocolAbort: a party deviated.
        """
        ...


def check_inputs(program: Program, inputs: Sequence[PlainInput]) -> None:
    """Refuse inputs that are not what the program declares. Raises InvalidInput naming the first that is not."""
    if len(inputs) != len(program.shapes):
        raise InvalidInput(f"{program.name} is declared for {len(program.shapes)} owners; {len(inputs)} gave rows")
    for number, (each, shape) in enumerate(zip(inputs, program.shapes, strict=True)):
        if each.values.shape != shape:
            raise InvalidInput(f"owner {number} declared rows of shape {shape} and gave {each.values.shape}")
        if each.columns != program.columns_of(number):
            raise InvalidInput(f"owner {number} uses other columns or ranges than the study declares")
        check_flags(program, number, each.values)


def check_flags(program: Program, number: int, values: np.ndarray) -> None:
    """Refuse rows of input ``number`` whose two-valued columns hold anything else. Raises InvalidInput."""
    columns = program.columns_of(number)
    for index in program.flags_of(number):
        column = columns[index]
        if not np.isin(values[:, index], (column.low, column.high)).all():
            raise InvalidInput(f"column {column.name!r} may hold only {column.low:g} and {column.high:g}; recode it")


def named_outputs(program: Program, values: np.ndarray) -> dict[str, np.ndarray]:
    """The opened vector, cut into the declared outputs. Raises MalformedMessage if its length does not fit."""
    sizes = [prod(shape) for _, shape in program.output]
    if values.shape != (sum(sizes),):
        raise MalformedMessage(f"{program.name} declares {sum(sizes)} numbers of output; {values.size} were opened")
    outputs, start = {}, 0
    for (name, shape), size in zip(program.output, sizes, strict=True):
        outputs[name] = values[start : start + size].reshape(shape)
        start += size
    return outputs
