"""Owners who hold different columns of people that overlap only in part, a publisher, and a committee: real nodes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from contracts_world import PROVIDERS
from node_market_world import Network, party

from koinon.data.schema import Schema
from koinon.jobs.study import Terms
from koinon.kernel import errors
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.quantities import TokenAmount
from koinon.node.context import Context
from koinon.node.create import DEFAULT_POLICY
from koinon.node.datasets import Datasets
from koinon.node.drafts import Draft, write_draft
from koinon.node.roles.compute import ComputeRole
from koinon.node.roles.data import DataRole
from koinon.node.roles.publisher import PublisherRole
from koinon.wire.committee import Column

UNIT = 1_000_000
RANGES = {"age": (0.0, 100.0), "dose": (-5.0, 5.0), "size": (0.0, 10.0)}
HOLDERS = {"age": "north", "dose": "south", "size": "west"}
IDS = {"north": range(1000, 1060), "south": range(1020, 1090), "west": range(1010, 1070)}
"""Forty people are with all three, 1020 to 1059."""
JOINING_POLICY = (
    DEFAULT_POLICY.replace('["logistic-regression/1"]', '["statistics/1", "linear-regression/1", "contingency/1"]')
    .replace(
        '["coefficients", "intercept", "worth"]',
        '["mean", "variance", "correlation", "histogram", "quantiles", "coefficients", "intercept", "score", "counts"]',
    )
    .replace("minimum_parties = 3", "minimum_parties = 2")
    .replace('["agreed", "oblivious"]', '["psi", "oblivious"]')
)

_R = TypeVar("_R", bound=Record)


def value_of(column: str, person: int) -> float:
    """What an owner has measured of a person: dose and size follow from age but for some noise."""
    noise = np.random.default_rng([person, len(column)]).uniform(-1, 1)
    age = np.random.default_rng([person, 7]).uniform(20, 80)
    return float({"age": age, "dose": age / 20 - 2.5 + noise / 4, "size": 5 + noise}[column])


def write_rows(
    path: Path,
    column: str,
    ids: Sequence[int],
    key: str = "patient",
    value: Callable[[str, int], float] = value_of,
) -> None:
    """A file of one column and ids, in an order of the owner's own."""
    order = np.random.default_rng(len(ids)).permutation(np.array(ids))
    lines = [f"{person},{value(column, int(person))!r}" for person in order]
    path.write_text("\n".join([f"{key},{column}", *lines]) + "\n")


async def owner_of(
    network: Network,
    name: str,
    ids: Sequence[int],
    policy: str = JOINING_POLICY,
    column: str = "",
    value: Callable[[str, int], float] = value_of,
) -> Context:
    """An owner's node with one column of these people, by default its own, following the chain."""
    context = await network.node(name, ("data",))
    home = context.home
    home.datasets.mkdir(exist_ok=True)
    home.policy.write_text(policy, "utf-8")
    column = column or next(own for own, holder in HOLDERS.items() if holder == name)
    path = home.path / "rows.csv"
    write_rows(path, column, ids, value=value)
    Datasets(home.datasets).add(path, Schema((Column(column, *RANGES[column]),), ""), "", context.rng, "patient")
    role = DataRole(context)
    role.attach()
    role.offer()
    context.spawn(context.feed.follow(), "feed")
    return context


async def publisher_of(network: Network) -> Context:
    context = await network.node("publisher", ("publisher",))
    PublisherRole(context).attach()
    return context


async def committee_of(network: Network) -> list[ComputeRole]:
    """Every staked provider, ready to take a seat."""
    roles = []
    for name in PROVIDERS:
        context = await network.node(name, ("compute",))
        role = ComputeRole(context)
        role.attach()
        context.spawn(context.feed.follow(), "feed")
        roles.append(role)
    return roles


def draft_of(
    owners: Sequence[str],
    join: str,
    algorithm: str = "statistics/1",
    outputs: Sequence[str] = ("mean", "correlation"),
    settings: Mapping[str, object] | None = None,
    target: str = "",
    minimum_rows: int = 20,
    holders: Mapping[str, tuple[str, ...]] | None = None,
) -> str:
    """The text of a study file for these owners, each with its one column, or with those that ``holders`` say."""
    holders = holders or {column: (holder,) for column, holder in HOLDERS.items() if holder in owners}
    columns = list(holders)
    return write_draft(
        Draft(
            title="Joined",
            purpose="Tumour risk, for a test",
            columns=tuple((column, *RANGES[column]) for column in columns),
            target=target,
            sensitive_column="",
            owners=tuple(party(name) for name in owners),
            owner_revenue_basis_points=1_000,
            minimum_rows=minimum_rows,
            terms=Terms(TokenAmount(UNIT), TokenAmount(2 * UNIT), TokenAmount(UNIT), 600, 600, 600, 30, 2),
            algorithm=algorithm,
            outputs=tuple(outputs),
            settings=settings or {},
            holders=holders,
            join=join,
        )
    )


async def ordered(
    context: Context, task: str, argument: Record, result: type[_R], listen: Callable[[str], object] = str
) -> _R:
    """Have a node carry out an order, as its operator does. Raises what it failed with."""
    number, heard = context.board.start(task, encode(argument)), 0
    while (report := await context.board.report(number, heard)).state == "running":
        heard += len(report.notes)
        for note in report.notes:
            listen(note)
    if report.state == "failed":
        raise getattr(errors, report.error_kind)(report.error)
    return decode(result, report.result)


async def money_of(context: Context) -> int:
    """What an account has, and what the contracts owe it."""
    credit = await context.suite.studies.credit_of(context.account)
    return int(await context.suite.token.balance_of(context.account) + credit)
