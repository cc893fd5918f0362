"""Private set intersection between two processes over TLS on this machine.

    PYTHONPATH=src python benchmarks/joins.py --json
    PYTHONPATH=src python benchmarks/joins.py --size 100000 --repeats 3

Two owners have as many identifiers each, half of them in common; both learn which. Seconds are wall-clock from the
first message to the later of the two results, hashing of the identifiers included; processor seconds are both owners'.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.quantities import Seconds
from koinon.net.transport import Transport
from koinon.privacy.joins.intersection import Terms, begin
from koinon.privacy.joins.session import intersect
from koinon.wire.discovery import Endpoint

LABEL = "benchmark"
SESSION = bytes(32)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--size", type=int, default=1_000_000, help="identifiers of each owner")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    runs = [once(options.size) for _ in range(options.repeats)]
    report = {
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
