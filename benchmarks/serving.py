"""What a served answer costs: CPU of the server process per request, plain, with receipts, and fully metered.

The server runs in a process of its own; only its CPU time is counted. The model is a mean of a row, so the numbers are
the price of the protocol, the receipts and the payment checks alone. Run: ``python benchmarks/serving.py [--json]``.
"""

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.connection
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from koinon.audit.receipt_log import ReceiptLog
from koinon.contracts.eip712 import channels_domain
from koinon.crypto.hash import sha256
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Seconds, TokenAmount, UnixSeconds
from koinon.market.channels import Channel
from koinon.market.gate import FreeGate, MeteredGate
from koinon.market.passes import Pass
from koinon.market.payments import Terms
from koinon.market.vouchers import format_voucher, sign_voucher
from koinon.serving.open_inference import OpenInference, ServedModel
from koinon.serving.server import serve_app
from koinon.serving.tensors import Signature

COLUMNS = 30
CONNECTIONS = 16
FAR_FUTURE = UnixSeconds(4_000_000_000)
DOMAIN = channels_domain(ChainId(1), Address(bytes(20)))
BUYER = AccountKey.from_secret(sha256(b"buyer"))
RECEIVER = Address(bytes(19) + b"\x01")
MODES = ("plain", "receipts", "metered")


class SystemClock:
    def monotonic(self) -> Seconds:
        return Seconds(time.monotonic())

    def unix(self) -> UnixSeconds:
        return UnixSeconds(int(time.time()))


class OpenMarket:
    """Every channel is open and every pass is the buyer's, so that the chain costs nothing here."""

    async def channel(self, identifier: Hash32, /) -> Channel:
        return Channel(identifier, BUYER.address, RECEIVER, 1, TokenAmount(10**12), TokenAmount(0), FAR_FUTURE)

    async def pass_(self, number: int, /) -> Pass:
        return Pass(number, 1, BUYER.address, 10**9, FAR_FUTURE)


async def mean_of_row(matrix: np.ndarray) -> np.ndarray:
    return matrix.mean(axis=1, dtype=np.float32)


async def serve(mode: str, folder: Path, pipe: multiprocessing.connection.Connection) -> None:
    """Serve until asked for the CPU time, then say it."""
    clock = SystemClock()
    log = None
    if mode != "plain":
        key = NodeKey.from_seed(sha256(b"node"))
        log = await ReceiptLog.open(folder / mode, 1, key, rng=SystemRng(), clock=clock)
    gate = (
        MeteredGate(Terms(1, TokenAmount(1), True), DOMAIN, RECEIVER, OpenMarket(), clock)
        if mode == "metered"
        else FreeGate()
    )
    model = ServedModel(
        "risk", "1", Signature("features", "probability", COLUMNS), sha256(b"w"), mean_of_row, gate, log
    )
    loop = asyncio.get_running_loop()
    async with serve_app(OpenInference([model], clock)) as served:
        pipe.send(served.port)
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send(time.process_time())
    if log is not None:
        await log.close()


def child(mode: str, folder: Path, pipe: multiprocessing.connection.Connection) -> None:
    import uvloop

    uvloop.run(serve(mode, folder, pipe))


def requests_of(mode: str, binary: bool, rows: int, connection: int) -> Callable[[int], bytes]:
    """Bytes of the n-th request of a connection, which has a channel of its own."""
    matrix = np.arange(rows * COLUMNS, dtype=np.float32).reshape(rows, COLUMNS)
    tensor: dict[str, object] = {"name": "features", "shape": [rows, COLUMNS], "datatype": "FP32"}
    if binary:
        header = json.dumps(
            {
                "inputs": [{**tensor, "parameters": {"binary_data_size": matrix.nbytes}}],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        body, extra = header + matrix.tobytes(), f"Inference-Header-Content-Length: {len(header)}\r\n"
    else:
        body, extra = json.dumps({"inputs": [{**tensor, "data": matrix.ravel().tolist()}]}).encode(), ""
    channel = sha256(b"%d%d%d" % (connection, binary, rows))

    def build(number: int) -> bytes:
        payment = ""
        if mode == "metered":
            voucher = sign_voucher(BUYER, DOMAIN, channel, TokenAmount((number + 1) * rows))
            payment = f"Koinon-Pass: 1\r\nKoinon-Voucher: {format_voucher(voucher)}\r\n"
        head = f"POST /v2/models/risk/infer HTTP/1.1\r\nHost: x\r\n{extra}{payment}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    return build


async def call(port: int, prepared: list[bytes]) -> list[float]:
    """One connection that sends its requests one after the other; seconds each took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seconds = []
    for each in prepared:
        began = time.perf_counter()
        writer.write(each)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"\r\ncontent-length: ")[1].split(b"\r")[0]))
        seconds.append(time.perf_counter() - began)
        if b" 200 " not in head[:20]:
            raise RuntimeError(head.decode())
    writer.close()
    await writer.wait_closed()
    return seconds


async def load(port: int, prepared: list[list[bytes]]) -> list[float]:
    return [each for seconds in await asyncio.gather(*(call(port, one) for one in prepared)) for each in seconds]


def measure(mode: str, calls: int, repeats: int, folder: Path) -> list[dict[str, object]]:
    """CPU of one server over all forms of request; the median of ``repeats`` runs each."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=child, args=(mode, folder, there), daemon=True)
    process.start()
    port = here.recv()
    results: list[dict[str, object]] = []

    def cpu() -> float:
        here.send(True)
        return float(here.recv())

    for binary, rows, connections in (
        (False, 1, CONNECTIONS),
        (True, 1, CONNECTIONS),
        (True, 32, CONNECTIONS),
        (False, 1, 1),
    ):
        builds = [requests_of(mode, binary, rows, number + 1000 * connections) for number in range(connections)]
        each = calls // connections
        costs, latencies = [], []
        for repeat in range(repeats):
            prepared = [[build(repeat * each + number) for number in range(each)] for build in builds]
            before = cpu()
            latencies += asyncio.run(load(port, prepared))
            costs.append((cpu() - before) / (each * connections) * 1e6)
        latencies.sort()
        results.append(
            {
                "mode": mode,
                "form": "binary" if binary else "json",
                "rows": rows,
                "connections": connections,
                "cpu_microseconds": round(statistics.median(costs), 1),
                "p50_milliseconds": round(latencies[len(latencies) // 2] * 1e3, 2),
                "p99_milliseconds": round(latencies[int(len(latencies) * 0.99)] * 1e3, 2),
            }
        )
    here.send(False)
    process.join(30)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [result for mode in MODES for result in measure(mode, options.calls, options.repeats, Path(folder))]
    report = {"benchmark": "serving", "cores": os.cpu_count(), "load": os.getloadavg()[0], "results": results}
    if options.json:
        print(json.dumps(report, indent=1))
        return
    for each in results:
        print(*(f"{key}={value}" for key, value in each.items()))


if __name__ == "__main__":
    main()
