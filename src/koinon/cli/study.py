"""``koinon study``: what is computed, on whose rows, for what, at what price."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from koinon.cli.console import console, print_json, print_table
from koinon.cli.options import (
    HOME,
    JSON,
    ChainAccess,
    amount,
    chain_access,
    chain_options,
    open_suite,
    read_text,
    write_new,
)
from koinon.cli.ordering import operator_of, order, print_facts
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, NodeId, to_hex
from koinon.kernel.quantities import TokenAmount

if TYPE_CHECKING:
    from koinon.jobs.study import StudyFile

SECONDS: Final = click.IntRange(1, 30 * 86400)


@click.group()
def study() -> None:
    """One agreed private computation: draft it, see what it costs, propose it, train, look it up."""


@study.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "given",
    multiple=True,
    type=click.Path(path_type=Path),
    required=True,
    help="Columns and ranges: a TOML file with [[columns]], or a CSV or Parquet file whose rows suggest them. Where"
    " owners hold different columns of the same people, one for each owner, in the owners' order.",
)
@click.option("--key", default="", help="Column of ids in the CSV and Parquet files of --from.")
@click.option("--people", "root", help="With several --from: the root that koinon data add --key shows to every owner.")
@click.option(
    "--join",
    default="agreed",
    type=click.Choice(("agreed", "psi", "oblivious")),
    show_default=True,
    help="With several --from: how rows of the same people meet. psi: the owners' nodes find out who is in all their"
    " data, or, where several bring the same columns, each pair who is in both. oblivious: rows meet among the"
    " committee, and nobody learns whose. With both several owners may bring the same columns.",
)
@click.option(
    "--owner", "cards", multiple=True, required=True, type=click.Path(path_type=Path), help="identity.json; repeat."
)
@click.option("--title", required=True, help="What the study is called.")
@click.option("--purpose", required=True, help="What for, in a sentence; owners' policies look for phrases in it.")
@click.option("--program", default="logistic-regression/1", show_default=True, help="See: koinon study programs")
@click.option("--engine", default="rep4", show_default=True, help="How it is computed; see: koinon study estimate")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the program; repeat.")
@click.option(
    "--function",
    "function_file",
    type=click.Path(path_type=Path),
    help="With --program function/1: what koinon study function wrote.",
)
@click.option("--epsilon", default=0.0, help="Noise: what it costs every row's privacy budget. [default: 0, exact]")
@click.option("--plant", "planted", default=0, type=click.IntRange(0), help="Rows each owner plants in secret.")
@click.option("--open", "outputs", multiple=True, help="An output that may leave; repeat. [default: all it has]")
@click.option("--target", help="The column to be predicted, where the program predicts one.")
@click.option("--group", "sensitive", help="Column whose tertiles fairness is measured over. [default: the first]")
@click.option(
    "--owner-revenue", default=20.0, type=click.FloatRange(0, 50), show_default=True, help="Per cent to each."
)
@click.option("--minimum-rows", default=20, type=click.IntRange(10), show_default=True, help="Of each owner.")
@click.option("--committee-fee", default="5", callback=amount, show_default=True, help="Tokens to each of the four.")
@click.option("--owner-fee", default="10", callback=amount, show_default=True, help="Tokens to each owner.")
@click.option("--bond", default="20", callback=amount, show_default=True, help="Lost by a party that stays away.")
@click.option("--consent-seconds", default=3600, type=SECONDS, show_default=True, help="Time for owners to answer.")
@click.option("--reveal-seconds", default=300, type=SECONDS, show_default=True, help="Time to open nonces.")
@click.option("--run-seconds", default=600, type=SECONDS, show_default=True, help="Time for one attempt.")
@click.option("--challenge-seconds", default=60, type=SECONDS, show_default=True, help="Time for a silent node.")
@click.option("--attempts", default=4, type=click.IntRange(1, 16), show_default=True, help="Committees drawn at most.")
def new(
    file: Path,
    given: tuple[Path, ...],
    key: str,
    root: str | None,
    join: str,
    cards: tuple[Path, ...],
    title: str,
    purpose: str,
    program: str,
    engine: str,
    settings: tuple[str, ...],
    function_file: Path | None,
    epsilon: float,
    planted: int,
    outputs: tuple[str, ...],
    target: str | None,
    sensitive: str | None,
    owner_revenue: float,
    minimum_rows: int,
    committee_fee: int,
    owner_fee: int,
    bond: int,
    consent_seconds: int,
    reveal_seconds: int,
    run_seconds: int,
    challenge_seconds: int,
    attempts: int,
) -> None:
    """Write a draft to FILE, for you to edit and for the owners to read before anything is signed."""
    from koinon.cli.columns import all_columns, as_tuples, declared_target, names_in, read_root
    from koinon.cli.programs import coded_columns, read_settings
    from koinon.jobs.study import Party, Terms
    from koinon.node.drafts import Draft, write_draft
    from koinon.node.home import Identity
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import Target, decode_settings, settings_from

    if file.exists():
        raise InvalidInput(f"{file.name} exists already; choose another name or remove it")
    owners = [Identity.read(card) for card in cards]
    offer = registry.offer(program)
    predicted = "" if offer.target is Target.NONE else target or declared_target(given)
    if predicted is None:
        raise InvalidInput(f"say with --target which column {program} is to predict")
    beside = predicted if offer.target is Target.BINARY else ""
    told = read_settings(offer, settings, function_file)
    codes = coded_columns(offer, names_in(given, key), predicted, told)
    schema, holders = all_columns(given, beside, key, [owner.name for owner in owners], codes)
    if join != "agreed" and not holders:
        raise InvalidInput("--join goes with one --from for each owner, and only with that")
    if (root is not None) != (bool(holders) and join == "agreed"):
        raise InvalidInput(
            "--people goes with one --from for each owner and people agreed on, and only with that; see --join"
        )
    if sensitive is not None:
        schema.index(sensitive)
    binary = offer.target is Target.BINARY
    if offer.sums is not None and engine == "rep4" and not any(pair.startswith("solver=") for pair in settings):
        told["solver"] = "auto"
    draft = Draft(
        title=title,
        purpose=purpose,
        columns=as_tuples(schema),
        target=schema.target if binary else predicted,
        sensitive_column=(sensitive or schema.names[0]) if binary else "",
        owners=tuple(Party(one.name, one.node_id, one.account) for one in owners),
        owner_revenue_basis_points=round(owner_revenue * 100),
        minimum_rows=minimum_rows,
        terms=Terms(
            committee_fee=TokenAmount(committee_fee),
            owner_fee=TokenAmount(owner_fee),
            bond=TokenAmount(bond),
            consent_seconds=consent_seconds,
            reveal_seconds=reveal_seconds,
            run_seconds=run_seconds,
            challenge_seconds=challenge_seconds,
            maximum_attempts=attempts,
        ),
        algorithm=program,
        outputs=outputs or registry.outputs_of(offer, decode_settings(offer, settings_from(offer, told))),
        settings=told,
        holders=holders,
        people=read_root(root) if root is not None else b"",
        epsilon=epsilon,
        join=join,
        planted=planted,
        engine=engine,
    )
    write_new(file, write_draft(draft))
    try:
        read_draft(file)
    except InvalidInput:
        file.unlink()
        raise
    console.print(f"wrote {file}: {len(schema.columns)} columns, {len(owners)} owners; read it", soft_wrap=True)
    for command in (f"koinon study estimate {file}", f"koinon data add FILE --ranges {file} --home DIR"):
        console.print(f"next: {command}", style="dim", soft_wrap=True)


@study.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rows", "rows", multiple=True, type=click.IntRange(1), help="Of each owner, in order. [default: least]")
@click.option("--rtt", default=0.2, type=click.FloatRange(0, 10_000), show_default=True, help="Round trip, in ms.")
@click.option("--mbit", default=1000.0, type=click.FloatRange(0.01), show_default=True, help="Mbit/s each can send.")
@JSON
def estimate(file: Path, rows: tuple[int, ...], rtt: float, mbit: float, as_json: bool) -> None:
    """What the study in FILE would cost, on which engine, against whom, and who would learn what. Sends nothing."""
    from koinon.cli.functions import function_rows
    from koinon.cli.programs import estimates, print_solver, solver_facts
    from koinon.contracts.tokens import format_amount
    from koinon.jobs.study import MATCHED, escrow, is_crossed

    draft = read_draft(file)
    if rows and len(rows) != len(draft.owners):
        raise InvalidInput(f"give --rows {len(draft.owners)} times, once for each owner, or not at all")
    counts = rows or function_rows(draft) or tuple(draft.minimum_rows for _ in draft.owners)
    if draft.join == MATCHED and not is_crossed(draft):
        counts = (min(counts),) * len(counts)  # no more people than the smallest owner has are with all of them
    draft, solver = solver_facts(draft, counts, rtt / 1e3, mbit * 1e6)
    facts: dict[str, Any] = {
        "title": draft.title,
        "program": draft.algorithm,
        "engine": draft.engine,
        "rows": list(counts),
        "escrow_tokens": format_amount(escrow(draft)),
        "bond_tokens": format_amount(draft.terms.bond),
    }
    engines = estimates(draft, counts, rtt / 1e3, mbit * 1e6)
    learns = _learns(draft)
    if as_json:
        print_json({**facts, "learns": learns, "engines": engines, **({"solver": solver} if solver else {})})
        return
    print_facts(facts, as_json=False)
    if solver:
        print_solver(solver)
    for engine in engines:
        console.print(f"\n{engine.pop('engine')}", style="bold")
        if refusal := engine.pop("refusal"):
            console.print(f"not for this study: {refusal}", soft_wrap=True)
            continue
        who = engine.pop("learns")
        print_facts(engine, as_json=False)
        print_table(("who", "learns"), [*learns.items(), *who.items()])


def _learns(draft: "StudyFile") -> dict[str, str]:
    outputs = " and ".join(draft.outputs)
    if draft.algorithm == "function/1":
        return {
            "publisher": f"{outputs}: whatever the function makes of rows, even rows: koinon study equations",
            **_learns_beside(draft),
        }
    exact = "exact; it says something about the rows" if not draft.epsilon else f"with noise, ε = {draft.epsilon:g}"
    return {
        "publisher": f"{outputs} ({exact})",
        **_learns_beside(draft),
    }


def _learns_beside(draft: "StudyFile") -> dict[str, str]:
    return {
        "everybody who asks": "this file with its ranges, who took part, how many rows each owner has, all payments",
        **_learns_of_people(draft),
    }


def _learns_of_people(draft: "StudyFile") -> dict[str, str]:
    """What bringing rows of the same people together shows, before and beside what is computed."""
    from koinon.jobs.study import MATCHED, OBLIVIOUS, is_crossed

    if is_crossed(draft):
        tables = [
            ", ".join(owner.name for owner, held in zip(draft.owners, draft.held, strict=True) if held == columns)
            for columns in dict.fromkeys(draft.held)
        ]
        return {
            f"each of {mine}, before signing": f"who is both in its own data and in that of each of {others}, but for"
            " people it has with an earlier one; how many people each of them looks for"
            for mine, others in (tables, reversed(tables))
        }
    if draft.join == MATCHED:
        first, *others = (owner.name for owner in draft.owners)
        return {
            f"{first}, before it signs": f"who is both in its own data and in that of {', then '.join(others)};"
            " how many rows each of them has",
            f"{', '.join(others)}, before signing": f"who is in all owners' data, if {draft.minimum_rows} or more are;"
            " else only how many people were looked for",
        }
    if draft.join == OBLIVIOUS:
        return {"owners": "nothing of who is in whose data; they share a key under which no one else can test an id"}
    return {}


@study.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rtt", type=click.FloatRange(0, 10_000), help="Round trip between nodes, in ms. [default: measured]")
@click.option("--mbit", default=1000.0, type=click.FloatRange(0.01), show_default=True, help="Mbit/s each can send.")
@HOME
@JSON
def propose(file: Path, rtt: float | None, mbit: float, folder: Path, as_json: bool) -> None:
    """Sign the study in FILE with the publisher's node, lock its escrow, and wait for every owner's answer.

    Where FILE says solver = "auto", rows, columns and links decide whether owners share rows or sums of their own.
    """
    from koinon.cli.steps import facts_of
    from koinon.journey.results import Study
    from koinon.node import orders

    operator_of(folder)
    read_draft(file)
    proposal = orders.ProposeStudy(read_text(file), -1.0 if rtt is None else rtt / 1e3, mbit * 1e6)
    found = order(folder, "study.propose", proposal, Study, "propose", quiet=as_json)
    print_facts(facts_of(found), as_json=as_json, next_step=f"koinon study train {found.number} --home {folder}")


@study.command()
@click.argument("number", type=click.IntRange(1))
@HOME
@click.option("--again", is_flag=True, help="Open the result once more, even if this node has it.")
@JSON
def train(number: int, folder: Path, again: bool, as_json: bool) -> None:
    """Have a committee drawn that computes on shares, and open what three of its four members agree on."""
    from koinon.cli.steps import carry_on

    carry_on(folder, str(number), "train", "study.train", lambda result: result, again=again, as_json=as_json)


@study.command()
@JSON
def programs(as_json: bool) -> None:
    """What a study can compute: every program with how owners may split what it takes, its outputs and settings.

    Owners split rows (each has people of its own), columns (each has further columns of the same people) or both, or
    meet obliviously, so that nobody learns who is in the data of several.
    """
    from koinon.cli.programs import list_programs

    list_programs(as_json=as_json)


@study.command()
@click.argument("place", metavar="FILE.py:NAME")
@click.option("--rows", "rows", multiple=True, type=click.IntRange(1), required=True, help="Of each owner, in order.")
@click.option("--columns", type=click.IntRange(1), required=True, help="Of the study.")
@click.option("--same-people", "together", is_flag=True, help="Owners bring different columns of the same people.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@JSON
def function(place: str, rows: tuple[int, ...], columns: int, together: bool, output: Path, as_json: bool) -> None:
    """Write a JAX function of the whole table down for studies (program function/1). Runs FILE.py, and shares nothing.

    The function takes one float32 array (rows of all owners, columns) in the columns' units, and all that it returns is
    opened: an array, or several in a tuple or a dict.
    """
    from koinon.cli.functions import write_function

    write_function(place, rows, columns, output, together=together, as_json=as_json)


@study.command()
@click.argument("file", type=click.Path(path_type=Path))
@JSON
def equations(file: Path, as_json: bool) -> None:
    """What the function in FILE does, equation by equation, and its hash: of a function file or of a study's file."""
    from koinon.cli.functions import show_equations

    show_equations(file, as_json=as_json)


