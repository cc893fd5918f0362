"""The child in which a member keeps one model as shares: started with a question, ended after a while without any."""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from typing import Final

from koinon.kernel.errors import Expired, KoinonError, MalformedMessage, Unavailable
from koinon.kernel.quantities import Seconds
from koinon.node.context import Context
from koinon.wire.catalogue import Failure, from_frame, to_frame
from koinon.wire.committee import Listening, OutputPackage, Peer, Prepare
from koinon.wire.failures import error_of
from koinon.wire.inference import AnswerSharedQuestion, KeepSharedModel, SharedQuestionDone
from koinon.worker import Limits, Worker

journal = logging.getLogger("koinon.shared-models")

IDLE_SECONDS: Final = 600.0
"""Without a question, after which the child is ended; the next question starts another."""
_START_SECONDS: Final = 60.0
_LIMITS: Final = Limits(
    memory_bytes=4 * 1024**3,
    cpu_seconds=24 * 3600,
    wall_seconds=Seconds(24 * 3600.0),
    frame_bytes=256 * 1024**2,
    network=True,
)
_TARGET: Final = "koinon.privacy.rep4.answering:main"


class SharedModelChild:
    """One model's child.

    Args:
        model: the model's id.
        position: of this node among the four.
    """

    def __init__(self, context: Context, model: bytes, position: int, kept: KeepSharedModel) -> None:
        self._context = context
        self._model = model
        self._position = position
        self._kept = kept
        self._starting = asyncio.Lock()
        self._worker: Worker | None = None
        self._peer: Peer | None = None
        self._waiting: dict[bytes, asyncio.Future[OutputPackage]] = {}
        self._questions = asyncio.Event()

    async def seat(self) -> Peer:
        """Where the child listens; starts it if need be.

        Raises:
            KoinonError: it could not be started, or refused the model.
        """
        async with self._starting:
            if self._peer is None:
                started: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
                self._context.spawn(self._live(started), f"shared model {self._model.hex()[:8]}")
                return await started
            return self._peer

    async def answer(self, order: AnswerSharedQuestion) -> OutputPackage:
        """Take part in one question.

        Raises:
            KoinonError: as the child says, or because it ended.
        """
        if self._worker is None or order.question in self._waiting:
            raise Unavailable("the node's part of the model is just being started; ask again")
        future: asyncio.Future[OutputPackage] = asyncio.get_running_loop().create_future()
        self._waiting[order.question] = future
        self._questions.set()
        try:
            await self._worker.send(to_frame(order))
            return await future
        finally:
            del self._waiting[order.question]

    def end(self) -> None:
        """End the child; questions that wait fail."""
        if self._worker is not None:
            self._worker.cancel()

    async def _live(self, started: "asyncio.Future[Peer]") -> None:
        problem: KoinonError = Unavailable("the node's part of the model has ended; ask again")
        try:
            async with AsyncExitStack() as stack:
                worker = await stack.enter_async_context(Worker.start(_TARGET, _LIMITS))
                peer = await self._begun(worker)
                self._worker, self._peer = worker, peer
                started.set_result(peer)
                await self._hear(worker)
        except KoinonError as ended:
            problem = ended
            journal.warning("shared model %s: %s", self._model.hex()[:8], ended)
        finally:
            self._worker = self._peer = None
            if not started.done():
                started.set_exception(problem)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(problem)

    async def _begun(self, worker: Worker) -> Peer:
        from koinon.privacy.seats import certify

        context = self._context
        prepare = Prepare(self._model, self._position, context.rng.bytes(32), context.config.host)
        await worker.send(to_frame(prepare))
        await worker.send(to_frame(self._kept))
        try:
            async with asyncio.timeout(_START_SECONDS):
                listening = from_frame(await worker.receive())
        except TimeoutError:
            raise Expired("the child did not open the model in time") from None
        if isinstance(listening, Failure):
            raise error_of(listening)
        if not isinstance(listening, Listening):
            raise MalformedMessage("the child did not say where it listens")
        certificate = certify(context.keys.node, self._model, self._position, listening.ephemeral)
        return Peer(context.keys.node.node_id, listening.ephemeral, certificate, context.config.host, listening.port)

    async def _hear(self, worker: Worker) -> None:
        """Pass on what the child says until it ends, or nobody has asked for a while."""
        idle = asyncio.create_task(self._end_when_idle(worker), name="idle shared model")
        try:
            while True:
                done = from_frame(await worker.receive())
                if isinstance(done, Failure):
                    raise error_of(done)
                if not isinstance(done, SharedQuestionDone):
                    raise MalformedMessage("the child sent what belongs to no question")
                future = self._waiting.get(done.question)
                if future is None or future.done():
                    continue
                if done.package is not None:
                    future.set_result(done.package)
                else:
                    future.set_exception(error_of(Failure(done.kind, done.sentence)))
        except Unavailable:
            if not idle.done():
                raise
        finally:
            idle.cancel()

    async def _end_when_idle(self, worker: Worker) -> None:
        while True:
            self._questions.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._questions.wait()
                continue
            if not self._waiting:
                worker.cancel()
                return
