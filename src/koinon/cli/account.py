"""``koinon account``: keys, balances, payments."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koinon.cli.console import console, print_json
from koinon.cli.options import HOME, JSON, amount, chain_access, chain_options, open_suite
from koinon.cli.ordering import order, print_facts
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, parse_address, to_hex
from koinon.kernel.quantities import TokenAmount, Wei
from koinon.node.home import Home, Identity

if TYPE_CHECKING:
    from koinon.cli.options import ChainAccess

COIN = 10**18


@click.group()
def account() -> None:
    """Accounts on the chain: make a key, see what it holds, pay, collect."""


@account.command()
@click.option("--key", "key_file", type=click.Path(path_type=Path), required=True, help="File to write the key to.")
@JSON
def new(key_file: Path, as_json: bool) -> None:
    """Make a key for somebody who runs no node, such as a buyer."""
    from koinon.cli.keys import write_new_key

    address = to_hex(write_new_key(key_file).address)
    if as_json:
        print_json({"account": address, "key_file": str(key_file)})
        return
    console.print(f"account {address}; its key is in {key_file}, readable by you only")


@account.command()
@click.argument("address", required=False)
@chain_options
@JSON
def show(
    address: str | None, folder: Path | None, urls: tuple[str, ...], suite_file: Path | None, as_json: bool
) -> None:
    """What an account holds, and what the contracts owe it. Without ADDRESS: the account of the node in --home."""
    access = chain_access(folder, urls, suite_file)
    if address is None and folder is None:
        raise InvalidInput("say which account: its address, or --home of a node")
    who = parse_address(address) if address is not None else Identity.read(Home(folder or Path()).identity).account
    print_facts(asyncio.run(_holdings(access, who)), as_json=as_json)


async def _holdings(access: "ChainAccess", who: Address) -> dict[str, Any]:
    from koinon.contracts.tokens import format_amount

    async with open_suite(access) as suite:
        payers = (suite.studies, suite.providers, suite.evaluations, suite.assets, suite.market)
        owed = {payer.NAME.lower(): await payer.credit_of(who) for payer in payers}
        provider = await suite.providers.provider_of(who)
        return {
            "account": to_hex(who),
            "tokens": format_amount(await suite.token.balance_of(who)),
            "coins_wei": await suite.client.balance(who),
            "owed": {name: format_amount(credit) for name, credit in owed.items() if credit},
            "stake": format_amount(provider.stake),
        }


@account.command()
@click.argument("address", nargs=-1, required=True)
@HOME
@click.option("--tokens", default="0", callback=amount, show_default=True, help="Payment tokens to each.")
@click.option("--coins", default=0.0, type=click.FloatRange(0, 10**6), show_default=True, help="Coins for gas to each.")
def pay(address: tuple[str, ...], folder: Path, tokens: int, coins: float) -> None:
    """Send tokens, and coins for gas, from the account of the node in --home."""
    from koinon.node import orders

    if not tokens and not coins:
        raise InvalidInput("say how much: --tokens, --coins or both")
    accounts = tuple(parse_address(text) for text in address)
    payment = orders.Pay(accounts, TokenAmount(tokens), Wei(round(coins * 10**9) * 10**9))
    order(folder, "account.pay", payment, orders.Nothing, "pay", quiet=False)


@account.command()
@HOME
def approve(folder: Path) -> None:
    """Let the contracts pull what the node in --home agrees to pay: bonds, stakes, escrow."""
    from koinon.node import orders

    order(folder, "account.approve", orders.Nothing(), orders.Nothing, "approve", quiet=False)


@account.command()
@HOME
@JSON
def withdraw(folder: Path, as_json: bool) -> None:
    """Collect everything that the contracts owe the node in --home."""
    from koinon.contracts.tokens import format_amount
    from koinon.node import orders

    got = order(folder, "account.withdraw", orders.Nothing(), orders.Withdrawn, "withdraw", quiet=as_json)
    if as_json:
        print_json({"tokens": format_amount(got.amount)})
