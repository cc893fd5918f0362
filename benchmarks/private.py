"""Private computation in four worker processes over TLS on this machine.

    PYTHONPATH=src python benchmarks/private.py --json

Jobs: logistic regression on scikit-learn's 569 × 30 breast-cancer rows, from the order to the four output packages;
a million products; XᵀX of 20,000 × 100; signs of 100,000 words. Times are wall-clock seconds of the slowest position.
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
from typing import Any

import numpy as np

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.privacy.opening import reconstruct
from koinon.privacy.programs import logistic_regression, registry
from koinon.privacy.programs.logistic_regression import Parameters, in_study, to_raw_units
from koinon.privacy.rep4 import arithmetic, comparison, links
from koinon.privacy.rep4.agreement import agree
from koinon.privacy.rep4.checkpoint import checkpoint
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import Shares, four
from koinon.privacy.rep4.signing import NodeSignatures
from koinon.privacy.rep4.worker import certify, from_frame, to_frame
from koinon.privacy.secret import Product
from koinon.privacy.sharing import Dealing, deal
from koinon.wire.committee import POSITIONS, Aborted, Column, Input, Listening, Output, Peer, Prepare, Progress, Run
from koinon.worker import Limits, Worker
from koinon.worker.channel import AsyncChannel

LIMITS = Limits(network=True, memory_bytes=6 * 1024**3, cpu_seconds=600, wall_seconds=600.0)
SESSION = bytes(32)
JOBS = {
    "multiply 1e6": ((1_000_000,), Product.ELEMENTWISE, None),
    "multiply and truncate 1e6": ((1_000_000,), Product.ELEMENTWISE, 20),
    "gram 20000x100 and truncate": ((20_000, 100), Product.GRAM, 20),
    "matrix product 512^3 and truncate": ((512, 512), Product.MATRIX, 20),
    "sign 1e5": ((100_000,), None, None),
}


async def position(channel: AsyncChannel) -> None:
    """Child process: one position of a committee that runs the primitive jobs one after the other."""
    from koinon.kernel.ids import NodeId
    from koinon.net.transport import Transport
    from koinon.wire.discovery import Endpoint

    order = from_frame(await channel.receive())
    assert isinstance(order, Prepare)
    key = NodeKey.from_seed(order.seed)
    async with Transport.open(key, order.host) as transport:
        await channel.send(to_frame(Listening(key.node_id, transport.endpoint.port)))
        table: list[Any] = json.loads(await channel.receive())
        ids = [NodeId(bytes.fromhex(node)) for node, _ in table]
        party = Party(order.position, SESSION, NodeSignatures(key, (ids[0], ids[1], ids[2], ids[3])))
        peers = {}
        for peer in party.peers:
            if party.position < peer:
                peers[peer] = await transport.link(Endpoint(ids[peer], "127.0.0.1", table[peer][1]), "bench")
            else:
                peers[peer] = await transport.accept_link(ids[peer], "bench")
        measured = await links.run(
            party,
            _jobs(party, json.loads(await channel.receive())),
            peers,
            silence_seconds=120.0,
            deadline_seconds=590.0,
            progress=lambda _: None,
        )
        await channel.send(json.dumps(measured).encode())
        for link in peers.values():
            await link.close()


def _jobs(party: Party, repetitions: int) -> Generator[None, None, dict[str, list[dict[str, float]]]]:
    yield from agree(party, SystemRng())
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in JOBS}
    for name, (shape, kind, drop) in JOBS.items():
        drawn = [party.draw(j, shape) for j in POSITIONS]
        small = [None if each is None else each >> np.uint64(40) for each in drawn]
        for number in range(repetitions):
            inputs = Shares(four(small), shape)
            yield from checkpoint(party, 2 * number)
            began, processor, rounds, sent = time.perf_counter(), time.process_time(), party.round, party.bytes_sent
            if kind is None:
                yield from comparison.negative(party, inputs)
            elif drop is None:
                yield from arithmetic.multiply(party, inputs, inputs, kind)
            else:
                yield from arithmetic.multiply_truncate(party, inputs, inputs, kind, drop, None)
            measured[name].append(
                {
                    "seconds": time.perf_counter() - began,
                    "processor_seconds": time.process_time() - processor,
                    "rounds": party.round - rounds,
                    "bytes_sent": party.bytes_sent - sent,
                }
            )
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


async def primitives(repetitions: int) -> dict[str, Any]:
    """Medians over repetitions of the slowest position; traffic of all four."""
    async with _workers("private:position") as (workers, listening):
        table = json.dumps([[each.ephemeral.hex(), each.port] for each in listening]).encode()
        for worker in workers:
            await worker.send(table)
            await worker.send(json.dumps(repetitions).encode())
        measured = [json.loads(await worker.receive()) for worker in workers]
    return {
        name: {
            "seconds": statistics.median(
                max(each[name][k]["seconds"] for each in measured) for k in range(repetitions)
            ),
            "processor_seconds_per_position": statistics.median(
                max(each[name][k]["processor_seconds"] for each in measured) for k in range(repetitions)
            ),
            "rounds": measured[0][name][0]["rounds"],
            "megabytes_all": sum(each[name][0]["bytes_sent"] for each in measured) / 1e6,
        }
        for name in JOBS
    }


def _slowest(measured: list[dict[str, Any]], name: str, figure: str) -> float:
    """Median over the repetitions of the largest figure of the four positions."""
    repetitions = range(len(measured[0][name]))
    return statistics.median(max(each[name][k][figure] for each in measured) for k in repetitions)


async def regression() -> dict[str, Any]:
    """One run on all 569 rows held by three owners; quality on the same rows beside scikit-learn."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.metrics import log_loss, roc_auc_score

    data = load_breast_cancer()
    rows = np.column_stack([data.data, data.target.astype(float)])
    tops = 2 * 10.0 ** np.ceil(np.log10(data.data.max(axis=0)))
    columns = (*(Column(f"c{i}", 0.0, float(top)) for i, top in enumerate(tops)), Column("target", 0.0, 1.0))
    parts = np.array_split(rows, 3)
    parameters = Parameters(tuple(len(part) for part in parts), columns)
    rng = SystemRng()
    began = time.perf_counter()
    dealing = Dealing(SESSION, 0, bytes(32))
    dealt = [deal(part, columns, parameters.fraction_bits, dealing, NodeKey.generate(rng), rng) for part in parts]
    dealing_seconds = time.perf_counter() - began
    nodes = [NodeKey.generate(rng) for _ in POSITIONS]
    began = time.perf_counter()
    async with _workers("koinon.privacy.rep4.worker:main") as (workers, listening):
        starting_seconds = time.perf_counter() - began
        peers = [
            Peer(node.node_id, each.ephemeral, certify(node, SESSION, i, each.ephemeral), "127.0.0.1", each.port)
            for i, (node, each) in enumerate(zip(nodes, listening, strict=True))
        ]

        async def one(i: int) -> Output:
            inputs = tuple(Input(manifest, packages[i]) for manifest, packages in dealt)
            algorithm = registry.algorithm_hash(logistic_regression.NAME)
            order = Run(
                (peers[0], peers[1], peers[2], peers[3]),
                logistic_regression.NAME,
                algorithm,
                in_study(parameters),
                bytes(32),
                inputs,
                300.0,
                60.0,
            )
            await workers[i].send(to_frame(order))
            while True:
                message = from_frame(await workers[i].receive())
                if isinstance(message, Output):
                    return message
                if isinstance(message, Aborted) or not isinstance(message, Progress):
                    raise RuntimeError(str(message))

        began = time.perf_counter()
        outputs: Sequence[Output] = await asyncio.gather(*(one(i) for i in POSITIONS))
        seconds = time.perf_counter() - began
    values, _ = reconstruct([output.package for output in outputs], SESSION)
    slopes, bias = to_raw_units(values[:-1], values[-1], columns[:-1])
    chance = 1 / (1 + np.exp(-(data.data @ slopes + bias)))
    return {
        "seconds": seconds,
        "starting_seconds": starting_seconds,
        "dealing_seconds": dealing_seconds,
        "rounds": outputs[0].rounds,
        "megabytes_all": sum(output.bytes_sent for output in outputs) / 1e6,
        "log_loss": float(log_loss(data.target, chance)),
        "area_under_curve": float(roc_auc_score(data.target, chance)),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    runs = [await regression() for _ in range(options.repetitions)]
    report = {
        "machine": {"processors": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()[0]},
        "logistic regression 569x30": {
            **runs[0],
            "seconds": statistics.median(run["seconds"] for run in runs),
            "all_seconds": [run["seconds"] for run in runs],
        },
        **await primitives(options.repetitions),
    }
    if options.json:
        print(json.dumps(report, indent=2))
        return
    for name, figures in report.items():
        print(f"{name}: {figures}")


if __name__ == "__main__":
    asyncio.run(main())
