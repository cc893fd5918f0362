"""``docs/accuracy.md`` is what its command makes: every estimator is in it, and numbers made anew are the same."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from koinon.privacy.clear import ClearBackend

ROOT = Path(__file__).parents[2]
QUICK = ("naive Bayes", "linear regression", "decision tree, depth 3", "5 nearest neighbours")


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    spec = spec_from_file_location("accuracy_benchmark", ROOT / "benchmarks" / "accuracy.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def cells() -> dict[tuple[str, str, str], list[str]]:
    """The table's rows by algorithm, data and score."""
    lines = (ROOT / "docs" / "accuracy.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {(row[0], row[1], row[3]): row for row in rows[1:]}


def test_every_estimator_is_in_the_table(accuracy: ModuleType) -> None:
    assert set(cells()) == {(case.algorithm, case.data, case.score) for case in accuracy.CASES}


@pytest.mark.parametrize("algorithm", QUICK)
def test_numbers_made_anew_are_those_of_the_table(accuracy: ModuleType, algorithm: str) -> None:
    (case,) = (case for case in accuracy.CASES if case.algorithm == algorithm)
    row = accuracy.measured(case, ClearBackend())
    assert cells()[row.algorithm, row.data, row.score][4] == f"{row.koinon:.4f}"
