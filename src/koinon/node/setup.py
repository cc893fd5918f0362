"""Putting a new network to work: contracts, money, stakes, rows. The operators' orders, given one after the other."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from koinon.kernel.ids import Address
from koinon.kernel.quantities import TOKEN_UNIT, BasisPoints, TokenAmount, Wei
from koinon.node import orders
from koinon.node.local_network import Network

Tell = Callable[[str, float], None]

SUPPLY: Final = TokenAmount(1_000_000_000 * TOKEN_UNIT)
STAKE: Final = TokenAmount(1_000 * TOKEN_UNIT)
WORKING_MONEY: Final = TokenAmount(5_000 * TOKEN_UNIT)
SLASH_SHARE: Final = BasisPoints(5_000)
JUDGE_FEE: Final = TokenAmount(TOKEN_UNIT)
CASE_SECONDS: Final = 24 * 60 * 60
"""To plead, for a draw of judges, and for their votes."""
GAS_MONEY: Final = Wei(10**18)


@dataclass(frozen=True)
class Chain:
    """How the contracts are set for a chain.

    Attributes:
        draw_delay: blocks between a lock and the block whose hash is used.
        coins: gas money for each account, on a chain where accounts start with none.
    """

    draw_delay: int
    coins: Wei


async def put_to_work(network: Network, chain: Chain, tell: Tell) -> orders.Suite:
    """Deploy the contracts from the company's account, hand out money, have the providers stake.

    Raises:
        KoinonError: an order failed; the sentence says which account and why.
    """
    names = network.names()
    company = next(name for name in names if "publisher" in network.roles(name))
    providers = [name for name in names if "compute" in network.roles(name)]
    tell("deploying the contracts", 0.1)
    order = orders.DeploySuite(
        SUPPLY, STAKE, chain.draw_delay, SLASH_SHARE, JUDGE_FEE, plead_seconds=CASE_SECONDS, judge_seconds=CASE_SECONDS
    )
    suite = await network.operator(company).run("suite.deploy", order, orders.Suite, tell)
    await every(network, names, "suite.adopt", suite)
    accounts = tuple(network.identity(name).account for name in names if name != company)
    pay = orders.Pay(accounts, WORKING_MONEY, chain.coins)
    await network.operator(company).run("account.pay", pay, orders.Nothing, tell)
    tell("every organisation lets the contracts pull what it agrees to pay", 0.7)
    await every(network, names, "account.approve", orders.Nothing())
    await every(network, providers, "provider.join", orders.Join(STAKE))
    tell(f"{len(names)} organisations are at work; {len(providers)} providers have staked", 1.0)
    return suite


async def add_rows(
    network: Network,
    data: Mapping[str, orders.AddData],
    evaluation: Path,
    target: str,
    ranges: tuple[tuple[str, float, float], ...],
) -> dict[str, orders.DataAdded]:
    """Give every data owner its file and every provider the evaluators' rows."""
    rows = orders.AddRows(found_by_nodes(evaluation), target, ranges)
    added = await asyncio.gather(
        *(network.operator(name).run("data.add", order, orders.DataAdded, silent) for name, order in data.items())
    )
    evaluators = [name for name in network.names() if "evaluator" in network.roles(name)]
    await asyncio.gather(
        *(network.operator(name).run("rows.add", rows, orders.DataAdded, silent) for name in evaluators)
    )
    return dict(zip(data, added, strict=True))


async def every(
    network: Network, names: list[str], task: str, order: orders.Suite | orders.Join | orders.Nothing
) -> None:
    """Give the same order to several organisations at the same time."""
    await asyncio.gather(*(network.operator(name).run(task, order, orders.Nothing, silent) for name in names))


def silent(_sentence: str, _fraction: float) -> None:
    """Listens to nothing."""


def account_names(network: Network) -> dict[Address, str]:
    """The organisations' names by account: what its operators know, and the chain does not."""
    return {network.identity(name).account: name for name in network.names()}


def found_by_nodes(path: Path) -> str:
    """The same file for a process that works in another folder."""
    return str(path.resolve())
