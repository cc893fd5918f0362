"""What a study's program is to the federated engine: the plan of a training, and the trained model as the outputs that
the program declares.

Everybody makes the plan from the study file alone; nobody needs to know how many rows the others have.
"""

from math import ceil, sqrt
from typing import Final

import numpy as np
from msgspec.structs import replace

from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.backend import Adversary
from koinon.privacy.differential.accountant import Gaussian, gaussian_multiplier
from koinon.privacy.differential.logistic import STUDY_DELTA
from koinon.privacy.federated import averaging
from koinon.privacy.federated.noise import NoisePlan
from koinon.privacy.federated.strategies import SUMS, LocalPlan, ServerPlan
from koinon.privacy.federated.training import (
    Coordinator,
    Rows,
    TrainingPlan,
    check_plan,
    length_of,
    model_of,
    privacy_of,
    result,
)
from koinon.privacy.programs import logistic_regression, noisy_network, perceptron
from koinon.privacy.programs.offer import MOST_ROWS, Layout, Parameters, decode_settings
from koinon.privacy.sharing import encoded
from koinon.privacy.sums import table

NOISY_ROUNDS: Final = 10
"""Of FedAvg where noise is asked for: each costs privacy, and noise grows with its root."""
MOST_EPSILON: Final = 16.0
_NOISY_CLIP: Final = 1.0
_NOISY_FRACTION_BITS: Final = 32
_NOISY_EPOCHS: Final = 10
_FRACTION_BITS: Final = 40
MOST_SUMS: Final = 1 << 17
"""A megabyte of words from every owner."""
_LONGEST_PARAMETERS: Final = 1024 * 1024

ADVERSARY: Final = Adversary(
    4,
    1,
    True,
    "The member that leads may do anything, alone or with one other: it learns sums over more than half of the owners,"
    " at models that follow from their words, and nothing of one of them (with three owners as long as none helps it);"
    " another result than the words give gets no three signatures. A false update of an owner is not noticed.",
)


def refusal(name: str, parameters: Parameters) -> str:
    """Why owners cannot train this where their rows lie; empty where they can."""
    if name == perceptron.NAME:
        return averaging.refusal(parameters)
    if name == logistic_regression.NAME and parameters.epsilon:
        return _noisy_refusal(parameters)
    if name in (*table.names(), *table.UNSOUND):
        return _sums_refusal(name, parameters)
    able = ", ".join(sorted((perceptron.NAME, *table.names())))
    return f"owners train, or add up, where their rows lie; of the programs {able} can be had so"


def _noisy_refusal(parameters: Parameters) -> str:
    try:
        table.check_unprepared(decode_settings(logistic_regression.OFFER, parameters.settings))
    except InvalidInput as problem:
        return str(problem)
    if parameters.layout.sources:
        return "every owner must bring all columns of its own people; owners of different columns choose rep4"
    if set(parameters.outputs) != {"coefficients", "intercept"}:
        return "the joint model is known to all owners; the study must open coefficients and intercept, and only these"
    if parameters.epsilon > MOST_EPSILON:
        return f"noise for whole owners is calibrated to ε of at most {MOST_EPSILON:g}; choose less, or exact outputs"
    return ""


def _sums_refusal(name: str, parameters: Parameters) -> str:
    if reason := table.refusal(name, parameters):
        return reason
    if parameters.epsilon > MOST_EPSILON:
        return f"noise of every owner's own is calibrated to ε of at most {MOST_EPSILON:g}; choose less"
    length = table.sums_of(name, parameters).length
    if length > MOST_SUMS:
        return (
            f"owners add up at most {MOST_SUMS} numbers, and this study needs {length}; choose fewer columns, or rep4"
        )
    return ""


def plan_of(name: str, parameters: Parameters) -> TrainingPlan:
    """The training that a study asks for. The numbers of rows in the parameters make no difference.

    Raises:
        Refused: the engine does not run the program so.
        InvalidInput: settings out of range.
    """
    if reason := refusal(name, parameters):
        raise Refused(f"{name} does not run on the federated engine: {reason}")
    if name == perceptron.NAME:
        return averaging.averaging_plan(parameters)
    if name == logistic_regression.NAME and parameters.epsilon:
        return _noisy_plan(len(parameters.layout.columns) - 1, len(parameters.layout.rows), parameters.epsilon)
    return _sums_plan(name, parameters)


def _sums_plan(name: str, parameters: Parameters) -> TrainingPlan:
    layout, owners = parameters.layout, len(parameters.layout.rows)
    # Everybody must have one plan, and owners do not know each other's numbers of rows.
    anyhow = replace(parameters, layout=replace(layout, rows=(1,) * owners))
    program, threshold, noise = table.sums_of(name, anyhow), owners // 2 + 1, None
    if program.sensitivity:
        # Nobody trusts another owner's noise: each adds all that its own rows need.
        multiplier = mechanism(name, parameters.settings, parameters.epsilon).multiplier
        noise = NoisePlan(multiplier, threshold - 1, STUDY_DELTA)
    plan = TrainingPlan(
        features=len(layout.columns),
        hidden=(),
        classes=1,
        penalty=0.0,
        rounds=program.rounds,
        local=LocalPlan(),
        server=ServerPlan(SUMS),
        clip=float(ceil(sqrt(program.length))),
        most_rows=MOST_ROWS,
        threshold=threshold,
        fraction_bits=_FRACTION_BITS,
        program=name,
        parameters=encode(anyhow),
        noise=noise,
    )
    check_plan(plan, owners)
    privacy_of(plan)
    return plan


