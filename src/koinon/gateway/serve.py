"""``koinon site``: the application under uvicorn, in a process of its own."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

import uvicorn

from koinon.contracts.artifacts import SUITE
from koinon.contracts.client import ChainClient
from koinon.contracts.rpc import HttpRpc, Rpc
from koinon.gateway.application import create_application
from koinon.gateway.journal import DEFAULT_CAPACITY
from koinon.gateway.source import ChainSource
from koinon.gateway.status import StatusSource
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import parse_address
from koinon.net.listening import open_listener
from koinon.privacy.differential.opened import OpenedLedger

CLOSING_SECONDS = 3
CONNECTIONS = 512


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """What the site needs to know.

    Attributes:
        chain_urls: addresses of chain nodes, tried in turn. They may hold an access key; no page shows them.
        addresses: ``0x`` address of each contract of the suite by its name (``Token``, ``Providers``, …).
        host, port: where to listen; port 0 takes a free one.
        hosts: names, besides the loopback's, under which browsers may ask for the site.
        public_rpc: address of a chain node for the commands that pages show; None shows ``$RPC``.
        first_height: block before which the suite did not exist.
        capacity: events kept in memory, at most; about 1 KB each.
        ledgers: privacy ledgers that their owners opened to this site, by data set.
    """

    chain_urls: tuple[str, ...]
    addresses: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 8600
    hosts: tuple[str, ...] = ()
    public_rpc: str | None = None
    first_height: int = 0
    capacity: int = DEFAULT_CAPACITY
    ledgers: Mapping[str, OpenedLedger] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Site:
    """A site that listens."""

    url: str
    source: ChainSource
    serving: "asyncio.Task[None]"

    async def wait(self) -> None:
        """Until it stops serving."""
        await asyncio.shield(self.serving)


class _Server(uvicorn.Server):
    """uvicorn that says when it listens and leaves the process's signals to the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def open_site(
    config: SiteConfig, status: StatusSource | None = None, rpc: Rpc | None = None
) -> AsyncIterator[Site]:
    """A site that serves for as long as the context lasts.

    Args:
        rpc: takes the place of ``config.chain_urls``.

    Raises:
        InvalidInput: the configuration names no chain or not the whole suite.
        Unavailable: the port is taken.
    """
    addresses = _checked(config.addresses)
    client = ChainClient(rpc or HttpRpc(config.chain_urls))
    source = ChainSource(
        client,
        addresses,
        status,
        first_height=config.first_height,
        public_rpc=config.public_rpc,
        capacity=config.capacity,
        ledgers=config.ledgers,
    )
    listener = open_listener(config.host, config.port, "the site")
    port = listener.getsockname()[1]
    server = _Server(
        uvicorn.Config(
            create_application(source, (*config.hosts, config.host)),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve([listener]))
    ready = asyncio.create_task(server.listening.wait())
    try:
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            raise Unavailable(f"the site could not start on {config.host}:{port}; see the lines above")
        shown = f"[{config.host}]" if ":" in config.host else config.host
        yield Site(url=f"http://{shown}:{port}", source=source, serving=serving)
    finally:
        ready.cancel()
        source.changes.close()
        server.should_exit = True
        await serving
        listener.close()
        await client.close()


async def serve_site(config: SiteConfig, status: StatusSource | None = None) -> None:
    """Serve until cancelled or until SIGTERM.

    Raises:
        InvalidInput: the configuration names no chain or not the whole suite.
        Unavailable: the port is taken.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    try:
        async with open_site(config, status) as site:
            told = asyncio.create_task(stopped.wait())
            await asyncio.wait({told, site.serving}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _checked(addresses: Mapping[str, str]) -> dict[str, str]:
    missing = [name for name in SUITE if name not in addresses]
    if missing:
        raise InvalidInput(f"the site needs the address of every contract of the suite; missing: {', '.join(missing)}")
    return {name: "0x" + parse_address(addresses[name]).hex() for name in SUITE}
