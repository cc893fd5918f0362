"""How the command line speaks: aligned tables, one line a step, colour on terminals only, ``--json`` for machines."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from koinon.kernel.ids import to_hex

PIPED_COLUMNS: Final = 200
"""Width where nobody's terminal says how wide it is: no address is broken in two in a file."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_COLUMNS)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def shorten(value: bytes | str) -> str:
    """A hash or address, shortened in the middle."""
    text = to_hex(value) if isinstance(value, bytes) else value
    return text if len(text) <= 14 else f"{text[:8]}…{text[-4:]}"


def print_json(value: object, *, compact: bool = False) -> None:
    """One JSON document on standard output, on one line if ``compact``."""
    sys.stdout.write(json.dumps(value, indent=None if compact else 2, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return to_hex(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """A short aligned table; the columns numbered in ``right`` are set flush right."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=any(headings))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number in right else "left", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


class Progress:
    """The steps of long work: a spinner with the latest sentence on a terminal, plain lines elsewhere.

    ``seconds`` holds each finished step's duration in order.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: Live | None = None
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, title: str) -> "Iterator[Progress]":
        """Time one step. What it says meanwhile appears beside its title."""
        started = time.monotonic()
        self._title, self._sentence, self._fraction = title, "", 0.0
        shown = not self._quiet and console.is_terminal
        if shown:
            self._live = Live(self._render(), console=console, refresh_per_second=8, transient=True)
            self._live.start()
        try:
            yield self
        finally:
            if self._live is not None:
                self._live.stop()
                self._live = None
            self.seconds[name] = time.monotonic() - started
        if not self._quiet:
            line = Text.assemble((f"{self.seconds[name]:6.1f} s  ", "dim"), (f"{title:<10} ", "bold"), self._sentence)
            console.print(line, soft_wrap=True)

    def say(self, sentence: str, fraction: float = 0.0) -> None:
        """The latest sentence of the running step."""
        self._sentence, self._fraction = sentence, fraction
        if self._live is not None:
            self._live.update(self._render())
        elif not self._quiet and not console.is_terminal:
            console.print(f"          {self._title}: {sentence}", style="dim", soft_wrap=True)

    def _render(self) -> Spinner:
        share = f" {self._fraction:4.0%}" if self._fraction else ""
        return Spinner("dots", Text.assemble((f"{self._title:<10} ", "bold"), self._sentence, (share, "dim")))
