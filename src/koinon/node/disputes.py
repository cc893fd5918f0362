"""Files of a disputed run: evidence and testimony, which are public, and a view, which is for one judge alone."""

import os
from pathlib import Path
from typing import Final, TypeVar

from koinon.kernel.errors import InvalidInput
from koinon.wire.catalogue import Message, from_frame, to_frame

_LARGEST: Final = 1 << 30

_M = TypeVar("_M", bound=Message)


def file_name(study: int, attempt: int, kind: str) -> str:
    """How a node calls what it keeps of a disputed run, its evidence, testimony or view. ``attempt`` counts from 0."""
    return f"study-{study}-attempt-{attempt + 1}.{kind}"


def keep(path: Path, message: Message) -> None:
    """Write a message to a file that only its owner can read."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(to_frame(message))


def read(path: Path, kind: type[_M]) -> _M:
    """Read what ``keep`` wrote.

    Raises:
        InvalidInput: there is no such file, it is too large, or it holds something else.
        MalformedMessage: it is damaged.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InvalidInput(f"{path.name} is larger than 1 GiB; it is not what this command reads")
        content = path.read_bytes()
    except OSError as problem:
        raise InvalidInput(f"cannot read {path.name}: {problem.strerror}") from None
    message = from_frame(content)
    if not isinstance(message, kind):
        raise InvalidInput(f"{path.name} holds {type(message).__name__}, not {kind.__name__}")
    return message
