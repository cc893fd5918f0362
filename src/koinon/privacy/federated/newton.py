"""Logistic regression by Newton's method on sums over owners: the model of the pooled rows in a handful of rounds.

An owner gives, at the joint model of the round, the mean gradient and the mean Hessian over its rows; weighed by rows
and added up they are those of all rows together, so the joint model moves as it would on the pooled rows. (Y. Wu, X.
Jiang, J. Kim and L. Ohno-Machado, "Grid Binary LOgistic REgression (GLORE): building shared models without sharing
data", JAMIA 2012.) The first round starts at zero, where the Hessian is a quarter of the second moments: from it
everybody has the variances that make the penalty that of standardised columns.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput, ProtocolAbort
from koinon.privacy.sums.numerics import solved

MOST_FEATURES: Final = 512
"""More would make an update of over a million bytes, and the solving slow."""
GRID_BITS: Final = 30
"""Parameters are rounded to 2⁻³⁰ after every step."""
CLOSE_ENOUGH: Final = 2.0**-12
"""The training ends with a step in which no parameter moves further: what is rounded moves them by less."""
_FURTHEST: Final = 2.0**20
_LEAST_VARIANCE: Final = 2.0**-20


@dataclass(frozen=True, slots=True)
class Logistic:
    """Probability of the class 1 is σ(x·w + b); parameters are w (d,), then b. Features are in [−1, 1]."""

    features: int

    @property
    def size(self) -> int:
        return self.features + 1

    def initial(self, seed: int) -> np.ndarray:
        """Zeros: the first round's Hessian is to be that of the second moments."""
        del seed
        return np.zeros(self.size)

    def loss_and_gradient(
        self, parameters: np.ndarray, rows: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Mean log loss over (n, d) rows with (n,) targets 0 or 1, and its gradient (d + 1,)."""
        scores = rows @ parameters[:-1] + parameters[-1]
        loss = float(np.mean(np.logaddexp(0.0, scores) - targets * scores))
        surplus = _chances(scores) - targets
        return loss, np.append(rows.T @ surplus, surplus.sum()) / len(rows)

    def predict(self, parameters: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n, 2) probabilities."""
        chance = _chances(rows @ parameters[:-1] + parameters[-1])
        return np.column_stack([1.0 - chance, chance])

    def statistics(self, parameters: np.ndarray, rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Mean gradient (d + 1,), and after it the upper triangle of the mean Hessian, row by row."""
        design = np.column_stack([rows, np.ones(len(rows))])
        chance = _chances(design @ parameters)
        hessian = (design * (chance * (1.0 - chance))[:, None]).T @ design / len(rows)
        _, gradient = self.loss_and_gradient(parameters, rows, targets)
        return np.concatenate([gradient, hessian[np.triu_indices(self.size)]])


def statistics_size(size: int) -> int:
    """Numbers in the statistics of a model of ``size`` parameters."""
    return size + size * (size + 1) // 2


def longest(size: int) -> float:
    """No statistics of rows in [−1, 1] are longer (L2): gradients of size 1, and a Hessian of size ¼, each number."""
    return float(np.sqrt(size) + size / 4)


def moved(
    parameters: np.ndarray, variances: np.ndarray, statistics: np.ndarray, rows: float, penalty: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """The joint model after one Newton step.

    Args:
        parameters: (d + 1,) before it.
        variances: (d + 1,) of the columns over all rows and 0 for the intercept; all 0 before the first step.
        statistics: means over all rows, see ``Logistic.statistics``.
        rows: how many these are.
        penalty: λ of ½ λ ‖w‖² on standardised columns, beside the sum of the rows' losses.

    Returns:
        Parameters and variances after it, and the largest change of a parameter.

    Raises:
        ProtocolAbort: no rows of owners that follow the protocol have these statistics, or the model left every range.
    """
    size = parameters.size
    hessian = np.zeros((size, size))
    upper = np.triu_indices(size)
    hessian[upper] = statistics[size:]
    hessian = hessian + np.triu(hessian, 1).T
    if not variances.any():
        variances = np.maximum(4 * hessian.diagonal() - (4 * hessian[:, -1]) ** 2, _LEAST_VARIANCE)
        variances[-1] = 0.0
    ridge = penalty / rows * variances
    gradient = statistics[:size] + ridge * parameters
    step = solved(hessian + np.diag(ridge), -gradient)
    grid = 2.0**GRID_BITS
    following = np.round((parameters + step) * grid) / grid
    if not np.isfinite(following).all() or np.abs(following).max() > _FURTHEST:
        raise ProtocolAbort("the joint model left every range; an owner's statistics are not those of its rows")
    return following, variances, float(np.abs(following - parameters).max())


def check(features: int, hidden: tuple[int, ...], classes: int) -> Logistic:
    """The model of a plan. Raises InvalidInput where Newton's method is not for it."""
    if hidden or classes != 2 or not 1 <= features <= MOST_FEATURES:
        raise InvalidInput(
            f"Newton's method fits two classes on 1 to {MOST_FEATURES} features without hidden layers; use averages"
        )
    return Logistic(features)


def _chances(scores: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(scores / 2)))
