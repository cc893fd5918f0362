"""How numbers, hashes and times are written: exact, tabular, the same everywhere."""

import datetime
from typing import Final

UNBOUNDED: Final = 2**63 - 1
"""``koinon.trust.vector.LARGEST_VALUE``: no attack found a distance, no interval an end."""
LONGEST_TEXT: Final = 4096
"""Characters shown of any one text that somebody else wrote."""


def exact_decimal(units: int, decimals: int, least: int = 0) -> str:
    """``units / 10**decimals`` written out exactly, thousands grouped, at least ``least`` places after the point."""
    sign = "−" if units < 0 else ""
    whole, part = divmod(abs(units), 10**decimals)
    places = str(part).rjust(decimals, "0").rstrip("0").ljust(least, "0") if decimals else ""
    return f"{sign}{whole:,}" + (f".{places}" if places else "")


def measured(millionths: int) -> str:
    """A measured value in its unit, exact; the largest number of the suite stands for one without a bound."""
    return "∞" if millionths >= UNBOUNDED else exact_decimal(millionths, 6, least=3)


def rounded(millionths: int) -> str:
    """A measured value to three decimals, for tables where many stand beside each other; the exact one is beside it."""
    if millionths >= UNBOUNDED:
        return "∞"
    thousandths = (abs(millionths) + 500) // 1000
    sign = "−" if millionths < 0 and thousandths else ""
    return f"{sign}{thousandths // 1000}.{thousandths % 1000:03}"


def grouped(number: int) -> str:
    """An integer with its thousands set apart."""
    return f"{number:,}".replace("-", "−")


def shorten(text: str, head: int = 6, tail: int = 4) -> str:
    """A hash shortened in the middle; short text stays as it is."""
    return text if len(text) <= head + tail + 3 else f"{text[:head]}…{text[-tail:]}"


def clip(text: str, length: int = LONGEST_TEXT) -> str:
    """Text cut at the end, and visibly so."""
    return text if len(text) <= length else f"{text[:length]}…"


def exact_time(unix: int) -> str:
    """``2026-11-21 22:18:03 UTC``; a moment outside the calendar is written as its number of seconds."""
    moment = _moment(unix)
    return f"{unix} s" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def iso_time(unix: int) -> str:
    """The same for machines."""
    moment = _moment(unix)
    return "" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(unix: int) -> datetime.datetime | None:
    if not 0 <= unix < 253_402_300_800:  # year 10000, where the calendar of datetime ends
        return None
    return datetime.datetime.fromtimestamp(unix, tz=datetime.UTC)
