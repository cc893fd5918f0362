"""ONNX operators on secret arrays: one row each in a table. Source: the operator schemas of ONNX, opsets 13 to 25.

An operator is a function of its operands (secret, public or None where left out), its attributes and the opset's
version. Shapes, axes and indices are public always; ``_public`` refuses a secret in their place.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import prod
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays, ordering
from koinon.privacy.arrays import SecretArray, where

Value = SecretArray | np.ndarray
Operands = Sequence[Any]
Attributes = Mapping[str, Any]
Operator = Callable[[Operands, Attributes, int], Any]
"""Gives a Value, or a tuple of them where there are several outputs."""

SMALLEST: Final = 2.0**-12
"""Divisors, and arguments of logarithms and roots, are taken to be at least this."""


def _public(value: object, what: str) -> np.ndarray:
    if isinstance(value, SecretArray):
        raise InvalidInput(f"{what} depends on a secret; a private computation has public shapes and indices")
    return np.asarray(value)


def _secret(value: Value, like: Value) -> SecretArray:
    if isinstance(value, SecretArray):
        return value
    assert isinstance(like, SecretArray)
    return arrays.constant_like(like, value)


def _both(operands: Operands) -> tuple[SecretArray, SecretArray]:
    left, right = operands[0], operands[1]
    return _secret(left, right), _secret(right, left)


def _axes(operands: Operands, attributes: Attributes, dimensions: int, place: int = 1) -> tuple[int, ...]:
    given = attributes.get("axes")
    if given is None and len(operands) > place and operands[place] is not None:
        given = _public(operands[place], "an axis").tolist()
    chosen = (
        range(dimensions) if given is None or (not len(given) and not attributes.get("noop_with_empty_axes")) else given
    )
    return tuple(sorted(int(axis) % dimensions for axis in chosen))


# ----------------------------------------------------------------------------------------------------- elementwise


def _unary(function: Callable[[SecretArray], SecretArray]) -> Operator:
    return lambda operands, _attributes, _version: function(operands[0])


def _binary(function: Callable[[Any, Any], SecretArray]) -> Operator:
    return lambda operands, _attributes, _version: function(operands[0], operands[1])


def _folded(function: Callable[[SecretArray, SecretArray], SecretArray]) -> Operator:
    def fold(operands: Operands, _attributes: Attributes, _version: int) -> Any:
        like = next(each for each in operands if isinstance(each, SecretArray))
        return reduce(function, [_secret(each, like) for each in operands])

    return fold


def _divide(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    left, right = operands[0], operands[1]
    if not isinstance(right, SecretArray):
        return left / right
    return arrays.divide(_secret(left, right), right, SMALLEST)


def _power(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    exponent = _public(operands[1], "an exponent")
    if exponent.size != 1:
        raise InvalidInput("secret numbers are raised to one public power for all")
    power = float(exponent.reshape(-1)[0])
    if power == 0.5:
        return arrays.square_root(operands[0], SMALLEST)
    if power != int(power):
        raise InvalidInput(f"secret numbers are raised to whole powers and to one half; got {power:g}")
    return operands[0] ** int(power)


def _clip(operands: Operands, attributes: Attributes, _version: int) -> Any:
    low, high = (
        float(_public(operands[place], "a limit")) if len(operands) > place and operands[place] is not None else None
        for place in (1, 2)
    )
    low, high = attributes.get("min", low), attributes.get("max", high)
    x = operands[0]
    x = x if low is None else arrays.maximum(x, arrays.constant_like(x, low))
    return x if high is None else arrays.minimum(x, high)


def _tanh(x: SecretArray) -> SecretArray:
    return arrays.sigmoid(x.times(2)).times(2) - 1.0


def _leaky(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    return where(x < 0, x.times(attributes.get("alpha", 0.01)), x)


def _exponential_unit(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    below = arrays.minimum(x, 0.0)
    return where(x < 0, (arrays.exponential(below, largest=0.0) - 1.0).times(attributes.get("alpha", 1.0)), x)


def _hard_sigmoid(operands: Operands, attributes: Attributes, _version: int) -> Any:
    return arrays.clip(operands[0].times(attributes.get("alpha", 0.2)) + attributes.get("beta", 0.5), 0.0, 1.0)


def _hard_swish(x: SecretArray) -> SecretArray:
    return x * arrays.clip(x.times(1 / 6) + 0.5, 0.0, 1.0)


def _sign(x: SecretArray) -> SecretArray:
    return (x > 0) - (x < 0)


def _parametric(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    x, slope = operands[0], operands[1]
    return where(x < 0, x * slope, x)


# ----------------------------------------------------------------------------------------------------- layout


def _reshape(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    asked = [int(size) for size in _public(operands[1], "a shape").reshape(-1)]
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
    axes = _axes(operands, attributes, x.ndim) if given else tuple(a for a, size in enumerate(x.shape) if size == 1)
    return x.reshape(*(size for axis, size in enumerate(x.shape) if axis not in axes))


def _unsqueeze(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    given = attributes["axes"] if "axes" in attributes else _public(operands[1], "an axis").reshape(-1)
    total = x.ndim + len(given)
    added = {int(axis) % total for axis in given}
    sizes = iter(x.shape)
    return x.reshape(*(1 if axis in added else next(sizes) for axis in range(total)))


def _concat(operands: Operands, attributes: Attributes, _version: int) -> Any:
    like = next(each for each in operands if isinstance(each, SecretArray))
    return arrays.concatenate([_secret(each, like) for each in operands], attributes["axis"])


def _slice(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    parts = [_public(each, "a slice").reshape(-1) if each is not None else None for each in operands[1:]]
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
        sizes = [int(part) for part in _public(operands[1], "a split")]
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
    indices = _public(operands[1], "an index").astype(np.int64)
    place = axis % x.ndim
    return x[(*(slice(None),) * place, indices)]


def _expand(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    asked = tuple(int(size) for size in _public(operands[1], "a shape"))
    return x.broadcast_to(*np.broadcast_shapes(x.shape, asked))


def _tile(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    for axis, times in enumerate(_public(operands[1], "a number of repeats")):
        x = arrays.concatenate([x] * int(times), axis)
    return x


def _pad(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    mode = attributes.get("mode", b"constant")
    if mode != b"constant":
        raise InvalidInput("secret arrays are padded with a constant only")
    pads = _public(operands[1], "a padding").reshape(-1)
    fill = (
        float(_public(operands[2], "a filling").reshape(-1)[0])
        if len(operands) > 2 and operands[2] is not None
        else 0.0
    )
    axes = (
        _public(operands[3], "an axis").reshape(-1) if len(operands) > 3 and operands[3] is not None else range(x.ndim)
    )
    amounts = [(0, 0)] * x.ndim
    for number, axis in enumerate(axes):
        amounts[int(axis)] = (int(pads[number]), int(pads[number + len(pads) // 2]))
    return _padded(x, amounts, fill)


def _padded(x: SecretArray, amounts: Sequence[tuple[int, int]], fill: float) -> SecretArray:
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


# ----------------------------------------------------------------------------------------------------- reductions


def _reduced(function: Callable[[SecretArray, int], SecretArray]) -> Operator:
    def reduce_axes(operands: Operands, attributes: Attributes, _version: int) -> Any:
        x = operands[0]
        axes = _axes(operands, attributes, x.ndim)
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
    axis = int(_public(operands[1], "an axis"))
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


# ----------------------------------------------------------------------------------------------------- linear algebra


def _matrix_product(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    left, right = _both(operands)
    if left.ndim <= 2 and right.ndim <= 2:
        return left @ right
    if right.ndim == 2:
        return (left.reshape(-1, left.shape[-1]) @ right).reshape(*left.shape[:-1], right.shape[1])
    if left.ndim == 1:
        product = _matrix_product([left.reshape(1, -1), right], _attributes, _version)
        return product.reshape(*product.shape[:-2], product.shape[-1])
    if right.ndim == 1:
        product = _matrix_product([left, right.reshape(-1, 1)], _attributes, _version)
        return product.reshape(*product.shape[:-1])
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    first = left.broadcast_to(*batch, *left.shape[-2:]).reshape(-1, *left.shape[-2:])
    second = right.broadcast_to(*batch, *right.shape[-2:]).reshape(-1, *right.shape[-2:])
    products = arrays.stack([first[number] @ second[number] for number in range(first.shape[0])])
    return products.reshape(*batch, left.shape[-2], right.shape[-1])


def _general_product(operands: Operands, attributes: Attributes, _version: int) -> Any:
    left, right = _both(operands)
    product = (left.T if attributes.get("transA", 0) else left) @ (right.T if attributes.get("transB", 0) else right)
    product = product if attributes.get("alpha", 1.0) == 1.0 else product.times(attributes["alpha"])
    if len(operands) < 3 or operands[2] is None:
        return product
    addend = operands[2]
    beta = attributes.get("beta", 1.0)
    return product + (addend if beta == 1.0 else addend * beta)


def _windows(
    x: SecretArray, kernel: Sequence[int], attributes: Attributes, fill: float
) -> tuple[SecretArray, tuple[int, ...], np.ndarray]:
    """Patches (N, C, *places, *kernel) of (N, C, *sizes); sizes of the places; how many lie inside, by place."""
    dimensions = len(kernel)
    strides = attributes.get("strides", [1] * dimensions)
    dilations = attributes.get("dilations", [1] * dimensions)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    pads = _pads(x.shape[2:], spans, strides, attributes)
    padded = _padded(x, [(0, 0), (0, 0), *pads], fill)
    inside = np.pad(np.ones(x.shape[2:]), pads)
    places = tuple(
        (size - span) // stride + 1 for size, span, stride in zip(padded.shape[2:], spans, strides, strict=True)
    )
    index = []
    for axis in range(dimensions):
        start = np.arange(places[axis]) * strides[axis]
        offset = np.arange(kernel[axis]) * dilations[axis]
        grid = start[:, None] + offset[None, :]
        shape = [1] * (2 * dimensions)
        shape[axis], shape[dimensions + axis] = grid.shape
        index.append(grid.reshape(shape))
    patches = padded[(slice(None), slice(None), *index)]
    kernel_axes = tuple(range(dimensions, 2 * dimensions))
    return patches, places, inside[tuple(index)].sum(axis=kernel_axes)


def _pads(
    sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], attributes: Attributes
) -> list[tuple[int, int]]:
    automatic = attributes.get("auto_pad", b"NOTSET")
    if automatic in (b"NOTSET", b"VALID"):
        given = attributes.get("pads", [0] * (2 * len(sizes))) if automatic == b"NOTSET" else [0] * (2 * len(sizes))
        return [(given[axis], given[axis + len(sizes)]) for axis in range(len(sizes))]
    pads = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + span - size)
        small = total // 2
        pads.append((small, total - small) if automatic == b"SAME_UPPER" else (total - small, small))
    return pads


def _convolution(operands: Operands, attributes: Attributes, _version: int) -> Any:
    weights = operands[1]
    like = operands[0] if isinstance(operands[0], SecretArray) else weights
    x = _secret(operands[0], like)
    kernel = weights.shape[2:]
    patches, places, _ = _windows(x, kernel, attributes, 0.0)
    groups, outputs = attributes.get("group", 1), weights.shape[0]
    count, dimensions, size = x.shape[0], len(kernel), prod(weights.shape[1:])
    order = (0, *range(2, 2 + dimensions), 1, *range(2 + dimensions, 2 + 2 * dimensions))
    columns = patches.transpose(*order).reshape(count * prod(places), groups, size)
    filters = weights.reshape(groups, outputs // groups, size)
    parts = [columns[:, group] @ filters[group].T for group in range(groups)]
    flat = parts[0] if groups == 1 else arrays.concatenate(parts, 1)
    result = flat.reshape(count, *places, outputs).transpose(0, 1 + dimensions, *range(1, 1 + dimensions))
    if len(operands) < 3 or operands[2] is None:
        return result
    return result + operands[2].reshape(1, -1, *(1,) * dimensions)


def _largest_pool(operands: Operands, attributes: Attributes, _version: int) -> Any:
    if attributes.get("ceil_mode", 0):
        raise InvalidInput("pooling on secrets rounds its size down")
    x, kernel = operands[0], attributes["kernel_shape"]
    # A padded place must never win; half of what the precision can hold is below every number that fits.
    patches, places, _ = _windows(x, kernel, attributes, -(2.0**14) if _is_padded(attributes) else 0.0)
    return ordering.largest(patches.reshape(*x.shape[:2], *places, prod(kernel)), -1)


def _is_padded(attributes: Attributes) -> bool:
    return any(attributes.get("pads", ())) or attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER")


def _average_pool(operands: Operands, attributes: Attributes, _version: int) -> Any:
    if attributes.get("ceil_mode", 0):
        raise InvalidInput("pooling on secrets rounds its size down")
    x, kernel = operands[0], attributes["kernel_shape"]
    patches, places, inside = _windows(x, kernel, attributes, 0.0)
    total = patches.reshape(*x.shape[:2], *places, prod(kernel)).sum(-1)
    divisor = np.full(places, prod(kernel)) if attributes.get("count_include_pad", 0) else inside
    return total.times(1.0 / divisor)


def _global_average(x: SecretArray) -> SecretArray:
    return x.reshape(*x.shape[:2], -1).mean(2).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))


def _global_largest(x: SecretArray) -> SecretArray:
    return ordering.largest(x.reshape(*x.shape[:2], -1), 2).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))


def _batch_normalisation(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x, scale, bias, mean, variance = operands[:5]
    if attributes.get("training_mode", 0):
        raise InvalidInput("batch normalisation runs on secrets as in inference, with its stored mean and variance")
    shape = (1, -1, *(1,) * (x.ndim - 2))
    factor = _public(scale, "a scale") / np.sqrt(_public(variance, "a variance") + attributes.get("epsilon", 1e-5))
    shift = _public(bias, "a bias") - _public(mean, "a mean") * factor
    return x.times(factor.reshape(shape)) + shift.reshape(shape)


def _choose(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    condition, first, second = operands
    like = next(each for each in operands if isinstance(each, SecretArray))
    if not isinstance(condition, SecretArray):
        mask = np.asarray(condition).astype(float)
        return _secret(first, like) * mask + _secret(second, like) * (1.0 - mask)
    return where(condition, _secret(first, like), _secret(second, like))


# ----------------------------------------------------------------------------------------------------- classic models


def _scaler(operands: Operands, attributes: Attributes, _version: int) -> Any:
    return (operands[0] - np.array(attributes["offset"])).times(np.array(attributes["scale"]))


def _linear_regressor(operands: Operands, attributes: Attributes, _version: int) -> Any:
    targets = attributes.get("targets", 1)
    if attributes.get("post_transform", b"NONE") != b"NONE":
        raise InvalidInput("a linear regressor runs on secrets without a transform behind it")
    coefficients = np.array(attributes["coefficients"]).reshape(targets, -1)
    return operands[0] @ coefficients.T + np.array(attributes.get("intercepts", [0.0] * targets))


def _cast(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x, to = operands[0], attributes["to"]
    if to == _BOOLEAN and not x.is_bit:
        return x != 0.0
    if to not in (*_FLOATS, _BOOLEAN) and x.precision:
        raise InvalidInput("secret fractions are not rounded to whole or coarser numbers; leave the cast out")
    return x


_FLOATS: Final = (1, 10, 11, 16)
_BOOLEAN: Final = 9
"""Numbers of ONNX's element types: 32-, 16- and 64-bit floats and bfloat16; bool."""