@study.command()
@click.argument("number", type=click.IntRange(1))
@HOME
@click.option("--csv", "folder_of_tables", type=click.Path(path_type=Path), help="Write each table as a CSV file here.")
@click.option("--onnx", "model_file", type=click.Path(path_type=Path), help="Write the model here instead.")
@JSON
def result(number: int, folder: Path, folder_of_tables: Path | None, model_file: Path | None, as_json: bool) -> None:
    """The opened outputs of a study of this node, as tables in the units of its columns, or as an ONNX model."""
    from koinon.cli.programs import show_result, write_model

    if model_file is not None:
        write_model(folder, number, model_file)
        return
    show_result(folder, number, folder_of_tables, as_json=as_json)


@study.command()
@click.argument("number", type=click.IntRange(1))
@HOME
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
def disclose(number: int, folder: Path, output: Path) -> None:
    """Write a study's whole result with its proof, for others to check with koinon study opened."""
    from koinon.cli.disclosing import write_disclosed

    write_disclosed(folder, number, output)


@study.command()
@click.argument("file", type=click.Path(path_type=Path))
@chain_options
@JSON
def opened(file: Path, folder: Path | None, urls: tuple[str, ...], suite_file: Path | None, as_json: bool) -> None:
    """Check a disclosed result against the chain: that three of the four signed it, and what follows for the owners."""
    from koinon.cli.disclosing import show_disclosed

    show_disclosed(file, chain_access(folder, urls, suite_file), as_json=as_json)


