"""What a program that studies can name says about itself, and the public parameters that all of them share.

A program's module ends with its ``OFFER``; ``registry`` lists the modules. Whoever runs a program knows its ``Layout``
(whose rows, which columns) from the study file and the owners' manifests, and its settings from the study file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any, Final

import msgspec
import numpy as np

from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy import computation
from koinon.privacy.arrays import SecretArray, concatenate, where
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed
from koinon.privacy.differential.accountant import Gaussian
from koinon.privacy.differential.canaries import RELEASED
from koinon.privacy.joins import oblivious
from koinon.privacy.programs import crossed
from koinon.privacy.sharing import check_columns
from koinon.wire.committee import Column

FRACTION_BITS: Final = 20
MOST_OWNERS: Final = 64
MOST_ROWS: Final = 1 << 20
LARGEST_RESULT: Final = 1 << 22
"""Numbers that one study may open."""
_LONGEST_SETTINGS: Final = 320 * 1024
PREPARATION: Final = "preparation"
"""Name of the output that says how columns were prepared; see ``programs.preparation``."""


class Target(Enum):
    """What a program predicts."""

    NONE = "none"
    BINARY = "binary"
    """a 0/1 column beside the study's columns; it is shared last"""
    NUMBER = "number"
    """one of the study's columns, with its own range"""


class Split(Enum):
    """What owners hold of the whole table."""

    ROWS = "rows"
    """each has all columns of people of its own"""
    COLUMNS = "columns"
    """each has further columns of the same people"""
    BOTH = "both"
    """some have more people, others further columns of these (``crossed``)"""
    OBLIVIOUS = "oblivious"
    """as COLUMNS or BOTH, but nobody learns who is in the data of several"""


class Layout(Record, frozen=True):
    """Whose rows and which columns.

    Attributes:
        rows: of each owner, in party order.
        columns: everything that is shared, in the program's order; a 0/1 target is the last.
        target: the column to predict, or empty.
        sources: numbers of the columns that each owner brings, where owners hold different columns of the same people;
            empty where each owner brings all columns of its own people. In an oblivious join several owners may bring
            the same columns, each of people of its own: they are owners of one table (``tables``).
        fraction_bits: of the inputs.
        planted: of each owner's rows, the last so many are canaries (``differential.canaries``).
        pairs: where the rows of owners of different columns meet in an oblivious join (``joins.oblivious``), how many
            people must be in every table before anything is shown; else 0.
        parts: where rows and columns are both split and people were matched in pairs of owners (``crossed``), of each
            owner its rows with each owner of the other table; else empty.
    """

    rows: tuple[int, ...]
    columns: tuple[Column, ...]
    target: str = ""
    sources: tuple[tuple[int, ...], ...] = ()
    fraction_bits: int = FRACTION_BITS
    planted: int = 0
    pairs: int = 0
    parts: crossed.Parts = ()

    @property
    def people(self) -> int:
        """Rows of the whole table; after an oblivious join the most it can have."""
        if self.pairs:
            return min(sum(self.rows[owner] for owner in owners) for owners in self.tables)
        if self.parts:
            return sum(self.rows[owner] for owner in self.tables[0])
        return self.rows[0] if self.sources else sum(self.rows)

    @property
    def tables(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the owners of each table, in party order: those who bring the same columns are of one."""
        found: dict[tuple[int, ...], list[int]] = {}
        for owner, source in enumerate(self.sources):
            found.setdefault(source, []).append(owner)
        return tuple(tuple(owners) for owners in found.values())

    @property
    def places(self) -> int:
        """Rows of the table that an oblivious join makes, whether or not they hold anybody."""
        return sum(self.rows) - len(self.tables) + 1

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns that each owner shares."""
        if self.sources:
            beside = oblivious.DIGITS if self.pairs else 0
            return tuple((rows, beside + len(source)) for rows, source in zip(self.rows, self.sources, strict=True))
        return tuple((rows, len(self.columns)) for rows in self.rows)

    @property
    def place(self) -> int:
        """Number of the target's column. Raises InvalidInput where it is none of them."""
        for number, column in enumerate(self.columns):
            if column.name == self.target:
                return number
        raise InvalidInput(f"the target {self.target[:80]!r} is none of the columns")

    @property
    def features(self) -> tuple[int, ...]:
        """Numbers of the columns that are not the target."""
        return tuple(number for number, column in enumerate(self.columns) if column.name != self.target)


class Parameters(Record, frozen=True):
    """A program's public parameters as all parties encode them.

    Attributes:
        settings: canonical encoding of the program's settings record; empty for its defaults.
        outputs: which of the program's outputs are opened.
        epsilon: what they may cost every row's privacy budget; 0 for exact outputs.
    """

    layout: Layout
    settings: bytes
    outputs: tuple[str, ...]
    epsilon: float = 0.0


@dataclass(frozen=True)
class ResultTable:
    """One opened output as people read it.

    Attributes:
        name: of the output.
        rows, columns: labels.
        values: float64 (rows, columns), in the units of the study's columns.
    """

    name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True)
