"""The journal: text for people or a JSON object a line for machines, to standard error or to a file that rotates.

Neither form holds the text of an unexpected error, which may quote a row or a key: its type and place are enough.
"""

import json
import logging
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from koinon.kernel.errors import KoinonError, Unavailable

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
FORMATS: Final = ("text", "json")


@dataclass(frozen=True)
class LogConfig:
    """``[log]`` of node.toml.

    Attributes:
        level: the least important lines to keep.
        format: ``text`` or ``json``.
        file: where to, relative to the home; empty for standard error.
        file_bytes: how large the file grows before it is put aside.
        kept_files: how many put-aside files are kept.
    """

    level: str = "INFO"
    format: str = "text"
    file: str = ""
    file_bytes: int = 16 << 20
    kept_files: int = 5


def start_logging(config: LogConfig, home: Path) -> None:
    """Send every log of this process where the configuration says. Raises Unavailable where it cannot be written."""
    target: logging.Handler
    if config.file:
        from logging.handlers import RotatingFileHandler

        path = home / config.file
        try:
            target = RotatingFileHandler(
                path, maxBytes=config.file_bytes, backupCount=config.kept_files, encoding="utf-8"
            )
        except OSError as problem:
            raise Unavailable(f"the log {config.file} cannot be written: {problem.strerror}") from None
    else:
        target = logging.StreamHandler(sys.stderr)
    target.setFormatter(JsonLines() if config.format == "json" else TextLines())
    logging.basicConfig(level=config.level, handlers=[target], force=True)
    logging.raiseExceptions = False  # a full disk under the log is no reason to fill standard error
    logging.getLogger("httpx").setLevel(logging.WARNING)


class TextLines(logging.Formatter):
    """``2026-11-22T01:02:03.456Z WARNING koinon.net: …``, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_moment(record)} {record.levelname} {record.name}: {record.getMessage()}"
        place = _place(record)
        return f"{line} ({place})" if place else line


class JsonLines(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message`` and, after an error, ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        place = _place(record)
        return json.dumps({**line, "error": place} if place else line, ensure_ascii=False)


def _moment(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _place(record: logging.LogRecord) -> str:
    """Type and place of the error that a line is about; the text only of errors raised on purpose."""
    problem = record.exc_info[1] if record.exc_info else None
    if problem is None:
        return ""
    frames = traceback.extract_tb(problem.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    text = f": {problem}" if isinstance(problem, KoinonError) else ""
    return f"{type(problem).__name__}{place}{text}"
