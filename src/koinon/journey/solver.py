"""Before a study is proposed: whether its owners share rows or sums of their own, where its file leaves that open."""

import asyncio
from statistics import median
from typing import Final

from koinon.contracts.providers import Role
from koinon.jobs import solvers
from koinon.jobs.study import StudyFile
from koinon.journey.desk import Desk
from koinon.journey.study import announced_rows
from koinon.kernel.errors import KoinonError, Unavailable
from koinon.kernel.ids import Address
from koinon.privacy.engines import Network
from koinon.wire.studies import Ping

MOST_ASKED: Final = 8
PING_SECONDS: Final = 20.0
_PINGS: Final = 3


async def chosen(desk: Desk, draft: StudyFile, round_trip_seconds: float, bits_per_second: float) -> StudyFile:
    """The study as owners may sign it, after saying what either way takes.

    The owners are asked how many rows they have; for whoever does not answer it is the study's least.

    Args:
        round_trip_seconds: between committee members; below 0 it is measured.

    Raises:
        Refused: an owner would say no, or there is no way to compute it.
        Unavailable: the round trip is to be measured, and no node that can be drawn answers.
    """
    from koinon.privacy.programs.owner_sums import AUTO, ROWS

    if not solvers.has_choice(draft) or solvers.solver_of(draft) != AUTO:
        return draft
    told = await announced_rows(desk, solvers.with_solver(draft, ROWS))
    rows = tuple(count or draft.minimum_rows for count in told)
    away = round_trip_seconds if round_trip_seconds >= 0.0 else await round_trip(desk)
    ways = await asyncio.to_thread(solvers.ways, draft, rows, Network(away, bits_per_second))
    taken = solvers.fastest(ways).solver
    links = f"{away * 1e3:.1f} ms round trip, {bits_per_second / 1e6:g} Mbit/s"
    desk.say(f"{solvers.reason(ways, taken)}; {sum(rows)} rows, {links}", 0.05)
    return solvers.with_solver(draft, taken)


async def round_trip(desk: Desk) -> float:
    """Seconds from here to the nodes that can be drawn and back: the median of some, the best of a few for each.

    Nodes are taken to be as far from each other as from here.

    Raises:
        Unavailable: none of them answers.
    """
    candidates = (await desk.suite.providers.eligible(Role.COMPUTE))[:MOST_ASKED]
    asked = await asyncio.gather(*(_pinged(desk, one.account) for one in candidates), return_exceptions=True)
    found = [seconds for seconds in asked if isinstance(seconds, float)]
    for problem in asked:
        if isinstance(problem, BaseException) and not isinstance(problem, KoinonError):
            raise problem
    if not found:
        raise Unavailable("no node that can be drawn answers, so its distance is not known; say it with --rtt")
    return median(found)


async def _pinged(desk: Desk, account: Address) -> float:
    record = await desk.directory.find_account(account)
    loop, seconds = asyncio.get_running_loop(), []
    # The first opens the connection.
    for _ in range(1 + _PINGS):
        began = loop.time()
        await desk.transport.call(record.endpoint, Ping(), PING_SECONDS)
        seconds.append(loop.time() - began)
    return min(seconds[1:])
