"""``koinon network``: eleven organisations on this machine, each its own process."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import click

from koinon.cli.console import console, print_json, print_table, shorten
from koinon.kernel.errors import KoinonError
from koinon.node.local_network import DEMONSTRATION, Network, OutsideChain

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
    """Make the network if there is none, and start every organisation that does not run."""
    from koinon.crypto.random import SystemRng

    if (chain is None) != (chain_id is None):
        raise click.UsageError("--chain and --chain-id go together")
    place = Network(folder)
    if not place.record.exists():
        outside = OutsideChain(chain, chain_id) if chain is not None and chain_id is not None else None
        place.create(DEMONSTRATION, SystemRng(), outside=outside, allow_faults=False)
    asyncio.run(place.start())
    console.print(f"{len(place.names())} organisations run in {folder}; see: koinon network status")


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
