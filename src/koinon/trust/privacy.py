"""What a model gives away: whether a row was in its training data, and the model itself.

Membership inference needs rows that are known members and rows that are known not to be. Where either is not
available, the criterion is absent from the vector; it is never estimated from a stand-in.
"""

from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.trust.metrics import SMALLEST_PROBABILITY, FloatArray, Interval, bootstrap, proportion
from koinon.trust.queries import Box, Queries

FEWEST_ROWS: Final = 20
SURROGATE_RIDGE: Final = 1e-5
"""Per query; keeps Newton's method finite where the answers are separable."""
_NEWTON_STEPS: Final = 30


def losses(target: FloatArray, scores: FloatArray) -> FloatArray:
    """Log-loss of every row in nats: what a membership attack looks at."""
    clipped = np.clip(scores, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.asarray(-np.where(target == 1, np.log(clipped), np.log1p(-clipped)))


def membership_advantage(
    member_losses: FloatArray, other_losses: FloatArray, resamples: int, rng: np.random.Generator
) -> Interval:
    """True-positive minus false-positive rate of the loss-threshold attack (Yeom, Giacomelli, Fredrikson, Jha 2018).

    The threshold is chosen on one random half of the rows and the advantage measured on the other, both ways round,
    so that a model that gives nothing away scores 0 on average and not what the best of many thresholds finds by
    chance.

    Args:
        member_losses: (m,), of rows that were in the training data.
        other_losses: (n,), of rows that were not, drawn from the same population.

    Raises:
        InvalidInput: fewer than 20 rows of either kind.
    """
    if min(len(member_losses), len(other_losses)) < FEWEST_ROWS:
        raise InvalidInput(f"membership inference needs at least {FEWEST_ROWS} members and {FEWEST_ROWS} others")
    values = np.concatenate([member_losses, other_losses])
    member = np.concatenate([np.ones(len(member_losses), bool), np.zeros(len(other_losses), bool)])
    half = np.zeros(len(values), bool)
    for kind in (True, False):
        rows = rng.permutation(np.flatnonzero(member == kind))
        half[rows[: len(rows) // 2]] = True
    guessed = np.zeros(len(values), bool)
    for fold in (half, ~half):
        guessed[~fold] = values[~fold] <= _best_threshold(values[fold], member[fold])

    def advantage(weights: FloatArray) -> FloatArray:
        hit = weights[:, member & guessed].sum(axis=1) / weights[:, member].sum(axis=1)
        false_alarm = weights[:, ~member & guessed].sum(axis=1) / weights[:, ~member].sum(axis=1)
        return np.asarray(hit - false_alarm)

    return bootstrap(member.astype(np.intp), advantage, resamples, rng)


def _best_threshold(values: FloatArray, member: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    hits = np.cumsum(member[order]) / member.sum()
    false_alarms = np.cumsum(~member[order]) / (~member).sum()
    return float(values[order][np.argmax(hits - false_alarms)])


def extraction(
    rows: FloatArray, box: Box, threshold: float, budget: int, rng: np.random.Generator
) -> Queries[Interval]:
    """How often a surrogate trained on ``budget`` answers gives the model's own yes or no on unseen rows.

    The thief knows the public ranges only: queries are uniform in the box. The surrogate is logistic regression on
    the answers as soft labels, so the number is a lower bound of what a thief can do; it is high for every linear
    model, whatever is done about it, and is a reason to limit and price queries.

    Raises:
        InvalidInput: fewer queries than columns.
    """
    width = len(box.low)
    if budget <= width:
        raise InvalidInput(f"extraction of a model with {width} columns needs more than {width} queries")
    asked = rng.random((budget, width))
    answers = yield box.original(asked)
    surrogate = _fit_surrogate(asked, answers)
    said_yes = (yield rows) >= threshold
    guessed = _with_constant(box.scale(rows)) @ surrogate >= np.log(threshold / (1 - threshold))
    return proportion(int((guessed == said_yes).sum()), len(rows))


def _fit_surrogate(scaled: FloatArray, answers: FloatArray) -> FloatArray:
    """Ridge logistic regression on soft labels by Newton's method: weights (d + 1,), the constant last."""
    design = _with_constant(scaled)
    weights = np.zeros(design.shape[1])
    ridge = SURROGATE_RIDGE * len(design) * np.eye(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (probability - answers) + ridge @ weights
        curvature = (design * (probability * (1 - probability) + 1e-9)[:, None]).T @ design + ridge
        change = np.linalg.solve(curvature, gradient)
        weights = weights - change
        if np.abs(change).max() < 1e-8:
            break
    return weights


def _with_constant(scaled: FloatArray) -> FloatArray:
    return np.column_stack([2 * scaled - 1, np.ones(len(scaled))])
