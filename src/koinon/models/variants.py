"""Other forms of the same weights, each measured: the fastest one that stays within the accuracy budget is served.

Nothing is assumed to be faster or equal. Every candidate runs in its own sandbox on the same rows as the published
form; its answers are compared, its runs timed, and the table of all of them is kept as the report. Receipts name the
hash of the form that was served.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import InvalidInput, KoinonError
from koinon.kernel.ids import Hash32
from koinon.models.onnx_export import serialise, weights_hash
from koinon.models.sandbox import DEFAULT_SANDBOX_LIMITS, SandboxedModel, SandboxLimits

if TYPE_CHECKING:
    import onnx

AS_PUBLISHED: Final = "as-published"
FUSED: Final = "fused-affine"
RUNTIME_OPTIMISED: Final = "runtime-optimised"
HALF_PRECISION: Final = "float16"

DEFAULT_ACCURACY_BUDGET: Final = 1e-5
"""Largest allowed difference of an answer from the published form's."""
BATCH_ROWS: Final = 32
_REPEATS: Final = 200
_WARM_UP: Final = 20
_MUST_GAIN: Final = 0.95
"""A variant must need at most this share of the published form's time, or timing noise would pick it."""


@dataclass(frozen=True)
class VariantMeasurement:
    """One row of the report.

    Attributes:
        name: of the variant.
        weights_hash: of its bytes; None where it could not be made.
        size: bytes; 0 where it could not be made.
        difference: largest difference of an answer from the published form's.
        single_seconds, batch_seconds: median time of one run with 1 and with ``BATCH_ROWS`` rows, inside the child.
        within_budget: whether ``difference`` is allowed.
        remark: why it could not be made or run; empty where it could.
    """

    name: str
    weights_hash: Hash32 | None
    size: int
    difference: float
    single_seconds: float
    batch_seconds: float
    within_budget: bool
    remark: str = ""


@dataclass(frozen=True)
class VariantReport:
    """The form to serve, and the measurements that chose it."""

    chosen: str
    onnx_bytes: bytes
    measurements: tuple[VariantMeasurement, ...]


async def choose_variant(
    onnx_bytes: bytes,
    rows: NDArray[np.float32],
    budget: float = DEFAULT_ACCURACY_BUDGET,
    limits: SandboxLimits = DEFAULT_SANDBOX_LIMITS,
) -> VariantReport:
    """Make and measure every variant of a model; keep the fastest within the budget.

    Args:
        onnx_bytes: the published form.
        rows: float32 (N, columns), at least ``BATCH_ROWS``, over the whole of the public ranges.
        budget: largest allowed difference of an answer.

    Raises:
        InvalidInput: the published form itself is refused, or there are too few rows.
        Unavailable, Expired: its sandbox fails.
    """
    if len(rows) < BATCH_ROWS:
        raise InvalidInput(f"variants are compared on at least {BATCH_ROWS} rows; got {len(rows)}")
    candidates: dict[str, bytes] = {AS_PUBLISHED: onnx_bytes}
    refused: list[VariantMeasurement] = []
    async with SandboxedModel.open(onnx_bytes, limits) as model:
        expected = await model.predict(rows)
        for name in DERIVATIONS:
            try:
                candidates[name] = await model.derive(name)
            except InvalidInput as problem:
                refused.append(VariantMeasurement(name, None, 0, np.inf, np.inf, np.inf, False, str(problem)))
    measured = [
        await _measure(name, candidate, rows, expected, budget, limits) for name, candidate in candidates.items()
    ]
    published = measured[0]
    chosen = min(
        (m for m in measured if m.within_budget and m.batch_seconds <= _MUST_GAIN * published.batch_seconds),
        key=lambda m: m.batch_seconds + m.single_seconds,
        default=published,
    )
    return VariantReport(chosen.name, candidates[chosen.name], (*measured, *refused))


async def _measure(
    name: str,
    onnx_bytes: bytes,
    rows: NDArray[np.float32],
    expected: NDArray[np.float32],
    budget: float,
    limits: SandboxLimits,
) -> VariantMeasurement:
    digest, size = weights_hash(onnx_bytes), len(onnx_bytes)
    try:
        async with SandboxedModel.open(onnx_bytes, limits) as model:
            difference = float(np.abs(await model.predict(rows) - expected).max())
            single = float(np.median((await model.time(rows[:1], _REPEATS + _WARM_UP))[_WARM_UP:]))
            batch = float(np.median((await model.time(rows[:BATCH_ROWS], _REPEATS + _WARM_UP))[_WARM_UP:]))
    except KoinonError as problem:
        if name == AS_PUBLISHED:
            raise
        return VariantMeasurement(name, digest, size, np.inf, np.inf, np.inf, False, str(problem))
    return VariantMeasurement(name, digest, size, difference, single, batch, difference <= budget)


def derive(onnx_bytes: bytes, name: str) -> bytes:
    """Rewrite a scanned model. Runs in the model's child, because it parses untrusted bytes.

    Raises:
        InvalidInput: no such variant, or this model has no such form.
    """
    derivation = DERIVATIONS.get(name)
    if derivation is None:
        raise InvalidInput(f"there is no variant {name[:40]!r}; there are {', '.join(DERIVATIONS)}")
    return derivation(onnx_bytes)


