"""A TLS connection on a plain socket, for few peers and many small frames.

Between two frames of a round a committee worker has nothing to do but wait for three peers. An event loop then costs
more than TLS does: here a frame is written to its socket at once, and whoever waits may ask the sockets themselves
(``descriptor``, ``receive_promptly``) instead of going through the loop. While nobody does, the loop reads.
"""

import asyncio
import socket
import ssl
from collections import deque
from contextlib import suppress
from typing import Any, Final

from koinon.net.pace import Pace
from koinon.wire.frames import FrameStream

_RECORD_BYTES: Final = 16 * 1024
"""What one read gives at most: a TLS record."""
_RECORDS_AT_ONCE: Final = 64
_WAITING: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


async def connect_promptly(
    stream: FrameStream, connection: socket.socket, context: ssl.SSLContext, pace: Pace, *, server: bool
) -> None:
    """Shake hands over a connected socket and give the connection to the stream.

    Raises:
        OSError: the handshake failed (ssl.SSLError), or the connection broke. The socket is closed.
    """
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    secured: ssl.SSLSocket | None = None
    try:
        secured = context.wrap_socket(connection, server_side=server, do_handshake_on_connect=False)
        await _shake_hands(secured)
    except BaseException:
        (secured or connection).close()
        raise
    PromptTransport(secured, stream, pace.closing).start()


async def _shake_hands(connection: ssl.SSLSocket) -> None:
    loop, descriptor = asyncio.get_running_loop(), connection.fileno()
    while True:
        try:
            connection.do_handshake()
            return
        except ssl.SSLWantReadError:
            watch, leave = loop.add_reader, loop.remove_reader
        except ssl.SSLWantWriteError:
            watch, leave = loop.add_writer, loop.remove_writer
        ready = asyncio.Event()
        watch(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            leave(descriptor)


class PromptTransport(asyncio.Transport):
    """What a ``FrameStream`` writes to and is read for by. Made with its handshake done."""

    def __init__(self, connection: ssl.SSLSocket, stream: FrameStream, closing_seconds: float) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._descriptor = connection.fileno()
        self._stream = stream
        self._closing_seconds = closing_seconds
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._most_unsent = 64 * 1024
        self._writing_paused = False
        self._reading = False
        self._closing = False
        self._ended = False

    def start(self) -> None:
        """Tell the stream, and read from now on."""
        self._stream.connection_made(self)
        if not self._closing:
            self.resume_reading()

    # Reading.

    @property
    def descriptor(self) -> int | None:
        """What can be waited on for bytes of the peer; None while only the event loop can go on.

        That is while something is unsent, reading is paused, or the connection is over.
        """
        return self._descriptor if self._reading and not self._unsent else None

    def read(self) -> None:
        """Hand the stream what has arrived, without waiting."""
        stream, connection = self._stream, self._connection
        for _ in range(_RECORDS_AT_ONCE):
            if not self._reading:
                return
            try:
                count = connection.recv_into(stream.get_buffer(-1))
            except _WAITING:
                return
            except OSError as problem:
                self._lose(problem)
                return
            if not count:
                stream.eof_received()
                self.close()
                return
            stream.buffer_updated(count)
            if count < _RECORD_BYTES and not connection.pending():
                return
        # What TLS has decrypted already makes no socket readable.
        self._loop.call_soon(self.read)

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._descriptor, self.read)
            self._loop.call_soon(self.read)

    def is_reading(self) -> bool:
        return self._reading

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        rest: memoryview = memoryview(data) if self._unsent else self._sent(memoryview(data))
        if rest and not self._closing:
            if not self._unsent:
                self._loop.add_writer(self._descriptor, self._send_rest)
            self._unsent.append(bytes(rest))
            self._unsent_bytes += len(rest)
            if self._unsent_bytes > self._most_unsent and not self._writing_paused:
                self._writing_paused = True
                self._stream.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del low
        if high is not None:
            self._most_unsent = high

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes

    # Ending.

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Send what is left, say so, and wait a moment for the peer to do the same."""
        if not self._closing:
            self.pause_reading()
            self._closing = True
            self._loop.call_later(self._closing_seconds, self._end, None)
            if not self._unsent:
                self._say_goodbye()

    def abort(self) -> None:
        self._lose(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        known = {"ssl_object": self._connection, "socket": self._connection, "prompt": self}
        return known.get(name, default)

    # Inside.

    def _sent(self, view: memoryview) -> memoryview:
        """What is left of these bytes after the socket has taken what it takes at once."""
        while view:
            try:
                view = view[self._connection.send(view) :]
            except _WAITING:
                return view
            except OSError as problem:
                self._lose(problem)
                return memoryview(b"")
        return view

    def _send_rest(self) -> None:
        while self._unsent:
            # TLS wants a piece that it could not send again as it was.
            rest = self._sent(memoryview(self._unsent[0]))
            if self._ended or not self._unsent:
                return
            self._unsent_bytes -= len(self._unsent[0]) - len(rest)
            if rest:
                self._unsent[0] = bytes(rest)
                return
            self._unsent.popleft()
            if self._writing_paused and self._unsent_bytes <= self._most_unsent // 4:
                self._writing_paused = False
                self._stream.resume_writing()
        self._loop.remove_writer(self._descriptor)
        if self._closing:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """A socket closed with bytes unread would take back what the peer has not read yet, so read until it closes."""
        with suppress(OSError):
            self._connection.unwrap()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        self._loop.add_reader(self._descriptor, self._discard)

    def _discard(self) -> None:
        try:
            for _ in range(_RECORDS_AT_ONCE):
                if not socket.socket.recv(self._connection, _RECORD_BYTES):
                    self._lose(None)
                    return
        except BlockingIOError:
            return
        except OSError as problem:
            self._lose(problem)

    def _lose(self, problem: Exception | None) -> None:
        """End at once, but not inside the very call that the stream has made."""
        self._closing = True
        self.pause_reading()
        self._unsent.clear()
        self._unsent_bytes = 0
        self._loop.call_soon(self._end, problem)

    def _end(self, problem: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._unsent.clear()
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._connection.close()
        self._stream.connection_lost(problem)
