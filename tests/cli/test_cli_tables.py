"""Who brings which columns, from the files that ``koinon study new --from`` is given."""

from pathlib import Path

import pytest

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
