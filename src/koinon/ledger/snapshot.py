"""A snapshot of the final state in a file: written from a running chain, checked against a finality proof, taken over.

    8 bytes   KOINSNP1
    8 bytes   where the manifest begins, big-endian
    …         chunks, one after the other: encodings of lists of (key, value), in order of keys
    …         manifest (``wire.ledger.SnapshotManifest``), to the end of the file

Memory stays at a chunk or two, whatever the size of the state. A snapshot is believed only when the lattice hash of all
its entries is the state root of a header that the manifest's proof shows to be final; before that nothing is changed.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from koinon.crypto.hash import blake3
from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Store, StoreView
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, OutOfSpace, Unavailable
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import Height
from koinon.ledger import lattice
from koinon.ledger.execution import BLOCKHASH_DEPTH
from koinon.ledger.history import GENESIS_KEY, History
from koinon.ledger.state import STATE_PREFIX, check_entry
from koinon.ledger.types import Header, header_hash
from koinon.wire.ledger import LARGEST_MANIFEST, LARGEST_SNAPSHOT_CHUNK, EpochEnd, SnapshotChunkEntry, SnapshotManifest

MAGIC: Final = b"KOINSNP1"
_HEAD_BYTES: Final = 16
_CHUNK_TARGET: Final = 512 * 1024

EpochLengths = Callable[[int], Height | None]
"""Height of an epoch's last block; None where it never ends."""
Entry = tuple[bytes, bytes]
Chunk = list[Entry]
ManifestCheck = Callable[[SnapshotManifest], Header]
"""Checks a manifest's finality proof, and its block's own certificate, against the validators that the verifier trusts;
gives the final header (``finality.manifest_check``). Raises Forged."""


def manifest_hash(manifest: SnapshotManifest) -> Hash32:
    """What a snapshot is asked for by."""
    return blake3(encode(manifest))


# Writing


def write_snapshot(store: Store, target: Path, epochs: EpochLengths) -> SnapshotManifest:
    """Write the final state in ``store``, as it stands now, to a file; the chain may go on meanwhile.

    Args:
        epochs: the height at which each epoch ends (``Genesis.last_height``).

    Raises:
        InvalidInput: only genesis is final, and that everybody has.
        Unavailable: the file cannot be written (OutOfSpace: the disk is full); nothing is left of it.
    """
    partial = target.with_name(target.name + ".part")
    try:
        with store.reading() as view, partial.open("wb") as file:
            manifest = _write(view, file, epochs)
        partial.replace(target)
        _sync_folder(target.parent)
    except OSError as problem:
        partial.unlink(missing_ok=True)
        kind = OutOfSpace if problem.errno in (errno.ENOSPC, errno.EDQUOT) else Unavailable
        raise kind(f"the snapshot {target.name} cannot be written: {problem.strerror}") from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return manifest


def _write(view: StoreView, file: IO[bytes], last_height: EpochLengths) -> SnapshotManifest:
    history = History(view)
    height = history.final_height
    if height == 0:
        raise InvalidInput("nothing but genesis is final yet; a snapshot has nothing to add to it")
    file.write(MAGIC + bytes(8))
    entries, chunks = 0, []
    for chunk in _chunks(view):
        data = encode(chunk)
        file.write(data)
        chunks.append(SnapshotChunkEntry(blake3(data), len(data)))
        entries += len(chunk)
    manifest = SnapshotManifest(
        genesis=Hash32(view.get(GENESIS_KEY) or b""),
        proof=history.finality_proof(height),
        certificate=history.certificate_at(height),
        ancestors=tuple(history.header_at(below) for below in range(max(0, height - BLOCKHASH_DEPTH), height)),
        epochs=tuple(_epoch_ends(history, last_height)),
        entries=entries,
        chunks=tuple(chunks),
    )
    finish_file(file, manifest)
    return manifest


def _epoch_ends(history: History, last_height: EpochLengths) -> Iterator[EpochEnd]:
    epoch = 0
    while (last := last_height(epoch)) is not None and last <= history.final_height:
        yield history.epoch_end(epoch, last)
        epoch += 1


def _chunks(view: StoreView) -> Iterator[Chunk]:
    chunk: Chunk = []
    size = 0
    for key, value in view.scan(STATE_PREFIX):
        chunk.append((key[len(STATE_PREFIX) :], value))
        size += len(key) + len(value)
        if size >= _CHUNK_TARGET:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def finish_file(file: IO[bytes], manifest: SnapshotManifest) -> None:
    """Close the chunks that were written with their manifest, durably."""
    file.seek(0, os.SEEK_END)
    begins = file.tell()
    file.write(encode(manifest))
    file.seek(len(MAGIC))
    file.write(begins.to_bytes(8, "big"))
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Reading


