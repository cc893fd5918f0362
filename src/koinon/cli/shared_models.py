"""``koinon model share``, ``ask``, ``forget``: a model that four nodes keep as shares answers rows that nobody sees."""

from pathlib import Path
from typing import Any, Final

import click

from koinon.cli.console import console, print_json, print_table
from koinon.cli.options import HOME, JSON
from koinon.cli.ordering import order, print_facts
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import NodeId, to_hex
from koinon.node.home import Identity

_CARDS: Final = click.Path(path_type=Path)
_MEMBER: Final = click.option("--member", "card", type=_CARDS, required=True, help="identity.json of any of its nodes.")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@HOME
@click.option("--name", required=True, help="For people; 1 to 80 characters.")
@click.option(
    "--member", "cards", type=_CARDS, multiple=True, required=True, help="identity.json of a node; four times."
)
@click.option(
    "--largest",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Rows with larger numbers will be refused.",
)
@click.option("--caller", "callers", type=_CARDS, multiple=True, help="identity.json of who may ask; none: everybody.")
@JSON
def share(
    model: Path,
    folder: Path,
    name: str,
    cards: tuple[Path, ...],
    largest: float,
    callers: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Have four nodes keep an ONNX MODEL as shares, so that they can answer and none of them can read it.

    Each node's node.toml must name yours in shared_models_of. Any two of the four together could read the model and
    every question: take nodes of different operators. The graph and its shapes are public. Prints the id that callers
    need.
    """
    from koinon.node import orders

    if len(cards) != 4:
        raise InvalidInput(f"a model is shared among four nodes; --member was given {len(cards)} times")
    wanted = orders.ShareModel(str(model.resolve()), name, largest, _ids(cards), _ids(callers))
    found = order(folder, "model.share", wanted, orders.SharedWith, "share", quiet=as_json)
    facts = {
        "id": to_hex(found.model),
        "name": found.name,
        "row": list(found.row),
        "largest": found.largest,
        "weights": found.weights,
    }
    print_facts(facts, as_json=as_json, next_step=f"koinon model ask {to_hex(found.model)} --rows FILE --member CARD")


@click.command()
@click.argument("model")
@HOME
@_MEMBER
@click.option("--rows", "file", type=click.Path(path_type=Path), required=True, help="CSV or Parquet, numbers only.")
@JSON
def ask(model: str, folder: Path, card: Path, file: Path, as_json: bool) -> None:
    """Answers of a shared MODEL, by its id, for rows that no node sees. Your node alone opens the answers.

    A row is one line of the file, its columns in the model's order; of an image, all its numbers line by line.
    """
    from koinon.node import orders

    wanted = orders.AskShared(_id(model), Identity.read(card).node_id, str(file.resolve()))
    found = order(folder, "model.ask", wanted, orders.SharedAnswers, "ask", quiet=as_json)
    answers = [
        list(found.values[start : start + found.outputs]) for start in range(0, len(found.values), found.outputs)
    ]
    if as_json:
        print_json({"name": found.name, "answers": answers})
        return
    header = ("row", *(f"output {number}" for number in range(found.outputs)))
    lines: list[tuple[Any, ...]] = [
        (str(number), *(f"{value:.6g}" for value in answer)) for number, answer in enumerate(answers)
    ]
    console.print(found.name, style="bold")
    print_table(header, lines, right=tuple(range(1, len(header))))


@click.command()
@click.argument("model")
@HOME
@_MEMBER
def forget(model: str, folder: Path, card: Path) -> None:
    """Have the four nodes delete their shares of your MODEL, by its id."""
    from koinon.node import orders

    wanted = orders.ForgetShared(_id(model), Identity.read(card).node_id)
    order(folder, "model.forget", wanted, orders.Nothing, "forget", quiet=False)


def _ids(cards: tuple[Path, ...]) -> tuple[NodeId, ...]:
    return tuple(Identity.read(card).node_id for card in cards)


def _id(text: str) -> bytes:
    digits = text.removeprefix("0x")
    if len(digits) != 64 or not all(one in "0123456789abcdefABCDEF" for one in digits):
        raise InvalidInput("a shared model's id is 64 hexadecimal digits; its owner has it from: koinon model share")
    return bytes.fromhex(digits)
