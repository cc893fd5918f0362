"""JAX's elementwise primitives on secrets: one rule each. Accuracy of what is approximated stands beside the rule."""

from collections.abc import Callable
from dataclasses import replace
from math import exp, inf, isnan, log
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays, elementary
from koinon.privacy.arrays import DEFAULT_PRECISION, SecretArray, where
from koinon.privacy.graph import Node
from koinon.privacy.graphs.jax_values import (
    SMALLEST,
    Hidden,
    Rule,
    Step,
    Value,
    corners,
    first_hidden,
    hidden,
    interval,
    plain,
    product_of,
    saturated,
    sum_of,
)
from koinon.privacy.secret import Secret, truncate

_SMALLEST_ARGUMENT: Final = 2.0**-18
"""Logarithms and roots take their arguments to be at least this."""
_EXPONENT_BITS: Final = 16
"""Fraction bits of a public exponent."""
_LARGEST_POWER: Final = 10.0
"""Exponentials of more than this could outgrow a word."""
_FINITE: Final = 2.0**62
_ERROR_FUNCTION: Final = (1.1283791670955126, 0.10275)
"""erf x ≈ tanh(a x + b x³) with an error below 4 · 10⁻⁴."""


def _add(step: Step, left: Value, right: Value) -> Value:
    like = first_hidden((left, right))
    one, two = hidden(left, like), hidden(right, like)
    if not isinstance(right, Hidden):
        array = one.array + np.asarray(right)
    elif not isinstance(left, Hidden):
        array = two.array + np.asarray(left)
    else:
        array = sum_of(step, one.array, two.array)
    return Hidden(array, one.low + two.low, one.high + two.high, one.whole and two.whole)


def _negative(_step: Step, x: Hidden) -> Value:
    return Hidden(-x.array, -x.high, -x.low, x.whole)


def _subtract(step: Step, left: Value, right: Value) -> Value:
    found: Hidden = _add(step, left, -np.asarray(right) if not isinstance(right, Hidden) else _negative(step, right))
    if isinstance(right, Hidden) and isinstance(left, Hidden) and left.is_below_top(right):
        return replace(found, high=0.0, peak_axes=right.top_axes)
    return found


def _multiply(step: Step, left: Value, right: Value) -> Value:
    like = first_hidden((left, right))
    reach = corners(interval(left), interval(right))
    if isinstance(left, Hidden) and isinstance(right, Hidden):
        if left.array.node is right.array.node:
            return _square(step, left)
        return Hidden(product_of(step, left.array, right.array), *reach, left.whole and right.whole)
    factors = plain(right if left is like else left)
    return Hidden(like.array.times(_finite(factors)), *reach, like.whole and factors.dtype.kind in "biu")


def _square(step: Step, x: Hidden) -> Value:
    nearest, farthest = sorted((abs(x.low), abs(x.high)))
    low = nearest**2 if x.low > 0.0 or x.high < 0.0 else 0.0
    return Hidden(product_of(step, x.array, x.array), low, farthest**2, x.whole)


def _divide(step: Step, left: Value, right: Value) -> Value:
    if not isinstance(right, Hidden):
        divisor = _finite(plain(right))
        if not divisor.all():
            raise InvalidInput("a secret is divided by a public 0")
        if step.whole:
            raise InvalidInput("whole secret numbers are not divided; turn them into fractions first")
        return _multiply(step, left, 1.0 / divisor.astype(np.float64))
    inverse = _reciprocal(step, right)
    if not isinstance(left, Hidden) and np.size(left) == 1 and float(np.asarray(left).reshape(-1)[0]) == 1.0:
        return inverse
    return _multiply(step, left, inverse)


