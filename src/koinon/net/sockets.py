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
            loop = asyncio.get_running_loop()
            family, kind, protocol, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
            connection = socket.socket(family, kind, protocol)
            try:
                connection.setblocking(False)
                await loop.sock_connect(connection, address)
            except BaseException:
                connection.close()
                raise
            await connect_promptly(stream, connection, context, pace, server=False)

    async def welcome(
        self, stream: FrameStream, connection: socket.socket, context: ssl.SSLContext, pace: Pace
    ) -> None:
        async with asyncio.timeout(pace.greeting):
            await connect_promptly(stream, connection, context, pace, server=True)


LOOP_SOCKETS: Final = LoopSockets()
PROMPT_SOCKETS: Final = PromptSockets()
