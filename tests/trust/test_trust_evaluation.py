"""The suite as a whole: the same seed gives the same bytes, and a stranger finds the same numbers."""

import asyncio
import dataclasses

import msgspec
import numpy as np
import pytest
from trust_world import SALT

from koinon.data.demonstration import DemoSplit
from koinon.data.table import Table
from koinon.kernel.errors import Expired, Forged, InvalidInput, Refused
from koinon.models.card import ModelCard
from koinon.trust.evaluation import Progress, Task, evaluate
from koinon.trust.evidence import encode_evidence, to_json
from koinon.trust.queries import Predict
from koinon.trust.recompute import check_linked, recompute
from koinon.trust.vector import KINDS, encode_vector, grade
from koinon.wire.committee import Column

replace = msgspec.structs.replace


def with_settings(task: Task, **changes: object) -> Task:
    return dataclasses.replace(task, settings=replace(task.settings, **changes))


async def test_the_demonstrations_model_is_measured_on_every_criterion(task: Task, predict: Predict) -> None:
    stages: list[Progress] = []

    async def report(progress: Progress) -> None:
        stages.append(progress)

    found = await evaluate(predict, task, report)
    check_linked(found.vector, found.evidence)
    measured = {criterion.name for criterion in found.vector.criteria}
    absent = {name for name, _ in found.evidence.absent}
    assert measured | absent == set(KINDS)
    assert absent == {"membership_advantage", "load_p99", "load_rate"}
    assert found.vector.find("auc").value > 970_000
    assert found.vector.find("robustness_suite").value <= found.vector.find("robustness_square").value
    assert found.vector.find("extraction_fidelity").value > 900_000
    assert grade(found.vector) in "ABCD"
    assert [progress.done for progress in stages] == list(range(8))


async def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(task: Task, predict: Predict) -> None:
    first, again = await evaluate(predict, task), await evaluate(predict, task)
    assert encode_evidence(first.evidence) == encode_evidence(again.evidence)
    assert encode_vector(first.vector) == encode_vector(again.vector)
    other = await evaluate(predict, dataclasses.replace(task, seed=b"\x01" * 32))
    assert other.vector.find("auc").value == first.vector.find("auc").value
    assert other.vector.find("auc").low != first.vector.find("auc").low


async def test_leaving_one_stage_out_changes_no_other(task: Task, predict: Predict) -> None:
    full = await evaluate(predict, task)
    smaller = await evaluate(predict, with_settings(task, extraction_queries=20))
    for criterion in full.vector.criteria:
        if criterion.name != "extraction_fidelity":
            assert smaller.vector.find(criterion.name) == criterion


async def test_a_stranger_with_the_rows_finds_the_same_numbers(
    task: Task, predict: Predict, card: ModelCard, split: DemoSplit
) -> None:
    claim = (await evaluate(predict, task)).evidence
    differences = await recompute(claim, split.evaluation, SALT, card, predict, task.weights_hash)
    assert len(differences) == 3 * len(claim.findings)
    assert all(difference.holds and difference.claimed == difference.found for difference in differences)


async def test_a_claim_that_was_made_up_does_not_hold(
    task: Task, predict: Predict, card: ModelCard, split: DemoSplit
) -> None:
    claim = (await evaluate(predict, task)).evidence
    lie = tuple(
        replace(f, value=f.value + 1, high=max(f.high, f.value + 1)) if f.criterion == "auc" else f
        for f in claim.findings
        if f.criterion != "brier"
    )
    differences = await recompute(
        replace(claim, findings=lie), split.evaluation, SALT, card, predict, task.weights_hash
    )
    broken = {(difference.criterion, difference.part) for difference in differences if not difference.holds}
    assert ("auc", "value") in broken
    assert {("brier", "value"), ("brier", "low"), ("brier", "high")} <= broken
    assert {name for name, _ in broken} == {"auc", "brier"}


async def test_other_versions_are_allowed_to_round_and_not_to_lie(
    task: Task, predict: Predict, card: ModelCard, split: DemoSplit
) -> None:
    claim = replace((await evaluate(predict, task)).evidence, machine="another")
    nudged = tuple(replace(f, value=f.value - 5, low=f.low - 5) for f in claim.findings)
    differences = await recompute(
        replace(claim, findings=nudged), split.evaluation, SALT, card, predict, task.weights_hash
    )
    assert all(difference.holds for difference in differences)
    lied = tuple(replace(f, value=f.value + 200_000) for f in claim.findings)
    differences = await recompute(
        replace(claim, findings=lied), split.evaluation, SALT, card, predict, task.weights_hash
    )
    assert not any(difference.holds for difference in differences if difference.part == "value")


