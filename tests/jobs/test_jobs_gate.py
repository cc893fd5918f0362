"""Only what a study declares leaves, and only from groups of the size it declares."""

import msgspec
import pytest

from koinon.crypto.random import SystemRng
from koinon.jobs import gate
from koinon.jobs.inputs import check_room, share_columns
from koinon.jobs.spending import entry_of
from koinon.jobs.study import StudyFile, check_study
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.differential.budget import spent
from koinon.privacy.differential.logistic import STUDY_DELTA
from koinon.wire.committee import ShareManifest


def manifests(study: StudyFile, rows: tuple[int, ...]) -> tuple[ShareManifest, ...]:
    empty = (b"", b"", b"", b"")
    return tuple(
        ShareManifest(b"s" * 32, 0, owner.node_id, b"d" * 32, count, share_columns(study, number), 20, empty)
        for number, (owner, count) in enumerate(zip(study.owners, rows, strict=True))
    )


def test_the_declared_numbers_leave(study: StudyFile) -> None:
    gate.check_output(study, manifests(study, (10, 20, 30)), len(study.columns) + 1)


@pytest.mark.parametrize("more", [-1, 1, 390])
def test_another_number_of_outputs_does_not(study: StudyFile, more: int) -> None:
    with pytest.raises(Refused, match="numbers of output, and"):
        gate.check_output(study, manifests(study, (10, 20, 30)), len(study.columns) + 1 + more)


def test_a_name_that_was_not_declared_does_not(study: StudyFile) -> None:
    unknown = msgspec.structs.replace(study, outputs=("rows",))
    with pytest.raises(InvalidInput, match="outputs must be among"):
        gate.check_output(unknown, manifests(study, (10, 20, 30)), len(study.columns) + 1)
    fewer = msgspec.structs.replace(study, outputs=("intercept",))
    gate.check_output(fewer, manifests(study, (10, 20, 30)), 1)
    with pytest.raises(Refused, match="declares 1 numbers of output"):
        gate.check_output(fewer, manifests(study, (10, 20, 30)), len(study.columns) + 1)


def test_too_few_rows_of_one_owner_stop_everything_before_it_starts(study: StudyFile) -> None:
    with pytest.raises(Refused, match=r"shared 9 rows and the study.s smallest group is 10; nothing is computed"):
        gate.check_inputs(study, manifests(study, (10, 9, 30)))


def test_noise_is_charged_as_the_program_that_adds_it_says(study: StudyFile) -> None:
    """One study, two programs: the same ε in another number of answers."""
    noisy = msgspec.structs.replace(study, epsilon=2.0)
    network = msgspec.structs.replace(noisy, algorithm="noisy-network/1", outputs=("hidden", "output"))
    line, net = (entry_of(file, 7, 0, SystemRng()) for file in (noisy, network))
    assert (line.mechanism, line.count) == ("gaussian", 20)
    assert (net.mechanism, net.count) == ("gaussian", 40)
    assert spent([line], STUDY_DELTA) == pytest.approx(2.0, rel=2e-3)
    assert spent([net], STUDY_DELTA) == pytest.approx(2.0, rel=2e-3)


def test_a_program_that_needs_noise_is_not_proposed_without(study: StudyFile) -> None:
    exact = msgspec.structs.replace(study, algorithm="noisy-network/1", outputs=("hidden", "output"))
    with pytest.raises(InvalidInput, match="learns through noise only; set epsilon above 0"):
        check_study(exact)
    check_study(msgspec.structs.replace(exact, epsilon=1.0))


def test_planted_rows_do_not_count_as_people_and_say_whether_the_model_left(study: StudyFile) -> None:
    planted = msgspec.structs.replace(study, planted=8)
    with pytest.raises(Refused, match="shared 9 rows and the study"):
        gate.check_inputs(planted, manifests(planted, (18, 17, 18)))
    gate.check_output(planted, manifests(planted, (18, 18, 18)), len(study.columns) + 2)
    with pytest.raises(Refused, match="numbers of output, and"):
        gate.check_output(planted, manifests(planted, (18, 18, 18)), len(study.columns) + 1)


def test_there_is_room_for_as_many_planted_rows_as_there_are_rows(study: StudyFile) -> None:
    planted = msgspec.structs.replace(study, planted=20)
    check_study(planted)
    check_room(planted, (20, 20, 20))


CROSSED = {"held": (("mean radius",), ("mean texture", "malignant"), ("mean radius",)), "join": "psi"}
"""The first and the last owner have a column of different people, the second has the others."""


def in_parts(study: StudyFile, *parts: tuple[int, ...]) -> tuple[ShareManifest, ...]:
    whole = manifests(study, tuple(sum(part) for part in parts))
    return tuple(msgspec.structs.replace(one, parts=part) for one, part in zip(whole, parts, strict=True))


def test_owners_matched_in_pairs_must_say_the_same_of_how_many_people_both_have(study: StudyFile) -> None:
    crossed = msgspec.structs.replace(study, **CROSSED)
    check_study(crossed)
    check_room(crossed, (30, 50, 20))
    gate.check_output(crossed, in_parts(crossed, (30,), (30, 20), (20,)), len(study.columns) + 1)
    for parts in (((29,), (30, 20), (20,)), ((30,), (50,), (20,)), ((30,), (30, 20), (20, 0)), ((30,), (), (20,))):
        with pytest.raises(Refused, match=r"what the owners shared does not fit together: .*; nothing is computed"):
            gate.check_inputs(crossed, in_parts(crossed, *parts))
    with pytest.raises(Refused, match="shared 9 rows and the study's smallest group is 10"):
        gate.check_inputs(crossed, in_parts(crossed, (9,), (9, 20), (20,)))


def test_rows_in_parts_are_refused_where_nobody_was_matched_in_pairs(study: StudyFile) -> None:
    with pytest.raises(Refused, match="shared its rows in parts, which the study does not ask for"):
        gate.check_inputs(study, in_parts(study, (10, 10), (), (20,)))


def test_a_result_that_was_held_back_is_no_result(study: StudyFile) -> None:
    planted = msgspec.structs.replace(study, planted=8)
    gate.check_released(study, {"coefficients": (0.0,), "intercept": (0.0,)})
    gate.check_released(planted, {"coefficients": (0.5,), "intercept": (0.0,), "released": (1.0,)})
    with pytest.raises(Refused, match="held the model back: it gives back the labels of too many of the 24 rows"):
        gate.check_released(planted, {"coefficients": (0.0,), "intercept": (0.0,), "released": (0.0,)})


def test_noise_of_whole_owners_is_charged_as_the_engine_says(study: StudyFile) -> None:
    apart = msgspec.structs.replace(study, engine="federated", epsilon=4.0)
    check_study(apart)
    here, there = (entry_of(file, 7, 0, SystemRng()) for file in (msgspec.structs.replace(apart, engine="rep4"), apart))
    assert (here.count, there.count) == (20, 10)
    assert spent([there], STUDY_DELTA) <= 4.0
    with pytest.raises(InvalidInput, match="at most 16"):
        check_study(msgspec.structs.replace(apart, epsilon=20.0))
