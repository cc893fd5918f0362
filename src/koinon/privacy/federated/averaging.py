"""``perceptron/1`` where rows lie: owners descend on their own rows, and the mean of what that changes moves the model.

How updates are combined is a setting of the study: FedAvg, FedProx or FedAdam (``strategies``). Every owner holds back
a fifth of its rows, and the model kept is that with the least mean loss on them.
"""

from math import ceil
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.federated.strategies import ADAM, LocalPlan, ServerPlan
from koinon.privacy.federated.training import TrainingPlan, check_plan
from koinon.privacy.programs import perceptron
from koinon.privacy.programs.offer import MOST_ROWS, Layout, Parameters, decode_settings
from koinon.privacy.programs.owner_sums import ROWS
from koinon.privacy.sums.table import check_unprepared

MOST_ROUNDS: Final = 200
MOST_EPOCHS: Final = 1000
ADAM_RATE: Final = 0.03
"""Of the server; owners descend at the rate of the settings."""
_CLIP: Final = 16.0
_FRACTION_BITS: Final = 40
_PATIENCE: Final = 10


def refusal(parameters: Parameters) -> str:
    """Why owners cannot average this; empty where they can."""
    try:
        averaging_plan(parameters)
    except InvalidInput as problem:
        return str(problem)
    return ""


def averaging_plan(parameters: Parameters) -> TrainingPlan:
    """The training that a study asks for. Raises Refused or InvalidInput for what owners cannot average."""
    layout, owners = parameters.layout, len(parameters.layout.rows)
    settings = decode_settings(perceptron.OFFER, parameters.settings)
    if layout.sources:
        raise Refused("every owner must bring all columns of its own people; owners of different columns choose rep4")
    if parameters.epsilon:
        raise Refused("noise is added to noisy-network/1; set epsilon to 0 (exact) or name that")
    if set(parameters.outputs) != set(perceptron.OUTPUTS):
        raise Refused("the joint network is known to all owners; open all of it")
    perceptron.check_strategy(settings)
    if settings.solver != ROWS:
        raise Refused("owners send what changes in every round, masked; leave the solver out, or name the engine rep4")
    check_unprepared(settings)
    rounds = settings.rounds or settings.epochs
    if not 1 <= rounds <= min(settings.epochs, MOST_ROUNDS) or settings.epochs > MOST_EPOCHS:
        raise Refused(f"owners average in 1 to {MOST_ROUNDS} rounds of an epoch or more; set rounds, or fewer epochs")
    if not 1 <= settings.hidden <= perceptron.MOST_HIDDEN or settings.batch < 1 or not 0 <= settings.seed < 1 << 32:
        raise InvalidInput(
            f"{perceptron.NAME} has 1 to {perceptron.MOST_HIDDEN} hidden units, and a row or more a step"
        )
    plan = TrainingPlan(
        features=len(layout.columns) - 1,
        hidden=(settings.hidden,),
        classes=2,
        penalty=0.0,
        rounds=rounds,
        local=LocalPlan(ceil(settings.epochs / rounds), settings.batch, settings.rate, settings.proximal),
        server=ServerPlan(ADAM, ADAM_RATE) if settings.strategy == perceptron.FEDADAM else ServerPlan(),
        clip=_CLIP,
        most_rows=MOST_ROWS,
        threshold=owners // 2 + 1,
        patience=min(_PATIENCE, rounds),
        seed=settings.seed,
        fraction_bits=_FRACTION_BITS,
    )
    check_plan(plan, owners)
    return plan


def averaged_outputs(found: np.ndarray, plan: TrainingPlan, layout: Layout) -> dict[str, np.ndarray]:
    """The outputs by name, from the joint parameters. Two classes of a softmax: their difference is the log-odds."""
    (units,), width = plan.hidden, len(layout.columns) - 1
    cuts = np.cumsum([width * units, units, 2 * units])
    hidden, bias, last, last_bias = np.split(found, cuts)
    pairs = last.reshape(units, 2)
    return {
        "hidden": hidden.reshape(width, units),
        "hidden_bias": bias,
        "output": pairs[:, 1:] - pairs[:, :1],
        "output_bias": last_bias[1:] - last_bias[:1],
    }
