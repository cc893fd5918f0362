"""``Secret`` arrays: fixed-point numbers that nobody sees, with a proof that they cannot overflow.

A Secret is an array of 64-bit words that an engine (a ``Machine``) holds in its own form; the word w stands for the
number w · 2^−fraction_bits. Every Secret carries a bound on the absolute value of its numbers. Bounds follow from the
shapes, the declared input ranges and the public constants alone, never from data; an operation whose result might
reach 2⁶² words raises Refused, so a program that could wrap around is refused before anything is shared
(``estimate.estimate`` runs it on shapes only). Where interval arithmetic is too coarse, a program states a ``Claim``
whose label names the lemma in the specification that proves it.

What needs messages is a generator, to be used as ``yield from``; every ``yield`` ends one round.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from typing import Any, Final, Protocol

import numpy as np

from koinon.kernel.errors import Refused
from koinon.privacy.differential.noise import REACH

HEADROOM_BITS: Final = 62
"""Words stay below 2⁶² in absolute value: what truncation needs to be exact up to one unit in the last place."""
WIDEST_DROP: Final = 61
MOST_COMPARED: Final = 1 << 19
"""Words whose signs are found at once: a party needs about 300 bytes for each."""
NOISE_PARTS: Final = 4
"""Independent parts of a secret noise, whatever the engine."""


class Product(Enum):
    """How two arrays are multiplied."""

    ELEMENTWISE = "elementwise"
    """with NumPy's broadcasting"""
    MATRIX = "matrix"
    """(m, k) × (k, n) → (m, n)"""
    COLUMN_DOT = "column dot"
    """elementwise, then summed over axis 0"""
    GRAM = "gram"
    """XᵀX of one (n, d) matrix"""


