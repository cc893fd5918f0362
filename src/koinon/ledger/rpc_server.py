"""The RPC's socket: uvicorn inside the node's own event loop."""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from koinon.ledger.rpc import Method, RpcApplication
from koinon.net.listening import open_listener

_MOST_CONNECTIONS: Final = 256
_KEEP_ALIVE_SECONDS: Final = 30


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

    listener = open_listener(host, port, "the RPC")
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
