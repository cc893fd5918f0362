"""JAX's primitives that only move numbers: where each goes is public, so nothing here costs a message.

What has a complicated definition (gather, dynamic_slice, pad) is asked where it puts the *positions* of the numbers:
JAX itself computes that on public integers, and the secret follows.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays, ordering
from koinon.privacy.arrays import SecretArray
from koinon.privacy.graph import Node
from koinon.privacy.graphs.function_places import scattered_places
from koinon.privacy.graphs.jax_values import Hidden, Rule, Step, Value, first_hidden, hidden, interval, plain
from koinon.privacy.secret import Secret


def _reshaped(step: Step, x: Hidden) -> Value:
    return x.moved(lambda words: words.reshape(step.shapes[0]))


def _transposed(step: Step, x: Hidden) -> Value:
    return x.moved(lambda words: words.transpose(step.parameters["permutation"]))


def _broadcast(step: Step, x: Hidden, *_: Value) -> Value:
    shape, places = step.shapes[0], step.parameters["broadcast_dimensions"]
    sizes = [1] * len(shape)
    for place, size in zip(places, x.shape, strict=True):
        sizes[place] = size
    return x.moved(lambda words: np.broadcast_to(words.reshape(sizes), shape))


def _reversed(step: Step, x: Hidden) -> Value:
    axes = tuple(step.parameters["dimensions"])
    return x.moved(lambda words: np.flip(words, axes))


def _sliced(step: Step, x: Hidden) -> Value:
    starts, stops = step.parameters["start_indices"], step.parameters["limit_indices"]
    strides = step.parameters["strides"] or [1] * len(starts)
    index = tuple(slice(a, b, c) for a, b, c in zip(starts, stops, strides, strict=True))
    return x.moved(lambda words: words[index])


def _split(step: Step, x: Hidden) -> Value:
    axis = step.parameters["axis"]
    ends = np.cumsum(step.parameters["sizes"])[:-1]

    def part(number: int) -> Hidden:
        return x.moved(lambda words: np.split(words, ends, axis)[number])

    return tuple(part(number) for number in range(len(ends) + 1))


def _concatenated(step: Step, *parts: Value) -> Value:
    like = first_hidden(parts)
    reach = min(interval(part)[0] for part in parts), max(interval(part)[1] for part in parts)
    found = [hidden(part, like) for part in parts]
    joined = arrays.concatenate([part.array for part in found], step.parameters["dimension"])
    return Hidden(joined, *reach, all(part.whole for part in found))


def _moved_like_positions(step: Step, x: Value, *others: Value) -> Value:
    """For primitives that take numbers from their first operand alone, at places the public others decide."""
    if not isinstance(x, Hidden):
        return _looked_up(step, x, *others)
    positions = np.arange(prod(x.shape), dtype=np.int32).reshape(x.shape)
    index = np.asarray(step.public(positions, *(plain(other, "an index") for other in others)))
    if (index < 0).any():
        raise InvalidInput(f"{step.name} reads beyond the end of a secret array")
    return x.moved(lambda words: words.reshape(-1)[index])


def _looked_up(step: Step, table: Value, codes: Value) -> Value:
    """Rows of a table that secret codes name; of gathers, this is the one a secret index may do."""
    numbers: Any = step.parameters.get("dimension_numbers")
    rows = np.asarray(table)
    sizes = tuple(step.parameters.get("slice_sizes", ()))
    taken = (
        step.name == "gather"
        and tuple(numbers.start_index_map) == (0,)
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and sizes == (1, *rows.shape[1:])
        and rows.ndim in (1, 2)
    )
    if not taken or not isinstance(codes, Hidden):
        raise InvalidInput("a secret index looks up whole rows along axis 0 and nothing else")
    found = ordering.looked_up(codes.array.ravel(), rows)
    return Hidden(found.reshape(*step.shapes[0]), *interval(table))


def _padded(step: Step, x: Value, filling: Value) -> Value:
    like = first_hidden((x, filling))
    content, border = hidden(x, like), hidden(filling, like)
    size = prod(content.shape)
    positions = np.arange(size, dtype=np.int32).reshape(content.shape)
    index = np.asarray(step.public(positions, np.int32(size)))
    joined = arrays.concatenate([content.array.reshape(size), border.array.reshape(1)])
    reach = min(content.low, border.low), max(content.high, border.high)
    return Hidden(joined.rearranged(lambda words: words[index]), *reach, content.whole and border.whole)


def _replaced(step: Step, x: Value, part: Value, *index: Value) -> Value:
    """dynamic_update_slice: one operand's numbers in place of some of the other's."""
    return _merged(step, x, part, lambda old, new: step.public(old, new, *(plain(each, "an index") for each in index)))


def _scattered(step: Step, x: Value, index: Value, part: Value) -> Value:
    return _merged(step, x, part, lambda old, new: step.public(old, plain(index, "an index"), new))


def _merged(step: Step, x: Value, part: Value, place: Any) -> Value:
    del step
    like = first_hidden((x, part))
    old, new = hidden(x, like), hidden(part, like)
    size, more = prod(old.shape), prod(new.shape)
    before = np.arange(size, dtype=np.int32).reshape(old.shape)
    after = np.arange(size, size + more, dtype=np.int32).reshape(new.shape)
    index = np.asarray(place(before, after))
    joined = arrays.concatenate([old.array.reshape(size), new.array.reshape(more)])
    reach = min(old.low, new.low), max(old.high, new.high)
    return Hidden(joined.rearranged(lambda words: words[index]), *reach, old.whole and new.whole)


def _scatter_added(step: Step, x: Value, index: Value, part: Value) -> Value:
    """x plus each number of ``part`` at the place it is sent to; what falls outside is left out."""
    like = first_hidden((x, part))
    old, new = hidden(x, like), hidden(part, like)
    target = scattered_places(old.shape, plain(index, "an index"), new.shape, step.parameters).ravel()
    return Hidden(old.array + added_at(new.array, target, old.shape), whole=old.whole and new.whole)


def added_at(array: SecretArray, target: np.ndarray, shape: tuple[int, ...]) -> SecretArray:
    """Zeros of ``shape`` with every number of ``array`` added at its flat target; those of targets below 0 are not."""
    used = np.flatnonzero(target >= 0)
    size = prod(shape)
    most = int(np.bincount(target[used], minlength=1).max())

    def gathered(words: np.ndarray) -> np.ndarray:
        sums = np.zeros(size, words.dtype)
        np.add.at(sums, target[used], words.reshape(-1)[used])
        return sums.reshape(shape or (1,))

    def summed(x: Secret) -> Secret:
        found = x.rearranged(gathered)
        return Secret(found.machine, found.data, found.fraction_bits, x.bound * max(most, 1))

    return SecretArray(Node((array.node,), shape, summed), array.precision)


def _squeezed(step: Step, x: Hidden) -> Value:
    return _reshaped(step, x)


def _ordered(step: Step, *operands: Value) -> Value:
    if step.parameters["num_keys"] != 1:
        raise InvalidInput("secrets are sorted by one key; combine several into one number first")
    like = first_hidden(operands)
    columns: Sequence[Hidden] = [hidden(each, like) for each in operands]
    axis = step.parameters["dimension"]
    moved = ordering.sort(columns[0].array, axis, [column.array for column in columns[1:]])
    return tuple(
        Hidden(array, column.low, column.high, column.whole) for array, column in zip(moved, columns, strict=True)
    )


LAYOUT: Final[dict[str, Rule]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenated,
    "dynamic_slice": _moved_like_positions,
    "dynamic_update_slice": _replaced,
    "gather": _moved_like_positions,
    "pad": _padded,
    "reshape": _reshaped,
    "rev": _reversed,
    "scatter": _scattered,
    "scatter-add": _scatter_added,
    "slice": _sliced,
    "sort": _ordered,
    "split": _split,
    "squeeze": _squeezed,
    "transpose": _transposed,
}
"""Equal numbers may change places in ``sort``: what is carried with them then comes in either order."""
