"""What makes rows ready for a model, put in front of it, and the check that both together answer as before.

::

    features [N, d] --Gather--> picked [N, k] --fill in--> --Sub centre--> --Mul factor--> --Max, Min-->  prepared
                       picked [N, k] --Round--> --Equal codes--> --Cast--> 0/1    (where a column is a code's)

A caller sends rows as owners hold them: a missing cell as any number, and 1 in the column that says so.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import Forged, InvalidInput
from koinon.models.onnx_export import INPUT_NAME, model_of

FloatArray = NDArray[np.float64]

TOLERANCE: Final = 1e-4
"""Largest allowed difference of two answers, relative to the largest; columns are scaled in 32 bits."""
_INNER: Final = "prepared"
_RANDOM_ROWS: Final = 256
_LARGEST: Final = 1e15


@dataclass(frozen=True, eq=False)
class PreparationParameters:
    """Of each of the k columns that the model takes, all of them (k,).

    Attributes:
        low, high: float64 (d,), ranges of the columns that callers send.
        sources: whole numbers: which of these it is made of.
        masks: whole numbers: which of these says 1 where the source is missing; −1 for none.
        fills: what then stands for it, in the source's units.
        centres, factors: a number x becomes (x − centre) · factor.
        lowest, highest: where that is cut.
        codes: it is 1 where the source holds this code; −1 where it is no such column.
    """

    low: FloatArray
    high: FloatArray
    sources: NDArray[np.int64]
    masks: NDArray[np.int64]
    fills: FloatArray
    centres: FloatArray
    factors: FloatArray
    lowest: FloatArray
    highest: FloatArray
    codes: NDArray[np.int64]

    def prepare(self, rows: FloatArray) -> FloatArray:
        """(N, k) columns of (N, d) rows, in float64."""
        picked = np.asarray(rows, np.float64)[:, self.sources]
        missing = np.where(self.masks >= 0, np.asarray(rows)[:, np.maximum(self.masks, 0)], 0.0)
        filled = picked + missing * (self.fills - picked)
        numbers = np.clip((filled - self.centres) * self.factors, self.lowest, self.highest)
        return np.where(self.codes >= 0, (np.round(picked) == self.codes).astype(np.float64), numbers)


def export_prepared(onnx_bytes: bytes, parameters: PreparationParameters) -> bytes:
    """A model of ours that takes prepared columns → one that takes rows as they are. Nothing else changes.

    Raises:
        InvalidInput: the parameters do not belong together, or not to the model.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    _check(parameters)
    model = onnx.ModelProto.FromString(onnx_bytes)
    graph = model.graph
    (given,) = (value for value in graph.input if value.name == INPUT_NAME)
    if given.type.tensor_type.shape.dim[1].dim_value != len(parameters.sources):
        raise InvalidInput(f"the model does not take the {len(parameters.sources)} columns that are prepared")
    constants: dict[str, NDArray[Any]] = {
        "ready_sources": parameters.sources.astype(np.int64),
        "ready_masks": np.maximum(parameters.masks, 0).astype(np.int64),
        "ready_masked": (parameters.masks >= 0).astype(np.float32),
        "ready_fills": parameters.fills.astype(np.float32),
        "ready_centres": parameters.centres.astype(np.float32),
        "ready_factors": parameters.factors.astype(np.float32),
        "ready_lowest": parameters.lowest.astype(np.float32),
        "ready_highest": parameters.highest.astype(np.float32),
        "ready_codes": parameters.codes.astype(np.float32),
        "ready_encoded": parameters.codes >= 0,
    }
    steps: tuple[tuple[str, tuple[str, ...], str, dict[str, Any]], ...] = (
        ("Gather", (INPUT_NAME, "ready_sources"), "ready_picked", {"axis": 1}),
        ("Gather", (INPUT_NAME, "ready_masks"), "ready_said", {"axis": 1}),
        ("Mul", ("ready_said", "ready_masked"), "ready_missing", {}),
        ("Sub", ("ready_fills", "ready_picked"), "ready_gap", {}),
        ("Mul", ("ready_missing", "ready_gap"), "ready_change", {}),
        ("Add", ("ready_picked", "ready_change"), "ready_filled", {}),
        ("Sub", ("ready_filled", "ready_centres"), "ready_centred", {}),
        ("Mul", ("ready_centred", "ready_factors"), "ready_scaled", {}),
        ("Max", ("ready_scaled", "ready_lowest"), "ready_raised", {}),
        ("Min", ("ready_raised", "ready_highest"), "ready_numbers", {}),
        ("Round", ("ready_picked",), "ready_rounded", {}),
        ("Equal", ("ready_rounded", "ready_codes"), "ready_equal", {}),
        ("Cast", ("ready_equal",), "ready_bits", {"to": TensorProto.FLOAT}),
        ("Where", ("ready_encoded", "ready_bits", "ready_numbers"), _INNER, {}),
    )
    front = [
        helper.make_node(operator, list(names), [made], name=made, **attributes)
        for operator, names, made, attributes in steps
    ]
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == INPUT_NAME:
                node.input[place] = _INNER
    whole = helper.make_graph(
        [*front, *graph.node],
        graph.name,
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", len(parameters.low)])],
        list(graph.output),
        [*(numpy_helper.from_array(value, name) for name, value in constants.items()), *graph.initializer],
    )
    return model_of(whole, {entry.domain: entry.version for entry in model.opset_import if entry.domain})


