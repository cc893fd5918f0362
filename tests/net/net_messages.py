"""Messages, hostile clients and small patience for the network tests."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.net.certificate import client_context
from koinon.net.handshake import PROOF, Proof, Purpose, _statement
from koinon.net.pace import Pace
from koinon.wire.catalogue import Done, Message, message
from koinon.wire.discovery import Endpoint
from koinon.wire.frames import HEADER, FrameHead

RNG = SystemRng()
HASTY = Pace(greeting=1.0, frame=0.5, stall=0.3, link_stall=0.3, parked=0.3, retirement=0.05, closing=0.5, sweep=0.05)


@message(0xFE01)
class Reply(Message, frozen=True):
    data: bytes


@message(0xFE02, answers=(Reply,))
class Ask(Message, frozen=True):
    data: bytes


@message(0xFE03, limit=1000)
class Tell(Message, frozen=True):
    number: int


@message(0xFE04, answers=(Done,), limit=100)
class Order(Message, frozen=True):
    name: str


def new_key() -> NodeKey:
    return NodeKey.generate(RNG)


class RawClient:
    """A client that speaks TLS and frames, and otherwise does as it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def connect(cls, endpoint: Endpoint) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection(
            endpoint.host, endpoint.port, ssl=client_context(), server_hostname="", ssl_shutdown_timeout=0.2
        )
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    def write(self, head: FrameHead, body: bytes, length: int | None = None) -> None:
        self.writer.write(HEADER.pack(len(body) if length is None else length, *head) + body)

    async def read(self) -> tuple[FrameHead, bytes]:
        length, *fields = HEADER.unpack(await self.reader.readexactly(HEADER.size))
        return FrameHead(*fields), await self.reader.readexactly(length)

    async def prove(self, key: NodeKey, endpoint: Endpoint, label: str | None = None) -> tuple[FrameHead, bytes]:
        """Answer the challenge honestly; returns what the server says to it."""
        _, challenge = await self.read()
        purpose = Purpose(1, label)
        signature = key.sign("koinon/transport/1", _statement(endpoint.node_id, challenge, purpose))
        self.write(PROOF, encode(Proof(key.node_id, purpose, signature)))
        return await self.read()

    async def is_cut_off(self) -> bool:
        """Waits until the server hangs up; fails by time-out if it does not."""
        try:
            async with asyncio.timeout(120):
                while await self.reader.read(65536):
                    pass
        except (ConnectionError, ssl.SSLError):
            pass
        return True