def _dropout(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    if len(operands) > 2 and operands[2] is not None and _public(operands[2], "the training mode").any():
        raise InvalidInput("dropout runs on secrets as in inference, where it drops nothing")
    return operands[0]


OPERATORS: Final[dict[str, Operator]] = {
    "Abs": _unary(abs),
    "Add": _binary(lambda x, y: x + y),
    "And": _binary(lambda x, y: x & y),
    "ArgMax": _place(ordering.index_of_largest),
    "ArgMin": _place(ordering.index_of_smallest),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalisation,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "CumSum": _running_sum,
    "Div": _divide,
    "Dropout": _dropout,
    "Elu": _exponential_unit,
    "Equal": _binary(lambda x, y: x == y),
    "Exp": _unary(arrays.exponential),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _general_product,
    "GlobalAveragePool": _unary(_global_average),
    "GlobalMaxPool": _unary(_global_largest),
    "Greater": _binary(lambda x, y: x > y),
    "GreaterOrEqual": _binary(lambda x, y: x >= y),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(_hard_swish),
    "Identity": _unary(lambda x: x),
    "LeakyRelu": _leaky,
    "Less": _binary(lambda x, y: x < y),
    "LessOrEqual": _binary(lambda x, y: x <= y),
    "Log": _unary(lambda x: arrays.logarithm(x, SMALLEST)),
    "LogSoftmax": _log_softmax,
    "MatMul": _matrix_product,
    "Max": _folded(arrays.maximum),
    "MaxPool": _largest_pool,
    "Mean": lambda operands, attributes, version: _folded(lambda x, y: x + y)(operands, attributes, version).times(
        1.0 / len(operands)
    ),
    "Min": _folded(arrays.minimum),
    "Mul": _binary(lambda x, y: x * y),
    "Neg": _unary(lambda x: -x),
    "Not": _unary(lambda x: ~x),
    "Or": _binary(lambda x, y: x | y),
    "PRelu": _parametric,
    "Pad": _pad,
    "Pow": _power,
    "Reciprocal": _unary(lambda x: 1.0 / x),
    "ReduceL1": _reduced(lambda x, axis: abs(x).sum(axis)),
    "ReduceMax": _reduced(ordering.largest),
    "ReduceMean": _reduced(lambda x, axis: x.mean(axis)),
    "ReduceMin": _reduced(ordering.smallest),
    "ReduceSum": _reduced(lambda x, axis: x.sum(axis)),
    "ReduceSumSquare": lambda operands, attributes, version: _reduced(lambda x, axis: x.sum(axis))(
        [operands[0] * operands[0], *operands[1:]], attributes, version
    ),
    "Relu": _unary(arrays.relu),
    "Reshape": _reshape,
    "Sigmoid": _unary(arrays.sigmoid),
    "Sign": _unary(_sign),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": _unary(lambda x: arrays.square_root(x, SMALLEST)),
    "Squeeze": _squeeze,
    "Sub": _binary(lambda x, y: x - y),
    "Sum": _folded(lambda x, y: x + y),
    "Tanh": _unary(_tanh),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _choose,
    "Xor": _binary(lambda x, y: x ^ y),
    "ai.onnx.ml.LinearRegressor": _linear_regressor,
    "ai.onnx.ml.Scaler": _scaler,
}
