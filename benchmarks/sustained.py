"""Four validators and their load generator on the same cores: how many plain transfers become final each second.

    python benchmarks/sustained.py --json

Part of ``benchmarks/ledger.py``. Each validator is a process of its own with its worker, its disk and its TLS links on
loopback. This process is the load generator: over JSON-RPC it keeps each validator supplied with batches, never more
than ``OUTSTANDING`` transfers that are not final yet, so that what is measured is what they keep up, not a peak that
leaves a queue behind. The transfers go from a thousand accounts to one another and are signed beforehand, as wallets
sign them elsewhere; what signing costs is in the result. A window lasts from the moment that one block was seen final
to the moment that another was, some seconds later; figures are medians of the windows.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import psutil
from finality import VALIDATORS, Rpc, genesis, processor_seconds, start_children
from ledger_work import transfers

from koinon.net.listening import free_ports

ACCOUNTS: Final = 1_000
OUTSTANDING: Final = 6_000
BATCH: Final = 100
MOST_A_SECOND: Final = 4_000
"""So many are signed beforehand for each second; more than two cores take up."""
WARMING_SECONDS: Final = 6.0


@dataclass(frozen=True)
class Sight:
    """A block was seen final: when, how many transfers were final then, and the processor time used until then."""

    at: float
    final: int
    blocks: int
    validators: float
    generator: float


@dataclass
class Load:
    """The transfers on their way.

    Attributes:
        queues: what is still to be sent, for each validator; one account's transfers all go to the same one.
        sent, final: how many so far.
        moved: set whenever more became final.
    """

    queues: list[list[bytes]]
    sent: int = 0
    final: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, raws: list[bytes]) -> "Load":
        queues: list[list[bytes]] = [[] for _ in range(VALIDATORS)]
        for number, raw in enumerate(raws):
            queues[number % ACCOUNTS % VALIDATORS].append(raw)
        return cls([queue[::-1] for queue in queues])

    async def feed(self, validator: int, rpc: Rpc) -> None:
        """Keep one validator supplied, for ever."""
        queue = self.queues[validator]
        while True:
            while self.sent - self.final >= OUTSTANDING:
                self.moved.clear()
                await self.moved.wait()
            batch = [queue.pop() for _ in range(min(BATCH, len(queue)))]
            if not batch:
                raise SystemExit("all transfers are used up; this machine is faster than the benchmark expects")
            self.sent += len(batch)
            await rpc.send(batch)


async def watched(load: Load, rpc: Rpc, processes: list[psutil.Process], seconds: float) -> list[Sight]:
    """Look at every final block for some time."""
    height = int(await rpc.ask("eth_blockNumber"), 16)
    sights: list[Sight] = []
    while not sights or sights[-1].at - sights[0].at < seconds:
        newest = int(await rpc.ask("koinon_waitForBlock", hex(height + 1), 30), 16)
        for number in range(height + 1, newest + 1):
            load.final += int(await rpc.ask("eth_getBlockTransactionCountByNumber", hex(number)), 16)
        load.moved.set()
        blocks = newest - height + (sights[-1].blocks if sights else 0)
        height = newest
        sights.append(Sight(time.perf_counter(), load.final, blocks, processor_seconds(processes), time.process_time()))
    return sights


def windows(sights: list[Sight], seconds: float) -> list[tuple[Sight, Sight]]:
    """Pairs of sights at least ``seconds`` apart, one beginning where the other ends; the warming is left out."""
    edges: list[Sight] = []
    for sight in sights:
        if sight.at - sights[0].at >= WARMING_SECONDS and (not edges or sight.at - edges[-1].at >= seconds):
            edges.append(sight)
    return list(pairwise(edges))


def figures(found: list[tuple[Sight, Sight]]) -> dict[str, float]:
    """Medians of the windows."""

    def median(values: list[float]) -> float:
        return round(statistics.median(values), 3)

    rates = [(end.final - begin.final) / (end.at - begin.at) for begin, end in found]
    validators = [(end.validators - begin.validators) / (end.final - begin.final) * 1e3 for begin, end in found]
    generator = [(end.generator - begin.generator) / (end.final - begin.final) * 1e3 for begin, end in found]
    whole = [ours + theirs for ours, theirs in zip(validators, generator, strict=True)]
    return {
        "transfers_per_second": median(rates),
        "transfers_per_second_least": round(min(rates), 3),
        "transfers_per_two_cpu_seconds": median([2_000 / cost for cost in whole]),
        "cpu_ms_per_transfer_four_validators": median(validators),
        "cpu_ms_per_transfer_generator": median(generator),
        "transfers_per_block": median([(e.final - b.final) / max(1, e.blocks - b.blocks) for b, e in found]),
        "seconds_per_block": median([(e.at - b.at) / max(1, e.blocks - b.blocks) for b, e in found]),
    }


def sustained(repeats: int, seconds: float) -> dict[str, Any]:
    """The section's results: ``repeats`` windows of ``seconds``."""
    length = WARMING_SECONDS + (repeats + 1) * (seconds + 1)
    begin = time.process_time()
    raws = transfers(ACCOUNTS, int(length * MOST_A_SECOND / ACCOUNTS))
    signing = (time.process_time() - begin) / len(raws)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = free_ports(2 * VALIDATORS)
        first = genesis([("127.0.0.1", port) for port in ports[:VALIDATORS]], ACCOUNTS)
        rpc_ports = ports[VALIDATORS:]
        processes = start_children(stack, folder, first, rpc_ports, [()] * VALIDATORS)

        async def measure() -> list[Sight]:
            load = Load.of(raws)
            async with asyncio.TaskGroup() as tasks:
                feeding = [
                    tasks.create_task(load.feed(number, Rpc(socket.socket, port)))
                    for number, port in enumerate(rpc_ports)
                ]
                sights = await watched(load, Rpc(socket.socket, rpc_ports[0]), processes, length)
                for task in feeding:
                    task.cancel()
            return sights

        found = windows(asyncio.run(measure()), seconds)[:repeats]
        resident = sum(process.memory_info().rss for process in processes) / len(processes) / 2**20
    return {
        **figures(found),
        "windows": len(found),
        "window_seconds": seconds,
        "signing_ms_per_transfer": round(signing * 1e3, 3),
        "resident_mib_each": round(resident, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5, help="windows")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each window")
    options = parser.parse_args()
    results = {"cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)}
    results |= sustained(options.repeats, options.seconds)
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:40} {value}")


if __name__ == "__main__":
    main()
