"""A validator that has lost its memory must not sign: it could contradict what it signed before (GISKARD-SAFETY-7).

Beside the ledger's folder lies a file that names the store in which this validator keeps what it signed. Where the file
names another store than the one in the folder — emptied, replaced by somebody's copy, synced anew — the node follows
the chain and answers for it, but signs nothing.
"""

import os
from pathlib import Path
from typing import Final

from koinon.crypto.random import SystemRng
from koinon.kernel.effects import Store
from koinon.kernel.errors import Unavailable

_NAME_KEY: Final = b"m/store-name"
_NAME_BYTES: Final = 16


def marker_of(folder: Path) -> Path:
    """The file beside a ledger's folder that names its store."""
    return folder.with_name(f"{folder.name}.signs")


def has_forgotten(store: Store, folder: Path) -> bool:
    """Whether this validator may have signed something that the store does not hold.

    The first time it names the store, durably and before anything is signed.

    Raises:
        Unavailable: the file cannot be read or written.
    """
    name = store.get(_NAME_KEY)
    if name is None:
        name = SystemRng().bytes(_NAME_BYTES)
        store.write({_NAME_KEY: name})
    marker = marker_of(folder)
    try:
        if marker.exists():
            return marker.read_bytes() != name
        temporary = marker.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(marker)
        _sync_folder(marker.parent)
    except OSError as problem:
        raise Unavailable(f"{marker.name} beside the ledger cannot be used: {problem.strerror}") from None
    return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
