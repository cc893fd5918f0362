"""Arrays that nobody sees, written like NumPy's, as far as ``docs/private-computation.md`` goes.

``SecretArray`` holds numbers, whole numbers or bits that some engine keeps secret. Arithmetic, comparison, indexing and
the functions below make nodes of a graph (``koinon.privacy.graph``); nothing is sent before ``run`` or a study runs it.
Opening is a visible verb: what a function returns in ``reveal`` is opened to the result party, and nothing else is.

    def averages(rows: SecretArray) -> Revealed:
        return reveal(mean=rows.mean(0), share_above=(rows[:, 0] > 3.5).mean())

A secret has no truth value, no length that depends on data and no element to print: ``if``, ``float`` and
``numpy.asarray`` refuse it with a sentence that says what to use instead.
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from math import ceil, log2, prod
from typing import Any, Final, NamedTuple

import numpy as np

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy import elementary
from koinon.privacy.approximations import sigmoid as _sigmoid
from koinon.privacy.graph import Node, Shortcut
from koinon.privacy.secret import (
    HEADROOM_BITS,
    Claim,
    Product,
    Secret,
    joined,
    multiply,
    negative,
    noise,
    positive_part,
    public,
    truncate,
)

Number = "float | int | np.ndarray"
_FINEST_CONSTANT: Final = 40
_LEAST_CONSTANT_BITS: Final = 10

Protocol = Generator[None, None, Secret]


class SecretArray:
    """An array of secret numbers.

    Inside, a single number is an array of shape (1,): engines move arrays, and NumPy's scalars warn where words wrap.

    Attributes:
        node: the operation whose result it is.
        precision: fraction bits its numbers are kept with; 0 for whole numbers and bits.
        is_bit: every number is 0 or 1.
        exact: where it comes from, if it is a product that was truncated, or such a one plus others.
    """

    __slots__ = ("exact", "is_bit", "node", "precision")
    __array_ufunc__ = None  # NumPy leaves operators with a SecretArray to us
    __hash__ = None  # type: ignore[assignment]  # == compares the numbers, in secret

    def __init__(self, node: Node, precision: int, *, is_bit: bool = False) -> None:
        self.node, self.precision, self.is_bit = node, precision, is_bit
        self.exact: _Exact | None = None

    # ------------------------------------------------------------------------------------------------- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def T(self) -> "SecretArray":  # noqa: N802  # NumPy's name
        return self._rearranged(np.transpose)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a secret number has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"SecretArray(shape={self.shape}, precision={self.precision})"

    def __bool__(self) -> bool:
        raise TypeError("a secret has no truth value; choose between two results with where(condition, a, b)")

    def __float__(self) -> float:
        raise TypeError("a secret cannot become a plain number here; reveal it to the result party")

    __int__ = __index__ = __float__

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("a secret array cannot become a NumPy array; reveal it to the result party")

    # ------------------------------------------------------------------------------------------------- layout

    def __getitem__(self, index: Any) -> "SecretArray":
        return self._rearranged(lambda words: words[index])

    def reshape(self, *shape: int) -> "SecretArray":
        return self._rearranged(lambda words: words.reshape(shape))

    def ravel(self) -> "SecretArray":
        return self.reshape(-1)

    def transpose(self, *axes: int) -> "SecretArray":
        return self._rearranged(lambda words: words.transpose(*axes))

    def broadcast_to(self, *shape: int) -> "SecretArray":
        return self._rearranged(lambda words: np.broadcast_to(words, shape))

    def rearranged(self, change: Callable[[np.ndarray], np.ndarray]) -> "SecretArray":
        """Another layout of the same numbers, each left out, once or more often there: index, transpose, broadcast."""
        return self._rearranged(change)

    def _rearranged(self, change: Callable[[np.ndarray], np.ndarray]) -> "SecretArray":
        def arranged(words: np.ndarray) -> np.ndarray:
            return np.atleast_1d(change(words.reshape(self.shape)))

        shape = np.shape(change(_outline(self.shape)))
        return self._with(lambda x: x.rearranged(arranged), (self,), shape, is_bit=self.is_bit)

    # ------------------------------------------------------------------------------------------------- sums

    def sum(self, axis: int | None = None) -> "SecretArray":
        """Exact sum over one axis, or over all numbers."""
        flat = self.ravel() if axis is None else self
        place = 0 if axis is None else _axis(axis, self.ndim)
        shape = flat.shape[:place] + flat.shape[place + 1 :]
        return self._with(lambda x: x.sum(place) if shape else x.reshape(-1, 1).sum(0), (flat,), shape)

    def mean(self, axis: int | None = None) -> "SecretArray":
        """Mean over one axis, or over all numbers: exact to the precision for any number of rows.

        The sum is exact and is multiplied once by 1/n with all the bits that a word has left; dividing every number
        first would add up n rounding errors.
        """
        count = self.size if axis is None else self.shape[_axis(axis, self.ndim)]
        if not count:
            raise InvalidInput("the mean of no numbers is not defined")
        return self._fraction().sum(axis).times(1.0 / count)

    def cumsum(self, axis: int = -1) -> "SecretArray":
        """Exact running sums along one axis."""
        place = _axis(axis, self.ndim)

        def added(x: Secret) -> Secret:
            summed = x.rearranged(lambda words: np.cumsum(words, place, dtype=words.dtype))
            return Secret(summed.machine, summed.data, summed.fraction_bits, x.bound * max(self.shape[place], 1))

        return self._with(added, (self,), self.shape)

    # ------------------------------------------------------------------------------------------------- arithmetic

    def __add__(self, other: "SecretArray | float | np.ndarray") -> "SecretArray":
        if isinstance(other, SecretArray):
            total = _made(lambda x, y: x + y, (self, other), _broadcast(self, other), _finer(self, other))
            for one, two in ((self, other), (other, self)):
                if one.exact is not None and one.shape == total.shape and total.exact is None:
                    total.exact = one.exact.plus(two.node, total.node)
            return total
        values = _plain(other)
        shape = np.broadcast_shapes(self.shape, values.shape)
        precision = self.precision if not self.precision and _whole(values) else max(self.precision, DEFAULT_PRECISION)
        return _made(
            lambda x: x + public(x.machine, values, max(precision, x.fraction_bits)), (self,), shape, precision
        )

    __radd__ = __add__

    def __neg__(self) -> "SecretArray":
        return self._with(lambda x: -x, (self,), self.shape)

    def __sub__(self, other: "SecretArray | float | np.ndarray") -> "SecretArray":
        return self + (-other if isinstance(other, SecretArray) else -_plain(other))

    def __rsub__(self, other: float | np.ndarray) -> "SecretArray":
        return -self + other

    def __mul__(self, other: "SecretArray | float | np.ndarray") -> "SecretArray":
        return product(self, other, Product.ELEMENTWISE) if isinstance(other, SecretArray) else self.times(other)

    __rmul__ = __mul__

    def __matmul__(self, other: "SecretArray | np.ndarray") -> "SecretArray":
        return matrix_product(self, other)

    def __rmatmul__(self, other: np.ndarray) -> "SecretArray":
        return matrix_product(constant_like(self, other), self)

    def times(self, factors: float | np.ndarray) -> "SecretArray":
        """Product with public numbers; exact where they are whole."""
        values = _plain(factors)
        shape = np.broadcast_shapes(self.shape, values.shape)
        if _whole(values):
            return self._with(lambda x: x.times(values.astype(np.int64)), (self,), shape)
        precision = self.precision or DEFAULT_PRECISION
        return _made(lambda x: _times_public(x, values, precision), (self,), shape, precision)

    def __truediv__(self, other: "SecretArray | float | np.ndarray") -> "SecretArray":
        """Quotient. By a secret, the divisor is at least 2⁻¹⁰ in absolute value (else see ``divide``)."""
        if isinstance(other, SecretArray):
            return divide(self, other)
        values = _plain(other)
        if not values.all():
            raise InvalidInput("a secret array cannot be divided by 0")
        return self.times(1.0 / values)

    def __rtruediv__(self, other: float | np.ndarray) -> "SecretArray":
        return divide(constant_like(self, other), self)

    def __pow__(self, exponent: int) -> "SecretArray":
        if not isinstance(exponent, int) or not 1 <= exponent <= 64:
            raise InvalidInput(f"a secret array is raised to whole powers from 1 to 64; got {exponent!r}")
        half = self if exponent == 1 else self ** (exponent // 2)
        if exponent == 1:
            return self
        square = half * half
        return square * self if exponent % 2 else square

    def __abs__(self) -> "SecretArray":
        return where(self < 0, -self, self)

    # ------------------------------------------------------------------------------------------------- comparison

    def __lt__(self, other: "SecretArray | float | np.ndarray") -> "SecretArray":  # type: ignore[misc]
        difference = self - other
        return _made(negative, (difference,), difference.shape, 0, is_bit=True)

    def __gt__(self, other: "SecretArray | float | np.ndarray") -> "SecretArray":  # type: ignore[misc]
        return -self < (-other if isinstance(other, SecretArray) else -_plain(other))

    def __ge__(self, other: "SecretArray | float | np.ndarray") -> "SecretArray":  # type: ignore[misc]
        return ~(self < other)

    def __le__(self, other: "SecretArray | float | np.ndarray") -> "SecretArray":  # type: ignore[misc]
        return ~(self > other)

    def __eq__(self, other: object) -> "SecretArray":  # type: ignore[override]
        """Equality of the words: meant for whole numbers and codes."""
        if not isinstance(other, SecretArray | int | float | np.ndarray):
            return NotImplemented
        return ~((self < other) | (self > other))

    def __ne__(self, other: object) -> "SecretArray":  # type: ignore[override]
        if not isinstance(other, SecretArray | int | float | np.ndarray):
            return NotImplemented
        return (self < other) | (self > other)

    # ------------------------------------------------------------------------------------------------- logic of bits

    def __invert__(self) -> "SecretArray":
        return _made(lambda x: -x + 1.0, (_bit(self),), self.shape, 0, is_bit=True)

    def __and__(self, other: "SecretArray") -> "SecretArray":
        return _as_bit(product(_bit(self), _bit(other), Product.ELEMENTWISE))

    def __or__(self, other: "SecretArray") -> "SecretArray":
        return ~(~self & ~other)

    def __xor__(self, other: "SecretArray") -> "SecretArray":
        difference = self - other
        return _as_bit(product(difference, difference, Product.ELEMENTWISE))

    # ------------------------------------------------------------------------------------------------- inside

    def _with(
        self,
        rule: Callable[..., Secret],
        operands: Sequence["SecretArray"],
        shape: tuple[int, ...],
        *,
        is_bit: bool = False,
    ) -> "SecretArray":
        return _made(rule, operands, shape, self.precision, is_bit=is_bit)

    def _fraction(self) -> "SecretArray":
        """The same numbers, kept with fraction bits."""
        return self if self.precision else SecretArray(self.node, DEFAULT_PRECISION)


class _Exact(NamedTuple):
    """A product before it is truncated, and what is added: a rectifier can do with these (REP4-POSITIVE).

    Attributes:
        factors, multiplied: of the product, whose rule leaves all fraction bits.
        addends: to it.
        spared: the nodes that truncate and add.
    """

    factors: tuple[Node, ...]
    multiplied: Callable[..., Protocol]
    addends: tuple[Node, ...]
    spared: tuple[Node, ...]

    def plus(self, addend: Node, total: Node) -> "_Exact":
        return self._replace(addends=(*self.addends, addend), spared=(*self.spared, total))


DEFAULT_PRECISION: Final = 20
"""Fraction bits of what becomes a fraction: numbers up to 2²¹ may be multiplied, with errors of a millionth."""


# ----------------------------------------------------------------------------------------------------- products


def product(
    left: SecretArray, right: SecretArray, kind: Product, claim: Claim | None = None, precision: int | None = None
) -> SecretArray:
    """Elementwise product, or one summed over axis 0 without rounding each term (``Product.COLUMN_DOT``).

    Args:
        claim: a proven bound on every number of the result, where the product of the bounds is too wide.
        precision: fraction bits of the result; by default those of the finer factor.
    """
    shape = _broadcast(left, right)
    kept = _finer(left, right) if precision is None else precision

    def multiplied(x: Secret, y: Secret) -> Protocol:
        exact = x.fraction_bits + y.fraction_bits <= kept
        return multiply(x, y, kind=kind, fraction_bits=None if exact else kept, claim=claim)

    result = _made(multiplied, (left, right), shape[1:] if kind is Product.COLUMN_DOT else shape, kept)
    return _with_exact(result, lambda x, y: multiply(x, y, kind=kind, claim=claim))


def matrix_product(left: SecretArray, right: "SecretArray | np.ndarray", claim: Claim | None = None) -> SecretArray:
    """Matrix product of one- or two-dimensional arrays, as ``@`` has it; sums are exact, only results are rounded.

    Args:
        claim: a proven bound on every entry, where the sum of the bounds is too wide.
    """
    other = right if isinstance(right, SecretArray) else constant_like(left, right)
    first = left.reshape(1, -1) if left.ndim == 1 else left
    second = other.reshape(-1, 1) if other.ndim == 1 else other
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[0]:
        raise InvalidInput(f"arrays of shapes {left.shape} and {other.shape} have no matrix product")
    precision = _finer(left, other)

    def multiplied(x: Secret, y: Secret) -> Protocol:
        exact = x.fraction_bits + y.fraction_bits <= precision
        return multiply(x, y, kind=Product.MATRIX, fraction_bits=None if exact else precision, claim=claim)

    result = _made(multiplied, (first, second), (first.shape[0], second.shape[1]), precision)
    result = _with_exact(result, lambda x, y: multiply(x, y, kind=Product.MATRIX, claim=claim))
    shape = (first.shape[0],) * (left.ndim == 2) + (second.shape[1],) * (other.ndim == 2)
    return result if result.shape == shape else result.reshape(*shape)


def _with_exact(result: SecretArray, multiplied: Callable[..., Protocol]) -> SecretArray:
    """The product, remembering the rule that leaves all fraction bits."""
    result.exact = _Exact(result.node.operands, multiplied, (), (result.node,))
    return result


def gram(rows: SecretArray, claim: Claim | None = None, precision: int | None = None) -> SecretArray:
    """XᵀX of an (n, d) array; half the work of ``rows.T @ rows``.

    Args:
        claim: a proven bound on every entry, where n times the square of the numbers' bound is too wide.
        precision: fraction bits of the result, up to twice those of the rows; by default those of the rows.
    """
    kept = rows.precision if precision is None else precision
    if rows.ndim != 2:
        raise InvalidInput(f"a Gram matrix is made of a table; got an array of shape {rows.shape}")

    def multiplied(x: Secret) -> Protocol:
        return multiply(x, x, kind=Product.GRAM, fraction_bits=kept if x.fraction_bits else None, claim=claim)

    return _made(multiplied, (rows,), (rows.shape[1],) * 2, kept)


def refined(array: SecretArray, precision: int) -> SecretArray:
    """The same numbers, kept with another number of fraction bits from here on."""

    def kept(x: Secret) -> Protocol:
        return truncate(x, precision) if x.fraction_bits > precision else _done(_at_least(x, precision))

    return _made(kept, (array,), array.shape, precision)


def with_noise(array: SecretArray, deviation: int) -> SecretArray:
    """The numbers plus normal noise that nobody knows; see ``secret.noise``.

    Args:
        deviation: of each of the four parts of the noise, in units of 2^−precision of the array.
    """

    def noisy(x: Secret) -> Secret:
        kept = _at_least(x, array.precision)
        return kept + noise(kept.machine, kept.shape, deviation, kept.fraction_bits)

    return _made(noisy, (array,), array.shape, array.precision)


def dot(left: SecretArray, right: SecretArray) -> SecretArray:
    """Sum of the products of two vectors, rounded once."""
    if left.ndim != 1 or left.shape != right.shape:
        raise InvalidInput(f"vectors of shapes {left.shape} and {right.shape} have no inner product")
    return product(left.reshape(-1, 1), right.reshape(-1, 1), Product.COLUMN_DOT)[0]


# ----------------------------------------------------------------------------------------------------- choice and order


def where(condition: SecretArray, chosen: SecretArray | float, other: SecretArray | float) -> SecretArray:
    """``chosen`` where the bit is 1, else ``other``; both are computed. One round."""
    if not isinstance(other, SecretArray):
        other = constant_like(chosen if isinstance(chosen, SecretArray) else condition, other)
    if not isinstance(chosen, SecretArray):
        chosen = constant_like(other, chosen)
    difference = chosen - other
    picked = product(_bit(condition), difference, Product.ELEMENTWISE) + other
    both = chosen.is_bit and other.is_bit

    def bounded(x: Secret, one: Secret, two: Secret) -> Secret:
        # SELECT: the result is one of the two.
        return x.within(Claim("SELECT", max(one.bound, two.bound)))

    shape = picked.shape
    return _made(bounded, (picked, chosen, other), shape, picked.precision, is_bit=both)


def exchange(swap: SecretArray, left: SecretArray, right: SecretArray) -> tuple[SecretArray, SecretArray]:
    """(right, left) where the bit is 1, else (left, right); one product for both."""
    moved = product(_bit(swap), right - left, Product.ELEMENTWISE)

    def bounded(x: Secret, one: Secret, two: Secret) -> Secret:
        return x.within(Claim("SELECT", max(one.bound, two.bound)))

    bits = left.is_bit and right.is_bit
    first, second = (
        _made(bounded, (each, left, right), each.shape, each.precision, is_bit=bits)
        for each in (left + moved, right - moved)
    )
    return first, second


def bounded(array: SecretArray, lemma: str, bound: float) -> SecretArray:
    """The same numbers, none of which is above ``bound`` in size by the lemma of this label in the specification."""
    return _made(lambda x: x.within(Claim(lemma, bound)), (array,), array.shape, array.precision, is_bit=array.is_bit)


def scaled_columns(rows: SecretArray) -> SecretArray:
    """The same rows; a computation whose columns may hold numbers beyond [−1, 1] is refused before anything is shared.

    What relies on that range (bounds by lemmas, distances, thresholds) asks for it here, instead of being wrong.
    """

    def checked(x: Secret) -> Secret:
        if x.bound > 1.0 + 2.0**-9:
            raise Refused(f"these columns may reach {x.bound:.4g}; run with scaled=True, or scale them to [-1, 1]")
        return x

    return _made(checked, (rows,), rows.shape, rows.precision, is_bit=rows.is_bit)


def maximum(left: SecretArray, right: SecretArray | float) -> SecretArray:
    """The larger of two, elementwise. Four rounds at most."""
    return ordered(left, right)[1]


def minimum(left: SecretArray, right: SecretArray | float) -> SecretArray:
    """The smaller of two, elementwise. Four rounds at most."""
    return ordered(left, right)[0]


def ordered(left: SecretArray, right: SecretArray | float) -> tuple[SecretArray, SecretArray]:
    """The smaller and the larger of two, elementwise; at most four rounds for both."""
    other = right if isinstance(right, SecretArray) else constant_like(left, right)
    surplus = relu(left - other)

    def bounded(x: Secret, one: Secret, two: Secret) -> Secret:
        # SELECT: the result is one of the two.
        return x.within(Claim("SELECT", max(one.bound, two.bound)))

    bits = left.is_bit and other.is_bit
    smaller, larger = (
        _made(bounded, (each, left, other), each.shape, each.precision, is_bit=bits)
        for each in (left - surplus, other + surplus)
    )
    return smaller, larger


def clip(x: SecretArray, low: float, high: float) -> SecretArray:
    """The numbers, with what lies outside [low, high] put on its ends."""
    if not low < high:
        raise InvalidInput(f"numbers are clipped between a lower and a higher end; got {low:g} and {high:g}")
    return bounded(maximum(minimum(x, high), constant_like(x, low)), "CLIP", max(abs(low), abs(high)) + 2.0**-10)


def concatenate(arrays: Sequence[SecretArray], axis: int = 0) -> SecretArray:
    """Join along an axis."""
    precision = max(array.precision for array in arrays)
    shape = np.concatenate([_outline(array.shape) for array in arrays], axis=axis).shape
    bits = all(array.is_bit for array in arrays)

    def put(*parts: Secret) -> Secret:
        finest = max(part.fraction_bits for part in parts)
        return joined([part.widened(finest - part.fraction_bits) for part in parts], axis)

    return _made(put, arrays, shape, precision, is_bit=bits)


def stack(arrays: Sequence[SecretArray]) -> SecretArray:
    """Join along a new first axis."""
    return concatenate([array.reshape(1, *array.shape) for array in arrays])


# ----------------------------------------------------------------------------------------------------- functions


def divide(numerator: SecretArray, divisor: SecretArray, lowest: float = 2.0**-10) -> SecretArray:
    """numerator / divisor; where the divisor is below half of ``lowest`` in size, 0."""
    below = divisor < 0
    size = where(below, -divisor, divisor)
    inverse = reciprocal(size, lowest)
    return numerator._fraction() * where(below, -inverse, inverse)


def reciprocal(x: SecretArray, lowest: float, precision: int | None = None) -> SecretArray:
    """1 / x for numbers that are never negative, with x's precision if none is given; see ``elementary.reciprocal``."""
    kept = precision or x.precision or DEFAULT_PRECISION
    return _made(lambda s: elementary.reciprocal(s, lowest, kept), (x,), x.shape, kept)


