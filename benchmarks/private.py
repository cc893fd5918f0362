"""Private computation in four worker processes over TLS on this machine: every speed target, and what meets it.

    PYTHONPATH=src python benchmarks/private.py                 a table
    PYTHONPATH=src python benchmarks/private.py --json
    PYTHONPATH=src python benchmarks/private.py --device gpu
    PYTHONPATH=src python benchmarks/private.py --peers         SPU and MPyC beside it, after `make peers`

Times are wall-clock seconds of the slowest position, medians over the runs, of the computation on shares: the start of
the processes, key agreement, dealing, the check of the inputs' ranges and the opening are left out, as they are with
the peers; `koinon study estimate` counts them. Jobs on owners' sums include what the slowest owner computes of its own
rows. With a round-trip time every frame arrives half of it after it was sent. Rounds, bytes and processor seconds do
not depend on what else the machine does.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from struct import Struct
from typing import Any

import joins
import numpy as np
from private_jobs import (
    BOOSTING,
    CLUSTERS,
    CNN,
    GRAM,
    LINEAR_SUMS,
    LOGISTIC,
    LOGISTIC_SUMS,
    MLP,
    NAMES,
    PRODUCT,
    QUALITY,
    SESSION,
    all_jobs,
    owners_sums,
)
from private_peers import peers

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.effects import PromptLink
from koinon.kernel.ids import NodeId
from koinon.privacy.rep4 import accelerated, arithmetic, links
from koinon.privacy.rep4.agreement import agree
from koinon.privacy.rep4.checkpoint import checkpoint
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.signing import NodeSignatures
from koinon.privacy.rep4.worker import from_frame, to_frame
from koinon.wire.committee import POSITIONS, Listening, Prepare
from koinon.worker import Limits, Worker
from koinon.worker.channel import AsyncChannel

WALL_SECONDS = 3_000.0
LIMITS = Limits(network=True, memory_bytes=6 * 1024**3, cpu_seconds=3_000, wall_seconds=WALL_SECONDS)
INTERSECTION = "intersection of 10⁶ and 10⁶ identifiers"
TARGETS: dict[tuple[str, float], float] = {
    (LOGISTIC, 0.0): 0.8,
    (LOGISTIC, 20.0): 5.0,
    (GRAM, 0.0): 0.7,
    (PRODUCT, 0.0): 0.7,
    (LOGISTIC_SUMS, 0.0): 15.0,
    (LINEAR_SUMS, 0.0): 1.0,
    (CLUSTERS, 0.0): 10.0,
    (BOOSTING, 0.0): 90.0,
    (INTERSECTION, 0.0): 30.0,
    (MLP, 0.0): 0.010,
    (CNN, 0.0): 0.040,
}
"""Seconds, by job and round-trip time in milliseconds."""
FAR = (MLP, CNN, LOGISTIC, LOGISTIC_SUMS, LINEAR_SUMS)
"""What is measured with a round-trip time: elsewhere arithmetic takes the time."""
DELAY = Struct("<d")

Measured = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Order:
    """What the four positions run.

    Attributes:
        runs: of each job, by name.
        sums: the owners' rows of sums of the jobs that start from those.
        rtt: milliseconds.
    """

    runs: dict[str, int]
    sums: dict[str, list[list[list[float]]]]
    rtt: float


class DelayedLink:
    """A link whose frames arrive a fixed time after they were sent; both ends read the same clock."""

    def __init__(self, link: PromptLink, seconds: float) -> None:
        self._link, self._seconds = link, seconds

    @property
    def peer(self) -> NodeId:
        return self._link.peer

    async def send(self, frame: bytes, /) -> None:
        await self._link.send(DELAY.pack(time.time() + self._seconds) + frame)

    def send_now(self, frame: bytes, /) -> bool:
        return self._link.send_now(DELAY.pack(time.time() + self._seconds) + frame)

    def descriptor(self) -> int | None:
        return None

    def receive_now(self) -> bytes | None:
        return None

    async def receive(self) -> bytes:
        frame = await self._link.receive()
        await asyncio.sleep(max(0.0, DELAY.unpack(frame[: DELAY.size])[0] - time.time()))
        return frame[DELAY.size :]

    async def close(self) -> None:
        await self._link.close()


async def position(channel: AsyncChannel) -> None:
    """Child process: one position of a committee that runs the jobs one after the other."""
    from koinon.net.sockets import PROMPT_SOCKETS
    from koinon.net.transport import Transport
    from koinon.wire.discovery import Endpoint

    prepare = from_frame(await channel.receive())
    assert isinstance(prepare, Prepare)
    key = NodeKey.from_seed(prepare.seed)
    async with Transport.open(key, prepare.host, sockets=PROMPT_SOCKETS) as transport:
        await channel.send(to_frame(Listening(key.node_id, transport.endpoint.port)))
        table: list[Any] = json.loads(await channel.receive())
        order = Order(**json.loads(await channel.receive()))
        ids = [NodeId(bytes.fromhex(node)) for node, _ in table]
        party = Party(prepare.position, SESSION, NodeSignatures(key, (ids[0], ids[1], ids[2], ids[3])))
        peers: dict[int, PromptLink] = {}
        for peer in party.peers:
            if party.position < peer:
                peers[peer] = await transport.link(Endpoint(ids[peer], "127.0.0.1", table[peer][1]), "bench")
            else:
                peers[peer] = await transport.accept_link(ids[peer], "bench")
        if order.rtt:
            peers = {peer: DelayedLink(link, order.rtt / 2000) for peer, link in peers.items()}
        measured = await links.run(
            party,
            _jobs(party, order),
            peers,
            silence_seconds=300.0,
            deadline_seconds=WALL_SECONDS,
            progress=lambda _: None,
        )
        await channel.send(json.dumps(measured).encode())
        for link in peers.values():
            await link.close()


def _jobs(party: Party, order: Order) -> Generator[None, None, Measured]:
    yield from agree(party, SystemRng())
    measured: Measured = {}
    jobs = all_jobs(party, {name: [np.array(each) for each in rows] for name, rows in order.sums.items()})
    for name, runs in order.runs.items():
        measured[name] = []
        for _ in range(runs):
            job = jobs[name]()
            yield from checkpoint(party)
            began, processor, rounds, sent = time.perf_counter(), time.process_time(), party.round, party.bytes_sent
            result = yield from job
            measured[name].append(
                {
                    "seconds": time.perf_counter() - began,
                    "processor_seconds": time.process_time() - processor,
                    "rounds": party.round - rounds,
                    "bytes_sent": party.bytes_sent - sent,
                }
            )
            if name in QUALITY:
                opened = yield from arithmetic.open_to_all(party, result.data)
                measured[name][-1]["opened"] = (opened.view(np.int64) / 2.0**result.fraction_bits).tolist()
    return measured


@asynccontextmanager
async def _workers(target: str) -> AsyncIterator[tuple[list[Worker], list[Listening]]]:
    async with AsyncExitStack() as stack:
        starting = (stack.enter_async_context(Worker.start(target, LIMITS)) for _ in POSITIONS)
        workers = list(await asyncio.gather(*starting))
        for i, worker in enumerate(workers):
            await worker.send(to_frame(Prepare(SESSION, i, os.urandom(32), "127.0.0.1")))
        answers = [from_frame(await worker.receive()) for worker in workers]
        yield workers, [answer for answer in answers if isinstance(answer, Listening)]


async def measure(names: Sequence[str], repetitions: int, rtt: float) -> list[dict[str, Any]]:
    """One row for each job: medians over runs of the slowest position; traffic of all four."""
    made = {name: owners_sums(name) for name in names if name in (LOGISTIC_SUMS, LINEAR_SUMS)}
    order = Order(
        dict.fromkeys(names, repetitions),
        {name: [each.tolist() for each in sums] for name, (sums, _) in made.items()},
        rtt,
    )
    async with _workers("private:position") as (workers, listening):
        table = json.dumps([[each.ephemeral.hex(), each.port] for each in listening]).encode()
        for worker in workers:
            await worker.send(table)
            await worker.send(json.dumps(asdict(order)).encode())
        measured = [json.loads(await worker.receive()) for worker in workers]
    rows = []
    for name, runs in measured[0].items():
        own = made[name][1] if name in made else 0.0
        every = [own + max(each[name][k]["seconds"] for each in measured) for k in range(len(runs))]
        quality = QUALITY[name](np.array(runs[-1]["opened"])) if name in QUALITY else {}
        rows.append(
            _row(name, rtt, every)
            | {
                "processor_seconds_per_position": _slowest(measured, name, "processor_seconds"),
                "rounds": runs[0]["rounds"],
                "megabytes_all": sum(each[name][0]["bytes_sent"] for each in measured) / 1e6,
            }
            | ({"owner_seconds": own} if own else {})
            | ({"quality": quality} if quality else {})
        )
    return rows


def _row(name: str, rtt: float, every: list[float]) -> dict[str, Any]:
    seconds, target = statistics.median(every), TARGETS.get((name, rtt))
    verdict = {} if target is None else {"target_seconds": target, "met": seconds <= target}
    return {"job": name, "rtt_milliseconds": rtt, "seconds": seconds, "all_seconds": every, **verdict}


def _slowest(measured: list[Measured], name: str, figure: str) -> float:
    """Median over the repetitions of the largest figure of the four positions."""
    repetitions = range(len(measured[0][name]))
    return statistics.median(max(each[name][k][figure] for each in measured) for k in repetitions)


def intersections(repetitions: int) -> dict[str, Any]:
    """Two owners' private set intersection; see ``benchmarks/joins.py``."""
    runs = [joins.once(1_000_000) for _ in range(repetitions)]
    return _row(INTERSECTION, 0.0, [run["seconds"] for run in runs]) | {
        "processor_seconds_per_position": statistics.median(run["processor_seconds"] for run in runs) / 2
    }


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"{'job':52} {'rtt ms':>6} {'runs':>4} {'seconds':>9} {'target':>7} {'':6} {'cpu s':>8} {'rounds':>6} {'MB':>8}"
    ]
    for row in rows:
        verdict = "" if "met" not in row else "met" if row["met"] else "missed"
        lines.append(
            f"{row['job']:52} {row['rtt_milliseconds']:6g} {len(row['all_seconds']):4} {row['seconds']:9.4f}"
            f" {row.get('target_seconds', ''):>7} {verdict:6} {row['processor_seconds_per_position']:8.4f}"
            f" {row.get('rounds', ''):>6} {row.get('megabytes_all', 0.0):8.2f}"
        )
        if "quality" in row:
            lines.append("    " + ", ".join(f"{name} {value:.5g}" for name, value in row["quality"].items()))
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rtt", type=float, nargs="*", default=[20.0], help="milliseconds, beside 0")
    parser.add_argument("--only", nargs="*", default=[], help="jobs whose name contains one of these")
    parser.add_argument("--device", choices=("gpu", "cpu"), help="large matrix products through JAX on this")
    parser.add_argument("--peers", action="store_true", help="run SPU and MPyC too")
    options = parser.parse_args()
    if options.device:
        os.environ[accelerated.SETTING] = options.device
    load = os.getloadavg()[0]

    def wanted(names: Sequence[str]) -> list[str]:
        return [name for name in names if not options.only or any(part in name for part in options.only)]

    rows = await measure(wanted(NAMES), options.repetitions, 0.0) if wanted(NAMES) else []
    rows += [intersections(options.repetitions) for _ in wanted([INTERSECTION])]
    for rtt in options.rtt:
        rows += await measure(wanted(FAR), options.repetitions, rtt) if wanted(FAR) else []
    machine = {"processors": os.cpu_count(), "system": platform.platform(), "load": load}
    machine |= {"device": options.device} if options.device else {}
    report: dict[str, Any] = {"machine": machine, "rows": rows}
    if options.peers:
        report["peers"] = peers(options.repetitions, max(options.rtt, default=0.0))
    print(json.dumps(report, indent=2) if options.json else _table(rows))
    if options.peers and not options.json:
        print("\n".join(f"{each['peer']:20} {each['job']:40} {each['answer']}" for each in report["peers"]))


if __name__ == "__main__":
    asyncio.run(main())
