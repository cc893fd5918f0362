"""Columns made ready inside a study: filled in, scaled and encoded before its program sees them, on all rows together.

A program whose settings are ``PreparedSettings`` is built for the columns as they are afterwards (``inside``), and
``prepared`` puts the work in front of it. What it takes to do the same to a new row — what stands for a missing number,
centre and factor of every column — is fitted among shares and opened only as the output ``preparation``; a model's
file needs it, so that callers send rows as they are. Of the scale "range" that says what the smallest and the largest
number of a column are, which are single people's.

A missing cell is shared as any number in its column's range, and a 0/1 column beside it says 1 there.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, bounded, clip, concatenate, constant_like, refined
from koinon.privacy.backend import Program
from koinon.privacy.differential.canaries import RELEASED
from koinon.privacy.graph import Leaf, evaluate
from koinon.privacy.learn.preparation import MeanFill, MedianFill, RangeScaler, StandardScaler, ordinal
from koinon.privacy.ordering import one_hot
from koinon.privacy.programs import offer
from koinon.privacy.programs.offer import PREPARATION, Layout, Offer, ResultTable, is_prepared
from koinon.privacy.secret import Machine, Secret, multiply
from koinon.wire.committee import Column

REACH: Final = 8.0
"""Deviations at which a standardised column is cut."""
STANDARD: Final = "standard"
RANGE: Final = "range"
MOST_CODES: Final = 50
_FILLS: Final[dict[str, type[MeanFill] | type[MedianFill]]] = {"mean": MeanFill, "median": MedianFill}


class PreparedSettings(Record, frozen=True):
    """Attributes:
    scale: "standard" for mean 0 and deviation 1, "range" for 0 to 1, empty for columns as they are.
    impute: what stands for a missing number: "mean" or "median" of those that are there.
    missing: pairs of a column's name and that of the 0/1 column which says 1 where its cell is missing.
    encode: columns of codes from 0 on, each of which becomes a 0/1 column for every code.
    """

    scale: str = ""
    impute: str = "mean"
    missing: tuple[tuple[str, str], ...] = ()
    encode: tuple[str, ...] = ()

    @property
    def prepares(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.scale or self.missing or self.encode)


@dataclass(frozen=True)
class Part:
    """A column as the program sees it.

    Attributes:
        column: its name and range there.
        source: number of the shared column that it is made of.
        mask: number of the column that says where it is missing, or None.
        code: it says 1 where the source holds this code; None where it is no such column.
        scaled: whether the settings' scale applies.
    """

    column: Column
    source: int
    mask: int | None = None
    code: int | None = None
    scaled: bool = False


def parts_of(layout: Layout, settings: PreparedSettings) -> tuple[Part, ...]:
    """The columns that the program sees, in order.

    Raises:
        InvalidInput: a column that is not there, is named twice or has a range that does not fit.
    """
    if settings.scale not in ("", STANDARD, RANGE) or settings.impute not in _FILLS:
        raise InvalidInput(
            f"columns are scaled by {STANDARD!r} or {RANGE!r} and filled in by {' or '.join(map(repr, _FILLS))}; got"
            f" {settings.scale[:40]!r} and {settings.impute[:40]!r}"
        )
    places = {column.name: number for number, column in enumerate(layout.columns)}
    named = [*(name for pair in settings.missing for name in pair), *settings.encode]
    for name in named:
        if name not in places or name == layout.target:
            raise InvalidInput(f"{name[:80]!r} is none of the columns that could be prepared")
    if len(set(named)) != len(named):
        raise InvalidInput(
            "a column is filled in, says what is missing, or is encoded, each once; where codes can be missing, let"
            " that be a code"
        )
    masks = {places[name]: places[mask] for name, mask in settings.missing}
    for number, mask in masks.items():
        column = layout.columns[mask]
        if (column.low, column.high) != (0.0, 1.0):
            raise InvalidInput(f"{column.name!r} says what is missing, so its range must be from 0 to 1")
        if not any(number in own and mask in own for own in layout.sources or (range(len(places)),)):
            raise InvalidInput(f"{column.name!r} must come from the owner whose column it speaks of")
    parts: list[Part] = []
    for number, column in enumerate(layout.columns):
        if number in masks.values():
            continue
        if column.name in settings.encode:
            codes = range(_codes(column))
            parts += [Part(Column(f"{column.name} = {code}", 0.0, 1.0), number, code=code) for code in codes]
            continue
        scaled = bool(settings.scale) and column.name != layout.target
        seen = column
        if scaled:
            low, high = (-REACH, REACH) if settings.scale == STANDARD else (0.0, 1.0)
            seen = Column(column.name, low, high)
        parts.append(Part(seen, number, masks.get(number), scaled=scaled))
    return tuple(parts)


def inside(layout: Layout, settings: PreparedSettings) -> Layout:
    """The layout that the program sees. Raises InvalidInput where the settings do not fit the columns."""
    if layout.pairs:
        raise InvalidInput("columns are prepared of people who are known to be in the table, not of an oblivious join")
    parts = parts_of(layout, settings)
    sources = tuple(tuple(n for n, part in enumerate(parts) if part.source in own) for own in layout.sources)
    return msgspec.structs.replace(layout, columns=tuple(part.column for part in parts), sources=sources)


def prepared(
    build: Callable[[Layout, Any, tuple[str, ...]], Program],
    layout: Layout,
    settings: PreparedSettings,
    outputs: tuple[str, ...],
) -> Program:
    """The program that ``build`` makes, with this work in front of it, on the columns that owners share.

    Raises:
        InvalidInput: settings that do not fit the columns, nothing of the program is opened, or what ``build`` says.
        Refused: it could overflow.
    """
    parts = parts_of(layout, settings)
    wanted = tuple(name for name in outputs if name != PREPARATION)
    if not wanted:
        raise InvalidInput(f"a study that prepares columns opens something of its program beside {PREPARATION!r}")
    inner = build(inside(layout, settings), settings, wanted)
    leaves = [Leaf(shape) for shape in layout.shapes]
    tables = [SecretArray(leaf, layout.fraction_bits) for leaf in leaves]
    ready, fitted = _all_ready(tables, layout, parts, settings)
    nodes = [each.node for each in (*ready, *([fitted] if PREPARATION in outputs else []))]

    def compute(machine: Machine, inputs: Sequence[Secret]) -> Generator[None, None, list[Secret]]:
        made = yield from evaluate(nodes, dict(zip(leaves, inputs, strict=True)))
        results = list((yield from inner.compute(machine, made[: len(ready)])))
        for known in made[len(ready) :]:
            names = [name for name, _ in inner.output]
            if RELEASED in names:
                released = results[names.index(RELEASED)].reshape(1, 1)
                known = yield from multiply(known, released)  # held back with the rest
            results.append(known)
        return results

    masks = {part.mask for part in parts if part.mask is not None}
    opened = (*inner.output, (PREPARATION, fitted.shape)) if PREPARATION in outputs else inner.output
    return replace(
        inner,
        shapes=layout.shapes,
        columns=layout.columns,
        flags=tuple(sorted({*(parts[place].source for place in inner.flags), *masks})),
        sources=layout.sources,
        output=opened,
        compute=compute,
    )


def presented(
    found: Offer, outputs: Mapping[str, np.ndarray], layout: Layout, settings: Any
) -> tuple[ResultTable, ...]:
    """Opened outputs as tables, those of prepared columns in these columns' units, and how they were prepared."""
    if not is_prepared(settings):
        return offer.presented(found, outputs, layout, settings)
    rest = {name: values for name, values in outputs.items() if name != PREPARATION}
    tables = offer.presented(found, rest, inside(layout, settings), settings)
    return (*tables, *([table_of(outputs[PREPARATION], layout, settings)] if PREPARATION in outputs else ()))


