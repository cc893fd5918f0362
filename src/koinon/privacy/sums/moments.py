"""Statistics, lines and components from sums of columns, of their squares, and of the products of pairs."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput, MalformedMessage, Refused
from koinon.privacy.programs import linear_regression, principal_components, statistics
from koinon.privacy.programs.offer import Layout
from koinon.privacy.statistics import SMALLEST_VARIANCE
from koinon.privacy.sums.form import OneRound, check_cells, need, whole
from koinon.privacy.sums.numerics import eigen, symmetric, times

MOST_PAIRED: Final = 256
"""Columns whose pairs are summed; more would take minutes to solve."""
_LOST: Final = 2.0**-20
"""A direction of standardised columns with less variance is taken for rounding, and has no part in a line."""
_RANGE: Final = 1e-3


def statistics_sums(layout: Layout, settings: statistics.Settings, opened: tuple[str, ...]) -> OneRound:
    """``statistics/1`` without quantiles. Raises Refused or InvalidInput for what sums do not give."""
    if "quantiles" in opened:
        raise Refused("quantiles do not follow from sums over rows; open others, or choose rep4")
    need(opened, "variance", ("mean",))
    need(opened, "correlation", ("mean", "variance"))
    if not 2 <= settings.bins <= statistics.MOST_BINS:
        raise InvalidInput(f"{statistics.NAME}: a histogram has 2 to {statistics.MOST_BINS} bins; got {settings.bins}")
    width = len(layout.columns)
    pairs = np.triu_indices(width, 1)
    edges = np.round(np.linspace(-1.0, 1.0, settings.bins + 1) * 2.0**layout.fraction_bits) / 2.0**layout.fraction_bits
    parts: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
        "mean": (width, lambda table: table.sum(0)),
        "variance": (width, lambda table: (table * table).sum(0)),
        "correlation": (len(pairs[0]), lambda table: (table.T @ table)[pairs]),
        "histogram": (width * settings.bins, lambda table: _cells(table, edges, settings.minimum_group)),
    }
    summed = [name for name in parts if name in opened and parts[name][0]]
    places = np.cumsum([0, *(parts[name][0] for name in summed)])
    if "correlation" in opened:
        _check_width(width)

    def summing(table: np.ndarray) -> np.ndarray:
        return np.concatenate([parts[name][1](table) for name in summed])

    def finishing(totals: np.ndarray, people: int) -> Mapping[str, np.ndarray]:
        if people < 2:
            raise MalformedMessage("the opened sums are of fewer than two people; an owner lied about how many it has")
        own = {name: totals[places[number] : places[number + 1]] for number, name in enumerate(summed)}
        found = dict[str, np.ndarray]()
        if "mean" in own:
            found["mean"] = own["mean"] / people
        if "variance" in own:
            variances = spread(own["variance"] / people, found["mean"])
            found["variance"] = variances * (people / (people - 1))
        if "correlation" in opened:
            products = symmetric(_filled(own.get("correlation", np.zeros(0)), width), width) / people
            both = products - np.multiply.outer(found["mean"], found["mean"])
            np.fill_diagonal(both, variances)
            found["correlation"] = _correlations(both)
        if "histogram" in own:
            found["histogram"] = whole(own["histogram"].reshape(width, settings.bins), people)
        return found

    told = {"mean": "sums", "variance": "sums of squares", "correlation": "sums of products of pairs"}
    said = [told.get(name, "counts") for name in summed]
    return OneRound(int(places[-1]), f"{', '.join(said)} of the columns over all rows", summing, finishing)


def _cells(table: np.ndarray, edges: np.ndarray, minimum: int) -> np.ndarray:
    counts = np.array([np.histogram(column, edges)[0] for column in table.T], np.float64)
    check_cells(counts, minimum, "a bin of a histogram")
    return counts.ravel()


def line_sums(layout: Layout, settings: linear_regression.Settings, opened: tuple[str, ...]) -> OneRound:
    """``linear-regression/1``, least squares or ridge. Raises Refused where a penalty is chosen inside."""
    if settings.penalties:
        raise Refused("choosing among penalties needs the rows more than once; name one penalty, or choose rep4")
    if not (np.isfinite(settings.penalty) and settings.penalty >= 0.0):
        raise InvalidInput(f"{linear_regression.NAME}: a penalty is not negative; got {settings.penalty:g}")
    if not 0 < len(layout.features) < len(layout.columns):
        raise InvalidInput(f"{linear_regression.NAME} needs a target and at least one other column")
    order = [*layout.features, layout.place]
    width = len(order)
    _check_width(width)

    def finishing(totals: np.ndarray, people: int) -> Mapping[str, np.ndarray]:
        means, both = _covariances(totals, people, width)
        deviations = np.sqrt(np.where(np.diag(both) < SMALLEST_VARIANCE, 0.0, np.diag(both)))
        unit = _correlations(both)
        weights = _ridge(unit[:-1, :-1], unit[:-1, -1], settings.penalty / people)
        safe = np.where(deviations[:-1] > 0.0, deviations[:-1], 1.0)
        slopes = weights * deviations[-1] / safe
        explained = float(times(both[:-1, -1][None, :], slopes)[0])
        fitted = float(times(times(both[:-1, :-1], slopes)[None, :], slopes)[0])
        whole_spread = float(both[-1, -1])
        left = max(whole_spread - 2 * explained + fitted, 0.0)
        score = 1.0 - left / whole_spread if whole_spread >= SMALLEST_VARIANCE else 1.0
        intercept = means[-1] - times(means[None, :-1], slopes)
        found = {"coefficients": slopes, "intercept": intercept, "score": np.array([score])}
        return {name: found[name] for name in opened}

    return OneRound(
        _moment_length(width),
        "means, variances and correlations of all columns over all rows",
        lambda table: _moment_sums(table[:, order]),
        finishing,
    )


def component_sums(layout: Layout, settings: principal_components.Settings, opened: tuple[str, ...]) -> OneRound:
    """``principal-components/1``."""
    width = len(layout.columns)
    if not 1 <= settings.count <= width:
        raise InvalidInput(f"{principal_components.NAME}: of {width} columns there are not {settings.count} directions")
    _check_width(width)

    def finishing(totals: np.ndarray, people: int) -> Mapping[str, np.ndarray]:
        _, both = _covariances(totals, people, width)
        values, vectors = eigen(both)
        kept = np.where(values < SMALLEST_VARIANCE, 0.0, values)[: settings.count]
        # The largest entry of each is positive, so that everybody has the same of the two directions.
        largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1)
        directions = (vectors * np.where(largest < 0.0, -1.0, 1.0))[: settings.count]
        sum_of_all = float(np.cumsum(np.diag(both))[-1])
        share = kept / sum_of_all if sum_of_all >= SMALLEST_VARIANCE else np.zeros_like(kept)
        found = {"components": np.where(kept[:, None] > 0.0, directions, 0.0), "explained": share}
        return {name: found[name] for name in opened}

    return OneRound(
        _moment_length(width),
        "means, variances and correlations of all columns over all rows",
        _moment_sums,
        finishing,
    )


def _moment_length(width: int) -> int:
    return width + width * (width + 1) // 2


def _moment_sums(table: np.ndarray) -> np.ndarray:
    return np.concatenate([table.sum(0), (table.T @ table)[np.triu_indices(table.shape[1])]])


def _covariances(totals: np.ndarray, people: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Means (d,) and covariances (d, d) with the divisor n. Raises MalformedMessage for those of no rows."""
    means = totals[:width] / people
    squares = symmetric(totals[width:], width) / people
    both = squares - np.multiply.outer(means, means)
    np.fill_diagonal(both, spread(np.diag(squares), means))
    return means, both


