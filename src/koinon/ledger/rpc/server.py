"""The RPC's socket: uvicorn inside the node's own event loop."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from koinon.ledger.rpc.http import RpcApplication
from koinon.ledger.rpc.limits import Limits
from koinon.ledger.rpc.protocol import JsonRpc
from koinon.ledger.rpc.table import Table
from koinon.net.listening import open_listener

_MOST_CONNECTIONS: Final = 1024
_KEEP_ALIVE_SECONDS: Final = 30
_UNREAD_SECONDS: Final = 20


@asynccontextmanager
async def serve_rpc(table: Table, host: str, port: int, limits: Limits) -> AsyncIterator[str]:
    """Answer JSON-RPC over HTTP and WebSocket while the context is open; gives the address as a URL.

    Raises:
        Unavailable: the port is taken or the host is not ours.
    """
    import uvicorn

    from koinon.ledger.rpc.connections import bounded_protocol

    class Server(uvicorn.Server):
        """The node handles signals itself."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    rpc = JsonRpc(table, limits)
    listener = open_listener(host, port, "the RPC")
    # A client that leaves what it asked for unread holds a connection and its buffers no longer than this.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_SECONDS * 1000)
    address = listener.getsockname()
    configuration = uvicorn.Config(
        RpcApplication(rpc, loopback=ipaddress.ip_address(address[0]).is_loopback),
        http=bounded_protocol(rpc.clients),
        ws="websockets-sansio",
        ws_max_size=limits.body_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=_UNREAD_SECONDS,
        ws_ping_timeout=_UNREAD_SECONDS,
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
