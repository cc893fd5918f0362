"""Content-addressed blobs: bytes under the hash of the bytes, so that a store can lose them but not lie about them."""

import base64
import errno
import os
import re
import threading
from pathlib import Path
from typing import Final, NewType, Protocol

from koinon.crypto.hash import sha256
from koinon.crypto.random import SystemRng
from koinon.kernel.errors import Forged, InvalidInput, Refused, Unavailable
from koinon.kernel.ids import Hash32
from koinon.wire.blobs import LARGEST_BLOB

Cid = NewType("Cid", str)
"""CIDv1 of raw bytes under SHA-256, in lower-case base32: the name that IPFS gives the same bytes."""

DEFAULT_STORE_BYTES: Final = 64 * 1024**3

_PREFIX: Final = bytes((0x01, 0x55, 0x12, 0x20))
"""CID version 1, codec raw, hash SHA-256, 32 bytes."""

_SHAPE: Final = re.compile("b[a-z2-7]{58}")
_TEMPORARY: Final = ".partial-"


def cid(data: bytes | bytearray | memoryview) -> Cid:
    """The name of ``data``."""
    return cid_of_digest(sha256(data))


def cid_of_digest(digest: Hash32) -> Cid:
    """The name of the bytes with this SHA-256."""
    return Cid("b" + base64.b32encode(_PREFIX + digest).decode().lower().rstrip("="))


def digest_of_cid(name: str) -> Hash32:
    """The SHA-256 in a name. Raises InvalidInput for anything that ``cid`` does not give."""
    if _SHAPE.fullmatch(name):
        decoded = base64.b32decode(name[1:].upper() + "======")
        digest = Hash32(decoded[len(_PREFIX) :])
        if decoded.startswith(_PREFIX) and cid_of_digest(digest) == name:
            return digest
    raise InvalidInput(f"{name[:80]!r} is no CIDv1 of raw bytes under SHA-256 in base32")


class BlobStore(Protocol):
    """A place that keeps blobs. Every implementation checks on reading that the bytes belong to the name."""

    def put(self, data: bytes, /) -> Cid: ...

    def get(self, name: Cid, /) -> bytes: ...

    def has(self, name: Cid, /) -> bool: ...

    def delete(self, name: Cid, /) -> None: ...


class DirectoryBlobs:
    """Blobs as files under one folder. Safe to use from several threads; one process writes at a time.

    Args:
        path: the folder, made if need be.
        most_bytes: how much all blobs together may take.

    Raises:
        Unavailable: the folder cannot be used.
    """

    def __init__(self, path: Path, most_bytes: int = DEFAULT_STORE_BYTES) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._sizes = self._tidy()
            self._held_bytes = sum(self._sizes.values())
        except OSError as problem:
            raise Unavailable(f"the blob folder {path} cannot be used: {problem.strerror}") from None

    @property
    def held_bytes(self) -> int:
        """How much all blobs take together."""
        return self._held_bytes

    def put(self, data: bytes, /) -> Cid:
        """Keep ``data``; on disk when it returns. Keeping it twice changes nothing.

        Raises:
            InvalidInput: longer than 8 MiB.
            Refused: the folder would take more than it may.
            Unavailable: the disk is full or fails; nothing was kept.
        """
        if len(data) > LARGEST_BLOB:
            raise InvalidInput(
                f"a blob of {len(data)} bytes is longer than the {LARGEST_BLOB} allowed; cut it in chunks"
            )
        name = cid(data)
        final = self._place(name)
        with self._lock:
            if final.exists():
                if final.stat().st_size == len(data) and final.read_bytes() == data:
                    return name
                self._held_bytes -= self._sizes.pop(name, 0)  # a damaged copy, replaced below
            if self._held_bytes + len(data) > self._most_bytes:
                raise Refused(f"the blob folder may hold {self._most_bytes} bytes and has no room for {len(data)} more")
            try:
                _write_durably(final, data)
            except OSError as problem:
                raise _explain(self._path, problem) from None
            self._sizes[name] = len(data)
            self._held_bytes += len(data)
        return name

    def get(self, name: Cid, /) -> bytes:
        """The bytes of ``name``, checked.

        Raises:
            InvalidInput: no name of ours.
            Unavailable: not here.
            Forged: the file was changed.
        """
        digest = digest_of_cid(name)
        try:
            data = self._place(name).read_bytes()
        except FileNotFoundError:
            raise Unavailable(f"blob {name} is not here") from None
        except OSError as problem:
            raise _explain(self._path, problem) from None
        if sha256(data) != digest:
            raise Forged(f"blob {name} was changed on disk; fetch it again from another node")
        return data

    def has(self, name: Cid, /) -> bool:
        """Whether there is a file for ``name``; only ``get`` checks it. Raises InvalidInput for no name of ours."""
        digest_of_cid(name)
        return self._place(name).exists()

    def delete(self, name: Cid, /) -> None:
        """Forget ``name``. Harmless if it is not here. Raises InvalidInput for no name of ours."""
        digest_of_cid(name)
        place = self._place(name)
        with self._lock:
            try:
                place.unlink(missing_ok=True)
            except OSError as problem:
                raise _explain(self._path, problem) from None
            self._held_bytes -= self._sizes.pop(name, 0)

    def _place(self, name: Cid) -> Path:
        return self._path / name[-2:] / name

    def _tidy(self) -> dict[Cid, int]:
        """Remove what a crash left half written; returns the sizes of the rest by name."""
        sizes: dict[Cid, int] = {}
        for folder in self._path.iterdir():
            for file in folder.iterdir() if folder.is_dir() else ():
                if file.name.startswith(_TEMPORARY):
                    file.unlink()
                else:
                    sizes[Cid(file.name)] = file.stat().st_size
        return sizes


class MemoryBlobs:
    """Blobs without a disk, for tests and simulation."""

    def __init__(self) -> None:
        self._blobs: dict[Cid, bytes] = {}

    def put(self, data: bytes, /) -> Cid:
        """Keep ``data``. Raises InvalidInput if it is longer than 8 MiB."""
        if len(data) > LARGEST_BLOB:
            raise InvalidInput(
                f"a blob of {len(data)} bytes is longer than the {LARGEST_BLOB} allowed; cut it in chunks"
            )
        name = cid(data)
        self._blobs[name] = bytes(data)
        return name

    def get(self, name: Cid, /) -> bytes:
        """The bytes of ``name``. Raises InvalidInput for no name of ours, Unavailable if it is not here."""
        digest_of_cid(name)
        if name not in self._blobs:
            raise Unavailable(f"blob {name} is not here")
        return self._blobs[name]

    def has(self, name: Cid, /) -> bool:
        """Whether ``name`` is here. Raises InvalidInput for no name of ours."""
        digest_of_cid(name)
        return name in self._blobs

    def delete(self, name: Cid, /) -> None:
        """Forget ``name``. Harmless if it is not here. Raises InvalidInput for no name of ours."""
        digest_of_cid(name)
        self._blobs.pop(name, None)


def _write_durably(final: Path, data: bytes) -> None:
    final.parent.mkdir(exist_ok=True)
    partial = final.parent / f"{_TEMPORARY}{SystemRng().bytes(8).hex()}"
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(final)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _explain(path: Path, problem: OSError) -> Unavailable:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Unavailable(f"the disk under the blob folder {path} is full; nothing was kept; free some space")
    return Unavailable(f"the blob folder {path} failed: {problem.strerror}")
