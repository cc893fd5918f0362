"""``koinon model``: from a trained study to a model that strangers tested and anyone can call."""

import asyncio
from pathlib import Path
from typing import Any, Final

import click

from koinon.cli.console import console, print_json, print_table
from koinon.cli.options import HOME, JSON, ChainAccess, amount, chain_access, chain_options, open_suite
from koinon.cli.ordering import print_facts
from koinon.cli.outsourcing import multiply, outsource, work
from koinon.cli.private_models import answer, ask, forget, share
from koinon.kernel.ids import to_hex
from koinon.kernel.quantities import ONE_MILLION, BasisPoints, TokenAmount

SUBJECT: Final = click.argument("subject")
AGAIN: Final = click.option("--again", is_flag=True, help="Do it once more, though it is done already.")
SECONDS: Final = click.IntRange(1, 30 * 86400)


@click.group()
def model() -> None:
    """Publish, harden, validate, name and serve a model. SUBJECT is its study's number, or its name.

    Or have any ONNX model answer rows that no node sees: share, answer, ask, forget.
    Or have strangers answer encrypted rows, or multiply, for pay: outsource, multiply, and work at their end.
    """


@model.command()
@SUBJECT
@HOME
@click.option("--name", required=True, help="What people will call it, such as tumour-risk.clinic.")
@click.option("--copies", default=2, type=click.IntRange(2, 16), show_default=True, help="Other nodes that keep it.")
@AGAIN
@JSON
def publish(subject: str, folder: Path, name: str, copies: int, again: bool, as_json: bool) -> None:
    """Export to ONNX, encrypt, replicate, and mint with its data sets, study, committee and revenue split."""
    from koinon.cli.steps import carry_on
    from koinon.node import orders

    carry_on(
        folder,
        subject,
        "publish",
        "model.publish",
        lambda trained: orders.Publish(trained, name, copies),
        again=again,
        as_json=as_json,
    )


@model.command()
@SUBJECT
@HOME
@AGAIN
@JSON
def harden(subject: str, folder: Path, again: bool, as_json: bool) -> None:
    """Make variants of the weights, measure them, keep the best."""
    from koinon.cli.steps import carry_on

    carry_on(folder, subject, "harden", "model.harden", lambda published: published, again=again, as_json=as_json)


@model.command()
@SUBJECT
@HOME
@click.option("--evaluators", default=3, type=click.IntRange(3, 9), show_default=True, help="How many are drawn.")
@click.option("--fee", default="20", callback=amount, show_default=True, help="Tokens to each that reveals.")
@click.option("--commit-seconds", default=300, type=SECONDS, show_default=True, help="Time to test and commit.")
@click.option("--reveal-seconds", default=120, type=SECONDS, show_default=True, help="Time to reveal.")
@click.option(
    "--effort",
    default=1.0,
    type=click.FloatRange(0.05, 1.0),
    show_default=True,
    help="Share of the full budgets of attacks and load.",
)
@AGAIN
@JSON
def validate(
    subject: str,
    folder: Path,
    evaluators: int,
    fee: int,
    commit_seconds: int,
    reveal_seconds: int,
    effort: float,
    again: bool,
    as_json: bool,
) -> None:
    """Have strangers drawn, who test it on rows nobody else has; the medians become its trust vector."""
    from koinon.cli.steps import carry_on
    from koinon.node import orders

    def wanted(hardened: Any) -> orders.Validate:
        return orders.Validate(hardened, evaluators, TokenAmount(fee), commit_seconds, reveal_seconds, effort)

    carry_on(folder, subject, "validate", "model.validate", wanted, again=again, as_json=as_json)


@model.command()
@SUBJECT
@HOME
@click.option("--name", required=True, help="3 to 64 of a-z, 0-9, '-' and '.'.")
@AGAIN
@JSON
def name(subject: str, folder: Path, name: str, again: bool, as_json: bool) -> None:
    """Register the name under which the model will be found."""
    from koinon.cli.steps import carry_on
    from koinon.node import orders

    carry_on(
        folder,
        subject,
        "name",
        "model.name",
        lambda validated: orders.NameModel(validated, name),
        again=again,
        as_json=as_json,
    )