def fuse_affine(onnx_bytes: bytes) -> bytes:
    """Fold Sub, Add, Mul and Div by constants in front of the first Gemm into that Gemm, computed in float64."""
    from onnx import helper, numpy_helper

    model = _load(onnx_bytes)
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    published = {value.name for value in graph.output}
    source = next(value.name for value in graph.input if value.name not in constants)
    current, scale, shift = source, np.float64(1), np.float64(0)
    folded: set[str] = set()
    while len(users.get(current, [])) == 1 and current not in published:
        node = users[current][0]
        if node.op_type == "Gemm":
            break
        step = _affine_step(node, current, constants)
        if step is None:
            break
        scale, shift = scale * step[0], shift * step[0] + step[1]
        folded.add(node.output[0])
        current = node.output[0]
    consumers = users.get(current, [])
    if not folded or len(consumers) != 1 or consumers[0].op_type != "Gemm" or current in published:
        raise InvalidInput("the model has no affine steps in front of a Gemm that could be folded")
    gemm = consumers[0]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in gemm.attribute}
    bias_name = gemm.input[2] if len(gemm.input) > 2 else ""
    if attributes.get("transA", 0) or gemm.input[0] != current or gemm.input[1] not in constants:
        raise InvalidInput("the model's first Gemm does not multiply rows by constant weights")
    if bias_name and bias_name not in constants:
        raise InvalidInput("the model's first Gemm does not add a constant")
    weights = constants[gemm.input[1]].astype(np.float64)
    weights = weights.T if attributes.get("transB", 0) else weights
    width = weights.shape[0]
    wide_scale, wide_shift = np.broadcast_to(scale, width), np.broadcast_to(shift, width)
    alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    bias = beta * constants[bias_name].astype(np.float64) if bias_name else np.float64(0)
    folded_weights = (alpha * wide_scale[:, None] * weights).astype(np.float32)
    folded_bias = np.broadcast_to(bias + alpha * (wide_shift @ weights), weights.shape[1]).astype(np.float32)
    replacement = helper.make_node(
        "Gemm", [source, "fused_weights", "fused_bias"], [gemm.output[0]], name="fused_affine"
    )
    kept = [
        replacement if node.output[0] == gemm.output[0] else node for node in graph.node if node.output[0] not in folded
    ]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(
        [numpy_helper.from_array(folded_weights, "fused_weights"), numpy_helper.from_array(folded_bias, "fused_bias")]
    )
    _drop_unused(graph)
    return serialise(model)


def optimise_in_runtime(onnx_bytes: bytes) -> bytes:
    """What onnxruntime's own optimiser makes of it, at the level that stays within standard operators."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(written)
        try:
            onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
        except Exception as problem:
            # onnxruntime has a type per kind of failure, and its texts quote the file.
            raise InvalidInput(f"onnxruntime cannot write an optimised form ({type(problem).__name__})") from None
        model = _load(written.read_bytes())
    # onnxruntime lists every operator set it knows; only those in use are kept, so that the scan sees what there is.
    used = {node.domain for node in model.graph.node}
    kept = [imported for imported in model.opset_import if imported.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return serialise(model)


def halve_precision(onnx_bytes: bytes) -> bytes:
    """Constants and arithmetic in float16, inputs and outputs as before. Half the size; seldom faster on a CPU."""
    from onnx import TensorProto, helper, numpy_helper

    model = _load(onnx_bytes)
    graph = model.graph
    if any(node.domain not in ("", "ai.onnx") or node.op_type == "Cast" for node in graph.node):
        raise InvalidInput("the model has operators that do not work in half precision")
    largest = float(np.finfo(np.float16).max)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            if (np.abs(values) > largest).any():
                raise InvalidInput("the model has constants that do not fit half precision")
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
    inner_in = {v.name: f"{v.name}_half" for v in graph.input if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    inner_out = {v.name: f"{v.name}_half" for v in graph.output if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    renamed = inner_in | inner_out
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                names[position] = renamed.get(name, name)
    before = [helper.make_node("Cast", [a], [b], to=TensorProto.FLOAT16) for a, b in inner_in.items()]
    after = [helper.make_node("Cast", [b], [a], to=TensorProto.FLOAT) for a, b in inner_out.items()]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return serialise(model)


DERIVATIONS: Final[dict[str, Callable[[bytes], bytes]]] = {
    FUSED: fuse_affine,
    RUNTIME_OPTIMISED: optimise_in_runtime,
    HALF_PRECISION: halve_precision,
}
"""Every variant beside the published form, by name."""


def _load(onnx_bytes: bytes) -> "onnx.ModelProto":
    import onnx

    model = onnx.ModelProto()
    model.ParseFromString(onnx_bytes)
    return model


def _affine_step(node: Any, current: str, constants: dict[str, Any]) -> tuple[Any, Any] | None:
    """(scale, shift) of ``node`` as ``scale * current + shift`` per column; None where it is not of that kind."""
    if node.op_type not in {"Sub", "Add", "Mul", "Div"} or len(node.input) != 2:
        return None
    first, second = node.input
    other = second if first == current else first
    if other not in constants or other == current:
        return None
    constant = constants[other].astype(np.float64)
    # A constant with one row broadcasts over rows; anything taller would not be the same for each row.
    if constant.ndim > 2 or (constant.ndim == 2 and constant.shape[0] != 1):
        return None
    value = constant.reshape(-1) if constant.size > 1 else np.float64(constant.reshape(()))
    zero, one = np.float64(0), np.float64(1)
    match node.op_type, first == current:
        case "Add", _:
            return one, value
        case "Mul", _:
            return value, zero
        case "Sub", True:
            return one, -value
        case "Sub", False:
            return -one, value
        case "Div", True if (value != 0).all():
            return 1 / value, zero
    return None


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
