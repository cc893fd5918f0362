"""Opened privacy ledgers: the entries with their salts, as an owner hands them to an auditor, and reading them again.

One JSON object: data set → what its owner allows, and every entry. The salts open the commitments on the chain, so the
file is for whoever may know what the data set was used for.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from koinon.crypto.commitment import SALT_BYTES
from koinon.kernel.errors import InvalidInput
from koinon.privacy.differential.budget import MOST_ENTRIES, Budget, Entry

_WRITTEN: Final = "it is written by: koinon data budget --open"


@dataclass(frozen=True, slots=True)
class OpenedLedger:
    """One data set's whole ledger and what its owner says that it allows."""

    allowed: Budget
    entries: tuple[Entry, ...]


def write_opened(ledgers: Mapping[str, OpenedLedger]) -> str:
    """The text of the file; keys are ``0x`` hashes of data sets."""
    return (
        json.dumps(
            {
                dataset: {
                    "epsilon": one.allowed.epsilon,
                    "delta": one.allowed.delta,
                    "entries": [{**plain(entry), "salt": entry.salt.hex()} for entry in one.entries],
                }
                for dataset, one in ledgers.items()
            },
            indent=2,
        )
        + "\n"
    )


def read_opened(text: str, source: str) -> dict[str, OpenedLedger]:
    """Read such a file, whole or not at all.

    Args:
        source: its name, for errors.

    Raises:
        InvalidInput: it is no such file.
    """
    try:
        table = json.loads(text)
        found = {_dataset(name): _ledger(one) for name, one in table.items()}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError):
        raise InvalidInput(f"{source} is no file of opened entries; {_WRITTEN}") from None
    return found


def plain(entry: Entry) -> dict[str, Any]:
    """An entry without its salt, in JSON's terms."""
    return {
        "study": entry.study,
        "attempt": entry.attempt,
        "mechanism": entry.mechanism,
        "millionths": entry.millionths,
        "count": entry.count,
    }


def _dataset(name: str) -> str:
    if len(bytes.fromhex(name.removeprefix("0x"))) != 32:
        raise ValueError
    return name.lower()


def _ledger(one: Mapping[str, Any]) -> OpenedLedger:
    lines = one["entries"]
    if not isinstance(lines, list) or len(lines) > MOST_ENTRIES:
        raise ValueError
    return OpenedLedger(Budget(float(one["epsilon"]), float(one["delta"])), tuple(map(_entry, lines)))


def _entry(line: Mapping[str, Any]) -> Entry:
    numbers = [line[name] for name in ("study", "attempt", "millionths", "count")]
    # A number of another kind, or beyond 64 bits, would be an entry that no ledger holds.
    if any(type(number) is not int or not 0 <= number < 1 << 63 for number in numbers):
        raise ValueError
    salt = bytes.fromhex(line["salt"])
    if len(salt) != SALT_BYTES or not isinstance(line["mechanism"], str):
        raise ValueError
    study, attempt, millionths, count = numbers
    return Entry(study, attempt, line["mechanism"], millionths, count, salt)