class OwnerSums:
    """How a program follows from one row of sums that every owner makes of its own rows and shares in their place.

    Attributes:
        length: layout, settings → numbers that each owner shares.
        least: layout → rows that each owner must have.
        refusal: layout, settings, opened outputs → why sums do not give these; empty where they do.
        local: an owner's rows (n, columns) in [−1, 1], layout, settings → its sums (length,) in [−1, 1]. Raises
            InvalidInput for rows without a fit of their own.
        joint: everybody's sums (1, length) each, layout, settings, opened outputs → what is opened.
    """

    length: Callable[[Layout, Any], int]
    least: Callable[[Layout], int]
    refusal: Callable[[Layout, Any, tuple[str, ...]], str]
    local: Callable[[np.ndarray, Layout, Any], np.ndarray]
    joint: Callable[[Sequence[SecretArray], Layout, Any, tuple[str, ...]], Revealed]


@dataclass(frozen=True)
class Offer:
    """A program as studies name it.

    Attributes:
        name: such as ``"statistics/1"``; another meaning gets another number.
        summary: one sentence for a list.
        target: what it predicts.
        outputs: names of what it can open; a study opens some of them.
        settings: record of its public settings, each with a default.
        build: layout, settings, opened outputs → the program. Raises InvalidInput or Refused.
        present: opened outputs (name → array), layout, settings → tables in the units of the columns.
        noisy: as ``build``, with noise for an ε above 0; None for a program that opens exact outputs only.
        paired: as ``build``, on the pairs of an oblivious join; None for a program that must know who is in the table.
        cost: settings, ε → what one run with noise costs each row, for the owners' privacy ledgers.
        exact: whether it opens outputs without noise, for an ε of 0.
        judges_planted: whether it holds its outputs back where they give back the labels of planted rows.
        whole_columns: layout, settings → names of the columns whose numbers must be whole ones: codes or counts.
        codes: layout, settings → of these those that hold codes, so that their range goes from 0 to the last code.
        sums: how it follows from owners' sums, where it can; its settings then have a ``solver``.
        named: settings → names of what it can open, where the settings say that; ``outputs`` is empty then.
    """

    name: str
    summary: str
    target: Target
    outputs: tuple[str, ...]
    settings: type[Record]
    build: Callable[[Layout, Any, tuple[str, ...]], Program]
    present: Callable[[Mapping[str, np.ndarray], Layout, Any], tuple[ResultTable, ...]]
    noisy: Callable[[Layout, Any, tuple[str, ...], float], Program] | None = None
    cost: Callable[[Any, float], Gaussian] | None = None
    exact: bool = True
    judges_planted: bool = False
    whole_columns: Callable[[Layout, Any], tuple[str, ...]] = lambda _layout, _settings: ()
    codes: Callable[[Layout, Any], tuple[str, ...]] = lambda _layout, _settings: ()
    paired: Callable[[Layout, Any, tuple[str, ...]], Program] | None = None
    sums: OwnerSums | None = None
    named: Callable[[Any], tuple[str, ...]] | None = None


def target_only(layout: Layout, _: Record) -> tuple[str, ...]:
    """For a program whose target holds codes or counts."""
    return (layout.target,)


def splits(offer: Offer) -> tuple[str, ...]:
    """How owners may split what the program takes: values of ``Split``."""
    return tuple(each.value for each in Split if each is not Split.OBLIVIOUS or offer.paired is not None)


def smallest_group(settings: Record) -> int | None:
    """The least people behind any count or mean of a group that leaves, or None where no groups are formed."""
    found = getattr(settings, "minimum_group", None)
    return None if found is None else int(found)


def is_prepared(settings: object) -> bool:
    """Whether columns are made ready before the program sees them; see ``programs.preparation``."""
    return bool(getattr(settings, "prepares", False))


def cost(offer: Offer, settings: bytes, epsilon: float) -> Gaussian:
    """What a run with noise costs each row. Raises InvalidInput where the program adds none, or ε is unusable."""
    if offer.cost is None:
        raise InvalidInput(f"{offer.name} cannot add noise to what it opens; set epsilon to 0 (exact) or name another")
    return offer.cost(decode_settings(offer, settings), epsilon)


def decode_settings(offer: Offer, settings: bytes) -> Any:
    """The settings of a study. Raises MalformedMessage for other bytes than an encoding of them."""
    return decode(offer.settings, settings, limit=_LONGEST_SETTINGS) if settings else offer.settings()


