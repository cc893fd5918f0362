"""Repeating an accused position's part in a disposable child, for its judges and for the accused itself."""

from typing import Final

from koinon.kernel.errors import MalformedMessage
from koinon.kernel.quantities import Seconds
from koinon.wire.catalogue import from_frame, to_frame
from koinon.wire.committee import Hear, Heard, OpenedView, SealedDispute
from koinon.worker import Limits, Worker

CHILD: Final = "koinon.privacy.rep4.hearing_worker:main"
MEMORY_BYTES: Final = 3 * 1024**3
"""A member's worker has 2 GiB; its judge's child reads the frames that it took in besides."""
FRAME_BYTES: Final = 256 * 1024**2


async def repeat(sealed: SealedDispute, view: OpenedView, run_seconds: float) -> str:
    """What repeating shows: KEPT, DEVIATED or UNATTRIBUTED.

    Args:
        run_seconds: how long the attempt might take, by the study's terms.

    Raises:
        Forged, MalformedMessage: the view is no run of the session.
        InvalidInput: this installation has another version of the program.
        Unavailable: the child died, or took longer than a member may.
    """
    seconds = 2 * run_seconds + 60
    limits = Limits(
        memory_bytes=MEMORY_BYTES, cpu_seconds=int(seconds), wall_seconds=Seconds(seconds), frame_bytes=FRAME_BYTES
    )
    async with Worker.start(CHILD, limits) as worker:
        await worker.send(to_frame(Hear(sealed, view)))
        answer = from_frame(await worker.receive())
    if not isinstance(answer, Heard):
        raise MalformedMessage(f"a judge's child answered {type(answer).__name__}")
    return answer.outcome
