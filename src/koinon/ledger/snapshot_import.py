"""Taking a snapshot over as the node's own state, so that a crash at any point can be gone on from.

The state is replaced in many small writes. While that goes on the store has no last final height, which the chain
refuses to open, and a record of how far it has come, from which the same snapshot is taken up again. What the
validator signed (``m/safety``) stays: a node that comes back by a snapshot must not sign a second time either.
"""

from itertools import islice
from pathlib import Path
from typing import Final

from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import Forged, Refused
from koinon.kernel.ids import Hash32
from koinon.ledger import lattice
from koinon.ledger.history import GENESIS_KEY, HEADERS_KEY, HEIGHT_KEY, OLDEST_KEY, PROGRESS_KEY, header_entries, number
from koinon.ledger.snapshot import ManifestCheck, SnapshotFile, check_manifest, read_chunk, verify_snapshot
from koinon.ledger.state import ACCUMULATOR_KEY, STATE_PREFIX
from koinon.ledger.types import Header
from koinon.wire.ledger import SnapshotManifest

_REPLACED: Final = (STATE_PREFIX, b"b", b"r", b"t", b"l", b"u")
_DELETED_AT_ONCE: Final = 20_000


class _Progress(Record, frozen=True):
    """How far the take-over of one snapshot has come.

    Attributes:
        cleared: whether all of the old state is gone.
        chunks: how many are in the store.
        accumulator: of the entries in them.
        last: the last key.
    """

    snapshot: bytes
    cleared: bool
    chunks: int
    accumulator: bytes
    last: bytes


def import_snapshot(store: Store, path: Path, genesis: Hash32, check: ManifestCheck) -> Header:
    """Check a snapshot file whole and make it the final state in ``store``; the header it belongs to.

    Goes on where an interrupted import of the same file stopped.

    Raises:
        Refused: the store is at that height already, or another import was interrupted.
        Unavailable, MalformedMessage, InvalidInput, Forged: the file is worth nothing; nothing has changed.
    """
    header = verify_snapshot(path, genesis, check)
    with SnapshotFile.open(path) as snapshot:
        if check_manifest(snapshot.manifest, genesis, check) != header:
            raise Forged("the snapshot file changed while it was read")
        progress = _begin(store, snapshot, header)
        if not progress.cleared:
            _clear(store)
            progress = _Progress(progress.snapshot, True, 0, lattice.EMPTY_ACCUMULATOR, b"")
            store.write({PROGRESS_KEY: encode(progress)})
        for index in range(progress.chunks, len(snapshot.manifest.chunks)):
            progress = _take(store, progress, snapshot.chunk_bytes(index))
        if lattice.root(progress.accumulator) != header.state_root:
            raise Forged("the snapshot file changed while it was read; import it again")
        store.write(_final_entries(snapshot.manifest, header, progress), [PROGRESS_KEY])
    return header


def _begin(store: Store, snapshot: SnapshotFile, header: Header) -> _Progress:
    held = store.get(HEIGHT_KEY)
    if held is not None and int.from_bytes(held, "big") >= header.height:
        raise Refused(
            f"the ledger here is final up to block {int.from_bytes(held, 'big')}; the snapshot is of block "
            f"{header.height} and would take it back"
        )
    entry = store.get(PROGRESS_KEY)
    if entry is not None:
        progress = decode(_Progress, entry)
        if progress.snapshot == snapshot.name:
            return progress
    # Another snapshot than the one that was interrupted is as good: both have been checked; this one begins anew.
    progress = _Progress(snapshot.name, False, 0, lattice.EMPTY_ACCUMULATOR, b"")
    store.write({PROGRESS_KEY: encode(progress)}, [HEIGHT_KEY])
    return progress


def _clear(store: Store) -> None:
    for prefix in _REPLACED:
        while keys := [key for key, _ in islice(store.scan(prefix), _DELETED_AT_ONCE)]:
            store.write({}, keys)


def _take(store: Store, progress: _Progress, data: bytes) -> _Progress:
    chunk = read_chunk(data, progress.last)
    accumulator = lattice.updated(progress.accumulator, ((key, None, value) for key, value in chunk))
    after = _Progress(progress.snapshot, True, progress.chunks + 1, accumulator, chunk[-1][0])
    store.write({**{STATE_PREFIX + key: value for key, value in chunk}, PROGRESS_KEY: encode(after)})
    return after


def _final_entries(manifest: SnapshotManifest, header: Header, progress: _Progress) -> dict[bytes, bytes]:
    at = number(header.height)
    put = {
        GENESIS_KEY: manifest.genesis,
        ACCUMULATOR_KEY: progress.accumulator,
        HEIGHT_KEY: at,
        OLDEST_KEY: number(header.height + 1),
        HEADERS_KEY: number(header.height - len(manifest.ancestors)),
        b"q" + at: encode(manifest.certificate),
        b"f" + at: encode(manifest.proof),
    }
    for epoch, end in enumerate(manifest.epochs):
        put[b"v" + number(epoch + 1)] = end.members
        put[b"o" + number(epoch)] = encode(end)
    for known in (*manifest.ancestors, header):
        put.update(header_entries(known))
        put[b"p" + number(known.height)] = at
    return put
