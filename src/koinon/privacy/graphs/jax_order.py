"""JAX's comparisons, logic and choices on secrets, number by number."""

from dataclasses import replace
from math import inf, isnan
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays
from koinon.privacy.arrays import SecretArray, where
from koinon.privacy.graphs.jax_arithmetic import negated
from koinon.privacy.graphs.jax_values import (
    Hidden,
    Rule,
    Step,
    Value,
    first_hidden,
    hidden,
    interval,
)

_FINITE: Final = 2.0**62


def _sign(_step: Step, x: Hidden) -> Value:
    tolerance = 0.5 if x.whole else 0.0
    return Hidden((x.array > tolerance) - (x.array < -tolerance), -1.0, 1.0, x.whole)


def _size(_step: Step, x: Hidden) -> Value:
    return Hidden(abs(x.array), max(x.low, -x.high, 0.0), max(abs(x.low), abs(x.high)), x.whole)


def _largest(_step: Step, left: Value, right: Value) -> Value:
    if not (isinstance(left, Hidden) and isinstance(right, Hidden)):
        secret, other = (left, right) if isinstance(left, Hidden) else (right, left)
        numbers = np.asarray(other).astype(np.float64)
        if (numbers <= secret.low).all():
            return secret if np.shape(other) in ((), secret.shape) else _spread(secret, np.shape(other))
        if not numbers.any() and np.ndim(other) == 0:
            return Hidden(arrays.relu(secret.array), 0.0, max(secret.high, 0.0), secret.whole)
    like = first_hidden((left, right))
    one, two = hidden(left, like), hidden(right, like)
    array = where(one.array < two.array, two.array, one.array)
    return Hidden(array, max(one.low, two.low), max(one.high, two.high), one.whole and two.whole)


def _smallest(step: Step, left: Value, right: Value) -> Value:
    return negated(step, _largest(step, _opposite(step, left), _opposite(step, right)))


def _opposite(step: Step, value: Value) -> Value:
    return negated(step, value) if isinstance(value, Hidden) else -np.asarray(value)


def _spread(x: Hidden, shape: tuple[int, ...]) -> Hidden:
    return x.moved(lambda words: np.broadcast_to(words, np.broadcast_shapes(x.shape, shape)))


def _clamp(step: Step, low: Value, x: Value, high: Value) -> Value:
    found: Hidden = _smallest(step, _largest(step, x, low), high)
    if isinstance(low, Hidden) or isinstance(high, Hidden):
        return found
    # CLIP: the two ends are public.
    reach = max(abs(np.asarray(low)).max(), abs(np.asarray(high)).max())
    return replace(found, array=arrays.bounded(found.array, "CLIP", float(reach) + 2.0**-10))


def _less(_step: Step, left: Value, right: Value) -> Value:
    """Whole numbers are compared in the middle between two of them, so that a last bit never decides."""
    like = first_hidden((left, right))
    difference = interval(_bounds(left, right, like))
    if difference[1] < 0.0 or difference[0] >= 0.0:
        shape = np.broadcast_shapes(np.shape(left), np.shape(right))
        return np.full(shape, difference[1] < 0.0)
    tolerance = 0.5 if _whole(left) and _whole(right) else 0.0
    one, two = hidden(left, like), hidden(right, like)
    return _bits(one.array < two.array - tolerance)


def _bounds(left: Value, right: Value, like: Hidden) -> Hidden:
    (a, b), (c, d) = interval(left), interval(right)
    # Every secret is a finite number, so that an infinite public one is on one side of it.
    if isinstance(left, Hidden):
        a, b = max(a, -_FINITE), min(b, _FINITE)
    if isinstance(right, Hidden):
        c, d = max(c, -_FINITE), min(d, _FINITE)
    low, high = a - d, b - c
    return replace(like, low=-inf if isnan(low) else low, high=inf if isnan(high) else high)


def _greater(step: Step, left: Value, right: Value) -> Value:
    return _less(step, right, left)


def _at_most(step: Step, left: Value, right: Value) -> Value:
    return _not(step, _less(step, right, left))


def _at_least(step: Step, left: Value, right: Value) -> Value:
    return _not(step, _less(step, left, right))


