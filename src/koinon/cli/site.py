"""``koinon site``: the network's pages on this machine."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koinon.cli.console import console
from koinon.cli.options import ChainAccess, chain_access, chain_options, read_text
from koinon.kernel.errors import InvalidInput, KoinonError
from koinon.node.home import Home, Identity
from koinon.node.local_network import Network
from koinon.node.operator import Operator

if TYPE_CHECKING:
    from koinon.gateway.serve import SiteConfig
    from koinon.gateway.status import NodeStatus
    from koinon.privacy.differential.opened import OpenedLedger

DEFAULT_FOLDER = Path(".koinon/network")
DEFAULT_PORT = 8600


@click.command()
@click.option(
    "--folder", "network_folder", type=click.Path(path_type=Path), help="A network's folder. [default: .koinon/network]"
)
@chain_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=DEFAULT_PORT, type=click.IntRange(0, 65535), show_default=True, help="0 takes any.")
@click.option("--public-rpc", help="URL of the chain for the commands that pages show; never one with a secret in it.")
@click.option(
    "--opened", "opened", multiple=True, type=click.Path(path_type=Path), help="From koinon data budget --open; repeat."
)
def site(
    network_folder: Path | None,
    folder: Path | None,
    urls: tuple[str, ...],
    suite_file: Path | None,
    host: str,
    port: int,
    public_rpc: str | None,
    opened: tuple[Path, ...],
) -> None:
    """Serve the network's pages until Ctrl-C: studies, models, money, blocks, each number with its evidence.

    With --folder it also asks the nodes of that network how they are; with --home one node; otherwise the chain only.
    With --opened it shows what those data sets' privacy budgets were spent on, to whoever can reach it.
    """
    chosen = [option for option in (network_folder, folder, suite_file) if option is not None]
    if len(chosen) > 1:
        raise InvalidInput("give one of --folder, --home and --suite: each says which network")
    if folder is not None or suite_file is not None:
        access = chain_access(folder, urls, suite_file)
        homes = {Identity.read(Home(folder).identity).name: Home(folder)} if folder is not None else {}
    else:
        network = Network(network_folder or DEFAULT_FOLDER)
        access, homes = _network_access(network), _homes(network)
    asyncio.run(_serve(replace(_config(access, host, port, public_rpc), ledgers=_ledgers(opened)), homes))


@asynccontextmanager
async def open_network_site(network: Network, port: int) -> AsyncIterator[str]:
    """The pages of a network on this machine, for as long as the context lasts; gives their URL.

    Raises:
        InvalidInput: there is no such network, or it has no contracts yet.
        Unavailable: the port is taken.
    """
    from koinon.gateway.serve import open_site

    config = _config(_network_access(network), "127.0.0.1", port, None)
    async with open_site(config, NodeStatuses(_homes(network))) as running:
        yield running.url


class NodeStatuses:
    """Asks nodes how they are over their operators' sockets. A node that does not answer is not alive."""

    def __init__(self, homes: Mapping[str, Home]) -> None:
        self._identities = {name: Identity.read(home.identity) for name, home in homes.items()}
        self._operators = {name: Operator(home.control) for name, home in homes.items()}
        self._processor: dict[str, tuple[float, float]] = {}

    async def nodes(self) -> "tuple[NodeStatus, ...]":
        """One status for each node, in the order of the network."""
        return tuple(await asyncio.gather(*(self._ask(name) for name in self._operators)))

    async def _ask(self, name: str) -> "NodeStatus":
        from koinon.gateway.status import NodeStatus
        from koinon.kernel.ids import to_hex

        identity = self._identities[name]
        try:
            report = await self._operators[name].status()
        except KoinonError:
            report = {}
        return NodeStatus(
            account=to_hex(identity.account),
            node_id=to_hex(identity.node_id),
            name=name,
            roles=tuple(report.get("roles", ())),
            alive=bool(report),
            observed_at=int(time.time()),
            height=report.get("height"),
            peers=tuple(report.get("peers", ())),
            cpu_percent=self._share_of_processor(name, report),
            memory_bytes=report.get("memory_bytes"),
        )

    def _share_of_processor(self, name: str, report: dict[str, Any]) -> float | None:
        """Per cent of one core since the last answer; None before the second."""
        if not report:
            self._processor.pop(name, None)
            return None
        now, used = time.monotonic(), float(report["processor_seconds"])
        before, used_before = self._processor.get(name, (now, used))
        self._processor[name] = (now, used)
        return 100 * (used - used_before) / (now - before) if now > before else None


def _ledgers(files: tuple[Path, ...]) -> "dict[str, OpenedLedger]":
    from koinon.privacy.differential.opened import read_opened

    return {name: one for file in files for name, one in read_opened(read_text(file), file.name).items()}


def _network_access(network: Network) -> ChainAccess:
    return chain_access(network.folder / network.names()[0], (), None)


def _homes(network: Network) -> dict[str, Home]:
    return {name: network.home(name) for name in network.names()}


def _config(access: ChainAccess, host: str, port: int, public_rpc: str | None) -> "SiteConfig":
    from koinon.contracts.artifacts import SUITE
    from koinon.gateway.serve import SiteConfig

    addresses = {name: access.contracts[name.lower()] for name in SUITE if name.lower() in access.contracts}
    return SiteConfig(access.urls, addresses, host, port, public_rpc=public_rpc)


async def _serve(config: "SiteConfig", homes: Mapping[str, Home]) -> None:
    from koinon.gateway.serve import open_site

    async with open_site(config, NodeStatuses(homes) if homes else None) as running:
        console.print(f"{running.url}  (Ctrl-C stops it)")
        with contextlib.suppress(asyncio.CancelledError):
            await running.wait()
