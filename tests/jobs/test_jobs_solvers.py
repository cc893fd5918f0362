"""Whether owners share rows or sums of their own: chosen by public numbers, said in what they sign, held to."""

import msgspec
import pytest
from test_jobs_gate import manifests
from test_jobs_policy import INSTALLED, OWNER, POLICY

from koinon.jobs import gate
from koinon.jobs.policy import agree
from koinon.jobs.solvers import (
    fastest,
    has_choice,
    least_rows,
    reason,
    settled,
    shares_sums,
    solver_of,
    ways,
    with_solver,
)
from koinon.jobs.study import StudyFile, check_draft, check_study
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.engines import Network
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import settings_from
from koinon.wire.committee import Column

NEAR, FAR = Network(0.0002, 1e9), Network(0.02, 1e7)


def wide(study: StudyFile, columns: int) -> StudyFile:
    made = tuple(Column(f"c{number}", 0.0, 1.0) for number in range(columns))
    return msgspec.structs.replace(study, columns=made, sensitive_column="c0")


@pytest.mark.parametrize(
    ("rows", "network", "solver"),
    [
        ((33_000, 33_000, 34_000), NEAR, "sums"),
        ((3_000, 3_000, 3_000), FAR, "sums"),
        ((190, 190, 189), FAR, "rows"),  # too few of each for a fit of its own to 30 columns
        ((3_000, 3_000, 600), NEAR, "rows"),
    ],
)
def test_a_logistic_model_of_thirty_columns_is_fitted_in_the_faster_way(
    study: StudyFile, rows: tuple[int, ...], network: Network, solver: str
) -> None:
    draft = with_solver(wide(study, 30), "auto")
    assert solver_of(settled(draft, rows, network)) == solver


def test_a_line_of_few_rows_of_many_columns_is_fitted_to_the_rows(study: StudyFile) -> None:
    line = msgspec.structs.replace(
        wide(study, 100), algorithm="linear-regression/1", target="c99", sensitive_column="", outputs=("coefficients",)
    )
    narrow = Network(0.0002, 1e5)  # each of 12 rows has 100 numbers, and there are 5,150 sums
    found = ways(line, (12, 12, 12), narrow)
    assert [way.refusal for way in found] == ["", ""]
    assert solver_of(settled(with_solver(line, "auto"), (12, 12, 12), narrow)) == "rows"
    assert solver_of(settled(with_solver(line, "auto"), (30_000, 30_000, 30_000), narrow)) == "sums"


def test_both_ways_are_told_with_their_seconds(study: StudyFile) -> None:
    found = ways(wide(study, 30), (3_000, 3_000, 3_000), NEAR)
    by_rows, by_sums = (way.cost for way in found)
    assert by_rows is not None
    assert by_sums is not None
    assert by_sums.seconds < by_rows.seconds
    assert by_sums.traffic_bytes < by_rows.traffic_bytes
    sentence = reason(found, "sums")
    assert f"rows {by_rows.seconds:.2f} s" in sentence
    assert f"sums {by_sums.seconds:.2f} s" in sentence
    few = ways(wide(study, 30), (190, 190, 189), NEAR)
    assert "every owner needs 620 rows for a fit of its own, and one has 189" in reason(few, "rows")


def test_no_way_left_is_refused_with_the_reason(study: StudyFile) -> None:
    found = ways(study, (1 << 19, (1 << 19) - 1, 1), NEAR)
    with pytest.raises(Refused, match="could overflow"):
        fastest(found)


def test_what_is_chosen_stays_chosen(study: StudyFile) -> None:
    for solver in ("rows", "sums"):
        chosen = with_solver(study, solver)
        assert settled(chosen, (10, 10, 10), NEAR) == chosen
    assert with_solver(study, "rows") == study
    counting = msgspec.structs.replace(study, algorithm="k-means/1", target="", outputs=("centres",))
    assert not has_choice(counting)
    assert settled(counting, (10, 10, 10), NEAR) == counting
    with pytest.raises(InvalidInput, match="leave the solver out"):
        with_solver(counting, "sums")


def test_owners_sign_no_study_whose_solver_is_still_open(study: StudyFile) -> None:
    draft = with_solver(study, "auto")
    check_draft(draft)
    with pytest.raises(InvalidInput, match="still to be chosen; koinon study propose does"):
        check_study(draft)


@pytest.mark.parametrize(
    ("changes", "solver", "sentence"),
    [
        ({}, "best", "a solver is one of rows, sums, auto; got 'best'"),
        ({"engine": "federated"}, "sums", "the engine federated adds up sums of its own; leave the solver out"),
        ({"epsilon": 1.0}, "sums", "noise is measured for single rows"),
        ({"planted": 8}, "sums", "rows are planted among rows"),
        ({"outputs": ("coefficients", "worth")}, "sums", "takes the rows of every owner apart"),
        (
            {
                "held": (("mean radius",), ("mean texture",), ("malignant",)),
                "people": bytes(32),
            },
            "sums",
            "owners of different columns have no sums",
        ),
    ],
)
def test_a_study_that_sums_do_not_give_breaks_a_rule(
    study: StudyFile, changes: dict[str, object], solver: str, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        check_study(msgspec.structs.replace(with_solver(study, solver), **changes))


def test_an_owner_with_too_few_rows_for_a_fit_of_its_own_takes_no_part(study: StudyFile) -> None:
    on_sums = with_solver(study, "sums")
    check_study(on_sums)
    assert shares_sums(on_sums)
    assert least_rows(on_sums) == 60
    assert least_rows(study) == 10
    agree(on_sums, POLICY, OWNER, INSTALLED, rows=60)
    with pytest.raises(Refused, match="fewer than the 60 rows the study asks for"):
        agree(on_sums, POLICY, OWNER, INSTALLED, rows=59)
    gate.check_output(on_sums, manifests(on_sums, (60, 61, 62)), 3)
    with pytest.raises(Refused, match="shared 59 rows and the study's smallest group is 60; nothing is computed"):
        gate.check_inputs(on_sums, manifests(on_sums, (60, 59, 62)))


def test_a_way_that_the_engine_does_not_run_is_not_taken(study: StudyFile) -> None:
    """Owners' own networks are combined where they share networks, and a joint one where they share rows."""
    offer = registry.offer("perceptron/1")
    for strategy, taken in (("", "rows"), ("median", "sums")):
        settings = settings_from(offer, {"solver": "auto", "strategy": strategy, "hidden": 4, "epochs": 2})
        draft = msgspec.structs.replace(study, algorithm=offer.name, outputs=offer.outputs, settings=settings)
        check_draft(draft)
        settled_on = settled(draft, (400, 400, 400), NEAR)
        check_study(settled_on)
        assert solver_of(settled_on) == taken
