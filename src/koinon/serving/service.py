"""One service of a node: a model, its door, its receipts and its port, opened and closed together."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from koinon.audit.receipt_log import ReceiptLog
from koinon.contracts.eip712 import Domain
from koinon.crypto.signature import NodeKey
from koinon.kernel.effects import Clock, Rng
from koinon.kernel.errors import KoinonError, Unavailable
from koinon.kernel.ids import Address, Hash32, to_hex
from koinon.kernel.quantities import TokenAmount
from koinon.market.gate import FreeGate, MarketReader, MeteredGate
from koinon.market.payments import Payment, Terms
from koinon.market.vouchers import Voucher
from koinon.serving.open_inference import OpenInference, Predict, ServedModel
from koinon.serving.requests import RequestLimits
from koinon.serving.server import Served, serve_app
from koinon.serving.tensors import Signature

_LATENCIES_KEPT: Final = 1024


@dataclass(frozen=True)
class ServiceConfig:
    """What a node serves and for how much.

    Attributes:
        name: as callers ask for it, such as ``tumour-risk.clinic``.
        weights: SHA-256 of the ONNX bytes that ``predict`` runs.
        host: address to listen on; loopback unless told.
        port: 0 takes a free one.
    """

    name: str
    version: str
    signature: Signature
    weights: Hash32
    terms: Terms
    host: str = "127.0.0.1"
    port: int = 0
    limits: RequestLimits = field(default_factory=RequestLimits)


@dataclass(frozen=True)
class Till:
    """Where the money of a metered service goes, and how to ask the chain about it."""

    domain: Domain
    receiver: Address
    reader: MarketReader


@dataclass(frozen=True)
class ServiceStatus:
    """Numbers of a running service since it was opened, but ``receipts``, ``batches`` and ``earned`` since ever.

    Attributes:
        refused: calls refused, by HTTP status.
        unanchored: receipts in signed batches that are not on the chain.
        median_seconds, slowest_seconds: of the model alone, over the last 1024 calls; 0 where there was none.
    """

    url: str
    answered: int
    refused: dict[int, int]
    receipts: int
    batches: int
    unanchored: int
    earned: TokenAmount
    median_seconds: float
    slowest_seconds: float


class Service:
    """A running service. Open it with ``open_service``."""

    def __init__(
        self, config: ServiceConfig, predict: Predict, receipts: ReceiptLog, gate: FreeGate | MeteredGate, clock: Clock
    ) -> None:
        self.config = config
        self.receipts = receipts
        self._gate = gate
        self._clock = clock
        self._predict = predict
        self._latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)
        self._served: Served | None = None
        self._failing = False
        self.app = OpenInference([self._served_model()], clock, config.limits)

    @property
    def url(self) -> str:
        """Where the service answers."""
        if self._served is None:
            raise Unavailable(f"service {self.config.name!r} is not listening yet")
        return self._served.url

    async def claims(self) -> tuple[Voucher, ...]:
        """Vouchers worth settling on the chain now. Raises Unavailable if the chain cannot be asked."""
        return await self._gate.claims() if isinstance(self._gate, MeteredGate) else ()

    def status(self) -> ServiceStatus:
        """Numbers for the operator."""
        latencies = sorted(self._latencies)
        return ServiceStatus(
            url=self.url,
            answered=self.app.answered,
            refused=dict(self.app.refused),
            receipts=self.receipts.count,
            batches=self.receipts.batches,
            unanchored=sum(anchor.count for anchor in self.receipts.pending_anchors()),
            earned=self._gate.earned() if isinstance(self._gate, MeteredGate) else TokenAmount(0),
            median_seconds=latencies[len(latencies) // 2] if latencies else 0.0,
            slowest_seconds=latencies[-1] if latencies else 0.0,
        )

    def _served_model(self) -> ServedModel:
        config, terms = self.config, self.config.terms
        parameters: dict[str, str | int | bool] = {
            "service": terms.service,
            "price": str(terms.price),
            "pass_required": terms.pass_required,
            "node": to_hex(self.receipts.node),
        }
        return ServedModel(
            name=config.name,
            version=config.version,
            signature=config.signature,
            weights=config.weights,
            predict=self._timed_predict,
            gate=self._gate,
            receipts=self.receipts,
            parameters=parameters,
            ready=lambda: not self._failing,
        )

    async def _timed_predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        began = self._clock.monotonic()
        try:
            answer = await self._predict(matrix)
        except KoinonError:
            self._failing = True
            raise
        self._failing = False
        self._latencies.append(self._clock.monotonic() - began)
        return answer


@asynccontextmanager
async def open_service(
    config: ServiceConfig,
    predict: Predict,
    key: NodeKey,
    log_path: Path,
    *,
    clock: Clock,
    rng: Rng,
    till: Till | None = None,
) -> AsyncIterator[Service]:
    """Open log, books and port of a service, and close them in order: callers first, then the last batch, then the log.

    Args:
        config: what is served, and for how much.
        predict: the sandboxed model, open for as long as the service.
        key: the node's key, which signs receipt batches.
        log_path: the receipt log; the books of channels and passes are rebuilt from it.
        clock: the node's clock.
        rng: random bytes for the salts of receipts.
        till: required unless the service is free.

    Raises:
        InvalidInput: a priced service without a till, or a log of another service or node.
        Forged: the log is damaged before its end.
        Unavailable: the port or the log is in use.
    """
    history: list[Payment] = []
    receipts = await ReceiptLog.open(log_path, config.terms.service, key, rng=rng, clock=clock, replay=history.append)
    try:
        service = Service(config, predict, receipts, _gate(config.terms, till, clock, history), clock)
        history.clear()
        async with serve_app(service.app, config.host, config.port) as served:
            service._served = served
            yield service
    finally:
        await receipts.close()


def _gate(terms: Terms, till: Till | None, clock: Clock, history: list[Payment]) -> FreeGate | MeteredGate:
    if terms.free:
        return FreeGate()
    if till is None:
        raise Unavailable(f"service {terms.service} has a price, but no chain to be paid on; connect the node to one")
    return MeteredGate(terms, till.domain, till.receiver, till.reader, clock, history)
