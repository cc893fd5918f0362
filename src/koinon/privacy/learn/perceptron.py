"""A perceptron with one hidden layer on secret rows, for two classes: mini-batches and momentum, no framework.

The gradient is written out (D. Rumelhart et al., "Learning representations by back-propagating errors", 1986). Batches,
their order and the number of steps are public, so that time tells nothing. Weights are cut at ``LARGEST``, which keeps
every bound finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, bounded, sigmoid
from koinon.privacy.learn.layers import drawn
from koinon.privacy.learn.networks import Schedule, trained
from koinon.privacy.learn.scores import accuracy

LARGEST: Final = 8.0


@dataclass(frozen=True)
class FittedPerceptron:
    """A trained perceptron, still secret.

    Attributes:
        hidden: (d, h) weights, and its (h,) biases.
        output: (h, 1) weights, and its (1,) bias.
    """

    hidden: tuple[SecretArray, SecretArray]
    output: tuple[SecretArray, SecretArray]

    def decision_function(self, rows: SecretArray) -> SecretArray:
        """(n,) log-odds of class 1."""
        active = _rectified(rows @ self.hidden[0] + self.hidden[1])[0]
        return (active @ self.output[0] + self.output[1])[:, 0]

    def predict_proba(self, rows: SecretArray) -> SecretArray:
        """(n,) probabilities of class 1."""
        return sigmoid(self.decision_function(rows))

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) codes of the likelier class."""
        return self.decision_function(rows) > 0.0

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """Share of rows whose class is right."""
        return accuracy(self.predict(rows), target)


@dataclass(frozen=True)
class Perceptron:
    """Attributes:
    hidden: units between columns and answer.
    epochs: how often every row comes.
    batch: rows in a step; what is left of an epoch is left out.
    rate: of a step.
    seed: of the weights that training starts from and of the order of the rows; public.
    """

    hidden: int = 16
    epochs: int = 10
    batch: int = 32
    rate: float = 0.1
    seed: int = 0

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedPerceptron:
        """Fit (n, d) rows in [−1, 1] to (n,) bits.

        Raises:
            InvalidInput: shapes that do not belong together, or unusable settings.
        """
        if rows.ndim != 2 or target.shape != rows.shape[:1] or not target.is_bit:
            raise InvalidInput(f"rows (n, d) and bits (n,) belong together; got {rows.shape} and {target.shape}")
        if not (self.hidden >= 1 and self.epochs >= 1 and self.batch >= 1 and 0.0 < self.rate <= 1.0):
            raise InvalidInput("a perceptron has a unit, an epoch, a row in a batch, and a rate up to 1")
        found = trained(
            starting_weights(rows.shape[1], self.hidden, self.seed),
            _slopes,
            rows,
            target.reshape(-1, 1),
            Schedule(self.epochs, self.batch, self.rate, self.seed),
            LARGEST,
        )
        return FittedPerceptron((found[0], found[1]), (found[2], found[3]))


def starting_weights(width: int, hidden: int, seed: int) -> list[np.ndarray]:
    """Weights and biases of both layers: uniform with variance 2 / inputs (He et al., ICCV 2015), and 0."""
    random = np.random.default_rng(seed)
    first = drawn(random, width, (width, hidden))
    return [first, np.zeros(hidden), drawn(random, hidden, (hidden, 1)), np.zeros(1)]


def _slopes(weights: Sequence[SecretArray], rows: SecretArray, target: SecretArray) -> list[SecretArray]:
    """Gradients of the mean log-loss of (n, d) rows and an (n, 1) target, in the order of the weights."""
    first, first_bias, second, second_bias = weights
    active, on = _rectified(rows @ first + first_bias)
    likely = sigmoid(active @ second + second_bias)
    error = bounded(likely - target, "SIGMOID-RANGE", 1.001).times(1.0 / rows.shape[0])
    back = (error * second.reshape(1, -1)) * on
    return [rows.T @ back, back.sum(0), active.T @ error, error.sum(0)]


def _rectified(level: SecretArray) -> tuple[SecretArray, SecretArray]:
    """The numbers with negative ones as 0, and bits of those that are not."""
    on = level > 0.0
    return level * on, on