def table_of(values: np.ndarray, layout: Layout, settings: PreparedSettings) -> ResultTable:
    """What was opened as ``preparation``, in the units of the shared columns; of what is not filled in, 0."""
    parts = parts_of(layout, settings)
    fills, centres, factors = in_units(values, layout, parts)
    masked = np.array([part.mask is not None for part in parts])
    labels = tuple(part.column.name for part in parts)
    heads = ("where missing", "centre", "factor")
    return ResultTable(PREPARATION, labels, heads, np.column_stack([np.where(masked, fills, 0.0), centres, factors]))


def in_units(values: np.ndarray, layout: Layout, parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What stands for a missing number, centre and factor (k,) of numbers in the shared columns' units.

    A number x becomes (x − centre) · factor; one that is not scaled stays, with a centre of 0 and a factor of 1.
    """
    columns = [layout.columns[part.source] for part in parts]
    half = np.array([(column.high - column.low) / 2 for column in columns])
    middle = np.array([(column.high + column.low) / 2 for column in columns])
    scaled = np.array([part.scaled for part in parts])
    centres = np.where(scaled, middle + values[1] * half, 0.0)
    return middle + values[0] * half, centres, np.where(scaled, values[2] / half, 1.0)


def whole_names(settings: object) -> tuple[str, ...]:
    """Names of the columns that must hold whole numbers because they are encoded."""
    return settings.encode if isinstance(settings, PreparedSettings) else ()


def _codes(column: Column) -> int:
    if column.low != 0.0 or column.high != round(column.high) or not 1 <= column.high < MOST_CODES:
        raise InvalidInput(
            f"{column.name!r} is encoded, so its range must go from 0 to the last code, a whole number up to"
            f" {MOST_CODES - 1}"
        )
    return round(column.high) + 1


def _all_ready(
    tables: Sequence[SecretArray], layout: Layout, parts: Sequence[Part], settings: PreparedSettings
) -> tuple[list[SecretArray], SecretArray]:
    """Every owner's table as the program sees it, and what was fitted: (3, columns) of columns in [−1, 1].

    Its rows are what stands for a missing number, centre and factor.
    """
    everything = list(enumerate(parts))
    if not layout.sources:
        rows, fitted = _ready(concatenate(tables), range(len(layout.columns)), everything, layout, settings)
        starts = np.cumsum([0, *layout.rows])
        return [rows[start : start + count] for start, count in zip(starts, layout.rows, strict=False)], fitted
    found, known, order = [], [], []
    for table, held in zip(tables, layout.sources, strict=True):
        own = [(number, part) for number, part in everything if part.source in held]
        if not own:
            raise InvalidInput("an owner brings nothing but what says where cells are missing")
        ready, fitted = _ready(table, held, own, layout, settings)
        found.append(ready)
        known.append(fitted)
        order += [number for number, _ in own]
    return found, concatenate(known, 1)[:, np.argsort(order)]


def _ready(
    rows: SecretArray,
    held: Sequence[int],
    own: Sequence[tuple[int, Part]],
    layout: Layout,
    settings: PreparedSettings,
) -> tuple[SecretArray, SecretArray]:
    """(n, k) columns of some owners' rows in [−1, 1] of their new ranges, in order, and (3, k) what was fitted."""
    place = {number: index for index, number in enumerate(held)}
    plain = [(number, part) for number, part in own if part.code is None]
    pieces: list[SecretArray] = []
    known: list[SecretArray] = []
    order: list[int] = []

    def add(numbers: Sequence[int], columns: SecretArray, fitted: Sequence[SecretArray]) -> None:
        order.extend(numbers)
        pieces.append(columns)
        known.append(concatenate([each.reshape(1, -1) for each in fitted]))

    for scaled in (False, True):
        for masked in (False, True):
            chosen = [(n, p) for n, p in plain if p.scaled is scaled and (p.mask is not None) is masked]
            if not chosen:
                continue
            columns = rows[:, [place[part.source] for _, part in chosen]]
            nothing = constant_like(rows, np.zeros(len(chosen)))
            fill, centre, factor = nothing, nothing, nothing + 1.0
            if masked:
                missing = rows[:, [place[part.mask] for _, part in chosen if part.mask is not None]] > 0.0
                found = _FILLS[settings.impute]().fit(columns, missing)
                fill = clip(found.numbers, -1.0, 1.0)
                columns = replace(found, numbers=fill).transform(columns, missing)
            if scaled:
                scale = (StandardScaler() if settings.scale == STANDARD else RangeScaler()).fit(columns)
                centre, factor = scale.centres, scale.factors
                columns = _in_range(scale.transform(columns), settings.scale)
            add([number for number, _ in chosen], columns, (fill, centre, factor))
    for source in sorted({part.source for _, part in own if part.code is not None}):
        numbers = [number for number, part in own if part.source == source]
        levels = len(numbers)
        codes = ordinal(rows[:, place[source]], [float(code) for code in np.linspace(-1.0, 1.0, levels)])
        nothing = constant_like(rows, np.zeros(levels))
        add(numbers, one_hot(codes, levels).times(2) - 1.0, (nothing, nothing, nothing))
    bits = layout.fraction_bits
    back = np.argsort(order)
    ready = [bounded(refined(piece, bits), "CLIP", 1.0) for piece in pieces]
    return concatenate(ready, 1)[:, back], concatenate(known, 1)[:, back]


def _in_range(columns: SecretArray, scale: str) -> SecretArray:
    """Standardised columns as parts of ``REACH``, or those from 0 to 1, mapped to [−1, 1] and cut there."""
    if scale == STANDARD:
        return clip(columns, -REACH, REACH).times(1.0 / REACH)
    return clip(columns.times(2) - 1.0, -1.0, 1.0)
