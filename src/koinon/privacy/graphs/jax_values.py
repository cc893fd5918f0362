"""What the interpreter of JAX functions knows about a secret without seeing it: an interval, and where its top is.

The interval [low, high] and the other facts follow from the function alone. They decide which form of a division, a
logarithm or an exponential is cheap and right; bounds against overflow are kept elsewhere (``Secret.bound``).
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, prod
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy import arrays
from koinon.privacy.arrays import SecretArray, constant_like
from koinon.privacy.graph import Node
from koinon.privacy.secret import HEADROOM_BITS, Claim, Product, Secret, multiply, negative

SMALLEST: Final = 2.0**-12
"""Divisors of unknown sign are taken to be at least this in size, or the quotient is 0."""


@dataclass(frozen=True, eq=False)
class Hidden:
    """A secret array with what is public about it.

    Attributes:
        array: the numbers.
        low, high: no number is outside.
        whole: the numbers stand for whole ones, to less than ¼.
        top_of: the node whose largest numbers along ``top_axes`` these are.
        top_axes: see ``top_of``.
        top_map: which of those largest numbers, counted in their own layout, stands at each place here.
        peak_axes: along these axes, one number at least equals ``high``.
    """

    array: SecretArray
    low: float = -inf
    high: float = inf
    whole: bool = False
    top_of: Node | None = None
    top_axes: tuple[int, ...] = ()
    top_map: np.ndarray | None = None
    peak_axes: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def moved(self, change: Callable[[np.ndarray], np.ndarray]) -> "Hidden":
        """The same numbers in another layout, each once or more often."""
        array = self.array.rearranged(change)
        return replace(self, array=array, top_map=None if self.top_map is None else change(self.top_map), peak_axes=())

    def is_below_top(self, top: "Hidden") -> bool:
        """Whether ``top`` holds, at each place, the largest of our numbers along the axes it was taken over."""
        if top.top_of is not self.array.node or top.top_map is None:
            return False
        rest = tuple(1 if axis in top.top_axes else size for axis, size in enumerate(self.shape))
        groups = np.arange(prod(rest)).reshape(rest)
        try:
            return bool((np.broadcast_to(groups, self.shape) == np.broadcast_to(top.top_map, self.shape)).all())
        except ValueError:
            return False


Value = Any
"""Hidden, or a public array of NumPy or JAX."""


@dataclass(frozen=True)
class Step:
    """One equation of a jaxpr: what a rule needs to know besides the operands.

    Attributes:
        name: of the primitive.
        parameters: of the equation.
        whole: whether the results are whole numbers (or bits).
        shapes: of the results.
        public: computes the primitive on public operands.
        saturating: whether numbers that could outgrow a word are put on the largest that fits, instead of refused.
        run: interprets an inner jaxpr.
    """

    name: str
    parameters: Mapping[str, Any]
    whole: bool
    shapes: tuple[tuple[int, ...], ...]
    public: Callable[..., Any]
    saturating: bool
    run: Callable[[Any, Sequence[Value]], list[Value]]


Rule = Callable[..., Any]
"""(step, *operands) → a Value, or a tuple of them where the primitive has several results."""


def plain(value: Value, what: str = "an operand") -> np.ndarray:
    """A public value as a NumPy array. Raises InvalidInput for a secret."""
    if isinstance(value, Hidden):
        raise InvalidInput(f"{what} depends on a secret; it has to be public")
    return np.asarray(value)


def hidden(value: Value, like: Hidden) -> Hidden:
    """Any value as a secret of the computation that ``like`` belongs to."""
    if isinstance(value, Hidden):
        return value
    numbers = np.asarray(value)
    if not np.isfinite(numbers.astype(np.float64)).all():
        raise InvalidInput("a secret meets a public number that is not finite; fixed-point numbers are all finite")
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)
    return Hidden(constant_like(like.array, numbers), low, high, numbers.dtype.kind in "biu")


def first_hidden(operands: Sequence[Value]) -> Hidden:
    return next(each for each in operands if isinstance(each, Hidden))


def interval(value: Value) -> tuple[float, float]:
    if isinstance(value, Hidden):
        return value.low, value.high
    numbers = np.asarray(value).astype(np.float64)
    if not numbers.size:
        return 0.0, 0.0
    low, high = float(numbers.min()), float(numbers.max())
    return (-inf, inf) if isnan(low) or isnan(high) else (low, high)


def corners(left: tuple[float, float], right: tuple[float, float]) -> tuple[float, float]:
    """The interval of products."""
    found = [0.0 if a == 0.0 or b == 0.0 else a * b for a in left for b in right]
    return min(found), max(found)


# ----------------------------------------------------------------------------------------------------- saturation


def sum_of(step: Step, left: SecretArray, right: SecretArray) -> SecretArray:
    """left + right, saturated where the step says so and their bounds are too wide."""
    if not step.saturating:
        return left + right
    return _capped(left, right, _addend) + _capped(right, left, _addend)


def product_of(
    step: Step, left: SecretArray, right: SecretArray, kind: Product = Product.ELEMENTWISE, terms: int = 1
) -> SecretArray:
    """Elementwise or matrix product, saturated where the step says so and the bounds are too wide.

    Args:
        terms: how many products are added up for each result.
    """
    if step.saturating:
        limit = _factor(terms)
        first, second = _capped(left, right, limit), _capped(right, left, limit)
        if left is right:
            second = first
        left, right = first, second
    return arrays.matrix_product(left, right) if kind is Product.MATRIX else arrays.product(left, right, kind)


def saturated(x: Secret, largest: float) -> Generator[None, None, Secret]:
    """x, with what is beyond ±largest put there; no round where the bound already says that nothing is.

    The result is at most ``largest`` and a unit in the last place (CLIP).
    """
    if x.bound <= largest:
        return x
    shape = (2, *x.shape)
    ends = np.array([largest, -largest]).reshape(2, *(1,) * len(x.shape))
    # Row 0 is negative where x is above the upper end, row 1 where it is below the lower one.
    signs = np.array([-1, 1]).reshape(ends.shape)
    distance = x.broadcast(*shape).times(np.broadcast_to(signs, shape)) + np.full(shape, largest)
    beyond = yield from negative(distance)
    back = x.broadcast(*shape).times(-1) + np.broadcast_to(ends, shape)
    moved = yield from multiply(beyond, back)
    return (x + moved.sum(0)).within(Claim("CLIP", largest + 2.0**-x.fraction_bits))


def limited(array: SecretArray, largest: float) -> SecretArray:
    """The numbers, with what lies beyond ±largest put there; free where their bound is narrower already."""
    node = Node((array.node,), array.shape, lambda x: saturated(x, largest))
    return SecretArray(node, array.precision, is_bit=array.is_bit)


Cap = Callable[[Secret, Secret], float]


def _capped(array: SecretArray, other: SecretArray, cap: Cap) -> SecretArray:
    """The array, saturated to what ``cap`` says of its and the other operand's bounds."""
    node = Node((array.node, other.node), array.shape, lambda x, y: saturated(x, cap(x, y)))
    return SecretArray(node, array.precision, is_bit=array.is_bit)


def _addend(x: Secret, y: Secret) -> float:
    """Half of what a word holds, where the sum of the bounds does not fit."""
    room = 2.0 ** (HEADROOM_BITS - 3 - max(x.fraction_bits, y.fraction_bits))
    return x.bound if x.bound + y.bound < room else max(room / 2 - 1.0, 1.0)


def _factor(terms: int) -> Cap:
    def cap(x: Secret, y: Secret) -> float:
        room: float = 2.0 ** (HEADROOM_BITS - 1 - x.fraction_bits - y.fraction_bits) / max(terms, 1)
        if x.bound * y.bound < room:
            return x.bound
        even: float = room**0.5 * 0.99
        if y.bound <= even:
            return min(x.bound, room / max(y.bound, 2.0**-40) * 0.99)
        return min(x.bound, even)

    return cap