def exponential(x: SecretArray, largest: float | None = None) -> SecretArray:
    """eˣ; see ``elementary.exponential``."""
    precision = x.precision or DEFAULT_PRECISION
    return _made(lambda s: elementary.exponential(s, precision, largest), (x,), x.shape, precision)


def logarithm(x: SecretArray, lowest: float) -> SecretArray:
    """ln x for numbers that are never negative; see ``elementary.logarithm``."""
    precision = x.precision or DEFAULT_PRECISION
    return _made(lambda s: elementary.logarithm(s, lowest, precision), (x,), x.shape, precision)


def sigmoid(x: SecretArray) -> SecretArray:
    """1 / (1 + e⁻ˣ) with an error below 3 · 10⁻⁴."""
    wide = x._fraction()
    return _made(lambda s: _sigmoid(_at_least(s, wide.precision), wide.precision), (wide,), x.shape, wide.precision)


def square_root(x: SecretArray, lowest: float) -> SecretArray:
    """√x for numbers that are never negative; see ``elementary.square_root``."""
    precision = x.precision or DEFAULT_PRECISION
    return _made(lambda s: elementary.square_root(s, lowest, precision), (x,), x.shape, precision)


def relu(x: SecretArray) -> SecretArray:
    """max(x, 0). A product, with what is added to it, is truncated in the same rounds if nothing else needs it."""
    made = _made(lambda s: positive_part(s, s.fraction_bits), (x,), x.shape, x.precision, is_bit=x.is_bit)
    if x.exact is None or x.is_bit:
        return made
    factors, multiplied, addends, spared = x.exact
    product = Node(factors, spared[0].shape, multiplied)
    rule = partial(_rectified, x.precision)
    node = Node(made.node.operands, x.shape, made.node.rule, Shortcut((product, *addends), rule, spared))
    return SecretArray(node, x.precision)


