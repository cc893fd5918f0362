"""``perceptron/1``: a neural network with one hidden layer for a 0/1 target, on the joint rows of all owners; a model.

Opened are its weights, which may remember single people: planted rows show that before they are opened, and
``noisy-network/1`` learns with a guarantee against it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.perceptron import Perceptron
from koinon.privacy.programs import own_networks
from koinon.privacy.programs.offer import Layout, Offer, OwnerSums, ResultTable, Target, names_of, on_target
from koinon.privacy.programs.owner_sums import ROWS, SUMS
from koinon.privacy.programs.planted import unless_remembered
from koinon.privacy.programs.preparation import PreparedSettings

NAME: Final = "perceptron/1"
MOST_HIDDEN: Final = 256
MOST_STEPS: Final = 10_000
MOST_OWN_EPOCHS: Final = 1_000
FEDAVG: Final = "fedavg"
FEDPROX: Final = "fedprox"
FEDADAM: Final = "fedadam"
OUTPUTS: Final = ("hidden", "hidden_bias", "output", "output_bias")


class Settings(PreparedSettings, frozen=True):
    """Attributes:
    hidden: units between columns and answer.
    epochs: how often every row comes; public, so that time tells nothing.
    batch: rows in a step.
    rate: of a step.
    seed: of the weights that training starts from and of the order of the rows.
    strategy: how owners' own networks are combined: on the engine federated ``fedavg``, ``fedprox`` or ``fedadam``,
        empty for ``fedavg``; on rep4, where owners share networks (solver ``sums``), ``median`` or ``trimmed-mean``.
    proximal: μ of ``fedprox``, above 0 with it; else 0.
    rounds: on the engine federated, of as many equal parts of the epochs; 0 for a round an epoch.
    solver: whether owners share "rows", or "sums": each the network that it trained on its own rows.
    trim: networks that a trimmed mean leaves out at each end of every weight.
    """

    hidden: int = 16
    epochs: int = 10
    batch: int = 32
    rate: float = 0.1
    seed: int = 0
    strategy: str = ""
    proximal: float = 0.0
    rounds: int = 0
    solver: str = ROWS
    trim: int = 1


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    _check_shape(settings)
    if not 1 <= settings.batch <= layout.people or settings.epochs < 1 or not 0 <= settings.seed < 1 << 32:
        raise InvalidInput(
            f"{NAME} takes 1 to {layout.people} people in a step, at least one epoch and a seed from 0 to 2^32 - 1"
        )
    check_strategy(settings)
    if settings.epochs * (layout.people // settings.batch) > MOST_STEPS:
        raise InvalidInput(f"{NAME} makes at most {MOST_STEPS} steps; take larger batches or fewer epochs")

    def compute(rows: SecretArray, target: SecretArray) -> Revealed:
        model = Perceptron(settings.hidden, settings.epochs, settings.batch, settings.rate, settings.seed)
        fitted = model.fit(rows, target > 0.0)
        made = dict(zip(OUTPUTS, (*fitted.hidden, *fitted.output), strict=True))
        opened = reveal(**{name: made[name] for name in outputs})
        return unless_remembered(opened, layout, rows, target, fitted.decision_function)

    return on_target(NAME, layout, outputs, compute, Target.BINARY)


def _check_shape(settings: Settings) -> None:
    if not 1 <= settings.hidden <= MOST_HIDDEN or not 0.0001 <= settings.rate <= 1.0:
        raise InvalidInput(
            f"{NAME} has 1 to {MOST_HIDDEN} hidden units and a rate from 0.0001 to 1; got {settings.hidden} and"
            f" {settings.rate:g}"
        )


def _not_combined(layout: Layout, settings: Settings, _: tuple[str, ...]) -> str:
    if not 1 <= settings.epochs <= MOST_OWN_EPOCHS or settings.batch < 1 or not 0 <= settings.seed < 1 << 32:
        return f"an owner makes 1 to {MOST_OWN_EPOCHS} epochs of a row or more a step, and a seed is below 2^32"
    return own_networks.refusal(settings.strategy, settings.trim, len(layout.rows))


def _weights(layout: Layout, settings: Settings) -> int:
    _check_shape(settings)
    return own_networks.length(layout, settings)


def _joint(shared: Sequence[SecretArray], layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    made = dict(zip(OUTPUTS, own_networks.joint_network(shared, layout, settings), strict=True))
    return reveal(**{name: made[name] for name in outputs})


def check_strategy(settings: Settings) -> None:
    """Raises InvalidInput for a way of combining networks that there is not."""
    if settings.strategy not in ("", FEDAVG, FEDPROX, FEDADAM):
        raise InvalidInput(
            f"{NAME}: networks are combined by {FEDAVG}, {FEDPROX} or {FEDADAM}, or on rep4, where owners share them"
            f" (solver {SUMS}), by {' or '.join(own_networks.RULES)}; got {settings.strategy[:40]!r}"
        )
    if (settings.strategy == FEDPROX) != (settings.proximal != 0.0) or not 0.0 <= settings.proximal <= 1e4:
        raise InvalidInput(f"{NAME}: {FEDPROX} has a proximal from above 0 to 10000, and no other strategy has any")
    if settings.rounds < 0:
        raise InvalidInput(f"{NAME}: rounds are 0 for one an epoch, or more; got {settings.rounds}")


def present(outputs: Mapping[str, np.ndarray], layout: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """As opened: weights of columns in [−1, 1]."""
    units = tuple(f"unit {number}" for number in range(1, settings.hidden + 1))
    labels = {
        "hidden": (names_of([layout.columns[number] for number in layout.features]), units),
        "hidden_bias": (("",), units),
        "output": (units, ("log-odds",)),
        "output_bias": (("",), ("log-odds",)),
    }
    return tuple(
        ResultTable(name, *labels[name], values.reshape(len(labels[name][0]), -1)) for name, values in outputs.items()
    )


OFFER: Final = Offer(
    name=NAME,
    summary="a neural network with one hidden layer for a 0/1 target; makes a model",
    target=Target.BINARY,
    outputs=OUTPUTS,
    settings=Settings,
    build=program,
    present=present,
    judges_planted=True,
    sums=OwnerSums(
        length=_weights,
        least=lambda _: own_networks.LEAST_ROWS,
        refusal=_not_combined,
        local=own_networks.local_network,
        joint=_joint,
    ),
)
