"""What each primitive of a written function is set to: names and forms, from small closed sets.

Anything else that JAX says of an equation (how it is placed on devices, how precise a product may be, what was
differentiated) changes nothing on secrets and is left out.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from koinon.kernel.errors import InvalidInput

LARGEST_SETTING: Final = 1 << 24
_LONGEST_LIST: Final = 4096


class ConvolutionAxes(NamedTuple):
    """As JAX's ConvDimensionNumbers."""

    lhs_spec: tuple[int, ...]
    rhs_spec: tuple[int, ...]
    out_spec: tuple[int, ...]


class GatherAxes(NamedTuple):
    """As JAX's GatherDimensionNumbers."""

    offset_dims: tuple[int, ...]
    collapsed_slice_dims: tuple[int, ...]
    start_index_map: tuple[int, ...]
    operand_batching_dims: tuple[int, ...]
    start_indices_batching_dims: tuple[int, ...]


class ScatterAxes(NamedTuple):
    """As JAX's ScatterDimensionNumbers."""

    update_window_dims: tuple[int, ...]
    inserted_window_dims: tuple[int, ...]
    scatter_dims_to_operand_dims: tuple[int, ...]
    operand_batching_dims: tuple[int, ...]
    scatter_indices_batching_dims: tuple[int, ...]


class Unfit(Exception):
    """A value that is not of a setting's form."""


Form = Callable[[Any], Any]
"""A value as it was decoded → the setting. Raises Unfit."""


def whole(value: Any) -> int:
    if type(value) is not int or abs(value) > LARGEST_SETTING:
        raise Unfit
    return value


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise Unfit
    return value


def wholes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or len(value) > _LONGEST_LIST:
        raise Unfit
    return tuple(whole(each) for each in value)


def several(count: int, inner: Form = wholes) -> Form:
    """A tuple of ``count`` values of one form."""

    def read_several(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) != count:
            raise Unfit
        return tuple(inner(each) for each in value)

    return read_several


def lists(length: int) -> Form:
    """A tuple of tuples of ``length`` whole numbers."""

    def read_lists(value: Any) -> tuple[tuple[int, ...], ...]:
        if not isinstance(value, list | tuple) or len(value) > _LONGEST_LIST:
            raise Unfit
        found = tuple(wholes(each) for each in value)
        if any(len(each) != length for each in found):
            raise Unfit
        return found

    return read_lists


def one_of(*names: str) -> Form:
    def read_name(value: Any) -> str:
        if value not in names or not isinstance(value, str):
            raise Unfit
        return value

    return read_name


def _axes(kind: type[Any], count: int) -> Form:
    read_parts = several(count)
    return lambda value: kind(*read_parts(value))


MODES: Final = ("CLIP", "FILL_OR_DROP", "PROMISE_IN_BOUNDS")
_WINDOW: Final[Mapping[str, Form]] = {"window_dimensions": wholes, "window_strides": wholes, "padding": lists(2)}
_WINDOWS: Final[Mapping[str, Form]] = {**_WINDOW, "base_dilation": wholes, "window_dilation": wholes}
_OVER: Final[Mapping[str, Form]] = {"axes": wholes}
_SCATTER: Final[Mapping[str, Form]] = {"dimension_numbers": _axes(ScatterAxes, 5), "mode": one_of(*MODES)}

_PLAIN: Final = (
    *("abs", "add", "add_any", "and", "clamp", "convert_element_type", "copy", "div", "dynamic_update_slice", "eq"),
    *("erf", "exp", "exp2", "expm1", "ge", "gt", "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min"),
    *("mul", "ne", "neg", "not", "optimization_barrier", "or", "pow", "reduce_precision", "rem", "reshape", "rsqrt"),
    *("select_n", "sign", "sqrt", "square", "stop_gradient", "sub", "tanh", "xor", "cond", "floor"),
)

SETTINGS: Final[Mapping[str, Mapping[str, Form]]] = {
    **{name: {} for name in _PLAIN},
    **dict.fromkeys(("argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or"), _OVER),
    **dict.fromkeys(("reduce_prod", "reduce_sum"), _OVER),
    **{f"reduce_window_{name}": _WINDOWS for name in ("max", "min", "sum")},
    "broadcast_in_dim": {"broadcast_dimensions": wholes},
    "concatenate": {"dimension": whole},
    "conv_general_dilated": {
        "window_strides": wholes,
        "padding": lists(2),
        "lhs_dilation": wholes,
        "rhs_dilation": wholes,
        "dimension_numbers": _axes(ConvolutionAxes, 3),
        "feature_group_count": whole,
        "batch_group_count": whole,
    },
    "cumsum": {"axis": whole, "reverse": flag},
    "dot_general": {"dimension_numbers": several(2, several(2))},
    "dynamic_slice": {"slice_sizes": wholes},
    "gather": {"dimension_numbers": _axes(GatherAxes, 5), "slice_sizes": wholes, "mode": one_of(*MODES)},
    "integer_pow": {"y": whole},
    "iota": {"dimension": whole},
    "pad": {"padding_config": lists(3)},
    "rev": {"dimensions": wholes},
    "scan": {"length": whole, "num_consts": whole, "num_carry": whole, "reverse": flag},
    "scatter": _SCATTER,
    "scatter-add": _SCATTER,
    "select_and_scatter_add": {"select_prim": one_of("ge", "le"), **_WINDOW},
    "slice": {"start_indices": wholes, "limit_indices": wholes, "strides": wholes},
    "sort": {"dimension": whole, "num_keys": whole},
    "split": {"sizes": wholes, "axis": whole},
    "squeeze": {"dimensions": wholes},
    "transpose": {"permutation": wholes},
    "while": {"cond_nconsts": whole, "body_nconsts": whole},
}
"""Every primitive that may be written, with its settings in order."""

LISTS: Final[Mapping[str, tuple[str, ...]]] = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr")}
"""Under which names a primitive finds its inner lists; those of ``cond`` are its ``branches``."""


def read(primitive: str, values: tuple[Any, ...], where: str) -> dict[str, Any]:
    """An equation's settings by name. Raises InvalidInput for an unknown primitive or a value of another form."""
    forms = SETTINGS.get(primitive)
    if forms is None:
        raise InvalidInput(f"{where} is none of the operations that a function in a study may have")
    if len(values) != len(forms):
        raise InvalidInput(f"{where} is set by {len(forms)} values; got {len(values)}")
    found = {}
    for (name, form), value in zip(forms.items(), values, strict=True):
        try:
            found[name] = form(value)
        except Unfit:
            raise InvalidInput(f"{where}: the setting {name} is not of its form") from None
    return found
