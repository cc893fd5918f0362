"""The sandbox: right answers from honest models, one clear error from hostile ones, and a parent that lives on."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import psutil
import pytest
from models_hostile import build, endless_loop, forty_gigabytes, outside_constant, slow_model
from onnx import helper

from koinon.kernel.errors import Expired, InvalidInput, KoinonError, MalformedMessage, Unavailable
from koinon.models.frames import Status, parse_reason, parse_reply
from koinon.models.onnx_export import LogisticParameters
from koinon.models.sandbox import SandboxedModel, SandboxLimits
from koinon.models.scan import ScanLimits

LIMITS = SandboxLimits()


@pytest.fixture
async def model(exported: bytes) -> AsyncIterator[SandboxedModel]:
    async with SandboxedModel.open(exported) as opened:
        yield opened


async def test_answers_are_the_models_own(
    model: SandboxedModel, parameters: LogisticParameters, rows: np.ndarray
) -> None:
    answers = await model.predict(rows)
    assert answers.dtype == np.float32
    assert np.abs(answers - parameters.probability(rows.astype(np.float64))).max() < 2e-6
    assert (await model.predict(rows[::2])).tolist() == answers[::2].tolist()
    assert (await model.predict(rows[:0])).shape == (0,)


async def test_metadata_describes_inputs_and_outputs(model: SandboxedModel) -> None:
    metadata = model.metadata()
    assert [(value.name, value.type, value.shape) for value in metadata.inputs] == [("features", "float", (-1, 6))]
    assert [(value.name, value.type, value.shape) for value in metadata.outputs] == [("probability", "float", (-1,))]
    assert metadata.columns == 6


async def test_calls_made_at_once_each_get_their_own_answer(model: SandboxedModel, rows: np.ndarray) -> None:
    expected = await model.predict(rows)
    answers = await asyncio.gather(*(model.predict(rows[row : row + 1]) for row in range(len(rows))))
    assert np.abs(np.concatenate(answers) - expected).max() < 1e-6


async def test_a_caller_that_goes_away_does_not_mix_up_the_next_answer(model: SandboxedModel, rows: np.ndarray) -> None:
    expected = await model.predict(rows[:2])
    for _ in range(20):
        impatient = asyncio.create_task(model.predict(rows[5:6]))
        # One turn of the loop: the question is on its way, the answer cannot be there yet.
        await asyncio.sleep(0)
        impatient.cancel()
        assert (await model.predict(rows[:2])).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, 5), np.float32),
        np.zeros((3, 7), np.float32),
        np.zeros(6, np.float32),
        np.zeros((3, 6), np.float64),
        np.zeros((1, 3, 6), np.float32),
    ],
)
async def test_rows_of_another_shape_or_type_are_refused(
    model: SandboxedModel, rows: np.ndarray, wrong: np.ndarray
) -> None:
    with pytest.raises(InvalidInput, match="float32 rows of 6 columns"):
        await model.predict(wrong)
    assert len(await model.predict(rows)) == len(rows)


async def test_a_batch_above_the_limit_is_refused(exported: bytes, rows: np.ndarray) -> None:
    async with SandboxedModel.open(exported, replace(LIMITS, rows_per_call=10)) as model:
        with pytest.raises(InvalidInput, match="more than the 10 allowed"):
            await model.predict(rows)
        assert len(await model.predict(rows[:10])) == 10


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (forty_gigabytes(), "ConstantOfShape"),
        (endless_loop(), "Loop"),
        (
            build(
                [helper.make_node("Add", ["x", "w"], ["y"])],
                change=lambda model: model.graph.initializer.append(outside_constant("/etc/passwd")),
            ),
            "lies outside",
        ),
        (b"\x80\x04\x95 a pickle", "only ONNX"),
        (b"", "empty"),
    ],
    ids=["40 GB", "endless", "outside", "pickle", "empty"],
)
async def test_a_file_that_the_scan_refuses_is_never_loaded(file: bytes, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        async with SandboxedModel.open(file):
            pytest.fail("the file was opened")


async def test_the_memory_limit_holds_where_the_scan_is_told_to_look_away() -> None:
    """A second wall: with the scan's budget lifted, the same 40 GB file meets the child's memory limit."""
    blind = replace(LIMITS, scan=ScanLimits(activation_bytes=2**60, constant_bytes=2**60))
    with pytest.raises((InvalidInput, Unavailable)) as caught:
        async with SandboxedModel.open(forty_gigabytes(), blind) as model:
            await model.predict(np.zeros((1, 1), np.float32))
    assert "\n" not in str(caught.value)


async def test_a_call_that_takes_too_long_kills_the_child_and_the_next_open_works(
    exported: bytes, rows: np.ndarray
) -> None:
    async with SandboxedModel.open(slow_model(10), replace(LIMITS, call_seconds=0.3)) as model:
        pid = model._worker.pid
        with pytest.raises(Expired, match=r"did not answer within 0\.3 seconds"):
            await model.predict(np.zeros((5000, 6), np.float32))
        with pytest.raises(Unavailable):
            await model.predict(np.zeros((1, 6), np.float32))
    assert not psutil.pid_exists(pid)
    async with SandboxedModel.open(exported) as model:
        assert len(await model.predict(rows)) == len(rows)


async def test_a_child_that_dies_is_an_error_of_the_call(exported: bytes, rows: np.ndarray) -> None:
    async with SandboxedModel.open(exported) as model:
        psutil.Process(model._worker.pid).kill()
        with pytest.raises(Unavailable, match="has ended"):
            await model.predict(rows)


async def test_the_processor_time_limit_ends_the_child() -> None:
    async with SandboxedModel.open(slow_model(10), replace(LIMITS, cpu_seconds=1, call_seconds=60)) as model:
        with pytest.raises(Unavailable, match="processor time"):
            await model.predict(np.zeros((5000, 6), np.float32))


async def test_answers_that_are_no_numbers_are_refused(rows: np.ndarray) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["m", "m"], ["zero"]),
        helper.make_node("Div", ["zero", "zero"], ["y"]),
    ]
    async with SandboxedModel.open(build(nodes)) as model:
        with pytest.raises(InvalidInput, match="not a finite number"):
            await model.predict(rows)


async def test_a_model_that_answers_another_number_of_rows_is_refused(rows: np.ndarray) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=0)]
    async with SandboxedModel.open(build(nodes)) as model:
        with pytest.raises(InvalidInput, match=r"answered shape \(6,\) for 64 rows"):
            await model.predict(rows)


async def test_a_model_of_another_kind_opens_but_does_not_predict(rows: np.ndarray) -> None:
    image = helper.make_tensor_value_info("x", 1, ["N", 3, 8, 8])
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2, 3], keepdims=0)]
    async with SandboxedModel.open(build(nodes, inputs=[image])) as model:
        assert model.metadata().inputs[0].shape == (-1, 3, 8, 8)
        with pytest.raises(InvalidInput, match="does not take rows of numbers"):
            await model.predict(rows)


@pytest.mark.parametrize(("columns", "picked"), [(1, 0), (2, 1)])
async def test_probability_columns_are_read_as_the_last_one(rows: np.ndarray, columns: int, picked: int) -> None:
    weights = np.random.default_rng(1).standard_normal((6, columns)).astype(np.float32) / 1000
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Sigmoid", ["s"], ["y"])]

    def shape(model: object) -> None:
        output = model.graph.output[0].type.tensor_type.shape  # type: ignore[attr-defined]
        del output.dim[:]
        output.dim.add().dim_param = "N"
        output.dim.add().dim_value = columns

    async with SandboxedModel.open(build(nodes, {"w": weights}, change=shape)) as model:
        expected = 1 / (1 + np.exp(-(rows @ weights)[:, picked]))
        assert np.abs(await model.predict(rows) - expected).max() < 1e-6


async def test_no_child_is_left_behind(exported: bytes) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(KoinonError):
        async with SandboxedModel.open(exported):
            raise InvalidInput("the caller's own error")
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


@pytest.mark.parametrize("reply", [b"", b"\x00", b"\x07\x00\x00\x00\x00", b"\x02" + bytes(20)])
def test_replies_that_are_none_are_refused(reply: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_reply(reply)


def test_a_hostile_reason_is_made_harmless() -> None:
    status, sequence, body = parse_reply(b"\x01\x05\x00\x00\x00" + b"\x1b[2Jgone\n\xff" + b"a" * 10_000)
    assert (status, sequence) == (Status.FAILED, 5)
    reason = parse_reason(body)
    assert reason.isprintable()
    assert len(reason) <= 300