@study.command()
@click.argument("evidence", type=click.Path(path_type=Path))
@click.option(
    "--view",
    type=click.Path(path_type=Path),
    help="What one of the two opened to you as its judge. It is as secret as that node's shares: read it where no other"
    " position's view has ever been, and delete it afterwards.",
)
@JSON
def judge(evidence: Path, view: Path | None, as_json: bool) -> None:
    """Check the EVIDENCE of a stopped run, and name who deviated by repeating one accused node's part."""
    from koinon.cli.judging import judged

    print_facts(judged(evidence, view), as_json=as_json)


@study.command()
@click.argument("number", type=click.IntRange(1))
@click.argument("evidence", required=False, type=click.Path(path_type=Path))
@HOME
@JSON
def accuse(number: int, evidence: Path | None, folder: Path, as_json: bool) -> None:
    """Bring the EVIDENCE of a stopped run of study NUMBER before judges: the node's own where no file is given, or what
    members were told. Where it names one, this node pays three judges; who is convicted pays it a part of its stake.
    """
    from koinon.cli.judging import accused

    facts = accused(folder, number, evidence, quiet=as_json)
    print_facts(facts, as_json=as_json, next_step=f"koinon study case {facts['case']} --home {folder}")


@study.command()
@click.argument("case", type=click.IntRange(1))
@HOME
@click.option("--view", type=click.Path(path_type=Path), help="What this node opens. [default: what it kept]")
@click.option("--yes", is_flag=True, help="Agree to the cost without being asked.")
@click.option("--anyway", is_flag=True, help="Also where repeating its part shows this node that it will lose.")
@JSON
def plead(case: int, folder: Path, view: Path | None, yes: bool, anyway: bool, as_json: bool) -> None:
    """Have judges, drawn and paid for this node, repeat its part in CASE. They see what it received and drew."""
    from koinon.cli.judging import pleaded

    facts = pleaded(folder, case, view, anyway=anyway, agreed=yes, quiet=as_json)
    print_facts(facts, as_json=as_json, next_step=f"koinon study case {case} --home {folder}")


