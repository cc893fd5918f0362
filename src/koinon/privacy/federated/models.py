"""Models that owners train on their own rows: a flat vector of parameters, a loss and its gradient.

Anything with these four things can be trained (``Model``); ``FunctionModel`` makes one of plain functions, such as a
JAX loss under ``jax.value_and_grad`` with its tree of parameters raveled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from koinon.kernel.errors import InvalidInput

MOST_PARAMETERS = 1 << 21


class Model(Protocol):
    """What can be trained."""

    @property
    def size(self) -> int:
        """Number of parameters."""
        ...

    def initial(self, seed: int) -> np.ndarray:
        """Parameters (size,) to start from; the same for the same seed."""
        ...

    def loss_and_gradient(
        self, parameters: np.ndarray, rows: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Mean loss over (n, d) rows with (n,) targets, and its gradient (size,)."""
        ...

    def predict(self, parameters: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n, classes) probabilities."""
        ...


@dataclass(frozen=True, slots=True)
class FunctionModel:
    """A model made of functions; see ``Model`` for what each of them does."""

    size: int
    start: Callable[[int], np.ndarray]
    gradient: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, np.ndarray]]
    probabilities: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def initial(self, seed: int) -> np.ndarray:
        return np.asarray(self.start(seed), np.float64)

    def loss_and_gradient(
        self, parameters: np.ndarray, rows: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        loss, gradient = self.gradient(parameters, rows, targets)
        return float(loss), np.asarray(gradient, np.float64)

    def predict(self, parameters: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.probabilities(parameters, rows), np.float64)


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Softmax classifier over a chain of layers with rectifiers between them; no hidden layer makes it multinomial
    logistic regression.

    Attributes:
        features: d.
        hidden: widths of the layers between.
        classes: c; targets are 0 … c − 1.
        penalty: λ of ½ λ ‖W‖² (not of the biases), per row.
    """

    features: int
    hidden: tuple[int, ...]
    classes: int
    penalty: float = 0.0

    @property
    def size(self) -> int:
        return sum((above + 1) * below for above, below in self._layers())

    def initial(self, seed: int) -> np.ndarray:
        """He's initialisation (2015) with zero biases; all zero where there is no hidden layer."""
        draw = np.random.default_rng(seed)
        parts = []
        for above, below in self._layers():
            scale = np.sqrt(2.0 / above) if self.hidden else 0.0
            parts += [draw.normal(0.0, 1.0, above * below) * scale, np.zeros(below)]
        return np.concatenate(parts)

    def loss_and_gradient(
        self, parameters: np.ndarray, rows: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        layers = self._unpacked(parameters)
        inputs = [rows]
        for weights, bias in layers[:-1]:
            inputs.append(np.maximum(inputs[-1] @ weights + bias, 0.0))
        scores = inputs[-1] @ layers[-1][0] + layers[-1][1]
        scores = scores - scores.max(1, keepdims=True)
        logarithms = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        places = np.arange(len(rows)), targets.astype(np.int64)
        loss = -float(logarithms[places].mean())
        slope = np.exp(logarithms)
        slope[places] -= 1.0
        slope /= len(rows)
        parts: list[np.ndarray] = []
        for number in range(len(layers) - 1, -1, -1):
            weights, _ = layers[number]
            parts[:0] = [(inputs[number].T @ slope + self.penalty * weights).ravel(), slope.sum(0)]
            if number:
                slope = (slope @ weights.T) * (inputs[number] > 0.0)
        loss += 0.5 * self.penalty * sum(float((weights**2).sum()) for weights, _ in layers)
        return loss, np.concatenate(parts)

    def predict(self, parameters: np.ndarray, rows: np.ndarray) -> np.ndarray:
        layers, values = self._unpacked(parameters), rows
        for weights, bias in layers[:-1]:
            values = np.maximum(values @ weights + bias, 0.0)
        scores = values @ layers[-1][0] + layers[-1][1]
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))

    def _layers(self) -> list[tuple[int, int]]:
        widths = (self.features, *self.hidden, self.classes)
        return list(pairwise(widths))

    def _unpacked(self, parameters: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        layers, place = [], 0
        for above, below in self._layers():
            weights = parameters[place : place + above * below].reshape(above, below)
            place += above * below
            layers.append((weights, parameters[place : place + below]))
            place += below
        return layers


@dataclass(frozen=True, slots=True)
class BroughtModel:
    """A model that only its owners can train, such as a Flower client: nothing but its size is agreed on."""

    size: int

    def initial(self, seed: int) -> np.ndarray:
        """Zeros: where that is no start for the model, the coordinator is given other parameters."""
        del seed
        return np.zeros(self.size)

    def loss_and_gradient(
        self, parameters: np.ndarray, rows: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Raises InvalidInput: its owner trains it."""
        raise InvalidInput("this plan's model is brought by its owners; nobody else can train it or predict with it")

    def predict(self, parameters: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Raises InvalidInput: its owner trains it."""
        raise InvalidInput("this plan's model is brought by its owners; nobody else can train it or predict with it")


def perceptron(features: int, hidden: tuple[int, ...], classes: int, penalty: float = 0.0) -> Perceptron:
    """A checked perceptron. Raises InvalidInput for widths or penalties that make none."""
    widths = (features, *hidden, classes)
    if min(widths) < 1 or classes < 2 or len(hidden) > 8:
        raise InvalidInput(f"a classifier has at least a feature, 2 classes and at most 8 hidden layers; got {widths}")
    if not (np.isfinite(penalty) and penalty >= 0.0):
        raise InvalidInput(f"a penalty is not negative; got {penalty:g}")
    made = Perceptron(features, tuple(hidden), classes, penalty)
    if made.size > MOST_PARAMETERS:
        raise InvalidInput(f"{made.size} parameters are more than the {MOST_PARAMETERS} that a round adds up")
    return made
