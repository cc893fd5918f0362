"""Private set intersection between two processes over TLS on this machine.

    PYTHONPATH=src python benchmarks/joins.py --json
    PYTHONPATH=src python benchmarks/joins.py --size 100000 --repeats 3
    PYTHONPATH=src python benchmarks/joins.py --nodes --json

Two owners have as many identifiers each, half of them in common; both learn which. Seconds are wall-clock from the
first message to the later of the two results, hashing of the identifiers included; processor seconds are both owners'.

With --nodes the same as operators order it of running nodes (``koinon data intersect``), on a chain of their own: from
the orders to the later result, reading the identifiers, child processes and writing both files included. Processor
seconds are those of both nodes and their children, peaks the largest proportional set size of one node and of one
child in samples a fifth of a second apart, and bytes what the nodes sent each other.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Iterable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.quantities import Seconds
from koinon.net.transport import Transport
from koinon.privacy.joins.intersection import begin
from koinon.privacy.joins.session import intersect
from koinon.privacy.joins.states import Terms
from koinon.wire.discovery import Endpoint

LABEL = "benchmark"
SESSION = bytes(32)
ROOT = Path(__file__).resolve().parents[1]
SAMPLE_SECONDS = 0.2


def owner(pipe: Connection, asks: bool, size: int) -> None:
    """Child process: one owner. Tells where it listens, hears where the other does, tells what it took."""
    first = 0 if asks else size // 2
    identifiers = [f"patient-{number:09d}" for number in range(first, first + size)]

    async def run() -> dict[str, Any]:
        key = NodeKey.generate(SystemRng())
        async with Transport.open(key, "127.0.0.1", 0) as transport:
            pipe.send((transport.endpoint.host, transport.endpoint.port, bytes(key.node_id)))
            host, port, peer = pipe.recv()
            if asks:
                link = await transport.link(Endpoint(node_id=peer, host=host, port=port), LABEL)
            else:
                link = await transport.accept_link(peer, LABEL)
            rng, processor, wall = SystemRng(), time.process_time(), time.perf_counter()
            side = begin(Terms(SESSION, asks, both_learn=True), identifiers, rng)
            members = await intersect(link, side, rng, Seconds(600))
            took = time.perf_counter() - wall, time.process_time() - processor
            pipe.send("done")
            pipe.recv()  # the other has all it was sent
        assert members is not None
        assert len(members) == size - size // 2
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"wall": took[0], "cpu": took[1], "peak_mib": peak}

    pipe.send(asyncio.run(run()))


def once(size: int) -> dict[str, float]:
    context = get_context("spawn")
    pipes, children = [], []
    for asks in (True, False):
        mine, theirs = context.Pipe()
        child = context.Process(target=owner, args=(theirs, asks, size))
        child.start()
        pipes.append(mine)
        children.append(child)
    addresses = [pipe.recv() for pipe in pipes]
    for pipe, address in zip(pipes, reversed(addresses), strict=True):
        pipe.send(address)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("both are done")
    results = [pipe.recv() for pipe in pipes]
    for child in children:
        child.join()
    return {
        "seconds": max(result["wall"] for result in results),
        "processor_seconds": sum(result["cpu"] for result in results),
        "peak_mib": max(result["peak_mib"] for result in results),
    }


def of_nodes(size: int, repeats: int) -> list[dict[str, float]]:
    """As ``once``, so many times, between two nodes of a network that is made for it."""
    os.environ["PYTHONPATH"] = str(ROOT / "src")  # for the nodes, which are processes of their own
    with tempfile.TemporaryDirectory(prefix="koinon-benchmark-") as scratch:
        return asyncio.run(_of_nodes(Path(scratch), size, repeats))


async def _of_nodes(folder: Path, size: int, repeats: int) -> list[dict[str, float]]:
    from koinon.kernel.quantities import Wei
    from koinon.node import orders
    from koinon.node.genesis import DRAW_DELAY
    from koinon.node.local_network import Network, Organisation
    from koinon.node.setup import Chain, put_to_work, silent

    owners = ("north", "south")
    network = Network(folder / "n")
    members = (
        Organisation("company", ("validator", "publisher")),
        Organisation("fourth", ("validator",)),
        *(Organisation(name, ("validator", "data")) for name in owners),
    )
    network.create(members, SystemRng(), outside=None, allow_faults=False)
    try:
        await network.start()
        await put_to_work(network, Chain(DRAW_DELAY, Wei(0)), silent)
        adding = time.perf_counter()
        hashes = []
        for name, first in zip(owners, (0, size // 2), strict=True):
            path = folder / f"{name}.csv"
            numbers = range(10**9 + first, 10**9 + first + size)
            path.write_text("\n".join(["patient,age", *(f"{number},{number % 90 + 1}.5" for number in numbers)]) + "\n")
            order = orders.AddData(str(path), "", (("age", 0.0, 100.0),), "patient")
            added = await network.operator(name).run("data.add", order, orders.DataAdded, silent)
            hashes.append(added.dataset_hash)
        adding = time.perf_counter() - adding
        runs = []
        for number in range(repeats):
            watch = _Watched(network.process(name) for name in owners)
            sampling = asyncio.create_task(watch.sample())
            started = time.perf_counter()
            found = await asyncio.gather(
                *(
                    network.operator(name).run(
                        "data.intersect",
                        orders.Intersect(
                            dataset,
                            network.identity(other).node_id,
                            f"benchmark {number}",
                            name == owners[0],
                            True,
                            size,
                            600.0,
                            str(folder / f"{name}-{number}.csv"),
                        ),
                        orders.Intersected,
                        silent,
                    )
                    for name, other, dataset in zip(owners, reversed(owners), hashes, strict=True)
                )
            )
            seconds = time.perf_counter() - started
            sampling.cancel()
            assert [one.common for one in found] == [size - size // 2] * 2
            runs.append(
                {
                    "adding_seconds": adding,
                    "seconds": seconds,
                    "processor_seconds": watch.processor_seconds(),
                    "node_peak_mib": watch.node_peak / 2**20,
                    "child_peak_mib": watch.child_peak / 2**20,
                    "mebibytes": sum(one.sent for one in found) / 2**20,
                }
            )
        return runs
    finally:
        await network.stop()


class _Watched:
    """Processor seconds and memory of nodes and of their children."""

    def __init__(self, nodes: Iterable[psutil.Process | None]) -> None:
        self._nodes = [node for node in nodes if node is not None]
        self._before = self._used()
        self.node_peak = self.child_peak = 0

    def processor_seconds(self) -> float:
        return self._used() - self._before

    async def sample(self) -> None:
        while True:
            for node in self._nodes:
                self.node_peak = max(self.node_peak, _memory_of(node))
                for child in node.children(recursive=True):
                    self.child_peak = max(self.child_peak, _memory_of(child))
            await asyncio.sleep(SAMPLE_SECONDS)

    def _used(self) -> float:
        """Of the nodes, and of their children that have ended."""
        return sum(sum(node.cpu_times()[:4]) for node in self._nodes)


def _memory_of(process: psutil.Process) -> int:
    """Proportional set size in bytes; 0 for a process that has just ended."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--size", type=int, default=1_000_000, help="identifiers of each owner")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nodes", action="store_true", help="between two running nodes")
    options = parser.parse_args()
    if options.nodes:
        runs = of_nodes(options.size, options.repeats)
    else:
        runs = [once(options.size) for _ in range(options.repeats)]
    report = {
        "between": "nodes" if options.nodes else "processes",
        "identifiers_each": options.size,
        "repeats": options.repeats,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        **{name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]},
    }
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name.replace('_', ' '):20} {value}")


if __name__ == "__main__":
    main()
