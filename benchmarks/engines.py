"""What `koinon study estimate` says of the engines federated and he, beside what they take on this machine.

    PYTHONPATH=src python benchmarks/engines.py
    PYTHONPATH=src python benchmarks/engines.py --json --repetitions 3

Three owners of scikit-learn's breast-cancer rows (569 × 30). Four member processes over TLS, and a child process for
every owner, as in a study; wall-clock seconds from their start until the result is open, medians of the repetitions,
and processor seconds of all of them together. Rounds and bytes are held against counted ones in
``tests/privacy/test_engine_costs.py``.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

import numpy as np
from sklearn.datasets import load_breast_cancer

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.net.transport import Transport
from koinon.privacy.backend import named_outputs
from koinon.privacy.encrypted import keeper
from koinon.privacy.encrypted import studies as encrypted
from koinon.privacy.engines import Network, engine_named
from koinon.privacy.federated import studies as federated
from koinon.privacy.federated.contributing import contribute
from koinon.privacy.federated.links import Roster, link_label
from koinon.privacy.federated.worker import local_training
from koinon.privacy.opening import reconstruct_words
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import FRACTION_BITS, Layout, Parameters, settings_from
from koinon.privacy.seats import certify, dialled, endpoint_of
from koinon.privacy.sharing import Dealing, attest, sealed_commitments
from koinon.wire.catalogue import from_frame, to_frame
from koinon.wire.committee import POSITIONS, Column, Input, Listening, Output, Peer, Prepare, Progress, Run
from koinon.worker import Limits, Worker

OWNERS: Final = 3
SECONDS: Final = Seconds(600.0)
LIMITS: Final = Limits(network=True, cpu_seconds=600, wall_seconds=SECONDS, frame_bytes=256 * 1024**2)
TARGET: Final = "malignant"
STATISTICS: Final = ("mean", "variance", "correlation")
STUDIES: Final[tuple[tuple[str, str, tuple[str, ...], str], ...]] = (
    ("federated", "statistics/1", STATISTICS, ""),
    ("federated", "linear-regression/1", (), TARGET),
    ("federated", "naive-bayes/1", (), TARGET),
    ("federated", "logistic-regression/1", ("coefficients", "intercept"), TARGET),
    ("he", "statistics/1", STATISTICS, ""),
    ("he", "linear-regression/1", (), TARGET),
    ("he", "naive-bayes/1", (), TARGET),
)
"""Engine, program, outputs (all where none are named) and target."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repetitions", type=int, default=1)
    options = parser.parse_args()
    runs = [measured(*study, options.repetitions) for study in STUDIES]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    report = {"machine": machine, "owners": OWNERS, "repetitions": options.repetitions, "runs": runs}
    if options.json:
        print(json.dumps(report))
        return
    print(machine)
    print(f"{'engine':10} {'program':24} {'estimate s':>10} {'measured s':>10} {'ratio':>6} {'CPU s':>6}")
    for run in runs:
        print(
            f"{run['engine']:10} {run['program']:24} {run['estimated_seconds']:10.2f} {run['seconds']:10.2f}"
            f" {run['seconds'] / run['estimated_seconds']:6.2f} {run['processor_seconds']:6.2f}"
        )


def measured(engine: str, name: str, outputs: tuple[str, ...], target: str, repetitions: int) -> dict[str, Any]:
    columns, parts = rows()
    offer = registry.offer(name)
    layout = Layout(tuple(map(len, parts)), columns, target)
    parameters = Parameters(layout, settings_from(offer, {}), outputs or offer.outputs)
    program = registry.load(name, encode(parameters))
    cost = engine_named(engine).cost(program, parameters, Network())
    taken = []
    for _ in range(repetitions):
        began, used = time.perf_counter(), processor_seconds()
        values = asyncio.run(WAYS[engine](name, parameters, parts))
        taken.append((time.perf_counter() - began, processor_seconds() - used))
        assert set(named_outputs(program, values)) == set(parameters.outputs)
    return {
        "engine": engine,
        "program": name,
        "estimated_seconds": round(cost.seconds, 2),
        "seconds": round(statistics.median(each[0] for each in taken), 2),
        "processor_seconds": round(statistics.median(each[1] for each in taken), 2),
    }


def rows() -> tuple[tuple[Column, ...], list[np.ndarray]]:
    """Public ranges of the columns, and every owner's rows."""
    data = load_breast_cancer()
    table = np.column_stack([data.data, 1.0 - data.target])
    names = (*map(str, data.feature_names), TARGET)
    lows, highs = table.min(0), table.max(0)
    columns = tuple(Column(*each) for each in zip(names, lows.tolist(), highs.tolist(), strict=True))
    return columns, [table[number::OWNERS] for number in range(OWNERS)]


def processor_seconds() -> float:
    """Of this process and of all its children that have ended."""
    found = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in found)


# ----------------------------------------------------------------------------------------------------- a committee


