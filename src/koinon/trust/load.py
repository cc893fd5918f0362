"""Load as the outside world makes it: calls arrive when they arrive, whether or not the last one was answered.

An open-loop generator with Poisson arrivals. Latency counts from the moment a call was *scheduled*, not from when it
was at last sent: a generator that waits for a stalled server would otherwise leave the stall out (with a one-second
stall the difference was 9 ms against 970 ms). How late the generator itself was is reported; where that is more than
a tenth of the objective, the step is undecided and says so.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, exp, lgamma, log, log1p
from typing import Final, TypeAlias

import numpy as np

from koinon.kernel.errors import InvalidInput, KoinonError, Unavailable

Call: TypeAlias = Callable[[], Awaitable[object]]
"""One call to the thing under load; any KoinonError or OSError it raises counts as a failed call."""

Clock: TypeAlias = Callable[[], float]
"""Seconds, monotonic."""

LATE_SHARE: Final = 0.1
"""A generator whose 99th-percentile lateness exceeds this share of the objective cannot judge it."""
DRAIN_OBJECTIVES: Final = 20
"""After the last arrival, answers are awaited for this many times the objective."""
FEWEST_CALLS: Final = 100
_HEAD_LIMIT: Final = 16 * 1024


@dataclass(frozen=True)
class LoadStep:
    """One arrival rate. All times in seconds.

    Attributes:
        rate: calls per second that were scheduled.
        calls: how many were scheduled.
        failed: how many raised an error or were not answered before the drain ended.
        p50, p99: latency from the scheduled time of those answered; infinite where none was.
        p99_low, p99_high: distribution-free 95 % interval of p99 (order statistics).
        lateness: 99th percentile of how late the generator started a call.
        verdict: "met", "missed" or "undecided".
    """

    rate: float
    calls: int
    failed: int
    p50: float
    p99: float
    p99_low: float
    p99_high: float
    lateness: float
    verdict: str


@dataclass(frozen=True)
class LoadFinding:
    """A ramp of rates.

    Attributes:
        steps: in rising order of rate, ending with the first that was not met.
        best_rate: highest rate met; 0 where none was.
        next_rate: lowest rate that was not met, or ``best_rate`` where the ramp ended first.
    """

    steps: tuple[LoadStep, ...]
    best_rate: float
    next_rate: float


async def open_loop(
    call: Call, rate: float, calls: int, objective: float, rng: np.random.Generator, clock: Clock = time.perf_counter
) -> LoadStep:
    """Make ``calls`` calls at Poisson times of ``rate`` per second and measure them against ``objective`` seconds.

    Raises:
        InvalidInput: a rate or objective that is not positive, or too few calls for a 99th percentile.
    """
    if rate <= 0 or objective <= 0 or calls < FEWEST_CALLS:
        raise InvalidInput(f"a load step needs a positive rate and objective and at least {FEWEST_CALLS} calls")
    latencies: list[float] = []
    lateness: list[float] = []
    arrivals = np.cumsum(rng.exponential(1 / rate, calls))

    async def one(scheduled: float) -> None:
        try:
            await call()
        except (KoinonError, OSError, EOFError):
            return  # counted: whatever left no latency has failed
        latencies.append(clock() - scheduled)

    started = clock()
    async with _tasks() as tasks:
        for arrival in arrivals:
            scheduled = started + float(arrival)
            wait = scheduled - clock()
            # Sleeping for nothing still lets answers be read; skipping it would starve them in a burst.
            await asyncio.sleep(max(wait, 0.0))
            lateness.append(max(clock() - scheduled, 0.0))
            tasks.add(asyncio.create_task(one(scheduled)))
        answered, _ = await asyncio.wait(tasks, timeout=DRAIN_OBJECTIVES * objective)
        for task in answered:
            # Failed calls have ended quietly; what is raised here is a fault of the caller's own code.
            task.result()
    return _judge(rate, calls, sorted(latencies), lateness, objective)


async def ramp(
    call: Call,
    rates: tuple[float, ...],
    calls: int,
    objective: float,
    rng: np.random.Generator,
    clock: Clock = time.perf_counter,
) -> LoadFinding:
    """Raise the rate step by step until one is not met.

    Raises:
        InvalidInput: no rates, or rates that do not rise.
    """
    if not rates or any(later <= earlier for earlier, later in pairwise(rates)):
        raise InvalidInput("the rates of a load ramp must rise from step to step")
    steps: list[LoadStep] = []
    for rate in rates:
        steps.append(await open_loop(call, rate, calls, objective, rng, clock))
        if steps[-1].verdict != "met":
            break
    met = [step.rate for step in steps if step.verdict == "met"]
    best = met[-1] if met else 0.0
    return LoadFinding(tuple(steps), best, best if steps[-1].verdict == "met" else steps[-1].rate)


@asynccontextmanager
async def http_target(host: str, port: int, request: bytes, connections: int = 32) -> AsyncIterator[Call]:
    """A ``Call`` that sends ``request`` (a whole HTTP/1.1 request) on kept-alive connections and reads one answer.

    Connections are opened as calls need them, at most ``connections``; a call that finds none free waits, and its
    waiting counts. The answer must carry Content-Length, as the Open Inference Protocol's do.

    Raises (by the call):
        Unavailable: no connection, an answer other than 200, or one that cannot be read.
    """
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(None)
    opened: set[asyncio.StreamWriter] = set()

    async def call() -> None:
        held = await free.get()
        healthy = None
        try:
            reader, writer = held or await asyncio.open_connection(host, port, limit=_HEAD_LIMIT)
            opened.add(writer)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_content_length(head))
            if head.split(b" ", 2)[1] != b"200":
                raise Unavailable("the endpoint refused a call")
            healthy = (reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError) as problem:
            raise Unavailable(f"the endpoint did not answer: {type(problem).__name__}") from None
        finally:
            free.put_nowait(healthy)

    try:
        yield call
    finally:
        for writer in opened:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in opened), return_exceptions=True)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    raise Unavailable("the endpoint's answer has no Content-Length")


@asynccontextmanager
async def _tasks() -> AsyncIterator[set[asyncio.Task[None]]]:
    """Tasks of which none outlives the block."""
    tasks: set[asyncio.Task[None]] = set()
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _judge(rate: float, calls: int, latencies: list[float], lateness: list[float], objective: float) -> LoadStep:
    failed = calls - len(latencies)
    late = _order_statistic(sorted(lateness), ceil(0.99 * len(lateness)))
    p99 = _order_statistic(latencies, ceil(0.99 * len(latencies)))
    low, high = _quantile_ranks(len(latencies), 0.99)
    # Lateness makes a latency longer, never shorter: what was met stays met, but a miss may be the generator's own.
    if not failed and p99 <= objective:
        verdict = "met"
    else:
        verdict = "undecided" if not failed and late > LATE_SHARE * objective else "missed"
    return LoadStep(
        rate,
        calls,
        failed,
        _order_statistic(latencies, ceil(0.5 * len(latencies))),
        p99,
        _order_statistic(latencies, low),
        _order_statistic(latencies, high),
        late,
        verdict,
    )


def _order_statistic(ordered: list[float], rank: int) -> float:
    """The ``rank``-th smallest, counted from 1."""
    return ordered[min(max(rank, 1), len(ordered)) - 1] if ordered else float("inf")


def _quantile_ranks(count: int, quantile: float) -> tuple[int, int]:
    """Ranks between which the quantile lies with 95 % (binomial); the upper one may be that of the largest value."""
    cumulative, low, high = 0.0, 1, count
    for successes in range(count + 1):
        # In logarithms: the coefficients alone would overflow from a thousand calls on.
        ways = lgamma(count + 1) - lgamma(successes + 1) - lgamma(count - successes + 1)
        cumulative += exp(ways + successes * log(quantile) + (count - successes) * log1p(-quantile))
        if cumulative <= 0.025:
            low = successes + 1
        if cumulative >= 0.975:
            high = min(successes + 1, count)
            break
    return low, high
