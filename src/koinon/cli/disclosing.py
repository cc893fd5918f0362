"""``koinon study disclose`` and ``opened``: a result shown to others, and how they check it."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koinon.cli.console import console, print_json, print_table
from koinon.cli.options import ChainAccess, open_suite
from koinon.cli.ordering import operator_of
from koinon.jobs.disclosed import LONGEST, CheckedResult, OnChain, check_disclosed, owed_shares, read_disclosed
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.node import orders
from koinon.node.setup import silent

if TYPE_CHECKING:
    from koinon.jobs.disclosed import DisclosedResult


def write_disclosed(folder: Path, number: int, output: Path) -> None:
    """Have the node at ``folder`` show a result. Raises Refused where it has none, InvalidInput where FILE exists."""
    if output.exists():
        raise InvalidInput(f"{output.name} exists already; choose another name or remove it")
    found = asyncio.run(operator_of(folder).run("study.disclose", orders.Disclose(number), orders.Disclosed, silent))
    try:
        output.write_bytes(found.result)
    except OSError as problem:
        raise Unavailable(f"cannot write {output.name}: {problem.strerror}") from None
    console.print(f"wrote {output}: the whole result of study {number}; check it with: koinon study opened {output}")


def shown_bytes(file: Path) -> bytes:
    """A disclosed result's file. Raises InvalidInput where it cannot be read or is longer than any."""
    try:
        if file.stat().st_size > LONGEST:
            raise InvalidInput(f"{file.name} is longer than any disclosed result")
        return file.read_bytes()
    except OSError as problem:
        raise InvalidInput(f"cannot read {file.name}: {problem.strerror}") from None


def show_disclosed(file: Path, access: ChainAccess, *, as_json: bool) -> None:
    """Check FILE and print its outputs and the owners' shares. Raises Forged where it is not what the chain holds."""
    shown = read_disclosed(shown_bytes(file))
    found = check_disclosed(shown, asyncio.run(_on_chain(access, shown)))
    facts = _facts(shown, found)
    if as_json:
        print_json(facts)
        return
    console.print(f"study {shown.number}: three of the four members signed these outputs, as the chain says")
    for name, values in facts["outputs"].items():
        console.print(f"{name}: {values}", soft_wrap=True)
    print_table(("owner", "rows", "share of revenue"), [(o["name"], o["rows"], o["share"]) for o in facts["owners"]])


async def _on_chain(access: ChainAccess, shown: "DisclosedResult") -> OnChain:
    from koinon.contracts.studies import StudyPhase

    async with open_suite(access) as suite:
        study = await suite.studies.study_of(shown.number)
        terms = await suite.studies.terms_of(shown.number)
    if study.phase != StudyPhase.COMPLETED:
        raise InvalidInput(f"study {shown.number} has no result on this chain")
    return OnChain(terms.spec_hash, study.attempt, study.output_digest)


def _facts(shown: "DisclosedResult", found: CheckedResult) -> dict[str, Any]:
    shares = owed_shares(found)
    return {
        "study": shown.number,
        "holds": True,
        "outputs": {name: array.tolist() for name, array in found.outputs.items()},
        "owners": [
            {"name": owner.name, "rows": rows - found.study.planted, "share": f"{share / 100:g} %"}
            for owner, rows, share in zip(found.study.owners, found.rows, shares, strict=True)
        ],
    }
