"""DP-SGD as sums over rows: in every round the rows' clipped gradients, to which each owner adds noise of its own.

The network and its steps are those of ``differential.descent``: one hidden layer of hard tangents or none, public
starting weights, every row in each of ``epochs`` sums. The plan of the training says how much noise an owner adds
before its words are masked (``federated.noise``).

Lemma ROW-SENSITIVITY. A row's part of the sums is its gradient over ``clip``, shortened to a norm of at most 1. Let one
row of an owner be replaced: before rounding the owner's sums move by at most 2. They are then rounded to units of
2⁻²⁰, which moves each of the D numbers by at most half a unit on either side (and by rounding of double-precision sums,
below a thousandth of one). So what noise is added to moves by at most 2 + 1.01 · √D · 2⁻²⁰; ``sensitivity`` is that.
Nobody else's rows, and no weights that a dishonest leader sends, enter the argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np

from koinon.kernel.errors import MalformedMessage, Refused
from koinon.privacy.differential.descent import LARGEST_WEIGHT, Descent, starting_weights
from koinon.privacy.programs import noisy_network
from koinon.privacy.programs.offer import Layout
from koinon.privacy.sums.form import check_signs

MOST_ROUNDS: Final = 400
UNIT: Final = 2.0**-20
"""What an owner's sums are rounded to."""
_GRID: Final = 2.0**30
_SHORTER: Final = 1.0 - 2.0**-40


@dataclass(frozen=True)
class NoisyDescent:
    """Attributes:
    descent: the network, and how it learns.
    target: name of the 0/1 column, the last.
    """

    descent: Descent
    target: str
    tells: str = "the joint network of every round, and clipped gradients over all rows with every owner's noise"

    @property
    def rounds(self) -> int:
        """One for each epoch."""
        return self.descent.epochs

    @property
    def length(self) -> int:
        """A gradient."""
        return self.descent.size

    @property
    def sensitivity(self) -> float:
        """ROW-SENSITIVITY."""
        return 2.0 + 1.01 * sqrt(self.length) * UNIT

    def start(self) -> np.ndarray:
        """Public weights (D,)."""
        return starting_weights(self.descent)

    def add(self, state: np.ndarray, table: np.ndarray) -> np.ndarray:
        """See ``RowSums.add``."""
        check_signs(table[:, -1], self.target)
        design = np.column_stack([table[:, :-1], np.ones(len(table))])
        # What no honest leader sends must not make a gradient that is not finite.
        first, last = self._layers(np.clip(state, -LARGEST_WEIGHT, LARGEST_WEIGHT))
        inner, parts = design, []
        signals = design @ first
        if self.descent.hidden:
            inner = np.column_stack([np.clip(signals, -1.0, 1.0), np.ones(len(table))])
        surplus = 0.5 * (np.tanh(inner @ last / 2.0) - table[:, -1])
        outer = inner * surplus[:, None]
        squares = (outer * outer).sum(1)
        if self.descent.hidden:
            back = surplus[:, None] * last[:-1] * (np.abs(signals) <= 1.0)
            squares = squares + (design * design).sum(1) * (back * back).sum(1)
            parts = [back]
        factor = _SHORTER / np.maximum(np.sqrt(squares), self.descent.clip)
        gradients = [(design.T @ (part * factor[:, None])).ravel() for part in parts]
        return np.concatenate([*gradients, (outer * factor[:, None]).sum(0)])

    def move(
        self, state: np.ndarray, memory: np.ndarray, totals: np.ndarray, people: int
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """See ``RowSums.move``."""
        if totals.shape != (self.length,) or not np.isfinite(totals).all():
            raise MalformedMessage("the noisy sums are not those that the study's owners make")
        following = state - totals * (self.descent.clip * self.descent.rate / people)
        following = np.round(np.clip(following, -LARGEST_WEIGHT, LARGEST_WEIGHT) * _GRID) / _GRID
        return following, memory, max(float(np.abs(following - state).max()), 1 / _GRID)

    def outputs(self, state: np.ndarray) -> Mapping[str, np.ndarray]:
        """See ``RowSums.outputs``."""
        first, last = self._layers(state)
        return {"hidden": first if self.descent.hidden else np.zeros((1, 1)), "output": last}

    def _layers(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cut = (self.descent.features + 1) * self.descent.hidden
        return weights[:cut].reshape(self.descent.features + 1, self.descent.hidden), weights[cut:]


def noisy_sums(layout: Layout, settings: noisy_network.Settings, opened: tuple[str, ...]) -> NoisyDescent:
    """``noisy-network/1``. Raises Refused for batches, which only a committee can keep apart."""
    if layout.target != layout.columns[-1].name or len(layout.columns) < 2:
        raise Refused(f"{noisy_network.NAME} takes at least one column, and the target as the last")
    if set(opened) != {"hidden", "output"}:
        raise Refused("a network is of use only whole: open both outputs, hidden and output")
    if settings.batches != 1 or settings.epochs > MOST_ROUNDS:
        raise Refused(f"owners sum over all their rows in 1 to {MOST_ROUNDS} epochs: set batches to 1, or choose rep4")
    features = len(layout.columns) - 1
    return NoisyDescent(
        Descent(features, settings.hidden, settings.epochs, 1, settings.clip, settings.rate), layout.target
    )