def check_equal_prepared(whole: bytes, inner: bytes, parameters: PreparationParameters, seed: int = 0) -> float:
    """Run our own model on random rows, some with missing cells, beside the one on rows prepared in float64.

    Rows in which preparing in 32 bits could change more than roundings do (a number beside a tree's threshold) are no
    error: nine in ten answers must be the same.

    Returns:
        The largest absolute difference of those answers.

    Raises:
        Forged: the two differ by more than ``TOLERANCE`` of the largest answer.
    """
    from koinon.models.runtime import open_session

    random = np.random.default_rng(seed)
    rows = random.uniform(parameters.low, parameters.high, (_RANDOM_ROWS, len(parameters.low)))
    coded = parameters.sources[parameters.codes >= 0]
    rows[:, coded] = np.round(rows[:, coded])
    masks = np.unique(parameters.masks[parameters.masks >= 0])
    rows[:, masks] = random.random((_RANDOM_ROWS, len(masks))) < 0.3
    sent = rows.astype(np.float32)
    (found,) = open_session(whole).run(None, {INPUT_NAME: sent})
    ready = parameters.prepare(sent.astype(np.float64)).astype(np.float32)
    (wanted,) = open_session(inner).run(None, {INPUT_NAME: ready})
    gaps = np.abs(np.asarray(found) - np.asarray(wanted)).reshape(_RANDOM_ROWS, -1).max(1)
    worst = float(np.quantile(gaps, 0.9))
    if not worst <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        raise Forged(f"the exported model differs from the trained one by {worst:.3g}; it is not published")
    return worst


def _check(parameters: PreparationParameters) -> None:
    """Refuse parameters that prepare nothing. Raises InvalidInput."""
    width = len(parameters.low)
    each = [value for name, value in vars(parameters).items() if name not in ("low", "high")]
    if not width or parameters.high.shape != (width,) or len({value.shape for value in each}) != 1:
        raise InvalidInput("every prepared column needs a source, a centre, a factor and the other numbers")
    if not (parameters.sources.min() >= 0 and max(parameters.sources.max(), parameters.masks.max()) < width):
        raise InvalidInput("a prepared column is made of a column that callers do not send")
    numbers = np.concatenate([np.asarray(value, np.float64) for value in (*each, parameters.low, parameters.high)])
    if not np.isfinite(numbers).all() or (np.abs(numbers) > _LARGEST).any():
        raise InvalidInput("what was fitted must be finite, and fit 32-bit numbers; rescale the columns")
