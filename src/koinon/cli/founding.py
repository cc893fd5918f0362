"""``koinon node genesis``: the first block of a network whose validators change."""

import time
from pathlib import Path

import click

from koinon.cli.options import JSON
from koinon.cli.ordering import print_facts
from koinon.cli.stake import DECIMALS, parse_coins
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, parse_address, to_hex
from koinon.kernel.quantities import ChainId, UnixSeconds, Wei
from koinon.node.home import Identity

PROFILES = ("dev", "consortium", "public")


@click.command()
@click.option("--profile", required=True, type=click.Choice(PROFILES), help="Kind of network.")
@click.option("--chain-id", required=True, type=click.IntRange(1, 2**53), help="The chain's id.")
@click.option(
    "--validator",
    "cards",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="identity.json of a founding validator; repeat for each.",
)
@click.option("--coins", default="1000000", show_default=True, help="For each validator's account.")
@click.option("--fund", "funded", multiple=True, metavar="ADDRESS=COINS", help="Another account; repeat for each.")
@click.option("--creditor", "creditors", multiple=True, help="Contract that may credit useful work; repeat for each.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write.")
@JSON
def genesis(
    profile: str,
    chain_id: int,
    cards: tuple[Path, ...],
    coins: str,
    funded: tuple[str, ...],
    creditors: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Make the first block of a network whose validators are elected (dev, public) or admitted by vote (consortium)."""
    from koinon.kernel.codec import encode
    from koinon.node.genesis import profile_genesis

    if out.exists():
        raise InvalidInput(f"{out.name} exists already; choose another name or remove it")
    members = [Identity.read(card) for card in cards]
    funds: dict[Address, Wei] = {member.account: parse_coins(coins) for member in members}
    for entry in funded:
        address, _, amount = entry.partition("=")
        funds[parse_address(address)] = parse_coins(amount)
    made = profile_genesis(
        profile,
        ChainId(chain_id),
        members,
        funds,
        [parse_address(address) for address in creditors],
        UnixSeconds(int(time.time())),
    )
    epochs = made.parameters.epochs
    assert epochs is not None, "every profile has epochs"
    out.write_bytes(encode(made))
    facts = {
        "genesis": to_hex(made.hash),
        "profile": profile,
        "chain_id": chain_id,
        "validators": len(made.validators),
        "blocks_of_an_epoch": epochs.length,
        "coins": str(sum(int.from_bytes(account.balance, "big") for account in made.accounts) // 10**DECIMALS),
    }
    print_facts(facts, as_json=as_json, next_step="copy the file as genesis into the home of every validator")
