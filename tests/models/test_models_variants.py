"""Variants: each is measured in a sandbox, and none outside the accuracy budget is ever chosen."""

import numpy as np
import onnx
import pytest
from models_hostile import build
from onnx import helper

from koinon.kernel.errors import InvalidInput
from koinon.models.onnx_export import LogisticParameters, check_equal, weights_hash
from koinon.models.scan import scan
from koinon.models.variants import AS_PUBLISHED, DERIVATIONS, FUSED, HALF_PRECISION, choose_variant, derive


async def test_every_variant_is_measured_and_only_equal_ones_may_be_chosen(exported: bytes, rows: np.ndarray) -> None:
    report = await choose_variant(exported, rows)
    by_name = {measurement.name: measurement for measurement in report.measurements}
    assert set(by_name) == {AS_PUBLISHED, *DERIVATIONS}
    assert by_name[report.chosen].within_budget
    assert by_name[report.chosen].weights_hash == weights_hash(report.onnx_bytes)
    assert by_name[AS_PUBLISHED].difference == 0
    for measurement in report.measurements:
        assert measurement.remark == ""
        assert measurement.single_seconds > 0
        assert measurement.within_budget == (measurement.difference <= 1e-5)
    # Six columns of half-precision numbers cannot carry a probability to five digits.
    assert not by_name[HALF_PRECISION].within_budget
    assert by_name[FUSED].within_budget


async def test_with_no_budget_at_all_the_published_form_stays(exported: bytes, rows: np.ndarray) -> None:
    report = await choose_variant(exported, rows, budget=0.0)
    chosen = next(m for m in report.measurements if m.name == report.chosen)
    assert chosen.difference == 0


async def test_a_variant_that_cannot_be_made_is_reported_with_its_reason(rows: np.ndarray) -> None:
    plain = build([helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)])
    report = await choose_variant(plain, rows)
    remark = next(m.remark for m in report.measurements if m.name == FUSED)
    assert "no affine steps" in remark


def test_fusing_leaves_one_product_with_the_same_answers(parameters: LogisticParameters, exported: bytes) -> None:
    fused = derive(exported, FUSED)
    assert dict(scan(fused).operators) == {"Gemm": 1, "Sigmoid": 1, "Squeeze": 1}
    check_equal(fused, parameters, tolerance=1e-5)
    assert len(fused) < len(exported)
    assert derive(exported, FUSED) == fused


@pytest.mark.parametrize("gemm", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}])
def test_fusing_follows_every_form_of_the_steps(gemm: dict[str, float]) -> None:
    rng = np.random.default_rng(2)
    column = rng.uniform(0.5, 2, (5, 6)).astype(np.float32)
    constants = {f"c{step}": column[step] for step in range(4)} | {"one": np.array(3.0, np.float32)}
    weights = rng.standard_normal((6, 2)).astype(np.float32)
    constants |= {"w": weights.T.copy() if "transB" in gemm else weights, "b": np.array([0.1, 0.2], np.float32)}
    nodes = [
        helper.make_node("Sub", ["c0", "x"], ["s1"]),
        helper.make_node("Div", ["s1", "c1"], ["s2"]),
        helper.make_node("Add", ["s2", "c2"], ["s3"]),
        helper.make_node("Mul", ["c3", "s3"], ["s4"]),
        helper.make_node("Mul", ["s4", "one"], ["s5"]),
        helper.make_node("Gemm", ["s5", "w", "b"], ["y"], **gemm),
    ]

    def rank_two(model: onnx.ModelProto) -> None:
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 2

    original = build(nodes, constants, change=rank_two)
    x = rng.uniform(-3, 3, (50, 6)).astype(np.float32)
    before, after = (run(data, x) for data in (original, derive(original, FUSED)))
    assert len(onnx.load_from_string(derive(original, FUSED)).graph.node) == 1
    assert np.abs(before - after).max() < 1e-4


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    from koinon.models.runtime import open_session

    (answer,) = open_session(data).run(None, {"x": x})
    return np.asarray(answer)


@pytest.mark.parametrize(
    "nodes",
    [
        # The scaled columns are used twice, so folding them away would lose the second use.
        [
            helper.make_node("Mul", ["x", "c"], ["s"]),
            helper.make_node("Gemm", ["s", "w"], ["g"]),
            helper.make_node("ReduceMean", ["s"], ["m"], axes=[1], keepdims=1),
            helper.make_node("Add", ["g", "m"], ["y"]),
        ],
        # A division by the column is not affine.
        [helper.make_node("Div", ["c", "x"], ["s"]), helper.make_node("Gemm", ["s", "w"], ["y"])],
    ],
)
def test_what_is_not_affine_is_not_fused(nodes: list[onnx.NodeProto]) -> None:
    constants = {"c": np.ones(6, np.float32), "w": np.ones((6, 1), np.float32)}
    with pytest.raises(InvalidInput):
        derive(build(nodes, constants), FUSED)


def test_an_unknown_variant_is_refused(exported: bytes) -> None:
    with pytest.raises(InvalidInput, match="there is no variant 'fastest'"):
        derive(exported, "fastest")


async def test_too_few_rows_to_compare_on_are_refused(exported: bytes, rows: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="at least 32 rows"):
        await choose_variant(exported, rows[:31])
