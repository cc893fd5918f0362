"""Evaluations in their children: the outcome is that of the suite, and whatever fails leaves no child behind."""

import asyncio
import dataclasses
from dataclasses import replace

import msgspec
import numpy as np
import psutil
import pytest
from trust_world import SALT

from koinon.data.commitment import DatasetCommitment
from koinon.kernel.errors import Expired, InvalidInput, KoinonError, Refused, Unavailable
from koinon.models.onnx_export import LogisticParameters, export_logistic, weights_hash
from koinon.models.sandbox import SandboxedModel
from koinon.trust.evaluation import Task, evaluate
from koinon.trust.recompute import recompute
from koinon.trust.run import EvaluationLimits, EvaluationRun


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> object:
    before = children()
    yield
    assert children() <= before


def with_settings(task: Task, **changes: object) -> Task:
    return dataclasses.replace(task, settings=msgspec.structs.replace(task.settings, **changes))


async def test_a_run_gives_what_the_suite_gives_and_a_stranger_confirms_it(task: Task, exported: bytes) -> None:
    async with EvaluationRun.start(exported, with_settings(task, load_rates=(300,), load_calls=100)) as run:
        stages = [progress.stage async for progress in run.progress()]
        found = await run.result()
    assert stages[0] == "data"
    assert stages[-1] == "load"
    assert found.vector.find("load_p99") is not None
    async with SandboxedModel.open(exported) as model:
        direct = await evaluate(model.predict, task)
        differences = await recompute(
            found.evidence, task.table, SALT, task.card, model.predict, weights_hash(exported)
        )
    for criterion in direct.vector.criteria:
        assert found.vector.find(criterion.name) == criterion
    assert all(difference.holds for difference in differences)


async def test_three_evaluators_run_at_once(task: Task, exported: bytes) -> None:
    async def one(seed: int) -> float:
        mine = dataclasses.replace(task, seed=bytes([seed]) * 32)
        async with EvaluationRun.start(exported, mine) as run:
            return (await run.result()).vector.find("auc").value

    values = await asyncio.gather(*(one(seed) for seed in range(3)))
    assert len(set(values)) == 1


async def test_a_weak_model_gets_a_worse_vector_than_a_good_one(
    task: Task, parameters: LogisticParameters, exported: bytes
) -> None:
    weak = export_logistic(
        replace(parameters, coefficients=np.where(np.arange(30) % 3 == 0, 1, -1) * parameters.coefficients)
    )
    vectors = []
    for model in (exported, weak):
        async with EvaluationRun.start(model, dataclasses.replace(task, weights_hash=weights_hash(model))) as run:
            vectors.append((await run.result()).vector)
    good, bad = vectors
    assert bad.find("auc").high < good.find("auc").low
    assert bad.find("robustness_suite").high < good.find("robustness_suite").low


async def test_leaving_the_block_cancels_a_run(task: Task, exported: bytes) -> None:
    before = children()
    async with EvaluationRun.start(exported, with_settings(task, load_rates=(1,), load_calls=100)) as run:
        async for progress in run.progress():
            if progress.stage == "load":
                break
        assert len(children() - before) == 2
    assert children() == before


@pytest.mark.parametrize("which", ["suite", "model"])
async def test_a_child_that_is_killed_is_an_error_of_the_run(task: Task, exported: bytes, which: str) -> None:
    async with EvaluationRun.start(exported, with_settings(task, load_rates=(5,), load_calls=100)) as run:
        worker = run._suite if which == "suite" else run._model._worker
        async for progress in run.progress():
            if progress.stage == "load":
                psutil.Process(worker.pid).kill()
        with pytest.raises(Unavailable, match="has ended"):
            await run.result()


async def test_refusals_of_the_suite_arrive_as_they_are(task: Task, exported: bytes) -> None:
    async with EvaluationRun.start(exported, with_settings(task, square_queries=2)) as run:
        with pytest.raises(Refused, match="the evaluation is invalid"):
            await run.result()
    slow = with_settings(task, load_rates=(1,), load_calls=100, deadline_milliseconds=1500)
    async with EvaluationRun.start(exported, slow) as run:
        with pytest.raises(Expired, match=r"1\.5 seconds"):
            await run.result()


async def test_the_memory_limit_of_the_suite_holds(task: Task, exported: bytes) -> None:
    limits = EvaluationLimits(memory_bytes=64 * 1024**2)
    with pytest.raises(KoinonError):
        async with EvaluationRun.start(exported, task, limits) as run:
            await run.result()


async def test_a_run_that_cannot_begin_starts_no_child(
    task: Task, exported: bytes, parameters: LogisticParameters
) -> None:
    narrow = export_logistic(
        LogisticParameters(parameters.low[:5], parameters.high[:5], parameters.coefficients[:5], 0.0)
    )
    for model, mine, expected in (
        (exported + b"\x00", task, "not those of the weights hash"),
        (exported, with_settings(task, fairness_column="colour"), "no column 'colour'"),
        (b"\x80 pickle", dataclasses.replace(task, weights_hash=weights_hash(b"\x80 pickle")), "only ONNX"),
        (narrow, dataclasses.replace(task, weights_hash=weights_hash(narrow)), "does not take the 30 columns"),
    ):
        with pytest.raises(InvalidInput, match=expected):
            async with EvaluationRun.start(model, mine):
                pytest.fail("the run was started")


async def test_each_evaluator_may_have_rows_of_its_own(task: Task, exported: bytes) -> None:
    mine = task.table.take(np.arange(0, task.table.rows, 2))
    other = dataclasses.replace(task, table=mine, rows_root=DatasetCommitment.make(mine, SALT).root)
    async with EvaluationRun.start(exported, other) as run:
        found = await run.result()
    assert found.evidence.rows == mine.rows
    assert found.evidence.rows_root == other.rows_root


async def test_a_model_that_answers_no_probabilities_ends_the_run(task: Task) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 30])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    async with EvaluationRun.start(model, dataclasses.replace(task, weights_hash=weights_hash(model))) as run:
        with pytest.raises(InvalidInput, match="not a probability"):
            await run.result()
