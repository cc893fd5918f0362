"""Ordered key-value stores: LMDB on disk, a sorted list in memory. Both pass one test suite.

Every ``write`` is all or nothing and, on disk, survives a power cut once it has returned. On disk each value carries a
checksum of itself and its key, so that a bit that has flipped there is noticed when it is read, never believed.
"""

import errno
import fcntl
import os
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self
from zlib import crc32

from koinon.kernel.errors import InvalidInput, KoinonError, OutOfSpace, Unavailable

if TYPE_CHECKING:
    import lmdb

LONGEST_KEY: Final = 511
DEFAULT_MAP_BYTES: Final = 4 * 1024**3
"""Address space that a store may grow into; disk is taken only as it fills."""

_SEAL_BYTES: Final = 4

# LMDB reports a write that a full disk cut short as EIO.
_DISK_TROUBLES: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_NOT_PERMITTED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


class LmdbStore:
    """A store in a folder of its own, used by one process at a time. Made by ``LmdbStore.open``."""

    def __init__(self, path: Path, environment: "lmdb.Environment", lock: IO[bytes]) -> None:
        self._path = path
        self._environment = environment
        self._lock = lock
        self._closed = False

    @classmethod
    def open(cls, path: Path, map_bytes: int = DEFAULT_MAP_BYTES) -> Self:
        """Open the store in folder ``path``, making it if need be.

        Raises:
            Unavailable: another process has it open, the disk is full, or its file is damaged.
        """
        # Late: a process without a store does not pay for loading LMDB.
        import lmdb

        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = (path / "owner.lock").open("ab")
        except OSError as problem:
            raise Unavailable(f"the store at {path} cannot be opened: {problem.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            environment = lmdb.open(str(path), map_size=map_bytes, max_dbs=0, subdir=True, max_readers=126)
        except BlockingIOError:
            lock.close()
            raise Unavailable(f"another process uses the store at {path}; stop it first") from None
        except (lmdb.Error, OSError) as problem:
            lock.close()
            raise _explain(path, problem) from None
        return cls(path, environment, lock)

    @classmethod
    @contextmanager
    def reading_only(cls, path: Path) -> Iterator[Self]:
        """A store that another process may have open, for reading alone, while the context is open.

        Raises:
            Unavailable: there is no store at ``path``, or its file is damaged.
        """
        import lmdb

        try:
            with (path / "owner.lock").open("rb") as lock:
                environment = lmdb.open(str(path), readonly=True, subdir=True, max_dbs=0)
                store = cls(path, environment, lock)
                try:
                    yield store
                finally:
                    store.close()
        except (lmdb.Error, OSError) as problem:
            raise _explain(path, problem) from None

    def get(self, key: bytes, /) -> bytes | None:
        """The value of ``key``, or None. Raises Unavailable when the file is damaged or the store closed."""
        import lmdb

        _check_key(key)
        try:
            with self._environment.begin() as transaction:
                sealed: bytes | None = transaction.get(key)
        except lmdb.Error as problem:
            raise _explain(self._path, problem) from None
        return None if sealed is None else _unsealed(self._path, key, sealed)

    def scan(self, prefix: bytes, /, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Every pair whose key begins with ``prefix`` and is not below ``start``, in order of keys, as things stood
        when the scan began.

        Raises Unavailable as ``get`` does.
        """
        import lmdb

        try:
            with self._environment.begin() as transaction:
                yield from LmdbView(self._path, transaction).scan(prefix, start)
        except lmdb.Error as problem:
            raise _explain(self._path, problem) from None

    @contextmanager
    def reading(self) -> Iterator["LmdbView"]:
        """The store as it stands now, whatever is written meanwhile. Raises Unavailable as ``get`` does."""
        import lmdb

        try:
            with self._environment.begin() as transaction:
                yield LmdbView(self._path, transaction)
        except lmdb.Error as problem:
            raise _explain(self._path, problem) from None

    def write(self, put: Mapping[bytes, bytes], delete: Iterable[bytes] = ()) -> None:
        """Delete and put, all or nothing; a key in both is put. Durable when it returns.

        Raises:
            InvalidInput: a key is not 1 to 511 bytes long; nothing was written.
            OutOfSpace: disk or map full; nothing was written.
            Unavailable: the file is damaged or the store closed; nothing was written.
        """
        import lmdb

        gone = tuple(delete)
        for key in (*put, *gone):
            _check_key(key)
        try:
            with self._environment.begin(write=True) as transaction:
                for key in gone:
                    transaction.delete(key)
                for key, value in put.items():
                    transaction.put(key, crc32(value, crc32(key)).to_bytes(_SEAL_BYTES, "big") + value)
        except lmdb.Error as problem:
            raise _explain(self._path, problem) from None

    def close(self) -> None:
        """Let another process use the store. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._environment.close()
            self._lock.close()


class LmdbView:
    """A store at one moment, while the ``reading`` it came from is open."""

    def __init__(self, path: Path, transaction: "lmdb.Transaction") -> None:
        self._path = path
        self._transaction = transaction

    def get(self, key: bytes, /) -> bytes | None:
        """The value of ``key``, or None. Raises Unavailable when the file is damaged."""
        sealed = self._transaction.get(key)
        return None if sealed is None else _unsealed(self._path, key, bytes(sealed))

    def scan(self, prefix: bytes, /, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See ``LmdbStore.scan``."""
        first = max(prefix, start)
        with self._transaction.cursor() as cursor:
            if first and not cursor.set_range(first):
                return
            for found, sealed in cursor.iternext():
                key = bytes(found)  # bytes already; the library's types allow for views
                if not key.startswith(prefix):
                    return
                yield key, _unsealed(self._path, key, bytes(sealed))


def _unsealed(path: Path, key: bytes, sealed: bytes) -> bytes:
    value = sealed[_SEAL_BYTES:]
    if int.from_bytes(sealed[:_SEAL_BYTES], "big") != crc32(value, crc32(key)):
        raise Unavailable(damaged(path))
    return value


class MemoryStore:
    """The same without a disk, for tests, simulation and scratch data."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._closed = False

    def get(self, key: bytes, /) -> bytes | None:
        """The value of ``key``, or None. Raises Unavailable once the store is closed."""
        _check_key(key)
        self._check_open()
        return self._values.get(key)

    def scan(self, prefix: bytes, /, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Every pair whose key begins with ``prefix`` and is not below ``start``, in order of keys, as things stood
        when the scan began."""
        self._check_open()
        found: list[tuple[bytes, bytes]] = []
        for position in range(bisect_left(self._keys, max(prefix, start)), len(self._keys)):
            key = self._keys[position]
            if not key.startswith(prefix):
                break
            found.append((key, self._values[key]))
        return iter(found)

    def write(self, put: Mapping[bytes, bytes], delete: Iterable[bytes] = ()) -> None:
        """Delete and put, all or nothing; a key in both is put.

        Raises:
            InvalidInput: a key is not 1 to 511 bytes long; nothing was written.
            Unavailable: the store is closed.
        """
        gone = tuple(delete)
        for key in (*put, *gone):
            _check_key(key)
        self._check_open()
        for key in gone:
            if self._values.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
        for key, value in put.items():
            if key not in self._values:
                insort(self._keys, bytes(key))
            self._values[bytes(key)] = bytes(value)

    @contextmanager
    def reading(self) -> Iterator["MemoryStore"]:
        """The store as it stands now, whatever is written meanwhile."""
        self._check_open()
        copy = MemoryStore()
        copy._values, copy._keys = dict(self._values), list(self._keys)
        yield copy

    def close(self) -> None:
        """Refuse further use. Harmless when repeated."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the store in memory is closed")


def _check_key(key: bytes) -> None:
    if not 0 < len(key) <= LONGEST_KEY:
        raise InvalidInput(f"a key of a store has 1 to {LONGEST_KEY} bytes; got {len(key)}")


def _explain(path: Path, problem: Exception) -> KoinonError:
    """LMDB's error as a sentence that says what to do."""
    import lmdb

    code = problem.errno if isinstance(problem, OSError) else _code_of(problem)
    if isinstance(problem, lmdb.MapFullError):
        return OutOfSpace(f"the store at {path} has filled the space it was given; open it with a larger map")
    if isinstance(problem, lmdb.ReadersFullError):
        return Unavailable(f"too many scans of the store at {path} are open; finish some first")
    if code in _DISK_TROUBLES:
        return OutOfSpace(f"the disk under the store at {path} is full or fails; nothing was written; free some space")
    if code in _NOT_PERMITTED:
        return Unavailable(f"the store at {path} may not be written by this user; check the folder's owner")
    if isinstance(
        problem,
        lmdb.CorruptedError | lmdb.InvalidError | lmdb.PanicError | lmdb.PageNotFoundError | lmdb.VersionMismatchError,
    ):
        return Unavailable(damaged(path))
    return Unavailable(f"the store at {path} failed: {problem}")


def damaged(path: Path) -> str:
    """What an operator is told whose store does not hold what was written."""
    return f"the store at {path} is damaged; move the folder away, and restore it from a copy or let the node sync anew"


def _code_of(problem: Exception) -> int | None:
    """The system's error number, which LMDB's own error class keeps only as text."""
    for code in (*_DISK_TROUBLES, *_NOT_PERMITTED):
        if os.strerror(code) in str(problem):
            return code
    return None
