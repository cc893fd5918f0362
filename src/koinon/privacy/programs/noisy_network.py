"""``noisy-network/1``: a network for a 0/1 target, or with no hidden units a logistic regression, learnt by DP-SGD.

It learns through noise only: a study says with ε, at a δ of 10⁻⁶, what that costs every row. Clipping and noise are
``differential.descent``'s. More epochs mean more noise in each; wider layers need more rows.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.differential.accountant import Gaussian
from koinon.privacy.differential.descent import Descent, learn
from koinon.privacy.programs.offer import Layout, Offer, ResultTable, Target, names_of, on_table

NAME: Final = "noisy-network/1"


class Settings(Record, frozen=True):
    """Attributes:
    hidden: units of the hidden layer; 0 for logistic regression.
    epochs: how often every row comes.
    batches: parts of the rows, each one step.
    clip: largest norm of a row's gradient.
    rate: of a step.
    """

    hidden: int = 8
    epochs: int = 40
    batches: int = 1
    clip: float = 1.0
    rate: float = 4.0


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...], epsilon: float) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    if layout.target != layout.columns[-1].name or len(layout.columns) < 2:
        raise InvalidInput(f"{NAME} takes at least one column, and the target as the last")
    if set(outputs) != {"hidden", "output"}:
        raise InvalidInput(f"a network is of use only whole: {NAME} opens both outputs, hidden and output")
    descent = _descent(settings, len(layout.columns) - 1)

    def compute(rows: SecretArray) -> Revealed:
        hidden, last = learn(rows, descent, epsilon)
        # Without hidden units there is nothing in the first layer to open; its place is kept by one zero.
        return reveal(hidden=hidden if settings.hidden else (last[:1] * 0.0).reshape(1, 1), output=last)

    return on_table(NAME, layout, outputs, compute, (len(layout.columns) - 1,))


def cost(settings: Settings, epsilon: float) -> Gaussian:
    """What one run costs each row, whatever the columns."""
    return _descent(settings, 1).mechanism(epsilon)


def decision(outputs: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """(n,) log-odds that an opened network gives to (n, d) rows scaled to [−1, 1]."""
    last = outputs["output"]
    signals = np.clip(_with_one(rows) @ outputs["hidden"], -1.0, 1.0) if len(outputs["hidden"]) > 1 else rows
    return np.asarray(_with_one(signals) @ last)


def _with_one(rows: np.ndarray) -> np.ndarray:
    return np.column_stack([rows, np.ones(len(rows))])


def _descent(settings: Settings, features: int) -> Descent:
    return Descent(features, settings.hidden, settings.epochs, settings.batches, settings.clip, settings.rate)


def _exact(_: Layout, __: Settings, ___: tuple[str, ...]) -> Program:
    raise InvalidInput(f"{NAME} learns through noise only; set epsilon above 0")


def _present(outputs: Mapping[str, np.ndarray], layout: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """As opened: weights for columns in [−1, 1], the bias last."""
    names = (*names_of(layout.columns[:-1]), "bias")
    units = tuple(f"unit {number + 1}" for number in range(settings.hidden))
    hidden = [ResultTable("hidden", names, units, outputs["hidden"])] if settings.hidden else []
    last = (*units, "bias") if settings.hidden else names
    return (*hidden, ResultTable("output", last, ("log-odds",), outputs["output"].reshape(-1, 1)))


OFFER: Final = Offer(
    name=NAME,
    summary="a neural network learnt by DP-SGD: clipped gradients, noise that nobody knows; makes a model",
    target=Target.BINARY,
    outputs=("hidden", "output"),
    settings=Settings,
    build=_exact,
    present=_present,
    noisy=program,
    cost=cost,
    exact=False,
)
