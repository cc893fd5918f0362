"""Sizes, means and variances of groups, and counts of pairs of codes, as sums over rows."""

from collections.abc import Callable, Mapping

import numpy as np

from koinon.kernel.errors import InvalidInput, MalformedMessage, Refused
from koinon.privacy.programs import comparison, contingency, naive_bayes
from koinon.privacy.programs.offer import Layout
from koinon.privacy.statistics import SMALLEST_VARIANCE
from koinon.privacy.sums.form import OneRound, check_cells, check_signs, need, whole
from koinon.privacy.sums.moments import spread
from koinon.privacy.sums.numerics import total

Finish = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]
"""Sizes (2,), means (2, d) and variances (2, d) with the divisor n → outputs."""


def comparison_sums(layout: Layout, settings: comparison.Settings, opened: tuple[str, ...]) -> OneRound:
    """``comparison/1``. Raises Refused unless all of it is opened."""
    return _grouped(
        layout,
        settings.minimum_group,
        opened,
        lambda counts, means, variances: {"counts": counts, "means": means, "variances": variances},
    )


def bayes_sums(layout: Layout, settings: naive_bayes.Settings, opened: tuple[str, ...]) -> OneRound:
    """``naive-bayes/1``. Raises Refused unless all of it is opened, InvalidInput for a smoothing out of range."""
    if not SMALLEST_VARIANCE <= settings.smoothing <= 1.0:
        raise InvalidInput(
            f"{naive_bayes.NAME}: smoothing is from {SMALLEST_VARIANCE:g} to 1; got {settings.smoothing:g}"
        )
    return _grouped(
        layout,
        settings.minimum_group,
        opened,
        lambda counts, means, variances: {
            "priors": counts / float(total(counts)),
            "means": means,
            "variances": variances + settings.smoothing,
        },
    )


def _grouped(layout: Layout, minimum: int, opened: tuple[str, ...], finish: Finish) -> OneRound:
    """Both groups of a 0/1 target; every owner must have ``minimum`` people in each."""
    features = list(layout.features)
    if not features or len(features) == len(layout.columns):
        raise InvalidInput("groups are those of a target, and there must be at least one other column")
    if minimum < 1:
        raise InvalidInput(f"a minimum group size is at least 1; got {minimum}")
    expected = set(finish(np.ones(2), np.zeros((2, 1)), np.zeros((2, 1))))
    if set(opened) != expected:
        raise Refused(f"the sums say all of {', '.join(sorted(expected))}; open all of them, or choose rep4")
    width = len(features)

    def summing(table: np.ndarray) -> np.ndarray:
        target = table[:, layout.place]
        check_signs(target, layout.target)
        groups = [table[target == sign][:, features] for sign in (-1.0, 1.0)]
        if min(len(own) for own in groups) < minimum:
            raise Refused(f"a class of this owner's has fewer than the {minimum} people the study asks for")
        return np.concatenate([np.concatenate([[len(own)], own.sum(0), (own**2).sum(0)]) for own in groups])

    def finishing(totals: np.ndarray, people: int) -> Mapping[str, np.ndarray]:
        rows = totals.reshape(2, 1 + 2 * width)
        counts = whole(rows[:, 0], people)
        if counts.min() < minimum:
            raise MalformedMessage("the opened sums are of fewer people in a class than the study's least")
        means, squares = (rows[:, start : start + width] / counts[:, None] for start in (1, 1 + width))
        if np.abs(means).max() > 1.001 or squares.max() > 1.001:
            raise MalformedMessage("the opened sums are of numbers outside the columns' ranges; an owner lied")
        found = finish(counts, means, spread(squares, means))
        return {name: found[name] for name in opened}

    tells = "of each class its size, and of every column in it sum and sum of squares, over all rows"
    return OneRound(2 * (1 + 2 * width), tells, summing, finishing)


def contingency_sums(layout: Layout, settings: contingency.Settings, opened: tuple[str, ...]) -> OneRound:
    """``contingency/1``. Raises Refused where the test is opened without the counts that it follows from."""
    need(opened, "chi_square", ("counts",))
    places = contingency.places_of(layout, settings)
    shape = contingency.codes_of(layout.columns[places[0]]), contingency.codes_of(layout.columns[places[1]])
    if settings.minimum_group < 1:
        raise InvalidInput(f"a minimum group size is at least 1; got {settings.minimum_group}")

    def summing(table: np.ndarray) -> np.ndarray:
        first, second = (
            np.floor((table[:, place] + 1.0) / 2.0 * (codes - 1) + 0.5).astype(np.int64)
            for place, codes in zip(places, shape, strict=True)
        )
        counts = np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1]).astype(np.float64)
        check_cells(counts, settings.minimum_group, "a pair of codes")
        return counts

    def finishing(totals: np.ndarray, people: int) -> Mapping[str, np.ndarray]:
        counts = whole(totals, people).reshape(shape)
        found = {"counts": counts, "chi_square": np.array([_chi_square(counts)])}
        return {name: found[name] for name in opened}

    return OneRound(shape[0] * shape[1], "the counts of all pairs of codes", summing, finishing)


def _chi_square(counts: np.ndarray) -> float:
    """Pearson's statistic; a row or column without anybody is left out."""
    rows, columns = total(counts.T), total(counts)
    each = np.multiply.outer(np.maximum(rows, 1.0), np.maximum(columns, 1.0))
    people = float(total(rows))
    return max(people * (float(total((counts * counts / each).ravel())) - 1.0), 0.0)
