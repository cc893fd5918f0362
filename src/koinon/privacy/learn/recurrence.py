"""Gated recurrent units over secret sequences (K. Cho et al., EMNLP 2014, section 2.3), their gradient written out.

What comes of a step is p + u (s − p): the update gate u keeps of the state s, and the rest is what is proposed, p. The
gradient goes back through all steps (P. Werbos, "Backpropagation through time", 1990); on its way between two steps it
is cut at ± ``STEEPEST``, which keeps its bound finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, bounded, concatenate, constant_like, sigmoid
from koinon.privacy.graphs.jax_values import limited
from koinon.privacy.learn.layers import Back, drawn

MOST_LENGTH: Final = 64
"""Steps of a sequence: GATED-STATE holds for as many."""
STEEPEST: Final = 1.0
_STATE: Final = 1.05


@dataclass(frozen=True)
class Gated:
    """A layer from a sequence to its last state; a row holds the steps one after the other.

    Attributes:
        length: of the sequence, in steps.
        width: numbers in a step.
        units: numbers in a state; all start at 0.
    """

    length: int
    width: int
    units: int

    @property
    def inputs(self) -> int:
        return self.length * self.width

    @property
    def outputs(self) -> int:
        return self.units

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Weights and biases of the gates (reset, then update), and of what is proposed; a step's numbers first."""
        both = self.width + self.units
        return (both, 2 * self.units), (2 * self.units,), (both, self.units), (self.units,)

    def start(self, random: np.random.Generator) -> list[np.ndarray]:
        return [
            drawn(random, self.width + self.units, shape) if len(shape) == 2 else np.zeros(shape)
            for shape in self.shapes
        ]

    def check(self) -> None:
        """Refuse what is no sequence. Raises InvalidInput."""
        if not 1 <= self.length <= MOST_LENGTH or self.width < 1 or self.units < 1:
            raise InvalidInput(
                f"a sequence has 1 to {MOST_LENGTH} steps, each with a number; got {self.length} of {self.width}"
            )

    def forward(self, weights: Sequence[SecretArray], signals: SecretArray) -> tuple[SecretArray, Back]:
        self.check()
        rows, units, width = signals.shape[0], self.units, self.width
        sequence = signals.reshape(rows, self.length, width)
        flat = signals.reshape(-1, width)
        # What the steps' own numbers add, for all steps at once.
        for_gates = (flat @ weights[0][:width] + weights[1]).reshape(rows, self.length, 2 * units)
        for_state = (flat @ weights[2][:width] + weights[3]).reshape(rows, self.length, units)
        state = constant_like(signals, np.zeros((rows, units)))
        states, gates, proposals, resets = [state], [], [], []
        for step in range(self.length):
            gate = bounded(sigmoid(state @ weights[0][width:] + for_gates[:, step]), "SIGMOID-RANGE", 1.001)
            reset = gate[:, :units] * state
            proposed = _tanh(reset @ weights[2][width:] + for_state[:, step])
            state = bounded(proposed + gate[:, units:] * (state - proposed), "GATED-STATE", _STATE)
            states.append(state)
            gates.append(gate)
            proposals.append(proposed)
            resets.append(reset)

        def back(slope: SecretArray, further: bool) -> tuple[list[SecretArray], SecretArray | None]:
            if further:
                raise InvalidInput("gated units are the first layer: nothing before them learns")
            of_gates, of_proposals = [], []
            for step in reversed(range(self.length)):
                before, gate, proposed = states[step], gates[step], proposals[step]
                reset, update = gate[:, :units], gate[:, units:]
                kept = slope * update
                through = (slope - kept) * (1.0 - proposed * proposed)
                of_reset = through @ weights[2][width:].T
                both = concatenate([of_reset * before, slope * (before - proposed)], 1) * (gate - gate * gate)
                of_gates.append(both)
                of_proposals.append(through)
                slope = limited(kept + of_reset * reset + both @ weights[0][width:].T, STEEPEST)
            of_gates.reverse()
            of_proposals.reverse()
            slopes = []
            for inputs, found in ((states[:-1], of_gates), (resets, of_proposals)):
                taken = concatenate([concatenate([sequence[:, n], each], 1) for n, each in enumerate(inputs)])
                given = concatenate(found)
                slopes += [taken.T @ given, given.sum(0)]
            return slopes, None

        return state, back


def _tanh(level: SecretArray) -> SecretArray:
    return bounded(sigmoid(level.times(2)).times(2) - 1.0, "SIGMOID-RANGE", 1.002)
