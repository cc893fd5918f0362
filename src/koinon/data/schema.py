"""What a table must look like: named columns with public ranges, and at most one binary target.

The ranges are **public**: they stand in the study file and on the model's card, and everything private is scaled by
them to [−1, 1]. A range that is exactly the smallest and largest value of somebody's rows would publish those two
rows' values, so ``suggest_ranges`` widens and rounds them.
"""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Hash32
from koinon.wire.committee import Column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

MAXIMUM_COLUMNS: Final = 4096
MAXIMUM_NAME_LENGTH: Final = 100
RANGE_MARGIN: Final = 0.10
"""Share of the observed span that ``suggest_ranges`` adds on each side before rounding outward."""

PUBLIC_RANGE_WARNING: Final = (
    "Column ranges are public: they go into the study file and onto the chain. The suggestion is widened and rounded, "
    "but ranges from a textbook or a device's data sheet reveal nothing at all and are better."
)


class Schema(Record, frozen=True):
    """The columns of a table in their order, and the name of its 0/1 target; empty where it has none."""

    columns: tuple[Column, ...]
    target: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def all_names(self) -> tuple[str, ...]:
        """The columns, and last the target if there is one."""
        return (*self.names, self.target) if self.target else self.names

    def index(self, name: str) -> int:
        """Position of a column. Raises InvalidInput where there is none of that name."""
        try:
            return self.names.index(name)
        except ValueError:
            raise InvalidInput(f"there is no column {name!r}; the columns are {list_names(self.names)}") from None


def schema_hash(schema: Schema) -> Hash32:
    """Digest by which two owners see that they mean the same columns, order and ranges."""
    from koinon.crypto.hash import tagged_hash

    return tagged_hash("koinon/data/schema/1", encode(schema))


def check_schema(schema: Schema) -> None:
    """Refuse a schema that no table could satisfy.

    Raises:
        InvalidInput: no or too many columns, a bad or repeated name, a range that is empty or not finite.
    """
    if not 1 <= len(schema.columns) <= MAXIMUM_COLUMNS:
        raise InvalidInput(f"a schema has 1 to {MAXIMUM_COLUMNS} columns; this one has {len(schema.columns)}")
    check_names(schema.all_names)
    for column in schema.columns:
        if not (math.isfinite(column.low) and math.isfinite(column.high) and column.low < column.high):
            raise InvalidInput(f"the public range of column {column.name!r} must be finite with low below high")


def check_names(names: tuple[str, ...]) -> None:
    """Refuse names that are empty, too long, not printable or used twice. Raises InvalidInput."""
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        if not name or len(name) > MAXIMUM_NAME_LENGTH or not name.isprintable() or name != name.strip():
            raise InvalidInput(
                f"the name of column {position} must be 1 to {MAXIMUM_NAME_LENGTH} printable characters, "
                "without spaces around it"
            )
        if name in seen:
            raise InvalidInput(f"column {name!r} occurs twice; give every column its own name")
        seen.add(name)


def list_names(names: tuple[str, ...], most: int = 5) -> str:
    """``a, b, c and 7 more`` for a message."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def suggest_ranges(names: tuple[str, ...], values: "FloatArray", codes: Collection[str] = ()) -> tuple[Column, ...]:
    """Public ranges that cover ``values`` (rows, columns) with a margin, rounded outward to two significant digits of
    the span.

    A column without negative values keeps a low of at least 0; one of only zeros and ones, or of only zeros, is taken
    to have a range from 0 to 1. The caller shows ``PUBLIC_RANGE_WARNING`` beside them.

    Args:
        codes: names of columns of codes from 0 on: where their numbers are such, the range ends at the last of them.

    Raises:
        InvalidInput: a column is constant, so that it has no span.
    """
    import numpy as np

    columns = []
    for position, name in enumerate(names):
        smallest, largest = float(values[:, position].min()), float(values[:, position].max())
        span = largest - smallest
        if np.isin(values[:, position], (0.0, 1.0)).all() and not smallest:
            columns.append(Column(name, 0.0, 1.0))
            continue
        if name in codes and smallest >= 0 and largest >= 1 and not (values[:, position] % 1).any():
            columns.append(Column(name, 0.0, largest))
            continue
        if not span > 0:
            raise InvalidInput(
                f"column {name!r} has one value in every row; remove it, it carries nothing to learn from"
            )
        unit = 10.0 ** (math.floor(math.log10(span)) - 1)
        low = _in_units(math.floor((smallest - RANGE_MARGIN * span) / unit), unit)
        high = _in_units(math.ceil((largest + RANGE_MARGIN * span) / unit), unit)
        columns.append(Column(name, max(low, 0.0) if smallest >= 0 else low, high))
    return tuple(columns)


def _in_units(whole: int, unit: float) -> float:
    # Through decimal text, so that 3 units of 0.1 are 0.3 in the study file and not 0.30000000000000004.
    return float(f"{whole * unit:.12g}")
