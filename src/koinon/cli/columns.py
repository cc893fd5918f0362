"""Public column ranges as people exchange them: in a study file, or a TOML file with nothing else; or a file's own."""

import tomllib
from pathlib import Path
from typing import Any

from koinon.cli.console import errors
from koinon.cli.options import read_text
from koinon.data.schema import PUBLIC_RANGE_WARNING, Schema, check_schema
from koinon.kernel.errors import InvalidInput
from koinon.wire.committee import Column


def read_ranges(path: Path, target: str | None) -> Schema:
    """The ``[[columns]]`` (name, low, high) and the 0/1 ``target`` of a TOML file, such as a study file.

    A target that is one of the columns is a column like the others: the schema then has no 0/1 target.

    Args:
        target: takes the place of the file's; needed where it has none. Empty: the rows have no 0/1 target.

    Raises:
        InvalidInput: the file is no TOML or has no such columns; the sentence names what is wrong.
    """
    try:
        table = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as problem:
        raise InvalidInput(f"{path.name} is not TOML: {problem}") from None
    entries = table.get("columns")
    if not isinstance(entries, list) or not entries:
        raise InvalidInput(f"{path.name} has no [[columns]] with name, low and high")
    found = target if target is not None else table.get("target")
    if not isinstance(found, str):
        raise InvalidInput(f"{path.name} names no target; give --target, or an empty one where there is none")
    columns = tuple(_column(entry, path.name) for entry in entries)
    schema = Schema(columns, "" if found in {column.name for column in columns} else found)
    check_schema(schema)
    return schema


def suggested_ranges(path: Path, target: str | None) -> Schema:
    """Ranges from a data file's own rows, with a warning that they are about to become public.

    Raises:
        InvalidInput: the file is malformed, or no target is named.
        Unavailable: it cannot be read.
    """
    from koinon.data.table import infer_schema

    if target is None:
        raise InvalidInput("say with --target which 0/1 column is to be predicted; --target '' where there is none")
    schema = infer_schema(path, target)
    errors.print(f"note: {PUBLIC_RANGE_WARNING}")
    return schema


def read_schema(path: Path, target: str | None) -> Schema:
    """Ranges from a TOML file, or else from a data file's own rows. Raises as the two above."""
    return read_ranges(path, target) if path.suffix.lower() == ".toml" else suggested_ranges(path, target)


def as_tuples(schema: Schema) -> tuple[tuple[str, float, float], ...]:
    """Columns as orders and drafts take them."""
    return tuple((column.name, column.low, column.high) for column in schema.columns)


def _column(entry: Any, where: str) -> Column:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InvalidInput(f"{where}: every entry of columns needs a name, a low and a high")
    low, high = entry.get("low"), entry.get("high")
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise InvalidInput(f"{where}: column {entry['name'][:80]!r} needs numbers for low and high")
    assert low is not None
    assert high is not None
    return Column(entry["name"], float(low), float(high))
