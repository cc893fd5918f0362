"""How slow a peer may be before its connection is cut."""

from dataclasses import dataclass
from typing import Final

from koinon.kernel.errors import Unavailable
from koinon.kernel.quantities import Seconds
from koinon.wire.frames import FrameStream


@dataclass(frozen=True, slots=True)
class Pace:
    """Patience, in seconds.

    Attributes:
        greeting: for the TLS handshake, and again for the proof of keys.
        frame: for a frame that has begun to arrive, plus its length at ``slowest_bytes_per_second``.
        slowest_bytes_per_second: what a long frame must keep up.
        stall: with a peer that does not read messages.
        link_stall: with a peer that does not read a link; it may be computing.
        parked: for a link that nobody has accepted.
        retirement: before a connection is closed in favour of another to the same peer.
        closing: for what is left to be sent at shutdown.
        sweep: between two looks at all connections.
    """

    greeting: float = 5.0
    frame: float = 10.0
    slowest_bytes_per_second: float = 256 * 1024
    stall: float = 20.0
    link_stall: float = 600.0
    parked: float = 30.0
    retirement: float = 1.0
    closing: float = 2.0
    sweep: float = 1.0


DEFAULT_PACE: Final = Pace()


def check_pace(stream: FrameStream, pace: Pace, now: Seconds, stall: float) -> None:
    """Cut the connection of a peer that sends a frame too slowly or has not read for ``stall`` seconds."""
    allowed = pace.frame + stream.frame_length / pace.slowest_bytes_per_second
    if stream.reading and stream.frame_began is not None and now - stream.frame_began > allowed:
        stream.cut(Unavailable(f"the peer did not finish a frame within {allowed:.0f} s"))
    elif stream.stalled_since is not None and now - stream.stalled_since > stall:
        stream.cut(Unavailable(f"the peer read nothing for {stall:.0f} s"))
