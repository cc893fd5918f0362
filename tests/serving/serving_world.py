"""A linear model of three columns, a clock that stands still, and an app on a free port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from koinon.audit.receipt_log import ReceiptLog
from koinon.crypto.hash import sha256
from koinon.kernel.quantities import Seconds, UnixSeconds
from koinon.market.gate import FreeGate, Gate
from koinon.serving.open_inference import OpenInference, Predict, RequestLimits, ServedModel
from koinon.serving.server import Served, serve_app
from koinon.serving.tensors import Signature

WEIGHTS = sha256(b"weights of the test model")
SIGNATURE = Signature("features", "probability", 3)


@dataclass
class StillClock:
    """Time that moves only when a test moves it."""

    now: float = 1_800_000_000.0
    ticks: float = 0.0

    def monotonic(self) -> Seconds:
        return Seconds(self.ticks)

    def unix(self) -> UnixSeconds:
        return UnixSeconds(int(self.now))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.ticks += seconds


@dataclass
class CountedRng:
    """Distinct bytes, the same in every run."""

    count: int = field(default=0)

    def bytes(self, count: int, /) -> bytes:
        self.count += 1
        return sha256(self.count.to_bytes(8, "big"))[:count]


async def mean_of_row(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    return matrix.mean(axis=1, dtype=np.float32)


def served_model(
    predict: Predict = mean_of_row, gate: Gate | None = None, receipts: ReceiptLog | None = None
) -> ServedModel:
    return ServedModel("risk", "1", SIGNATURE, WEIGHTS, predict, gate or FreeGate(), receipts)


@asynccontextmanager
async def running(
    model: ServedModel, limits: RequestLimits | None = None, clock: StillClock | None = None
) -> AsyncIterator[Served]:
    async with serve_app(OpenInference([model], clock or StillClock(), limits)) as served:
        yield served
