"""``koinon model outsource`` and ``work``: strangers answer about encrypted rows, for fees, against bonds."""

from pathlib import Path
from typing import Any, Final

import click

from koinon.cli.console import print_json, print_table
from koinon.cli.options import HOME, JSON, amount
from koinon.cli.ordering import order, print_facts
from koinon.kernel.ids import parse_address, to_hex
from koinon.kernel.quantities import TokenAmount
from koinon.node.home import Identity

LONGEST: Final = click.IntRange(120, 30 * 86400)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@HOME
@click.option("--rows", "file", type=click.Path(path_type=Path), required=True, help="CSV or Parquet, numbers only.")
@click.option(
    "--worker",
    "cards",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="identity.json of a node that answers; repeat. Take nodes of different operators.",
)
@click.option(
    "--split",
    type=click.Choice(["rows", "model"]),
    default="rows",
    show_default=True,
    help="What is divided between the workers: the rows, or the model too, so that none is shown all of it.",
)
@click.option("--agree", default=2, show_default=True, type=click.IntRange(2, 16), help="Equal answers to each piece.")
@click.option("--piece", default=1000, show_default=True, type=click.IntRange(1), help="Rows in a piece.")
@click.option("--fee", default="0.1", callback=amount, show_default=True, help="Tokens to each that agrees, a piece.")
@click.option("--bond", default="20", callback=amount, show_default=True, help="Tokens that a wrong answer costs.")
@click.option("--contract", help="Address of an Outsourcing contract. [default: this node's own]")
@click.option("--seconds", default=3600, show_default=True, type=LONGEST, help="Time for all of it.")
@click.option("--claim-seconds", default=3600, show_default=True, type=LONGEST, help="Then, to charge wrong answers.")
@JSON
def outsource(
    model: Path,
    folder: Path,
    file: Path,
    cards: tuple[Path, ...],
    split: str,
    agree: int,
    piece: int,
    fee: int,
    bond: int,
    contract: str | None,
    seconds: int,
    claim_seconds: int,
    as_json: bool,
) -> None:
    """Have strangers answer about rows that they do not see, with an ONNX MODEL, which they do see.

    Every piece goes to several of them, drawn for it. Answers are compared byte by byte: who agrees is paid, who signed
    another answer loses its bond. AGREE of them who lie together and are drawn together win.

    With --split model, the model is cut into as many parts as there are workers (hidden units, outputs or inputs), each
    a piece of its own, to be paid for; no worker is asked about all parts, even where others lie or fail. Two who put
    together what they were shown may have all of it. Name two workers more than have to agree, if one may lie.
    """
    from koinon.contracts.tokens import format_amount
    from koinon.node import orders

    wanted = orders.Outsource(
        model=str(model.resolve()),
        path=str(file.resolve()),
        workers=tuple(Identity.read(card).account for card in cards),
        agree=agree,
        piece_rows=piece,
        fee=TokenAmount(fee),
        bond=TokenAmount(bond),
        contract=b"" if contract is None else parse_address(contract),
        seconds=seconds,
        claim_seconds=claim_seconds,
        split=split,
    )
    done = order(folder, "work.outsource", wanted, orders.WorkDone, "outsource", quiet=as_json)
    answers = [list(done.values[start : start + done.outputs]) for start in range(0, len(done.values), done.outputs)]
    facts: dict[str, Any] = {
        "contract": to_hex(done.contract),
        "job": done.job,
        "paid_tokens": format_amount(TokenAmount(done.pieces * agree * fee)),
        "charged": [to_hex(account) for account in done.charged],
        "silent": [to_hex(account) for account in done.silent],
    }
    if as_json:
        print_json({**facts, "answers": answers})
        return
    print_facts(facts, as_json=False)
    lines = [(str(row), *(f"{value:.6g}" for value in answer)) for row, answer in enumerate(answers)]
    header = ("row", *(f"output {one}" for one in range(done.outputs)))
    print_table(header, lines, right=tuple(range(1, len(header))))


@click.command()
@HOME
@click.option("--fee", default="0.1", callback=amount, show_default=True, help="Tokens a piece must pay at least.")
@click.option("--bond", default="0", callback=amount, show_default=True, help="Tokens put up at most; 0 takes no work.")
def work(folder: Path, fee: int, bond: int) -> None:
    """Let the node in --home answer encrypted questions for pay, on these terms.

    A worker that is outvoted by others of the same job loses its bond, right or wrong: the client names them all.
    """
    from koinon.node import orders

    terms = orders.TakeWork(TokenAmount(fee), TokenAmount(bond))
    order(folder, "work.take", terms, orders.Nothing, "work", quiet=False)
