"""``koinon demo``: the main job on eleven processes, with what can go wrong on request."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import click

from koinon.cli.console import Progress, console, print_json
from koinon.cli.demonstration import Demonstration, Options
from koinon.kernel.errors import InvalidInput, KoinonError


@click.command()
@click.option("--chaos", type=click.Choice(["kill", "lie", "validator"]), help="What goes wrong in the middle.")
@click.option("--chain", "chain_url", help="URL of an outside EVM chain's JSON-RPC, instead of our own ledger.")
@click.option(
    "--chain-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the hexadecimal key of an account that pays for gas on the outside chain.",
)
@click.option(
    "--data",
    "data_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with one CSV or Parquet file for each data owner, and one named evaluators.*",
)
@click.option(
    "--split",
    type=click.Choice(["rows", "columns"]),
    default="rows",
    show_default=True,
    help="Whether each hospital has patients of its own, or other columns of the same patients.",
)
@click.option(
    "--engine",
    type=click.Choice(["rep4", "federated", "he"]),
    default="rep4",
    show_default=True,
    help="How the study is computed: on shares by a committee, where the rows lie, or on ciphertexts; he makes naive"
    " Bayes, the others logistic regression.",
)
@click.option(
    "--worth",
    is_flag=True,
    help="Open what each hospital's rows are worth to the model, too, and split the hospitals' revenue by that.",
)
@click.option("--target", help="The 0/1 column that the model predicts. [default: the only one]")
@click.option("--group", "sensitive", help="Column whose tertiles fairness is measured over. [default: the first]")
@click.option("--calls", default=200, show_default=True, type=click.IntRange(1, 100_000), help="Calls the buyer makes.")
@click.option(
    "--effort",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.05, 1.0),
    help="Share of the evaluation suite's full budgets.",
)
@click.option("--seed", default=1, show_default=True, help="Of the cut of the demonstration's rows.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("demo-report.json"),
    show_default=True,
    help="Where the report goes; the evidence bundle goes beside it.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the network lives. [default: a scratch folder]")
@click.option("--stay", is_flag=True, help="Leave the network and its site running; Ctrl-C ends them.")
@click.option("--json", "as_json", is_flag=True, help="Print the report instead of the story.")
def demo(
    chaos: str | None,
    chain_url: str | None,
    chain_key: Path | None,
    data_folder: Path | None,
    split: str,
    engine: str,
    worth: bool,
    target: str | None,
    sensitive: str | None,
    calls: int,
    effort: float,
    seed: int,
    report: Path,
    folder: Path | None,
    stay: bool,
    as_json: bool,
) -> None:
    """Three hospitals train one model without showing a row; a stranger buys a prediction and checks it."""
    if (chain_url is None) != (chain_key is None):
        raise InvalidInput("--chain and --chain-key go together: somebody must pay for gas on the outside chain")
    if chaos == "validator" and chain_url is not None:
        raise InvalidInput("--chaos validator needs our own ledger; leave --chain out")
    if engine != "rep4" and (chaos == "lie" or split == "columns"):
        raise InvalidInput("--chaos lie and --split columns need shares; leave --engine at rep4")
    if worth and (engine != "rep4" or split == "columns"):
        raise InvalidInput(
            "--worth compares models of some hospitals' rows; leave --engine at rep4 and --split at rows"
        )
    if folder is not None and (folder / "network.json").exists():
        raise InvalidInput(f"there is a network in {folder.name} already; choose another --folder or remove it")
    place = folder or Path(tempfile.mkdtemp(prefix="koinon-demo-"))
    options = Options(
        folder=place,
        chaos=chaos,
        chain_url=chain_url,
        chain_key=chain_key,
        data_folder=data_folder,
        target=target,
        sensitive=sensitive,
        calls=calls,
        seed=seed,
        effort=effort,
        by_columns=split == "columns",
        engine=engine,
        worth=worth,
    )
    progress = Progress(quiet=as_json)
    demonstration = Demonstration(options, progress)
    try:
        result = asyncio.run(demonstration.run(report, stay=stay, quiet=as_json))
    except KoinonError:
        if folder is None:
            console.print(f"the nodes' journals are kept in {place}", style="dim")
        raise
    else:
        if folder is None and not stay:
            shutil.rmtree(place, ignore_errors=True)
    if as_json:
        print_json(result)
    if not result["verified"]:
        raise KoinonError("the evidence bundle did not verify; see the report")
