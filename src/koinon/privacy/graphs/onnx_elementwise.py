"""ONNX operators that work number by number. Source: the operator schemas of ONNX, opsets 13 to 25."""

from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays
from koinon.privacy.arrays import SecretArray, where
from koinon.privacy.graphs.jax_approximations import ERROR_FUNCTION
from koinon.privacy.graphs.onnx_operands import (
    SMALLEST,
    Attributes,
    Operands,
    Operator,
    public,
    secret,
    unary,
)


def _binary(function: Callable[[Any, Any], SecretArray]) -> Operator:
    return lambda operands, _attributes, _version: function(operands[0], operands[1])


def _folded(function: Callable[[SecretArray, SecretArray], SecretArray]) -> Operator:
    def fold(operands: Operands, _attributes: Attributes, _version: int) -> Any:
        like = next(each for each in operands if isinstance(each, SecretArray))
        return reduce(function, [secret(each, like) for each in operands])

    return fold


def _divide(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    left, right = operands[0], operands[1]
    if not isinstance(right, SecretArray):
        return left / right
    return arrays.divide(secret(left, right), right, SMALLEST)


def _power(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    exponent = public(operands[1], "an exponent")
    if exponent.size != 1:
        raise InvalidInput("secret numbers are raised to one public power for all")
    power = float(exponent.reshape(-1)[0])
    if power == 0.5:
        return arrays.square_root(operands[0], SMALLEST)
    if power != int(power):
        raise InvalidInput(f"secret numbers are raised to whole powers and to one half; got {power:g}")
    return operands[0] ** int(power)


def _clip(operands: Operands, attributes: Attributes, _version: int) -> Any:
    low, high = (
        float(public(operands[place], "a limit")) if len(operands) > place and operands[place] is not None else None
        for place in (1, 2)
    )
    low, high = attributes.get("min", low), attributes.get("max", high)
    x = operands[0]
    x = x if low is None else arrays.maximum(x, arrays.constant_like(x, low))
    return x if high is None else arrays.minimum(x, high)


def _tanh(x: SecretArray) -> SecretArray:
    return arrays.sigmoid(x.times(2)).times(2) - 1.0


def _leaky(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    return where(x < 0, x.times(attributes.get("alpha", 0.01)), x)


def _exponential_unit(operands: Operands, attributes: Attributes, _version: int) -> Any:
    x = operands[0]
    below = arrays.minimum(x, 0.0)
    return where(x < 0, (arrays.exponential(below, largest=0.0) - 1.0).times(attributes.get("alpha", 1.0)), x)


def _hard_sigmoid(operands: Operands, attributes: Attributes, _version: int) -> Any:
    return arrays.clip(operands[0].times(attributes.get("alpha", 0.2)) + attributes.get("beta", 0.5), 0.0, 1.0)


def _hard_swish(x: SecretArray) -> SecretArray:
    return x * arrays.clip(x.times(1 / 6) + 0.5, 0.0, 1.0)


def _sign(x: SecretArray) -> SecretArray:
    return (x > 0) - (x < 0)


def _parametric(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    x, slope = operands[0], operands[1]
    return where(x < 0, x * slope, x)


def _choose(operands: Operands, _attributes: Attributes, _version: int) -> Any:
    condition, first, second = operands
    like = next(each for each in operands if isinstance(each, SecretArray))
    if not isinstance(condition, SecretArray):
        mask = np.asarray(condition).astype(float)
        return secret(first, like) * mask + secret(second, like) * (1.0 - mask)
    return where(condition, secret(first, like), secret(second, like))


def _error_function(x: SecretArray) -> SecretArray:
    first, third = ERROR_FUNCTION
    inside = arrays.clip(x, -4.0, 4.0)
    return _tanh(inside * (inside * inside * third + first))


ELEMENTWISE: Final[dict[str, Operator]] = {
    "Abs": unary(abs),
    "Add": _binary(lambda x, y: x + y),
    "And": _binary(lambda x, y: x & y),
    "Clip": _clip,
    "Div": _divide,
    "Elu": _exponential_unit,
    "Equal": _binary(lambda x, y: x == y),
    "Erf": unary(_error_function),
    "Exp": unary(arrays.exponential),
    "Greater": _binary(lambda x, y: x > y),
    "GreaterOrEqual": _binary(lambda x, y: x >= y),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": unary(_hard_swish),
    "Identity": unary(lambda x: x),
    "LeakyRelu": _leaky,
    "Less": _binary(lambda x, y: x < y),
    "LessOrEqual": _binary(lambda x, y: x <= y),
    "Log": unary(lambda x: arrays.logarithm(x, SMALLEST)),
    "Max": _folded(arrays.maximum),
    "Mean": lambda operands, attributes, version: _folded(lambda x, y: x + y)(operands, attributes, version).times(
        1.0 / len(operands)
    ),
    "Min": _folded(arrays.minimum),
    "Mul": _binary(lambda x, y: x * y),
    "Neg": unary(lambda x: -x),
    "Not": unary(lambda x: ~x),
    "Or": _binary(lambda x, y: x | y),
    "PRelu": _parametric,
    "Pow": _power,
    "Reciprocal": unary(lambda x: 1.0 / x),
    "Relu": unary(arrays.relu),
    "Sigmoid": unary(arrays.sigmoid),
    "Sign": unary(_sign),
    "Sqrt": unary(lambda x: arrays.square_root(x, SMALLEST)),
    "Sub": _binary(lambda x, y: x - y),
    "Sum": _folded(lambda x, y: x + y),
    "Tanh": unary(_tanh),
    "Where": _choose,
    "Xor": _binary(lambda x, y: x ^ y),
}
