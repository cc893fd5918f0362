"""What is refused when a study is agreed: rows that a program would misread, and more rows than it can take."""

import msgspec
import numpy as np
import pytest

from koinon.data.schema import Schema
from koinon.data.table import Table
from koinon.jobs.inputs import check_room, check_rows, data_schema
from koinon.jobs.study import StudyFile
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.programs.offer import settings_from
from koinon.privacy.programs.registry import offer
from koinon.wire.committee import Column

COLUMNS = (Column("age", 0.0, 100.0), Column("visits", 0.0, 9.0), Column("kind", 0.0, 3.0))
GOOD = np.array([[20.5, 3.0, 1.0], [50.0, 0.0, 2.0], [70.25, 9.0, 0.0]])


def asking(study: StudyFile, algorithm: str, target: str, settings: dict[str, object]) -> StudyFile:
    found = offer(algorithm)
    return msgspec.structs.replace(
        study,
        algorithm=algorithm,
        columns=COLUMNS,
        target=target,
        sensitive_column="",
        outputs=found.outputs[:1],
        settings=settings_from(found, settings),
    )


def held(study: StudyFile, rows: np.ndarray) -> Table:
    schema = data_schema(study, 0)
    assert schema == Schema(COLUMNS, "")
    return Table(schema, rows, np.zeros(0))


@pytest.mark.parametrize(
    ("algorithm", "target", "settings", "column"),
    [
        ("poisson-regression/1", "visits", {}, "visits"),
        ("multinomial-regression/1", "kind", {}, "kind"),
        ("contingency/1", "", {"first": "visits", "second": "kind"}, "kind"),
        ("contingency/1", "", {"first": "visits", "second": "kind"}, "visits"),
    ],
)
def test_fractions_where_a_program_counts_are_refused(
    study: StudyFile, algorithm: str, target: str, settings: dict[str, object], column: str
) -> None:
    asked = asking(study, algorithm, target, settings)
    check_rows(asked, held(asked, GOOD))
    bad = GOOD.copy()
    bad[1, [each.name for each in COLUMNS].index(column)] = 1.5
    with pytest.raises(InvalidInput, match=f"column '{column}' holds fractions.*recode it") as told:
        check_rows(asked, held(asked, bad))
    assert "1.5" not in str(told.value)


def test_a_program_that_measures_takes_fractions(study: StudyFile) -> None:
    asked = asking(study, "linear-regression/1", "visits", {})
    check_rows(asked, held(asked, GOOD + 0.5))


@pytest.mark.parametrize(
    ("algorithm", "rows", "error", "sentence"),
    [
        ("logistic-regression/1", (1 << 19, (1 << 19) - 1, 1), Refused, "could overflow"),
        ("statistics/1", (1 << 20, 1, 1), InvalidInput, "at most 1048576 together"),
        ("poisson-regression/1", (3, 3, 3), InvalidInput, "needs 10 people"),
        ("k-means/1", (1, 1, 1), InvalidInput, "minimum group size"),
    ],
)
def test_rows_that_do_not_fit_the_program_are_refused_before_any_is_shared(
    study: StudyFile, algorithm: str, rows: tuple[int, ...], error: type[Exception], sentence: str
) -> None:
    asked = study if algorithm == study.algorithm else asking(study, algorithm, _target_of(algorithm), {})
    check_room(asked, (30, 30, 30))
    with pytest.raises(error, match=sentence):
        check_room(asked, rows)


def _target_of(algorithm: str) -> str:
    return "visits" if algorithm == "poisson-regression/1" else ""
