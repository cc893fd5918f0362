"""``docs/accuracy.md`` is what its command makes: every estimator is in it, and numbers made anew are the same."""

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from koinon.privacy.clear import ClearBackend

ROOT = Path(__file__).parents[2]
MEASURED = ("mean", "contingency, counts", "t test (Welch): t", "imputation by the mean")
QUICK = ("naive Bayes", "linear regression", "decision tree, depth 3", "5 nearest neighbours")


@pytest.fixture(scope="module")
def accuracy() -> Iterator[ModuleType]:
    spec = spec_from_file_location("accuracy_benchmark", ROOT / "benchmarks" / "accuracy.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # as where the file is run: it has a module beside it
        spec.loader.exec_module(module)
        yield module


def cells(table: int) -> list[list[str]]:
    """Rows of the page's first or second table, without the head."""
    page = (ROOT / "docs" / "accuracy.md").read_text().split("\n## ")
    lines = [line for line in page[table].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][1:]


def test_every_estimator_is_in_the_table(accuracy: ModuleType) -> None:
    found = {(row[0], row[1], row[3]) for row in cells(0)}
    assert found == {(case.algorithm, case.data, case.score) for case in accuracy.CASES}


def test_everything_that_measures_or_prepares_is_in_the_second_table(accuracy: ModuleType) -> None:
    assert [row[0] for row in cells(1)] == [measure.what for measure in accuracy.MEASURES]


@pytest.mark.parametrize("algorithm", QUICK)
def test_numbers_made_anew_are_those_of_the_table(accuracy: ModuleType, algorithm: str) -> None:
    (case,) = (case for case in accuracy.CASES if case.algorithm == algorithm)
    row = accuracy.measured(case, ClearBackend())
    (found,) = (cell for cell in cells(0) if (cell[0], cell[1], cell[3]) == (row.algorithm, row.data, row.score))
    assert found[4] == f"{row.koinon:.4f}"


@pytest.mark.parametrize("what", MEASURED)
def test_differences_made_anew_are_those_of_the_table(accuracy: ModuleType, what: str) -> None:
    (measure,) = (measure for measure in accuracy.MEASURES if measure.what == what)
    made = accuracy.difference(measure, ClearBackend())
    (found,) = (cell for cell in cells(1) if cell[0] == what)
    assert float(found[5]) == pytest.approx(made.difference, rel=0.06)
    assert made.difference < 1e-3
