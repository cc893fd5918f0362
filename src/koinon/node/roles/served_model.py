"""A model that outlives its children: when the sandbox dies, it is opened again; callers wait or are told."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

from koinon.kernel.errors import Expired, KoinonError, Unavailable
from koinon.models.sandbox import SandboxedModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from koinon.models.frames import ModelMetadata

journal = logging.getLogger("koinon.service")

WAIT_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 30.0


class ServedSandbox:
    """Opens a model in a sandbox, and again each time that one fails. Made by ``ServedSandbox.open``."""

    def __init__(self, onnx: bytes) -> None:
        self._onnx = onnx
        self._model: SandboxedModel | None = None
        self._open = asyncio.Event()
        self._lost = asyncio.Event()
        self.losses = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, onnx: bytes) -> AsyncIterator[Self]:
        """A model that is ready; its child ends with the block.

        Raises:
            InvalidInput: the sandbox refuses the model.
            Unavailable, Expired: the first child could not be started.
        """
        served = cls(onnx)
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keeping = asyncio.create_task(served._keep_open(first), name="served model")
        try:
            await asyncio.wait([first, keeping], return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                await keeping  # raises what ended it
            await first
            yield served
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    @property
    def metadata(self) -> "ModelMetadata":
        """Inputs and outputs. Raises Unavailable while the model is being opened again."""
        if self._model is None:
            raise Unavailable("the model is being opened again; try again in a moment")
        return self._model.metadata()

    async def predict(self, rows: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """As ``SandboxedModel.predict``; a call whose child dies fails, and the next one finds a fresh child."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._open.wait()
        except TimeoutError:
            raise Unavailable("the model is being opened again; try again in a moment") from None
        model = self._model
        assert model is not None  # open is set only while there is one
        try:
            return await model.predict(rows)
        except Unavailable:
            if model is self._model:  # only the first of the calls that this child fails
                self._model = None
                self._open.clear()
                self._lost.set()
            raise

    async def _keep_open(self, first: "asyncio.Future[None]") -> None:
        """Enter and leave every sandbox in this one task, as its children's scopes demand."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with SandboxedModel.open(self._onnx) as model:
                    self._model = model
                    self._lost.clear()
                    self._open.set()
                    if not first.done():
                        first.set_result(None)
                    pause = FIRST_PAUSE_SECONDS
                    await self._lost.wait()
                    self.losses += 1
                    journal.warning("the model's process was lost; opening it again")
            except KoinonError as problem:
                if not first.done():
                    first.set_exception(problem)
                    return
                kind = "too late" if isinstance(problem, Expired) else "not possible"
                journal.warning("opening the model again was %s: %s", kind, problem)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
