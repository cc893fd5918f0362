"""An append-only file of groups: each group is written and synced as a whole, and a torn last one is cut off.

Layout of a group, numbers big end first:

    8   magic             4   length of the body        8   number of the group, from 0
    32  BLAKE3 of the group before (zeros for the first) 32  BLAKE3 of all of the above and the body
    …   body

A group is begun only after the one before is on disk, so a crash can tear the last group alone. A bad group with a good
one behind it was damaged later, and the file is refused.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

from koinon.crypto.hash import blake3
from koinon.kernel.errors import Forged, Unavailable
from koinon.kernel.ids import ZERO_HASH, Hash32

MAGIC: Final = b"KOINLOG1"
LONGEST_BODY: Final = 64 * 1024 * 1024
_FIXED: Final = len(MAGIC) + 4 + 8 + 32
_HEADER: Final = _FIXED + 32
_SEARCH_WINDOW: Final = 1 << 20


class GroupFile:
    """One process's exclusive handle on the file. Blocking: the driver calls ``append`` from a thread of its own.

    Attributes:
        cut_bytes: length of the torn tail that was cut off on opening.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._end = 0
        self._number = 0
        self._last: Hash32 = ZERO_HASH
        self._usable = True
        self.cut_bytes = 0

    @classmethod
    def open(cls, path: Path, visit: Callable[[int, bytes], None]) -> Self:
        """Open or create the file, check it whole, cut a torn tail.

        Args:
            path: where it lies; its folder must exist.
            visit: called with the offset and bytes of each group's body, in order.

        Raises:
            Unavailable: another process has it, or the disk refuses.
            Forged: damaged before its end.
        """
        try:
            created = not path.exists()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if created:
                _sync_folder(path.parent)
        except OSError as problem:
            raise Unavailable(f"the receipt log {path.name} cannot be opened: {problem.strerror}") from None
        file = cls(path, descriptor)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable(f"the receipt log {path.name} is in use by another process; stop it first") from None
            for offset, body in file._recover():
                visit(offset, body)
        except BaseException:
            os.close(descriptor)
            raise
        return file

    @property
    def end(self) -> int:
        """Length of the durable part in bytes."""
        return self._end

    @property
    def body_offset(self) -> int:
        """Where the body of the next group will begin."""
        return self._end + _HEADER

    def append(self, body: bytes) -> None:
        """Write one group and sync it; durable when it returns, absent when it raises.

        Raises:
            Unavailable: the disk is full or failing; what was half written is cut off again.
        """
        if not self._usable:
            raise Unavailable(f"the receipt log {self._path.name} lost its disk; check the disk and restart the node")
        fixed = MAGIC + len(body).to_bytes(4, "big") + self._number.to_bytes(8, "big") + self._last
        check = blake3(fixed + body)
        group = memoryview(fixed + check + body)
        try:
            written = 0
            while written < len(group):
                written += os.pwrite(self._descriptor, group[written:], self._end + written)
        except OSError as problem:
            self._cut()
            raise Unavailable(
                f"the receipt log {self._path.name} cannot grow: {problem.strerror}; free some space"
            ) from None
        try:
            os.fdatasync(self._descriptor)
        except OSError as problem:
            # After a failed sync nobody knows which pages are on disk; only a fresh start with a fresh look is safe.
            self._usable = False
            raise Unavailable(f"the receipt log {self._path.name} cannot be synced: {problem.strerror}") from None
        self._end += len(group)
        self._number += 1
        self._last = check

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from the durable part. Raises Unavailable if the disk does not give them."""
        try:
            data = os.pread(self._descriptor, length, offset)
        except OSError as problem:
            raise Unavailable(f"the receipt log {self._path.name} cannot be read: {problem.strerror}") from None
        if len(data) != length:
            raise Unavailable(f"the receipt log {self._path.name} ends before byte {offset + length}")
        return data

    def close(self) -> None:
        """Give the file back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._usable = False

    def _cut(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._end)
        except OSError:
            self._usable = False

    def _recover(self) -> Iterator[tuple[int, bytes]]:
        size = os.fstat(self._descriptor).st_size
        while self._end < size:
            group = self._group_at(self._end, size)
            if group is None or group[0] != self._number or group[1] != self._last:
                self._refuse_damage(size)
                self.cut_bytes = size - self._end
                self._cut()
                os.fdatasync(self._descriptor)
                return
            _, _, check, body = group
            yield self._end + _HEADER, body
            self._end += _HEADER + len(body)
            self._number += 1
            self._last = check

    def _group_at(self, offset: int, size: int) -> tuple[int, bytes, Hash32, bytes] | None:
        """Number, link, check and body of a whole group at ``offset``, or None."""
        if offset + _HEADER > size:
            return None
        header = self.read(offset, _HEADER)
        length = int.from_bytes(header[8:12], "big")
        if header[:8] != MAGIC or length > LONGEST_BODY or offset + _HEADER + length > size:
            return None
        body = self.read(offset + _HEADER, length)
        check = blake3(header[:_FIXED] + body)
        if check != header[_FIXED:]:
            return None
        return int.from_bytes(header[12:20], "big"), header[20:_FIXED], check, body

    def _refuse_damage(self, size: int) -> None:
        """Raise Forged if a whole group lies behind the bad one."""
        position = self._end + 1
        while position < size:
            window = self.read(position, min(_SEARCH_WINDOW, size - position))
            found = window.find(MAGIC)
            if found < 0:
                position += max(1, len(window) - len(MAGIC) + 1)
                continue
            if self._group_at(position + found, size) is not None:
                raise Forged(
                    f"the receipt log {self._path.name} is damaged at byte {self._end}, before its end; restore a copy"
                )
            position += found + 1


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
