"""Reading a table: the whole file is checked before any of it is used, and refused whole with one sentence.

Messages name columns, line numbers and counts, never a value: an owner may paste them into a ticket.
"""

import csv
import io
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from koinon.data.schema import (
    MAXIMUM_COLUMNS,
    Schema,
    check_names,
    check_schema,
    list_names,
    suggest_ranges,
)
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import Hash32

FloatArray = NDArray[np.float64]

MAXIMUM_FILE_BYTES: Final = 512 * 1024 * 1024
MAXIMUM_CELLS: Final = 200_000_000
"""1.6 GB as float64; a Parquet file of a few kB can claim far more."""
MINIMUM_ROWS: Final = 20
_LINES_AT_A_TIME: Final = 4096
_NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_PLAIN: Final = re.compile(r"[\x20-\x5e\x60-\x7e\t]*")
"""ASCII without the underscore, which Python's float() would accept inside a number."""


@dataclass(frozen=True, eq=False)
class Table:
    """Checked rows in the schema's column order.

    Attributes:
        schema: columns with public ranges, and the target's name.
        features: float64 (rows, columns), finite, original units, every value inside its column's public range.
        target: float64 (rows,), each 0 or 1, both present; of shape (0,) where the schema has no target.
    """

    schema: Schema
    features: FloatArray
    target: FloatArray

    @property
    def rows(self) -> int:
        return int(self.features.shape[0])

    @property
    def matrix(self) -> FloatArray:
        """float64 (rows, columns): the features, and last the target if there is one."""
        return np.column_stack([self.features, self.target]) if self.schema.target else self.features

    def take(self, rows: NDArray[np.intp]) -> "Table":
        """The same table with only these rows, in this order."""
        return Table(self.schema, self.features[rows], self.target[rows] if self.schema.target else self.target)

    def __repr__(self) -> str:
        return f"Table({self.rows} rows, {len(self.schema.columns)} columns, target {self.schema.target!r})"


class Aligned(NamedTuple):
    """Rows in the order that their ids give them, the root of the people, and float64 (rows,) ids in that order."""

    table: Table
    people: Hash32
    ids: FloatArray


@dataclass(frozen=True, eq=False)
class _Raw:
    """A file's numbers before any rule about their meaning, and how to name a row of it in a message."""

    names: tuple[str, ...]
    values: FloatArray
    place: str
    lines: "NDArray[np.int64] | None"

    def where(self, row: int) -> str:
        return f"{self.place} {row + 1 if self.lines is None else int(self.lines[row])}"


def read_table(
    path: Path, schema: Schema, *, minimum_rows: int = MINIMUM_ROWS, maximum_bytes: int = MAXIMUM_FILE_BYTES
) -> Table:
    """Read a ``.csv`` or ``.parquet`` file and check every row of it against ``schema``.

    CSV: UTF-8, comma, one header line, decimal point, no missing cells. The file's columns may stand in another order
    than the schema's but must be the same columns.

    Raises:
        InvalidInput: anything about the file's content; the sentence names the column and the line.
        Unavailable: the file cannot be opened or read.
    """
    check_schema(schema)
    raw = _read(path, maximum_bytes)
    _check_columns(raw, schema.all_names, schema.target)
    table = _checked(raw, schema, minimum_rows)
    _check_duplicates(raw)
    return table


def read_aligned(
    path: Path,
    schema: Schema,
    key: str,
    *,
    minimum_rows: int = MINIMUM_ROWS,
    maximum_bytes: int = MAXIMUM_FILE_BYTES,
) -> Aligned:
    """As ``read_table``, for a file with a column of ids: its rows in the agreed order, and the root of its people.

    Two people may have the same numbers in all columns, but not the same id.
    """
    check_schema(schema)
    if key in schema.all_names:
        raise InvalidInput(f"the ids in column {key!r} cannot be one of the study's columns; leave them out there")
    raw = _read(path, maximum_bytes)
    _check_columns(raw, (*schema.all_names, key), schema.target)
    from koinon.data.people import agreed_order

    ids = raw.values[:, raw.names.index(key)]
    order, people = agreed_order(ids, key)
    return Aligned(_checked(raw, schema, minimum_rows).take(order), people, ids[order])


def read_stored(path: Path, schema: Schema) -> Table:
    """Rows that ``write_csv`` wrote after they had been checked; two people may have the same numbers. Raises alike."""
    raw = _read(path, MAXIMUM_FILE_BYTES)
    _check_columns(raw, schema.all_names, schema.target)
    return _checked(raw, schema, MINIMUM_ROWS)