def _reciprocal(_step: Step, x: Hidden) -> Hidden:
    if x.low > 0.0:
        return Hidden(_inverse(x.array, x.low), 1 / x.high, 1 / x.low)
    if x.low == 0.0:
        return Hidden(_inverse(x.array, SMALLEST), 0.0, 2 / SMALLEST)
    if x.high <= 0.0:
        lowest = -x.high if x.high else SMALLEST
        return Hidden(-_inverse(-x.array, lowest), -2 / lowest, 0.0)
    below = x.array < 0
    inverse = _inverse(where(below, -x.array, x.array), SMALLEST)
    return Hidden(where(below, -inverse, inverse), -2 / SMALLEST, 2 / SMALLEST)


def _inverse(array: SecretArray, lowest: float) -> SecretArray:
    """1/x, to 2⁻²⁰ of itself, for x from ``lowest`` or a 2⁻⁴⁰th of its bound on; 0 below half of that."""
    precision = array.precision or DEFAULT_PRECISION

    def inverted(x: Secret) -> Any:
        return elementary.reciprocal(x, _within_levels(x, lowest), precision)

    return SecretArray(Node((array.node,), array.shape, inverted), precision)


def _within_levels(x: Secret, lowest: float) -> float:
    """``lowest``, or the least that the precision and the number of levels can tell from 0."""
    return min(max(lowest, x.bound * 2.0 ** -(elementary.MOST_LEVELS - 1), 2.0 ** (2 - x.fraction_bits)), x.bound)


def _exponential(step: Step, x: Hidden) -> Value:
    array = x.array
    precision = array.precision or DEFAULT_PRECISION
    known = x.high
    saturating = step.saturating

    def raised(secret: Secret) -> Any:
        if saturating and min(secret.bound, known) > _LARGEST_POWER:
            secret = yield from saturated(secret, _LARGEST_POWER)
        return (yield from elementary.exponential(secret, precision, min(known, secret.bound)))

    result = SecretArray(Node((array.node,), array.shape, raised), precision)
    high = exp(x.high) if x.high < 700 else inf
    return Hidden(result, 0.0, high * (1 + 2.0**-18), peak_axes=x.peak_axes if x.high == 0.0 else ())


def _logarithm(_step: Step, x: Hidden) -> Value:
    array, lowest = x.array, max(x.low, _SMALLEST_ARGUMENT)
    precision = array.precision or DEFAULT_PRECISION

    def taken(secret: Secret) -> Any:
        return elementary.logarithm(secret, _within_levels(secret, lowest), precision)

    result = SecretArray(Node((array.node,), array.shape, taken), precision)
    return Hidden(result, log(lowest / 2) - 1e-4, log(x.high) if 0 < x.high < inf else inf)


def _root(_step: Step, x: Hidden) -> Value:
    array = x.array
    precision = array.precision or DEFAULT_PRECISION

    def taken(secret: Secret) -> Any:
        return elementary.square_root(secret, _within_levels(secret, _SMALLEST_ARGUMENT), precision)

    return Hidden(SecretArray(Node((array.node,), array.shape, taken), precision), 0.0, inf)


def _inverse_root(step: Step, x: Hidden) -> Value:
    return _fractional_power(step, x, -0.5)


def _fractional_power(step: Step, x: Hidden, power: float) -> Value:
    """x^p as e^(p ln x) for numbers that are never negative."""
    array, smallest, saturating = x.array, max(x.low, _SMALLEST_ARGUMENT), step.saturating
    precision = array.precision or DEFAULT_PRECISION
    factor = round(power * 2.0**_EXPONENT_BITS)

    def raised(secret: Secret) -> Any:
        lowest = _within_levels(secret, smallest)
        logs = yield from elementary.logarithm(secret, lowest, elementary.BITS)
        exponent = yield from truncate(logs.times(factor).halved(_EXPONENT_BITS), elementary.BITS)
        # LOGARITHM-RANGE: the logarithm lies between that of half of the lowest number and that of the bound.
        top = max(power * log(lowest / 2), power * log(secret.bound)) + 0.01
        if saturating and top > _LARGEST_POWER:
            exponent, top = (yield from saturated(exponent, _LARGEST_POWER)), _LARGEST_POWER
        return (yield from elementary.exponential(exponent, precision, top))

    return Hidden(SecretArray(Node((array.node,), array.shape, raised), precision), 0.0, inf)