def settings_from(offer: Offer, table: Mapping[str, object]) -> bytes:
    """Settings as people write them (names and values) → their encoding; the defaults' is empty.

    Raises:
        InvalidInput: an unknown name, or a value of the wrong kind.
    """
    known = {field.name: field.type for field in msgspec.structs.fields(offer.settings)}
    for name in table:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InvalidInput(f"{offer.name} has no setting {name[:80]!r}; {has}")
    values = {}
    for name, value in table.items():
        try:
            values[name] = msgspec.convert(value, known[name])
        except msgspec.ValidationError as problem:
            raise InvalidInput(f"{offer.name}: the setting {name!r} does not fit: {problem}") from None
    settings = offer.settings(**values)
    return b"" if settings == offer.settings() else encode(settings)


def settings_table(offer: Offer, settings: bytes) -> dict[str, Any]:
    """The settings' names and values, in JSON's terms."""
    made = decode_settings(offer, settings)
    names = [field.name for field in msgspec.structs.fields(offer.settings)]
    return {name: msgspec.to_builtins(getattr(made, name)) for name in names}


def check_layout(layout: Layout) -> None:
    """Refuse a layout that no study can have. Raises InvalidInput with what is wrong."""
    check_columns(layout.columns, layout.fraction_bits)
    if not 1 <= len(layout.rows) <= MOST_OWNERS:
        raise InvalidInput(f"a program takes rows from 1 to {MOST_OWNERS} owners; got {len(layout.rows)}")
    if layout.pairs and not (layout.pairs > 0 and len(layout.sources) == len(layout.rows) and len(layout.tables) > 1):
        raise InvalidInput("an oblivious join is between owners of different columns")
    if layout.parts:
        if layout.pairs or len(layout.sources) != len(layout.rows):
            raise InvalidInput("people are matched in pairs of owners of different columns, or meet obliviously")
        crossed.check_parts(layout.rows, layout.tables, layout.parts)
    if min(layout.rows) < 1 or layout.people > MOST_ROWS or (layout.pairs and sum(layout.rows) > MOST_ROWS):
        raise InvalidInput(f"a program needs a row from every owner, and at most {MOST_ROWS} together")
    if layout.sources:
        by_table = bool(layout.pairs or layout.parts)
        if len(layout.sources) != len(layout.rows) or (len(set(layout.rows)) != 1 and not by_table):
            raise InvalidInput(
                f"owners of different columns must hold the same people; they have {layout.rows} rows. Agree on the ids"
            )
        whole = [layout.sources[owners[0]] for owners in layout.tables] if by_table else layout.sources
        if sorted(number for source in whole for number in source) != list(range(len(layout.columns))):
            raise InvalidInput("every column must come from exactly one owner, or from the owners of one table")
        if not all(layout.sources):
            raise InvalidInput("an owner brings no column")
    if layout.target:
        _ = layout.place
    if layout.planted < 0 or (layout.planted and (layout.sources or min(layout.rows) <= layout.planted)):
        raise InvalidInput("rows are planted among rows of each owner's own, of which there must be at least one")


def on_table(
    name: str,
    layout: Layout,
    outputs: Sequence[str],
    function: Callable[[SecretArray], Revealed],
    flags: Sequence[int] = (),
) -> Program:
    """The program that computes ``function`` of the whole table, however it is split, and opens some of its outputs.

    Args:
        function: takes one SecretArray (people, columns), each column mapped from its range to [−1, 1].
        flags: numbers of the columns that hold only the two ends of their range.
    """
    check_layout(layout)

    def whole(*tables: SecretArray) -> Revealed:
        if layout.sources:
            order = np.argsort([number for source in layout.sources for number in source])
            rows = concatenate(tables, 1)[:, order]
        else:
            rows = concatenate(tables)
        revealed = function(rows)
        # Whether a model was held back is told whatever else the study opens.
        kept = tuple((label, array) for label, array in revealed.arrays if label in (*outputs, RELEASED))
        if sum(prod(array.shape) for _, array in kept) > LARGEST_RESULT:
            raise InvalidInput(f"a study opens at most {LARGEST_RESULT} numbers; ask for less")
        return Revealed(kept)

    return computation.program(
        name,
        whole,
        layout.shapes,
        layout.columns,
        layout.fraction_bits,
        flags,
        scaled=True,
        sources=layout.sources,
    )