@model.command()
@SUBJECT
@HOME
@click.option("--endpoints", default=2, type=click.IntRange(1, 8), show_default=True, help="Providers that answer.")
@click.option("--price", default="0.01", callback=amount, show_default=True, help="Tokens for one answer.")
@click.option("--pass-price", default="5", callback=amount, show_default=True, help="Tokens a day; 0 asks for no pass.")
@click.option(
    "--node-share", default=30.0, type=click.FloatRange(0, 100), show_default=True, help="Per cent to the node."
)
@AGAIN
@JSON
def serve(
    subject: str,
    folder: Path,
    endpoints: int,
    price: int,
    pass_price: int,
    node_share: float,
    again: bool,
    as_json: bool,
) -> None:
    """Have providers answer for it, at a price; its name then resolves to them."""
    from koinon.cli.steps import carry_on
    from koinon.node import orders

    def wanted(named: Any) -> orders.Serve:
        share = BasisPoints(round(node_share * 100))
        return orders.Serve(named, endpoints, TokenAmount(price), TokenAmount(pass_price), share)

    carry_on(folder, subject, "serve", "model.serve", wanted, again=again, as_json=as_json)


@model.command()
@click.argument("name")
@chain_options
@JSON
def show(name: str, folder: Path | None, urls: tuple[str, ...], suite_file: Path | None, as_json: bool) -> None:
    """What the chain says about a NAME: weights, trust vector, origin, price, endpoints."""
    access = chain_access(folder, urls, suite_file)
    facts = asyncio.run(_on_chain(access, name))
    if as_json:
        print_json(facts)
        return
    vector, endpoints = facts.pop("vector"), facts.pop("endpoints")
    print_facts(facts, as_json=False)
    console.print(f"\nTrust vector, grade {facts['grade']}:", style="bold")
    print_table(
        ("criterion", "median", "interval"),
        [(one, f"{value:.4g}", f"{low:.4g} to {high:.4g}") for one, (value, low, high) in vector.items()],
        right=(1,),
    )
    console.print("\nEndpoints:", style="bold")
    print_table(("url", "account"), [(one["url"], one["account"]) for one in endpoints])


async def _on_chain(access: ChainAccess, name: str) -> dict[str, Any]:
    from koinon.contracts.tokens import format_amount
    from koinon.journey.audit import subject_of
    from koinon.journey.results import Score
    from koinon.journey.validate import grade_of

    async with open_suite(access) as suite:
        subject = await subject_of(suite, name)
        owner, resolution = await suite.names.resolve(name)
        asset = await suite.assets.asset_of(subject.model)
        offer = await suite.market.offer_of(subject.service)
        vector: tuple[Score, ...] = ()
        if subject.evaluation:
            criteria = (await suite.evaluations.terms_of(subject.evaluation)).criteria
            _, scores = await suite.evaluations.vector_of(subject.evaluation)
            vector = tuple(Score(one, s.value, s.low, s.high) for one, s in zip(criteria, scores, strict=True))
    return {
        "name": name,
        "owner": to_hex(owner),
        "model": subject.model,
        "weights": to_hex(resolution.weights_hash),
        "study": subject.study,
        "made_from": list(asset.parents),
        "package": asset.uri,
        "evaluation": subject.evaluation,
        "grade": grade_of(resolution.weights_hash, vector) if vector else "none",
        "vector": {s.criterion: [s.value / ONE_MILLION, s.low / ONE_MILLION, s.high / ONE_MILLION] for s in vector},
        "service": subject.service,
        "price_per_answer": format_amount(offer.voucher_price),
        "pass_per_day": format_amount(offer.price_per_day),
        "open": offer.open,
        "endpoints": [{"url": one.url, "account": to_hex(one.node)} for one in resolution.endpoints],
    }


for command in (share, answer, ask, forget, outsource, multiply, work):
    model.add_command(command)
