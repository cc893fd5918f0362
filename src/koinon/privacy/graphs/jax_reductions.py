"""JAX's reductions, running sums and windows on secrets."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import ordering
from koinon.privacy.arrays import SecretArray, concatenate
from koinon.privacy.graphs.jax_layout import added_at
from koinon.privacy.graphs.jax_values import Hidden, Rule, Step, Value, first_hidden, hidden, product_of


def _flattened(x: Hidden, axes: tuple[int, ...]) -> SecretArray:
    """The array with ``axes`` merged into one last axis."""
    rest = tuple(axis for axis in range(len(x.shape)) if axis not in axes)
    order = (*rest, *axes)
    shape = (*(x.shape[axis] for axis in rest), prod(x.shape[axis] for axis in axes))
    return x.array.rearranged(lambda words: words.transpose(order).reshape(shape))


def _axes(step: Step) -> tuple[int, ...]:
    return tuple(int(axis) for axis in step.parameters["axes"])


def _sum(step: Step, x: Hidden) -> Value:
    axes = _axes(step)
    count = prod(x.shape[axis] for axis in axes)
    total = _flattened(x, axes).sum(-1)
    low = x.low * count if count else 0.0
    # Where the largest number along these axes is known to be there, the others can only add to it.
    if x.peak_axes and set(x.peak_axes) == set(axes) and x.low >= 0.0:
        low = max(low, 0.99)
    return Hidden(total, low, x.high * count if count else 0.0, x.whole)


def _extreme(function: Callable[[SecretArray, int], SecretArray], sign: int) -> Rule:
    def found(step: Step, x: Hidden) -> Value:
        axes = _axes(step)
        result = Hidden(function(_flattened(x, axes), -1), x.low, x.high, x.whole)
        if sign < 0:
            return result
        shape = result.shape
        return replace(result, top_of=x.array.node, top_axes=axes, top_map=np.arange(prod(shape)).reshape(shape))

    return found


def _place(function: Callable[[SecretArray, int], SecretArray]) -> Rule:
    def found(step: Step, x: Hidden) -> Value:
        axes = _axes(step)
        return Hidden(function(_flattened(x, axes), -1), 0.0, float(x.shape[axes[0]] - 1), whole=True)

    return found


def _product(step: Step, x: Hidden) -> Value:
    parts = _flattened(x, _axes(step))
    while (count := parts.shape[-1]) > 1:
        even = count - count % 2
        pairs = product_of(step, parts[..., 0:even:2], parts[..., 1:even:2])
        if count % 2:
            pairs = concatenate([pairs, parts[..., even:]], -1)
        parts = pairs
    return Hidden(parts[..., 0], 0.0 if x.low >= 0 else -np.inf, whole=x.whole)


def _any(step: Step, x: Hidden) -> Value:
    return Hidden(_flattened(x, _axes(step)).sum(-1) > 0.5, 0.0, 1.0, whole=True)


def _all(step: Step, x: Hidden) -> Value:
    missing = (~_flattened(x, _axes(step))).sum(-1)
    return Hidden(missing < 0.5, 0.0, 1.0, whole=True)


def _running_sum(step: Step, x: Hidden) -> Value:
    axis, backwards = step.parameters["axis"], step.parameters["reverse"]
    array = x.array.rearranged(lambda words: np.flip(words, axis)) if backwards else x.array
    total = array.cumsum(axis)
    found = total.rearranged(lambda words: np.flip(words, axis)) if backwards else total
    size = x.shape[axis]
    return Hidden(found, min(x.low, x.low * size), max(x.high, x.high * size), x.whole)


# ----------------------------------------------------------------------------------------------------- windows


def window_positions(step: Step, shape: tuple[int, ...]) -> np.ndarray:
    """(*places, window) flat positions in an array of ``shape``; −1 where the window reaches over its edge."""
    settings = step.parameters
    sizes, strides = settings["window_dimensions"], settings["window_strides"]
    spread = settings.get("window_dilation") or (1,) * len(shape)
    base = settings.get("base_dilation") or (1,) * len(shape)
    if any(each != 1 for each in base):
        raise InvalidInput("windows over a stretched array do not run on secrets")
    positions = np.pad(np.arange(prod(shape)).reshape(shape), settings["padding"], constant_values=-1)
    index = []
    for axis, (size, stride, gap) in enumerate(zip(sizes, strides, spread, strict=True)):
        count = (positions.shape[axis] - ((size - 1) * gap + 1)) // stride + 1
        grid = np.arange(count)[:, None] * stride + np.arange(size)[None, :] * gap
        outline = [1] * (2 * len(shape))
        outline[axis], outline[len(shape) + axis] = grid.shape
        index.append(grid.reshape(outline))
    found: np.ndarray = positions[tuple(index)]
    return found.reshape(*found.shape[: len(shape)], -1)


def _inner(positions: np.ndarray) -> np.ndarray:
    """Positions with those over the edge replaced by one inside the same window: the largest stays the largest."""
    inside = np.take_along_axis(positions, (positions >= 0).argmax(-1)[..., None], -1)
    if (inside < 0).any():
        raise InvalidInput("a window lies wholly outside the array")
    return np.where(positions < 0, inside, positions)


def _window_extreme(function: Callable[[SecretArray, int], SecretArray]) -> Rule:
    def found(step: Step, x: Hidden) -> Value:
        index = _inner(window_positions(step, x.shape))
        patches = x.array.rearranged(lambda words: words.reshape(-1)[index])
        return Hidden(function(patches, -1), x.low, x.high, x.whole)

    return found


def _window_sum(step: Step, x: Hidden) -> Value:
    index = window_positions(step, x.shape)
    places = np.broadcast_to(np.arange(prod(index.shape[:-1])).reshape(*index.shape[:-1], 1), index.shape)
    used = index >= 0
    size, patch = prod(x.shape), index[used]
    spread = x.array.rearranged(lambda words: words.reshape(size)[patch])
    total = added_at(spread, places[used].ravel(), index.shape[:-1])
    count = index.shape[-1]
    return Hidden(total, min(x.low * count, 0.0), max(x.high * count, 0.0), x.whole)


def _sent_to_the_chosen(step: Step, source: Value, operand: Value) -> Value:
    """Each number of ``source`` goes to where its window's largest (or smallest) number stood; the first of equals."""
    like = first_hidden((source, operand))
    sent, looked_at = hidden(source, like), hidden(operand, like)
    index = _inner(window_positions(step, looked_at.shape))
    patches = looked_at.array.rearranged(lambda words: words.reshape(-1)[index])
    name = getattr(step.parameters["select_prim"], "name", "")
    if name not in ("ge", "le"):
        raise InvalidInput(f"numbers are sent to the largest or smallest of a window; got {name!r}")
    find = ordering.index_of_largest if name == "ge" else ordering.index_of_smallest
    mask = ordering.one_hot(find(patches, -1), index.shape[-1])
    moved = mask * sent.array.reshape(*sent.shape, 1)
    return Hidden(added_at(moved, index.ravel(), looked_at.shape))


REDUCTIONS: Final[dict[str, Rule]] = {
    "argmax": _place(ordering.index_of_largest),
    "argmin": _place(ordering.index_of_smallest),
    "cumsum": _running_sum,
    "reduce_and": _all,
    "reduce_max": _extreme(ordering.largest, 1),
    "reduce_min": _extreme(ordering.smallest, -1),
    "reduce_or": _any,
    "reduce_prod": _product,
    "reduce_sum": _sum,
    "reduce_window_max": _window_extreme(ordering.largest),
    "reduce_window_min": _window_extreme(ordering.smallest),
    "reduce_window_sum": _window_sum,
    "select_and_scatter_add": _sent_to_the_chosen,
}
