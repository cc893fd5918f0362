"""Where gather reads and scatter writes, as positions: XLA's definition of both, on public indices.

Source: OpenXLA operation semantics, "Gather" and "Scatter".
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np


def gathered_places(shape: tuple[int, ...], indices: np.ndarray, settings: Any) -> np.ndarray:
    """Flat positions in an array of ``shape`` that each place of the result reads; −1 beyond its end."""
    numbers, sizes = settings["dimension_numbers"], settings["slice_sizes"]
    left_out = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    places = _places(shape, indices, sizes, left_out, numbers.start_index_map, numbers[3:], mode_of(settings) == "CLIP")
    batch = indices.ndim - 1
    rest = [axis for axis in range(places.ndim) if axis not in numbers.offset_dims]
    order = [0] * places.ndim
    for number, axis in enumerate(rest):
        order[axis] = number
    for number, axis in enumerate(numbers.offset_dims):
        order[axis] = batch + number
    return places.transpose(order)


def scattered_places(
    shape: tuple[int, ...], indices: np.ndarray, updates: tuple[int, ...], settings: Any
) -> np.ndarray:
    """(*updates,) flat positions in an array of ``shape`` to which each number is sent; −1 where it is left out."""
    numbers = settings["dimension_numbers"]
    left_out = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    written = iter(numbers.update_window_dims)
    sizes = [1 if axis in left_out else updates[next(written)] for axis in range(len(shape))]
    named = numbers.scatter_dims_to_operand_dims
    places = _places(shape, indices, sizes, left_out, named, numbers[3:], mode_of(settings) == "CLIP", whole=True)
    batch = indices.ndim - 1
    rest = [axis for axis in range(len(updates)) if axis not in numbers.update_window_dims]
    order = [0] * len(updates)
    for number, axis in enumerate(rest):
        order[axis] = number
    for number, axis in enumerate(numbers.update_window_dims):
        order[axis] = batch + number
    return places.transpose(order)


def mode_of(settings: Any) -> str:
    """What becomes of places beyond the end; JAX has an enumeration for what is written as its name."""
    mode = settings["mode"]
    return mode if isinstance(mode, str) else str(mode.name)


def _places(
    shape: tuple[int, ...],
    indices: np.ndarray,
    sizes: Sequence[int],
    left_out: Sequence[int],
    named: Sequence[int],
    batched: Sequence[Sequence[int]],
    clipped: bool,
    *,
    whole: bool = False,
) -> np.ndarray:
    """(*batch, *window) flat positions; −1 beyond the end, for the whole window if ``whole``."""
    batch, dimensions = indices.shape[:-1], len(shape)
    starts = np.zeros((*batch, dimensions), np.int64)
    for number, axis in enumerate(named):
        starts[..., axis] = indices[..., number]
    for axis, along in zip(*batched, strict=True):
        line = [1] * len(batch)
        line[along] = batch[along]
        starts[..., axis] = np.arange(batch[along]).reshape(line)
    room = np.array(shape) - np.array(sizes, np.int64)
    inside = ((starts >= 0) & (starts <= room)).all(-1)
    if clipped:
        starts, inside = np.clip(starts, 0, room), np.ones(batch, np.bool_)
    window = [size for axis, size in enumerate(sizes) if axis not in left_out]
    result = np.zeros((*batch, *window), np.int64)
    reached = np.ones(result.shape, np.bool_)
    kept = iter(range(len(window)))
    for axis in range(dimensions):
        step = prod(shape[axis + 1 :])
        at = starts[..., axis].reshape(*batch, *(1 for _ in window))
        if axis not in left_out:
            line = [1] * len(window)
            place = next(kept)
            line[place] = window[place]
            at = at + np.arange(window[place]).reshape(line)
        reached &= (at >= 0) & (at < shape[axis])
        result += at * step
    if whole:
        reached &= inside.reshape(*batch, *(1 for _ in window))
    return np.where(reached, result, -1)
