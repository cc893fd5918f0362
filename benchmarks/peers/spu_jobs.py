"""SPU's jobs beside ours, under the peers' own Python; prints JSON.

    .venv-peers/bin/python benchmarks/peers/spu_jobs.py RUNS ROUND_TRIP_MILLISECONDS

Three parties (ABY3, 64 bits, honest but curious) as threads of one process. Without a round trip their links are in
memory: no TLS, no processes. With one, they are SPU's own links over loopback through relays that keep every byte for
half of it. Seconds are those of the joint computation; compiling, sharing and opening are left out.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import spu
from sklearn.datasets import load_digits
from sml.cluster.kmeans import KMEANS
from sml.linear_model.logistic import LogisticRegression
from spu import libspu
from spu.utils import frontend

PARTIES = 3
CONFIG = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64)
SECRET = libspu.Visibility.VIS_SECRET
EPOCHS, STEP = 20, 2.0
"""Of sf-sml's descent with all rows in one batch: of 5 to 40 epochs, steps of 0.1 to 2 and batches of 64, 128 and all
rows, tried in the clear, the fewest steps that come to scikit-learn's log-loss + 0.02 with something to spare."""
CLUSTERS, ITERATIONS = 10, 10
LOGISTIC = "logistic regression 569 × 30"
Jobs = dict[str, tuple[Callable[..., Any], list[np.ndarray]]]
"""By name, a function and its secret arguments."""
MOST_MILLISECONDS = 120_000
"""That a party waits for another's message."""


class Run(NamedTuple):
    """Of one job: seconds, its first output, and the log-loss of the regression's model."""

    seconds: float
    opened: np.ndarray
    log_loss: float | None


def once(function: Callable[..., Any], arguments: Sequence[np.ndarray], round_trip: float) -> Run:
    """One run; ``round_trip`` in seconds."""
    names = [f"in{number}" for number in range(len(arguments))]
    compiled, _ = frontend.compile(
        frontend.Kind.JAX,
        function,
        list(arguments),
        {},
        names,
        [SECRET] * len(names),
        lambda outputs: [f"out{number}" for number in range(len(outputs))],
    )
    io = spu.Io(PARTIES, CONFIG)
    shares = [io.make_shares(np.asarray(each, np.float32), SECRET) for each in arguments]
    runtimes = connected(round_trip)
    for runtime, rank in zip(runtimes, range(PARTIES), strict=True):
        for name, each in zip(names, shares, strict=True):
            runtime.set_var(name, each[rank])
    began = time.perf_counter()
    together(lambda rank: runtimes[rank].run(compiled))
    seconds = time.perf_counter() - began
    opened = np.asarray(io.reconstruct([each.get_var(compiled.output_names[0]) for each in runtimes]), float)
    loss = log_loss(opened.reshape(-1), arguments[0], arguments[1][:, 0]) if function is logistic else None
    return Run(seconds, opened, loss)


def connected(round_trip: float) -> list[Any]:
    """The parties' runtimes, once all are there."""
    runtimes: list[Any] = [None] * PARTIES
    ports = free_ports(PARTIES)

    def connect(rank: int) -> None:
        description = libspu.link.Desc()
        description.recv_timeout_ms = MOST_MILLISECONDS
        for other, port in enumerate(ports):
            if not round_trip:
                description.add_party(f"party {other}", f"thread {other}")
            else:
                reached = port if other == rank else relayed(port, round_trip / 2)
                description.add_party(f"party {other}", f"127.0.0.1:{reached}")
        make = libspu.link.create_brpc if round_trip else libspu.link.create_mem
        runtimes[rank] = spu.Runtime(make(description, rank), CONFIG)

    together(connect)
    return runtimes


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def relayed(port: int, delay: float) -> int:
    """A port of its own that leads to ``port`` and hands every byte on ``delay`` seconds after it came."""

    async def serve(found: list[int], ready: threading.Event) -> None:
        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                onward = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:  # the party is not there yet; who connects sees that and tries again
                writer.close()
                return
            await asyncio.gather(carried(reader, onward[1], delay), carried(onward[0], writer, delay))

        server = await asyncio.start_server(between, "127.0.0.1", 0)
        found.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    found: list[int] = []
    ready = threading.Event()
    threading.Thread(target=lambda: asyncio.run(serve(found, ready)), daemon=True).start()
    ready.wait()
    return found[0]


async def carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """One direction of a relay, until its end."""
    loop = asyncio.get_running_loop()
    while piece := await reader.read(1 << 16):
        loop.call_later(delay, writer.write, piece)
    loop.call_later(delay, writer.close)


