"""``koinon suite``: the contracts that a network works with."""

from pathlib import Path
from typing import Final

import click

from koinon.cli.console import print_json, print_table
from koinon.cli.options import HOME, JSON, amount, chain_access, read_card
from koinon.cli.ordering import order
from koinon.kernel.ids import parse_address, to_hex
from koinon.kernel.quantities import BasisPoints, TokenAmount
from koinon.node.config import read_config
from koinon.node.home import Home

MOST_BASIS_POINTS: Final = 10_000
DAY: Final = 24 * 60 * 60
WAIT: Final = click.IntRange(60, 30 * DAY)


@click.group()
def suite() -> None:
    """The contracts a network works with: put them on the chain, tell a node which, print them for others."""


@suite.command()
@HOME
@click.option("--supply", default="1000000000", callback=amount, show_default=True, help="Payment tokens to mint.")
@click.option("--minimum-stake", default="1000", callback=amount, show_default=True, help="Tokens a provider stakes.")
@click.option(
    "--draw-delay",
    type=click.IntRange(1, 200),
    default=3,
    show_default=True,
    help="Blocks between the lock of a study and the block whose hash draws its committee.",
)
@click.option(
    "--slash-share",
    type=click.IntRange(0, MOST_BASIS_POINTS),
    default=5_000,
    show_default=True,
    help="Part of its stake, in basis points, that a silent committee member loses.",
)
@click.option("--judge-fee", default="1", callback=amount, show_default=True, help="Tokens to each judge that votes.")
@click.option("--plead-seconds", default=DAY, type=WAIT, show_default=True, help="Time for an accused member to plead.")
@click.option("--judge-seconds", default=DAY, type=WAIT, show_default=True, help="Time for its judges to vote.")
@JSON
def deploy(
    folder: Path,
    supply: int,
    minimum_stake: int,
    draw_delay: int,
    slash_share: int,
    judge_fee: int,
    plead_seconds: int,
    judge_seconds: int,
    as_json: bool,
) -> None:
    """Put new contracts on the chain from the publisher's account, and have its own node adopt them."""
    from koinon.node import orders

    terms = orders.DeploySuite(
        TokenAmount(supply),
        TokenAmount(minimum_stake),
        draw_delay,
        BasisPoints(slash_share),
        TokenAmount(judge_fee),
        plead_seconds,
        judge_seconds,
    )
    made = order(folder, "suite.deploy", terms, orders.Suite, "deploy", quiet=as_json)
    order(folder, "suite.adopt", made, orders.Nothing, "adopt", quiet=as_json)
    _print(folder, (), as_json=as_json)


@suite.command()
@click.argument("card", type=click.Path(path_type=Path))
@HOME
def adopt(card: Path, folder: Path) -> None:
    """Tell the node in --home to work with the contracts of a network's CARD; it checks their code first."""
    from koinon.node import orders

    _, contracts, _ = read_card(card)
    wanted = orders.Suite(tuple((name, parse_address(text)) for name, text in contracts.items()))
    order(folder, "suite.adopt", wanted, orders.Nothing, "adopt", quiet=False)


@suite.command()
@HOME
@click.option("--rpc", multiple=True, help="URL of the chain's JSON-RPC to write into the card for others.")
@JSON
def show(folder: Path, rpc: tuple[str, ...], as_json: bool) -> None:
    """Print the network's card: contracts, and the nodes that know where all others are. Nothing in it is secret."""
    _print(folder, rpc, as_json=as_json)


def _print(folder: Path, rpc: tuple[str, ...], *, as_json: bool) -> None:
    access = chain_access(folder, (), None)
    if as_json:
        # The node's own URLs may hold an access key, so the card has only those that the operator writes into it.
        keepers = [{"node": to_hex(one.node_id), "host": one.host, "port": one.port} for one in access.keepers]
        chain_id = read_config(Home(folder).config).chain.chain_id
        print_json({"chain_id": chain_id, "rpc": list(rpc), "contracts": access.contracts, "keepers": keepers})
        return
    print_table(("contract", "address"), list(access.contracts.items()))
