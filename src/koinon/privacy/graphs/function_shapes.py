"""Shapes of results from the shapes of operands, for every primitive of a written function.

Each rule says what the operation makes, or why these operands and settings do not fit; so a function whose equations
all pass can be run without any array growing beyond what it declares.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from koinon.kernel.errors import InvalidInput

Shape = tuple[int, ...]
Settings = Mapping[str, Any]
LARGEST_WINDOWS: Final = 1 << 24
"""Positions that windows or products of one equation look at."""
LONGEST_LOOP: Final = 100_000


@dataclass(frozen=True)
class Inner:
    """What an inner list takes and gives."""

    inputs: list[Shape]
    results: list[Shape]


def shapes_of(
    primitive: str, operands: Sequence[Shape], settings: Settings, declared: Sequence[Shape], inner: Sequence[Inner]
) -> list[Shape]:
    """Shapes of the results.

    Args:
        declared: of the results; read where nothing else says how an array is laid out anew.

    Raises:
        InvalidInput: the operands and settings do not go together.
    """
    if primitive in _CONTROL:
        return _CONTROL[primitive](operands, settings, inner)
    _require(not inner, "has an inner list, which only loops and choices have")
    if primitive in _LAID_OUT:
        _require(len(declared) == 1, "has one result")
        return [_LAID_OUT[primitive](operands, settings, declared[0])]
    if primitive in _RULES:
        return [_RULES[primitive](operands, settings)]
    if primitive == "split":
        return _split(operands, settings)
    if primitive in ("optimization_barrier", "sort"):
        return _each(primitive, operands, settings)
    _require(len(operands) == _OPERANDS.get(primitive, 1), "has another number of operands")
    return [_alike(operands)]


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise InvalidInput(sentence)


def _axes(axes: Sequence[int], dimensions: int, what: str = "axes") -> None:
    _require(
        len(set(axes)) == len(axes) and all(0 <= axis < dimensions for axis in axes), f"its {what} are none it has"
    )


def _only(operands: Sequence[Shape], count: int = 1) -> Shape:
    _require(len(operands) == count, f"takes {count} operands")
    return operands[0]


def _alike(operands: Sequence[Shape]) -> Shape:
    shapes = [shape for shape in operands if shape]
    _require(len({len(shape) for shape in shapes}) <= 1, "takes operands of one shape, or single numbers")
    sizes = []
    for along in zip(*shapes, strict=True):
        _require(len({size for size in along if size != 1}) <= 1, "takes operands of one shape, or single numbers")
        sizes.append(max(along))
    return tuple(sizes)


_OPERANDS: Final = {
    **dict.fromkeys(("add", "add_any", "and", "div", "eq", "ge", "gt", "le", "lt", "max", "min", "mul", "ne"), 2),
    **dict.fromkeys(("or", "pow", "rem", "sub", "xor"), 2),
}


def _clamped(operands: Sequence[Shape], _: Settings) -> Shape:
    _only(operands, 3)
    _require(all(shape in ((), operands[1]) for shape in operands), "takes ends that are numbers, or one each")
    return operands[1]


def _selected(operands: Sequence[Shape], _: Settings) -> Shape:
    _require(len(operands) > 2 and len(set(operands[1:])) == 1, "chooses between operands of one shape")
    _require(operands[0] in ((), operands[1]), "chooses by one number, or by one each")
    return operands[1]


def _reduced(operands: Sequence[Shape], settings: Settings) -> Shape:
    shape = _only(operands)
    _axes(settings["axes"], len(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in settings["axes"])


def _placed(operands: Sequence[Shape], settings: Settings) -> Shape:
    _require(len(settings["axes"]) == 1, "looks along one axis")
    return _reduced(operands, settings)


def _summed_on(operands: Sequence[Shape], settings: Settings) -> Shape:
    _axes([settings["axis"]], len(_only(operands)))
    return operands[0]


def _broadcast(operands: Sequence[Shape], settings: Settings, declared: Shape) -> Shape:
    shape, places = _only(operands), settings["broadcast_dimensions"]
    _axes(places, len(declared))
    _require(len(places) == len(shape) and list(places) == sorted(places), "puts each axis somewhere, in their order")
    _require(
        all(size in (1, declared[place]) for size, place in zip(shape, places, strict=True)),
        "stretches sizes of 1 only",
    )
    return declared


def _reshaped(operands: Sequence[Shape], _: Settings, declared: Shape) -> Shape:
    _require(prod(_only(operands)) == prod(declared), "keeps all numbers")
    return declared


def _counted(operands: Sequence[Shape], settings: Settings, declared: Shape) -> Shape:
    _require(not operands, "takes nothing")
    _axes([settings["dimension"]], len(declared))
    return declared


def _concatenated(operands: Sequence[Shape], settings: Settings) -> Shape:
    axis, first = settings["dimension"], operands[0]
    _axes([axis], len(first))
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in operands}
    _require(
        len(rest) == 1 and len({len(shape) for shape in operands}) == 1, "joins arrays of one shape but for one axis"
    )
    return (*first[:axis], sum(shape[axis] for shape in operands), *first[axis + 1 :])


def _contracted(operands: Sequence[Shape], settings: Settings) -> Shape:
    _only(operands, 2)
    left, right = operands
    (over_left, over_right), (batch_left, batch_right) = settings["dimension_numbers"]
    _axes([*over_left, *batch_left], len(left))
    _axes([*over_right, *batch_right], len(right))
    for one, two in ((over_left, over_right), (batch_left, batch_right)):
        _require(
            len(one) == len(two) and all(left[a] == right[b] for a, b in zip(one, two, strict=True)),
            "multiplies along axes of different lengths",
        )
    batch = prod(left[axis] for axis in batch_left)
    terms = prod(left[axis] for axis in over_left)
    free_left = [size for axis, size in enumerate(left) if axis not in (*over_left, *batch_left)]
    free_right = [size for axis, size in enumerate(right) if axis not in (*over_right, *batch_right)]
    _require(batch * terms * prod(free_left) * prod(free_right) <= 1 << 36, "adds up more products than are computed")
    return (*(left[axis] for axis in batch_left), *free_left, *free_right)


def _sliced(operands: Sequence[Shape], settings: Settings) -> Shape:
    shape = _only(operands)
    starts, stops, steps = settings["start_indices"], settings["limit_indices"], settings["strides"]
    steps = steps or (1,) * len(starts)
    _require(len(starts) == len(stops) == len(steps) == len(shape), "cuts every axis once")
    for start, stop, step, size in zip(starts, stops, steps, shape, strict=True):
        _require(0 <= start < stop <= size and step >= 1, "cuts outside its operand")
    return tuple(-((start - stop) // step) for start, stop, step in zip(starts, stops, steps, strict=True))


def _sliced_at(operands: Sequence[Shape], settings: Settings) -> Shape:
    shape, *starts = operands
    sizes = settings["slice_sizes"]
    _require(len(starts) == len(shape) == len(sizes) and not any(starts), "starts at one number for every axis")
    _require(all(1 <= size <= all_ for size, all_ in zip(sizes, shape, strict=True)), "cuts more than there is")
    return tuple(sizes)


def _updated_at(operands: Sequence[Shape], _: Settings) -> Shape:
    _require(len(operands) >= 2, "takes an array and what is put into it")
    shape, part, *starts = operands
    _require(len(starts) == len(shape) == len(part) and not any(starts), "starts at one number for every axis")
    _require(all(size <= all_ for size, all_ in zip(part, shape, strict=True)), "puts in more than there is room")
    return shape


def _gathered(operands: Sequence[Shape], settings: Settings) -> Shape:
    _only(operands, 2)
    shape, indices = operands
    numbers, sizes = settings["dimension_numbers"], settings["slice_sizes"]
    _require(len(sizes) == len(shape) and all(1 <= s <= n for s, n in zip(sizes, shape, strict=True)), "reads too much")
    left_out = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    _index_axes(shape, indices, left_out, numbers.start_index_map, numbers[3:])
    _require(all(sizes[axis] == 1 for axis in left_out), "leaves out axes that it reads more than one of")
    window = [size for axis, size in enumerate(sizes) if axis not in left_out]
    batch = list(indices[:-1])
    _axes(numbers.offset_dims, len(window) + len(batch))
    _require(len(numbers.offset_dims) == len(window), "puts each axis of what it reads somewhere")
    rest, inner = iter(batch), iter(window)
    return tuple(next(inner) if axis in numbers.offset_dims else next(rest) for axis in range(len(window) + len(batch)))


def _scattered(operands: Sequence[Shape], settings: Settings) -> Shape:
    _only(operands, 3)
    shape, indices, updates = operands
    numbers = settings["dimension_numbers"]
    left_out = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    _index_axes(shape, indices, left_out, numbers.scatter_dims_to_operand_dims, numbers[3:])
    room = [size for axis, size in enumerate(shape) if axis not in left_out]
    _axes(numbers.update_window_dims, len(updates))
    _require(len(numbers.update_window_dims) == len(room), "writes along each axis that it does not leave out")
    _require(
        all(updates[axis] <= size for axis, size in zip(numbers.update_window_dims, room, strict=True)),
        "writes too much",
    )
    rest = tuple(size for axis, size in enumerate(updates) if axis not in numbers.update_window_dims)
    _require(rest == tuple(indices[:-1]), "has not as many parts to write as places")
    return shape


def _index_axes(
    shape: Shape, indices: Shape, left_out: Sequence[int], named: Sequence[int], batched: Sequence[Sequence[int]]
) -> None:
    _require(len(indices) >= 1, "takes places in the last axis of its indices")
    _axes(left_out, len(shape))
    _axes(named, len(shape))
    _require(len(named) == indices[-1], "takes places of another number of axes")
    of_operand, of_indices = batched
    _axes([*of_operand, *named], len(shape))
    _axes(of_indices, len(indices) - 1)
    _require(
        len(of_operand) == len(of_indices)
        and all(shape[a] == indices[b] for a, b in zip(of_operand, of_indices, strict=True)),
        "pairs axes of different lengths",
    )


def _padded(operands: Sequence[Shape], settings: Settings) -> Shape:
    _only(operands, 2)
    shape, border = operands
    _require(border == () and len(settings["padding_config"]) == len(shape), "fills every axis with one number")
    sizes = []
    for size, (before, after, between) in zip(shape, settings["padding_config"], strict=True):
        _require(between >= 0, "puts fewer than no numbers between others")
        sizes.append(size + before + after + (size - 1) * between)
    return _sizes(sizes)


def _sizes(sizes: Sequence[int]) -> Shape:
    _require(all(size >= 1 for size in sizes), "makes an empty array")
    return tuple(sizes)


def _window(size: int, width: int, stride: int, spread: int, padding: tuple[int, int]) -> int:
    before, after = padding
    _require(min(width, stride, spread) >= 1 and min(before, after) >= 0, "has windows of no size, step or edge")
    reach = (width - 1) * spread + 1
    _require(max(before, after) < max(reach, 1) and reach <= size + before + after, "has windows beyond its operand")
    return (size + before + after - reach) // stride + 1


def _windowed(operands: Sequence[Shape], settings: Settings) -> Shape:
    shape = _only(operands)
    widths, strides, padding = settings["window_dimensions"], settings["window_strides"], settings["padding"]
    spread = settings.get("window_dilation") or (1,) * len(shape)
    base = settings.get("base_dilation") or (1,) * len(shape)
    _require(
        {len(widths), len(strides), len(padding), len(spread), len(base)} == {len(shape)}, "has a window for every axis"
    )
    _require(set(base) <= {1}, "looks at a stretched array, which is not done on secrets")
    found = tuple(
        _window(size, width, stride, gap, edge)
        for size, width, stride, gap, edge in zip(shape, widths, strides, spread, padding, strict=True)
    )
    _require(prod(found) * prod(widths) <= LARGEST_WINDOWS, f"looks at more than {LARGEST_WINDOWS} numbers in windows")
    return found


def _sent(operands: Sequence[Shape], settings: Settings) -> Shape:
    _only(operands, 2)
    _require(_windowed(operands[1:], settings) == operands[0], "sends another number of numbers than it has windows")
    return operands[1]


def _convolved(operands: Sequence[Shape], settings: Settings) -> Shape:
    _only(operands, 2)
    images, kernels = operands
    numbers = settings["dimension_numbers"]
    for spec in numbers:
        _require(sorted(spec) == list(range(len(images))), "orders its axes in a way that there is not")
    _require(len(images) == len(kernels) >= 2, "takes images and kernels of as many axes")
    count, channels, *sizes = (images[axis] for axis in numbers.lhs_spec)
    outputs, inputs, *widths = (kernels[axis] for axis in numbers.rhs_spec)
    groups, batches = settings["feature_group_count"], settings["batch_group_count"]
    _require(groups >= 1 and batches >= 1 and 1 in (groups, batches), "has groups that there are not")
    _require(
        channels == inputs * groups and outputs % (groups * batches) == 0 and count % batches == 0,
        "takes images of other channels than its kernels",
    )
    fields = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")
    _require({len(settings[name]) for name in fields} == {len(sizes)}, "has one step, edge and spread for every axis")
    places = []
    for size, width, stride, (before, after), stretch, spread in zip(
        sizes, widths, *(settings[name] for name in fields), strict=True
    ):
        _require(min(stride, stretch, spread) >= 1, "has steps or spreads below 1")
        whole = (size - 1) * stretch + 1 + before + after
        reach = (width - 1) * spread + 1
        _require(whole >= reach, "has kernels larger than its images")
        places.append((whole - reach) // stride + 1)
        _require(whole <= LARGEST_WINDOWS, "has images that are too large")
    _require(
        count * channels * prod(places) * prod(widths) <= LARGEST_WINDOWS,
        f"looks at more than {LARGEST_WINDOWS} numbers in windows",
    )
    shape = [0] * len(images)
    for axis, size in zip(numbers.out_spec, (count // batches, outputs, *places), strict=True):
        shape[axis] = size
    return tuple(shape)


def _turned(operands: Sequence[Shape], settings: Settings) -> Shape:
    _axes(settings["dimensions"], len(_only(operands)))
    return operands[0]


def _squeezed(operands: Sequence[Shape], settings: Settings) -> Shape:
    shape = _turned(operands, settings)
    _require(all(shape[axis] == 1 for axis in settings["dimensions"]), "leaves out axes of more than one number")
    return tuple(size for axis, size in enumerate(shape) if axis not in settings["dimensions"])


def _transposed(operands: Sequence[Shape], settings: Settings) -> Shape:
    shape = _only(operands)
    _require(sorted(settings["permutation"]) == list(range(len(shape))), "orders its axes in a way that there is not")
    return tuple(shape[axis] for axis in settings["permutation"])


def _powered(operands: Sequence[Shape], settings: Settings) -> Shape:
    _require(abs(settings["y"]) <= 64, "raises to more than the 64th power")
    return _only(operands)


def _split(operands: Sequence[Shape], settings: Settings) -> list[Shape]:
    shape, axis, sizes = _only(operands), settings["axis"], settings["sizes"]
    _axes([axis], len(shape))
    _require(len(sizes) >= 1 and min(sizes) >= 1 and sum(sizes) == shape[axis], "cuts into other parts than there are")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _each(primitive: str, operands: Sequence[Shape], settings: Settings) -> list[Shape]:
    if primitive == "sort":
        _require(len(set(operands)) == 1, "sorts arrays of one shape")
        _axes([settings["dimension"]], len(operands[0]))
        _require(1 <= settings["num_keys"] <= len(operands), "sorts by keys that there are not")
    return list(operands)


def _chosen(operands: Sequence[Shape], _: Settings, inner: Sequence[Inner]) -> list[Shape]:
    _require(len(inner) >= 1 and operands[0] == (), "chooses one of its lists by one number")
    for one in inner:
        _require(one.inputs == list(operands[1:]) and one.results == inner[0].results, "has lists that differ in form")
    return inner[0].results


def _scanned(operands: Sequence[Shape], settings: Settings, inner: Sequence[Inner]) -> list[Shape]:
    fixed, kept, length = settings["num_consts"], settings["num_carry"], settings["length"]
    _require(len(inner) == 1 and min(fixed, kept) >= 0 and fixed + kept <= len(operands), "repeats one list")
    _require(1 <= length <= LONGEST_LOOP, f"repeats 1 to {LONGEST_LOOP} times")
    (body,) = inner
    rows = operands[fixed + kept :]
    _require(all(shape[:1] == (length,) for shape in rows), "goes through arrays of other lengths")
    _require(body.inputs == [*operands[: fixed + kept], *(shape[1:] for shape in rows)], "gives its list other inputs")
    state = list(operands[fixed : fixed + kept])
    _require(body.results[:kept] == state, "does not keep the form of what it carries")
    return [*state, *((length, *shape) for shape in body.results[kept:])]


def _repeated(operands: Sequence[Shape], settings: Settings, inner: Sequence[Inner]) -> list[Shape]:
    of_condition, of_body = settings["cond_nconsts"], settings["body_nconsts"]
    _require(len(inner) == 2 and min(of_condition, of_body) >= 0, "repeats one list while another says so")
    _require(of_condition + of_body <= len(operands), "takes more than it is given")
    condition, body = inner
    state = list(operands[of_condition + of_body :])
    _require(condition.inputs == [*operands[:of_condition], *state], "gives its condition other inputs")
    _require(condition.results == [()], "goes on by one number")
    _require(body.inputs == [*operands[of_condition : of_condition + of_body], *state], "gives its list other inputs")
    _require(body.results == state, "does not keep the form of what it carries")
    return state


_RULES: Final[Mapping[str, Callable[[Sequence[Shape], Settings], Shape]]] = {
    "argmax": _placed,
    "argmin": _placed,
    "clamp": _clamped,
    "concatenate": _concatenated,
    "conv_general_dilated": _convolved,
    "cumsum": _summed_on,
    "dot_general": _contracted,
    "dynamic_slice": _sliced_at,
    "dynamic_update_slice": _updated_at,
    "gather": _gathered,
    "integer_pow": _powered,
    "pad": _padded,
    "reduce_and": _reduced,
    "reduce_max": _reduced,
    "reduce_min": _reduced,
    "reduce_or": _reduced,
    "reduce_prod": _reduced,
    "reduce_sum": _reduced,
    "reduce_window_max": _windowed,
    "reduce_window_min": _windowed,
    "reduce_window_sum": _windowed,
    "rev": _turned,
    "scatter": _scattered,
    "scatter-add": _scattered,
    "select_and_scatter_add": _sent,
    "select_n": _selected,
    "slice": _sliced,
    "squeeze": _squeezed,
    "transpose": _transposed,
}
_LAID_OUT: Final[Mapping[str, Callable[[Sequence[Shape], Settings, Shape], Shape]]] = {
    "broadcast_in_dim": _broadcast,
    "iota": _counted,
    "reshape": _reshaped,
}
_CONTROL: Final[Mapping[str, Callable[[Sequence[Shape], Settings, Sequence[Inner]], list[Shape]]]] = {
    "cond": _chosen,
    "scan": _scanned,
    "while": _repeated,
}