async def test_other_rows_card_or_weights_than_the_evidence_names_are_forged(
    task: Task, predict: Predict, card: ModelCard, split: DemoSplit
) -> None:
    claim = (await evaluate(predict, task)).evidence
    fewer = split.evaluation.take(np.arange(100))
    with pytest.raises(Forged, match="rows"):
        await recompute(claim, fewer, SALT, card, predict, task.weights_hash)
    with pytest.raises(Forged, match="rows"):
        await recompute(claim, split.evaluation, bytes(32), card, predict, task.weights_hash)
    with pytest.raises(Forged, match="card"):
        await recompute(claim, split.evaluation, SALT, replace(card, name="other"), predict, task.weights_hash)
    with pytest.raises(Forged, match="weights"):
        await recompute(claim, split.evaluation, SALT, card, predict, bytes(32))


async def test_members_are_used_only_where_they_are_given(task: Task, predict: Predict, split: DemoSplit) -> None:
    found = await evaluate(predict, dataclasses.replace(task, members=split.hospitals[0]))
    advantage = found.vector.find("membership_advantage")
    assert advantage.low <= advantage.value <= advantage.high
    few = dataclasses.replace(task, members=split.hospitals[0].take(np.arange(5)))
    absent = dict((await evaluate(predict, few)).evidence.absent)
    assert "at least 20 members" in absent["membership_advantage"]


async def test_evidence_holds_no_row(task: Task, predict: Predict, split: DemoSplit) -> None:
    evidence = (await evaluate(predict, task)).evidence
    written, shown = encode_evidence(evidence), to_json(evidence)
    for value in split.evaluation.features[::5, ::3].ravel():
        assert np.float64(value).tobytes() not in written
        # A value of fewer digits could stand there by chance.
        if len(repr(float(value)).replace(".", "").lstrip("0")) >= 5:
            assert repr(float(value)) not in shown


async def test_a_load_test_adds_its_criteria_and_changes_no_other(task: Task, predict: Predict) -> None:
    plain = await evaluate(predict, task)
    found = await evaluate(predict, with_settings(task, load_rates=(2000, 4000), load_calls=100))
    added = {criterion.name for criterion in found.vector.criteria} - {c.name for c in plain.vector.criteria}
    assert added == {"load_p99", "load_rate"}
    for criterion in plain.vector.criteria:
        assert found.vector.find(criterion.name) == criterion
    numbers = dict(next(f for f in found.evidence.findings if f.criterion == "load_p99").numbers)
    assert numbers["rates"][0] == 2000
    assert len(numbers["p99_microseconds"]) == len(numbers["rates"]) == len(numbers["late_microseconds"])


async def test_an_attack_without_a_chance_makes_the_whole_evaluation_invalid(task: Task, predict: Predict) -> None:
    with pytest.raises(Refused, match="the evaluation is invalid"):
        await evaluate(predict, with_settings(task, square_queries=2))


async def test_a_deadline_that_passes_leaves_no_result(task: Task) -> None:
    async def never(_: np.ndarray) -> np.ndarray:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(Expired, match=r"0\.1 seconds"):
        await evaluate(never, with_settings(task, deadline_milliseconds=100))


def wrong_table(task: Task) -> Table:
    columns = task.table.schema.columns
    schema = replace(
        task.table.schema, columns=(Column(columns[0].name, columns[0].low, columns[0].high + 1), *columns[1:])
    )
    return Table(schema, task.table.features, task.table.target)


BAD_TASKS = {
    "another task": (lambda t: dataclasses.replace(t, card=replace(t.card, task="translation")), "evaluates binary"),
    "seed": (lambda t: dataclasses.replace(t, seed=b""), "32 bytes"),
    "weights hash": (lambda t: dataclasses.replace(t, weights_hash=b""), "32 bytes"),
    "other ranges": (lambda t: dataclasses.replace(t, table=wrong_table(t)), "evaluator's rows have other columns"),
    "other member ranges": (lambda t: dataclasses.replace(t, members=wrong_table(t)), "member rows have other columns"),
    "fairness column": (lambda t: with_settings(t, fairness_column="colour"), "no column 'colour'"),
    "settings": (lambda t: with_settings(t, resamples=1), "resamples"),
    "one class": (
        lambda t: dataclasses.replace(t, table=t.table.take(np.flatnonzero(t.table.target == 1))),
        "both answers",
    ),
    "card": (lambda t: dataclasses.replace(t, card=replace(t.card, threshold_ppm=0)), "threshold"),
}


@pytest.mark.parametrize("name", BAD_TASKS)
async def test_a_task_that_cannot_be_carried_out_asks_the_model_nothing(task: Task, name: str) -> None:
    change, expected = BAD_TASKS[name]

    async def unused(_: np.ndarray) -> np.ndarray:
        raise AssertionError("the model was asked")

    with pytest.raises(InvalidInput, match=expected):
        await evaluate(unused, change(task))
