"""What ONNX operators on secret arrays take, and how they read it: shapes, axes and indices are public always."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays
from koinon.privacy.arrays import SecretArray

Value = SecretArray | np.ndarray
Operands = Sequence[Any]
Attributes = Mapping[str, Any]
Operator = Callable[[Operands, Attributes, int], Any]
"""Gives a Value, or a tuple of them where there are several outputs."""

SMALLEST: Final = 2.0**-12
"""Divisors, and arguments of logarithms and roots, are taken to be at least this."""


def public(value: object, what: str) -> np.ndarray:
    """A shape, axis or index. Raises InvalidInput for a secret, naming ``what`` it was to be."""
    if isinstance(value, SecretArray):
        raise InvalidInput(f"{what} depends on a secret; a private computation has public shapes and indices")
    return np.asarray(value)


def secret(value: Value, like: Value) -> SecretArray:
    """Any operand as a secret of the computation that ``like`` belongs to."""
    if isinstance(value, SecretArray):
        return value
    assert isinstance(like, SecretArray)
    return arrays.constant_like(like, value)


def both(operands: Operands) -> tuple[SecretArray, SecretArray]:
    """The first two operands, of which one at least is secret, as secrets."""
    left, right = operands[0], operands[1]
    return secret(left, right), secret(right, left)


def axes_of(operands: Operands, attributes: Attributes, dimensions: int, place: int = 1) -> tuple[int, ...]:
    """Axes from the attribute or, in later opsets, from the operand at ``place``; all where none are given."""
    given = attributes.get("axes")
    if given is None and len(operands) > place and operands[place] is not None:
        given = public(operands[place], "an axis").tolist()
    chosen = (
        range(dimensions) if given is None or (not len(given) and not attributes.get("noop_with_empty_axes")) else given
    )
    return tuple(sorted(int(axis) % dimensions for axis in chosen))


def unary(function: Callable[[SecretArray], SecretArray]) -> Operator:
    """An operator that is a function of its one operand."""
    return lambda operands, _attributes, _version: function(operands[0])
