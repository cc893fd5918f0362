"""Which function answers which message, and what a peer is told when it fails."""

import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

from koinon.kernel.errors import KoinonError, Refused
from koinon.kernel.ids import NodeId
from koinon.net.measures import NetMeasures
from koinon.wire.catalogue import Done, Failure, Message, expects_answer, may_answer
from koinon.wire.failures import failure_of

_log: Final = logging.getLogger("koinon.net")

_M = TypeVar("_M", bound=Message)
Respond: TypeAlias = Callable[[NodeId, _M], Awaitable[Message | None]]
"""Takes the peer's authenticated id and its message; returns the answer, or None for ``Done`` or for no answer."""


class Answers:
    """A table of functions by type of message.

    Args:
        measures: where refusals are counted.
        offended: told of every error that a peer's message caused.
    """

    def __init__(
        self,
        measures: NetMeasures | None = None,
        offended: Callable[[NodeId, KoinonError], None] = lambda _peer, _problem: None,
    ) -> None:
        self._functions: dict[type[Message], Respond[Any]] = {}
        self._measures = measures or NetMeasures()
        self.offended = offended

    def handle(self, kind: type[_M], function: Respond[_M]) -> None:
        """Let ``function`` take every message of this type. Raises ValueError if one does already."""
        if kind in self._functions:
            raise ValueError(f"{kind.__name__} is answered already")
        self._functions[kind] = function

    async def answer(self, peer: NodeId, message: Message) -> Message:
        """The answer to a request, which is a ``Failure`` if its function raised or answered out of turn."""
        kind = type(message)
        function = self._functions.get(kind)
        if function is None:
            return failure_of(Refused(f"this node does not answer {kind.__name__}; ask one with the role for it"))
        try:
            given = await function(peer, message)
        except KoinonError as problem:
            self._note(peer, kind, problem)
            return failure_of(problem)
        except Exception as problem:
            _log.error("answering %s failed: %s", kind.__name__, _where(problem))
            return _internal_failure(kind)
        answer = Done() if given is None else given
        if not may_answer(kind, type(answer)):
            _log.error("%s may not answer %s", type(answer).__name__, kind.__name__)
            return _internal_failure(kind)
        return answer

    async def hear(self, peer: NodeId, message: Message) -> None:
        """Take a message that expects no answer; failures are logged, for there is nobody to tell."""
        kind = type(message)
        function = self._functions.get(kind)
        if function is None:
            _log.debug("nobody here takes %s", kind.__name__)
            return
        try:
            await function(peer, message)
        except KoinonError as problem:
            self._note(peer, kind, problem)
            _log.info("%s from node 0x%s… was not taken: %s", kind.__name__, peer.hex()[:16], problem)
        except Exception as problem:
            _log.error("taking %s failed: %s", kind.__name__, _where(problem))

    def _note(self, peer: NodeId, kind: type[Message], problem: KoinonError) -> None:
        self._measures.refused.add(kind.__name__, type(problem).__name__)
        self.offended(peer, problem)


def check_request(message: Message) -> None:
    """Raises ValueError for a message that nobody would answer."""
    if not expects_answer(type(message)):
        raise ValueError(f"{type(message).__name__} expects no answer: send it instead of calling")


def check_one_way(message: Message) -> None:
    """Raises ValueError for a message whose answer would be lost."""
    if expects_answer(type(message)):
        raise ValueError(f"{type(message).__name__} expects an answer: call instead of sending it")


def _where(problem: Exception) -> str:
    """Type and place of an error without its text, which may quote a row or a key."""
    frames = traceback.extract_tb(problem.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"
    return f"{type(problem).__name__} at {place}"


def _internal_failure(kind: type[Message]) -> Failure:
    return Failure("Unavailable", f"the node failed inside while answering {kind.__name__}; its log says where")
