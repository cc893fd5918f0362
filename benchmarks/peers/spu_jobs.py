"""SPU's jobs beside ours, under the peers' own Python; prints JSON.

    .venv-peers/bin/python benchmarks/peers/spu_jobs.py RUNS

Three parties (ABY3, 64 bits, honest but curious) as threads of one process with links in memory: no TLS, no processes.
Seconds are those of the joint computation; compiling, sharing and opening are left out.
"""

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spu
from sml.linear_model.logistic import LogisticRegression
from spu import libspu
from spu.utils import frontend

PARTIES = 3
CONFIG = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64)
SECRET = libspu.Visibility.VIS_SECRET


def timed(function: Callable[..., Any], arguments: Sequence[np.ndarray], runs: int) -> tuple[float, Any]:
    """Median seconds of ``runs`` runs, and the last result."""
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
    io, seconds, opened = spu.Io(PARTIES, CONFIG), [], None
    for _ in range(runs):
        shares = [io.make_shares(np.asarray(each, np.float32), SECRET) for each in arguments]
        description = libspu.link.Desc()
        for rank in range(PARTIES):
            description.add_party(f"party {rank}", f"thread {rank}")
        runtimes: list[Any] = [None] * PARTIES

        together(lambda rank: connected(rank, description, runtimes))  # noqa: B023  # called in this very pass
        for runtime, rank in zip(runtimes, range(PARTIES), strict=True):
            for name, each in zip(names, shares, strict=True):
                runtime.set_var(name, each[rank])
        began = time.perf_counter()
        together(lambda rank: runtimes[rank].run(compiled))  # noqa: B023  # called in this very pass
        seconds.append(time.perf_counter() - began)
        outputs = [[each.get_var(name) for each in runtimes] for name in compiled.output_names]
        opened = [io.reconstruct(each) for each in outputs]
    return statistics.median(seconds), opened


def connected(rank: int, description: Any, runtimes: list[Any]) -> None:
    """Put the party's runtime in its place; it returns once all are there."""
    runtimes[rank] = spu.Runtime(libspu.link.create_mem(description, rank), CONFIG)


def together(step: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=step, args=(rank,)) for rank in range(PARTIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def logistic(rows: Any, target: Any) -> Any:
    model = LogisticRegression(penalty="l2", C=1.0, epochs=5, batch_size=64, learning_rate=0.1)
    return model.fit(rows, target).predict_proba(rows)


def perceptron(x: Any, first: Any, bias: Any, second: Any, shift: Any) -> Any:
    return jax.nn.relu(x @ first + bias) @ second + shift


def main() -> None:
    runs = int(sys.argv[1])
    random = np.random.default_rng(0)
    data = np.array(json.load(sys.stdin))
    rows, target = data[:, :-1], data[:, -1:]
    normal = random.normal
    found = {
        "XᵀX 20,000 × 100": timed(lambda x: x.T @ x, [normal(size=(20_000, 100)) / 20], runs)[0],
        "matrix product 512³": timed(jnp.matmul, [normal(size=(512, 512)), normal(size=(512, 512))], runs)[0],
        "MLP 64-64-10, one answer": timed(
            perceptron, [normal(size=shape) for shape in ((1, 64), (64, 64), (64,), (64, 10), (10,))], runs
        )[0],
    }
    seconds, opened = timed(logistic, [rows, target], runs)
    likely = np.clip(np.asarray(opened[0]).reshape(-1), 1e-6, 1 - 1e-6)
    loss = -np.log(np.where(target[:, 0] == 1, likely, 1 - likely)).mean()
    report = [{"job": job, "seconds": each} for job, each in found.items()]
    report.append({"job": "logistic regression 569 × 30", "seconds": seconds, "log_loss": float(loss)})
    print(json.dumps(report))


if __name__ == "__main__":
    main()
