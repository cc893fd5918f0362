"""Owners of different columns of the same people put their rows in one order without showing an id."""

from pathlib import Path

import numpy as np
import pytest

from koinon.crypto.random import SystemRng
from koinon.data.people import agreed_order
from koinon.data.schema import Schema
from koinon.data.table import infer_schema, read_aligned
from koinon.kernel.errors import InvalidInput
from koinon.node.datasets import Datasets
from koinon.wire.committee import Column

AGE = Schema((Column("age", 0.0, 100.0),), "")
DOSE = Schema((Column("dose", 0.0, 9.0),), "ill")
PEOPLE = 30


def write(path: Path, header: str, rows: list[list[float]]) -> Path:
    path.write_text("\n".join([header, *(",".join(f"{cell:g}" for cell in row) for row in rows)]) + "\n", "utf-8")
    return path


def first(folder: Path, ids: list[int] | None = None) -> Path:
    """Ages are not in the order of the ids, and two people have the same."""
    numbers = ids or [1000 + 7 * place for place in range(PEOPLE)]
    return write(folder / "first.csv", "patient,age", [[one, one % 29] for one in numbers])


def second(folder: Path) -> Path:
    numbers = [1000 + 7 * place for place in reversed(range(PEOPLE))]
    return write(folder / "second.csv", "dose,ill,patient", [[one % 9, one % 2, one] for one in numbers])


def test_two_files_in_any_order_get_one_order_and_one_root(tmp_path: Path) -> None:
    ages, people, _ = read_aligned(first(tmp_path), AGE, "patient")
    doses, again, _ = read_aligned(second(tmp_path), DOSE, "patient")
    assert people == again
    # Age, dose and target were made from the id: they still belong together.
    known = {(one % 29, one % 9, one % 2) for one in (1000 + 7 * place for place in range(PEOPLE))}
    together = zip(ages.features[:, 0], doses.features[:, 0], doses.target, strict=True)
    assert {tuple(int(value) for value in row) for row in together} == known
    assert ages.features[:, 0].tolist() != sorted(ages.features[:, 0].tolist())


def test_other_people_have_another_root(tmp_path: Path) -> None:
    ids = [1000 + 7 * place for place in range(PEOPLE)]
    roots = {
        read_aligned(first(tmp_path, changed), AGE, "patient").people
        for changed in (ids, ids[:-1], [*ids[:-1], 5], [*ids, 5])
    }
    assert len(roots) == 4


@pytest.mark.parametrize(
    ("header", "ids", "key", "sentence"),
    [
        ("patient,age", [1, 1, 2, 2, *range(5, 30)], "patient", "2 ids in column 'patient' occur more than once"),
        ("patient,age", [0.5, *range(1, 30)], "patient", "must be whole numbers"),
        ("patient,age", [2**53, *range(1, 30)], "patient", "must be whole numbers"),
        ("person,age", list(range(30)), "patient", "'patient' missing and 'person' not in the schema"),
        ("patient,age", list(range(30)), "age", "cannot be one of the study's columns"),
        ("patient,age", list(range(5)), "patient", "has 5 rows"),
    ],
)
def test_ids_that_cannot_be_used_are_refused_without_showing_one(
    tmp_path: Path, header: str, ids: list[float], key: str, sentence: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([header, *(f"{one!r},{place % 7}" for place, one in enumerate(ids))]) + "\n", "utf-8")
    with pytest.raises(InvalidInput, match=sentence):
        read_aligned(path, AGE, key)


def test_the_order_is_that_of_the_hashes_and_not_of_the_ids() -> None:
    order, _ = agreed_order(np.arange(200.0), "patient")
    assert sorted(order.tolist()) == list(range(200))
    assert abs(np.corrcoef(order, np.arange(200))[0, 1]) < 0.3


def test_a_kept_data_set_is_found_by_its_people_only(tmp_path: Path) -> None:
    datasets, rng = Datasets(tmp_path / "kept"), SystemRng()
    kept = datasets.add(first(tmp_path), AGE, "", rng, "patient")
    assert datasets.add(first(tmp_path), AGE, "", rng, "patient") == kept
    assert datasets.matching(AGE, kept.people) == kept
    assert datasets.matching(AGE, bytes(32)) is None
    assert datasets.matching(AGE) == kept
    opened = datasets.open(kept.dataset_hash)  # type: ignore[arg-type]
    assert opened.features.tolist() == read_aligned(first(tmp_path), AGE, "patient").table.features.tolist()


def test_the_ids_are_no_column_of_a_suggested_schema(tmp_path: Path) -> None:
    assert infer_schema(second(tmp_path), "ill", "patient").all_names == ("dose", "ill")
    with pytest.raises(InvalidInput, match="no column 'person' of ids"):
        infer_schema(second(tmp_path), "ill", "person")
