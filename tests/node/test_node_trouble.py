"""What goes wrong under a running node: a full disk, a damaged or replaced ledger, the wrong genesis. Real processes.

In each case: one clear sentence, no crash, nothing signed twice, nothing final lost.
"""

import asyncio
import random
import resource
import shutil
import signal
from pathlib import Path

import pytest
from node_process import ENOUGH_SECONDS, NodeProcess, lone_validator, run_to_its_end, started

from koinon.kernel.codec import encode
from koinon.kernel.errors import Unavailable
from koinon.ledger.amnesia import marker_of
from koinon.node.home import Home
from koinon.store.check import check_store
from koinon.store.keyvalue import LmdbStore


async def until_ready_says(node: NodeProcess, sentence: str) -> None:
    async with asyncio.timeout(ENOUGH_SECONDS):
        while sentence not in (await node.get("/health/ready")).text:
            await node.rpc("koinon_waitForBlock", "0xffff", 0.1)


async def stop(node: NodeProcess) -> None:
    node.process.send_signal(signal.SIGTERM)
    assert await node.process.wait() == 0


async def test_a_full_disk_delays_signing_until_there_is_room(tmp_path: Path) -> None:
    home = lone_validator(tmp_path)
    async with started(home) as node:
        before = await node.receipt(await node.pay(0))
        # No file of the process may reach this size any more: what a full disk does to the ledger's.
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (16_384, resource.RLIM_INFINITY))
        waiting = await node.pay(1)
        await until_ready_says(node, "the disk is full; free some space")
        assert await node.rpc("eth_getTransactionReceipt", waiting) is None
        assert (await node.get("/health/live")).status_code == 200
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        after = await node.receipt(waiting)
        await until_ready_says(node, "ready")
        await stop(node)
    log = node.log.read_text()
    assert log.count("nothing more is signed until there is room") == 1
    assert "Traceback" not in log
    async with started(home) as again:  # everything final is there after all that
        for receipt in (before, after):
            found = await again.rpc("eth_getTransactionReceipt", receipt["transactionHash"])
            assert found["blockHash"] == receipt["blockHash"]


async def test_a_node_with_a_full_disk_still_stops_in_order(tmp_path: Path) -> None:
    home = lone_validator(tmp_path)
    async with started(home) as node:
        await node.receipt(await node.pay(0))
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (16_384, resource.RLIM_INFINITY))
        await node.pay(1)
        await until_ready_says(node, "the disk is full")
        await stop(node)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that has made a few blocks and is at rest."""
    home = lone_validator(tmp_path_factory.mktemp("kept"))

    async def make() -> None:
        async with started(home) as node:
            for nonce in range(3):
                await node.receipt(await node.pay(nonce))
            await stop(node)

    asyncio.run(make())
    return home


def copy_of(home: Home, folder: Path) -> Home:
    return Home(Path(shutil.copytree(home.path, folder / "lone")))


def only_sentence(home: Home, code: int) -> str:
    """What a node that does not come up says, which must be one line and no more than the log's own lines."""
    ended = run_to_its_end(home)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("koinon: ")]
    assert len(said) == 1
    return said[0]


def test_a_damaged_ledger_is_refused_with_what_to_do(kept: Home, tmp_path: Path) -> None:
    home = copy_of(kept, tmp_path)
    flip(home.path / "ledger" / "data.mdb", random.Random(5), 400)
    assert "is damaged; move the folder away" in only_sentence(home, 5)


def flip(file: Path, rng: random.Random, count: int) -> None:
    """Change so many bytes anywhere behind the two pages that say which transaction is the last."""
    data = bytearray(file.read_bytes())
    for _ in range(count):
        data[rng.randrange(8192, len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bytes_are_noticed_or_harmless(seed: int, kept: Home, tmp_path: Path) -> None:
    """Whatever page they hit, also those whose damage would take the reading process with it."""
    whole = everything(kept.path / "ledger")
    folder = tmp_path / "ledger"
    shutil.copytree(kept.path / "ledger", folder)
    flip(folder / "data.mdb", random.Random(seed), 3 + seed * seed)
    problem = damage_of(folder)
    assert "is damaged" in problem if problem else everything(folder) == whole


def damage_of(folder: Path) -> str:
    """What the check of a store says; nothing where every value is as it was written."""
    try:
        check_store(folder)
    except Unavailable as problem:
        return str(problem)
    return ""


def everything(folder: Path) -> list[tuple[bytes, bytes]]:
    store = LmdbStore.open(folder)
    try:
        return list(store.scan(b""))
    finally:
        store.close()


def test_a_ledger_of_another_genesis_is_refused(kept: Home, tmp_path: Path) -> None:
    home = copy_of(kept, tmp_path)
    other = lone_validator(tmp_path / "other")
    home.genesis.write_bytes(other.genesis.read_bytes())
    assert "this node is not among the validators of the genesis file" in only_sentence(home, 2)


def test_a_genesis_that_is_none_is_refused(kept: Home, tmp_path: Path) -> None:
    home = copy_of(kept, tmp_path)
    home.genesis.write_bytes(encode(["no genesis"]))
    assert "not a Genesis" in only_sentence(home, 2)
    home.genesis.unlink()
    assert "needs the file genesis" in only_sentence(home, 2)


async def test_a_validator_that_has_lost_its_memory_only_follows(kept: Home, tmp_path: Path) -> None:
    home = copy_of(kept, tmp_path)
    ledger = home.path / "ledger"
    assert marker_of(ledger).is_file()
    shutil.rmtree(ledger)
    async with started(home) as node:
        await until_ready_says(node, "signs nothing")
        waiting = await node.pay(0)
        assert int(await node.rpc("koinon_waitForBlock", "0x1", 3), 16) == 0
        assert await node.rpc("eth_getTransactionReceipt", waiting) is None
        await stop(node)
    shutil.rmtree(ledger)  # with the right folder back it signs again
    shutil.copytree(kept.path / "ledger", ledger)
    async with started(home) as again:
        await again.receipt(await again.pay(3))


async def test_two_processes_never_share_a_home(tmp_path: Path) -> None:
    home = lone_validator(tmp_path)
    async with started(home) as node:
        ended = await asyncio.to_thread(run_to_its_end, home)
        assert ended.returncode == 5
        assert "another process uses the store" in ended.stderr
        await node.receipt(await node.pay(0))
