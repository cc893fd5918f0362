"""Who brings which columns, from the files that ``koinon study new --from`` is given."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from cli_terminal import koinon

from koinon.cli.columns import all_columns
from koinon.kernel.errors import InvalidInput


def ranges(folder: Path, name: str, *columns: tuple[str, float, float], target: str = "") -> Path:
    path = folder / f"{name}.toml"
    tables = [f'[[columns]]\nname = "{column}"\nlow = {low}\nhigh = {high}' for column, low, high in columns]
    path.write_text("\n".join([f'target = "{target}"', *tables]) + "\n")
    return path


def test_owners_who_name_the_same_columns_bring_them_together(tmp_path: Path) -> None:
    age = ("age", 0.0, 100.0)
    files = [
        ranges(tmp_path, "north", age),
        ranges(tmp_path, "south", ("dose", -5.0, 5.0), target="ill"),
        ranges(tmp_path, "west", age),
    ]
    schema, holders = all_columns(files, "ill", "", ["north", "south", "west"])
    assert schema.names == ("age", "dose")
    assert holders == {"age": ("north", "west"), "dose": ("south",), "ill": ("south",)}


@pytest.mark.parametrize(
    "other",
    [(("age", 0.0, 99.0),), (("age", 0.0, 100.0), ("dose", -5.0, 5.0))],
    ids=["another range", "another column beside"],
)
def test_columns_of_two_owners_that_are_not_the_same_are_refused(
    tmp_path: Path, other: tuple[tuple[str, float, float], ...]
) -> None:
    files = [ranges(tmp_path, "north", ("age", 0.0, 100.0)), ranges(tmp_path, "west", *other)]
    with pytest.raises(InvalidInput, match=r"'age' is named by north and west; .* the same columns"):
        all_columns(files, "", "", ["north", "west"])


CODED = {
    "convolutional-network/1": (
        "--set",
        "image=[2,3,1]",
        "--set",
        "filters=[2]",
        "--set",
        "window=2",
        "--set",
        "pool=1",
    ),
    "recurrent-network/1": ("--set", "length=3", "--set", "units=2"),
    "multinomial-regression/1": (),
    "linear-regression/1": ("--set", 'encode=["site"]', "--set", "scale=standard"),
    "contingency/1": ("--set", "first=kind", "--set", "second=site"),
}


@pytest.mark.parametrize("program", CODED)
def test_a_draft_from_rows_gives_columns_of_codes_the_range_of_their_codes(
    tmp_path: Path, cards: list[Path], program: str
) -> None:
    """What is suggested can be estimated as it is: no range of codes is widened, and others are."""
    random = np.random.default_rng(1)
    names = ["a", "b", "c", "d", "e", "site" if program in ("linear-regression/1", "contingency/1") else "f", "kind"]
    table = np.column_stack([random.uniform(0, 16, (40, 5)), random.integers(0, 4, 40), random.integers(0, 3, 40)])
    source, study = tmp_path / "rows.csv", tmp_path / "study.toml"
    source.write_text("\n".join([",".join(names), *(",".join(map(repr, row)) for row in table.tolist())]) + "\n")
    target = () if program == "contingency/1" else ("--target", "a" if program == "linear-regression/1" else "kind")
    owners = [word for card in cards for word in ("--owner", card)]
    words = ("--program", program, *CODED[program], *target, *owners, "--title", "Codes", "--purpose", "tumour risk")
    made = koinon("study", "new", study, "--from", source, *words)
    assert made.code == 0, made.err
    ranges = {one["name"]: (one["low"], one["high"]) for one in tomllib.loads(study.read_text())["columns"]}
    if program != "linear-regression/1":
        assert ranges["kind"] == (0.0, 2.0)
    if "site" in names:
        assert ranges["site"] == (0.0, 3.0)
    assert ranges["b"][1] > table[:, 1].max()
    engines = json.loads(koinon("study", "estimate", study, "--json").out)["engines"]
    assert not next(one for one in engines if one["engine"] == "rep4")["refusal"]
