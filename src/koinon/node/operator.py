"""The operator's end of a node's control socket: status, tasks with progress, stop."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from koinon.kernel import errors
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import KoinonError, Unavailable
from koinon.kernel.quantities import Seconds
from koinon.net.control import control_call
from koinon.wire.catalogue import Message
from koinon.wire.control import (
    AskStatus,
    AskTask,
    CancelTask,
    StartTask,
    StatusReport,
    StopNode,
    TaskReport,
    TaskStarted,
)

ANSWER_SECONDS: Final = Seconds(10.0)

_R = TypeVar("_R", bound=Record)

Listener = Callable[[str, float], None]
"""Gets every sentence a task says, and how far the task is (0 to 1)."""


@dataclass(frozen=True)
class Operator:
    """Commands to one node."""

    control: Path

    async def _ask(self, request: Message) -> Message:
        return await control_call(self.control, request, ANSWER_SECONDS)

    async def status(self) -> dict[str, Any]:
        """The node's own report. Raises Unavailable where no node answers."""
        report = await self._ask(AskStatus())
        assert isinstance(report, StatusReport)
        return dict(json.loads(report.report))

    async def stop(self) -> None:
        """Ask the node to shut down in order."""
        await self._ask(StopNode())

    async def run(self, name: str, argument: Record, result: type[_R], listen: Listener) -> _R:
        """Start a task, follow it to its end, and give its result. Cancelling this cancels the task.

        Raises:
            KoinonError: the one with which the task failed.
            Unavailable: the node is gone, or somebody else cancelled the task.
        """
        started = await self._ask(StartTask(name, encode(argument)))
        assert isinstance(started, TaskStarted)
        heard = 0
        try:
            while True:
                report = await self._ask(AskTask(started.task, heard))
                assert isinstance(report, TaskReport)
                for note in report.notes:
                    listen(note, report.fraction)
                heard += len(report.notes)
                if report.state == "done":
                    return decode(result, report.result)
                if report.state == "failed":
                    raise _error(report.error_kind)(report.error)
                if report.state == "cancelled":
                    raise Unavailable(f"the task {name} was cancelled at the node")
        except asyncio.CancelledError:
            await self._ask(CancelTask(started.task))
            raise


def _error(kind: str) -> type[KoinonError]:
    found = getattr(errors, kind, KoinonError)
    return found if isinstance(found, type) and issubclass(found, KoinonError) else KoinonError
