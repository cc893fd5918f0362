"""What the mean of the owners' updates does to the joint model, and what an owner does on its rows. All deterministic.

FedAvg    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017
FedProx   Li et al., "Federated Optimization in Heterogeneous Networks", 2020: owners pay ½ μ ‖w − w₀‖² for leaving
          the joint model
FedAdam   Reddi et al., "Adaptive Federated Optimization", 2021, algorithm 2
Sums      owners give the sums that a program follows from; see ``summing``
"""

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy.federated.models import Model

AVERAGE = "average"
ADAM = "adam"
SUMS = "sums"


class LocalPlan(Record, frozen=True):
    """What an owner does in a round.

    Attributes:
        epochs: passes over its rows.
        batch: rows of one step; 0 for all.
        rate: of gradient descent.
        proximal: μ of FedProx; 0 for none.
    """

    epochs: int = 1
    batch: int = 32
    rate: float = 0.1
    proximal: float = 0.0


class ServerPlan(Record, frozen=True):
    """What is done with the mean of the updates.

    Attributes:
        kind: ``average``, ``adam`` or ``sums``.
        rate: η; 1 for plain averaging.
        momentum, decay, floor: β₁, β₂ and τ of FedAdam.
    """

    kind: str = AVERAGE
    rate: float = 1.0
    momentum: float = 0.9
    decay: float = 0.99
    floor: float = 1e-3


@dataclass(frozen=True, slots=True)
class JointModel:
    """The joint model and what is remembered beside it, zero at the start: m and v of FedAdam's paper; with sums
    ``second`` is what members remember and owners need not know.
    """

    parameters: np.ndarray
    first: np.ndarray
    second: np.ndarray


def check_plans(local: LocalPlan, server: ServerPlan) -> None:
    """Raises InvalidInput naming the first setting that cannot be used."""
    numbers = (local.rate, local.proximal, server.rate, server.momentum, server.decay, server.floor)
    if not all(isfinite(number) for number in numbers):
        raise InvalidInput("every setting of a training must be a finite number")
    if not (1 <= local.epochs <= 1_000 and 0 <= local.batch <= 1 << 20):
        raise InvalidInput(f"an owner makes 1 to 1000 epochs in batches; got {local.epochs} and {local.batch}")
    if not (0.0 < local.rate <= 100.0 and 0.0 <= local.proximal <= 1e4):
        raise InvalidInput(f"an owner needs a rate above 0 and μ ≥ 0; got {local.rate:g} and {local.proximal:g}")
    if server.kind not in (AVERAGE, ADAM, SUMS):
        raise InvalidInput(f"updates are combined by {AVERAGE!r}, {ADAM!r} or {SUMS!r}; got {server.kind[:40]!r}")
    if not (0.0 < server.rate <= 100.0 and 0.0 <= server.momentum < 1.0 and 0.0 <= server.decay < 1.0):
        raise InvalidInput("a server rate is above 0, momentum and decay are from 0 to below 1")
    if not server.floor > 0.0:
        raise InvalidInput(f"the floor of FedAdam is above 0; got {server.floor:g}")


def begin(parameters: np.ndarray) -> JointModel:
    """The joint model before the first round."""
    return JointModel(parameters, np.zeros_like(parameters), np.zeros_like(parameters))


def combine(model: JointModel, mean_update: np.ndarray, plan: ServerPlan) -> JointModel:
    """The joint model after a round whose mean update was (size,)."""
    if plan.kind == AVERAGE:
        return replace(model, parameters=model.parameters + plan.rate * mean_update)
    first = plan.momentum * model.first + (1 - plan.momentum) * mean_update
    second = plan.decay * model.second + (1 - plan.decay) * mean_update**2
    step = plan.rate * first / (np.sqrt(second) + plan.floor)
    return JointModel(model.parameters + step, first, second)


def train_locally(
    model: Model, parameters: np.ndarray, rows: np.ndarray, targets: np.ndarray, plan: LocalPlan, seed: int
) -> np.ndarray:
    """One owner's update (size,): what gradient descent on its rows changes.

    Raises:
        InvalidInput: the descent diverged; nothing of it is sent.
    """
    order = np.random.default_rng(seed)
    batch = plan.batch or len(rows)
    current = parameters.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(plan.epochs):
            shuffled = order.permutation(len(rows))
            for start in range(0, len(rows), batch):
                chosen = shuffled[start : start + batch]
                _, gradient = model.loss_and_gradient(current, rows[chosen], targets[chosen])
                current = current - plan.rate * (gradient + plan.proximal * (current - parameters))
    update = current - parameters
    if not np.isfinite(update).all():
        raise InvalidInput(f"training diverged with the rate {plan.rate:g}; agree on a smaller one")
    return np.asarray(update)