def owner(number: int) -> NodeKey:
    return NodeKey.from_seed(bytes([200 + number]) * 32)


def member(position: int) -> NodeKey:
    return NodeKey.from_seed(bytes([100 + position]) * 32)


async def seated(stack: AsyncExitStack, engine: str, session: bytes) -> tuple[list[Worker], tuple[Peer, ...]]:
    """Four workers of the engine that have started, and where they listen."""
    target = engine_named(engine).worker
    starting = (stack.enter_async_context(Worker.start(target, LIMITS)) for _ in POSITIONS)
    workers = list(await asyncio.gather(*starting))
    peers = []
    for position, worker in enumerate(workers):
        await worker.send(to_frame(Prepare(session, position, os.urandom(32), "127.0.0.1")))
        listening = from_frame(await worker.receive())
        assert isinstance(listening, Listening)
        certificate = certify(member(position), session, position, listening.ephemeral)
        peers.append(Peer(member(position).node_id, listening.ephemeral, certificate, "127.0.0.1", listening.port))
    return workers, tuple(peers)


async def opened(
    workers: list[Worker], peers: tuple[Peer, ...], engine: str, name: str, parameters: Parameters,
    inputs: tuple[Input, ...], session: bytes,
) -> np.ndarray:  # fmt: skip
    """Give the four their orders, and put together what three of them hand over."""
    run = Run(
        peers=(peers[0], peers[1], peers[2], peers[3]),
        program=name,
        algorithm=registry.algorithm_hash(name, engine),
        parameters=encode(parameters),
        result_party=bytes(32),
        inputs=inputs,
        deadline_seconds=float(SECONDS),
        silence_seconds=float(SECONDS),
    )

    async def answer(worker: Worker) -> Output:
        await worker.send(to_frame(run))
        while isinstance(message := from_frame(await worker.receive()), Progress):
            pass
        assert isinstance(message, Output), message
        return message

    outputs = await asyncio.gather(*map(answer, workers))
    words, _, liars = reconstruct_words([each.package for each in outputs[:3]], session, outputs[0].output_digest)
    assert liars == ()
    return words


# ----------------------------------------------------------------------------------------------------- the engines


async def adding_where_rows_lie(name: str, parameters: Parameters, parts: list[np.ndarray]) -> np.ndarray:
    session, layout = os.urandom(32), parameters.layout
    plan = federated.plan_of(name, parameters)
    dealing = Dealing(session, 0, bytes(32))
    inputs = tuple(
        Input(attest(len(part), layout.columns, FRACTION_BITS, dealing, owner(number)))
        for number, part in enumerate(parts)
    )
    async with AsyncExitStack() as stack:
        workers, peers = await seated(stack, "federated", session)
        names = tuple(owner(number).node_id for number in range(OWNERS))
        roster = Roster(session, NodeId(peers[0].ephemeral), names, tuple(NodeId(peer.node) for peer in peers[1:]))

        async def take_part(number: int) -> None:
            own = federated.rows_of(plan, parts[number], layout)
            async with (
                Transport.open(owner(number), "127.0.0.1") as transport,
                local_training(plan, OWNERS, number, own, SECONDS) as child,
            ):
                link = await dialled(transport, endpoint_of(peers[0]), link_label(session), SECONDS)
                key = owner(number)
                await contribute(plan, roster, number, key, link, child.words, SystemRng(), SECONDS)
                await link.close()

        ordered = opened(workers, peers, "federated", name, parameters, inputs, session)
        words, *_ = await asyncio.gather(ordered, *map(take_part, range(OWNERS)))
    return np.asarray(words.view(np.int64) / 2.0**FRACTION_BITS)


async def adding_ciphertexts(name: str, parameters: Parameters, parts: list[np.ndarray]) -> np.ndarray:
    session, layout = os.urandom(32), parameters.layout
    program = encrypted.check(name, parameters)
    dealing = Dealing(session, 0, bytes(32))

    async def sealed(number: int) -> Input:
        data = await keeper.encrypt(keys.public, encrypted.sums_of(parts[number], layout, program))
        commitments = sealed_commitments(data)
        manifest = attest(len(parts[number]), layout.columns, layout.fraction_bits, dealing, owner(number), commitments)
        return Input(manifest, None, data)

    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(seated(stack, "he", session))
        keys = await keeper.make_keys()
        inputs = tuple(await asyncio.gather(*map(sealed, range(OWNERS))))
        workers, peers = await starting
        words = await opened(workers, peers, "he", name, parameters, inputs, session)
    total = await keeper.open_total(keys.secret, encrypted.from_words(words), program.length)
    return encrypted.outputs_of(total, parameters, program)


WAYS: Final[dict[str, Callable[[str, Parameters, list[np.ndarray]], Coroutine[Any, Any, np.ndarray]]]] = {
    "federated": adding_where_rows_lie,
    "he": adding_ciphertexts,
}


if __name__ == "__main__":
    main()
