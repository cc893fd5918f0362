"""Networks trained on secret rows: mini-batches, cross-entropy or squares, gradient steps with momentum or Adam.

The gradient is JAX's of the architecture; the loss's own is written out (shares less truth), so that no logarithm is
taken. Batches, their order and the number of steps are public, so that time tells nothing. Weights and what the
optimiser remembers are cut off at ``largest`` (CLIP), which is what keeps every bound of the training finite.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax
import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, constant_like, refined, softmax
from koinon.privacy.graphs.jax_function import apply
from koinon.privacy.graphs.jax_values import Hidden, limited
from koinon.privacy.nets.functions import Architecture
from koinon.privacy.nets.steps import repeated
from koinon.privacy.ordering import index_of_largest, one_hot

_LARGEST_GRADIENT: Final = 16.0
_ADAM_SCALE: Final = 64.0
"""Adam's gradients are multiplied by this, which changes none of its steps: squares of small ones do not vanish."""
_FIRST, _SECOND = 0.9, 0.99


@dataclass(frozen=True)
class FittedNetwork:
    """A trained network, still secret.

    Attributes:
        architecture: what the weights are for.
        weights: by name.
    """

    architecture: Architecture
    weights: Mapping[str, SecretArray]

    def decision_function(self, rows: SecretArray) -> SecretArray:
        """(n, outputs) logits, or predictions of a regression."""
        found = apply(self.architecture.forward, dict(self.weights), rows, saturating=True)
        assert isinstance(found, SecretArray)
        return found

    def predict_proba(self, rows: SecretArray) -> SecretArray:
        """(n, classes) probabilities."""
        return softmax(self.decision_function(rows))

    def predict(self, rows: SecretArray) -> SecretArray:
        """(n,) codes of the likeliest classes; for one output, its (n,) numbers."""
        found = self.decision_function(rows)
        return found.reshape(-1) if self.architecture.outputs == 1 else index_of_largest(found)

    def score(self, rows: SecretArray, target: SecretArray) -> SecretArray:
        """Share of rows whose class is right."""
        return (self.predict(rows) == target).mean()


@dataclass(frozen=True)
class Network:
    """Attributes:
    architecture: see ``nets.functions``; with one output it is a regression with squared errors, else classes.
    rate: of a step.
    epochs: how often every row comes.
    batch: rows in a step.
    momentum: share of the last step that is repeated; used without ``adam``.
    adam: steps by Kingma & Ba, "Adam", 2015, with β₂ = 0.99 and no ε beyond the precision.
    largest: weights stay within ± this.
    seed: of the starting weights and the order of the rows; public.
    """

    architecture: Architecture
    rate: float = 0.1
    epochs: int = 10
    batch: int = 32
    momentum: float = 0.9
    adam: bool = False
    largest: float = 16.0
    seed: int = 0

    def fit(self, rows: SecretArray, target: SecretArray) -> FittedNetwork:
        """Fit (n, features) rows to (n,) codes of classes, or (n,) numbers for a regression.

        Raises:
            InvalidInput: shapes or settings that do not fit.
        """
        self._check(rows, target)
        start = self.architecture.start(self.seed)
        names = tuple(sorted(start))
        answers = (
            target.reshape(-1, 1) if self.architecture.outputs == 1 else one_hot(target, self.architecture.outputs)
        )
        order = self._order(rows.shape[0])

        def like(values: np.ndarray) -> SecretArray:
            return refined(constant_like(rows, values), rows.precision)

        weights = [like(start[name]) for name in names]
        memory = [like(np.zeros(start[name].shape)) for name in names for _ in range(2 if self.adam else 1)]

        def step(number: int, state: Sequence[SecretArray], data: Sequence[SecretArray]) -> list[SecretArray]:
            chosen = order[number]
            current = dict(zip(names, state, strict=False))
            gradients = self._gradients(current, data[0][chosen], data[1][chosen])
            slots = state[len(names) :]
            moved = [
                self._moved(number, state[place], gradients[name], slots, place) for place, name in enumerate(names)
            ]
            after = [limited(weight, self.largest) for weight, _ in moved]
            return [*after, *(limited(slot, self.largest**2) for _, kept in moved for slot in kept)]

        found = repeated(step, len(order), [*weights, *memory], [rows, answers])
        return FittedNetwork(self.architecture, dict(zip(names, found, strict=False)))

    def _gradients(
        self, weights: Mapping[str, SecretArray], rows: SecretArray, answers: SecretArray
    ) -> dict[str, SecretArray]:
        forward, classes, count = self.architecture.forward, self.architecture.outputs > 1, rows.shape[0]
        scale = (_ADAM_SCALE if self.adam else 1.0) / count

        def slopes(current: Any, x: Any, y: Any) -> Any:
            logits, back = jax.vjp(lambda each: forward(each, x), current)
            shares = jax.nn.softmax(logits) if classes else logits
            (found,) = back((shares - y) * scale)
            return found

        found = apply(slopes, dict(weights), rows, answers, saturating=True)
        return {name: limited(gradient, _LARGEST_GRADIENT) for name, gradient in found.items()}

    def _moved(
        self, number: int, weight: SecretArray, gradient: SecretArray, slots: Sequence[SecretArray], place: int
    ) -> tuple[SecretArray, tuple[SecretArray, ...]]:
        if not self.adam:
            speed = slots[place].times(self.momentum) - gradient.times(self.rate)
            return weight + speed, (speed,)
        mean, square = slots[2 * place], slots[2 * place + 1]
        mean = mean.times(_FIRST) + gradient.times(1 - _FIRST)
        square = square.times(_SECOND) + (gradient * gradient).times(1 - _SECOND)
        rate = self.rate * (1 - _SECOND ** (number + 1)) ** 0.5 / (1 - _FIRST ** (number + 1))
        step = apply(lambda m, v: m * jax.lax.rsqrt(v), mean.times(rate), Hidden(square, low=0.0), saturating=True)
        assert isinstance(step, SecretArray)
        return weight - step, (mean, square)

    def _order(self, count: int) -> list[np.ndarray]:
        random = np.random.default_rng(self.seed)
        size = min(self.batch, count)
        orders = (random.permutation(count) for _ in range(self.epochs))
        return [order[start : start + size] for order in orders for start in range(0, count - size + 1, size)]

    def _check(self, rows: SecretArray, target: SecretArray) -> None:
        if rows.ndim != 2 or target.shape != rows.shape[:1] or rows.shape[1:] != (self.architecture.features,):
            raise InvalidInput(
                f"rows (n, {self.architecture.features}) and a target (n,) belong together; got {rows.shape} and"
                f" {target.shape}"
            )
        settings = 0 < self.rate <= 10 and 0 <= self.momentum < 1 and 1 <= self.largest <= 1024
        if not (settings and self.epochs >= 1 and self.batch >= 1 and rows.shape[0] >= 1):
            raise InvalidInput("a network learns at a rate up to 10, with momentum below 1, and weights of 1 to 1024")
