"""ONNX operators along axes: sums, extremes, running sums, softmax."""

from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np

from koinon.privacy import arrays, ordering
from koinon.privacy.arrays import SecretArray
from koinon.privacy.graphs.onnx_operands import Attributes, Operands, Operator, axes_of, public


def _reduced(function: Callable[[SecretArray, int], SecretArray]) -> Operator:
    def reduce_axes(operands: Operands, attributes: Attributes, _version: int) -> Any:
        x = operands[0]
        axes = axes_of(operands, attributes, x.ndim)
        result = x
        for axis in reversed(axes):
            result = function(result, axis)
        if attributes.get("keepdims", 1):
            result = result.reshape(*(1 if axis in axes else size for axis, size in enumerate(x.shape)))
        return result

    return reduce_axes


def _place(function: Callable[[SecretArray, int], SecretArray]) -> Operator:
    def find(operands: Operands, attributes: Attributes, _version: int) -> Any:
        x, axis = operands[0], attributes.get("axis", 0) % operands[0].ndim
        if attributes.get("select_last_index", 0):
            found = -function(_reversed(x, axis), axis) + (x.shape[axis] - 1)
        else:
            found = function(x, axis)
        kept = (1 if other == axis else size for other, size in enumerate(x.shape))
        return found.reshape(*kept) if attributes.get("keepdims", 1) else found

    return find


def _reversed(x: SecretArray, axis: int) -> SecretArray:
    return x[(*(slice(None),) * (axis % x.ndim), slice(None, None, -1))]


def _running_sum(operands: Operands, attributes: Attributes, _version: int) -> Any:
    axis = int(public(operands[1], "an axis"))
    x = _reversed(operands[0], axis) if attributes.get("reverse", 0) else operands[0]
    total = x.cumsum(axis) - x if attributes.get("exclusive", 0) else x.cumsum(axis)
    return _reversed(total, axis) if attributes.get("reverse", 0) else total


def _softmax(operands: Operands, attributes: Attributes, version: int) -> Any:
    x = operands[0]
    axis = attributes.get("axis", -1 if version >= 13 else 1) % x.ndim
    if version < 13:
        return arrays.softmax(x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))).reshape(*x.shape)
    order = [*(other for other in range(x.ndim) if other != axis), axis]
    return arrays.softmax(x.transpose(*order)).transpose(*np.argsort(order).tolist())


def _log_softmax(operands: Operands, attributes: Attributes, version: int) -> Any:
    shares = _softmax(operands, attributes, version)
    assert isinstance(shares, SecretArray)
    return arrays.logarithm(shares, 2.0**-18)


REDUCTIONS: Final[dict[str, Operator]] = {
    "ArgMax": _place(ordering.index_of_largest),
    "ArgMin": _place(ordering.index_of_smallest),
    "CumSum": _running_sum,
    "LogSoftmax": _log_softmax,
    "ReduceL1": _reduced(lambda x, axis: abs(x).sum(axis)),
    "ReduceMax": _reduced(ordering.largest),
    "ReduceMean": _reduced(lambda x, axis: x.mean(axis)),
    "ReduceMin": _reduced(ordering.smallest),
    "ReduceSum": _reduced(lambda x, axis: x.sum(axis)),
    "ReduceSumSquare": lambda operands, attributes, version: _reduced(lambda x, axis: x.sum(axis))(
        [operands[0] * operands[0], *operands[1:]], attributes, version
    ),
    "Softmax": _softmax,
}
