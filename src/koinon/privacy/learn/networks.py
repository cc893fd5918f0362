"""Networks of layers, trained on secret rows without a framework: mini-batches and momentum.

Batches, their order and the number of steps are public, so that time tells nothing. Weights are cut at a public end,
which keeps every bound finite. For classes the gradient is the cross-entropy's, for numbers the squares'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, bounded, constant_like, refined, sigmoid, softmax
from koinon.privacy.graphs.jax_values import limited
from koinon.privacy.learn.layers import Layer
from koinon.privacy.learn.scores import accuracy, determination
from koinon.privacy.nets.steps import repeated
from koinon.privacy.ordering import index_of_largest, one_hot

LARGEST: Final = 4.0
"""Weights of layered networks stay within ± this."""
FARTHEST: Final = 4.0
"""A prediction of a number further from the truth counts as this far; the truth is in [−1, 1]."""
_MOMENTUM: Final = 0.9

Weights = Sequence[SecretArray]
Slopes = Callable[[Weights, SecretArray, SecretArray], list[SecretArray]]
"""(weights, rows of a batch, their answers) → gradients of the batch's mean loss, in the order of the weights."""


@dataclass(frozen=True)
class Schedule:
    """Attributes:
    epochs: how often every row comes.
    batch: rows in a step; what is left of an epoch is left out.
    rate: of a step.
    seed: of the order of the rows, and of the weights that training starts from; public.
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 0.1
    seed: int = 0

    def check(self) -> None:
        """Raises InvalidInput where nothing could be learnt."""
        if not (self.epochs >= 1 and self.batch >= 1 and 0.0 < self.rate <= 1.0):
            raise InvalidInput("a network learns in an epoch or more, a row or more in a batch, and at a rate up to 1")


def trained(
    start: Sequence[np.ndarray],
    slopes: Slopes,
    rows: SecretArray,
    answers: SecretArray,
    schedule: Schedule,
    largest: float,
) -> list[SecretArray]:
    """Weights after all steps; none is beyond ± ``largest``."""
    order = batches(rows.shape[0], schedule.batch, schedule.epochs, schedule.seed)
    weights = [refined(constant_like(rows, each), rows.precision) for each in start]
    speeds = [refined(constant_like(rows, np.zeros(each.shape)), rows.precision) for each in weights]
    count = len(weights)

    def step(number: int, state: Sequence[SecretArray], data: Sequence[SecretArray]) -> list[SecretArray]:
        current, before = state[:count], state[count:]
        found = slopes(current, data[0][order[number]], data[1][order[number]])
        moved = [
            speed.times(_MOMENTUM) - slope.times(schedule.rate) for speed, slope in zip(before, found, strict=True)
        ]
        after = [limited(each + speed, largest) for each, speed in zip(current, moved, strict=True)]
        return [*after, *moved]

    return repeated(step, len(order), [*weights, *speeds], [rows, answers])[:count]


def batches(people: int, size: int, epochs: int, seed: int) -> list[np.ndarray]:
    """Row numbers of every step."""
    random, size = np.random.default_rng(seed), min(size, people)
    orders = (random.permutation(people) for _ in range(epochs))
    return [order[start : start + size] for order in orders for start in range(0, people - size + 1, size)]


@dataclass(frozen=True)
class FittedLayers:
    """A trained network, still secret.

    Attributes:
        layers: one after the other.
        weights: of all layers, in order.
        numbers: whether it predicts numbers, not classes.
    """

    layers: tuple[Layer, ...]
    weights: tuple[SecretArray, ...]
    numbers: bool

    def decision_function(self, rows: SecretArray) -> SecretArray:
        """(n, outputs) log-odds, logits or numbers."""
        found = rows
        for layer, own in zip(self.layers, _shared_out(self.layers, self.weights), strict=True):
            found, _ = layer.forward(own, found)
        return found

    def predict_proba(self, rows: SecretArray) -> SecretArray:
        """(n,) probabilities of class 1, or (n, classes) of the classes."""
        found = self.decision_function(rows)
        return sigmoid(found)[:, 0] if found.shape[1] == 1 else softmax(found)

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) predicted numbers, or codes of the likeliest classes."""
        found = self.decision_function(rows)
        if self.numbers:
            return found[:, 0]
        return found[:, 0] > 0.0 if found.shape[1] == 1 else index_of_largest(found)

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """R² of predicted numbers (see ``determination``), or share of rows whose class is right."""
        return (determination if self.numbers else accuracy)(self.predict(rows), target)


@dataclass(frozen=True)
class LayeredNetwork:
    """Attributes:
    layers: each takes what the one before gives; the last gives one number, the log-odds of class 1 or a prediction, or
        a logit for each of more than two classes.
    numbers: whether it predicts numbers.
    """

    layers: tuple[Layer, ...]
    schedule: Schedule
    numbers: bool = False

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedLayers:
        """Fit (n, inputs) rows in [−1, 1] to (n,) codes of classes, or numbers in [−1, 1].

        Raises:
            InvalidInput: shapes that do not belong together, or unusable settings.
        """
        self.schedule.check()
        if rows.ndim != 2 or target.shape != rows.shape[:1] or rows.shape[1] != self.layers[0].inputs:
            raise InvalidInput(
                f"rows (n, {self.layers[0].inputs}) and a target (n,) belong together; got {rows.shape} and"
                f" {target.shape}"
            )
        outputs = self.layers[-1].outputs
        answers = target.reshape(-1, 1) if outputs == 1 else one_hot(target, outputs)
        start = starting_weights(self.layers, self.schedule.seed)
        found = trained(start, self._slopes, rows, answers, self.schedule, LARGEST)
        return FittedLayers(self.layers, tuple(found), self.numbers)

    def _slopes(self, weights: Weights, rows: SecretArray, answers: SecretArray) -> list[SecretArray]:
        backs, signals = [], rows
        for layer, own in zip(self.layers, _shared_out(self.layers, weights), strict=True):
            signals, back = layer.forward(own, signals)
            backs.append(back)
        slope = self._error(signals, answers).times(1.0 / rows.shape[0])
        found: list[SecretArray] = []
        for place in reversed(range(len(backs))):
            slopes, earlier = backs[place](slope, place > 0)
            found = [*slopes, *found]
            if earlier is not None:
                slope = earlier
        return found

    def _error(self, levels: SecretArray, answers: SecretArray) -> SecretArray:
        """The loss's own gradient: for log-loss, what is said less what is true."""
        if self.numbers:
            return limited(levels - answers, FARTHEST)
        if levels.shape[1] == 1:
            return bounded(sigmoid(levels) - answers, "SIGMOID-RANGE", 1.001)
        return softmax(levels) - answers


def starting_weights(layers: Sequence[Layer], seed: int) -> list[np.ndarray]:
    """Of all layers, in order."""
    random = np.random.default_rng(seed)
    return [each for layer in layers for each in layer.start(random)]


def shapes_of(layers: Sequence[Layer]) -> list[tuple[int, ...]]:
    """Of the weights of all layers, in order."""
    return [shape for layer in layers for shape in layer.shapes]


def _shared_out(layers: Sequence[Layer], weights: Weights) -> list[Weights]:
    ends = [0, *accumulate(len(layer.shapes) for layer in layers)]
    return [weights[start:end] for start, end in pairwise(ends)]
