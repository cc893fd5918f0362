"""How a transport gets its TLS connections: from the event loop, or on sockets that can also be waited for directly."""

import asyncio
import socket
import ssl
from typing import Final, Protocol

from koinon.net.pace import Pace
from koinon.net.prompt import connect_promptly
from koinon.wire.frames import FrameStream


class Sockets(Protocol):
    """Makes a TLS connection and gives it to a stream, which is told through ``connection_made``.

    Both raise OSError or TimeoutError where no connection comes about.
    """

    async def dial(self, stream: FrameStream, host: str, port: int, context: ssl.SSLContext, pace: Pace) -> None: ...

    async def welcome(
        self, stream: FrameStream, connection: socket.socket, context: ssl.SSLContext, pace: Pace
    ) -> None: ...


class LoopSockets:
    """Connections of the event loop: the least work for a node with many of them."""

    async def dial(self, stream: FrameStream, host: str, port: int, context: ssl.SSLContext, pace: Pace) -> None:
        await asyncio.get_running_loop().create_connection(
            lambda: stream,
            host,
            port,
            ssl=context,
            server_hostname="",
            ssl_handshake_timeout=pace.greeting,
            ssl_shutdown_timeout=pace.closing,
        )

    async def welcome(
        self, stream: FrameStream, connection: socket.socket, context: ssl.SSLContext, pace: Pace
    ) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: stream,
            connection,
            ssl=context,
            ssl_handshake_timeout=pace.greeting,
            ssl_shutdown_timeout=pace.closing,
        )


class PromptSockets:
    """Connections for a process that does nothing but wait for a few peers (``koinon.net.prompt``)."""

    async def dial(self, stream: FrameStream, host: str, port: int, context: ssl.SSLContext, pace: Pace) -> None:
        async with asyncio.timeout(pace.greeting):
            connection = await _connected(host, port)
            await connect_promptly(stream, connection, context, pace, server=False)

    async def welcome(
        self, stream: FrameStream, connection: socket.socket, context: ssl.SSLContext, pace: Pace
    ) -> None:
        async with asyncio.timeout(pace.greeting):
            await connect_promptly(stream, connection, context, pace, server=True)


async def _connected(host: str, port: int) -> socket.socket:
    """Connected to the first of the host's addresses that answers. Raises OSError where none does."""
    loop = asyncio.get_running_loop()
    problem = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection: socket.socket | None = None
        try:
            connection = socket.socket(family, kind, protocol)
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
            return connection
        except BaseException as failure:
            if connection is not None:
                connection.close()
            if not isinstance(failure, OSError):
                raise
            problem = failure
    raise problem


LOOP_SOCKETS: Final = LoopSockets()
PROMPT_SOCKETS: Final = PromptSockets()
