"""How well probabilities match what happened, each with a bootstrap interval.

Bootstrap: percentile method (Efron and Tibshirani 1993, chapter 13), resampling within classes, so that every
resample has both and the interval is conditional on how many rows of each class there are. A resample is a row of
integer weights, and every metric takes a matrix of weights (resamples, rows): one pass of numpy per metric instead of
a loop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import InvalidInput

FloatArray: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
"""Weights (resamples, rows) to one value per resample."""

LEVEL: Final = 0.95
SMALLEST_PROBABILITY: Final = 1e-7
"""Log-loss clips probabilities to [1e-7, 1 − 1e-7]: below that, 32-bit answers are only 0 or 1."""
_WEIGHTS_AT_A_TIME: Final = 4_000_000
_NORMAL_QUANTILE: Final = 1.959963984540054
"""97.5 % quantile of the normal distribution, for 95 % intervals."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; ``low <= value <= high``."""

    value: float
    low: float
    high: float


def auc(target: FloatArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Area under the ROC curve, ties counted half (Mann and Whitney).

    Args:
        target: (rows,), 0 or 1.
        scores: (rows,).
        weights: (resamples, rows); each resample has weight in both classes, or its AUC is not a number.
    """
    order = np.argsort(scores, kind="stable")
    sorted_scores, positive = scores[order], target[order] == 1
    starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
    sorted_weights = weights[:, order]
    positives = np.add.reduceat(np.where(positive, sorted_weights, 0.0), starts, axis=1)
    negatives = np.add.reduceat(np.where(positive, 0.0, sorted_weights), starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((positives * (below + negatives / 2)).sum(axis=1) / pairs)


def recall(target: FloatArray, scores: FloatArray, weights: FloatArray, threshold: float) -> FloatArray:
    """Share of the rows with target 1 whose score reaches the threshold."""
    return _share(target == 1, scores >= threshold, weights)


def false_positive_rate(target: FloatArray, scores: FloatArray, weights: FloatArray, threshold: float) -> FloatArray:
    """Share of the rows with target 0 whose score reaches the threshold."""
    return _share(target == 0, scores >= threshold, weights)


def log_loss(target: FloatArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean negative log-likelihood in nats, scores clipped by ``SMALLEST_PROBABILITY``."""
    clipped = np.clip(scores, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    losses = -np.where(target == 1, np.log(clipped), np.log1p(-clipped))
    return np.asarray(weights @ losses / weights.sum(axis=1))


def brier(target: FloatArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean squared difference of probability and outcome (Brier 1950)."""
    return np.asarray(weights @ (scores - target) ** 2 / weights.sum(axis=1))


def bootstrap(strata: NDArray[np.intp], statistic: Statistic, resamples: int, rng: np.random.Generator) -> Interval:
    """Value of a statistic and its percentile interval.

    Args:
        strata: (rows,), label of the group within which rows are resampled.
        statistic: any function of weights (resamples, rows).
        resamples: how many; 1000 leaves about 2 % of the interval's width as noise.
        rng: the same generator state gives the same interval.

    Raises:
        InvalidInput: fewer than 100 resamples, or the statistic is not defined on these rows.
    """
    if resamples < 100:
        raise InvalidInput(f"an interval from {resamples} resamples means nothing; use at least 100")
    value = float(statistic(np.ones((1, len(strata))))[0])
    drawn = np.concatenate([statistic(weights) for weights in _resample(strata, resamples, rng)])
    if not np.isfinite(value) or not np.isfinite(drawn).all():
        raise InvalidInput("the metric is not defined on these rows; rows of both classes are needed in every group")
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value))


def proportion(successes: int, trials: int) -> Interval:
    """A share with Wilson's score interval, which stays honest at 0 and 1, where a bootstrap gives a width of zero.

    Raises:
        InvalidInput: there were no trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise InvalidInput(f"{successes} of {trials} is not a share")
    share, z = successes / trials, _NORMAL_QUANTILE
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(share, min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share))


def performance(
    target: FloatArray, scores: FloatArray, threshold: float, resamples: int, rng: np.random.Generator
) -> dict[str, Interval]:
    """AUC, recall at the threshold, log-loss and Brier score; every metric sees the same resamples."""
    strata = target.astype(np.intp)
    seed = int(rng.integers(2**63))
    statistics: dict[str, Statistic] = {
        "auc": lambda weights: auc(target, scores, weights),
        "recall": lambda weights: recall(target, scores, weights, threshold),
        "log_loss": lambda weights: log_loss(target, scores, weights),
        "brier": lambda weights: brier(target, scores, weights),
    }
    return {
        name: bootstrap(strata, statistic, resamples, np.random.default_rng(seed))
        for name, statistic in statistics.items()
    }


def _share(of: NDArray[np.bool_], which: NDArray[np.bool_], weights: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(weights[:, of & which].sum(axis=1) / weights[:, of].sum(axis=1))


def _resample(strata: NDArray[np.intp], resamples: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """Weights in blocks of bounded memory."""
    block = max(1, _WEIGHTS_AT_A_TIME // max(1, len(strata)))
    groups = [np.flatnonzero(strata == label) for label in np.unique(strata)]
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        weights = np.zeros((count, len(strata)))
        for rows in groups:
            weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=count)
        yield weights