def _rectified(precision: int, exact: Secret, *addends: Secret) -> Protocol:
    """max(Σ, 0), truncated as part of the same protocol where the exact sum fits in a word."""
    try:
        total = sum(addends, exact)
    except Refused:
        total = sum(addends, (yield from truncate(exact, precision)))
    return (yield from positive_part(total, min(precision, total.fraction_bits)))


def softmax(x: SecretArray) -> SecretArray:
    """e^xᵢ / Σ e^xⱼ along the last axis."""
    from koinon.privacy.ordering import largest

    top = largest(x, -1)
    # SELECT: the largest was taken from these numbers, so no difference is above 0.
    powers = exponential(x - top.reshape(*top.shape, 1), largest=0.0)
    total = powers.sum(-1)
    inverse = reciprocal(total, 1.0)
    return powers * inverse.reshape(*inverse.shape, 1)


def made(
    rule: Callable[..., Any], operands: Sequence[SecretArray], shape: tuple[int, ...], precision: int
) -> SecretArray:
    """The result of a protocol on Secrets, written directly, as an array: for what is not made of array operations.

    Args:
        rule: the operands' Secrets → the result's Secret, or a generator that returns it.
    """
    return _made(rule, operands, shape, precision)


# ----------------------------------------------------------------------------------------------------- inside


