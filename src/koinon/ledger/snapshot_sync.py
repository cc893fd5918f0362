"""Snapshots between validators: one is written now and then and given out in chunks; who is far behind fetches one.

A node that begins, or was away for long, asks the others where they stand before it opens its chain. If it could get
the blocks in between it gets those (``ledger.catchup``); if nobody keeps them any more, or they are too many, it takes
a snapshot. One that was cut off while it ran takes one when it finds that nobody keeps the next block. Chunks are kept
in a file as they come, so that a fetch goes on where the last one stopped.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from koinon.crypto.hash import blake3
from koinon.kernel.effects import Store
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import Hash32, NodeId
from koinon.ledger.history import HEIGHT_KEY, PROGRESS_KEY, History
from koinon.ledger.outbox import Network
from koinon.ledger.snapshot import (
    MAGIC,
    EpochLengths,
    ManifestCheck,
    SnapshotFile,
    check_manifest,
    finish_file,
    manifest_hash,
    write_snapshot,
)
from koinon.ledger.snapshot_import import import_snapshot
from koinon.ledger.types import Header
from koinon.wire.discovery import Endpoint
from koinon.wire.ledger import (
    LedgerStatus,
    SnapshotChunk,
    SnapshotChunkRequest,
    SnapshotManifest,
    SnapshotOffer,
    SnapshotRequest,
    StatusRequest,
)

RENEWED_AFTER: Final = 2_000
"""Final blocks after which the snapshot given out is written anew, when somebody asks."""
FAR_BEHIND: Final = 5_000
"""Blocks that a node rather fetches and executes than a snapshot."""
_CALL_SECONDS: Final = 10.0
_GREETING_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.5
_MOST_REQUESTS: Final = 120
_GIVEN: Final = "given.snapshot"
_FETCHED: Final = "fetched.snapshot"
_log: Final = logging.getLogger("koinon.ledger.snapshot")


class SnapshotLibrary:
    """The snapshot a validator gives out: a file in a folder, written on request and at most every 2,000 blocks.

    Args:
        folder: holds the file; created when one is written.
        last_height: of each epoch.
    """

    def __init__(self, store: Store, folder: Path, last_height: EpochLengths) -> None:
        self._store = store
        self._last_height = last_height
        self._folder = folder
        self._writing: asyncio.Task[None] | None = None

    async def offer(self) -> SnapshotOffer:
        """The manifest of a recent snapshot.

        Raises:
            Unavailable: it is being written; ask again soon.
            InvalidInput: nothing but genesis is final.
        """
        held = await asyncio.to_thread(self._held)
        height = History(self._store).final_height
        if held is not None and height < held.proof.headers[0].height + RENEWED_AFTER:
            return SnapshotOffer(held)
        if height == 0:
            raise InvalidInput("nothing but genesis is final yet; there is no snapshot")
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="ledger snapshot")
        raise Unavailable("a snapshot is being written; ask again in a moment")

    async def chunk(self, request: SnapshotChunkRequest) -> SnapshotChunk:
        """One chunk. Raises Unavailable when that snapshot has been replaced, InvalidInput for a wrong number."""
        return SnapshotChunk(await asyncio.to_thread(self._chunk, request))

    def _held(self) -> SnapshotManifest | None:
        path = self._folder / _GIVEN
        if not path.exists():
            return None
        with SnapshotFile.open(path) as snapshot:
            return snapshot.manifest

    def _chunk(self, request: SnapshotChunkRequest) -> bytes:
        with SnapshotFile.open(self._folder / _GIVEN) as snapshot:
            if snapshot.name != request.manifest:
                raise Unavailable("that snapshot is no longer given out; ask for the present one")
            return snapshot.chunk_bytes(request.index)

    async def _write(self) -> None:
        try:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            manifest = await asyncio.to_thread(write_snapshot, self._store, self._folder / _GIVEN, self._last_height)
            _log.info("wrote a snapshot of block %d", manifest.proof.headers[0].height)
        except (KoinonError, OSError) as problem:
            _log.warning("no snapshot could be written: %s", problem)

    async def close(self) -> None:
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)


# Fetching

Take = Callable[[Path], Awaitable[Header]]
"""Makes the snapshot in a file the final state; its header. Raises KoinonError."""


@dataclass(frozen=True)
class _Standing:
    """A validator that answered, and where it stands."""

    peer: Endpoint
    status: LedgerStatus


async def bootstrap(
    store: Store,
    folder: Path,
    network: Network,
    peers: Mapping[NodeId, Endpoint],
    genesis: Hash32,
    check: ManifestCheck,
    far_behind: int = FAR_BEHIND,
) -> Header | None:
    """Take a snapshot over if this node cannot come up by blocks; the header of its block, None if none was needed.

    Args:
        folder: keeps what has come so far.
        far_behind: blocks that it rather fetches than a snapshot.

    Raises:
        Unavailable: a take-over was interrupted earlier and nobody has a snapshot now.
    """
    answers = await asyncio.gather(*(_ask(network, peer) for peer in peers.values()))
    ahead = [standing for standing in answers if standing is not None and standing.status.genesis == genesis]
    interrupted = _is_interrupted(store)
    held = 0 if interrupted else History(store).final_height
    if not interrupted and not _needs_snapshot(held, ahead, far_behind):
        return None

    async def take(path: Path) -> Header:
        return await asyncio.to_thread(import_snapshot, store, path, genesis, check)

    header = await _take_over(network, ahead, folder, genesis, check, held, take)
    if header is None and interrupted:
        raise Unavailable(
            "this ledger's state is half replaced by a snapshot, and no validator offers one now; start again when "
            "one is reachable, or run: koinon node snapshot import FILE"
        )
    return header


async def overtake(
    network: Network,
    peers: Mapping[NodeId, Endpoint],
    folder: Path,
    genesis: Hash32,
    check: ManifestCheck,
    held: int,
    take: Take,
) -> Header | None:
    """Take over a snapshot of a block above ``held`` into a chain that runs; its header, None if nobody gave one."""
    answers = await asyncio.gather(*(_ask(network, peer) for peer in peers.values()))
    ahead = [standing for standing in answers if standing is not None and standing.status.genesis == genesis]
    return await _take_over(network, ahead, folder, genesis, check, held, take)


async def _take_over(
    network: Network,
    ahead: list[_Standing],
    folder: Path,
    genesis: Hash32,
    check: ManifestCheck,
    held: int,
    take: Take,
) -> Header | None:
    """Fetch from one after the other, the farthest first, until ``take`` is content with what came."""
    for standing in sorted(ahead, key=lambda one: -one.status.final_height):
        if standing.status.final_height <= held:
            break
        try:
            path = await _fetch(network, standing.peer, folder, genesis, check, held)
            header = await take(path)
        except KoinonError as problem:
            _log.warning("no snapshot from a validator: %s", problem)
            continue
        path.unlink()
        _log.info("took over the state after block %d by a snapshot", header.height)
        return header
    return None


def _is_interrupted(store: Store) -> bool:
    return store.get(HEIGHT_KEY) is None and store.get(PROGRESS_KEY) is not None


def _needs_snapshot(held: int, ahead: list[_Standing], far_behind: int) -> bool:
    farther = [standing.status for standing in ahead if standing.status.final_height > held]
    if not farther:
        return False
    nobody_keeps = all(status.oldest_body > held + 1 for status in farther)
    return nobody_keeps or min(status.final_height for status in farther) > held + far_behind


async def _ask(network: Network, peer: Endpoint) -> _Standing | None:
    try:
        answer = await network.call(peer, StatusRequest(), _GREETING_SECONDS)
    except KoinonError as problem:
        _log.debug("no status from a validator: %s", problem)
        return None
    return _Standing(peer, answer) if isinstance(answer, LedgerStatus) else None


async def _fetch(
    network: Network, peer: Endpoint, folder: Path, genesis: Hash32, check: ManifestCheck, held: int
) -> Path:
    """Fetch a validator's snapshot into a file. Its proof is checked before the first chunk is asked for."""
    manifest = await _ask_for_offer(network, peer)
    header = await asyncio.to_thread(check_manifest, manifest, genesis, check)
    if header.height <= held:
        raise Unavailable(f"its snapshot is of block {header.height}, which is no news here")
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    name = manifest_hash(manifest)
    partial, target = folder / f"{name.hex()[:16]}.part", folder / _FETCHED
    try:
        partial.touch()
        with partial.open("r+b") as file:
            begin = await asyncio.to_thread(_resume, file, manifest)
            for index in range(begin, len(manifest.chunks)):
                chunk = await network.call(peer, SnapshotChunkRequest(name, index), _CALL_SECONDS)
                if not isinstance(chunk, SnapshotChunk) or blake3(chunk.data) != manifest.chunks[index].digest:
                    raise Forged(f"a validator gave other bytes for chunk {index} than its manifest names")
                await asyncio.to_thread(file.write, chunk.data)
            await asyncio.to_thread(finish_file, file, manifest)
        partial.replace(target)
    except OSError as problem:
        raise Unavailable(f"the snapshot cannot be kept in {folder.name}: {problem.strerror}") from None
    return target


async def _ask_for_offer(network: Network, peer: Endpoint) -> SnapshotManifest:
    """A validator's manifest; asks again while it says that it is writing one."""
    for _ in range(_MOST_REQUESTS):
        try:
            answer = await network.call(peer, SnapshotRequest(), _CALL_SECONDS)
        except Unavailable as problem:
            _log.info("waiting for a snapshot: %s", problem)
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        if not isinstance(answer, SnapshotOffer):
            raise Forged("a validator answered a snapshot request with something else")
        return answer.manifest
    raise Unavailable("a validator has been writing its snapshot for too long")


def _resume(file: IO[bytes], manifest: SnapshotManifest) -> int:
    """How many chunks an earlier fetch left whole in the file; what follows them is cut off."""
    file.seek(0)
    file.write(MAGIC + bytes(8))
    good, whole = len(MAGIC) + 8, 0
    for entry in manifest.chunks:
        if blake3(file.read(entry.size)) != entry.digest:
            break
        good += entry.size
        whole += 1
    file.truncate(good)
    file.seek(good)
    return whole