def product_shape(kind: Product, left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a product. Raises ValueError where NumPy would."""
    if kind is Product.MATRIX:
        if len(left) != 2 or len(right) != 2 or left[1] != right[0]:
            raise ValueError(f"no matrix product of shapes {left} and {right}")
        return (left[0], right[1])
    if kind is Product.GRAM:
        return (left[1], left[1])
    shape = np.broadcast_shapes(left, right)
    return shape[1:] if kind is Product.COLUMN_DOT else shape


class Machine(Protocol):
    """The arithmetic of one engine on arrays of words modulo 2⁶⁴, in a form (``Any``) that only the engine knows."""

    def constant(self, words: np.ndarray) -> Any:
        """A public array of uint64 words."""

    def shape(self, data: Any) -> tuple[int, ...]: ...

    def add(self, left: Any, right: Any) -> Any: ...

    def scale(self, data: Any, factors: np.ndarray) -> Any:
        """Elementwise product with public int64 factors, broadcasting."""

    def rearrange(self, data: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
        """Apply a linear change of layout (index, reshape, transpose, sum) to the words."""

    def join(self, parts: Sequence[Any], axis: int) -> Any:
        """Concatenate."""

    def multiply(self, left: Any, right: Any, kind: Product) -> Generator[None, None, Any]:
        """Exact product modulo 2⁶⁴."""

    def multiply_truncate(
        self, left: Any, right: Any, kind: Product, drop: int, plus: Any | None
    ) -> Generator[None, None, Any]:
        """⌊(product + plus) / 2^drop⌋, or one more, for |product + plus| < 2⁶²."""

    def truncate(self, data: Any, drop: int) -> Generator[None, None, Any]:
        """⌊data / 2^drop⌋, or one more, for |data| < 2⁶²."""

    def negative(self, data: Any, limit: float, drop: int) -> Generator[None, None, Any]:
        """1 where the word is negative as a signed number, else 0.

        Args:
            limit: no word is larger in absolute value.
            drop: low bits that may be ignored: from 0 to 2^(drop + 1) either answer will do.
        """

    def positive_part(self, data: Any, limit: float, ignored: int, drop: int) -> Generator[None, None, Any]:
        """⌊data / 2^drop⌋, or one more, where the word is not negative, else 0.

        Args:
            limit: no word is larger in absolute value; below 2⁶² if ``drop`` is not 0.
            ignored: a word from 0 to 2^(ignored + 1) may also become 0.
        """

    def noise(self, shape: tuple[int, ...], deviation: int) -> Any:
        """Words that are integers around 0, drawn in secret; see ``noise`` below."""

    def shuffle(self, data: Any) -> Generator[None, None, Any]:
        """The rows (axis 0) in a secret, uniformly random order."""

    def observe(self, data: Any, limit: float, label: str) -> None:
        """Told that every |word| ≤ limit by the lemma ``label``; an engine that sees plain numbers checks it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A bound that interval arithmetic cannot find.

    Attributes:
        lemma: label of its proof in the specification.
        bound: on the absolute value of every number of the result.
        elsewhere_unused: the bound holds only where the result is used; elsewhere it is multiplied by exactly 0, so
            that even a wrapped word changes nothing.
    """

    lemma: str
    bound: float
    elsewhere_unused: bool = False


@dataclass(frozen=True, slots=True)
class Secret:
    """An array of secret fixed-point numbers.

    Attributes:
        machine: the engine that holds it.
        data: the words, in the engine's form.
        fraction_bits: a word w stands for w · 2^−fraction_bits.
        bound: no number is larger in absolute value.
    """

    machine: Machine
    data: Any
    fraction_bits: int
    bound: float

    def __post_init__(self) -> None:
        if not self.bound * 2.0**self.fraction_bits < 2.0**HEADROOM_BITS:
            raise Refused(
                f"the program could overflow: numbers up to {self.bound:.4g} with {self.fraction_bits} fraction bits"
                f" do not fit in {HEADROOM_BITS} bits; declare narrower ranges, fewer rows or fewer fraction bits"
            )

    def __repr__(self) -> str:
        return f"Secret(shape={self.shape}, fraction_bits={self.fraction_bits}, bound={self.bound:.4g})"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.machine.shape(self.data)

    @property
    def T(self) -> "Secret":  # noqa: N802  # NumPy's name
        return self.rearranged(np.transpose)

    def __getitem__(self, index: Any) -> "Secret":
        return self.rearranged(lambda words: words[index])

    def reshape(self, *shape: int) -> "Secret":
        return self.rearranged(lambda words: words.reshape(*shape))

    def sum(self, axis: int) -> "Secret":
        """Exact sum over one axis."""
        count = self.shape[axis]
        return replace(
            self.rearranged(lambda words: words.sum(axis, dtype=words.dtype)), bound=self.bound * max(count, 1)
        )

    def broadcast(self, *shape: int) -> "Secret":
        return self.rearranged(lambda words: np.broadcast_to(words, shape))

    def __add__(self, other: "Secret | float | np.ndarray") -> "Secret":
        addend = other if isinstance(other, Secret) else public(self.machine, other, self.fraction_bits)
        left, right = aligned(self, addend)
        data = self.machine.add(left.data, right.data)
        return Secret(self.machine, data, left.fraction_bits, left.bound + right.bound)

    def __neg__(self) -> "Secret":
        return self.times(-1)

    def __sub__(self, other: "Secret | float | np.ndarray") -> "Secret":
        return self + (-other)

    def times(self, factors: int | np.ndarray) -> "Secret":
        """Exact product with public integers."""
        integers = np.asarray(factors, np.int64)
        largest = float(np.abs(integers).max(initial=0))
        return Secret(self.machine, self.machine.scale(self.data, integers), self.fraction_bits, self.bound * largest)

    def widened(self, bits: int) -> "Secret":
        """The same numbers with ``bits`` more fraction bits."""
        if not bits:
            return self
        data = self.machine.scale(self.data, np.asarray(1 << bits, np.int64))
        return Secret(self.machine, data, self.fraction_bits + bits, self.bound)

    def halved(self, times: int) -> "Secret":
        """The numbers divided by 2^times, exactly: the same words read with more fraction bits."""
        return Secret(self.machine, self.data, self.fraction_bits + times, self.bound / 2.0**times)

    def within(self, claim: Claim) -> "Secret":
        """The same array with a tighter bound. Raises nothing; a wrong claim is caught by the clear engine's tests."""
        if not claim.elsewhere_unused:
            self.machine.observe(self.data, claim.bound * 2.0**self.fraction_bits, claim.lemma)
        return Secret(self.machine, self.data, self.fraction_bits, min(self.bound, claim.bound))

    def rearranged(self, change: Callable[[np.ndarray], np.ndarray]) -> "Secret":
        return Secret(self.machine, self.machine.rearrange(self.data, change), self.fraction_bits, self.bound)


def public(machine: Machine, numbers: float | np.ndarray, fraction_bits: int) -> Secret:
    """Public numbers as a Secret, rounded to ``fraction_bits``. Raises Refused if they do not fit."""
    values = np.asarray(numbers, np.float64)
    bound = float(np.abs(values).max(initial=0.0)) + 2.0 ** -(fraction_bits + 1)
    if not bound * 2.0**fraction_bits < 2.0**HEADROOM_BITS:
        raise Refused(f"a public constant of {bound:.4g} does not fit with {fraction_bits} fraction bits")
    words = np.round(values * 2.0**fraction_bits).astype(np.int64).view(np.uint64)
    return Secret(machine, machine.constant(words), fraction_bits, bound)


def noise(machine: Machine, shape: tuple[int, ...], deviation: int, fraction_bits: int) -> Secret:
    """Normal noise, rounded to whole units of 2^−fraction_bits, that nobody knows: no message is needed.

    It is the sum of one independent N(0, deviation²) for every component of a sharing, so that whoever works together
    with one corrupted party still lacks one of them. A single party's computation draws as many.

    Args:
        deviation: of each, in units of 2^−fraction_bits, 1 to 2⁴⁰.
    """
    bound = NOISE_PARTS * (REACH * deviation + 1) * 2.0**-fraction_bits
    return Secret(machine, machine.noise(shape, deviation), fraction_bits, bound)


def aligned(left: Secret, right: Secret) -> tuple[Secret, Secret]:
    """Both with the larger number of fraction bits."""
    difference = left.fraction_bits - right.fraction_bits
    if difference < 0:
        return left.widened(-difference), right
    return left, right.widened(difference) if difference else right


def joined(parts: Sequence[Secret], axis: int) -> Secret:
    """Concatenate arrays of equal fraction bits."""
    bits = {part.fraction_bits for part in parts}
    if len(bits) != 1:
        raise ValueError(f"arrays with different fraction bits {sorted(bits)} cannot be joined")
    machine = parts[0].machine
    data = machine.join([part.data for part in parts], axis)
    return Secret(machine, data, bits.pop(), max(part.bound for part in parts))


def multiply(
    left: Secret,
    right: Secret,
    *,
    fraction_bits: int | None = None,
    kind: Product = Product.ELEMENTWISE,
    plus: Secret | None = None,
    claim: Claim | None = None,
) -> Generator[None, None, Secret]:
    """left · right + plus.

    Args:
        fraction_bits: of the result; None keeps the exact product with left's and right's bits together (one round),
            otherwise the surplus is truncated in the same protocol (two rounds; error below one unit in the last
            place above the floor).
        plus: added before truncation; has the fraction bits of the exact product.
        claim: a proven bound on the result.

    Raises:
        Refused: the exact result could overflow.
    """
    machine, bits = left.machine, left.fraction_bits + right.fraction_bits
    bound = left.bound * right.bound * _terms(kind, left.shape) + (plus.bound if plus else 0.0)
    if claim is not None:
        bound = min(bound, claim.bound)
    drop = 0 if fraction_bits is None else bits - fraction_bits
    exact = Secret(machine, None, bits, bound)
    if plus is not None and plus.fraction_bits != bits:
        raise ValueError(f"plus has {plus.fraction_bits} fraction bits, the product {bits}")
    if not 0 <= drop <= WIDEST_DROP:
        raise ValueError(f"a product with {bits} fraction bits cannot be given {fraction_bits}")
    if drop == 0:
        data = yield from machine.multiply(left.data, right.data, kind)
        result = replace(exact, data=machine.add(data, plus.data) if plus else data)
    else:
        data = yield from machine.multiply_truncate(left.data, right.data, kind, drop, plus.data if plus else None)
        result = Secret(machine, data, bits - drop, bound + 2.0 ** -(bits - drop))
    if claim is not None and not claim.elsewhere_unused:
        machine.observe(result.data, result.bound * 2.0**result.fraction_bits, claim.lemma)
    return result


def truncate(value: Secret, fraction_bits: int) -> Generator[None, None, Secret]:
    """The same numbers with fewer fraction bits, rounded down or up: two rounds."""
    drop = value.fraction_bits - fraction_bits
    if drop == 0:
        return value
    if drop < 0:
        raise ValueError(f"{value.fraction_bits} fraction bits cannot be truncated to {fraction_bits}")
    if drop > WIDEST_DROP:
        raise Refused(
            f"a number of {value.fraction_bits} fraction bits is more than {WIDEST_DROP} finer than the result's"
            f" {fraction_bits}; multiply by larger public numbers, or by none so close to 0"
        )
    data = yield from value.machine.truncate(value.data, drop)
    return Secret(value.machine, data, fraction_bits, value.bound + 2.0**-fraction_bits)


def negative(value: Secret, fraction_bits: int | None = None) -> Generator[None, None, Secret]:
    """1 where the number is below 0, else 0, as integers: at most four rounds for every MOST_COMPARED words.

    More words are compared piece by piece, so that memory does not grow with them.

    Args:
        fraction_bits: those that count: a number from 0 to 2^(1 − fraction_bits) may go either way, which makes
            comparing cheaper; None for all.
    """
    drop = 0 if fraction_bits is None else max(value.fraction_bits - fraction_bits, 0)
    limit, size = value.bound * 2.0**value.fraction_bits, prod(value.shape)
    if size <= MOST_COMPARED:
        data = yield from value.machine.negative(value.data, limit, drop)
        return Secret(value.machine, data, 0, 1.0)
    flat = value.reshape(-1)
    parts: list[Any] = []
    for start in range(0, size, MOST_COMPARED):
        parts += [(yield from value.machine.negative(flat[start : start + MOST_COMPARED].data, limit, drop))]
    return Secret(value.machine, value.machine.join(parts, 0), 0, 1.0).reshape(*value.shape)


def positive_part(value: Secret, fraction_bits: int) -> Generator[None, None, Secret]:
    """max(value, 0) in at most four rounds for every MOST_COMPARED words, right to two units in the last place.

    Args:
        fraction_bits: of the result; no more than those of ``value``.
    """
    drop = value.fraction_bits - fraction_bits
    if not 0 <= drop <= WIDEST_DROP:
        raise ValueError(f"{value.fraction_bits} fraction bits cannot be truncated to {fraction_bits}")
    limit, machine, flat = value.bound * 2.0**value.fraction_bits, value.machine, value.reshape(-1)
    parts: list[Any] = []
    for start in range(0, max(prod(value.shape), 1), MOST_COMPARED):
        part = flat[start : start + MOST_COMPARED].data
        parts += [(yield from machine.positive_part(part, limit, drop, drop))]
    data = parts[0] if len(parts) == 1 else machine.join(parts, 0)
    bound = value.bound + (2.0**-fraction_bits if drop else 0.0)
    return Secret(machine, data, fraction_bits, bound).reshape(*value.shape)


def shuffled(value: Secret) -> Generator[None, None, Secret]:
    """The rows (axis 0) in a uniformly random order that nobody knows: four rounds."""
    data = yield from value.machine.shuffle(value.data)
    return replace(value, data=data)


def together(*protocols: Generator[None, None, Any]) -> Generator[None, None, list[Any]]:
    """Run independent protocols side by side, so that they share their rounds; their results in order."""
    results: list[Any] = [None] * len(protocols)
    running = dict(enumerate(protocols))
    while running:
        for index in list(running):
            try:
                next(running[index])
            except StopIteration as end:
                results[index] = end.value
                del running[index]
        if running:
            yield
    return results


def _terms(kind: Product, left: tuple[int, ...]) -> int:
    match kind:
        case Product.ELEMENTWISE:
            return 1
        case Product.MATRIX:
            return max(left[1], 1)
        case Product.GRAM | Product.COLUMN_DOT:
            return max(left[0], 1)
