"""A ledger whose process dies, or whose file is full, at any point of a commit has the last final state, whole."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from ledger_killed import BLOCKS, RICH, grow
from ledger_network import make_genesis

import koinon
from koinon.kernel.codec import encode
from koinon.kernel.errors import OutOfSpace
from koinon.ledger import lattice
from koinon.ledger.chain import Chain
from koinon.ledger.genesis import Genesis
from koinon.ledger.types import header_hash
from koinon.store.keyvalue import LmdbStore, MemoryStore

PROGRAM = Path(__file__).with_name("ledger_killed.py")


def check(chain: Chain, store: LmdbStore) -> None:
    """Everything up to the last final block is there and agrees; nothing of a later one is."""
    entries = ((key[1:], None, value) for key, value in store.scan(b"w"))
    assert lattice.root(lattice.updated(lattice.EMPTY_ACCUMULATOR, entries)) == chain.final_header.state_root
    for height in range(1, chain.final_height + 1):
        block, receipts = chain.block_at(height), chain.receipts_at(height)
        assert chain.height_of(header_hash(block.header)) == height
        assert chain.certificate_at(height).block == header_hash(block.header)
        assert chain.finality_proof(height).headers[0] == block.header
        for receipt in receipts:
            placed = chain.receipt_of(receipt.transaction)
            assert placed is not None
            assert (placed.place.height, placed.receipt) == (height, receipt)
        assert (height in chain.log_heights(height, height, [], [])) == any(receipt.logs for receipt in receipts)
    for kind in (b"e", b"b", b"r", b"q", b"p"):
        assert all(int.from_bytes(key[1:], "big") <= chain.final_height for key, _ in store.scan(kind))


def survive(points: range, folder: Path) -> list[str]:
    """Die at each point, then look at what is left and go on to the end; how each run ended."""
    genesis = make_genesis(1, RICH)
    (folder / "genesis").write_bytes(encode(genesis))
    environment = {**os.environ, "PYTHONPATH": str(Path(koinon.__file__).parent.parent)}
    command = [sys.executable, str(PROGRAM), str(folder / "genesis"), str(folder), *map(str, points)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = grow(MemoryStore(), genesis).chain
    heights = set()
    for point in points:
        store = LmdbStore.open(folder / str(point))
        chain = Chain(store, genesis)
        heights.add(chain.final_height)
        check(chain, store)
        again = grow(store, genesis).chain
        assert again.final_header == expected.final_header
        check(again, store)
        store.close()
    assert len(heights) > min(2, len(points) // 8)
    return [line.split()[1] for line in done.stdout.splitlines()]


def test_a_kill_at_a_sample_of_points_loses_nothing_final(tmp_path: Path) -> None:
    assert survive(range(0, 110, 9), tmp_path) == ["killed"] * 13


@pytest.mark.long
def test_a_kill_at_any_point_loses_nothing_final(tmp_path: Path) -> None:
    ended = survive(range(170), tmp_path)
    killed = ended.index("ended")
    assert killed > 100
    assert set(ended[:killed]) == {"killed"}
    assert set(ended[killed:]) == {"ended"}


def test_a_full_file_is_said_and_leaves_the_last_final_state(tmp_path: Path) -> None:
    genesis = make_genesis(1, RICH)
    room, heights = 48 * 1024, [0]
    while heights[-1] < BLOCKS:
        room += 16 * 1024
        store = LmdbStore.open(tmp_path, room)
        with suppress(OutOfSpace):  # nothing else may come of a file that is full
            grow(store, genesis)
        heights.append(_left(store, genesis))
        store.close()
    assert heights == sorted(heights)
    assert len(set(heights)) > 2


def _left(store: LmdbStore, genesis: Genesis) -> int:
    if store.get(b"m/height") is None:
        return 0
    chain = Chain(store, genesis)
    check(chain, store)
    return chain.final_height
