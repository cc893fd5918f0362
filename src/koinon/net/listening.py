"""One way to take a port, and one sentence where it is taken."""

import socket
from typing import Final

from koinon.kernel.errors import Unavailable

BACKLOG: Final = 128


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