def _checked(raw: "_Raw", schema: Schema, minimum_rows: int) -> Table:
    positions = [raw.names.index(name) for name in schema.names]
    target = raw.values[:, raw.names.index(schema.target)] if schema.target else np.empty(0)
    features = np.ascontiguousarray(raw.values[:, positions])
    _check_size(raw, minimum_rows)
    if schema.target:
        _check_target(raw, target, schema.target)
    _check_variation(features, schema)
    _check_ranges(raw, features, schema)
    return Table(schema, features, target.copy())


def read_features(path: Path, names: tuple[str, ...], left_out: str = "") -> FloatArray:
    """Rows to have answered: a CSV or Parquet file with these columns in any order, and no target needed.

    Args:
        names: the columns in the order of the result; empty for the file's own columns in their order.
        left_out: a column that may be there and is not used, such as the target.

    Returns:
        float64 (rows, columns), finite.

    Raises:
        InvalidInput: anything about the file's content; the sentence names the column and the line.
        Unavailable: the file cannot be opened or read.
    """
    raw = _read(path, MAXIMUM_FILE_BYTES)
    wanted = names or tuple(name for name in raw.names if name != left_out)
    absent = tuple(name for name in wanted if name not in raw.names)
    unknown = tuple(name for name in raw.names if name not in wanted and name != left_out)
    if absent or unknown:
        parts = [f"{list_names(absent)} missing"] if absent else []
        parts += [f"{list_names(unknown)} unknown to the model"] if unknown else []
        raise InvalidInput(f"the columns of {path.name} are not the model's: {' and '.join(parts)}")
    _check_size(raw, 1)
    return np.ascontiguousarray(raw.values[:, [raw.names.index(name) for name in wanted]])


def infer_schema(
    path: Path,
    target: str,
    key: str = "",
    *,
    codes: Collection[str] = (),
    maximum_bytes: int = MAXIMUM_FILE_BYTES,
) -> Schema:
    """The schema that a file's own rows suggest: every numeric column but target and key, with widened ranges.

    Args:
        target: the 0/1 column, or empty.
        key: a column of ids, or empty.
        codes: columns whose numbers are codes, see ``schema.suggest_ranges``.

    The ranges become public when the schema is shared; show ``schema.PUBLIC_RANGE_WARNING`` to whoever asked.

    Raises:
        InvalidInput: the file is malformed, has no such target, or the target is not 0/1.
        Unavailable: the file cannot be opened or read.
    """
    raw = _read(path, maximum_bytes)
    if target and target not in raw.names:
        raise InvalidInput(f"there is no target column {target!r}; the file's columns are {list_names(raw.names)}")
    _check_size(raw, 1)
    if target:
        _check_target(raw, raw.values[:, raw.names.index(target)], target)
    if key and key not in raw.names:
        raise InvalidInput(f"there is no column {key!r} of ids; the file's columns are {list_names(raw.names)}")
    kept = [position for position, name in enumerate(raw.names) if name not in (target, key)]
    if not kept:
        raise InvalidInput(f"the file has only the target column {target!r}; add at least one feature column")
    names = tuple(raw.names[position] for position in kept)
    schema = Schema(suggest_ranges(names, raw.values[:, kept], codes), target)
    check_schema(schema)
    return schema


def answer_columns(path: Path, *, maximum_bytes: int = MAXIMUM_FILE_BYTES) -> tuple[str, ...]:
    """Names of the columns that could be a target: 0 or 1 in every row, and both somewhere.

    Raises:
        InvalidInput: the file is malformed.
        Unavailable: the file cannot be opened or read.
    """
    raw = _read(path, maximum_bytes)
    zero, one = raw.values == 0, raw.values == 1
    fits = (zero | one).all(axis=0) & zero.any(axis=0) & one.any(axis=0)
    return tuple(name for name, fit in zip(raw.names, fits, strict=True) if fit)


def column_names(path: Path, *, maximum_bytes: int = MAXIMUM_FILE_BYTES) -> tuple[str, ...]:
    """The names in a file's header. Raises as ``infer_schema``."""
    return _read(path, maximum_bytes).names


