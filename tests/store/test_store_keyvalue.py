"""One suite over every key-value store, then what only a disk can do: fill up, tear, belong to two."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from koinon.kernel.effects import Store
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.store.keyvalue import LONGEST_KEY, LmdbStore, MemoryStore

MEBIBYTE = 1024 * 1024


@pytest.fixture(params=["lmdb", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = LmdbStore.open(tmp_path / "store", 64 * MEBIBYTE) if request.param == "lmdb" else MemoryStore()
    yield made
    made.close()


def test_it_is_a_store(store: Store) -> None:
    assert isinstance(store, Store)


def test_what_is_written_is_read(store: Store) -> None:
    assert store.get(b"height") is None
    store.write({b"height": b"7", b"empty": b""})
    assert store.get(b"height") == b"7"
    assert store.get(b"empty") == b""
    store.write({b"height": b"8"}, delete=[b"empty", b"never there"])
    assert store.get(b"height") == b"8"
    assert store.get(b"empty") is None


def test_a_key_both_put_and_deleted_is_put(store: Store) -> None:
    store.write({b"k": b"old"})
    store.write({b"k": b"new"}, delete=[b"k"])
    assert store.get(b"k") == b"new"


def test_a_scan_gives_one_prefix_in_order(store: Store) -> None:
    store.write({key: key for key in (b"b/2", b"a", b"b/1", b"b", b"c", b"b/\xff\xff", b"\xff\xff")})
    assert [key for key, _ in store.scan(b"b/")] == [b"b/1", b"b/2", b"b/\xff\xff"]
    assert [key for key, _ in store.scan(b"\xff")] == [b"\xff\xff"]
    assert [key for key, _ in store.scan(b"")] == [b"a", b"b", b"b/1", b"b/2", b"b/\xff\xff", b"c", b"\xff\xff"]
    assert list(store.scan(b"x")) == []


def test_a_scan_is_not_disturbed_by_writes(store: Store) -> None:
    store.write({bytes([n]): b"old" for n in range(1, 50)})
    seen = []
    for key, value in store.scan(b""):
        seen.append(value)
        store.write({key: b"new", key + b"later": b"new"})
    assert seen == [b"old"] * 49


@pytest.mark.parametrize("key", [b"", b"k" * (LONGEST_KEY + 1)])
def test_a_key_out_of_range_is_refused_and_nothing_is_written(store: Store, key: bytes) -> None:
    with pytest.raises(InvalidInput, match="1 to 511 bytes"):
        store.write({b"good": b"1", key: b"2"})
    with pytest.raises(InvalidInput, match="1 to 511 bytes"):
        store.write({b"good": b"1"}, delete=[key])
    with pytest.raises(InvalidInput):
        store.get(key)
    assert store.get(b"good") is None


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    for use in (lambda: store.get(b"k"), lambda: store.write({b"k": b""}), lambda: list(store.scan(b""))):
        with pytest.raises(Unavailable):
            use()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_both_stores_agree_with_a_dictionary(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    keys = st.binary(min_size=1, max_size=3)
    model: dict[bytes, bytes] = {}
    disk, memory = LmdbStore.open(tmp_path_factory.mktemp("store"), MEBIBYTE), MemoryStore()
    try:
        for _ in range(data.draw(st.integers(1, 6))):
            put = data.draw(st.dictionaries(keys, st.binary(max_size=4), max_size=5))
            delete = data.draw(st.lists(keys, max_size=3))
            for store in (disk, memory):
                store.write(put, delete)
            for key in delete:
                model.pop(key, None)
            model |= put
            prefix = data.draw(st.binary(max_size=2))
            expected = sorted(pair for pair in model.items() if pair[0].startswith(prefix))
            assert list(disk.scan(prefix)) == list(memory.scan(prefix)) == expected
    finally:
        disk.close()


def test_what_was_written_survives_reopening_and_kill(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib\n"
        "from koinon.store.keyvalue import LmdbStore\n"
        "store = LmdbStore.open(pathlib.Path(sys.argv[1]))\n"
        "store.write({b'vote': b'7'})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, env={"PYTHONPATH": "src"})
    assert killed.returncode == -9
    store = LmdbStore.open(tmp_path)
    assert store.get(b"vote") == b"7"
    store.close()


def test_two_processes_cannot_share_a_store(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path)
    with pytest.raises(Unavailable, match="another process uses the store"):
        LmdbStore.open(tmp_path)
    store.close()
    LmdbStore.open(tmp_path).close()


def test_a_full_map_is_said_clearly_and_changes_nothing(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path, 256 * 1024)
    store.write({b"kept": b"1"})
    with pytest.raises(Unavailable, match="larger map"):
        store.write({b"kept": b"2", b"big": bytes(MEBIBYTE)})
    assert store.get(b"kept") == b"1"
    assert store.get(b"big") is None
    store.write({b"kept": b"3"})
    store.close()


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Lets files of this process grow to so many bytes and no further, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_clearly_and_changes_nothing(tmp_path: Path, small_disk: Callable[[int], None]) -> None:
    store = LmdbStore.open(tmp_path, 64 * MEBIBYTE)
    store.write({b"kept": b"1"})
    small_disk(256 * 1024)
    with pytest.raises(Unavailable, match=r"disk under the store at .* is full"):
        store.write({b"kept": b"2", b"big": bytes(4 * MEBIBYTE)})
    small_disk(resource.RLIM_INFINITY)
    assert store.get(b"kept") == b"1"
    store.write({b"big": bytes(4 * MEBIBYTE)})
    store.close()


@pytest.mark.parametrize("damage", [b"not a database" * 1000, b"\xff" * 8192], ids=["text", "ones"])
def test_a_damaged_file_is_said_clearly(tmp_path: Path, damage: bytes) -> None:
    store = LmdbStore.open(tmp_path)
    store.write({b"k": b"v"})
    store.close()
    (tmp_path / "data.mdb").write_bytes(damage)
    with pytest.raises(Unavailable, match="is damaged"):
        LmdbStore.open(tmp_path)


def test_a_path_that_is_a_file_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be opened"):
        LmdbStore.open(tmp_path / "file")


class MemoryStoreModel(RuleBasedStateMachine):
    """A store and a dictionary that see the same writes stay equal, whatever the order."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.model: dict[bytes, bytes] = {}

    @rule(key=st.binary(min_size=1, max_size=2), value=st.binary(max_size=2))
    def put(self, key: bytes, value: bytes) -> None:
        self.store.write({key: value})
        self.model[key] = value

    @rule(key=st.binary(min_size=1, max_size=2))
    def delete(self, key: bytes) -> None:
        self.store.write({}, delete=[key])
        self.model.pop(key, None)

    @invariant()
    def agrees(self) -> None:
        assert list(self.store.scan(b"")) == sorted(self.model.items())


MemoryStoreModel.TestCase.settings = settings(max_examples=15, stateful_step_count=20)
TestMemoryStoreModel = MemoryStoreModel.TestCase