def together(step: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=step, args=(rank,)) for rank in range(PARTIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def logistic(rows: Any, target: Any) -> Any:
    model = LogisticRegression(penalty="l2", C=1.0, epochs=EPOCHS, batch_size=len(rows), learning_rate=STEP)
    return model.fit(rows, target).weights


def perceptron(x: Any, first: Any, bias: Any, second: Any, shift: Any) -> Any:
    return jax.nn.relu(x @ first + bias) @ second + shift


def convolutional(image: Any, first: Any, bias: Any, second: Any, shift: Any, last: Any, offset: Any) -> Any:
    """Two convolutions 5 × 5 with stride 2 (8 and 16 channels), then a dense layer."""
    over = {"window_strides": (2, 2), "padding": "VALID", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    hidden = jax.nn.relu(jax.lax.conv_general_dilated(image, first, **over) + bias)
    features = jax.nn.relu(jax.lax.conv_general_dilated(hidden, second, **over) + shift)
    return features.reshape(1, 256) @ last + offset


def clusters(rows: Any, centers: Any) -> Any:
    return KMEANS(CLUSTERS, len(rows), init=centers, max_iter=ITERATIONS).fit(rows)._centers


def log_loss(weights: np.ndarray, rows: np.ndarray, target: np.ndarray) -> float:
    """Of the model with the exact sigmoid."""
    logits = rows @ weights[:-1] + weights[-1]
    return float(np.mean(np.log1p(np.exp(-np.where(target == 1, logits, -logits)))))


def main() -> None:
    runs, round_trip = int(sys.argv[1]), float(sys.argv[2]) / 1000
    text = sys.stdin.read()
    near, both = jobs(np.array(json.loads(text)))
    report: list[dict[str, Any]] = []
    for job, (function, arguments) in (near | both).items():
        times = 1 if function is clusters else runs  # a minute each
        found = [once(function, arguments, 0.0) for _ in range(times)]
        report.append(row(job, found, 0.0))
        if function is perceptron:
            report[-1]["checked"] = {
                "inputs": [each.tolist() for each in arguments],
                "output": found[-1].opened.tolist(),
            }
    for job in both if round_trip else ():
        found = [alone(job, text, round_trip) for _ in range(runs)]
        report.append(row(job, found, round_trip))
    print(json.dumps(report))


def jobs(data: np.ndarray) -> tuple[Jobs, Jobs]:
    """What runs on near links alone, and what runs on far ones too."""
    rows, target = data[:, :-1], data[:, -1:]
    digits = load_digits().data / 16
    normal = np.random.default_rng(0).normal
    perceptron_shapes = ((1, 64), (64, 64), (64,), (64, 10), (10,))
    network_shapes = ((1, 28, 28, 1), (5, 5, 1, 8), (8,), (5, 5, 8, 16), (16,), (256, 10), (10,))
    near: Jobs = {
        "XᵀX 20,000 × 100": (lambda x: x.T @ x, [normal(size=(20_000, 100)) / 20]),
        "matrix product 512³": (jnp.matmul, [normal(size=(512, 512)), normal(size=(512, 512))]),
        "k-means, digits, k = 10, 10 iterations": (clusters, [digits, digits[:CLUSTERS]]),
    }
    both: Jobs = {
        "MLP 64-64-10, one answer": (perceptron, [normal(size=shape) for shape in perceptron_shapes]),
        "CNN 28 × 28, one answer": (convolutional, [normal(size=shape) / 4 for shape in network_shapes]),
        LOGISTIC: (logistic, [rows, target]),
    }
    return near, both


def row(job: str, found: Sequence[Run], round_trip: float) -> dict[str, Any]:
    every = [run.seconds for run in found]
    losses = [run.log_loss for run in found if run.log_loss is not None]
    told = {"job": job, "rtt_milliseconds": round_trip * 1000, "seconds": statistics.median(every)}
    return {**told, "all_seconds": every, **({"log_loss": max(losses)} if losses else {})}


def alone(job: str, text: str, round_trip: float) -> Run:
    """One run over far links in a process of its own, as SPU's links do not end cleanly within one that goes on."""
    command = [sys.executable, __file__, "1", str(round_trip * 1000), job]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    seconds, loss = json.loads(done.stdout.splitlines()[-1])
    return Run(seconds, np.empty(0), loss)


def answer_alone() -> None:
    """What ``alone`` starts."""
    function, arguments = jobs(np.array(json.load(sys.stdin)))[1][sys.argv[3]]
    run = once(function, arguments, float(sys.argv[2]) / 1000)
    print(json.dumps([run.seconds, run.log_loss]), flush=True)
    os._exit(0)  # without waiting for links whose other end is gone


if __name__ == "__main__":
    answer_alone() if len(sys.argv) > 3 else main()
