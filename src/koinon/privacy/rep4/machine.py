"""The four-party engine as a ``Machine``: what programs on Secret arrays run on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koinon.privacy.differential.noise import WORDS, rounded_normal
from koinon.privacy.rep4 import arithmetic, comparison, shuffling
from koinon.privacy.rep4.arithmetic import Protocol
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import Shares, constant, four, joined
from koinon.privacy.secret import NOISE_PARTS, Product


class Rep4Machine:
    """One party's arithmetic on ``Shares``. All four run the same program in the same order."""

    __slots__ = ("party",)

    def __init__(self, party: Party) -> None:
        self.party = party

    def constant(self, words: np.ndarray) -> Shares:
        return constant(words, self.party.position)

    def shape(self, data: Shares) -> tuple[int, ...]:
        return data.shape

    def add(self, left: Shares, right: Shares) -> Shares:
        return left + right

    def scale(self, data: Shares, factors: np.ndarray) -> Shares:
        words = factors.view(np.uint64) if factors.ndim else np.uint64(int(factors) % (1 << 64))
        return data.rearranged(lambda part: part * words)

    def rearrange(self, data: Shares, change: Callable[[np.ndarray], np.ndarray]) -> Shares:
        return data.rearranged(change)

    def join(self, parts: Sequence[Shares], axis: int) -> Shares:
        return joined(parts, axis, self.party.position)

    def multiply(self, left: Shares, right: Shares, kind: Product) -> Protocol:
        return arithmetic.multiply(self.party, left, right, kind)

    def multiply_truncate(self, left: Shares, right: Shares, kind: Product, drop: int, plus: Shares | None) -> Protocol:
        return arithmetic.multiply_truncate(self.party, left, right, kind, drop, plus)

    def truncate(self, data: Shares, drop: int) -> Protocol:
        return arithmetic.truncate(self.party, data, drop)

    def negative(self, data: Shares, limit: float, drop: int) -> Protocol:
        return comparison.negative(self.party, data, limit, drop)

    def positive_part(self, data: Shares, limit: float, ignored: int, drop: int) -> Protocol:
        return comparison.positive_part(self.party, data, limit, ignored, drop)

    def noise(self, shape: tuple[int, ...], deviation: int) -> Shares:
        """Component j is a variable that the three holders of its key draw alike; who lacks it knows nothing of it."""
        drawn = [self.party.draw(index, (*shape, WORDS)) for index in range(NOISE_PARTS)]
        parts = [None if words is None else rounded_normal(words, deviation).view(np.uint64) for words in drawn]
        return Shares(four(parts), shape)

    def shuffle(self, data: Shares) -> Protocol:
        return shuffling.shuffle(self.party, data)

    def observe(self, data: Any, limit: float, label: str) -> None:
        """Shares show nothing; the lemma stands."""
