"""``koinon audit`` and ``koinon verify``: evidence for strangers, and how they check it."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koinon.cli.console import Progress, console, print_json, print_table
from koinon.cli.options import JSON, ChainAccess, chain_access, chain_options, open_suite
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import parse_hash, to_hex
from koinon.node.config import BootstrapNode

if TYPE_CHECKING:
    from koinon.audit.evidence import Subject
    from koinon.contracts.suite import Suite
    from koinon.journey.audit import Auditor
    from koinon.journey.story import Tell


@click.command()
@click.argument("name", default="")
@click.option("--study", type=click.IntRange(1), help="Instead of NAME: a study alone, such as one without a model.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The bundle to write.")
@click.option(
    "--keeper",
    "cards",
    multiple=True,
    type=click.Path(path_type=Path),
    help="identity.json of a node that knows where others are; repeat. [default: those of --home or --suite]",
)
@chain_options
@JSON
def audit(
    name: str,
    study: int | None,
    output: Path,
    cards: tuple[Path, ...],
    folder: Path | None,
    urls: tuple[str, ...],
    suite_file: Path | None,
    as_json: bool,
) -> None:
    """Collect all evidence about NAME, or about a study, from the chain and from those who hold it, into one file.

    Needs no rights anywhere. Check the file with koinon verify, which needs no network.
    """
    from koinon.node.home import Identity

    if bool(name) == (study is not None):
        raise InvalidInput("say what to audit: a NAME, or --study NUMBER")
    access = chain_access(folder, urls, suite_file)
    named = tuple(BootstrapNode(one.node_id, one.host, one.port) for one in map(Identity.read, cards))
    access = ChainAccess(access.urls, access.contracts, named or access.keepers)
    if not access.keepers:
        raise InvalidInput("say who knows where the nodes are: --keeper identity.json of one of them")
    if output.exists():
        raise InvalidInput(f"{output.name} exists already; choose another name or remove it")
    with Progress(quiet=as_json).step("audit", "audit") as step:
        subject = asyncio.run(_export(access, study or name, output, step.say))
    facts = {
        "bundle": str(output),
        "bytes": output.stat().st_size,
        "name": name,
        "study": subject.study,
        "model": subject.model,
        "service": subject.service,
        "evaluation": subject.evaluation,
    }
    if as_json:
        print_json(facts)
        return
    console.print(f"wrote {output}, {facts['bytes']:,} bytes; check it with: koinon verify {output}")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--validators", help="Hash of the validator set you know, to compare with the bundle's.")
@click.option(
    "--result",
    "shown",
    type=click.Path(path_type=Path),
    help="What koinon study disclose wrote: check it against the bundle, and the owners' shares against it.",
)
@JSON
def verify(bundle: Path, validators: str | None, shown: Path | None, as_json: bool) -> None:
    """Check a BUNDLE offline, with no key: what holds, what does not, and what you still take on trust."""
    from koinon.cli.disclosing import shown_bytes
    from koinon.journey.audit import check

    known = parse_hash(validators) if validators is not None else None
    report = check(bundle, shown_bytes(shown) if shown is not None else None)
    checks: list[dict[str, Any]] = [
        {"check": one.identifier, "holds": one.ok, "sentence": one.sentence, "detail": one.detail}
        for one in report.checks
    ]
    if known is not None:
        same = report.validators == known
        found = to_hex(report.validators) if report.validators is not None else "none"
        sentence = "The bundle rests on the validator set that you know."
        checks.append({"check": "validators", "holds": same, "sentence": sentence, "detail": f"it rests on {found}"})
    holds = all(one["holds"] for one in checks)
    if as_json:
        print_json({"holds": holds, "about": report.about, "checks": checks, "trusts": list(report.trusts)})
    else:
        print_table(
            ("", "check", "what"),
            [
                ("holds" if one["holds"] else "FAILS", one["check"], f"{one['sentence']} ({one['detail']})")
                for one in checks
            ],
        )
        console.print(f"\nIt is about {report.about or 'nothing that can be read'}.", soft_wrap=True)
        console.print("\nWhat you still take on trust:", style="bold")
        for sentence in report.trusts or ("nothing could be read that far",):
            console.print(f"  {sentence}")
    if not holds:
        failed = next(one for one in checks if not one["holds"])
        raise Forged(f"{bundle.name} does not hold: {failed['check']}: {failed['detail']}")


async def open_auditor(access: ChainAccess, suite: "Suite", stack: AsyncExitStack, tell: "Tell") -> "Auditor":
    """Somebody with a fresh node key, who asks the network's nodes; closed with ``stack``."""
    from koinon.crypto.random import SystemRng
    from koinon.crypto.signature import NodeKey
    from koinon.journey.audit import Auditor
    from koinon.net.discovery import Directory
    from koinon.net.transport import Transport
    from koinon.node.context import SystemClock
    from koinon.wire.discovery import Endpoint

    key = NodeKey.generate(SystemRng())
    transport = await stack.enter_async_context(Transport.open(key))
    keepers = [Endpoint(one.node_id, one.host, one.port) for one in access.keepers]
    return Auditor(suite, transport, Directory(transport, SystemClock(), keepers), key, tell)


async def _export(access: ChainAccess, about: str | int, output: Path, tell: "Tell") -> "Subject":
    from koinon.journey.audit import export, export_study

    async with AsyncExitStack() as stack:
        suite = await stack.enter_async_context(open_suite(access))
        auditor = await open_auditor(access, suite, stack, tell)
        if isinstance(about, int):
            return await export_study(auditor, about, output)
        return await export(auditor, about, output)
