"""JAX's functions that are approximated on secrets. Accuracy of what is coarser than 2⁻¹⁸ stands beside the rule."""

from collections.abc import Callable
from math import exp, inf, log
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays, elementary
from koinon.privacy.arrays import DEFAULT_PRECISION, SecretArray
from koinon.privacy.graph import Node
from koinon.privacy.graphs.jax_arithmetic import added, multiplied, squared, whole_power, within_levels
from koinon.privacy.graphs.jax_values import (
    Hidden,
    Rule,
    Step,
    Value,
    plain,
    saturated,
)
from koinon.privacy.secret import Secret, truncate

_SMALLEST_ARGUMENT: Final = 2.0**-18
"""Logarithms and roots take their arguments to be at least this."""
_EXPONENT_BITS: Final = 16
"""Fraction bits of a public exponent."""
_LARGEST_POWER: Final = 10.0
"""Exponentials of more than this could outgrow a word."""
ERROR_FUNCTION: Final = (1.1283791670955126, 0.10275)
"""erf x ≈ tanh(a x + b x³) with an error below 4 · 10⁻⁴."""


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
        return elementary.logarithm(secret, within_levels(secret, lowest), precision)

    result = SecretArray(Node((array.node,), array.shape, taken), precision)
    return Hidden(result, log(lowest / 2) - 1e-4, log(x.high) if 0 < x.high < inf else inf)


def _root(_step: Step, x: Hidden) -> Value:
    array = x.array
    precision = array.precision or DEFAULT_PRECISION

    def taken(secret: Secret) -> Any:
        return elementary.square_root(secret, within_levels(secret, _SMALLEST_ARGUMENT), precision)

    return Hidden(SecretArray(Node((array.node,), array.shape, taken), precision), 0.0, inf)


def _inverse_root(step: Step, x: Hidden) -> Value:
    return _fractional_power(step, x, -0.5)


def _fractional_power(step: Step, x: Hidden, power: float) -> Value:
    """x^p as e^(p ln x) for numbers that are never negative."""
    array, smallest, saturating = x.array, max(x.low, _SMALLEST_ARGUMENT), step.saturating
    precision = array.precision or DEFAULT_PRECISION
    factor = round(power * 2.0**_EXPONENT_BITS)

    def raised(secret: Secret) -> Any:
        lowest = within_levels(secret, smallest)
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
    first, third = ERROR_FUNCTION
    cube = multiplied(step, squared(step, inside), inside)
    return _tangent(step, added(step, multiplied(step, inside, np.float64(first)), multiplied(step, cube, third)))


def _power(step: Step, x: Value, exponent: Value) -> Value:
    power = plain(exponent, "an exponent")
    if np.unique(power).size != 1:
        raise InvalidInput("secret numbers are raised to one public power for all")
    number = float(power.reshape(-1)[0])
    assert isinstance(x, Hidden)
    if number == int(number):
        return whole_power(step, x, int(number))
    if number == 0.5:
        return _root(step, x)
    return _fractional_power(step, x, number)


def _scaled_argument(function: Callable[[Step, Hidden], Value], factor: float) -> Rule:
    return lambda step, x: function(step, multiplied(step, x, np.float64(factor)))


def _after_one(step: Step, x: Hidden) -> Value:
    return _logarithm(step, added(step, x, np.float64(1.0)))


def _less_one(step: Step, x: Hidden) -> Value:
    return added(step, _exponential(step, x), np.float64(-1.0))


APPROXIMATIONS: Final[dict[str, Rule]] = {
    "erf": _error_function,
    "exp": _exponential,
    "exp2": _scaled_argument(_exponential, log(2.0)),
    "expm1": _less_one,
    "log": _logarithm,
    "log1p": _after_one,
    "logistic": _logistic,
    "pow": _power,
    "rsqrt": _inverse_root,
    "sqrt": _root,
    "tanh": _tangent,
}