def spread(squares: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Variances from mean squares and means. Raises MalformedMessage where they would be below 0."""
    found = squares - means * means
    if found.min(initial=0.0) < -_RANGE:
        raise MalformedMessage("the opened sums are of numbers that no rows have; an owner lied about them")
    return np.asarray(np.maximum(found, 0.0))


def _correlations(both: np.ndarray) -> np.ndarray:
    """(d, d), 0 with a column that is all but constant."""
    varies = np.diag(both) >= SMALLEST_VARIANCE
    inverse = np.where(varies, 1.0 / np.sqrt(np.where(varies, np.diag(both), 1.0)), 0.0)
    return np.asarray(np.clip(both * np.multiply.outer(inverse, inverse), -1.0, 1.0))


def _ridge(matrix: np.ndarray, right: np.ndarray, share: float) -> np.ndarray:
    """(d,) w with (G + share · I) w = b; the shortest one where G leaves a choice."""
    values, vectors = eigen(matrix)
    solved = np.where(values > _LOST, 1.0 / np.maximum(values + share, _LOST), 0.0)
    return times(vectors.T, times(vectors, right) * solved)


def _filled(above: np.ndarray, width: int) -> np.ndarray:
    """The upper triangle with a diagonal of zeros, from what is above it."""
    found = np.zeros((width, width))
    found[np.triu_indices(width, 1)] = above
    return np.asarray(found[np.triu_indices(width)])


def _check_width(width: int) -> None:
    if width > MOST_PAIRED:
        raise Refused(f"products of pairs are summed of at most {MOST_PAIRED} columns; choose rep4")
