"""An ASGI application on a port of this process: uvicorn's HTTP machine, our limits on headers, a clean end.

uvicorn bounds neither the time nor the size of request headers; the protocol class here does both, so that a caller who
sends a byte a minute, or headers without end, loses the connection and nobody else notices.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from koinon.net.listening import open_listener

KEEP_ALIVE_SECONDS: Final = 30
MOST_CONNECTIONS: Final = 1024
SHUTDOWN_SECONDS: Final = 10.0
_BACKLOG: Final = 256

Application = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Served:
    """Where an application is reachable."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """``http://host:port``, with brackets round an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@asynccontextmanager
async def serve_app(app: Application, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Served]:
    """Serve ``app`` until the context ends; calls in progress are answered first, for at most 10 s.

    Args:
        app: an ASGI 3 application.
        host: address to listen on; loopback unless told.
        port: 0 takes a free one.

    Raises:
        Unavailable: the port is in use or the address is not this machine's.
    """
    # Late: a node without a service role does not pay for importing uvicorn.
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from koinon.serving.bounded_http import BoundedHttp

    listener = open_listener(host, port, "the service")
    state = ServerState()
    config = Config(
        app,
        http=BoundedHttp,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        limit_concurrency=MOST_CONNECTIONS,
        interface="asgi3",
    )
    config.load()
    app_state: dict[str, Any] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: BoundedHttp(config=config, server_state=state, app_state=app_state, _loop=loop),
        sock=listener,
        backlog=_BACKLOG,
    )
    try:
        yield Served(*listener.getsockname()[:2])
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            _, late = await asyncio.wait(list(state.tasks), timeout=SHUTDOWN_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        for connection in list(state.connections):
            connection.transport.abort()
        await server.wait_closed()