def _made(
    rule: Callable[..., Any],
    operands: Sequence[SecretArray],
    shape: tuple[int, ...],
    precision: int,
    *,
    is_bit: bool = False,
) -> SecretArray:
    made = _bits_of(rule) if is_bit else rule
    return SecretArray(Node([operand.node for operand in operands], shape, made), precision, is_bit=is_bit)


def _bits_of(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The same rule with the bound of a bit, which interval arithmetic loses at the first negation (BIT)."""

    def bounded(*operands: Secret) -> Protocol:
        outcome = rule(*operands)
        bits: Secret = outcome if isinstance(outcome, Secret) else (yield from outcome)
        return bits.within(Claim("BIT", 1.0))

    return bounded


def _times_public(x: Secret, values: np.ndarray, precision: int) -> Protocol:
    """x · values, with the constant as exact as the word allows."""
    largest = float(np.abs(values).max(initial=0.0))
    room = (
        HEADROOM_BITS - 1 - ceil(log2(max(x.bound, 2.0**-40) * max(largest, 2.0**-_FINEST_CONSTANT))) - x.fraction_bits
    )
    bits = min(room, _FINEST_CONSTANT + max(0, -ceil(log2(largest)) if largest else 0))
    if bits < _LEAST_CONSTANT_BITS:
        raise Refused(
            f"numbers up to {x.bound:.4g} with {x.fraction_bits} fraction bits leave no room to be multiplied by"
            f" {largest:.4g}; declare narrower ranges or fewer fraction bits"
        )
    scaled = x.times(np.round(values * 2.0**bits).astype(np.int64)).halved(bits)
    return truncate(scaled, precision) if scaled.fraction_bits >= precision else _done(scaled)


def _done(value: Secret) -> Protocol:
    yield from ()
    return value


def _at_least(value: Secret, fraction_bits: int) -> Secret:
    return value.widened(max(0, fraction_bits - value.fraction_bits))


def constant_like(array: SecretArray, numbers: float | np.ndarray) -> SecretArray:
    """Public numbers as an array of the same computation."""
    values = _plain(numbers)
    precision = 0 if _whole(values) else max(array.precision, DEFAULT_PRECISION)
    bits = bool(np.isin(values, (0.0, 1.0)).all())
    rows = np.atleast_1d(values)
    return _made(lambda x: public(x.machine, rows, precision), (array,), values.shape, precision, is_bit=bits)


def _bit(array: SecretArray) -> SecretArray:
    if not array.is_bit:
        raise InvalidInput(
            "conditions and logic need bits, such as the result of a comparison; compare the numbers first"
        )
    return array


def _as_bit(array: SecretArray) -> SecretArray:
    return _made(lambda x: x, (array,), array.shape, 0, is_bit=True)


def _broadcast(left: SecretArray, right: SecretArray) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        raise InvalidInput(f"arrays of shapes {left.shape} and {right.shape} do not go together") from None


def _finer(left: SecretArray, right: SecretArray) -> int:
    return max(left.precision, right.precision)


def _plain(values: object) -> np.ndarray:
    plain = np.asarray(values)
    if plain.dtype.kind not in "biuf":
        raise InvalidInput(f"secret arrays are combined with numbers; got {plain.dtype}")
    numbers = plain.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InvalidInput("secret arrays are combined with finite numbers; got one that is not")
    return numbers


def _whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all()) and bool((np.abs(values) < 2.0**53).all())


def _outline(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.zeros((), np.uint8), shape)


def _axis(axis: int, dimensions: int) -> int:
    if not -dimensions <= axis < dimensions:
        raise InvalidInput(f"an array with {dimensions} dimensions has no axis {axis}")
    return axis % dimensions
