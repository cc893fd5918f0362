"""``python -m koinon.store.check FOLDER``: read a store from end to end in a process that may die of it.

LMDB trusts its file: a damaged page can end the process that reads it, with no error to catch. So whoever wants to know
lets a child read first. Exit code 0: every value is as it was written; 1: one is not, or the file is none; anything
else: the reading itself broke.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

from koinon.kernel.errors import KoinonError, Unavailable
from koinon.store.keyvalue import DEFAULT_MAP_BYTES, LmdbStore, damaged

CHECK_SECONDS: Final = 600
LARGEST_READ: Final = 256 << 20
"""A store of so many bytes takes about a second to read."""


def check_store(folder: Path, map_bytes: int = DEFAULT_MAP_BYTES) -> None:
    """Have a child read the whole store, if there is one and it is not too large. Blocks.

    A large one is only checked where it is read: each value has its checksum.

    Raises:
        Unavailable: it is damaged, or another process uses it.
    """
    data = folder / "data.mdb"
    if not data.exists() or data.stat().st_blocks * 512 > LARGEST_READ:
        return
    words = (sys.executable, "-m", "koinon.store.check", str(folder), str(map_bytes))
    try:
        child = subprocess.run(words, capture_output=True, check=False, timeout=CHECK_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"the store at {folder} cannot be read within {CHECK_SECONDS} s; see to its disk") from None
    if child.returncode == 0:
        return
    told = child.stdout.decode("utf-8", "replace").strip()
    raise Unavailable(told if child.returncode == 1 and told else damaged(folder))


def _read_everything(folder: Path, map_bytes: int) -> None:
    store = LmdbStore.open(folder, map_bytes)
    try:
        for _ in store.scan(b""):
            pass
    finally:
        store.close()


if __name__ == "__main__":
    try:
        _read_everything(Path(sys.argv[1]), int(sys.argv[2]))
    except KoinonError as problem:
        print(problem)
        sys.exit(1)
