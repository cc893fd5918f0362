"""From a model package on this node's disk to a running service, with the model in its own child all the while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from koinon.crypto.hpke import HpkeKey
from koinon.crypto.signature import NodeKey
from koinon.kernel.effects import Clock, Rng
from koinon.kernel.errors import Expired, InvalidInput, Unavailable
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import Seconds
from koinon.market.payments import Terms
from koinon.models.frames import ModelMetadata
from koinon.models.package import open_model
from koinon.models.sandbox import DEFAULT_SANDBOX_LIMITS, SandboxedModel, SandboxLimits
from koinon.serving.requests import RequestLimits
from koinon.serving.service import Service, ServiceConfig, Till, open_service
from koinon.serving.tensors import Signature
from koinon.store.blobs import BlobStore, Cid

FIRST_PAUSE: Final = Seconds(0.5)
LONGEST_PAUSE: Final = Seconds(60.0)
"""A model whose child keeps dying is started again ever more rarely."""


class LivingModel:
    """A sandboxed model that is opened again when its child has died. Made by ``LivingModel.open``.

    Attributes:
        deaths: how often the child died.
    """

    def __init__(self, onnx_bytes: bytes, limits: SandboxLimits, clock: Clock) -> None:
        self._onnx_bytes = onnx_bytes
        self._limits = limits
        self._clock = clock
        self._stack = AsyncExitStack()
        self._model: SandboxedModel | None = None
        self._opening = asyncio.Lock()
        self._not_before = -LONGEST_PAUSE
        self._pause = FIRST_PAUSE
        self.deaths = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, onnx_bytes: bytes, limits: SandboxLimits, clock: Clock) -> AsyncIterator[Self]:
        """Start the model. Raises as ``SandboxedModel.open``; such a model is not served at all."""
        model = cls(onnx_bytes, limits, clock)
        await model._living()
        try:
            yield model
        finally:
            await model._stack.aclose()

    async def metadata(self) -> ModelMetadata:
        """Inputs and outputs."""
        return (await self._living()).metadata()

    async def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """One answer per row. Raises as ``SandboxedModel.predict``; Unavailable while the model is being restarted."""
        model = await self._living()
        try:
            answer = await model.predict(rows)
        except (Expired, Unavailable):
            await self._bury(model)
            raise
        self._pause = FIRST_PAUSE
        return answer

    async def _living(self) -> SandboxedModel:
        async with self._opening:
            if self._model is None:
                left = self._not_before - self._clock.monotonic()
                if left > 0:
                    raise Unavailable(f"the model stopped and is started again in {max(left, 0.1):.1f} s")
                self._stack = AsyncExitStack()
                self._model = await self._stack.enter_async_context(SandboxedModel.open(self._onnx_bytes, self._limits))
            return self._model

    async def _bury(self, dead: SandboxedModel) -> None:
        async with self._opening:
            if self._model is not dead:
                return
            self._model = None
            self.deaths += 1
            self._not_before = self._clock.monotonic() + self._pause
            self._pause = Seconds(min(2 * self._pause, LONGEST_PAUSE))
            await self._stack.aclose()


@dataclass(frozen=True)
class Deployment:
    """What a publisher asks a node to serve.

    Attributes:
        name: as callers ask for it.
        package: CID of the model package, whose blobs are on this node.
        weights: hash that the name stands for; the package must hold exactly these weights.
        host: address to listen on; loopback unless told.
        port: 0 takes a free one.
    """

    name: str
    package: Cid
    weights: Hash32
    terms: Terms
    version: str = "1"
    host: str = "127.0.0.1"
    port: int = 0


@asynccontextmanager
async def serve_package(
    deployment: Deployment,
    blobs: BlobStore,
    opener: HpkeKey,
    key: NodeKey,
    log_path: Path,
    *,
    clock: Clock,
    rng: Rng,
    till: Till | None = None,
    sandbox: SandboxLimits = DEFAULT_SANDBOX_LIMITS,
    limits: RequestLimits | None = None,
) -> AsyncIterator[Service]:
    """Decrypt a package, start its model in a child, and serve it until the context ends.

    Raises:
        Forged: a blob was changed, or the weights are not those the name stands for.
        InvalidInput: the file is no model that can run here.
        Refused: the package is not granted to ``opener``.
        Unavailable: a blob is missing, or the port or log is in use.
    """
    _, onnx_bytes = await asyncio.to_thread(open_model, blobs, deployment.package, opener, deployment.weights)
    async with LivingModel.open(onnx_bytes, sandbox, clock) as model:
        config = ServiceConfig(
            name=deployment.name,
            version=deployment.version,
            signature=_signature(await model.metadata()),
            weights=deployment.weights,
            terms=deployment.terms,
            host=deployment.host,
            port=deployment.port,
            limits=limits or RequestLimits(),
        )
        async with open_service(config, model.predict, key, log_path, clock=clock, rng=rng, till=till) as service:
            yield service


def _signature(metadata: ModelMetadata) -> Signature:
    if not metadata.columns:
        raise InvalidInput("the model does not take rows of numbers and answer one number each; only such are served")
    # A classifier has its class beside its probability; the sandbox answers with the latter.
    output = next((output for output in metadata.outputs if output.name.startswith("prob")), metadata.outputs[0])
    return Signature(metadata.inputs[0].name, output.name, metadata.columns)
