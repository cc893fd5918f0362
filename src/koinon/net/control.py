"""How an operator's commands reach the running node: the messages of a conversation over a socket in its home folder.

The socket file has mode 0600 and the system tells who is at the other end: only the user that runs the node gets in,
and no key is needed.
"""

import asyncio
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self, TypeVar

from koinon.kernel.errors import Expired, InvalidInput, KoinonError, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.net.conversation import Conversation, Workload
from koinon.net.dispatch import Answers, check_request
from koinon.wire.catalogue import Failure, Message
from koinon.wire.failures import error_of
from koinon.wire.frames import FrameHead, FrameStream

OPERATOR: Final = NodeId(bytes(32))
"""Stands for the operator where a function is given a peer; no key has this id."""

_LONGEST_PATH: Final = 107
_CLOSING_SECONDS: Final = 2.0
_CREDENTIALS: Final = struct.Struct("=iII")

_M = TypeVar("_M", bound=Message)


class _ControlStream(FrameStream):
    """A stream that is a conversation from its first byte."""

    def __init__(self, answers: Answers, workload: Workload) -> None:
        super().__init__()
        self.conversation = Conversation(self, OPERATOR, dialled=False, answers=answers, workload=workload)

    def body_limit(self, head: FrameHead) -> int:
        return self.conversation.body_limit(head)

    def frame_received(self, head: FrameHead, body: bytes | bytearray) -> None:
        self.conversation.frame_received(head, body)

    def opened(self) -> None:
        """Nothing to say first: the file's mode and the system's word about the peer replace a greeting."""

    def ended(self, problem: KoinonError) -> None:
        self.conversation.ended(problem)


class ControlServer:
    """Made by ``ControlServer.open``."""

    def __init__(self) -> None:
        self._answers = Answers()
        self._workload = Workload()
        self._streams: set[_ControlStream] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Self]:
        """Listen at ``path`` until the block is left, then remove it.

        A socket file that a killed node left behind is replaced.

        Raises:
            Unavailable: another node listens there, or the file cannot be made.
            InvalidInput: the path is too long for the system, or another kind of file is there.
        """
        server = cls()
        listener = _listen(path)
        accepting = asyncio.create_task(server._accept(listener), name="accept operators")
        try:
            yield server
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            listener.close()
            _remove(path)
            await server._close()

    def handle(self, kind: type[_M], function: Callable[[_M], Awaitable[Message | None]]) -> None:
        """Let ``function(message)`` answer every message of this type; see ``Transport.handle``."""

        async def respond(_: NodeId, message: _M) -> Message | None:
            return await function(message)

        self._answers.handle(kind, respond)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            if not _is_same_user(connection):
                connection.close()
                continue
            await loop.connect_accepted_socket(self._stream, connection)

    def _stream(self) -> _ControlStream:
        stream = _ControlStream(self._answers, self._workload)
        self._streams.add(stream)
        stream.closed.add_done_callback(lambda _: self._streams.discard(stream))
        return stream

    async def _close(self) -> None:
        streams = tuple(self._streams)
        for stream in streams:
            stream.finish(Unavailable("this node is shutting down"))
        if streams:
            await asyncio.wait([stream.closed for stream in streams], timeout=_CLOSING_SECONDS)
        for stream in streams:
            stream.cut(Unavailable("this node is shutting down"))
        for task in self._workload.tasks:
            task.cancel()
        await asyncio.gather(*self._workload.tasks, return_exceptions=True)


async def control_call(path: Path, message: Message, timeout: Seconds | float = 10.0) -> Message:
    """Ask the node that listens at ``path``.

    Raises:
        Expired: no answer within ``timeout`` seconds.
        Unavailable: no node listens there.
        KoinonError: the error that a ``Failure`` names.
    """
    check_request(message)
    stream = _ControlStream(Answers(), Workload())
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().create_unix_connection(lambda: stream, str(path))
            answer = await stream.conversation.ask(message)
    except TimeoutError:
        raise Expired(f"the node at {path} did not answer {type(message).__name__} within {timeout:g} s") from None
    except OSError:
        raise Unavailable(f"no node listens at {path}; start it with koinon node start") from None
    finally:
        stream.cut(Unavailable("the call is over"))
    if isinstance(answer, Failure):
        raise error_of(answer)
    return answer


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise InvalidInput(f"{path} is longer than the {_LONGEST_PATH} bytes of a socket's path; use a shorter home")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_way(path)
        os.fchmod(listener.fileno(), stat.S_IRUSR | stat.S_IWUSR)  # the file is made with this mode, never a wider one
        listener.bind(str(path))
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        listener.listen()
        listener.setblocking(False)
    except OSError as problem:
        listener.close()
        raise Unavailable(f"cannot listen at {path}: {problem.strerror}") from None
    except BaseException:
        listener.close()
        raise
    return listener


def _make_way(path: Path) -> None:
    """Remove a socket nobody listens at."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InvalidInput(f"{path} exists and is no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise Unavailable(f"another node listens at {path} already; stop it first")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _is_same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end runs as our user or as root; True where the system cannot tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user in (os.getuid(), 0)