def mechanism(name: str, settings: bytes, epsilon: float) -> Gaussian:
    """What a training with noise costs each row of an owner, for its privacy ledger.

    With ``noisy-network/1`` one row may be replaced, else all of the owner's. Half of δ is for rounding (ROUNDED-SUM in
    ``noise``). Raises InvalidInput for an unusable ε.
    """
    count = NOISY_ROUNDS
    if name == noisy_network.NAME:
        count = decode_settings(noisy_network.OFFER, settings).epochs
    return Gaussian(gaussian_multiplier(epsilon, STUDY_DELTA / 2, count), count)


def _noisy_plan(features: int, owners: int, epsilon: float) -> TrainingPlan:
    """FedAvg with noise for whole owners, each of whom trusts no other owner's noise.

    ``noise`` counts an owner's update against none; one update replaced by another moves the sum twice as far, so the
    noise is twice what the ledger's multiplier says.
    """
    threshold = owners // 2 + 1
    plan = TrainingPlan(
        features=features,
        hidden=(),
        classes=2,
        penalty=0.0,
        rounds=NOISY_ROUNDS,
        local=LocalPlan(epochs=_NOISY_EPOCHS, batch=0, rate=1.0),
        server=ServerPlan(),
        clip=_NOISY_CLIP,
        most_rows=0,
        threshold=threshold,
        fraction_bits=_NOISY_FRACTION_BITS,
        noise=NoisePlan(2 * mechanism(logistic_regression.NAME, b"", epsilon).multiplier, threshold - 1, STUDY_DELTA),
    )
    check_plan(plan, owners)
    privacy_of(plan)
    return plan


def parameters_of(parameters: bytes) -> Parameters:
    """From their canonical encoding. Raises MalformedMessage where it is none."""
    return decode(Parameters, parameters, limit=_LONGEST_PARAMETERS)


def plan_of_encoded(name: str, parameters: bytes) -> TrainingPlan:
    """As ``plan_of``, from the canonical encoding. Raises MalformedMessage where it is none."""
    return plan_of(name, parameters_of(parameters))


def update_length(plan: TrainingPlan) -> int:
    """Words that every owner sends in a round."""
    return length_of(plan, model_of(plan))


def model_size(plan: TrainingPlan) -> int:
    """Numbers of the joint model, which every owner is told in every round."""
    return model_of(plan).size


def rows_of(plan: TrainingPlan, matrix: np.ndarray, layout: Layout) -> Rows:
    """An owner's matrix (n, columns), the target last, as every engine sees it: scaled to [−1, 1] and rounded.

    Raises:
        InvalidInput: a value that is not finite, outside its column's range, or not one that the program takes.
        Refused: fewer people than the study's least in a group.
    """
    words = encoded(matrix, layout.columns, layout.fraction_bits)
    numbers = words.view(np.int64) / 2.0**layout.fraction_bits
    if plan.server.kind == SUMS:
        rows = Rows(numbers, np.zeros(len(numbers)))
        program = table.sums_of(plan.program, decode(Parameters, plan.parameters, limit=_LONGEST_PARAMETERS))
        program.add(program.start(), numbers)
        return rows
    targets = (numbers[:, -1] + 1.0) / 2.0
    if not np.isin(targets, (0.0, 1.0)).all():
        raise InvalidInput(f"the target {layout.columns[-1].name!r} may hold only 0 and 1; recode it")
    return Rows(numbers[:, :-1], targets)


def outputs_of(state: Coordinator, plan: TrainingPlan, given: Parameters, fraction_bits: int) -> np.ndarray:
    """The outputs in the study's order as words (uint64) of so many fraction bits: what the members must agree on."""
    found = result(state, plan)
    if plan.server.kind == SUMS:
        outputs = table.sums_of(plan.program, given).outputs(found)
        found = np.concatenate([outputs[name].ravel() for name in given.outputs])
    elif plan.hidden:
        outputs = averaging.averaged_outputs(found, plan, given.layout)
        found = np.concatenate([outputs[name].ravel() for name in given.outputs])
    else:
        # Two classes of a softmax: their difference is the logistic regression.
        weights, biases = found[:-2].reshape(-1, 2), found[-2:]
        found = np.append(weights[:, 1] - weights[:, 0], biases[1] - biases[0])
    return np.round(found * 2.0**fraction_bits).astype(np.int64).view(np.uint64)
