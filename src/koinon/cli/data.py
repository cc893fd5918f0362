"""``koinon data``: an organisation's own rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koinon.cli.console import console, print_json, print_table, shorten
from koinon.cli.options import HOME, JSON
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


def _facts(use: str, stored: "StoredDataset") -> dict[str, Any]:
    return {
        "data_set": to_hex(stored.dataset_hash),
        "for": use,
        "rows": stored.rows,
        "target": stored.schema.target,
        "columns": [{"name": one.name, "low": one.low, "high": one.high} for one in stored.schema.columns],
    }
