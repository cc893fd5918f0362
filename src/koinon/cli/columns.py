"""Public column ranges as people exchange them: in a study file, or a TOML file with nothing else; or a file's own."""

import tomllib
from collections.abc import Collection, Sequence
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


def in_file(schema: Schema, path: Path) -> Schema:
    """Of a study's columns those that a file holds, for an owner of some of them. Raises InvalidInput for none."""
    from koinon.data.table import column_names

    held = set(column_names(path))
    columns = tuple(column for column in schema.columns if column.name in held)
    if not columns and schema.target in held:
        return Schema((Column(schema.target, 0.0, 1.0),), "")
    if not columns:
        raise InvalidInput(f"{path.name} holds none of the study's columns; name them as the study does")
    return Schema(columns, schema.target if schema.target in held else "")


def suggested_ranges(path: Path, target: str | None, key: str = "", codes: Collection[str] = ()) -> Schema:
    """Ranges from a data file's own rows, with a warning that they are about to become public.

    Args:
        codes: columns whose numbers are codes from 0 on.

    Raises:
        InvalidInput: the file is malformed, or no target is named.
        Unavailable: it cannot be read.
    """
    from koinon.data.table import infer_schema

    if target is None:
        raise InvalidInput("say with --target which 0/1 column is to be predicted; --target '' where there is none")
    schema = infer_schema(path, target, key, codes=codes)
    errors.print(f"note: {PUBLIC_RANGE_WARNING}")
    return schema


def declared_target(given: Sequence[Path]) -> str | None:
    """The target that a single TOML file names, if there is one. Raises InvalidInput where it is no TOML."""
    if len(given) != 1 or given[0].suffix.lower() != ".toml":
        return None
    try:
        found = tomllib.loads(read_text(given[0])).get("target")
    except tomllib.TOMLDecodeError as problem:
        raise InvalidInput(f"{given[0].name} is not TOML: {problem}") from None
    return found if isinstance(found, str) and found else None


def all_columns(
    given: Sequence[Path], target: str, key: str, owners: Sequence[str], codes: Collection[str] = ()
) -> tuple[Schema, dict[str, tuple[str, ...]]]:
    """A study's columns from one file for all owners, or from one file for each owner of other columns.

    Owners whose files name the same columns with the same ranges bring them together, each of its own people.

    Args:
        target: the 0/1 column, or empty.
        key: column of ids in data files, or empty.
        codes: columns of data files whose numbers are codes from 0 on.

    Returns:
        The schema, and the owners of each column; empty where every owner brings all.

    Raises:
        InvalidInput: files and owners do not go together, owners name some of their columns alike and others not, or
            none names the target.
    """
    if len(given) not in (1, len(owners)):
        raise InvalidInput(f"give --from once, or once for each of the {len(owners)} owners; got {len(given)}")
    if len(given) == 1:
        return _schema_of(given[0], target, key, codes), {}
    columns: list[Column] = []
    holders: dict[str, tuple[str, ...]] = {}
    tables: list[Schema] = []
    for path, owner in zip(given, owners, strict=True):
        own = _schema_of(path, target if _holds(path, target) else "", key, codes)
        if own not in tables:
            for name in own.all_names:
                if name in holders:
                    raise InvalidInput(
                        f"column {name!r} is named by {holders[name][0]} and {owner}; one of them brings it, or both"
                        " bring the same columns with the same ranges"
                    )
            tables.append(own)
            columns += own.columns
        for name in own.all_names:
            holders[name] = (*holders.get(name, ()), owner)
    if target and target not in holders:
        raise InvalidInput(f"the target {target!r} is in none of the files; one owner must bring it")
    schema = Schema(tuple(columns), target)
    check_schema(schema)
    return schema, holders


def read_root(text: str) -> bytes:
    """The root of the people. Raises InvalidInput for anything but 32 bytes in hexadecimal."""
    try:
        root = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        root = b""
    if len(root) != 32:
        raise InvalidInput("--people takes the root that koinon data add shows: 32 bytes in hexadecimal")
    return root


def names_in(given: Sequence[Path], key: str) -> tuple[str, ...]:
    """Names of all columns of the data files but the ids. Raises InvalidInput, Unavailable for what is no table."""
    from koinon.data.table import column_names

    files = (path for path in given if path.suffix.lower() != ".toml")
    return tuple(dict.fromkeys(name for path in files for name in column_names(path) if name != key))


def _schema_of(path: Path, target: str, key: str, codes: Collection[str]) -> Schema:
    return read_ranges(path, target) if path.suffix.lower() == ".toml" else suggested_ranges(path, target, key, codes)


def _holds(path: Path, target: str) -> bool:
    """Whether an owner's file has the 0/1 target."""
    from koinon.data.table import column_names

    if path.suffix.lower() != ".toml":
        return target in column_names(path)
    return read_ranges(path, None).target == target


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
