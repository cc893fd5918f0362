"""ONNX operators that only move numbers."""

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays, ordering
from koinon.privacy.arrays import SecretArray
from koinon.privacy.graphs.onnx_operands import (
    Attributes,
    Operands,
    Operator,
    axes_of,
    public,
    secret,
)


def _reshape(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    asked = [int(size) for size in public(operands[1], "a shape").reshape(-1)]
    if not attributes.get("allowzero", 0):
        asked = [x.shape[place] if size == 0 else size for place, size in enumerate(asked)]
    return x.reshape(*asked)


def _flatten(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x, axis = operands[0], attributes.get("axis", 1)
    place = axis % x.ndim if axis < 0 else axis
    return x.reshape(prod(x.shape[:place]), prod(x.shape[place:]))


def _transpose(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    return x.transpose(*attributes.get("perm", range(x.ndim)[::-1]))


def _squeeze(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    given = attributes.get("axes") is not None or (len(operands) > 1 and operands[1] is not None)
    axes = axes_of(operands, attributes, x.ndim) if given else tuple(a for a, size in enumerate(x.shape) if size == 1)
    return x.reshape(*(size for axis, size in enumerate(x.shape) if axis not in axes))


def _unsqueeze(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    given = attributes["axes"] if "axes" in attributes else public(operands[1], "an axis").reshape(-1)
    total = x.ndim + len(given)
    added = {int(axis) % total for axis in given}
    sizes = iter(x.shape)
    return x.reshape(*(1 if axis in added else next(sizes) for axis in range(total)))


def _concat(operands: Operands, attributes: Attributes, _version: int) -> Any:
    like = next(each for each in operands if isinstance(each, SecretArray))
    return arrays.concatenate([secret(each, like) for each in operands], attributes["axis"])


def _slice(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    parts = [public(each, "a slice").reshape(-1) if each is not None else None for each in operands[1:]]
    parts += [None] * (4 - len(parts))
    starts: Any = attributes.get("starts", parts[0])
    ends: Any = attributes.get("ends", parts[1])
    axes = attributes.get("axes", parts[2] if parts[2] is not None else range(len(starts)))
    steps = parts[3] if parts[3] is not None else [1] * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[int(axis)]
        stop = None if step < 0 and end < -size else int(end)
        index[int(axis)] = slice(int(start), stop, int(step))
    return x[tuple(index)]


def _split(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x, axis = operands[0], attributes.get("axis", 0)
    size = x.shape[axis]
    if len(operands) > 1 and operands[1] is not None:
        sizes = [int(part) for part in public(operands[1], "a split")]
    elif "split" in attributes:
        sizes = list(attributes["split"])
    else:
        count = attributes["num_outputs"]
        each = -(-size // count)
        sizes = [min(each, size - start) for start in range(0, size, each)]
    ends = np.cumsum(sizes)
    place = axis % x.ndim
    before = (slice(None),) * place
    return tuple(x[(*before, slice(end - part, end))] for end, part in zip(ends, sizes, strict=True))


def _gather(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x, axis = operands[0], attributes.get("axis", 0)
    if isinstance(operands[1], SecretArray):
        if axis != 0:
            raise InvalidInput("a secret index looks up rows, along axis 0")
        codes = operands[1]
        table = x if isinstance(x, SecretArray) else np.asarray(x)
        rows = ordering.looked_up(codes.ravel(), table)
        return rows.reshape(*codes.shape, *table.shape[1:])
    indices = public(operands[1], "an index").astype(np.int64)
    place = axis % x.ndim
    return x[(*(slice(None),) * place, indices)]


def _expand(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    asked = tuple(int(size) for size in public(operands[1], "a shape"))
    return x.broadcast_to(*np.broadcast_shapes(x.shape, asked))


def _tile(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    for axis, times in enumerate(public(operands[1], "a number of repeats")):
        x = arrays.concatenate([x] * int(times), axis)
    return x


def _pad(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    mode = attributes.get("mode", b"constant")
    if mode != b"constant":
        raise InvalidInput("secret arrays are padded with a constant only")
    pads = public(operands[1], "a padding").reshape(-1)
    fill = (
        float(public(operands[2], "a filling").reshape(-1)[0]) if len(operands) > 2 and operands[2] is not None else 0.0
    )
    axes = (
        public(operands[3], "an axis").reshape(-1) if len(operands) > 3 and operands[3] is not None else range(x.ndim)
    )
    amounts = [(0, 0)] * x.ndim
    for number, axis in enumerate(axes):
        amounts[int(axis)] = (int(pads[number]), int(pads[number + len(pads) // 2]))
    return padded(x, amounts, fill)


def padded(x: SecretArray, amounts: Sequence[tuple[int, int]], fill: float) -> SecretArray:
    """The array with so many places before and after it along each axis; negative amounts cut it."""
    for axis, (before, after) in enumerate(amounts):
        if before < 0 or after < 0:
            stop = x.shape[axis] + min(after, 0)
            x = x[(*(slice(None),) * axis, slice(-min(before, 0), stop))]
        parts = [x]
        for amount, place in ((before, 0), (after, 1)):
            if amount > 0:
                shape = tuple(amount if other == axis else size for other, size in enumerate(x.shape))
                parts.insert(place * len(parts), arrays.constant_like(x, np.full(shape, fill)))
        x = arrays.concatenate(parts, axis) if len(parts) > 1 else x
    return x


LAYOUT: Final[dict[str, Operator]] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
