"""Reading tables: what is read is exact, and every bad file gets one sentence that names no value."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koinon.data.schema import Schema
from koinon.data.table import Table, answer_columns, count_duplicates, infer_schema, read_table, write_csv
from koinon.kernel.errors import InvalidInput, KoinonError, Unavailable
from koinon.wire.committee import Column

SCHEMA = Schema((Column("age", 0.0, 120.0), Column("size", -50.0, 50.0)), "sick")
SECRET = "86.753"


def rows_of_text(count: int = 30) -> list[str]:
    return [f"{20 + row}.5,{row / 10},{row % 2}" for row in range(count)]


def text(lines: list[str], header: str = "age,size,sick") -> bytes:
    return "\n".join([header, *lines, ""]).encode()


def with_line(position: int, line: str) -> bytes:
    lines = rows_of_text()
    lines[position] = line
    return text(lines)


def test_a_good_file_is_read_exactly_and_in_the_schemas_order(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f"{row % 2},{row / 10},{20 + row}.5" for row in range(30)]
    path.write_bytes(text(lines, "sick,size,age"))
    table = read_table(path, SCHEMA)
    assert table.features[:, 0].tolist() == [20.5 + row for row in range(30)]
    assert table.features[:, 1].tolist() == [row / 10 for row in range(30)]
    assert table.target.tolist() == [float(row % 2) for row in range(30)]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + text(rows_of_text()),
        text(rows_of_text()).replace(b"\n", b"\r\n"),
        text([f' "{20 + row}.5" ,{row / 10:e},{row % 2}'.replace(' "', '"').replace('" ', '"') for row in range(30)]),
        text(rows_of_text()).rstrip(b"\n"),
        text(rows_of_text()) + b"\n\n",
    ],
    ids=["byte order mark", "windows line ends", "quotes and exponents", "no last line end", "blank lines at the end"],
)
def test_harmless_varieties_of_csv_are_read_alike(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert read_table(path, SCHEMA).features[:, 1].tolist() == [row / 10 for row in range(30)]


BAD_FILES = {
    "empty": (b"", "empty"),
    "header only": (text([]), "0 rows"),
    "too few rows": (text(rows_of_text(5)), "5 rows"),
    "missing target": (text(rows_of_text(), "age,size,ill"), "'sick' is missing"),
    "missing column": (text(rows_of_text(), "age,width,sick"), "'size' missing and 'width' not in the schema"),
    "extra column": (text([line + ",1" for line in rows_of_text()], "age,size,sick,name"), "'name' not in the schema"),
    "column twice": (text(rows_of_text(), "age,age,sick"), "'age' occurs twice"),
    "blank column name": (text(rows_of_text(), "age,,sick"), "column 2"),
    "too few cells": (with_line(3, "1,1"), "line 5 has 2 cells"),
    "too many cells": (with_line(3, "1,1,1,1"), "line 5 has 4 cells"),
    "unclosed quote": (with_line(3, '"1,1,1'), "not well-formed CSV"),
    "text after a quote": (with_line(3, '"1"x,1,1'), "line 5 is not well-formed CSV"),
    "blank line inside": (with_line(3, ""), "line 5 is blank"),
    "word": (with_line(3, f"{SECRET}mm,1,1"), "'age' is not a number on line 5"),
    "no value": (with_line(3, f"{SECRET},,1"), "'size' has no value on line 5"),
    "not a number": (with_line(3, f"{SECRET},NaN,1"), "'size' is missing or not finite on line 5"),
    "infinite": (with_line(3, f"{SECRET},-inf,1"), "'size' is missing or not finite on line 5"),
    "overflow": (with_line(3, f"{SECRET},1e999,1"), "'size' is too large on line 5"),
    "underscore": (with_line(3, "2_0,1,1"), "'age' is not a number on line 5"),
    "decimal comma": (with_line(3, '"2,0",1,1'), "'age' is not a number on line 5"),
    "other digits": (with_line(3, "٣٤,1,1"), "'age' is not a number on line 5"),
    "zero byte": (with_line(3, "2\x000,1,1"), "line 5"),
    "not UTF-8": (with_line(3, "1,1,1").replace(b"1,1,1", b"\xff,1,1"), "line 5 is not UTF-8"),
    "semicolons": (text(rows_of_text(), "age;size;sick").replace(b",", b";"), "separate columns with commas"),
    "target not binary": (with_line(3, f"{SECRET},1,2"), "'sick' must be 0 or 1; it is neither on line 5"),
    "target constant": (text([line[:-1] + "1" for line in rows_of_text()]), "'sick' is 1 in every row"),
    "constant column": (text([f"7,{row / 10},{row % 2}" for row in range(30)]), "'age' hold one value"),
    "duplicate rows": (text(rows_of_text() + rows_of_text(4)), "4 rows are exact copies"),
    "outside its range": (with_line(3, f"20,{SECRET},1"), "'size' is outside its public range on line 5 (1 cells"),
    "a huge field": (with_line(3, "1" * 200_000 + ",1,1"), "line 5"),
    "too many columns": (text([], ",".join(f"c{i}" for i in range(5000))), "names 5000 columns"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_csv_file_gets_one_sentence_without_values(tmp_path: Path, name: str) -> None:
    content, expected = BAD_FILES[name]
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read_table(path, SCHEMA)
    message = str(caught.value)
    assert expected in message
    assert SECRET not in message
    assert "\n" not in message
    assert len(message) < 400
    assert caught.value.__cause__ is None


def test_a_line_number_counts_lines_of_the_file_even_after_quoted_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'age,"si\nze",sick\n1,1,1\nx,1,1\n')
    with pytest.raises(InvalidInput, match="printable"):
        infer_schema(path, "sick")
    path.write_bytes(b'age,size,sick\n1,"1\n",1\nx,1,1\n')
    with pytest.raises(InvalidInput, match="line 4"):
        infer_schema(path, "sick")


def test_files_that_are_not_ordinary_or_too_large_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with pytest.raises(InvalidInput, match="not an ordinary file"):
        read_table(pipe, SCHEMA)
    large = tmp_path / "large.csv"
    large.write_bytes(text(rows_of_text()))
    with pytest.raises(InvalidInput, match="larger than the 100 bytes"):
        read_table(large, SCHEMA, maximum_bytes=100)
    with pytest.raises(InvalidInput, match=r"neither a \.csv nor a \.parquet"):
        read_table(tmp_path / "a.xlsx", SCHEMA)
    with pytest.raises(Unavailable, match=r"cannot read absent\.csv"):
        read_table(tmp_path / "absent.csv", SCHEMA)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(KoinonError, match=r"folder\.csv"):
        read_table(tmp_path / "folder.csv", SCHEMA)


@pytest.mark.parametrize(
    "schema",
    [
        Schema((), "sick"),
        Schema((Column("age", 1.0, 1.0),), "sick"),
        Schema((Column("age", 2.0, 1.0),), "sick"),
        Schema((Column("age", 0.0, float("inf")),), "sick"),
        Schema((Column("age", 0.0, float("nan")),), "sick"),
        Schema((Column("sick", 0.0, 1.0),), "sick"),
        Schema((Column(" age", 0.0, 1.0),), "sick"),
        Schema((Column("a" * 101, 0.0, 1.0),), "sick"),
        Schema((Column("a\nb", 0.0, 1.0),), "sick"),
    ],
)
def test_a_schema_that_no_table_could_satisfy_is_refused(tmp_path: Path, schema: Schema) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text(rows_of_text()))
    with pytest.raises(InvalidInput):
        read_table(path, schema)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(junk=st.binary(max_size=300))
def test_any_bytes_are_read_whole_or_refused_whole(tmp_path: Path, junk: bytes) -> None:
    for name, content in (("a.csv", junk), ("a.csv", text(rows_of_text()) + junk), ("a.parquet", junk)):
        path = tmp_path / name
        path.write_bytes(content)
        try:
            table = read_table(path, SCHEMA)
        except InvalidInput:
            continue
        assert table.features.shape == (len(table.target), 2)
        assert np.isfinite(table.features).all()
        assert set(table.target.tolist()) == {0.0, 1.0}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    values=st.lists(
        st.tuples(st.floats(0, 120), st.floats(-50, 50), st.booleans()), min_size=25, max_size=60, unique=True
    )
)
def test_written_tables_are_read_back_bit_for_bit(tmp_path: Path, values: list[tuple[float, float, bool]]) -> None:
    matrix = np.array(values, dtype=np.float64)
    table = Table(SCHEMA, matrix[:, :2], matrix[:, 2])
    write_csv(table, tmp_path / "a.csv")
    try:
        again = read_table(tmp_path / "a.csv", SCHEMA)
    except InvalidInput as problem:
        assert any(words in str(problem) for words in ("in every row", "exact copies"))  # noqa: PT017
        return
    assert (again.features == table.features).all()
    assert (again.target == table.target).all()


def write_parquet(path: Path, columns: dict[str, object]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def good_columns() -> dict[str, object]:
    return {
        "age": [20.5 + row for row in range(30)],
        "size": [row % 40 for row in range(30)],
        "sick": [row % 2 == 1 for row in range(30)],
    }


def test_parquet_gives_the_same_table_as_csv(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", good_columns())
    lines = [f"{20.5 + row},{row % 40},{row % 2}" for row in range(30)]
    (tmp_path / "a.csv").write_bytes(text(lines))
    parquet, from_csv = (read_table(tmp_path / name, SCHEMA) for name in ("a.parquet", "a.csv"))
    assert (parquet.features == from_csv.features).all()
    assert (parquet.target == from_csv.target).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"age": [None, *[20.5 + row for row in range(29)]]}, "'age' has no value on row 1"),
        ({"age": [20.5, float("nan"), *[21.5 + row for row in range(28)]]}, "'age' is missing, not finite"),
        ({"age": [str(row) for row in range(30)]}, "'age' is not a number column"),
        ({"age": [[1.0]] * 30}, "'age' is not a number column"),
        ({"size": [2**60 + row for row in range(30)]}, "'size' is missing, not finite or too large on row 1"),
        ({"sick": [0.5] * 30}, "'sick' must be 0 or 1; it is neither on row 1"),
        ({"name": [1] * 30}, "'name' not in the schema"),
    ],
)
def test_a_bad_parquet_file_gets_one_sentence(tmp_path: Path, change: dict[str, object], expected: str) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, good_columns() | change)
    with pytest.raises(InvalidInput, match=expected.replace(".", r"\.")):
        read_table(path, SCHEMA)


def test_a_parquet_file_that_claims_too_many_cells_is_refused_before_it_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    # A run of one value compresses to next to nothing: 70 million rows of 3 columns in less than a megabyte.
    batch = pa.table({name: pa.array(np.zeros(7_000_000, np.int8)) for name in ("age", "size", "sick")})
    with pq.ParquetWriter(path, batch.schema, compression="zstd") as writer:
        for _ in range(10):
            writer.write_table(batch)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InvalidInput, match="200000000 cells"):
        read_table(path, SCHEMA)


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, good_columns())
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            table = read_table(path, SCHEMA)
        except InvalidInput:
            continue
        # Page data without a checksum may decode to other numbers, but only to a table that keeps every rule.
        assert table.features.shape == (30, 2)


def test_inferred_ranges_cover_the_rows_without_showing_their_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text(rows_of_text()))
    schema = infer_schema(path, "sick")
    assert schema.names == ("age", "size")
    table = read_table(path, schema)
    for column, values in zip(schema.columns, table.features.T, strict=True):
        assert column.low <= values.min()
        assert column.high > values.max()
        assert column.high not in values
    assert schema.columns[1].low == 0.0


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("sick,age\n0,40.5\n1,50\n", ("sick",)),
        ("age,sick,smoker\n40,0,1\n50,1,0\n", ("sick", "smoker")),
        ("sick,age\n1,40.5\n1,50\n", ()),
        ("sick,age\n0.5,40.5\n1,50\n", ()),
    ],
)
def test_a_column_that_could_be_the_target_holds_both_answers_and_nothing_else(
    tmp_path: Path, written: str, names: tuple[str, ...]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(written)
    assert answer_columns(path) == names


def test_duplicates_are_counted_with_both_zeros_alike() -> None:
    assert count_duplicates(np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 2.0], [0.0, 1.0]])) == 2


def test_a_tables_repr_shows_no_row() -> None:
    shown = repr(Table(SCHEMA, np.array([[86.753, 1.0]]), np.array([1.0])))
    assert SECRET not in shown
    assert "1 rows" in shown
