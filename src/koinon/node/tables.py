"""Tables of a TOML file, read key by key: every mistake is one sentence with the line, the key, what was expected."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from koinon.kernel.errors import InvalidInput

_LONGEST_SHOWN: Final = 60
_T = TypeVar("_T")
_NONE: Final = object()


@dataclass(frozen=True)
class Table:
    """One table of a file.

    Attributes:
        file: the file's name.
        source: the whole file, in which lines are looked up.
        values: the table's entries.
        path: where the table is: ``()`` for the file itself, ``("chain", "suite")`` for ``[chain.suite]``.
    """

    file: str
    source: str
    values: dict[str, Any]
    path: tuple[str, ...] = ()

    def only(self, known: Sequence[str]) -> None:
        """Raises InvalidInput for a key that is not known, with the nearest that is."""
        for key in self.values:
            if key not in known:
                hint = nearest(key, known) or f"the keys are {', '.join(known)}"
                raise InvalidInput(f"{self._where(key)}: there is no such key; {hint}")

    def text(self, key: str, *, default: str | None = None, empty: bool = False) -> str:
        """A string, not empty unless it may be."""
        value = self._value(key, str, "a string", default)
        if not value and not empty:
            raise self.error(key, "a string that is not empty", value)
        return str(value)

    def whole(self, key: str, low: int, high: int, *, default: int | None = None) -> int:
        """A whole number from ``low`` to ``high``."""
        expected = f"a whole number from {low} to {high}"
        value = self._value(key, int, expected, default)
        if not low <= value <= high:
            raise self.error(key, expected, value)
        return int(value)

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """true or false."""
        return bool(self._value(key, bool, "true or false", default))

    def choice(self, key: str, known: Sequence[str], *, default: str | None = None) -> str:
        """One of a few words."""
        expected = f"one of {', '.join(known)}"
        value = str(self._value(key, str, expected, default))
        if value not in known:
            raise self.error(key, expected, value, nearest(value, known))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self._value(key, list, "a list of strings", None)
        for value in values:
            if not isinstance(value, str):
                raise self.error(key, "a list of strings", value)
        return tuple(values)

    def parsed(self, key: str, parse: Callable[[str], _T], what: str) -> _T:
        """A string that ``parse`` takes. Its InvalidInput becomes this file's."""
        value = self._value(key, str, f"{what} as a string", None)
        try:
            return parse(value)
        except InvalidInput as problem:
            raise self.error(key, what, value, str(problem)) from None

    def table(self, key: str, *, optional: bool = False) -> "Table":
        """A table within this one; empty where it is optional and missing."""
        value = self._value(key, dict, f"a table [{'.'.join((*self.path, key))}]", {} if optional else None)
        return Table(self.file, self.source, value, (*self.path, key))

    def tables(self, key: str) -> list["Table"]:
        """A list of tables."""
        entries = self._value(key, list, "a list of tables", None)
        for entry in entries:
            if not isinstance(entry, dict):
                raise self.error(key, "a list of tables", entry)
        return [
            Table(self.file, self.source, entry, (*self.path, f"{key}[{number}]"))
            for number, entry in enumerate(entries)
        ]

    def error(self, key: str, expected: str, found: object = _NONE, hint: str = "") -> InvalidInput:
        """The sentence about one key."""
        sentence = f"{self._where(key)}: expected {expected}"
        if found is not _NONE:
            sentence += f", found {_shown(found)}"
        return InvalidInput(f"{sentence}; {hint}" if hint else sentence)

    def _value(self, key: str, kind: type, expected: str, default: Any) -> Any:
        value = self.values.get(key, default)
        if value is None:
            raise InvalidInput(f"{self._where(key)}: the key is missing; write {key} = {expected}")
        if type(value) is not kind:  # a bool is no whole number here
            raise self.error(key, expected, value)
        return value

    def _where(self, key: str) -> str:
        line = _line_of(self.source, self.path, key)
        dotted = ".".join((*self.path, key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else repr(key[:_LONGEST_SHOWN])))
        return f"{self.file}, line {line}, {dotted}" if line else f"{self.file}, {dotted}"


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean …?`` where one of the words known is near, otherwise nothing."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {found[0]}?" if found else ""


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _line_of(text: str, path: tuple[str, ...], key: str) -> int:
    """The line, from 1, on which a key of a table is written; that of its list for an entry of one; 0 if unknown."""
    listed = next((place for place, name in enumerate(path) if "[" in name), None)
    if listed is not None:
        path, key = path[:listed], path[listed].partition("[")[0]
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        header = re.fullmatch(r"\[\[?([^\[\]]+)\]\]?\s*(#.*)?", stripped)
        if header:
            section = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            if section == (*path, key):
                return number
        elif section == path and re.match(rf"[\"']?{re.escape(key)}[\"']?\s*=", stripped):
            return number
    return 0
