"""``koinon node``: one organisation."""

import asyncio
from pathlib import Path
from typing import Final

import click

from koinon.cli.console import console, print_json, print_table, shorten
from koinon.cli.founding import genesis
from koinon.cli.options import HOME, JSON, amount
from koinon.cli.ordering import order, shown
from koinon.cli.snapshot import snapshot
from koinon.kernel.errors import InvalidInput
from koinon.kernel.quantities import TokenAmount
from koinon.node.config import ROLES, BootstrapNode, ChainConfig, NodeConfig
from koinon.node.home import Home, Identity
from koinon.node.logs import FORMATS, LEVELS
from koinon.node.operator import Operator

WATCH_SECONDS: Final = 2.0


@click.group()
def node() -> None:
    """One organisation: make it, run it, ask it how it is."""


node.add_command(snapshot)
node.add_command(genesis)


@node.command()
@HOME
@click.option("--name", required=True, help="The organisation's name, as others will read it.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), required=True, help="Repeat for several.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=7300, show_default=True, help="Port for other nodes.")
@click.option("--rpc-port", default=8545, show_default=True, help="Port of the chain's JSON-RPC, if it validates.")
@click.option("--service-port", default=8000, show_default=True, help="Port at which it answers for models.")
@click.option("--monitor-port", type=int, help="Port of /metrics and /health on loopback. [default: neither]")
@click.option("--operator", help="Who operates it; committees never hold two of one operator. [default: the name]")
@click.option("--chain", "rpc", multiple=True, help="URL of the chain's JSON-RPC; repeat for several.")
@click.option("--chain-id", default=0, help="The chain's id.")
@click.option("--bootstrap", "cards", multiple=True, type=click.Path(path_type=Path), help="identity.json of a keeper.")
def init(
    folder: Path,
    name: str,
    roles: tuple[str, ...],
    host: str,
    port: int,
    rpc_port: int,
    service_port: int,
    monitor_port: int | None,
    operator: str | None,
    rpc: tuple[str, ...],
    chain_id: int,
    cards: tuple[Path, ...],
) -> None:
    """Make a home folder with fresh keys, node.toml, identity.json and, for a data owner, policy.toml."""
    from koinon.crypto.random import SystemRng
    from koinon.node.create import create_node

    keepers = [Identity.read(card) for card in cards]
    config = NodeConfig(
        name=name,
        roles=roles,
        host=host,
        port=port,
        rpc_port=rpc_port,
        service_port=service_port,
        operator=operator or name,
        bootstrap=tuple(BootstrapNode(keeper.node_id, keeper.host, keeper.port) for keeper in keepers),
        chain=ChainConfig(rpc, chain_id, ()),
        allow_faults=False,
        monitor_port=monitor_port,
    )
    identity = create_node(Home(folder), config, SystemRng())
    console.print(f"made {name} in {folder}: node {shorten(identity.node_id)}, account {shorten(identity.account)}")
    console.print("give identity.json to those you will work with; edit node.toml, then: koinon node start")


@node.command()
@click.option("--home", "folder", type=click.Path(path_type=Path), help="The node's home folder; with --dev optional.")
@click.option("--log-level", type=click.Choice(LEVELS), help="The least important lines to log. [default: node.toml's]")
@click.option("--log-format", type=click.Choice(FORMATS), help="How a line is written. [default: node.toml's]")
@click.option("--dev", is_flag=True, help="A chain of its own with instant blocks and ten funded test keys.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --dev: address to listen on.")
@click.option("--rpc-port", default=8545, show_default=True, help="With --dev: port to listen on; 0 for any.")
@click.option(
    "--chain-id", default=31337, type=click.IntRange(1, 2**53), show_default=True, help="With --dev: the chain's id."
)
@click.option(
    "--block-time", type=click.FloatRange(0.05, 3600), help="With --dev: seconds between blocks. [default: instant]"
)
@click.option("--json", "as_json", is_flag=True, help="With --dev: print address and keys as JSON.")
def start(
    folder: Path | None,
    log_level: str | None,
    log_format: str | None,
    dev: bool,
    host: str,
    rpc_port: int,
    chain_id: int,
    block_time: float | None,
    as_json: bool,
) -> None:
    """Run the node in the foreground until it is told to stop (Ctrl-C, or koinon node stop)."""
    if dev:
        from koinon.cli.development import run_development

        run_development(host, rpc_port, chain_id, folder, block_time, as_json)
        return
    if folder is None:
        raise click.UsageError("say which node: --home DIR, or --dev for a chain of its own")
    from koinon.node.runtime import run_node

    run_node(Home(folder), log_level, log_format)


@node.command()
@HOME
@click.option("--stake", default="1000", callback=amount, show_default=True, help="Tokens to stake in all.")
def join(folder: Path, stake: int) -> None:
    """Register as provider for the roles in node.toml, and stake; again to add what is missing."""
    from koinon.node import orders

    order(folder, "provider.join", orders.Join(TokenAmount(stake)), orders.Nothing, "join", quiet=False)


@node.command()
@HOME
@JSON
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C; with --json a line each.")
def status(folder: Path, as_json: bool, watch: bool) -> None:
    """How is this node?"""
    asyncio.run(_show_status(Operator(Home(folder).control), as_json, watch))


async def _show_status(operator: Operator, as_json: bool, watch: bool) -> None:
    while True:
        report = await operator.status()
        if as_json:
            print_json(report, compact=watch)
        else:
            if watch:
                console.clear()
            print_table(("", ""), [(key.replace("_", " "), shown(value)) for key, value in report.items()])
        if not watch:
            return
        await asyncio.sleep(WATCH_SECONDS)


@node.command()
@HOME
def stop(folder: Path) -> None:
    """Shut the node down in order."""
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder.name}")
    asyncio.run(Operator(Home(folder).control).stop())
    console.print("stopping")
