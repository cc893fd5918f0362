"""ONNX operators of linear algebra and images: products, convolutions, pooling, normalisation."""

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays, ordering
from koinon.privacy.arrays import SecretArray
from koinon.privacy.graphs.onnx_layout import padded
from koinon.privacy.graphs.onnx_operands import (
    Attributes,
    Operands,
    Operator,
    both,
    public,
    secret,
    unary,
)


def _matrix_product(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    left, right = both(operands)
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
    left, right = both(operands)
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
    grown = padded(x, [(0, 0), (0, 0), *pads], fill)
    inside = np.pad(np.ones(x.shape[2:]), pads)
    places = tuple(
        (size - span) // stride + 1 for size, span, stride in zip(grown.shape[2:], spans, strides, strict=True)
    )
    index = []
    for axis in range(dimensions):
        start = np.arange(places[axis]) * strides[axis]
        offset = np.arange(kernel[axis]) * dilations[axis]
        grid = start[:, None] + offset[None, :]
        shape = [1] * (2 * dimensions)
        shape[axis], shape[dimensions + axis] = grid.shape
        index.append(grid.reshape(shape))
    patches = grown[(slice(None), slice(None), *index)]
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
    x = secret(operands[0], like)
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
    patches, places, _ = _windows(x, kernel, attributes, -(2.0**14) if _ispadded(attributes) else 0.0)
    return ordering.largest(patches.reshape(*x.shape[:2], *places, prod(kernel)), -1)


def _ispadded(attributes: Attributes) -> bool:
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
    factor = public(scale, "a scale") / np.sqrt(public(variance, "a variance") + attributes.get("epsilon", 1e-5))
    shift = public(bias, "a bias") - public(mean, "a mean") * factor
    return x.times(factor.reshape(shape)) + shift.reshape(shape)


PRODUCTS: Final[dict[str, Operator]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalisation,
    "Conv": _convolution,
    "Gemm": _general_product,
    "GlobalAveragePool": unary(_global_average),
    "GlobalMaxPool": unary(_global_largest),
    "MatMul": _matrix_product,
    "MaxPool": _largest_pool,
}
