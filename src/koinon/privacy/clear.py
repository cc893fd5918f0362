"""The reference engine: the same fixed-point arithmetic on plain numbers. It protects nobody; tests compare with it.

Truncation rounds down; every claimed bound is checked on the real numbers.
"""

from collections.abc import Callable, Generator, Sequence
from math import prod
from typing import Final

import numpy as np

from koinon.kernel.effects import Rng
from koinon.kernel.errors import Refused
from koinon.privacy.backend import Adversary, PlainInput, Program, Result, check_inputs, named_outputs
from koinon.privacy.differential.noise import WORDS, rounded_normal
from koinon.privacy.rep4.ring import MatrixLimbs, matrix_product
from koinon.privacy.secret import NOISE_PARTS, Product, Secret
from koinon.privacy.sharing import encoded

Words = np.ndarray
Protocol = Generator[None, None, Words]

ADVERSARY: Final = Adversary(1, 0, False, "Nobody: the computer that runs this sees every row. For tests only.")


class ClearMachine:
    """Arithmetic on arrays of uint64 words. ``rng`` is for noise alone."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def constant(self, words: Words) -> Words:
        return words

    def shape(self, data: Words) -> tuple[int, ...]:
        return data.shape

    def add(self, left: Words, right: Words) -> Words:
        return np.asarray(left + right)

    def scale(self, data: Words, factors: np.ndarray) -> Words:
        return np.asarray(data * factors.astype(np.int64).view(np.uint64))

    def rearrange(self, data: Words, change: Callable[[Words], Words]) -> Words:
        return np.asarray(change(data))

    def join(self, parts: Sequence[Words], axis: int) -> Words:
        return np.concatenate(parts, axis=axis)

    def multiply(self, left: Words, right: Words, kind: Product) -> Protocol:
        yield from ()
        match kind:
            case Product.MATRIX:
                return matrix_product(MatrixLimbs(left), MatrixLimbs(right))
            case Product.GRAM:
                return matrix_product(MatrixLimbs(np.ascontiguousarray(left.T)), MatrixLimbs(left))
            case Product.COLUMN_DOT:
                return np.asarray((left * right).sum(0, dtype=np.uint64))
            case Product.ELEMENTWISE:
                return np.asarray(left * right)

    def multiply_truncate(self, left: Words, right: Words, kind: Product, drop: int, plus: Words | None) -> Protocol:
        product = yield from self.multiply(left, right, kind)
        return _shifted(product if plus is None else product + plus, drop)

    def truncate(self, data: Words, drop: int) -> Protocol:
        yield from ()
        return _shifted(data, drop)

    def negative(self, data: Words, limit: float, drop: int) -> Protocol:
        del limit, drop
        yield from ()
        return data >> np.uint64(63)

    def positive_part(self, data: Words, limit: float, ignored: int, drop: int) -> Protocol:
        del limit, ignored
        yield from ()
        return _shifted(data * (np.uint64(1) - (data >> np.uint64(63))), drop)

    def noise(self, shape: tuple[int, ...], deviation: int) -> Words:
        count = prod(shape)
        drawn = np.frombuffer(self._rng.bytes(8 * WORDS * NOISE_PARTS * count), "<u8").astype(np.uint64)
        parts = rounded_normal(drawn.reshape(NOISE_PARTS, count, WORDS), deviation)
        return np.asarray(parts.sum(0)).view(np.uint64).reshape(shape)

    def shuffle(self, data: Words) -> Protocol:
        """One order for every number of rows, so that the reference engine stays reproducible."""
        yield from ()
        return np.asarray(data[np.random.default_rng(len(data)).permutation(len(data))])

    def observe(self, data: Words, limit: float, label: str) -> None:
        """Raises Refused where a lemma's bound does not hold: the program is wrong, or the input out of range."""
        largest = np.abs(np.asarray(data).view(np.int64).astype(np.float64)).max(initial=0.0)
        if largest > limit * (1 + 2.0**-40) + 1:
            raise Refused(f"the bound {label} does not hold on this input: {largest / limit:.3f} times its limit")


class ClearBackend:
    """Runs a program on plain numbers."""

    name: Final = "clear"
    adversary: Final = ADVERSARY

    def run(self, program: Program, inputs: Sequence[PlainInput], rng: Rng) -> Result:
        """See ``Backend.run``; ``rng`` is for noise alone."""
        check_inputs(program, inputs)
        machine = ClearMachine(rng)
        secrets = [
            Secret(machine, encoded(each.values, each.columns, program.fraction_bits), program.fraction_bits, 1.0)
            for each in inputs
        ]
        protocol = program.compute(machine, secrets)
        while True:
            try:
                next(protocol)
            except StopIteration as end:
                return Result(
                    named_outputs(program, np.concatenate([_numbers(secret).ravel() for secret in end.value]))
                )


def _shifted(words: Words, drop: int) -> Words:
    return np.asarray(words.view(np.int64) >> np.int64(drop)).view(np.uint64)


def _numbers(secret: Secret) -> np.ndarray:
    return np.asarray(secret.data).view(np.int64) / 2.0**secret.fraction_bits
