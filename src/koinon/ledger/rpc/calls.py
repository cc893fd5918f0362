"""Running contract calls beside the event loop, and saying what came of them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeVar

from koinon.kernel.errors import Refused
from koinon.kernel.quantities import Gas
from koinon.ledger.execution import Call, CallResult
from koinon.ledger.rpc.failures import LimitExceeded, Reverted
from koinon.ledger.rpc.limits import Limits
from koinon.ledger.rpc.table import Caller

_THREADS: Final = 2
_MOST_WAITING: Final = 256
_REVERT_SELECTOR: Final = bytes.fromhex("08c379a0")
_PANIC_SELECTOR: Final = bytes.fromhex("4e487b71")
_LONGEST_REASON: Final = 1024
_PRECISION: Final = 64
_PATIENCE: Final = 4

_T = TypeVar("_T")


class CallLane:
    """A few threads for what takes long: calls, traces, searches."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.threads = ThreadPoolExecutor(_THREADS, "ledger-call")
        self._waiting = 0

    async def run(self, caller: Caller, work: Callable[[], _T]) -> _T:
        """The result of ``work``, run in a thread.

        Raises:
            LimitExceeded: too much of this client's, or of everybody's, runs or waits already, or there is no answer
                in time. Work bounds its own time by ``limits.call_seconds``; here its wait for a turn is bounded too.
        """
        client = caller.client
        if client.calls >= self.limits.waiting_calls or self._waiting >= _MOST_WAITING:
            raise LimitExceeded("too many calls wait for their turn; send the next when one has been answered")
        future = asyncio.get_running_loop().run_in_executor(self.threads, work)
        client.calls += 1
        self._waiting += 1

        def done(_: object) -> None:
            client.calls -= 1
            self._waiting -= 1

        future.add_done_callback(done)
        try:
            async with asyncio.timeout(_PATIENCE * self.limits.call_seconds):
                return await asyncio.shield(future)
        except TimeoutError:
            raise LimitExceeded("too many calls wait for their turn; try again in a moment") from None

    def close(self) -> None:
        """Wait for what runs; what has not begun is dropped."""
        self.threads.shutdown(cancel_futures=True)


def checked(result: CallResult) -> bytes:
    """The output of a call that succeeded.

    Raises:
        Reverted: the contract took it back; with its data.
        Refused: it failed in another way; says which.
    """
    if result.succeeded:
        return result.output
    if result.reason == "Revert":
        raise Reverted(revert_message(result.output), result.output)
    raise Refused(f"the call failed: {result.reason}")


def revert_reason(output: bytes) -> str | None:
    """The text of a revert with ``Error(string)``, None if it carries none."""
    if output[:4] != _REVERT_SELECTOR or len(output) < 68:
        return None
    length = min(int.from_bytes(output[36:68], "big"), _LONGEST_REASON)
    return output[68 : 68 + length].decode("utf-8", "replace")


def revert_message(output: bytes) -> str:
    """What a revert says, in the words that clients look for."""
    reason = revert_reason(output)
    if reason is not None:
        return "execution reverted: " + reason
    if output[:4] == _PANIC_SELECTOR and len(output) == 36:
        return f"execution reverted: panic 0x{int.from_bytes(output[4:], 'big'):02x}"
    return "execution reverted"


def estimate_gas(run: Callable[[Call], CallResult], call: Call) -> int:
    """Gas with which the call succeeds; at most a 64th more than the least that would do.

    A run with all the gas tells how much is used before the refund, which nearly always is enough. A call that hands on
    all but a 64th of its gas may need more; bisection finds it.

    Raises:
        Reverted, Refused: it fails even with all the gas.
    """
    whole = run(call)
    checked(whole)

    def succeeds(gas: int) -> bool:
        return run(replace(call, gas=Gas(gas))).succeeded

    short: int = whole.gas_before_refund
    if succeeds(short):
        return short
    enough: int = call.gas
    while enough - short > enough // _PRECISION:
        middle = (enough + short) // 2
        if succeeds(middle):
            enough = middle
        else:
            short = middle
    return enough