def write_csv(table: Table, path: Path) -> None:
    """Write rows as CSV that ``read_table`` reads back exactly. Raises Unavailable where the file cannot be written."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table.schema.all_names)
            if not table.schema.target:
                writer.writerows(table.features.tolist())
                return
            for features, target in zip(table.features.tolist(), table.target.tolist(), strict=True):
                writer.writerow([*features, int(target)])
    except OSError as problem:
        raise Unavailable(f"cannot write {path.name}: {problem.strerror}") from None


def _read(path: Path, maximum_bytes: int) -> _Raw:
    kind = path.suffix.lower()
    if kind not in {".csv", ".parquet"}:
        raise InvalidInput(f"{path.name} is neither a .csv nor a .parquet file; convert it to one of them")
    content = _read_bytes(path, maximum_bytes)
    return _read_csv(content) if kind == ".csv" else _read_parquet(content)


def _read_bytes(path: Path, maximum_bytes: int) -> bytes:
    try:
        # Non-blocking, so that a named pipe is seen and refused instead of waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInput(f"{path.name} is not an ordinary file")
            content = file.read(maximum_bytes + 1)
    except OSError as problem:
        raise Unavailable(f"cannot read {path.name}: {problem.strerror}") from None
    if len(content) > maximum_bytes:
        raise InvalidInput(f"{path.name} is larger than the {maximum_bytes} bytes allowed; split it or raise the limit")
    return content


def _read_csv(content: bytes) -> _Raw:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise InvalidInput(f"line {line} is not UTF-8 text; save the file as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise InvalidInput("the file is empty or its first line is blank; the first line must name the columns")
        if len(header) == 1 and re.search(r"[;\t|]", header[0]):
            raise InvalidInput("line 1 has one column only; separate columns with commas")
        if len(header) > MAXIMUM_COLUMNS + 1:
            raise InvalidInput(f"line 1 names {len(header)} columns; at most {MAXIMUM_COLUMNS + 1} are allowed")
        names = tuple(name.strip() for name in header)
        check_names(names)
        blocks, lines = [], []
        cells = 0
        for block, block_lines in _blocks(reader, names):
            cells += block.size
            if cells > MAXIMUM_CELLS:
                raise InvalidInput(f"the file has more than the {MAXIMUM_CELLS} cells allowed; split it")
            blocks.append(block)
            lines.append(block_lines)
    except csv.Error as problem:
        raise InvalidInput(f"line {reader.line_num} is not well-formed CSV: {problem}") from None
    values = np.concatenate(blocks) if blocks else np.empty((0, len(names)))
    return _Raw(names, values, "line", np.concatenate(lines) if lines else np.empty(0, np.int64))


def _blocks(reader: Any, names: tuple[str, ...]) -> Iterator[tuple[FloatArray, NDArray[np.int64]]]:
    cells: list[list[str]] = []
    lines: list[int] = []
    blank_line = 0
    for row in reader:
        if not row:
            blank_line = blank_line or reader.line_num
            continue
        if blank_line:
            raise InvalidInput(f"line {blank_line} is blank; remove blank lines between rows")
        if len(row) != len(names):
            raise InvalidInput(f"line {reader.line_num} has {len(row)} cells but the header names {len(names)} columns")
        cells.append(row)
        lines.append(reader.line_num)
        if len(cells) == _LINES_AT_A_TIME:
            yield _numbers(cells, lines, names), np.array(lines, np.int64)
            cells, lines = [], []
    if cells:
        yield _numbers(cells, lines, names), np.array(lines, np.int64)


def _numbers(cells: list[list[str]], lines: list[int], names: tuple[str, ...]) -> FloatArray:
    """Convert one block; on any doubt go cell by cell, so that the message can name the column and the line."""
    block: FloatArray | None = None
    if all(_PLAIN.fullmatch("".join(row)) for row in cells):
        try:
            block = np.array([[float(cell) for cell in row] for row in cells])
        except ValueError:
            block = None  # named below, cell by cell
    if block is not None and np.isfinite(block).all():
        return block
    for row, line in zip(cells, lines, strict=True):
        for cell, name in zip(row, names, strict=True):
            if not cell.strip():
                raise InvalidInput(f"column {name!r} has no value on line {line}; remove the row or fill the cell")
            if cell.strip().lower().lstrip("+-") in {"nan", "na", "n/a", "null", "none", "inf", "infinity"}:
                raise InvalidInput(
                    f"column {name!r} is missing or not finite on line {line}; remove the row or fill the cell"
                )
            if not _NUMBER.fullmatch(cell):
                raise InvalidInput(
                    f"column {name!r} is not a number on line {line}; encode categories as numbers first"
                )
            if not np.isfinite(float(cell)):
                raise InvalidInput(f"column {name!r} is too large on line {line}; it does not fit a 64-bit number")
    return np.array([[float(cell) for cell in row] for row in cells])


def _read_parquet(content: bytes) -> _Raw:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        names = tuple(file.schema_arrow.names)
        check_names(names)
        rows, width = file.metadata.num_rows, len(names)
        if width > MAXIMUM_COLUMNS + 1 or rows * max(width, 1) > MAXIMUM_CELLS:
            raise InvalidInput(f"the file has more than {MAXIMUM_COLUMNS} columns or {MAXIMUM_CELLS} cells; split it")
        for field in file.schema_arrow:
            if not (
                pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_boolean(field.type)
            ):
                raise InvalidInput(f"column {field.name!r} is not a number column; encode categories as numbers first")
        blocks: list[FloatArray] = []
        read = 0
        for batch in file.iter_batches(batch_size=65_536):
            blocks.append(_from_batch(batch, names, read))
            read += batch.num_rows
            if read > rows:
                raise InvalidInput("the Parquet file holds more rows than it declares; write it again")
    except (pa.ArrowException, OSError, ValueError):
        # pyarrow's own messages can quote cell values, so none of them is passed on.
        raise InvalidInput("the file is not a readable Parquet file; write it again without encryption") from None
    values = np.concatenate(blocks) if blocks else np.empty((0, len(names)))
    return _Raw(names, values, "row", None)


def _from_batch(batch: Any, names: tuple[str, ...], offset: int) -> FloatArray:
    columns = []
    for name, column in zip(names, batch.columns, strict=True):
        if column.null_count:
            missing = int(np.flatnonzero(np.asarray(column.is_null()))[0])
            raise InvalidInput(
                f"column {name!r} has no value on row {offset + missing + 1}; remove the row or fill the cell"
            )
        exact = np.asarray(column.to_numpy(zero_copy_only=False))
        values = exact.astype(np.float64)
        wrong = ~np.isfinite(values)
        if exact.dtype.kind in "iu":
            wrong |= np.abs(values) > 2.0**53
        if wrong.any():
            row = offset + int(np.flatnonzero(wrong)[0]) + 1
            raise InvalidInput(f"column {name!r} is missing, not finite or too large on row {row}")
        columns.append(values)
    return np.column_stack(columns) if columns else np.empty((0, 0))


def _check_columns(raw: _Raw, expected: tuple[str, ...], target: str) -> None:
    if target and target not in raw.names:
        raise InvalidInput(f"the target column {target!r} is missing; the file's columns are {list_names(raw.names)}")
    absent = tuple(name for name in expected if name not in raw.names)
    unknown = tuple(name for name in raw.names if name not in expected)
    if absent or unknown:
        parts = [f"{list_names(absent)} missing"] if absent else []
        parts += [f"{list_names(unknown)} not in the schema"] if unknown else []
        raise InvalidInput(f"the file's columns do not match the schema: {' and '.join(parts)}")


def _check_size(raw: _Raw, minimum_rows: int) -> None:
    if len(raw.values) < minimum_rows:
        raise InvalidInput(f"the file has {len(raw.values)} rows; at least {minimum_rows} are needed")


def _check_target(raw: _Raw, target: FloatArray, name: str) -> None:
    wrong = np.flatnonzero((target != 0) & (target != 1))
    if wrong.size:
        raise InvalidInput(f"target {name!r} must be 0 or 1; it is neither on {raw.where(int(wrong[0]))}")
    if target.size and (target == target[0]).all():
        raise InvalidInput(f"target {name!r} is {int(target[0])} in every row; rows of both kinds are needed")


def _check_variation(features: FloatArray, schema: Schema) -> None:
    """Refuse constant columns, but for those at the low end of their range: an empty pixel, no missing cell, no event.

    Other owners may have some; that this one has none is a fact about its rows as any other.
    """
    same = (features == features[0]).all(axis=0) & (features[0] != [column.low for column in schema.columns])
    constant = tuple(name for name, is_same in zip(schema.names, same, strict=True) if is_same)
    if constant:
        raise InvalidInput(
            f"{list_names(constant)} hold one value in every row; remove constant columns from the study"
        )


def _check_duplicates(raw: _Raw) -> None:
    copies = count_duplicates(raw.values)
    if copies:
        raise InvalidInput(
            f"{copies} rows are exact copies of other rows; remove them, each person or event counts once"
        )


def _check_ranges(raw: _Raw, features: FloatArray, schema: Schema) -> None:
    low = np.array([column.low for column in schema.columns])
    high = np.array([column.high for column in schema.columns])
    outside = (features < low) | (features > high)
    if outside.any():
        row, column = (int(part[0]) for part in np.nonzero(outside))
        name = schema.columns[column].name
        raise InvalidInput(
            f"column {name!r} is outside its public range on {raw.where(row)} ({int(outside.sum())} cells in all); "
            "correct the rows or agree on a wider range with the other owners"
        )


def count_duplicates(values: FloatArray) -> int:
    """How many rows are exact copies of an earlier row; −0 and 0 are the same value."""
    canonical = np.ascontiguousarray(values + 0.0)
    as_bytes = canonical.view(np.dtype((np.void, canonical.dtype.itemsize * canonical.shape[1]))).ravel()
    return int(len(as_bytes) - len(np.unique(as_bytes)))
