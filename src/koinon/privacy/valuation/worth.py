"""The worth of each owner's rows, computed on shares: every coalition's model, its test, and the Shapley map.

All coalitions are trained side by side by the same short gradient descent: their weights are the columns of one matrix,
a coalition's rows are chosen by a public mask, so that one step of all of them is two matrix products. The test set is
made of public positions of every owner's rows, stays secret, and trains nobody.

The utility of a coalition is how much more probability than ½ its model gives to the true label of a test row, the
mean of both classes' means: 0 for a model that knows nothing, or nothing but how frequent the classes are, and for no
model at all; ½ for one that is always right and sure. Only values leave, and the width of their intervals.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, bounded, concatenate, constant_like, reciprocal, sigmoid
from koinon.privacy.valuation.shapley import Plan, members

TEST_EVERY: Final = 4
"""Every fourth row of an owner is tested on."""
LEAST_ROWS: Final = 8
STEPS: Final = 30
_RATE: Final = 4.0
_MOMENTUM: Final = 0.9


def worth(tables: Sequence[SecretArray], plan: Plan) -> tuple[SecretArray, SecretArray]:
    """Value (n,) of each owner, and the variance (n,) of what it adds from order to order (0 where exact).

    Args:
        tables: (rows, d + 1) of each owner, scaled to [−1, 1], the target last.

    Raises:
        InvalidInput: tables that do not fit the plan or one another, or an owner with fewer than eight rows.
    """
    if len(tables) != plan.owners or len({table.shape[1] for table in tables}) != 1:
        raise InvalidInput(f"the worth of {plan.owners} owners is computed of as many tables with the same columns")
    if min(table.shape[0] for table in tables) < LEAST_ROWS:
        raise InvalidInput(f"an owner needs at least {LEAST_ROWS} rows for them to have a worth")
    tested = [np.arange(table.shape[0]) % TEST_EVERY == TEST_EVERY - 1 for table in tables]
    training = concatenate([table[~rows] for table, rows in zip(tables, tested, strict=True)])
    test = concatenate([table[rows] for table, rows in zip(tables, tested, strict=True)])
    holders = np.repeat(np.arange(plan.owners), [int((~rows).sum()) for rows in tested])
    takes_part = np.array([members(mask, plan.owners) for mask in plan.coalitions], np.float64).T
    utilities = _utilities(_trained(training, takes_part[holders]), test)
    added = utilities @ plan.marginals.reshape(-1, len(plan.coalitions)).T
    added = added.reshape(len(plan.marginals), plan.owners)
    values = added.mean(0)
    if plan.exact:
        return values, constant_like(values, np.zeros(plan.owners))
    spread = added - values
    return values, (spread * spread).sum(0).times(1.0 / (len(plan.marginals) - 1))


def _trained(rows: SecretArray, masks: np.ndarray) -> SecretArray:
    """(d + 1, coalitions) weights; ``masks`` (rows, coalitions) says whose rows count where."""
    design, half = _design(rows), (rows[:, -1:] + 1.0) * 0.5
    width, coalitions = design.shape[1], masks.shape[1]
    rates = _RATE / (masks.sum(0) * width)
    weights = velocity = constant_like(rows, np.zeros((width, coalitions)))
    for _ in range(STEPS):
        surplus = (sigmoid(design @ weights) - half).times(masks)
        velocity = velocity * _MOMENTUM - (design.T @ surplus).times(rates)
        weights = weights + velocity
    return weights


def _utilities(weights: SecretArray, test: SecretArray) -> SecretArray:
    """(coalitions,) mean over both classes of σ(z) − ½, times −1 for the class 0."""
    sure = sigmoid(_design(test) @ weights) - 0.5
    positive = (test[:, -1] + 1.0) * 0.5
    shares = []
    for sign, chosen in ((1.0, positive), (-1.0, 1.0 - positive)):
        inverse = reciprocal(chosen.sum(), 1.0)
        # CLASS-MEAN: a mean of numbers up to ½ over some of the rows, or 0 where there are none.
        shares.append(bounded((chosen @ sure).times(sign) * inverse, "CLASS-MEAN", 0.51))
    return (shares[0] + shares[1]) * 0.5


def _design(rows: SecretArray) -> SecretArray:
    return concatenate([rows[:, :-1], constant_like(rows, np.ones((rows.shape[0], 1)))], 1)
