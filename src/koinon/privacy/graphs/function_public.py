"""What a function in a study computes with public numbers alone, such as a loop's counter, in NumPy.

All four parties have to come to the same numbers, so fractions are computed in double precision and then rounded to the
declared type: the last bits in which machines may differ are gone before anything depends on them. What this table does
not have is computed when the function is written, where it depends on nothing that changes in a loop.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.graphs.function_places import gathered_places, mode_of, scattered_places

Settings = Mapping[str, Any]
Operation = Callable[..., Any]
LARGEST_PRODUCT: Final = 1 << 26
"""Terms in one product of public numbers."""


def computed(primitive: str, operands: Sequence[Any], settings: Settings, shape: tuple[int, ...], kind: str) -> Any:
    """The results of an equation of public operands.

    Args:
        shape, kind: of the first result.

    Raises:
        InvalidInput: there is no such operation, or it reads beyond its operands.
    """
    given = [np.asarray(each) for each in operands]
    if primitive == "iota":
        return _counter(settings["dimension"], shape).astype(kind)
    if primitive in _MOVING:
        return _MOVING[primitive](given, settings, shape)
    operation = _COMPUTING.get(primitive)
    if operation is None:
        raise InvalidInput(
            f"{primitive} of public numbers that change in a loop is not done in studies; compute it before the loop"
        )
    wide = [each.astype(np.float64) if each.dtype.kind == "f" else each for each in given]
    with np.errstate(all="ignore"):
        try:
            found = operation(*wide, **settings)
        except TypeError:
            types = ", ".join(each.dtype.name for each in given)
            raise InvalidInput(f"{primitive} is not defined for public numbers of types {types}") from None
        except ValueError as problem:
            raise InvalidInput(f"{primitive} of these public numbers has no result: {problem}") from None
        return _of_type(np.broadcast_to(np.asarray(found), shape), np.dtype(kind))


def _of_type(values: np.ndarray, kind: np.dtype[Any]) -> np.ndarray:
    """As XLA: fractions beyond all whole numbers become the nearest one. What NumPy does there differs by machine."""
    if values.dtype.kind == "f" and kind.kind in "iu":
        ends = np.iinfo(kind)
        # The largest number is no fraction of its own: what is above it is put there by hand.
        inside = np.where((values >= float(ends.min)) & (values < float(ends.max)), values, 0.0).astype(kind)
        inside[values >= float(ends.max)] = ends.max
        inside[values < float(ends.min)] = ends.min
        return inside
    return values.astype(kind)


def _remainder(left: np.ndarray, right: np.ndarray) -> Any:
    return np.fmod(left, right)


def _quotient(left: np.ndarray, right: np.ndarray) -> Any:
    if left.dtype.kind == "f":
        return left / right
    if not right.all():
        raise InvalidInput("a public whole number is divided by 0")
    # Towards 0, as XLA has it.
    return np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right))


def _sigmoid(x: np.ndarray) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def _running_sum(x: np.ndarray, axis: int, reverse: bool) -> Any:
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)


def _opposite(x: np.ndarray) -> Any:
    return ~x


_COMPUTING: Final[Mapping[str, Operation]] = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "and": np.bitwise_and,
    "argmax": lambda x, axes: np.argmax(x, axes[0]),
    "argmin": lambda x, axes: np.argmin(x, axes[0]),
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "convert_element_type": lambda x, **_: x,
    "copy": np.positive,
    "cumsum": _running_sum,
    "div": _quotient,
    "eq": np.equal,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": np.greater_equal,
    "gt": np.greater,
    "integer_pow": lambda x, y: np.power(x, y) if x.dtype.kind == "f" or y >= 0 else 1.0 / np.power(x, -y),
    "is_finite": np.isfinite,
    "le": np.less_equal,
    "log": np.log,
    "log1p": np.log1p,
    "logistic": _sigmoid,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": _opposite,
    "or": np.bitwise_or,
    "pow": np.power,
    "reduce_and": lambda x, axes: x.all(axes),
    "reduce_max": lambda x, axes: x.max(axes),
    "reduce_min": lambda x, axes: x.min(axes),
    "reduce_or": lambda x, axes: x.any(axes),
    "reduce_prod": lambda x, axes: x.prod(axes),
    "reduce_sum": lambda x, axes: x.sum(axes),
    "rem": _remainder,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "sign": np.sign,
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
    "tanh": np.tanh,
    "xor": np.bitwise_xor,
}


# ------------------------------------------------------------------------------------------------------- layout


def _spread(given: Sequence[np.ndarray], settings: Settings, shape: tuple[int, ...]) -> np.ndarray:
    sizes = [1] * len(shape)
    for place, size in zip(settings["broadcast_dimensions"], given[0].shape, strict=True):
        sizes[place] = size
    return np.broadcast_to(given[0].reshape(sizes), shape)


def _counter(axis: int, shape: tuple[int, ...]) -> np.ndarray:
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return np.broadcast_to(np.arange(shape[axis]).reshape(sizes), shape)


def _product(given: Sequence[np.ndarray], settings: Settings, _: tuple[int, ...]) -> np.ndarray:
    (over_left, over_right), (batch_left, batch_right) = settings["dimension_numbers"]
    left, right = (each.astype(np.float64) if each.dtype.kind == "f" else each for each in given)
    free_left = [axis for axis in range(left.ndim) if axis not in (*over_left, *batch_left)]
    free_right = [axis for axis in range(right.ndim) if axis not in (*over_right, *batch_right)]
    if left.size * prod(right.shape[axis] for axis in free_right) > LARGEST_PRODUCT:
        raise InvalidInput(f"a product of public numbers adds up at most {LARGEST_PRODUCT} terms in a study")
    names = iter("abcdefghijklmnopqrstuvwxyz")
    labels_left, labels_right = [""] * left.ndim, [""] * right.ndim
    for one, two in ((batch_left, batch_right), (over_left, over_right)):
        for a, b in zip(one, two, strict=True):
            labels_left[a] = labels_right[b] = next(names)
    for axes, labels in ((free_left, labels_left), (free_right, labels_right)):
        for axis in axes:
            labels[axis] = next(names)
    kept = (
        [labels_left[a] for a in batch_left]
        + [labels_left[a] for a in free_left]
        + [labels_right[a] for a in free_right]
    )
    found: np.ndarray = np.einsum(f"{''.join(labels_left)},{''.join(labels_right)}->{''.join(kept)}", left, right)
    return found.astype(given[0].dtype)


def _chosen(given: Sequence[np.ndarray], _: Settings, shape: tuple[int, ...]) -> np.ndarray:
    which, *cases = given
    place = np.broadcast_to(np.clip(which.astype(np.intp), 0, len(cases) - 1), shape)
    found = np.empty(shape, np.result_type(*cases))
    for number, case in enumerate(cases):
        np.copyto(found, case, where=place == number)
    return found


def _cut(given: Sequence[np.ndarray], settings: Settings, _: tuple[int, ...]) -> np.ndarray:
    steps = settings["strides"] or (1,) * given[0].ndim
    limits = zip(settings["start_indices"], settings["limit_indices"], steps, strict=True)
    found: np.ndarray = given[0][tuple(slice(*each) for each in limits)]
    return found


def _starting_at(x: np.ndarray, sizes: Sequence[int], starts: Sequence[np.ndarray]) -> tuple[slice, ...]:
    """A window that is moved inside where it would reach over the end."""
    places = [min(max(int(start), 0), total - size) for start, size, total in zip(starts, sizes, x.shape, strict=True)]
    return tuple(slice(place, place + size) for place, size in zip(places, sizes, strict=True))


def _cut_at(given: Sequence[np.ndarray], settings: Settings, _: tuple[int, ...]) -> np.ndarray:
    x, *starts = given
    found: np.ndarray = x[_starting_at(x, settings["slice_sizes"], starts)]
    return found


def _put_at(given: Sequence[np.ndarray], _: Settings, __: tuple[int, ...]) -> np.ndarray:
    x, part, *starts = given
    found = x.copy()
    found[_starting_at(x, part.shape, starts)] = part
    return found


def _gathered(given: Sequence[np.ndarray], settings: Settings, _: tuple[int, ...]) -> np.ndarray:
    x, indices = given
    places = gathered_places(x.shape, indices, settings)
    if (places < 0).any():
        raise InvalidInput(f"gather reads beyond the end of its operand, in mode {mode_of(settings)}")
    found: np.ndarray = x.reshape(-1)[places]
    return found


def _written(given: Sequence[np.ndarray], settings: Settings, _: tuple[int, ...]) -> np.ndarray:
    x, indices, updates = given
    places = scattered_places(x.shape, indices, updates.shape, settings)
    found = x.copy().reshape(-1)
    found[places[places >= 0]] = updates[places >= 0]
    return found.reshape(x.shape)


def _written_on(given: Sequence[np.ndarray], settings: Settings, _: tuple[int, ...]) -> np.ndarray:
    x, indices, updates = given
    places = scattered_places(x.shape, indices, updates.shape, settings)
    found = (x.astype(np.float64) if x.dtype.kind == "f" else x.copy()).reshape(-1)
    np.add.at(found, places[places >= 0], updates[places >= 0])
    return found.reshape(x.shape).astype(x.dtype)


def _padded(given: Sequence[np.ndarray], settings: Settings, shape: tuple[int, ...]) -> np.ndarray:
    x, border = given
    found = np.full(shape, border, x.dtype)
    into, out_of = [], []
    for size, total, (before, _, between) in zip(x.shape, shape, settings["padding_config"], strict=True):
        step = between + 1
        places = before + np.arange(size) * step
        inside = np.flatnonzero((places >= 0) & (places < total))
        into.append(places[inside])
        out_of.append(inside)
    found[np.ix_(*into)] = x[np.ix_(*out_of)]
    return found


def _sorted(given: Sequence[np.ndarray], settings: Settings, _: tuple[int, ...]) -> list[np.ndarray]:
    if settings["num_keys"] != 1:
        raise InvalidInput("public numbers are sorted by one key in a study")
    order = np.argsort(given[0], settings["dimension"], kind="stable")
    return [np.take_along_axis(each, order, settings["dimension"]) for each in given]


def _parts(given: Sequence[np.ndarray], settings: Settings, _: tuple[int, ...]) -> list[np.ndarray]:
    return np.split(given[0], np.cumsum(settings["sizes"])[:-1], settings["axis"])


_MOVING: Final[Mapping[str, Callable[[Sequence[np.ndarray], Settings, tuple[int, ...]], Any]]] = {
    "broadcast_in_dim": _spread,
    "concatenate": lambda given, settings, _: np.concatenate(given, settings["dimension"]),
    "dot_general": _product,
    "dynamic_slice": _cut_at,
    "dynamic_update_slice": _put_at,
    "gather": _gathered,
    "optimization_barrier": lambda given, _, __: list(given),
    "pad": _padded,
    "reduce_precision": lambda given, _, __: given[0],
    "reshape": lambda given, _, shape: given[0].reshape(shape),
    "rev": lambda given, settings, _: np.flip(given[0], settings["dimensions"]),
    "scatter": _written,
    "scatter-add": _written_on,
    "select_n": _chosen,
    "slice": _cut,
    "sort": _sorted,
    "split": _parts,
    "squeeze": lambda given, _, shape: given[0].reshape(shape),
    "stop_gradient": lambda given, _, __: given[0],
    "transpose": lambda given, settings, _: given[0].transpose(settings["permutation"]),
}
"""These keep the type of what they move, so that positions of secrets can be moved by them too."""
