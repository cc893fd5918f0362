"""``koinon data``: an organisation's own rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koinon.cli.console import console, print_json, print_table, shorten
from koinon.cli.options import HOME, JSON, chain_access, chain_options
from koinon.cli.ordering import operator_of, order, print_facts
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import to_hex
from koinon.node.home import Home

if TYPE_CHECKING:
    from koinon.node.datasets import StoredDataset


@click.group()
def data() -> None:
    """Your rows: checked, committed to, kept in the node's home. They never leave it but as shares."""


@data.command()
@click.argument("file", type=click.Path(path_type=Path))
@HOME
@click.option("--target", help="The 0/1 column to be predicted. [default: the one in --ranges]")
@click.option(
    "--ranges",
    type=click.Path(path_type=Path),
    help="study.toml, or another TOML file with [[columns]]: the public ranges all owners agreed on."
    " [default: this file's own, widened]",
)
@click.option("--key", default="", help="Column of ids, where owners hold different columns of the same people.")
@click.option("--evaluation", is_flag=True, help="Rows to test others' models on: no asset, never shared.")
@JSON
def add(
    file: Path, folder: Path, target: str | None, ranges: Path | None, key: str, evaluation: bool, as_json: bool
) -> None:
    """Check FILE (CSV or Parquet) whole, commit to its rows, keep a copy; a data owner's become an asset.

    Column ranges are public. A study takes a data set only if its columns, ranges and target are exactly the study's,
    so add your rows with --ranges study.toml. Owners of different columns of the same people add theirs with --key: the
    rows are put in an order that depends on the ids alone, and `people` is the same at all owners of the same people.
    """
    from koinon.cli.columns import as_tuples, in_file, read_ranges, suggested_ranges
    from koinon.node import orders

    operator_of(folder)
    if not file.is_file():
        raise Unavailable(f"cannot read {file.name}: there is no such file")
    if evaluation and key:
        raise InvalidInput("rows to test models on hold all columns and need no --key; leave it out")
    schema = read_ranges(ranges, target) if ranges is not None else suggested_ranges(file, target, key)
    if key:
        schema = in_file(schema, file)
    path = str(file.resolve())
    if evaluation:
        rows = orders.AddRows(path, schema.target, as_tuples(schema))
        added = order(folder, "rows.add", rows, orders.DataAdded, "add", quiet=as_json)
    else:
        own = orders.AddData(path, schema.target, as_tuples(schema), key)
        added = order(folder, "data.add", own, orders.DataAdded, "add", quiet=as_json)
    facts: dict[str, Any] = {
        "data_set": to_hex(added.dataset_hash),
        "rows": added.rows,
        "columns": len(added.columns),
        "target": added.target,
    }
    if added.people:
        facts["people"] = to_hex(added.people)
    if added.asset:
        facts["asset"] = added.asset
    print_facts(facts, as_json=as_json)


@data.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--column", "columns", multiple=True, required=True, help="May have missing cells; repeat. All owners alike."
)
@JSON
def mask(file: Path, out: Path, columns: tuple[str, ...], as_json: bool) -> None:
    """Write the CSV FILE as OUT, with missing cells filled in and a 0/1 column for each --column that says where.

    A study then fills them with the mean or median of all owners' cells that are there, inside the computation:
    --set 'missing=[["age", "age missing"]]'.
    """
    from koinon.data.missing import SUFFIX, write_masked

    counts = write_masked(file, out, columns)
    print_facts({f"{name}{SUFFIX}": count for name, count in counts.items()}, as_json=as_json)


@data.command("list")
@HOME
@JSON
def list_(folder: Path, as_json: bool) -> None:
    """The data sets in a node's home. Needs no running node."""
    from koinon.node.datasets import Datasets

    home = Home(folder)
    if not home.config.is_file():
        raise InvalidInput(f"{folder.name or folder} is no node's home; make one with: koinon node init")
    found = [("owner", one) for one in Datasets(home.datasets).all()]
    found += [("evaluation", one) for one in Datasets(home.path / "evaluation").all()]
    if as_json:
        print_json([_facts(use, one) for use, one in found])
    elif not found:
        console.print("no data sets; add one with: koinon data add FILE")
    else:
        print_table(
            ("data set", "for", "rows", "columns", "target"),
            [
                (shorten(one.dataset_hash), use, one.rows, len(one.schema.columns), one.schema.target)
                for use, one in found
            ],
            right=(2, 3),
        )