@study.command()
@click.argument("number", type=click.IntRange(1))
@chain_options
@JSON
def case(number: int, folder: Path | None, urls: tuple[str, ...], suite_file: Path | None, as_json: bool) -> None:
    """Where case NUMBER before the judges stands: who is accused, who voted for what, until when."""
    from koinon.cli.judging import case_facts

    print_facts(case_facts(chain_access(folder, urls, suite_file), number), as_json=as_json)


@study.command()
@click.argument("number", type=click.IntRange(1))
@chain_options
@JSON
def show(number: int, folder: Path | None, urls: tuple[str, ...], suite_file: Path | None, as_json: bool) -> None:
    """What the chain says about a study: parties, money, committee, every event."""
    access = chain_access(folder, urls, suite_file)
    facts = asyncio.run(_on_chain(access, number))
    if as_json:
        print_json(facts)
        return
    events = facts.pop("events")
    print_facts(facts, as_json=False)
    console.print()
    print_table(("block", "event", ""), [(one["block"], one["event"], one["detail"]) for one in events], right=(0,))


async def _on_chain(access: ChainAccess, number: int) -> dict[str, Any]:
    from koinon.contracts.judgements import Accused
    from koinon.contracts.tokens import format_amount

    async with open_suite(access) as suite:
        state = await suite.studies.study_of(number)
        terms = await suite.studies.terms_of(number)
        events = await _events(suite.studies, number)
        cases = [one.event.case_id for one in await suite.judgements.events(Accused, study_id=number)]
    return {
        "study": number,
        "phase": state.phase.name.lower(),
        "attempt": state.attempt + 1,
        "publisher": to_hex(state.publisher),
        "owners": [to_hex(owner) for owner in terms.owners],
        "consents": f"{state.consents} of {len(terms.owners)}",
        "committee": [to_hex(member) for member in state.committee],
        "excluded": [to_hex(member) for member in state.excluded],
        "specification": to_hex(terms.spec_hash),
        "algorithm": to_hex(terms.algorithm_hash),
        "held_tokens": format_amount(state.held),
        "deadline": state.deadline,
        "output_digest": to_hex(state.output_digest),
        "cases": [case for case in cases if case],
        "events": events,
    }


