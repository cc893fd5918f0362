"""Cells that are missing: a CSV file with some becomes one that a study takes, with a 0/1 column that says where.

What stands in a missing cell's place is the lowest number of its column in the file, so that it is in every range that
the owner's other rows are in; inside the study it is replaced (``privacy.programs.preparation``).
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from koinon.kernel.errors import InvalidInput, Unavailable

SUFFIX: Final = " missing"
"""Behind a column's name, the name of the column that says where it is missing."""
MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_MOST_BYTES: Final = 1 << 30


def write_masked(source: Path, out: Path, columns: Sequence[str]) -> dict[str, int]:
    """Write ``source`` again with the missing cells of these columns filled in, and a column for each that says where.

    All owners of a study name the same columns, whether or not any cell of theirs is missing. Other columns are copied
    as they are.

    Returns:
        How many cells of each column are missing.

    Raises:
        InvalidInput: no such column, named twice, without any number, or one that is there already; and what is no CSV.
        Unavailable: a file cannot be read, or written because it exists.
    """
    rows = _read(source)
    if not rows:
        raise InvalidInput(f"{source.name} is empty; its first line must name the columns")
    names, *cells = rows
    if len(set(columns)) != len(columns) or not columns:
        raise InvalidInput("name the columns that may have missing cells, each once")
    for name in columns:
        if names.count(name) != 1:
            raise InvalidInput(f"{source.name} has no column {name[:80]!r}, or more than one")
        if name + SUFFIX in names:
            raise InvalidInput(f"{source.name} has a column {(name + SUFFIX)[:80]!r} already; rename it")
    for line, row in enumerate(cells, 2):
        if len(row) != len(names):
            raise InvalidInput(f"line {line} has {len(row)} cells but the header names {len(names)} columns")
    counts = {}
    for name in columns:
        place = names.index(name)
        absent = [row[place].strip().lower() in MISSING for row in cells]
        lowest = _lowest(
            [(line, row[place]) for line, (row, gone) in enumerate(zip(cells, absent, strict=True), 2) if not gone],
            name,
        )
        for row, gone in zip(cells, absent, strict=True):
            row[place] = lowest if gone else row[place]
            row.append(str(int(gone)))
        counts[name] = sum(absent)
    _write(out, [[*names, *(name + SUFFIX for name in columns)], *cells])
    return counts


def _lowest(present: Sequence[tuple[int, str]], name: str) -> str:
    """The cell with the lowest number. Raises InvalidInput where there is none, or something else."""
    if not present:
        raise InvalidInput(f"column {name[:80]!r} has no value in any row; leave it out of the study")
    numbers = []
    for line, cell in present:
        try:
            numbers.append((float(cell), cell))
        except ValueError:
            raise InvalidInput(f"column {name[:80]!r} is not a number on line {line}; encode it first") from None
    return min(numbers)[1]


def _read(path: Path) -> list[list[str]]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidInput(f"{path.name} is larger than {_MOST_BYTES >> 20} MiB; split it")
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file, strict=True) if row]
    except OSError as problem:
        raise Unavailable(f"cannot read {path.name}: {problem.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        # Their own messages could quote cells.
        raise InvalidInput(f"{path.name} is not a CSV file in UTF-8") from None


def _write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    except OSError as problem:
        raise Unavailable(f"cannot write {path.name}: {problem.strerror}") from None
