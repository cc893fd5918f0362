"""A node's connections: listen, dial on demand, one conversation per peer, links on the side, all keys proven.

A node keeps one conversation with each peer, whoever dialled it (``peers``), and any number of links (``parking``).
Every peer and every address has its quota, whatever connections it opens; TCP slows down whoever is beyond it.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Self, TypeVar

from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Expired, KoinonError, Refused, Unavailable
from koinon.kernel.ids import NodeId, to_hex
from koinon.kernel.quantities import Seconds
from koinon.net.certificate import client_context, server_context
from koinon.net.conversation import Conversation
from koinon.net.dispatch import Answers, Respond, check_one_way, check_request
from koinon.net.handshake import CalledStream, CallingStream, GreetingStream, Session
from koinon.net.link import FrameLink
from koinon.net.listening import open_listener
from koinon.net.measures import NetMeasures, Standings, offence_of
from koinon.net.pace import DEFAULT_PACE, Pace
from koinon.net.parking import LinkYard
from koinon.net.peers import Peers
from koinon.net.quota import DEFAULT_ALLOWANCES, Allowances, Quotas
from koinon.net.sockets import LOOP_SOCKETS, Sockets
from koinon.wire.catalogue import Failure, Message
from koinon.wire.discovery import Endpoint
from koinon.wire.failures import error_of
from koinon.wire.frames import FrameStream

LOOPBACK: Final = "127.0.0.1"
DEFAULT_TIMEOUT: Final = Seconds(10.0)

_MOST_GREETINGS: Final = 128
_BACKLOG: Final = 256

_log: Final = logging.getLogger("koinon.net")

_M = TypeVar("_M", bound=Message)


def admit_anybody(_: NodeId) -> bool:
    """Admission for nodes that serve strangers: every key that is proven."""
    return True


class Transport:
    """Made by ``Transport.open``. All methods belong to the event loop it was opened on.

    Attributes:
        node_id: the key it proves to others.
        endpoint: where it listens.
        measures: what it has counted so far.
    """

    def __init__(
        self,
        key: NodeKey,
        endpoint: Endpoint,
        admit: Callable[[NodeId], bool],
        pace: Pace,
        allowances: Allowances,
        sockets: Sockets,
    ) -> None:
        self.node_id = key.node_id
        self.endpoint = endpoint
        self._key = key
        self._admit = admit
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self.measures = NetMeasures()
        self._standings = Standings()
        self._answers = Answers(self.measures, self._offended)
        self._peers = Peers(key.node_id, self._answers, pace, allowances, self.measures)
        self._yard = LinkYard(pace)
        self._dials: dict[NodeId, asyncio.Task[Conversation]] = {}
        self._greetings: set[asyncio.Task[None]] = set()
        self._arrivals = Quotas(allowances.connections_per_address)
        self._tls = server_context(key)
        self._sockets = sockets
        self._closing = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        key: NodeKey,
        host: str = LOOPBACK,
        port: int = 0,
        admit: Callable[[NodeId], bool] = admit_anybody,
        *,
        public_host: str | None = None,
        pace: Pace = DEFAULT_PACE,
        allowances: Allowances = DEFAULT_ALLOWANCES,
        sockets: Sockets = LOOP_SOCKETS,
    ) -> AsyncIterator[Self]:
        """Listen until the block is left; then every connection is closed and every task of it has ended.

        Args:
            key: the node's key, or a worker's own.
            host: address to listen on; nothing but this machine can reach the default.
            port: 0 takes any free port.
            admit: whether a peer that has proven its key may connect; it is asked once per connection.
            public_host: how others reach ``host``, where that differs.
            pace: how slow peers may be.
            allowances: how much of this node's time one peer or address may take.
            sockets: where connections come from.

        Raises:
            Unavailable: the address cannot be listened on, for instance because the port is in use.
        """
        listener = open_listener(host, port, "the node", _BACKLOG)
        endpoint = Endpoint(key.node_id, public_host or host, listener.getsockname()[1])
        transport = cls(key, endpoint, admit, pace, allowances, sockets)
        accepting = asyncio.create_task(transport._accept(listener), name="accept connections")
        sweep = asyncio.create_task(transport._sweep(), name="sweep connections")
        try:
            yield transport
        finally:
            transport._closing = True
            for task in (accepting, sweep):
                task.cancel()
            await asyncio.gather(accepting, sweep, return_exceptions=True)
            listener.close()
            await transport._close()

    def handle(self, kind: type[_M], function: Respond[_M]) -> None:
        """Let ``function(peer, message)`` answer every message of this type; ``None`` stands for ``Done``.

        A KoinonError it raises is told to the peer as it is; any other error is logged without its text.
        Raises ValueError if the type is handled already.
        """
        self._answers.handle(kind, function)

    async def call(self, endpoint: Endpoint, message: Message, timeout: Seconds | float = DEFAULT_TIMEOUT) -> Message:
        """Ask a node and wait for its answer, dialling it first if need be.

        The request may have been carried out even though this raises Unavailable.

        Raises:
            Expired: no answer within ``timeout`` seconds.
            Unavailable: the node cannot be reached, or the connection broke.
            KoinonError: the error that a ``Failure`` names.
        """
        check_request(message)
        try:
            async with asyncio.timeout(timeout):
                if endpoint.node_id == self.node_id:
                    answer = await self._answers.answer(self.node_id, message)
                else:
                    answer = await (await self._conversation(endpoint)).ask(message)
        except TimeoutError:
            raise _expired(f"no answer to {type(message).__name__}", endpoint, timeout) from None
        if isinstance(answer, Failure):
            raise error_of(answer)
        return answer

    async def send(self, endpoint: Endpoint, message: Message, timeout: Seconds | float = DEFAULT_TIMEOUT) -> None:
        """Send a one-way message, dialling first if need be; returns when the connection has taken it.

        Messages to one peer arrive in the order in which they were sent, as long as the connection lasts.

        Raises:
            Expired: the peer could not be dialled or did not read within ``timeout`` seconds.
            Unavailable: the node cannot be reached.
        """
        check_one_way(message)
        if endpoint.node_id == self.node_id:
            await self._answers.hear(self.node_id, message)
            return
        try:
            async with asyncio.timeout(timeout):
                await (await self._conversation(endpoint)).tell(message)
        except TimeoutError:
            raise _expired(f"{type(message).__name__} was not taken", endpoint, timeout) from None

    async def link(self, endpoint: Endpoint, label: str, timeout: Seconds | float = DEFAULT_TIMEOUT) -> FrameLink:
        """Open a link to a node that will ``accept_link`` with the same label within 30 seconds.

        Raises:
            Expired, Unavailable: the node cannot be reached in time.
            Refused: it does not admit this key, or has a link of this label from it already.
        """
        made: list[FrameLink] = []

        def begin(stream: FrameStream) -> Session:
            made.append(FrameLink(stream, endpoint.node_id, label))
            return made[0]

        try:
            async with asyncio.timeout(timeout):
                await self._dial(endpoint, label, begin)
        except TimeoutError:
            raise _expired(f"no link {label}", endpoint, timeout) from None
        self._yard.keep(made[0])
        return made[0]

    async def accept_link(self, peer: NodeId, label: str, timeout: Seconds | float = DEFAULT_TIMEOUT) -> FrameLink:
        """The link of this label that ``peer`` opens or has opened.

        Raises:
            Expired: it did not come within ``timeout`` seconds.
        """
        return await self._yard.take(peer, label, timeout)

    def peers(self) -> frozenset[NodeId]:
        """The nodes this one is connected with."""
        return frozenset(conversation.peer for conversation in self._peers.all() if conversation.is_open)

    def conversations(self) -> frozenset[Conversation]:
        """Every open conversation, for showing and testing; two with one peer for a moment after mutual dialling."""
        return self._peers.all()

    def standings(self) -> dict[NodeId, float]:
        """Every peer that has offended lately, with its points out of 100, at which it is shunned for a while."""
        return self._standings.known(Seconds(self._loop.time()))

    def offend(self, peer: NodeId, points: float, reason: str) -> None:
        """Count an offence that a role of this node has found; at 100 points the peer is hung up on and shunned.

        Args:
            points: see ``koinon.net.measures``.
            reason: why, for the log.
        """
        if peer != self.node_id and self._standings.offend(peer, points, Seconds(self._loop.time())):
            _log.warning("node %s… is shunned for a while; its last offence: %s", to_hex(peer)[:18], reason)
            # Not from inside the very frame that offended.
            self._loop.call_soon(self._peers.cut, peer, Unavailable("the peer offended too often"))

    def _offended(self, peer: NodeId, problem: KoinonError) -> None:
        points = offence_of(problem)
        if points > 0:
            self.offend(peer, points, str(problem))

    # Dialling.

    async def _conversation(self, endpoint: Endpoint) -> Conversation:
        peer = endpoint.node_id
        current = self._peers.preferred(peer)
        if current is not None:
            return current
        if self._closing:
            raise Unavailable("this node is shutting down")
        if self._standings.is_shunned(peer, Seconds(self._loop.time())):
            raise Unavailable(f"node {to_hex(peer)[:18]}… has offended too often and is left alone for a while")
        dial = self._dials.get(peer)
        if dial is None:
            dial = self._dials[peer] = asyncio.create_task(self._dial_conversation(endpoint))
            dial.add_done_callback(lambda done: self._dialled(peer, done))
        try:
            return await asyncio.shield(dial)
        except KoinonError:
            current = self._peers.preferred(peer)
            if current is not None:
                return current  # it has dialled us in the meantime
            raise

    def _dialled(self, peer: NodeId, dial: "asyncio.Task[Conversation]") -> None:
        del self._dials[peer]
        if not dial.cancelled():
            dial.exception()  # those who waited have it; all of them may have left

    async def _dial_conversation(self, endpoint: Endpoint) -> Conversation:
        def begin(stream: FrameStream) -> Session:
            return self._peers.adopt(stream, endpoint.node_id, dialled=True)

        await self._dial(endpoint, None, begin)
        current = self._peers.preferred(endpoint.node_id)
        if current is None:
            raise Unavailable(f"node {to_hex(endpoint.node_id)[:18]}… hung up at once")
        return current

    async def _dial(self, endpoint: Endpoint, label: str | None, begin: Callable[[FrameStream], Session]) -> None:
        stream = CallingStream(self._key, endpoint.node_id, label, begin)
        try:
            async with asyncio.timeout(2 * self._pace.greeting):
                await self._sockets.dial(stream, endpoint.host, endpoint.port, client_context(), self._pace)
                _keep_alive(stream)
                await stream.greeted
        except (OSError, TimeoutError) as problem:
            stream.cut(Unavailable("the greeting failed"))
            raise Unavailable(
                f"node {to_hex(endpoint.node_id)[:18]}… cannot be reached at {endpoint.host}:{endpoint.port}: "
                f"{_describe(problem)}"
            ) from None
        except BaseException:
            stream.cut(Unavailable("the greeting was given up"))
            raise

    # Accepting.

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, address = await self._loop.sock_accept(listener)
            except OSError as problem:  # out of descriptors, or the caller has gone
                _log.warning("a connection could not be accepted: %s", problem.strerror)
                await asyncio.sleep(self._pace.sweep / 10)
                continue
            host = str(address[0]).encode()
            busy = len(self._greetings) >= _MOST_GREETINGS
            if busy or not self._arrivals.try_spend(host, 1, Seconds(self._loop.time())):
                self.measures.turned_away.add("too many greetings" if busy else "too many from its address")
                connection.close()
                continue
            greeting = asyncio.create_task(self._greet(connection))
            self._greetings.add(greeting)
            greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, connection: socket.socket) -> None:
        stream = CalledStream(self.node_id, self._begin)
        try:
            async with asyncio.timeout(2 * self._pace.greeting):
                await self._sockets.welcome(stream, connection, self._tls, self._pace)
                _keep_alive(stream)
                await stream.greeted
        except (OSError, TimeoutError, KoinonError) as problem:
            self.measures.turned_away.add(_reason(problem))
            _log.debug("a caller was not let in: %s", _describe(problem))
            stream.cut(Unavailable("the greeting failed"))
        except asyncio.CancelledError:
            stream.cut(Unavailable("this node is shutting down"))
            raise

    def _begin(self, stream: FrameStream, peer: NodeId, label: str | None) -> Session:
        if self._closing or not self._admit(peer):
            raise Refused(f"this node does not admit node {to_hex(peer)[:18]}…")
        if self._standings.is_shunned(peer, Seconds(self._loop.time())):
            raise Refused(f"node {to_hex(peer)[:18]}… has offended too often; try again in a minute")
        self.measures.greeted += 1
        if label is None:
            return self._peers.adopt(stream, peer, dialled=False)
        self._yard.check_room(peer, label)
        link = FrameLink(stream, peer, label)
        self._yard.arrive(link)
        return link

    # Time.

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._pace.sweep)
            now = Seconds(self._loop.time())
            self._peers.sweep(now)
            self._yard.sweep(now)

    async def _close(self) -> None:
        tasks = [*self._greetings, *self._dials.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        streams: list[FrameStream] = [each.stream for each in self._peers.all()]
        streams += [each.stream for each in self._yard.all()]
        for stream in streams:
            stream.finish(Unavailable("this node is shutting down"))
        if streams:
            await asyncio.wait([stream.closed for stream in streams], timeout=self._pace.closing)
        for stream in streams:
            stream.cut(Unavailable("this node is shutting down"))
        await asyncio.gather(*(stream.closed for stream in streams))
        await self._peers.stop_work()


def _reason(problem: Exception) -> str:
    """Why a caller was not let in, from a closed set."""
    if isinstance(problem, TimeoutError):
        return "too slow"
    if isinstance(problem, ssl.SSLError):
        return "no TLS"
    return type(problem).__name__ if isinstance(problem, KoinonError) else "hung up"


def _keep_alive(stream: GreetingStream) -> None:
    """Let the system notice within a minute that a peer's machine is gone without a word."""
    connection = stream.transport_info("socket")
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 20),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 60_000),
    ):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _describe(problem: Exception) -> str:
    if isinstance(problem, KoinonError):
        return str(problem)
    if isinstance(problem, TimeoutError):
        return "it does not answer in time"
    if isinstance(problem, ssl.SSLError):
        return "it speaks no TLS 1.3"
    return getattr(problem, "strerror", None) or type(problem).__name__


def _expired(what: str, endpoint: Endpoint, timeout: Seconds | float) -> Expired:
    return Expired(f"{what} by node {to_hex(endpoint.node_id)[:18]}… within {timeout:g} s")
