"""The parent's side: start a child, talk to it, watch the clock, know how it ended, leave nothing running."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Self

from msgspec import structs

from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Expired, InvalidInput, KoinonError, MalformedMessage, Unavailable
from koinon.kernel.quantities import Seconds
from koinon.wire.catalogue import Failure
from koinon.wire.failures import error_of
from koinon.wire.frames import Buffer
from koinon.worker.channel import DATA, FAILED, READY, FrameQueue, as_parts, open_queue
from koinon.worker.limits import Exit, ExitReason, Limits, classify_exit

_KEPT_OUTPUT_BYTES: Final = 64 * 1024
_SOCKET_BYTES: Final = 1024 * 1024
_LINGER_SECONDS: Final = 5.0
"""How long a child may live after it closed its channel."""

_INHERITED: Final = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "COVERAGE_PROCESS_START",
    "KOINON_ACCELERATOR",
)
_ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Worker:
    """A running child. Made by ``Worker.start``; every await here ends at the child's deadline at the latest.

    Attributes:
        pid: the child's process id, which is its process group too.
        output: the last 64 KiB it wrote to standard output and error. It may quote data: for the operator's eyes only.
    """

    def __init__(self, target: str, limits: Limits, process: asyncio.subprocess.Process, stream: FrameQueue) -> None:
        self.pid = process.pid
        self.output = b""
        self._target = target
        self._limits = limits
        self._process = process
        self._stream = stream
        self._stopped: ExitReason | None = None
        self._failure: KoinonError | None = None
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def exit(self) -> Exit | None:
        """How the child ended, or None while it runs."""
        return self._exit.result() if self._exit.done() else None

    @classmethod
    @asynccontextmanager
    async def start(cls, target: str, limits: Limits | None = None) -> AsyncIterator[Self]:
        """Start a child that runs one function, and kill its process group when the block is left.

        Args:
            target: ``"package.module:function"``; the function takes a ``Channel``, or an ``AsyncChannel`` if it is
                ``async def``, and ends the child by returning.
            limits: see ``Limits``; the defaults allow no network.

        Raises:
            InvalidInput: a limit is out of range, or there is no such function.
            Unavailable: the child could not be started, or died before its function began.
            Expired: it did not get as far as its function before its deadline.
        """
        limits = limits or Limits()
        limits.check()
        limits = structs.replace(limits, wall_seconds=Seconds(float(limits.wall_seconds)))  # 5 is encoded as an int
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        try:
            with theirs:
                process = await _spawn(target, limits, theirs)
        except BaseException:
            ours.close()
            raise
        try:
            stream = await open_queue(ours, limits.frame_bytes)
        except BaseException:
            ours.close()
            process.kill()
            raise
        worker = cls(target, limits, process, stream)
        watchdog = asyncio.get_running_loop().call_later(limits.wall_seconds, worker._kill, ExitReason.DEADLINE)
        watch = asyncio.create_task(worker._watch(), name=f"watch worker {process.pid}")
        try:
            await worker._next(READY)
            yield worker
        finally:
            worker.cancel()
            await watch
            watchdog.cancel()

    async def send(self, frame: Buffer | Sequence[Buffer]) -> None:
        """Send one frame, given whole or in parts, at the child's pace.

        Raises:
            InvalidInput: the frame is longer than the limits allow.
            Unavailable, Expired, or the error its function raised: the child has ended.
        """
        try:
            await self._stream.send_frame(DATA, as_parts(frame))
        except Unavailable:
            raise await self._ended() from None

    async def receive(self) -> bytes:
        """The next frame the child sent; frames sent before it ended are still given.

        Raises:
            Expired: it was killed at its deadline.
            Unavailable: it ended otherwise without a frame left; says how.
            KoinonError: the error its function raised, as it was raised.
        """
        return bytes(await self._next(DATA))

    async def wait(self) -> Exit:
        """Wait until the child has ended by itself or at a limit. Never raises because of how it ended."""
        return await asyncio.shield(self._exit)

    def cancel(self) -> None:
        """Kill the child and everything in its process group now. Does nothing once it has ended."""
        self._kill(ExitReason.CANCELLED)

    async def _next(self, expected: object) -> bytes | bytearray:
        try:
            head, body = await self._stream.next_frame()
        except Unavailable:
            raise await self._ended() from None
        if head == FAILED:
            self._failure = error_of(decode(Failure, bytes(body)))
            raise self._failure
        if head != expected:
            self.cancel()
            raise MalformedMessage(f"the worker {self._target} sent a frame out of turn and was stopped")
        return body

    async def _ended(self) -> KoinonError:
        end = await self.wait()
        if self._failure is not None:
            return self._failure
        kind = Expired if end.reason is ExitReason.DEADLINE else Unavailable
        return kind(f"the worker {self._target} has ended: {end}")

    async def _watch(self) -> None:
        """Keep the end of the child's output, and note how it ended."""
        assert self._process.stdout is not None
        lingering: asyncio.TimerHandle | None = None

        def linger(_: object) -> None:
            nonlocal lingering
            lingering = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._kill, ExitReason.CANCELLED)

        self._stream.closed.add_done_callback(linger)
        status, _ = await asyncio.gather(self._end_of_group(), self._keep_output(self._process.stdout))
        end = classify_exit(status, self._stopped, self.output)
        self._stream.closed.remove_done_callback(linger)
        if lingering is not None:
            lingering.cancel()
        self._stream.finish(Unavailable(f"the worker {self._target} has ended: {end}"))
        await self._stream.closed
        self._exit.set_result(end)

    async def _end_of_group(self) -> int:
        status = await self._process.wait()
        # Where there is no system-call filter it may have started others; a group outlives its leader.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return status

    async def _keep_output(self, pipe: asyncio.StreamReader) -> None:
        while chunk := await pipe.read(_KEPT_OUTPUT_BYTES):
            self.output = (self.output + chunk)[-_KEPT_OUTPUT_BYTES:]

    def _kill(self, reason: ExitReason) -> None:
        if self._process.returncode is not None or self._stopped is not None:
            return
        self._stopped = reason
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


async def _spawn(target: str, limits: Limits, channel: socket.socket) -> asyncio.subprocess.Process:
    module, _, function = target.partition(":")
    if not module or not function.isidentifier():
        raise InvalidInput(f"a worker is named package.module:function; got {target[:100]!r}")
    command = (sys.executable, "-P", "-m", "koinon.worker.child", target)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            str(channel.fileno()),
            str(os.getpid()),
            encode(limits).hex(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(channel.fileno(),),
            start_new_session=True,
            env=_environment(),
            cwd="/",
        )
    except OSError as problem:
        raise Unavailable(f"the worker {target} could not be started: {problem.strerror}") from None


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment |= dict.fromkeys(_ONE_THREAD, "1")
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    return environment
