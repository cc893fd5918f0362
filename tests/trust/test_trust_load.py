"""The load generator, in virtual time: it tells the truth about stalls, lateness and limits."""

import asyncio
from math import comb

import numpy as np
import pytest
from trust_world import run_in_virtual_time, virtual_clock

from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.trust.load import http_target, open_loop, ramp


class Server:
    """Answers one call at a time, each in ``service`` virtual seconds; stalls once for ``stall`` seconds at ``at``."""

    def __init__(self, service: float, stall: float = 0.0, at: float = 0.5) -> None:
        self.service, self.stall, self.at = service, stall, at
        self.turn = asyncio.Lock()
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        async with self.turn:
            if self.stall and virtual_clock() >= self.at:
                pause, self.stall = self.stall, 0.0
                await asyncio.sleep(pause)
            await asyncio.sleep(self.service)


def step(server: Server, rate: float, calls: int = 1000, objective: float = 0.05, seed: int = 1) -> object:
    async def work() -> object:
        return await open_loop(server, rate, calls, objective, np.random.default_rng(seed), virtual_clock)

    return run_in_virtual_time(work())


def test_an_idle_server_is_measured_at_its_service_time() -> None:
    found = step(Server(0.001), rate=50)
    assert found.verdict == "met"
    assert found.failed == 0
    assert found.p50 == pytest.approx(0.001, rel=0.01)
    assert found.p99_low <= found.p99 <= found.p99_high
    assert found.lateness < 1e-6


def test_a_stall_counts_for_every_call_that_was_due_meanwhile() -> None:
    """A closed loop would have seen one slow call; the open loop sees the 300 that were due in the stalled second."""
    found = step(Server(0.0005, stall=1.0), rate=300)
    assert found.verdict == "missed"
    assert found.p99 > 0.9


def test_arrivals_are_poisson_at_the_stated_rate() -> None:
    times: list[float] = []

    async def note() -> None:
        times.append(virtual_clock())

    async def work() -> None:
        await open_loop(note, 200, 4000, 0.05, np.random.default_rng(3), virtual_clock)

    run_in_virtual_time(work())
    gaps = np.diff(times)
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 200, rel=0.08)


def test_a_queue_follows_theory() -> None:
    """M/D/1 at load ρ waits ρ·s / (2·(1 − ρ)) on average (Pollaczek and Khinchine); the median is a little below."""
    found = step(Server(0.004), rate=200, calls=4_000, objective=1.0)
    mean_wait = 0.8 * 0.004 / (2 * 0.2)
    assert 0.004 + 0.4 * mean_wait < found.p50 < 0.004 + 1.2 * mean_wait


def test_failures_are_counted_and_never_met() -> None:
    class Flaky(Server):
        async def __call__(self) -> None:
            number = self.calls
            await super().__call__()
            if number % 100 == 0:
                raise Unavailable("gone")

    found = step(Flaky(0.001), rate=50)
    assert found.failed == 10
    assert found.verdict == "missed"


def test_calls_that_never_answer_end_with_the_drain() -> None:
    class Silent(Server):
        async def __call__(self) -> None:
            await asyncio.Event().wait()

    found = step(Silent(0.0), rate=50, calls=100)
    assert found.failed == 100
    assert np.isinf(found.p99)


def test_a_generator_that_is_late_itself_says_undecided() -> None:
    clock = iter(np.arange(0.0, 10_000.0, 0.02))

    async def nothing() -> None:
        return None

    async def work() -> object:
        # Every look at this clock costs 20 ms, so the generator falls behind its own schedule of 1000 calls per second.
        return await open_loop(nothing, 1000, 200, 0.05, np.random.default_rng(0), lambda: float(next(clock)))

    found = run_in_virtual_time(work())
    assert found.failed == 0
    assert found.lateness > 0.005
    assert found.verdict == "undecided"


def test_the_ramp_stops_at_the_first_rate_that_is_not_met() -> None:
    async def work() -> object:
        rates = (50.0, 100.0, 140.0, 400.0, 800.0)
        return await ramp(Server(0.005), rates, 2000, 0.05, np.random.default_rng(1), virtual_clock)

    found = run_in_virtual_time(work())
    assert [one.verdict for one in found.steps] == ["met", "met", "met", "missed"]
    assert (found.best_rate, found.next_rate) == (140.0, 400.0)


def test_ranks_of_the_interval_are_the_binomials() -> None:
    from koinon.trust.load import _quantile_ranks

    low, high = _quantile_ranks(1000, 0.99)
    probability = [comb(1000, k) * 0.99**k * 0.01 ** (1000 - k) for k in range(1001)]
    assert sum(probability[low:high]) >= 0.94
    assert low < 990 < high <= 1000


def test_a_fault_of_the_callers_own_code_is_not_counted_as_load() -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_virtual_time(open_loop(broken, 100, 100, 0.05, np.random.default_rng(0)))


def test_steps_without_sense_are_refused() -> None:
    for rate, calls, objective in ((0, 200, 1.0), (-5, 200, 1.0), (10, 99, 1.0), (10, 200, 0.0)):
        with pytest.raises(InvalidInput):
            step(Server(0.001), rate, calls, objective)
    for rates in ((), (2.0, 1.0), (1.0, 1.0)):
        with pytest.raises(InvalidInput, match="must rise"):
            run_in_virtual_time(ramp(Server(0.001), rates, 200, 1.0, np.random.default_rng(0)))


ANSWERS = {
    "right": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0),
    "refused": (b"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\nno", 100),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\nok", 100),
    "half a head": (b"HTTP/1.1 200", 100),
    "nothing": (b"", 100),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000, 100),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_http_endpoint_is_called_and_its_failures_counted(name: str) -> None:
    reply, failed = ANSWERS[name]
    request = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readexactly(len(request)) == request and reply:
                writer.write(reply)
                await writer.drain()
                if name not in ("right", "refused"):
                    break
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with http_target("127.0.0.1", port, request, connections=4) as call:
            found = await open_loop(call, 2000, 100, 5.0, np.random.default_rng(0))
    assert found.failed == failed
    assert (found.verdict == "met") == (failed == 0)


async def test_an_endpoint_that_is_not_there_fails_every_call(unused_tcp_port: int) -> None:
    async with http_target("127.0.0.1", unused_tcp_port, b"GET / HTTP/1.1\r\n\r\n") as call:
        with pytest.raises(Unavailable, match="did not answer"):
            await call()
