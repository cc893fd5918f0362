"""The disposable child that runs one attempt: what it is told, and what its words mean for the seat."""

import asyncio
import logging
from typing import Final, TypeVar

from koinon.jobs import member
from koinon.kernel.errors import KoinonError, MalformedMessage
from koinon.kernel.quantities import Seconds
from koinon.node import disputes
from koinon.node.context import Context
from koinon.node.roles.committee_seat import Seat
from koinon.wire.catalogue import Message, from_frame, to_frame
from koinon.wire.committee import NOBODY, Aborted, Listening, OpenedView, Output, Peer, Prepare, Progress
from koinon.worker import Limits, Worker

journal = logging.getLogger("koinon.compute")

WORKER_MEMORY_BYTES: Final = 2 * 1024**3
WORKER_FRAME_BYTES: Final = 256 * 1024**2

_M = TypeVar("_M", bound=Message)


async def work(context: Context, seat: Seat) -> None:
    """The disposable child of this attempt: prepare, listen, run, report. Its death is an event."""
    limits = Limits(
        memory_bytes=WORKER_MEMORY_BYTES,
        cpu_seconds=int(seat.run_seconds) + 60,
        wall_seconds=Seconds(seat.run_seconds + 60),
        frame_bytes=WORKER_FRAME_BYTES,
        network=True,
    )
    from koinon.privacy.engines import engine_named
    from koinon.privacy.seats import certify

    state = seat.state
    try:
        async with Worker.start(engine_named(seat.study.engine).worker, limits) as worker:
            seed = context.rng.bytes(32)
            await _tell(worker, Prepare(seat.session, state.position, seed, context.config.host))
            listening = await _hear(worker, Listening)
            certificate = certify(context.keys.node, seat.session, state.position, listening.ephemeral)
            peer = Peer(
                context.keys.node.node_id,
                listening.ephemeral,
                certificate,
                context.config.host,
                listening.port,
            )
            seat.events.put_nowait(member.WorkerListening(peer))
            await _tell(worker, await seat.to_worker.get())
            while isinstance(report := await _hear(worker, Message), Progress | OpenedView):
                if isinstance(report, Progress):
                    seat.stage = report.stage
                else:
                    await _keep(context, seat, "view", report)
            if isinstance(report, Aborted) and report.dispute is not None:
                await _keep(context, seat, "evidence", report.dispute)
            if isinstance(report, Aborted) and report.testimony is not None:
                await _keep(context, seat, "testimony", report.testimony)
            seat.events.put_nowait(_outcome(report))
    except KoinonError as problem:
        # Nothing names a culprit when one's own child fails; the others will find this seat silent.
        nothing = member.WorkerAborted(f"the worker failed: {problem}", frozenset({state.position}), None, None, None)
        seat.events.put_nowait(nothing)


async def _keep(context: Context, seat: Seat, kind: str, message: Message) -> None:
    """Keep what a judge may need of a disputed run; a view is as secret as the shares it holds."""
    path = context.home.disputes / disputes.file_name(seat.state.study, seat.state.attempt, kind)
    await asyncio.to_thread(disputes.keep, path, message)
    journal.info("study %d: kept %s; see: koinon study accuse, koinon study plead", seat.state.study, path.name)


async def _tell(worker: Worker, message: Message) -> None:
    await worker.send(to_frame(message))


async def _hear(worker: Worker, kind: type[_M]) -> _M:
    message = from_frame(await worker.receive())
    if not isinstance(message, kind):
        raise MalformedMessage(f"the worker said {type(message).__name__} where {kind.__name__} was due")
    return message


def _outcome(report: Message) -> member.MemberEvent:
    if isinstance(report, Output):
        return member.WorkerFinished(report.package, report.output_digest)
    if not isinstance(report, Aborted):
        raise MalformedMessage(f"the worker ended with {type(report).__name__}")

    def seat(position: int) -> int | None:
        return None if position == NOBODY else position

    return member.WorkerAborted(
        report.reason, frozenset(report.suspects), seat(report.sender), seat(report.backup), seat(report.receiver)
    )
