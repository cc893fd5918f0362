"""The program of a child: confine itself, import one function, run it with the channel to its parent.

Started as ``python -m koinon.worker.child module:function descriptor parent limits`` by ``koinon.worker.supervisor``.
"""

import asyncio
import importlib
import inspect
import os
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, KoinonError, Unavailable
from koinon.wire.catalogue import Failure
from koinon.wire.failures import failure_of
from koinon.worker import confinement
from koinon.worker.channel import FAILED, READY, AsyncChannel, Channel
from koinon.worker.limits import FAILURE_EXIT_CODE, MEMORY_EXIT_CODE, Limits


def main(arguments: list[str]) -> int:
    """Run one worker; returns its exit code."""
    target, descriptor, parent, text = arguments
    confinement.die_with(int(parent))
    limits = decode(Limits, bytes.fromhex(text))
    channel = Channel(socket.socket(fileno=int(descriptor)), limits.frame_bytes)
    try:
        confinement.apply(limits)
        function = _find(target)
        channel.send_frame(READY, ())
        if inspect.iscoroutinefunction(function):
            _run_async(function, channel)
        else:
            function(channel)
    except MemoryError:
        # Nothing more may be allocated; the exit code carries the reason.
        os._exit(MEMORY_EXIT_CODE)
    except KoinonError as problem:
        return _report(channel, failure_of(problem))
    except Exception as problem:
        # The text of a foreign error may quote data, so only its type travels; the rest stays in the captured output.
        traceback.print_exc()
        return _report(channel, Failure("Unavailable", f"the worker {target} failed with {type(problem).__name__}"))
    return 0


def _find(target: str) -> Callable[[Any], Any]:
    module_name, _, name = target.partition(":")
    function = getattr(importlib.import_module(module_name), name, None)
    if not callable(function):
        raise InvalidInput(f"there is no function {name!r} in {module_name}")
    return function  # type: ignore[no-any-return]


def _run_async(function: Callable[[AsyncChannel], Awaitable[None]], channel: Channel) -> None:
    import uvloop

    async def run() -> None:
        connection = await AsyncChannel.open(channel)
        try:
            await function(connection)
        finally:
            await connection.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _report(channel: Channel, failure: Failure) -> int:
    try:
        channel.send_frame(FAILED, (encode(failure),))
    except Unavailable:
        print(failure.reason, file=sys.stderr)
    return FAILURE_EXIT_CODE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
