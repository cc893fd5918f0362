"""Logistic regression where rows are split by owner: one row of sums from each, whatever the number of people.

Every owner fits its own rows in the clear, on its own machine, and shares the curvature H and the gradient g of its
part of the objective there. The joint model solves Σ (g + H (ŵ − w)) = λ w: one Newton step of the joint objective from
every owner's own optimum at once (N. Lin, R. Xi, "Aggregated estimating equation estimation", 2011). Its distance from
the fit to all rows falls with the square of d/n for the smallest owner's n rows; with few rows per column, or owners
whose people differ much, fit the rows themselves.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import (
    DEFAULT_PRECISION,
    SecretArray,
    bounded,
    clip,
    concatenate,
    constant_like,
    product,
    reciprocal,
    refined,
    square_root,
)
from koinon.privacy.backend import PlainInput
from koinon.privacy.computation import table
from koinon.privacy.learn.linear import iterated_ridge
from koinon.privacy.learn.logistic import LARGEST_COEFFICIENT, FittedLogistic
from koinon.privacy.learn.moments import SUM_BITS, weighted
from koinon.privacy.secret import Claim, Product
from koinon.privacy.statistics import SMALLEST_VARIANCE

MOST_COLUMNS: Final = 130
ENOUGH_ROWS: Final = 20
"""Rows for every coefficient that an owner needs for a fit of its own: the joint model is then within about a hundredth
of a standard error's square of the fit to all rows."""
MOST_PENALTY_SHARE: Final = 0.25
_NEWTON_STEPS: Final = 50
_CONVERGED: Final = 1e-9
_SCALE_BITS: Final = 24
_STEPS: Final = 24
_UNDETERMINED: Final = "these rows determine no logistic model of their own; fit all owners' rows together instead"


def local_curvature(rows: np.ndarray, target: np.ndarray, owners: int, penalty: float = 1.0) -> PlainInput:
    """One owner's input, from its own rows alone.

    Args:
        rows: (n, d) plain numbers in [−1, 1].
        target: (n,) of 0 and 1.
        owners: how many take part; each fits with an equal part of the penalty.
        penalty: λ of ``LogisticRegression``, the same for all owners.

    Raises:
        InvalidInput: numbers outside [−1, 1], a target that is not 0 or 1, no more rows than columns, an unusable
            penalty, or rows to which no model can be fitted.
    """
    values, answers = np.asarray(rows, np.float64), np.asarray(target, np.float64)
    if values.ndim != 2 or answers.shape != values.shape[:1] or not 1 <= values.shape[1] <= MOST_COLUMNS:
        raise InvalidInput(
            f"rows (n, d) with 1 to {MOST_COLUMNS} columns and a target (n,) belong together; got {values.shape} and"
            f" {answers.shape}"
        )
    most = MOST_PENALTY_SHARE * len(values)
    if values.shape[1] >= len(values) or owners < 1 or not 0.0 < penalty / owners <= most:
        raise InvalidInput(
            f"a fit of an owner's own to {values.shape[1]} columns needs more rows than columns and a penalty above 0,"
            f" at most {most:g} for each owner; got {len(values)} rows, {owners} owners and {penalty:g} for all"
        )
    if not (np.abs(values) <= 1.0).all() or not np.isin(answers, (0.0, 1.0)).all():
        raise InvalidInput("rows are numbers in [-1, 1] and the target is 0 or 1; map columns from agreed ranges first")
    design = np.column_stack([values, np.ones(len(values))])
    shrink = np.append(penalty / owners * values.var(0), 0.0) + 1e-6
    weights = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        slope = design.T @ (answers - likely) - shrink * weights
        curved = design.T @ (design * (likely * (1 - likely))[:, None])
        step = np.linalg.solve(curved + np.diag(shrink), slope)
        weights = weights + step / max(1.0, float(np.abs(step).max()) / 2)
        if np.abs(step).max() < _CONVERGED:
            break
    else:
        raise InvalidInput(_UNDETERMINED)
    likely = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
    curved = design.T @ (design * (likely * (1 - likely))[:, None])
    right = curved @ weights + design.T @ (answers - likely)
    sums = np.concatenate(
        [curved[np.triu_indices(len(weights))], right / 2, values.sum(0), (values * values).sum(0)]
    ) / len(values)
    if not (np.abs(sums) <= 1.0).all():
        raise InvalidInput(_UNDETERMINED)
    return table(sums.reshape(1, -1), (), [(-1.0, 1.0)] * len(sums))


def joint_model(sums: Sequence[SecretArray], rows: Sequence[int], penalty: float = 1.0) -> FittedLogistic:
    """The model of all owners' rows from what each made with ``local_curvature``.

    Args:
        sums: (1, m) of each owner, shared with SUM_BITS fraction bits.
        rows: public number of rows of each.
        penalty: as all of them used it.

    Raises:
        InvalidInput: shapes that ``local_curvature`` does not make, or an unusable penalty.
    """
    total = sum(rows)
    if not 0.0 < penalty <= MOST_PENALTY_SHARE * total:
        raise InvalidInput(f"with {total} rows the penalty is above 0, at most {MOST_PENALTY_SHARE * total:g}")
    length = sums[0].size
    width = next((d for d in range(1, MOST_COLUMNS + 1) if sums_length(d) == length), 0)
    if not width or len(rows) != len(sums) or any(each.shape != (1, length) for each in sums):
        raise InvalidInput("sums come from local_curvature, of the same columns for every owner")
    together = bounded(weighted(sums, rows), "MOMENT", 1.25)
    above = np.triu_indices(width + 1)
    places = np.empty((width + 1, width + 1), np.intp)
    places[above] = places.T[above] = np.arange(len(above[0]))
    start = len(above[0])
    half = together[start : start + width + 1]
    means, squares = together[start + width + 1 : -width], together[-width:]
    spread = bounded(squares - means * means, "MOMENT", 1.01)
    shrink = concatenate([spread.times(penalty / total), constant_like(spread, np.zeros(1))])
    system = together[places] + np.eye(width + 1) * shrink.reshape(-1, 1)
    diagonal = bounded(system[np.arange(width + 1), np.arange(width + 1)], "MOMENT", 0.51)
    root = square_root(diagonal, SMALLEST_VARIANCE)
    scale = refined(reciprocal(root, SMALLEST_VARIANCE**0.5), _SCALE_BITS)
    # A positive semi-definite matrix scaled to a diagonal of 1, as a matrix of correlations is.
    left = product(system, scale, Product.ELEMENTWISE, Claim("AGGREGATED", 1.05), SUM_BITS)
    unit = product(left, scale.reshape(-1, 1), Product.ELEMENTWISE, Claim("AGGREGATED", 1.05), _SCALE_BITS)
    right = product(half, scale, Product.ELEMENTWISE, Claim("AGGREGATED", 1.05), _SCALE_BITS)
    weights = iterated_ridge(unit, right.reshape(-1, 1), 0.0, _STEPS)
    coefficients = refined(weights, DEFAULT_PRECISION) * refined(scale, DEFAULT_PRECISION)
    kept = clip(coefficients.times(2), -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT)
    return FittedLogistic(kept[:width], kept[width])


def sums_length(width: int) -> int:
    """How many numbers ``local_curvature`` makes of ``width`` columns."""
    return (width + 1) * (width + 2) // 2 + (width + 1) + 2 * width
