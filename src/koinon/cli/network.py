"""``koinon network``: eleven organisations on this machine, each its own process."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import click

from koinon.cli.console import Progress, console, print_json, print_table, shorten
from koinon.kernel.errors import InvalidInput, KoinonError, Refused
from koinon.kernel.ids import to_hex
from koinon.kernel.quantities import Wei
from koinon.node.config import read_config
from koinon.node.home import Identity
from koinon.node.local_network import DEMONSTRATION, Network, OutsideChain

OUTSIDE_DRAW_DELAY = 3
"""Blocks, on a chain whose makers are not ours."""

FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".koinon/network"),
    show_default=True,
    help="Where the network's homes are.",
)


@click.group()
def network() -> None:
    """A network of eleven organisations on this machine: three hospitals, one AI company, seven providers."""


@network.command()
@FOLDER
@click.option("--chain", help="URL of an outside EVM chain; without it the hospitals and the company validate our own.")
@click.option("--chain-id", type=int, help="The outside chain's id.")
def up(folder: Path, chain: str | None, chain_id: int | None) -> None:
    """Make the network if there is none, start every organisation that does not run, and put them to work.

    The first time, the company deploys the contracts and hands out money, and the providers stake.
    """
    from koinon.crypto.random import SystemRng

    if (chain is None) != (chain_id is None):
        raise click.UsageError("--chain and --chain-id go together")
    place = Network(folder)
    if not place.record.exists():
        outside = OutsideChain(chain, chain_id) if chain is not None and chain_id is not None else None
        place.create(DEMONSTRATION, SystemRng(), outside=outside, allow_faults=False)
    asyncio.run(_up(place))
    console.print(f"{len(place.names())} organisations run in {folder}; see: koinon network status")


async def _up(place: Network) -> None:
    """Start everybody; where there are no contracts yet, deploy them, hand out money, have the providers stake."""
    with Progress().step("network", "network") as step:
        await place.start()
        step.say(f"{len(place.names())} processes")
    company = place.home(publisher_of(place))
    config = read_config(company.config)
    if config.chain.suite:
        return
    from koinon.contracts.client import ChainClient
    from koinon.node.genesis import DRAW_DELAY
    from koinon.node.setup import GAS_MONEY, Chain, put_to_work

    own = any("validator" in place.roles(name) for name in place.names())
    account = Identity.read(company.identity).account
    async with ChainClient(list(config.chain.rpc)) as client:
        if not await client.balance(account):
            raise Refused(
                f"nobody pays for gas on this chain yet: send coins to {to_hex(account)}, the company's account, and"
                " run koinon network up again"
            )
    with Progress().step("join", "join") as step:
        chain = Chain(DRAW_DELAY, Wei(0)) if own else Chain(OUTSIDE_DRAW_DELAY, GAS_MONEY)
        await put_to_work(place, chain, step.say)


def publisher_of(place: Network) -> str:
    """The organisation that publishes. Raises InvalidInput where the network has none."""
    for name in place.names():
        if "publisher" in place.roles(name):
            return name
    raise InvalidInput(f"the network in {place.folder.name} has no publisher; make a new one: koinon network up")


@network.command()
@FOLDER
@click.option("--remove", is_flag=True, help="Also remove the folder with every key and every row in it.")
def down(folder: Path, remove: bool) -> None:
    """Stop every organisation."""
    place = Network(folder)
    place.names()
    asyncio.run(place.stop())
    if remove:
        shutil.rmtree(folder)
    console.print("stopped" + (" and removed" if remove else ""))


@network.command()
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(folder: Path, as_json: bool) -> None:
    """Who runs, at which height, with how much memory and processor time."""
    place = Network(folder)
    reports = asyncio.run(_reports(place))
    if as_json:
        print_json(reports)
        return
    print_table(
        ("organisation", "roles", "process", "height", "peers", "memory", "processor", "account"),
        [
            (
                name,
                " ".join(place.roles(name)),
                report.get("process", "–") if report else "not running",
                report.get("height", "–") if report else "–",
                len(report.get("peers", [])) if report else "–",
                f"{report['memory_bytes'] / 2**20:.0f} MiB" if report else "–",
                f"{report['processor_seconds']:.1f} s" if report else "–",
                shorten(place.identity(name).account),
            )
            for name, report in reports.items()
        ],
        right=(3, 4, 5, 6),
    )


async def _reports(place: Network) -> dict[str, dict[str, Any] | None]:
    async def one(name: str) -> dict[str, Any] | None:
        try:
            return await place.operator(name).status()
        except KoinonError:
            return None

    names = place.names()
    return dict(zip(names, await asyncio.gather(*(one(name) for name in names)), strict=True))