def _logistic(_step: Step, x: Hidden) -> Value:
    return Hidden(arrays.sigmoid(x.array), 0.0, 1.0)


def _tangent(_step: Step, x: Hidden) -> Value:
    return Hidden(arrays.sigmoid(x.array.times(2)).times(2) - 1.0, -1.0, 1.0)


def _error_function(step: Step, x: Hidden) -> Value:
    inside = Hidden(arrays.clip(x.array, -4.0, 4.0), -4.0, 4.0)
    first, third = _ERROR_FUNCTION
    cube = _multiply(step, _square(step, inside), inside)
    return _tangent(step, _add(step, _multiply(step, inside, np.float64(first)), _multiply(step, cube, third)))


def _whole_power(step: Step, x: Hidden, exponent: int) -> Value:
    if exponent == 0:
        return np.ones(x.shape)
    if exponent < 0:
        return _reciprocal(step, _whole_power(step, x, -exponent))
    if exponent == 1:
        return x
    square = _square(step, _whole_power(step, x, exponent // 2))
    return _multiply(step, square, x) if exponent % 2 else square


def _power(step: Step, x: Value, exponent: Value) -> Value:
    power = plain(exponent, "an exponent")
    if np.unique(power).size != 1:
        raise InvalidInput("secret numbers are raised to one public power for all")
    number = float(power.reshape(-1)[0])
    assert isinstance(x, Hidden)
    if number == int(number):
        return _whole_power(step, x, int(number))
    if number == 0.5:
        return _root(step, x)
    return _fractional_power(step, x, number)


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
    return _negative(step, _largest(step, _opposite(step, left), _opposite(step, right)))


def _opposite(step: Step, value: Value) -> Value:
    return _negative(step, value) if isinstance(value, Hidden) else -np.asarray(value)


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
        return ~np.asarray(x)
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


def _same(_step: Step, x: Hidden) -> Value:
    return x


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values.astype(np.float64)).all():
        raise InvalidInput("a secret meets a public number that is not finite; fixed-point numbers are all finite")
    return values


def _all_finite(_step: Step, x: Hidden) -> Value:
    return np.ones(x.shape, np.bool_)


def _scaled_argument(function: Callable[[Step, Hidden], Value], factor: float) -> Rule:
    return lambda step, x: function(step, _multiply(step, x, np.float64(factor)))


def _after_one(step: Step, x: Hidden) -> Value:
    return _logarithm(step, _add(step, x, np.float64(1.0)))


def _less_one(step: Step, x: Hidden) -> Value:
    return _add(step, _exponential(step, x), np.float64(-1.0))


ELEMENTWISE: Final[dict[str, Rule]] = {
    "abs": _size,
    "add": _add,
    "add_any": _add,
    "and": _and,
    "clamp": _clamp,
    "convert_element_type": _converted,
    "copy": _same,
    "div": _divide,
    "eq": _equal,
    "erf": _error_function,
    "exp": _exponential,
    "exp2": _scaled_argument(_exponential, log(2.0)),
    "expm1": _less_one,
    "ge": _at_least,
    "gt": _greater,
    "integer_pow": lambda step, x: _whole_power(step, x, int(step.parameters["y"])),
    "is_finite": _all_finite,
    "le": _at_most,
    "log": _logarithm,
    "log1p": _after_one,
    "logistic": _logistic,
    "lt": _less,
    "max": _largest,
    "min": _smallest,
    "mul": _multiply,
    "ne": _different,
    "neg": _negative,
    "not": _not,
    "optimization_barrier": lambda _step, *operands: operands,
    "or": _or,
    "pow": _power,
    "reduce_precision": _same,
    "rsqrt": _inverse_root,
    "select_n": _select,
    "sign": _sign,
    "sqrt": _root,
    "square": _square,
    "stop_gradient": _same,
    "sub": _subtract,
    "tanh": _tangent,
    "xor": _exclusive_or,
}
"""``add_any`` is what differentiation leaves where slopes meet."""
