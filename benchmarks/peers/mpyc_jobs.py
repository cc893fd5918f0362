"""MPyC's jobs beside ours, under the peers' own Python; prints JSON.

    .venv-peers/bin/python benchmarks/peers/mpyc_jobs.py RUNS < table.json

Three parties as processes of this machine, honest but curious, one of three corrupted (Shamir's sharing over a prime
field), over TCP on the loopback interface without TLS. Seconds are the first party's, from a barrier to the result's
shares; starting, connecting and sharing are left out. Fixed-point numbers have 32 bits, 16 of them fractional. Logistic
regression is trained until it has converged, to the log-loss that is printed.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

PARTIES = 3
GRAM_ROWS, GRAM_COLUMNS = 2_000, 100
PRODUCT = 128
COMPARED = 1_000
"""A tenth of our rows and a sixty-fourth of our products: numbers of a prime field are Python's integers there."""
EPOCHS, STEP = 40, 0.6
"""Accelerated steps, and how far each goes; chosen in the clear so that the log-loss comes within 0.02 of
scikit-learn's, 0.053."""


def run_party(table: str, runs: int) -> None:
    """One party: every job, and its seconds on standard output as the last line of the first party."""
    from mpyc.runtime import mpc

    def measured(job: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
        seconds, result = [], None
        for _ in range(runs):
            mpc.run(mpc.barrier())
            began = time.perf_counter()
            result = mpc.run(job())
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds), result

    data = np.array(json.loads(Path(table).read_text()))
    rows, target = data[:, :-1], data[:, -1]
    random = np.random.default_rng(0)
    mpc.run(mpc.start())
    fixed = mpc.SecFxp(32, 16)

    def shared(values: np.ndarray) -> Any:
        return mpc.input(fixed.array(values), senders=0)

    tall = shared(random.normal(size=(GRAM_ROWS, GRAM_COLUMNS)) / 20)
    left, right = (shared(random.normal(size=(PRODUCT, PRODUCT))) for _ in range(2))
    many = shared(random.normal(size=COMPARED))

    async def gram() -> Any:
        return await mpc.gather(tall.T @ tall)

    async def product() -> Any:
        return await mpc.gather(left @ right)

    async def signs() -> Any:
        return await mpc.gather(many < 0)

    report = [
        {"job": f"XᵀX {GRAM_ROWS:,} × {GRAM_COLUMNS}", "seconds": measured(gram)[0]},
        {"job": f"matrix product {PRODUCT}³", "seconds": measured(product)[0]},
        {"job": f"{COMPARED:,} comparisons", "seconds": measured(signs)[0]},
    ]
    table_shares, labels = shared(np.column_stack([rows, np.ones(len(rows))])), shared(target)

    async def logistic() -> Any:
        weights = await _descended(mpc, fixed, table_shares, labels)
        return await mpc.output(weights)

    seconds, weights = measured(logistic)
    logits = np.column_stack([rows, np.ones(len(rows))]) @ np.array(weights, float)
    loss = float(np.mean(np.log1p(np.exp(-np.where(target == 1, logits, -logits)))))
    report.append(
        {"job": f"logistic regression {rows.shape[0]} × {rows.shape[1]}", "seconds": seconds, "log_loss": loss}
    )
    if mpc.pid == 0:
        print(json.dumps(report))
    mpc.run(mpc.shutdown())


async def _descended(mpc: Any, fixed: Any, rows: Any, labels: Any) -> Any:
    """Nesterov's accelerated gradient with a piecewise linear sigmoid of three pieces, as MPyC has none of its own."""
    count, width = rows.shape
    weights = ahead = fixed.array(np.zeros(width))
    for number in range(EPOCHS):
        logits = rows @ ahead
        above, below = logits > 2, logits < -2
        middle = 1 - above - below
        likely = above + middle * (logits / 4 + 0.5)
        slope = rows.T @ (likely - labels) / count
        following = ahead - slope * STEP
        ahead = following + (following - weights) * (number / (number + 3))
        weights = following
        await mpc.throttler(1.0)
    return weights


def main() -> None:
    if f"-M{PARTIES}" in sys.argv:
        run_party(sys.argv[1], int(sys.argv[2]))
        return
    runs = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.json"
        table.write_text(sys.stdin.read())
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        # The first party starts the two others, which listen at the next ports.
        first = [sys.executable, __file__, str(table), str(runs), f"-M{PARTIES}", "-B", str(port), "--no-log"]
        done = subprocess.run(
            first, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    print(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