@data.command()
@click.argument("dataset", metavar="DATA_SET")
@click.option("--with", "card", required=True, type=click.Path(path_type=Path), help="The other owner's identity.json.")
@click.option("--occasion", required=True, help="What for: a text that both operators agreed on and give alike.")
@click.option("--ask/--answer", "asks", required=True, help="One owner asks and learns; the other answers.")
@click.option("--both-learn", is_flag=True, help="The one that answers learns the result too; both must say so.")
@click.option("--most", default=1 << 24, type=click.IntRange(1, 1 << 24), help="Most people the other may bring.")
@click.option("--seconds", default=600, type=click.IntRange(1, 86_400), show_default=True, help="How long it may take.")
@click.option("--out", type=click.Path(path_type=Path), help="Write your ids of the people in both to this CSV file.")
@HOME
@JSON
def intersect(
    dataset: str,
    card: Path,
    occasion: str,
    asks: bool,
    both_learn: bool,
    most: int,
    seconds: int,
    out: Path | None,
    folder: Path,
    as_json: bool,
) -> None:
    """Find out with another owner's node which of your people both have; nobody shows any other.

    The other owner runs the same command with --answer, or --ask, within the time. DATA_SET are hexadecimal digits that
    its name begins with; it was added with --key. Who asks learns how many people the other has, and who is in both;
    who answers learns how many the other has, and with --both-learn who is in both.
    """
    from koinon.node import orders
    from koinon.node.home import Identity

    wanted = orders.Intersect(
        _digits(dataset, "DATA_SET"),
        Identity.read(card).node_id,
        occasion,
        asks,
        both_learn,
        most,
        float(seconds),
        str(out.resolve()) if out is not None else "",
    )
    found = order(folder, "data.intersect", wanted, orders.Intersected, "intersect", quiet=as_json)
    learned = found.common >= 0
    facts: dict[str, Any] = {"own": found.rows, "learned": learned}
    facts |= {"in_both": found.common} if learned else {}
    print_facts(facts | {"sent_bytes": found.sent, "received_bytes": found.received}, as_json=as_json)


@data.command()
@click.argument("question", type=click.Choice(("count", "total", "mean", "histogram", "quantile")))
@click.argument("column")
@click.argument("arguments", nargs=-1, type=float)
@click.option("--data-set", "dataset", required=True, help="Hexadecimal digits that it begins with; see data list.")
@click.option("--epsilon", required=True, type=click.FloatRange(0, 100, min_open=True), help="What it may cost.")
@HOME
@JSON
def ask(
    question: str,
    column: str,
    arguments: tuple[float, ...],
    dataset: str,
    epsilon: float,
    folder: Path,
    as_json: bool,
) -> None:
    """A noisy answer about one COLUMN of your rows that you may publish; it is paid from the data set's privacy budget.

    count LOW HIGH, total, mean, histogram BINS, quantile SHARE.
    """
    from koinon.node import orders

    asked = orders.AskData(_digits(dataset, "--data-set"), question, column, arguments, epsilon)
    found = order(folder, "data.ask", asked, orders.Answered, "ask", quiet=as_json)
    values: Any = list(found.values) if len(found.values) > 1 else found.values[0]
    print_facts({"question": question, "column": column, "epsilon": epsilon, "answer": values}, as_json=as_json)


@data.command()
@HOME
@click.option("--open", "opened", type=click.Path(path_type=Path), help="Write the entries to FILE, for an auditor.")
@JSON
def budget(folder: Path, opened: Path | None, as_json: bool) -> None:
    """What every data set's privacy budget has been spent on and what is left. Needs no running node."""
    from koinon.cli.budget import budgets, write_entries

    home = Home(folder)
    if not home.config.is_file():
        raise InvalidInput(f"{folder.name or folder} is no node's home; make one with: koinon node init")
    found = budgets(home)
    if opened is not None:
        write_entries(opened, found)
    if as_json:
        print_json([one.facts() for one in found])
    elif not found:
        console.print("no data sets; add one with: koinon data add FILE")
    else:
        print_table(
            ("data set", "spent", "", "left", "studies", "own answers", "exact"),
            [one.row() for one in found],
            right=(3,),
        )


@data.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("asset", type=click.IntRange(1))
@chain_options
@JSON
def audit(
    file: Path, asset: int, folder: Path | None, urls: tuple[str, ...], suite_file: Path | None, as_json: bool
) -> None:
    """Check the entries that an owner opened in FILE against the commitments on the chain, and add them up."""
    import asyncio

    from koinon.cli.budget import audited

    facts = asyncio.run(audited(file, asset, chain_access(folder, urls, suite_file)))
    print_facts(facts, as_json=as_json)


def _digits(text: str, name: str) -> bytes:
    """The beginning of a data set's name. Raises InvalidInput for anything but two bytes or more."""
    digits = text.removeprefix("0x")
    if len(digits) % 2 or len(digits) < 4 or not all(one in "0123456789abcdefABCDEF" for one in digits):
        raise InvalidInput(f"{name} takes an even number, at least 4, of hexadecimal digits; see: koinon data list")
    return bytes.fromhex(digits)


def _facts(use: str, stored: "StoredDataset") -> dict[str, Any]:
    return {
        "data_set": to_hex(stored.dataset_hash),
        "for": use,
        "rows": stored.rows,
        "target": stored.schema.target,
        "columns": [{"name": one.name, "low": one.low, "high": one.high} for one in stored.schema.columns],
    }
