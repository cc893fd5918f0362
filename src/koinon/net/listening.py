"""One way to take a port, and one sentence where it is taken."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from koinon.kernel.errors import Unavailable

BACKLOG: Final = 128
_OUTGOING: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000
_USUAL_OUTGOING: Final = 32_768


def open_listener(host: str, port: int, what: str, backlog: int = BACKLOG) -> socket.socket:
    """A non-blocking TCP socket that listens; port 0 takes a free one.

    Args:
        what: who wants to listen, as the error's first words: ``"the site"``.

    Raises:
        Unavailable: the port is taken or no port, or the host is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=backlog)
    except (OSError, OverflowError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise Unavailable(
            f"{what} cannot listen on {host}:{port} ({reason}); stop what does, or choose another port"
        ) from None
    listener.setblocking(False)
    return listener


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on now, for processes that are about to start.

    They lie below the range from which the system takes ports for outgoing connections: one of those would else often
    be taken again before its process starts.

    Raises:
        Unavailable: there are not so many.
    """
    chosen: list[int] = []
    candidates = list(range(_LOWEST, max(_first_outgoing(), _LOWEST + 1)))
    random.shuffle(candidates)
    with ExitStack() as held:
        for port in candidates:
            if len(chosen) == count:
                break
            listener = held.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            try:
                listener.bind((host, port))
            except OSError:
                continue
            chosen.append(port)
    if len(chosen) < count:
        raise Unavailable(f"{count} free ports are needed on {host}; {len(chosen)} are left")
    return chosen


def _first_outgoing() -> int:
    try:
        return int(_OUTGOING.read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _USUAL_OUTGOING
