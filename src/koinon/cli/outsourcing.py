"""``koinon model outsource``, ``multiply`` and ``work``: strangers compute for fees, against bonds."""

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
@click.option("--estimate", is_flag=True, help="Only say what it would take, and show of the model.")
@click.option(
    "--contract", help="Address of an Outsourcing contract that this account created. [default: this node's own]"
)
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
    estimate: bool,
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
    --estimate says how many pieces that makes, and how many parts of the model each worker sees.
    """
    from koinon.contracts.tokens import format_amount
    from koinon.node import orders

    if estimate:
        print_facts(_estimate(model, file, split, len(set(cards)), agree, piece, fee), as_json=as_json)
        return
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


def _estimate(model: Path, file: Path, split: str, workers: int, agree: int, piece: int, fee: int) -> dict[str, Any]:
    """What the work takes, and what of the model each worker sees of it. Raises InvalidInput."""
    from koinon.contracts.tokens import format_amount
    from koinon.node.onnx_files import read_encrypted_work
    from koinon.privacy.encrypted.work_estimate import estimate_work

    layers, rows = read_encrypted_work(model, file, piece)
    found = estimate_work(layers, split, len(rows), piece, workers, agree)
    return {
        "pieces": found.pieces,
        "tokens": format_amount(TokenAmount(found.pieces * agree * fee)),
        "parts_of_the_model": found.parts,
        "parts_a_worker_sees": found.shown,
        "parts_a_worker_sees_at_most": found.most_shown,
        "products_in_an_answer": found.products,
        "products_with_the_whole_model": found.whole_products,
    }


@click.command()
@click.argument("left", type=click.Path(path_type=Path))
@click.argument("right", type=click.Path(path_type=Path))
@HOME
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The product, a new .npy file.")
@click.option(
    "--worker",
    "cards",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="identity.json of a node that multiplies; repeat to try others after it.",
)
@click.option(
    "--fraction-bits",
    default=0,
    show_default=True,
    type=click.IntRange(0, 29),
    help="Bits kept after the point of numbers; 0 takes integers alone.",
)
@click.option(
    "--hide",
    type=click.Choice(["left", "right", "both"]),
    help="What no worker alone is to see; takes two workers, or four for both.",
)
@click.option(
    "--charge/--no-charge",
    default=None,
    help="Prove a wrong number to the chain, which sees its row and column. [default: not with --hide]",
)
@click.option("--fee", default="0.1", callback=amount, show_default=True, help="Tokens for a product.")
@click.option("--bond", default="20", callback=amount, show_default=True, help="Tokens that a wrong number costs.")
@click.option("--contract", help="Address of a Products contract that this account created. [default: this node's own]")
@click.option("--seconds", default=3600, show_default=True, type=LONGEST, help="Time for one worker.")
@click.option("--claim-seconds", default=3600, show_default=True, type=LONGEST, help="Then, to charge a wrong product.")
@JSON
def multiply(
    left: Path,
    right: Path,
    folder: Path,
    output: Path,
    cards: tuple[Path, ...],
    fraction_bits: int,
    hide: str | None,
    charge: bool | None,
    fee: int,
    bond: int,
    contract: str | None,
    seconds: int,
    claim_seconds: int,
    as_json: bool,
) -> None:
    """Have a stranger multiply LEFT by RIGHT, two matrices in .npy files, which it sees.

    One worker is enough: the product is checked here by Freivalds' method, which misses a wrong one with a probability
    below 1 in 2^61. A wrong number is proved to the chain, and its worker's bond is yours; the next worker is tried.

    With --hide, a matrix is cut into two random ones that add up to it, and their products are left to different
    workers, each for the fee. Alone they see sizes; two who put together what they were given see the matrix. --charge
    then shows one row and one column of a part to everybody, and with the other part whoever was given that.
    """
    from koinon.node import orders

    wanted = orders.Multiply(
        left=str(left.resolve()),
        right=str(right.resolve()),
        out=str(output.resolve()),
        workers=tuple(Identity.read(card).account for card in cards),
        fee=TokenAmount(fee),
        bond=TokenAmount(bond),
        contract=b"" if contract is None else parse_address(contract),
        seconds=seconds,
        claim_seconds=claim_seconds,
        fraction_bits=fraction_bits,
        hide=hide or "",
        charge=not hide if charge is None else charge,
    )
    done = order(folder, "work.multiply", wanted, orders.Multiplied, "multiply", quiet=as_json)
    facts: dict[str, Any] = {
        "product": str(output),
        "rows": done.rows,
        "columns": done.columns,
        "contract": to_hex(done.contract),
        "jobs": list(done.jobs),
        "workers": [to_hex(account) for account in done.workers],
        "wrong": [to_hex(account) for account in done.wrong],
        "charged": [to_hex(account) for account in done.charged],
        "silent": [to_hex(account) for account in done.silent],
    }
    print_facts(facts, as_json=as_json)


@click.command()
@HOME
@click.option("--fee", default="0.1", callback=amount, show_default=True, help="Tokens a piece must pay at least.")
@click.option("--bond", default="0", callback=amount, show_default=True, help="Tokens put up at most; 0 takes no work.")
def work(folder: Path, fee: int, bond: int) -> None:
    """Let the node in --home answer encrypted questions and multiply matrices for pay, on these terms.

    A worker of encrypted questions that is outvoted by others of the same job loses its bond, right or wrong: the
    client names them all. A wrong product is proved.
    """
    from koinon.node import orders

    terms = orders.TakeWork(TokenAmount(fee), TokenAmount(bond))
    order(folder, "work.take", terms, orders.Nothing, "work", quiet=False)