def on_pairs(
    name: str, layout: Layout, outputs: Sequence[str], function: Callable[[SecretArray, SecretArray], Revealed]
) -> Program:
    """The program that computes ``function`` of the pairs of an oblivious join, and opens some of its outputs.

    Where fewer people than ``layout.pairs`` are in every table all outputs are opened as 0.

    Args:
        function: takes the places (``layout.places``, columns), each column mapped from its range to [−1, 1], with the
            mean of the others in places that hold nobody (``joins.oblivious.neutral``); and a bit each that says
            whether the place holds somebody.
    """
    check_layout(layout)
    held = [number for owners in layout.tables for number in layout.sources[owners[0]]]

    def whole(*shared: SecretArray) -> Revealed:
        keys = oblivious.DIGITS
        tables = [concatenate([shared[owner] for owner in owners]) for owners in layout.tables]
        met = oblivious.meet([(table[:, :keys], table[:, keys:]) for table in tables])
        rows = concatenate(met.tables, 1)[:, np.argsort(held)]
        enough = met.all.sum() >= layout.pairs
        revealed = function(oblivious.neutral(rows, met.all, layout.pairs, 1.0), met.all)
        return Revealed(
            tuple(
                (label, where(enough.broadcast_to(*array.shape), array, 0.0))
                for label, array in revealed.arrays
                if label in outputs
            )
        )

    return computation.program(
        name,
        whole,
        layout.shapes,
        (*oblivious.COLUMNS, *layout.columns),
        layout.fraction_bits,
        scaled=True,
        sources=[(*range(oblivious.DIGITS), *(oblivious.DIGITS + number for number in own)) for own in layout.sources],
    )


def on_paired_target(
    name: str,
    layout: Layout,
    outputs: Sequence[str],
    function: Callable[[SecretArray, SecretArray, SecretArray], Revealed],
) -> Program:
    """As ``on_pairs``, of the features (places, d), the target (places,) and the bits (places,).

    Raises:
        InvalidInput: there is no target, or no other column.
    """
    features = list(layout.features)
    if not features or len(features) == len(layout.columns):
        raise InvalidInput(f"{name} needs a target and at least one other column")
    return on_pairs(name, layout, outputs, lambda rows, both: function(rows[:, features], rows[:, layout.place], both))


def presented(
    offer: Offer, outputs: Mapping[str, np.ndarray], layout: Layout, settings: Any
) -> tuple[ResultTable, ...]:
    """Opened outputs as tables. Raises Refused where an oblivious join found too few people to show anything of."""
    if layout.pairs and not any(values.any() for values in outputs.values()):
        few = "" if smallest_group(settings) is None else ", or too few in a group of them"
        raise Refused(f"fewer than {layout.pairs} people are in all owners' data{few}, so nothing of them is shown")
    return offer.present(outputs, layout, settings)


def on_owners(name: str, layout: Layout, function: Callable[..., Revealed], flags: Sequence[int] = ()) -> Program:
    """The program that computes ``function`` of the owners' own tables, scaled to [−1, 1], each with all columns."""
    check_layout(layout)
    return computation.program(name, function, layout.shapes, layout.columns, layout.fraction_bits, flags, scaled=True)


def on_target(
    name: str,
    layout: Layout,
    outputs: Sequence[str],
    function: Callable[[SecretArray, SecretArray], Revealed],
    kind: Target,
) -> Program:
    """The program that computes ``function`` of the features (people, d) and the target (people,), all in [−1, 1].

    Args:
        kind: a BINARY target is the last column and holds only −1 and 1.

    Raises:
        InvalidInput: there is no target of this kind, or no other column.
    """
    features = list(layout.features)
    if not features or len(features) == len(layout.columns):
        raise InvalidInput(f"{name} needs a target and at least one other column")
    binary = kind is Target.BINARY
    if binary and layout.place != len(layout.columns) - 1:
        raise InvalidInput(f"{name} takes its 0/1 target as the last column")

    def compute(rows: SecretArray) -> Revealed:
        return function(rows[:, features], rows[:, layout.place])

    return on_table(name, layout, outputs, compute, (layout.place,) if binary else ())


def target_units(layout: Layout) -> tuple[float, float]:
    """What 1 stands for in the target's column above its middle, and the middle."""
    column = layout.columns[layout.place]
    return (column.high - column.low) / 2, (column.high + column.low) / 2


def names_of(columns: Sequence[Column]) -> tuple[str, ...]:
    """The columns' names."""
    return tuple(column.name for column in columns)


def tables_of_line(
    found: Mapping[str, np.ndarray], features: Sequence[Column], unit: str = ""
) -> tuple[ResultTable, ...]:
    """One table for each opened output of a regression, its coefficients beside the columns' names.

    Args:
        unit: what the numbers are in; empty where each output's own name says it.
    """
    return tuple(
        ResultTable(
            name, names_of(features) if name == "coefficients" else ("",), (unit or name,), values.reshape(-1, 1)
        )
        for name, values in found.items()
    )


def middles(columns: Sequence[Column]) -> np.ndarray:
    """(d,) what 0 stands for in each column."""
    return np.array([(column.low + column.high) / 2 for column in columns])


def halves(columns: Sequence[Column]) -> np.ndarray:
    """(d,) what 1 stands for in each column, above its middle."""
    return np.array([(column.high - column.low) / 2 for column in columns])
