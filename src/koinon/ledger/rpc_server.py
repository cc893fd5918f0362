"""The RPC's socket: uvicorn inside the node's own event loop."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from koinon.kernel.errors import Unavailable
from koinon.ledger.rpc import Method, RpcApplication

_MOST_CONNECTIONS: Final = 256
_KEEP_ALIVE_SECONDS: Final = 30
_BACKLOG: Final = 128


@asynccontextmanager
async def serve_rpc(methods: dict[str, Method], host: str, port: int) -> AsyncIterator[str]:
    """Answer JSON-RPC while the context is open; gives the address as a URL.

    Raises:
        Unavailable: the port is taken or the host is not ours.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """The node handles signals itself."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    listener = _listen(host, port)
    address = listener.getsockname()
    configuration = uvicorn.Config(
        RpcApplication(methods, loopback=ipaddress.ip_address(address[0]).is_loopback),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    server = Server(configuration)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="ledger rpc")
    try:
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        yield f"http://{name}:{address[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as problem:
        listener.close()
        raise Unavailable(f"the RPC cannot listen on {host}:{port} ({problem.strerror}); choose another port") from None
    return listener
