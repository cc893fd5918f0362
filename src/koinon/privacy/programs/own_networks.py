"""Networks that owners train on their own rows and share as sums are shared; the four combine them so that a few lying
owners cannot steer the result (``federated.robust``), and open that alone.

Every owner starts from the same weights and makes all the epochs on its own rows: one round of federated learning,
whose updates nobody sees.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, stack
from koinon.privacy.federated.models import perceptron
from koinon.privacy.federated.robust import Rule, combined
from koinon.privacy.federated.strategies import LocalPlan, train_locally
from koinon.privacy.programs.offer import Layout
from koinon.privacy.sharing import MOST_COLUMNS

LARGEST: Final = 8.0
"""Of a weight; larger ones are shared as that."""
LEAST_ROWS: Final = 20
RULES: Final = (Rule.MEDIAN.value, Rule.TRIMMED_MEAN.value)


def refusal(rule: str, trim: int, owners: int) -> str:
    """Why networks of so many owners cannot be combined by a rule; empty where they can."""
    if rule not in RULES:
        return f"owners' own networks are combined by {' or '.join(RULES)}; name one as the strategy"
    if owners < 3:
        return "of two owners' networks nobody can tell which is the liar's; take three owners or more, or share rows"
    if rule == Rule.TRIMMED_MEAN.value and not 1 <= trim <= (owners - 1) // 2:
        return f"of {owners} owners a trimmed mean leaves out 1 to {(owners - 1) // 2} at each end; got {trim}"
    return ""


def length(layout: Layout, settings: Any) -> int:
    """Weights and biases of a network with one answer. Raises InvalidInput for more than owners share."""
    hidden: int = settings.hidden
    found = (len(layout.features) + 1) * hidden + hidden + 1
    if found > MOST_COLUMNS:
        raise InvalidInput(f"owners share networks of at most {MOST_COLUMNS} weights; this has {found}")
    return found


def local_network(rows: np.ndarray, layout: Layout, settings: Any) -> np.ndarray:
    """An owner's own weights over ``LARGEST``, in the order of the outputs.

    Args:
        rows: (n, columns) in [−1, 1].

    Raises:
        InvalidInput: a target that is neither 0 nor 1, or a descent that diverged.
    """
    features, target = list(layout.features), [each.name for each in layout.columns].index(layout.target)
    if not (np.abs(rows[:, target]) == 1.0).all():
        raise InvalidInput(f"the target is 0 or 1 in every row, and column {layout.target!r} holds something else")
    model = perceptron(len(features), (settings.hidden,), 2)
    start = model.initial(settings.seed)
    plan = LocalPlan(settings.epochs, min(settings.batch, len(rows)), settings.rate)
    found = start + train_locally(model, start, rows[:, features], rows[:, target] > 0.0, plan, settings.seed)
    cut = (len(features) + 1) * settings.hidden
    # Two classes of a softmax: their difference is the log-odds.
    last = found[cut:].reshape(settings.hidden + 1, 2)
    weights = np.concatenate([found[:cut], last[:, 1] - last[:, 0]])
    return np.asarray(np.clip(weights / LARGEST, -1.0, 1.0))


def joint_network(shared: Sequence[SecretArray], layout: Layout, settings: Any) -> list[SecretArray]:
    """Weights and biases of both layers from everybody's (1, length)."""
    table = stack([each[0] for each in shared]).T
    weights = combined(table, Rule(settings.strategy), settings.trim).times(LARGEST)
    width, hidden = len(layout.features), settings.hidden
    cuts = np.cumsum([width * hidden, hidden, hidden])
    first, bias, last = (weights[begin:end] for begin, end in zip((0, *cuts[:2]), cuts, strict=True))
    return [first.reshape(width, hidden), bias, last.reshape(hidden, 1), weights[cuts[2] :]]
