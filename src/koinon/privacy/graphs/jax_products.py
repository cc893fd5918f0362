"""JAX's contractions on secrets: products over any axes, and convolutions as matrix products of patches."""

from collections.abc import Sequence
from math import prod
from typing import Final

import numpy as np

from koinon.privacy import arrays
from koinon.privacy.arrays import SecretArray
from koinon.privacy.graphs.jax_values import Hidden, Rule, Step, Value, corners, first_hidden, hidden, product_of
from koinon.privacy.secret import Product

_MOST_ELEMENTWISE: Final = 1 << 22
"""Products of many small matrices at once hold all their terms; beyond this, they are multiplied one by one."""


def _contracted(step: Step, left: Value, right: Value) -> Value:
    """dot_general: (batch, rows, k) × (batch, k, columns)."""
    (left_over, right_over), (left_batch, right_batch) = step.parameters["dimension_numbers"]
    like = first_hidden((left, right))
    one, two = hidden(left, like), hidden(right, like)
    first, rows = _matrices(one.array, left_batch, left_over, contracted_last=True)
    second, columns = _matrices(two.array, right_batch, right_over, contracted_last=False)
    batch = tuple(one.shape[axis] for axis in left_batch)
    terms = first.shape[2]
    low, high = corners((one.low, one.high), (two.low, two.high))
    products = batched_product(step, first, second) if terms else None
    shape = (*batch, *rows, *columns)
    if products is None:
        return np.zeros(shape)
    return Hidden(products.reshape(*shape), min(low * terms, low), max(high * terms, high), one.whole and two.whole)


def batched_product(step: Step, first: SecretArray, second: SecretArray) -> SecretArray:
    """(b, m, k) × (b, k, n) → (b, m, n)."""
    count, rows, terms = first.shape
    columns = second.shape[2]
    if count == 1:
        return product_of(step, first[0], second[0], Product.MATRIX, terms).reshape(1, rows, columns)
    if count * rows * terms * columns <= _MOST_ELEMENTWISE:
        shape = (terms, count, rows, columns)
        left = first.rearranged(lambda words: np.broadcast_to(words.transpose(2, 0, 1)[..., None], shape))
        right = second.rearranged(lambda words: np.broadcast_to(words.transpose(1, 0, 2)[:, :, None, :], shape))
        return product_of(step, left, right, Product.COLUMN_DOT, terms)
    return arrays.stack(
        [product_of(step, first[number], second[number], Product.MATRIX, terms) for number in range(count)]
    )


def _matrices(
    array: SecretArray, batch: Sequence[int], over: Sequence[int], *, contracted_last: bool
) -> tuple[SecretArray, tuple[int, ...]]:
    """The array as (batch, free, contracted) or (batch, contracted, free), and the sizes of its free axes."""
    free = [axis for axis in range(array.ndim) if axis not in (*batch, *over)]
    order = (*batch, *free, *over) if contracted_last else (*batch, *over, *free)
    count, kept, summed = (prod(array.shape[axis] for axis in axes) for axes in (batch, free, over))
    shape = (count, kept, summed) if contracted_last else (count, summed, kept)
    return array.rearranged(lambda words: words.transpose(order).reshape(shape)), tuple(array.shape[a] for a in free)


def _convolved(step: Step, left: Value, right: Value) -> Value:
    settings = step.parameters
    like = first_hidden((left, right))
    numbers = settings["dimension_numbers"]
    images, kernels = hidden(left, like), hidden(right, like)
    x = images.array.rearranged(lambda words: words.transpose(numbers.lhs_spec))
    w = kernels.array.rearranged(lambda words: words.transpose(numbers.rhs_spec))
    index = patch_positions(
        x.shape,
        w.shape[2:],
        strides=settings["window_strides"],
        padding=settings["padding"],
        stretched=settings["lhs_dilation"],
        spread=settings["rhs_dilation"],
    )
    if (index < 0).any():
        x = arrays.concatenate([x.ravel(), arrays.constant_like(x, np.zeros(1))])
    groups, batches = settings["feature_group_count"], settings["batch_group_count"]
    channels, outputs = index.shape[1] // groups, w.shape[0] // (groups * batches)
    count = index.shape[0] // batches
    places = index.shape[2 : 2 + len(w.shape) - 2]
    parts = []
    for number in range(groups * batches):
        group, part = (number, 0) if batches == 1 else (0, number)
        chosen = index[part * count : (part + 1) * count, group * channels : (group + 1) * channels]
        order = (0, *range(2, 2 + len(places)), 1, *range(2 + len(places), chosen.ndim))
        rows = chosen.transpose(order).reshape(count * prod(places), -1)
        patches = x.ravel()[rows]
        filters = w[number * outputs : (number + 1) * outputs].reshape(outputs, -1)
        parts.append(product_of(step, patches, filters.T, Product.MATRIX, rows.shape[1]))
    flat = parts[0] if len(parts) == 1 else arrays.concatenate(parts, 1)
    back = np.argsort(numbers.out_spec)
    shape = (count, *places, flat.shape[1])
    result = flat.rearranged(
        lambda words: words.reshape(shape).transpose(0, len(places) + 1, *range(1, len(places) + 1)).transpose(back)
    )
    low, high = corners((images.low, images.high), (kernels.low, kernels.high))
    terms = prod(w.shape[1:])
    return Hidden(result, min(low * terms, 0.0), max(high * terms, 0.0), images.whole and kernels.whole)


def patch_positions(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    *,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    stretched: Sequence[int],
    spread: Sequence[int],
) -> np.ndarray:
    """(n, channels, *places, *kernel) flat positions in images (n, channels, *sizes); −1 for what is padded.

    Args:
        stretched: distance of neighbouring pixels, with padding between them.
        spread: distance of neighbouring taps of the kernel.
    """
    positions = np.arange(prod(shape)).reshape(shape)
    for axis, step in enumerate(stretched, start=2):
        if step != 1:
            sizes = list(positions.shape)
            sizes[axis] = max((sizes[axis] - 1) * step + 1, 0)
            wide = np.full(sizes, -1)
            wide[(slice(None),) * axis + (slice(None, None, step),)] = positions
            positions = wide
    cut = [slice(None), slice(None)]
    for axis, (before, after) in enumerate(padding, start=2):
        cut.append(slice(max(-before, 0), positions.shape[axis] - max(-after, 0)))
    grown = [(0, 0), (0, 0), *((max(before, 0), max(after, 0)) for before, after in padding)]
    positions = np.pad(positions[tuple(cut)], grown, constant_values=-1)
    dimensions = len(kernel)
    index: list[np.ndarray | slice] = [slice(None), slice(None)]
    for axis in range(dimensions):
        span = (kernel[axis] - 1) * spread[axis] + 1
        count = (positions.shape[2 + axis] - span) // strides[axis] + 1
        grid = np.arange(count)[:, None] * strides[axis] + np.arange(kernel[axis])[None, :] * spread[axis]
        outline = [1] * (2 * dimensions)
        outline[axis], outline[dimensions + axis] = grid.shape
        index.append(grid.reshape(outline))
    found: np.ndarray = positions[tuple(index)]
    return found


PRODUCTS: Final[dict[str, Rule]] = {
    "conv_general_dilated": _convolved,
    "dot_general": _contracted,
}
