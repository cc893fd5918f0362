"""What a program costs and whether it can overflow, from shapes and ranges alone, before anything is shared."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.privacy.backend import Program
from koinon.privacy.secret import Product, Secret, product_shape

Outline = np.ndarray
"""An array without memory of its own: only its shape counts."""
Protocol = Generator[None, None, Outline]

ROUND_SECONDS: Final = 2e-3
BYTE_SECONDS: Final = 6e-9
PRODUCT_SECONDS: Final = 4e-9
"""Of computing, on two cores for all four: each round, each byte over all parties, each product in a matrix product;
measured with ``benchmarks/private.py``."""

MULTIPLY: Final = (1, 48)
"""(rounds, bytes per result over all parties) of one exact product; likewise below."""
MULTIPLY_TRUNCATE: Final = (2, 89)
TRUNCATE: Final = (2, 57)
NEGATIVE: Final = (4, 284)
NARROW: Final = (4, 168)
"""The sign of a word below NARROW_LIMIT in size."""
NARROW_LIMIT: Final = 2.0**31 - 2
FEW_NARROW: Final = (3, 329)
FEW: Final = 512
"""The same of up to so many words."""
SHUFFLE: Final = (4, 96)
_FAR_DROP: Final = 31
_FAR_BYTES: Final = 24
"""What a truncation by more bits than that sends besides, for each result."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Rounds of messages, bytes over all four parties, and products of two numbers inside matrix products, of the
    computation itself (without key agreement).
    """

    rounds: int
    traffic_bytes: int
    matrix_products: int = 0

    @property
    def computing_seconds(self) -> float:
        """Of arithmetic and handling messages, about, where two cores do the work of all four parties."""
        return self.rounds * ROUND_SECONDS + self.traffic_bytes * BYTE_SECONDS + self.matrix_products * PRODUCT_SECONDS


class OutlineMachine:
    """A Machine on shapes: every bound of a program is computed, and its cost counted, without any data."""

    def __init__(self) -> None:
        self.traffic_bytes = 0
        self.matrix_products = 0

    def constant(self, words: np.ndarray) -> Outline:
        return _outline(words.shape)

    def shape(self, data: Outline) -> tuple[int, ...]:
        return data.shape

    def add(self, left: Outline, right: Outline) -> Outline:
        return _outline(np.broadcast_shapes(left.shape, right.shape))

    def scale(self, data: Outline, factors: np.ndarray) -> Outline:
        return _outline(np.broadcast_shapes(data.shape, factors.shape))

    def rearrange(self, data: Outline, change: Callable[[np.ndarray], np.ndarray]) -> Outline:
        return _outline(change(data).shape)

    def join(self, parts: Sequence[Outline], axis: int) -> Outline:
        return _outline(np.concatenate(parts, axis=axis).shape)

    def multiply(self, left: Outline, right: Outline, kind: Product) -> Protocol:
        return self._multiplied(left, right, kind, MULTIPLY)

    def multiply_truncate(
        self, left: Outline, right: Outline, kind: Product, drop: int, plus: Outline | None
    ) -> Protocol:
        del plus
        return self._multiplied(left, right, kind, _by(drop, MULTIPLY_TRUNCATE))

    def truncate(self, data: Outline, drop: int) -> Protocol:
        return self._cost(data.shape, _by(drop, TRUNCATE))

    def negative(self, data: Outline, limit: float, drop: int) -> Protocol:
        return self._cost(data.shape, _sign(data.size, limit / 2.0**drop))

    def positive_part(self, data: Outline, limit: float, ignored: int, drop: int) -> Protocol:
        rounds, size = _sign(data.size, limit / 2.0**ignored)
        return self._cost(data.shape, (rounds, size + MULTIPLY[1] + (_by(drop, TRUNCATE)[1] if drop else 0)))

    def noise(self, shape: tuple[int, ...], deviation: int) -> Outline:
        del deviation
        return _outline(shape)

    def shuffle(self, data: Outline) -> Protocol:
        return self._cost(data.shape, SHUFFLE)

    def observe(self, data: Outline, limit: float, label: str) -> None:
        """There is no data to check."""

    def _multiplied(self, left: Outline, right: Outline, kind: Product, cost: tuple[int, int]) -> Protocol:
        shape = product_shape(kind, left.shape, right.shape)
        if kind in (Product.MATRIX, Product.GRAM):
            inner = left.shape[0] if kind is Product.GRAM else left.shape[1]
            self.matrix_products += shape[0] * shape[1] * inner
        return self._cost(shape, cost)

    def _cost(self, shape: tuple[int, ...], cost: tuple[int, int]) -> Protocol:
        rounds, size = cost
        self.traffic_bytes += size * int(np.prod(shape, dtype=np.int64))
        for _ in range(rounds):
            yield
        return _outline(shape)


def _sign(count: int, limit: float) -> tuple[int, int]:
    if limit >= NARROW_LIMIT:
        return NEGATIVE
    return FEW_NARROW if count <= FEW else NARROW


def estimate(program: Program) -> Estimate:
    """Run a program on shapes.

    Raises:
        Refused: some input within the declared ranges could overflow it.
    """
    machine = OutlineMachine()
    inputs = [Secret(machine, _outline(shape), program.fraction_bits, 1.0) for shape in program.shapes]
    rounds = sum(1 for _ in program.compute(machine, inputs))
    return Estimate(rounds, machine.traffic_bytes, machine.matrix_products)


def _by(drop: int, cost: tuple[int, int]) -> tuple[int, int]:
    """The cost of a truncation, or of what ends with one, by ``drop`` bits."""
    return cost[0], cost[1] + (_FAR_BYTES if drop > _FAR_DROP else 0)


def _outline(shape: tuple[int, ...]) -> Outline:
    return np.broadcast_to(np.zeros((), np.uint8), shape)