async def _events(studies: Any, number: int) -> list[dict[str, Any]]:
    from koinon.contracts import studies as known
    from koinon.contracts.contract import Event

    kinds: tuple[type[Event], ...] = (
        known.Proposed,
        known.Consented,
        known.Refused,
        known.LockedIn,
        known.Revealed,
        known.Seeded,
        known.Drawn,
        known.Complained,
        known.Declined,
        known.Challenged,
        known.Answered,
        known.ChallengeExpired,
        known.Contradicted,
        known.AttemptFailed,
        known.Completed,
        known.Ended,
    )
    found = [one for listing in [await studies.events(kind, study_id=number) for kind in kinds] for one in listing]
    found.sort(key=lambda one: (one.log.height, one.log.index))
    return [{"block": one.log.height, "event": type(one.event).__name__, "detail": _detail(one.event)} for one in found]


SPEAKING: Final = ("owner", "party", "committee", "sender", "backup", "receiver", "member", "slashed", "reason")


def _detail(event: Any) -> str:
    told = [(name, getattr(event, name)) for name in SPEAKING if hasattr(event, name)]
    return ", ".join(f"{name} {_short(value)}" for name, value in told)


def _short(value: object) -> str:
    from koinon.cli.console import shorten

    if isinstance(value, tuple):
        return " ".join(_short(one) for one in value)
    return shorten(value) if isinstance(value, bytes) else str(value).strip("\0")


def read_draft(path: Path) -> "StudyFile":
    """A study file before any node has signed it: the publisher, the chain and the contract are still open.

    Raises:
        InvalidInput: unreadable, an unknown or missing key, or a rule broken; the sentence names the key.
    """
    from koinon.jobs.study import Party, read_study_toml
    from koinon.privacy.programs.registry import algorithm_hash

    return read_study_toml(
        path,
        algorithm_hash=algorithm_hash,
        publisher=Party("not known yet", NodeId(bytes(32)), Address(bytes(20))),
        chain_id=0,
        studies_contract=Address(bytes(20)),
    )
