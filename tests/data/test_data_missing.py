"""A file with missing cells becomes one that a study takes, whole or not at all."""

from pathlib import Path

import numpy as np
import pytest

from koinon.data.missing import write_masked
from koinon.data.schema import Schema
from koinon.data.table import infer_schema, read_table
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.wire.committee import Column


def written(folder: Path, *lines: str) -> Path:
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_what_is_written_is_read_as_rows_and_masks(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    ages, gone = random.integers(20, 90, 30), random.random(30) < 0.4
    cells = ["" if absent else str(age) for age, absent in zip(ages, gone, strict=True)]
    source = written(tmp_path, "age,dose", *(f"{cell},{n / 7}" for n, cell in enumerate(cells)))
    out = tmp_path / "filled.csv"
    assert write_masked(source, out, ["age", "dose"]) == {"age": int(gone.sum()), "dose": 0}
    ranges = (("age", 0.0, 120.0), ("dose", 0.0, 9.0), ("age missing", 0.0, 1.0), ("dose missing", 0.0, 1.0))
    table = read_table(out, Schema(tuple(Column(*each) for each in ranges), ""))
    assert table.features[:, 2].tolist() == gone.astype(float).tolist()
    assert not table.features[:, 3].any()
    assert table.features[~gone, 0].tolist() == ages[~gone].tolist()
    assert set(table.features[gone, 0]) == {float(ages[~gone].min())}
    assert table.features[:, 1].tolist() == [n / 7 for n in range(30)]


def test_a_file_with_masks_suggests_their_range(tmp_path: Path) -> None:
    """Also of a mask, or a pixel, that is 0 in every row."""
    source = written(tmp_path, "age,pixel,sick", *(f"{'' if n == 4 else n},0,{n % 2}" for n in range(30)))
    write_masked(source, tmp_path / "out.csv", ["age"])
    found = {column.name: (column.low, column.high) for column in infer_schema(tmp_path / "out.csv", "sick").columns}
    assert found["age missing"] == found["pixel"] == (0.0, 1.0)


@pytest.mark.parametrize("word", ["", " ", "NA", "n/a", "NaN", "null", "None", "?"])
def test_every_way_to_write_nothing_is_known(tmp_path: Path, word: str) -> None:
    source = written(tmp_path, "age,dose", f"{word},1", "7,2")
    assert write_masked(source, tmp_path / "out.csv", ["age"]) == {"age": 1}
    assert (tmp_path / "out.csv").read_text("utf-8") == "age,dose,age missing\n7,1,1\n7,2,0\n"


BAD = {
    "an unknown column": (["age,dose", "1,2"], ["size"], "has no column 'size'"),
    "no column": (["age,dose", "1,2"], [], "name the columns"),
    "a column named twice": (["age,dose", "1,2"], ["age", "age"], "each once"),
    "a column that is there twice": (["age,age", "1,2"], ["age"], "or more than one"),
    "a mask that is there": (["age,age missing", "1,0"], ["age"], "has a column 'age missing' already"),
    "nothing in any row": (["age,dose", ",2", ",3"], ["age"], "has no value in any row"),
    "a word": (["age,dose", ",2", "old,3"], ["age"], "'age' is not a number on line 3"),
    "a cell too few": (["age,dose", "1"], ["age"], "line 2 has 1 cells"),
    "no line": ([], ["age"], "is empty"),
    "a quote that never ends": (["age,dose", '"1,2'], ["age"], "not a CSV file"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_masked_is_refused_and_nothing_is_written(tmp_path: Path, case: str) -> None:
    lines, columns, sentence = BAD[case]
    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text("\n".join(lines), "utf-8")
    with pytest.raises(InvalidInput, match=sentence):
        write_masked(source, out, columns)
    assert not out.exists()


def test_files_that_are_there_or_are_not_are_told(tmp_path: Path) -> None:
    source = written(tmp_path, "age,dose", "1,2")
    with pytest.raises(Unavailable, match=r"cannot write rows\.csv"):
        write_masked(source, source, ["age"])
    assert source.read_text("utf-8") == "age,dose\n1,2\n"
    with pytest.raises(Unavailable, match=r"cannot read none\.csv"):
        write_masked(tmp_path / "none.csv", tmp_path / "out.csv", ["age"])
    source.write_bytes(b"age,dose\n\xff,2\n")
    with pytest.raises(InvalidInput, match="not a CSV file in UTF-8"):
        write_masked(source, tmp_path / "out.csv", ["age"])