class SnapshotFile:
    """A snapshot file that is open for reading. Its chunks are checked against its manifest, the manifest by nobody."""

    def __init__(self, file: IO[bytes], manifest: SnapshotManifest) -> None:
        self._file = file
        self.manifest = manifest
        self.name = manifest_hash(manifest)
        self._offsets = [_HEAD_BYTES]
        for entry in manifest.chunks:
            self._offsets.append(self._offsets[-1] + entry.size)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> "Iterator[SnapshotFile]":
        """Open for the length of the context.

        Raises:
            Unavailable: there is no such file, or it cannot be read.
            MalformedMessage: it is no snapshot, or is cut short.
        """
        try:
            file = path.open("rb")
        except OSError as problem:
            raise Unavailable(f"the snapshot {path.name} cannot be read: {problem.strerror}") from None
        with file:
            yield cls(file, _read_manifest(file, path))

    @property
    def header(self) -> Header:
        """The header whose state this is, once the proof has been checked."""
        return self.manifest.proof.headers[0]

    def chunk_bytes(self, index: int) -> bytes:
        """One chunk as it stands in the file.

        Raises:
            Forged: its bytes are not those that the manifest names.
            InvalidInput: there is no such chunk.
        """
        if not 0 <= index < len(self.manifest.chunks):
            raise InvalidInput(f"the snapshot has {len(self.manifest.chunks)} chunks; there is no chunk {index}")
        entry = self.manifest.chunks[index]
        self._file.seek(self._offsets[index])
        data = self._file.read(entry.size)
        if blake3(data) != entry.digest:
            raise Forged(f"chunk {index} of the snapshot is damaged; get the file anew")
        return data


def _read_manifest(file: IO[bytes], path: Path) -> SnapshotManifest:
    head = file.read(_HEAD_BYTES)
    size = file.seek(0, os.SEEK_END)
    begins = int.from_bytes(head[len(MAGIC) :], "big")
    if head[: len(MAGIC)] != MAGIC or not _HEAD_BYTES <= begins < size:
        raise MalformedMessage(f"{path.name} is no snapshot, or its writing was interrupted")
    file.seek(begins)
    manifest = decode(SnapshotManifest, file.read(LARGEST_MANIFEST + 1), limit=LARGEST_MANIFEST)
    if _HEAD_BYTES + sum(entry.size for entry in manifest.chunks) != begins:
        raise MalformedMessage(f"{path.name} has other chunks than its manifest names")
    return manifest


def read_chunk(data: bytes, after: bytes) -> Chunk:
    """The entries of a chunk, each checked for its shape; ``after`` is the last key of the chunk before.

    Raises:
        MalformedMessage: not a list of entries of the state in ascending order.
    """
    entries = decode(list[Entry], data, limit=LARGEST_SNAPSHOT_CHUNK)
    if not entries:
        raise MalformedMessage("a chunk of a snapshot is empty")
    for key, value in entries:
        if key <= after:
            raise MalformedMessage("the keys of a snapshot do not ascend")
        check_entry(key, value)
        after = key
    return entries


# Checking


def check_manifest(manifest: SnapshotManifest, genesis: Hash32, check: ManifestCheck) -> Header:
    """Check whose state the manifest is about, without looking at the state; the final header.

    Raises:
        InvalidInput: a snapshot of another chain.
        Forged: the proof shows nothing final, or the ancestors are not the header's.
    """
    if manifest.genesis != genesis:
        raise InvalidInput("the snapshot is of a chain with another genesis")
    header = check(manifest)
    ancestors = manifest.ancestors
    if len(ancestors) != min(BLOCKHASH_DEPTH, header.height):
        raise Forged(f"a snapshot at block {header.height} has the headers of the {BLOCKHASH_DEPTH} blocks below")
    child = header
    for parent in reversed(ancestors):
        if child.parent != header_hash(parent) or child.height != parent.height + 1:
            raise Forged(f"header {parent.height} in the snapshot is not the parent of header {child.height}")
        child = parent
    return header


def verify_snapshot(path: Path, genesis: Hash32, check: ManifestCheck) -> Header:
    """Check a whole snapshot file; the final header whose state it is.

    Raises:
        Unavailable, MalformedMessage, InvalidInput, Forged: why it is worth nothing.
    """
    with SnapshotFile.open(path) as snapshot:
        header = check_manifest(snapshot.manifest, genesis, check)
        accumulator, entries, last = lattice.EMPTY_ACCUMULATOR, 0, b""
        for index in range(len(snapshot.manifest.chunks)):
            chunk = read_chunk(snapshot.chunk_bytes(index), last)
            accumulator = lattice.updated(accumulator, ((key, None, value) for key, value in chunk))
            entries, last = entries + len(chunk), chunk[-1][0]
        if entries != snapshot.manifest.entries or lattice.root(accumulator) != header.state_root:
            raise Forged(f"the snapshot is not the state after block {Height(header.height)}; get another")
    return header
