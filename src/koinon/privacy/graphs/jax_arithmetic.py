"""JAX's sums, products and quotients of secrets, number by number."""

from dataclasses import replace
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import elementary
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
    sum_of,
)
from koinon.privacy.secret import Secret


def added(step: Step, left: Value, right: Value) -> Value:
    like = first_hidden((left, right))
    one, two = hidden(left, like), hidden(right, like)
    if not isinstance(right, Hidden):
        array = one.array + np.asarray(right)
    elif not isinstance(left, Hidden):
        array = two.array + np.asarray(left)
    else:
        array = sum_of(step, one.array, two.array)
    return Hidden(array, one.low + two.low, one.high + two.high, one.whole and two.whole)


def negated(_step: Step, x: Hidden) -> Value:
    return Hidden(-x.array, -x.high, -x.low, x.whole)


def _subtract(step: Step, left: Value, right: Value) -> Value:
    found: Hidden = added(step, left, -np.asarray(right) if not isinstance(right, Hidden) else negated(step, right))
    if isinstance(right, Hidden) and isinstance(left, Hidden) and left.is_below_top(right):
        return replace(found, high=0.0, peak_axes=right.top_axes)
    return found


def multiplied(step: Step, left: Value, right: Value) -> Value:
    like = first_hidden((left, right))
    reach = corners(interval(left), interval(right))
    if isinstance(left, Hidden) and isinstance(right, Hidden):
        if left.array.node is right.array.node:
            return squared(step, left)
        return Hidden(product_of(step, left.array, right.array), *reach, left.whole and right.whole)
    factors = plain(right if left is like else left)
    return Hidden(like.array.times(_finite(factors)), *reach, like.whole and factors.dtype.kind in "biu")


def squared(step: Step, x: Hidden) -> Value:
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
        return multiplied(step, left, 1.0 / divisor.astype(np.float64))
    inverse = _reciprocal(step, right)
    if not isinstance(left, Hidden) and np.size(left) == 1 and float(np.asarray(left).reshape(-1)[0]) == 1.0:
        return inverse
    return multiplied(step, left, inverse)


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
        return elementary.reciprocal(x, within_levels(x, lowest), precision)

    return SecretArray(Node((array.node,), array.shape, inverted), precision)


def within_levels(x: Secret, lowest: float) -> float:
    """``lowest``, or the least that the precision and the number of levels can tell from 0: 1 of whole ones."""
    least = 2.0 ** (2 - x.fraction_bits) if x.fraction_bits else 1.0
    return min(max(lowest, x.bound * 2.0 ** -(elementary.MOST_LEVELS - 1), least), x.bound)


def whole_power(step: Step, x: Hidden, exponent: int) -> Value:
    if exponent == 0:
        return np.ones(x.shape)
    if exponent < 0:
        return _reciprocal(step, whole_power(step, x, -exponent))
    if exponent == 1:
        return x
    square = squared(step, whole_power(step, x, exponent // 2))
    return multiplied(step, square, x) if exponent % 2 else square


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values.astype(np.float64)).all():
        raise InvalidInput("a secret meets a public number that is not finite; fixed-point numbers are all finite")
    return values


ARITHMETIC: Final[dict[str, Rule]] = {
    "add": added,
    "add_any": added,
    "div": _divide,
    "integer_pow": lambda step, x: whole_power(step, x, int(step.parameters["y"])),
    "mul": multiplied,
    "neg": negated,
    "square": squared,
    "sub": _subtract,
}
"""``add_any`` is what differentiation leaves where slopes meet."""