def _different(step: Step, left: Value, right: Value) -> Value:
    if isinstance(left, Hidden) and isinstance(right, Hidden) and left.array.node is right.array.node:
        return np.zeros(left.shape, np.bool_)
    if _is_bits(left) and _is_bits(right):
        return _exclusive_or(step, left, right)
    return _or(step, _less(step, left, right), _less(step, right, left))


def _equal(step: Step, left: Value, right: Value) -> Value:
    return _not(step, _different(step, left, right))


def _is_bits(value: Value) -> bool:
    return value.array.is_bit if isinstance(value, Hidden) else np.asarray(value).dtype == np.bool_


def _whole(value: Value) -> bool:
    return value.whole if isinstance(value, Hidden) else bool((np.asarray(value) == np.round(np.asarray(value))).all())


def _bits(array: SecretArray) -> Hidden:
    return Hidden(array, 0.0, 1.0, whole=True)


def _not(_step: Step, x: Value) -> Value:
    if not isinstance(x, Hidden):
        values = np.asarray(x)
        if values.dtype.kind == "f":
            raise InvalidInput("logic works on truth values; fractions have no bits to combine")
        return ~values
    return _bits(~_as_bits(x))


def _and(_step: Step, left: Value, right: Value) -> Value:
    if not (isinstance(left, Hidden) or isinstance(right, Hidden)):
        return np.asarray(left) & np.asarray(right)
    like = first_hidden((left, right))
    return _bits(_as_bits(hidden(left, like)) & _as_bits(hidden(right, like)))


def _or(_step: Step, left: Value, right: Value) -> Value:
    return _not(_step, _and(_step, _not(_step, left), _not(_step, right)))


def _exclusive_or(_step: Step, left: Value, right: Value) -> Value:
    like = first_hidden((left, right))
    return _bits(_as_bits(hidden(left, like)) ^ _as_bits(hidden(right, like)))


def _as_bits(x: Hidden) -> SecretArray:
    if not x.array.is_bit:
        raise InvalidInput("logic works on truth values; whole secret numbers have no bits to combine")
    return x.array


def _select(step: Step, which: Value, *cases: Value) -> Value:
    """The case that ``which`` names: for a public choice a change of layout, for a secret one a product each."""
    like = first_hidden((which, *cases))
    if not isinstance(which, Hidden):
        chosen = np.broadcast_to(np.asarray(which).astype(np.intp), step.shapes[0])
        if chosen.size and (chosen == chosen.flat[0]).all():
            return cases[int(chosen.flat[0])]
    reach = min(interval(case)[0] for case in cases), max(interval(case)[1] for case in cases)
    whole = all(_whole(case) for case in cases)
    if not isinstance(which, Hidden):
        joined = arrays.concatenate([hidden(case, like).array.broadcast_to(*step.shapes[0]).ravel() for case in cases])
        size = chosen.size
        index = chosen * size + np.arange(size).reshape(chosen.shape)
        return Hidden(joined[index.ravel()].reshape(*step.shapes[0]), *reach, whole)
    if len(cases) != 2:
        raise InvalidInput("a secret chooses between two cases; write more as nested choices")
    first, second = (hidden(case, like).array for case in cases)
    return Hidden(where(_as_bits(which), second, first), *reach, whole)


def _converted(step: Step, x: Hidden) -> Value:
    kind = np.dtype(step.parameters["new_dtype"]).kind
    if kind == "b":
        return x if x.array.is_bit else _different(step, x, np.zeros((), np.int64))
    if kind in "iu" and not x.whole:
        raise InvalidInput("secret fractions are not rounded to whole numbers; leave out the conversion")
    return x


ORDER: Final[dict[str, Rule]] = {
    "abs": _size,
    "and": _and,
    "clamp": _clamp,
    "convert_element_type": _converted,
    "eq": _equal,
    "ge": _at_least,
    "gt": _greater,
    "le": _at_most,
    "lt": _less,
    "max": _largest,
    "min": _smallest,
    "ne": _different,
    "not": _not,
    "or": _or,
    "select_n": _select,
    "sign": _sign,
    "xor": _exclusive_or,
}
