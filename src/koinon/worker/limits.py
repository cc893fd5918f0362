"""What a child process may use, and the ways in which it can end."""

from dataclasses import dataclass
from enum import Enum
from signal import SIGKILL, SIGXCPU, Signals
from typing import Final

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import Seconds
from koinon.wire.frames import LARGEST_BODY

MEMORY_EXIT_CODE: Final = 91
"""How a child says that an allocation failed."""

FAILURE_EXIT_CODE: Final = 92
"""How a child says that its function raised."""


class Limits(Record, frozen=True):
    """Limits of one child; the kernel holds all of them except ``wall_seconds``, which its parent holds.

    A child can never start processes or programs, trace others or dump its memory, whatever the limits say.

    Attributes:
        memory_bytes: address space (RLIMIT_AS), which numerical libraries reserve more of than they touch.
        cpu_seconds: processor time of all its threads.
        wall_seconds: from its start to its end.
        file_bytes: the longest file it may write.
        open_files: descriptors it may hold at once.
        frame_bytes: the longest frame either side may send.
        network: whether it may open sockets. The channel to its parent works either way.
    """

    memory_bytes: int = 2 * 1024**3
    cpu_seconds: int = 60
    wall_seconds: Seconds = Seconds(120.0)
    file_bytes: int = 64 * 1024**2
    open_files: int = 256
    frame_bytes: int = LARGEST_BODY
    network: bool = False

    def check(self) -> None:
        """Raises InvalidInput unless every limit is positive and a frame fits the framing."""
        for name in ("memory_bytes", "cpu_seconds", "wall_seconds", "file_bytes", "open_files", "frame_bytes"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"the worker limit {name} must be above 0; got {getattr(self, name)}")
        if self.frame_bytes > LARGEST_BODY:
            raise InvalidInput(f"the worker limit frame_bytes must be at most {LARGEST_BODY}; got {self.frame_bytes}")


class ExitReason(Enum):
    """Why a child ended."""

    FINISHED = "finished"
    FAILED = "its function failed"
    MEMORY = "killed by the memory limit"
    CPU = "killed by the processor time limit"
    DEADLINE = "killed at its deadline"
    CANCELLED = "cancelled"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended.

    Attributes:
        reason: why.
        signal: the signal that ended it where one did.
    """

    reason: ExitReason
    signal: Signals | None = None

    def __str__(self) -> str:
        if self.reason is ExitReason.CRASHED and self.signal is not None:
            return f"crashed with {self.signal.name}"
        return self.reason.value


def classify_exit(status: int, stopped: ExitReason | None, complaint: bytes) -> Exit:
    """How a child with this wait status ended.

    Args:
        status: exit code, or the negated number of the signal that ended it, as ``subprocess`` gives it.
        stopped: why its parent killed it, if its parent did.
        complaint: the end of what it wrote to standard error; native code that runs out of memory says so there.
    """
    killer = Signals(-status) if status < 0 else None
    if stopped is not None and killer is SIGKILL:
        return Exit(stopped, killer)
    if status == 0:
        return Exit(ExitReason.FINISHED)
    if status == MEMORY_EXIT_CODE or b"bad_alloc" in complaint:
        return Exit(ExitReason.MEMORY, killer)
    if killer is SIGXCPU:
        return Exit(ExitReason.CPU, killer)
    return Exit(ExitReason.CRASHED if killer is not None else ExitReason.FAILED, killer)
