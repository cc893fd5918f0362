"""``koinon model share``, ``answer``, ``ask``, ``forget``: models that answer rows which no node sees."""

from pathlib import Path
from typing import Any, Final

import click

from koinon.cli.console import console, print_json, print_table
from koinon.cli.options import HOME, JSON
from koinon.cli.ordering import order, print_facts
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import NodeId, parse_hash, to_hex
from koinon.node.home import Identity

_CARDS: Final = click.Path(path_type=Path)
_AT: Final = click.option(
    "--at", "card", type=_CARDS, required=True, help="identity.json of the node; of a shared model any of the four."
)
_CALLERS: Final = click.option(
    "--caller", "callers", type=_CARDS, multiple=True, help="identity.json of who may ask; none: everybody."
)


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
@_CALLERS
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
    print_facts(facts, as_json=as_json, next_step=f"koinon model ask {to_hex(found.model)} --rows FILE --at CARD")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@HOME
@click.option("--name", required=True, help="What callers ask for; 1 to 64 of a-z, 0-9, '-' and '.'.")
@_CALLERS
def answer(model: Path, folder: Path, name: str, callers: tuple[Path, ...]) -> None:
    """Have your node answer encrypted rows with an ONNX MODEL: dense layers, squares between, sigmoid or softmax last.

    Callers encrypt under keys of their own (CKKS); your node computes on ciphertexts and sees how many rows there are.
    The model stays here, in the clear. Needs the extra "encrypted" on both nodes.
    """
    from koinon.node import orders

    wanted = orders.AnswerEncrypted(str(model.resolve()), name, _ids(callers))
    order(folder, "model.answer", wanted, orders.Nothing, "answer", quiet=False)


@click.command()
@click.argument("model")
@HOME
@_AT
@click.option("--rows", "file", type=click.Path(path_type=Path), required=True, help="CSV or Parquet, numbers only.")
@JSON
def ask(model: str, folder: Path, card: Path, file: Path, as_json: bool) -> None:
    """Answers of a MODEL for rows that no node sees; your node alone can read them.

    MODEL is the id of a shared model, which computes on shares of the rows, or the name under which one node answers
    encrypted rows. A row is one line of the file, its columns in the model's order; of an image, its numbers line by
    line.
    """
    from koinon.node import orders

    node, path = Identity.read(card).node_id, str(file.resolve())
    if model.startswith("0x"):
        shared = orders.AskShared(_id(model), node, path)
        found = order(folder, "model.ask", shared, orders.PrivateAnswers, "ask", quiet=as_json)
    else:
        encrypted = orders.AskEncrypted(node, model, path)
        found = order(folder, "model.ask_encrypted", encrypted, orders.PrivateAnswers, "ask", quiet=as_json)
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
@_AT
def forget(model: str, folder: Path, card: Path) -> None:
    """Have the four nodes delete their shares of your MODEL, by its id."""
    from koinon.node import orders

    wanted = orders.ForgetShared(_id(model), Identity.read(card).node_id)
    order(folder, "model.forget", wanted, orders.Nothing, "forget", quiet=False)


def _ids(cards: tuple[Path, ...]) -> tuple[NodeId, ...]:
    return tuple(Identity.read(card).node_id for card in cards)


def _id(text: str) -> bytes:
    try:
        return parse_hash(text)
    except InvalidInput:
        raise InvalidInput(
            "a shared model's id is 0x and 64 hexadecimal digits; its owner has it from: koinon model share"
        ) from None
