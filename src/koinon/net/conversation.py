"""Requests, answers and one-way messages over one connection, in both directions at once."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from koinon.kernel.errors import KoinonError, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.net.dispatch import Answers
from koinon.net.measures import NetMeasures
from koinon.wire.catalogue import Message, expects_answer, limit_of, may_answer, pack, unpack
from koinon.wire.failures import failure_of
from koinon.wire.frames import HEADER, FrameHead, FrameStream

TELL: Final = 5
ASK: Final = 6
ANSWER: Final = 7

MOST_ASKED: Final = 256
"""Requests of one peer that may be at work at once; more are refused, not queued."""

_log: Final = logging.getLogger("koinon.net")

Throttle = Callable[[NodeId, int], Seconds]
"""Counts one message of so many bytes from a peer; returns how long to stop reading from it."""


class Workload:
    """What is at work for one peer, on whatever connection it was asked for. It goes on when the connection breaks:
    a message that was sent just before hanging up counts, and a peer cannot shed its share by reconnecting.

    Attributes:
        tasks: the functions at work.
    """

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()


class Conversation:
    """One connection's messages.

    Attributes:
        peer: whose key is at the other end.
        dialled: whether this side opened the connection.
        began: loop time when it began.
        retired: loop time since when another connection to the same peer is preferred; None while this one is.
    """

    def __init__(
        self,
        stream: FrameStream,
        peer: NodeId,
        *,
        dialled: bool,
        answers: Answers,
        workload: Workload,
        throttle: Throttle | None = None,
        measures: NetMeasures | None = None,
    ) -> None:
        self.peer = peer
        self.dialled = dialled
        self.retired: Seconds | None = None
        self.stream = stream
        self._answers = answers
        self._workload = workload
        self._throttle = throttle
        self._measures = measures or NetMeasures()
        self._loop = asyncio.get_running_loop()
        self.began = Seconds(self._loop.time())
        self._waiting: dict[int, tuple[type[Message], asyncio.Future[Message]]] = {}
        self._last_request = 0
        self._resumption: asyncio.TimerHandle | None = None
        self._at_work: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""
        return self.stream.is_open

    @property
    def is_idle(self) -> bool:
        """Whether neither side's requests are unanswered, as far as this side knows."""
        return not self._waiting and not self._at_work

    async def ask(self, message: Message) -> Message:
        """Send a request and wait for its answer, which may be a ``Failure``. The caller sets the deadline.

        Raises:
            Unavailable: the connection ended first, or the peer does not keep up.
            MalformedMessage: the peer answered with what may not answer this.
        """
        self._last_request = request = self._last_request % 0xFFFFFFFF + 1
        arrival: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[request] = type(message), arrival
        try:
            await self._write(ASK, request, message)
            return await arrival
        finally:
            del self._waiting[request]

    async def tell(self, message: Message) -> None:
        """Send a one-way message; returns when the connection has taken it. Raises Unavailable as ``ask`` does."""
        await self._write(TELL, 0, message)

    def body_limit(self, head: FrameHead) -> int:
        if head.kind not in (TELL, ASK, ANSWER):
            raise MalformedMessage(f"a frame of kind {head.kind} has no place in a conversation")
        return limit_of(head.number)

    def frame_received(self, head: FrameHead, body: bytes | bytearray) -> None:
        self._measures.bytes_received += HEADER.size + len(body)
        if self._throttle is not None:
            pause = self._throttle(self.peer, HEADER.size + len(body))
            if pause > 0:
                self.stream.pause_reading()
                if self._resumption is not None:
                    self._resumption.cancel()
                self._resumption = self._loop.call_later(pause, self.stream.resume_reading)
        if head.kind == ANSWER:
            self._take_answer(head, body)
            return
        message = unpack(head.number, memoryview(body))
        self._measures.received.add(type(message).__name__)
        if expects_answer(type(message)) != (head.kind == ASK):
            raise MalformedMessage(f"{type(message).__name__} came in a frame of kind {head.kind}")
        if len(self._workload.tasks) >= MOST_ASKED:
            if head.kind == TELL:
                raise Unavailable(f"the peer sent more than {MOST_ASKED} messages before one of them was dealt with")
            if self.stream.stalled_since is not None:
                raise Unavailable(f"the peer sent more than {MOST_ASKED} requests and reads no answers")
            busy = Refused(f"more than {MOST_ASKED} of your requests are at work here; wait for their answers")
            self._write_now(ANSWER, head.request, failure_of(busy))
            return
        task = self._loop.create_task(self._serve(head, message))
        for tasks in (self._at_work, self._workload.tasks):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def ended(self, problem: KoinonError) -> None:
        self._measures.ended.add(type(problem).__name__)
        if isinstance(problem, MalformedMessage):
            self._answers.offended(self.peer, problem)
        for _, arrival in self._waiting.values():
            if not arrival.done():
                arrival.set_exception(Unavailable(f"node 0x{self.peer.hex()[:16]}… is gone: {problem}"))
        if self._resumption is not None:
            self._resumption.cancel()

    def _take_answer(self, head: FrameHead, body: bytes | bytearray) -> None:
        asked = self._waiting.get(head.request)
        if asked is None:
            return  # it came after its deadline
        request, arrival = asked
        answer = unpack(head.number, memoryview(body))
        self._measures.received.add(type(answer).__name__)
        if not may_answer(request, type(answer)):
            raise MalformedMessage(f"{type(answer).__name__} may not answer {request.__name__}")
        if not arrival.done():
            arrival.set_result(answer)

    async def _serve(self, head: FrameHead, message: Message) -> None:
        if head.kind == TELL:
            await self._answers.hear(self.peer, message)
            return
        answer = await self._answers.answer(self.peer, message)
        try:
            await self._write(ANSWER, head.request, answer)
        except Unavailable:
            _log.debug("the answer to %s came too late: the peer has gone", type(message).__name__)
        except MalformedMessage as problem:
            self._write_now(ANSWER, head.request, failure_of(Unavailable(f"the answer is too long: {problem}")))

    async def _write(self, kind: int, request: int, message: Message) -> None:
        await self.stream.drain()
        self._write_now(kind, request, message)

    def _write_now(self, kind: int, request: int, message: Message) -> None:
        number, body = pack(message)
        if len(body) > limit_of(number):
            raise MalformedMessage(
                f"{type(message).__name__} of {len(body)} bytes is longer than the {limit_of(number)} allowed"
            )
        self.stream.write_frame(FrameHead(kind, request, number), body)
        self._measures.sent.add(type(message).__name__)
        self._measures.bytes_sent += HEADER.size + len(body)
