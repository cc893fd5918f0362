"""Regressions by Newton's method on sums over rows: the model of the pooled rows in a handful of rounds.

In every round owners add up gradient and Hessian of their rows' losses at a model that all know; the totals are those
of the pooled rows, so the model moves as it would on them. The first round starts at zero, where the Hessian says the
second moments: from it everybody has the variances that make a penalty that of standardised columns. A column that is
all but constant keeps the weight 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput, MalformedMessage, Refused
from koinon.privacy.learn.logistic_solver import check_settings
from koinon.privacy.learn.newton import LONGEST_STEP
from koinon.privacy.programs import logistic_regression, multinomial_regression, poisson_regression
from koinon.privacy.programs.classes import classes_of
from koinon.privacy.programs.offer import Layout
from koinon.privacy.statistics import SMALLEST_VARIANCE
from koinon.privacy.sums.form import check_signs, check_totals
from koinon.privacy.sums.numerics import solved, symmetric

MOST_ROUNDS: Final = 25
GRID_BITS: Final = 30
"""Weights are rounded to 2⁻³⁰ after every step."""
CLOSE_ENOUGH: Final = 2.0**-12
"""The rounds end with a step in which no weight moves further: what is rounded moves them by less."""
MOST_WEIGHTS: Final = 500
"""More would make the sums longer than a round adds up."""
_FURTHEST: Final = 2.0**20
_LOWEST: Final = -12.0
_HIGHEST: Final = 0.7
"""Of the logarithm of a mean over the largest count, as ``learn.poisson`` has it."""
_LEAST_MEAN: Final = 2.0**-12
_START_BITS: Final = 20
"""What a logarithm is rounded to, so that libraries that differ in its last bits do not differ here."""


@dataclass(frozen=True)
class Newton:
    """A convex model of weights (d + 1, c), the intercepts last, as sums over rows.

    Attributes:
        width: d.
        classes: c.
        iterations: steps at most.
        share: people → the factor λ of ½ λ σ² w² for every weight, beside the mean loss.
        slopes: weights (d + 1, c), design (n, d + 1) and table → each row's slope (n, c) and curvature (n, c, c) in its
            levels; not above ``scale``.
        scale: no slope or curvature is larger.
        flat: curvature (c, c) at zero weights.
        first: the intercept after the first round, from the mean slope at zero; None to make a step there too.
        names: of the outputs: weights, and intercepts.
    """

    width: int
    classes: int
    iterations: int
    share: Callable[[int], float]
    slopes: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    scale: float
    flat: np.ndarray
    first: Callable[[float], float] | None
    features: tuple[int, ...]
    names: tuple[str, str]
    tells: str = "the joint model of every round, and gradient and Hessian of the loss over all rows"
    sensitivity: float = 0.0

    @property
    def rounds(self) -> int:
        """A step each, and one more for the start."""
        return min(self.iterations, MOST_ROUNDS) + 1

    @property
    def length(self) -> int:
        """A gradient, and the upper triangle of a Hessian."""
        return self._size + self._size * (self._size + 1) // 2

    @property
    def _size(self) -> int:
        return (self.width + 1) * self.classes

    def start(self) -> np.ndarray:
        """Zeros."""
        return np.zeros(self._size)

    def add(self, state: np.ndarray, table: np.ndarray) -> np.ndarray:
        """See ``RowSums.add``."""
        design = np.column_stack([table[:, list(self.features)], np.ones(len(table))])
        slopes, curvatures = self.slopes(state.reshape(self.width + 1, self.classes), design, table)
        gradient = design.T @ slopes
        hessian = np.empty((self.width + 1, self.classes) * 2)
        for one in range(self.classes):
            for other in range(self.classes):
                hessian[:, one, :, other] = (design * curvatures[:, one, other, None]).T @ design
        both = hessian.reshape(self._size, self._size)[np.triu_indices(self._size)]
        return np.concatenate([gradient.ravel(), both]) / self.scale

    def move(
        self, state: np.ndarray, memory: np.ndarray, totals: np.ndarray, people: int
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """See ``RowSums.move``; ``memory`` are the columns' variances (d,)."""
        check_totals(totals, self.length, people)
        means = totals * (self.scale / people)
        gradient = means[: self._size]
        hessian = symmetric(means[self._size :], self._size)
        is_first = memory.size != self.width
        if is_first:
            memory = self._variances(hessian)
            if self.first is not None:
                following = state.copy()
                following[-1] = self.first(float(gradient[-1]))
                return following, memory, 1.0
        varies = memory >= SMALLEST_VARIANCE
        ridge = np.repeat(np.append(self.share(people) * memory, 0.0), self.classes)
        kept = np.repeat(np.append(varies, True), self.classes)
        system = np.where(np.multiply.outer(kept, kept), hessian, 0.0) + np.diag(np.where(kept, ridge, 1.0))
        if self.classes > 1:
            # All classes' weights of a column raised alike change nothing: no step is made in that direction.
            place = np.repeat(np.arange(self.width + 1), self.classes)
            system = system + (place[:, None] == place) / self.classes
        step = solved(system, np.where(kept, -gradient - ridge * state, 0.0))
        reach = np.repeat(np.append(LONGEST_STEP / np.sqrt(np.where(varies, memory, 1.0)), np.inf), self.classes)
        grid = 2.0**GRID_BITS
        following = np.round((state + np.clip(step, -reach, reach)) * grid) / grid
        if not np.isfinite(following).all() or np.abs(following).max() > _FURTHEST:
            raise MalformedMessage("the joint model left every range; an owner's sums are not those of its rows")
        change = float(np.abs(following - state).max())
        return following, memory, 0.0 if change <= CLOSE_ENOUGH else change

    def _variances(self, hessian: np.ndarray) -> np.ndarray:
        """Of the columns, from the Hessian at zero. Raises MalformedMessage for one of no rows."""
        moments = hessian[:: self.classes, :: self.classes] / float(self.flat[0, 0])
        means, squares = moments[:-1, -1], np.diag(moments)[:-1]
        if abs(moments[-1, -1] - 1.0) > 1e-3 or (squares - means * means).min(initial=0.0) < -1e-3:
            raise MalformedMessage("the opened sums are of numbers that no rows have; an owner lied about them")
        return np.asarray(np.maximum(squares - means * means, 0.0))

    def outputs(self, state: np.ndarray) -> Mapping[str, np.ndarray]:
        """See ``RowSums.outputs``."""
        weights = state.reshape(self.width + 1, self.classes)
        slopes = weights[:-1] if self.classes > 1 else weights[:-1, 0]
        return {self.names[0]: slopes, self.names[1]: weights[-1]}


def logistic_sums(layout: Layout, settings: logistic_regression.Settings, opened: tuple[str, ...]) -> Newton:
    """``logistic-regression/1``. Raises Refused where more or less than the model is opened.

    Y. Wu, X. Jiang, J. Kim and L. Ohno-Machado, "Grid Binary LOgistic REgression (GLORE): building shared models
    without sharing data", JAMIA 2012.
    """
    names = ("coefficients", "intercept")
    _check(names, opened, layout, 1)
    if settings.penalties:
        raise Refused("choosing among penalties needs the rows of every fold apart; name one penalty, or choose rep4")
    check_settings(settings.penalty, settings.iterations)
    place = len(layout.columns) - 1

    def slopes(weights: np.ndarray, design: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        check_signs(table[:, place], layout.columns[place].name)
        chances = 0.5 * (1.0 + np.tanh(design @ weights / 2.0))
        return chances - (table[:, place, None] + 1.0) / 2.0, (chances * (1.0 - chances))[:, :, None]

    return Newton(
        place, 1, settings.iterations, lambda people: settings.penalty / people, slopes, 1.0, np.full((1, 1), 0.25),
        None, tuple(range(place)), names,
    )  # fmt: skip


def poisson_sums(layout: Layout, settings: poisson_regression.Settings, opened: tuple[str, ...]) -> Newton:
    """``poisson-regression/1``. Raises Refused where more or less than the model is opened."""
    names = ("coefficients", "intercept")
    _check(names, opened, layout, 1)
    if settings.penalties:
        raise Refused("choosing among penalties needs the rows of every fold apart; name one penalty, or choose rep4")
    if not (np.isfinite(settings.penalty) and settings.penalty >= 0.0) or not 1 <= settings.iterations <= 100:
        raise InvalidInput(f"{poisson_regression.NAME} has a penalty that is not negative and 1 to 100 iterations")
    largest = layout.columns[layout.place].high
    place = layout.place

    def slopes(weights: np.ndarray, design: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        means = np.exp(np.clip(design @ weights[:, 0], _LOWEST, _HIGHEST))
        parts = (table[:, place] + 1.0) / 2.0
        return (means - parts)[:, None], means[:, None, None]

    def first(slope: float) -> float:
        # At zero every mean is the largest count, so the mean slope is 1 less the mean of all counts.
        grid = 2.0**_START_BITS
        return round(log(max(1.0 - slope, _LEAST_MEAN)) * grid) / grid

    share = settings.penalty / largest
    scale = float(np.exp(_HIGHEST))
    return Newton(
        len(layout.features), 1, settings.iterations, lambda _: share, slopes, scale, np.ones((1, 1)), first,
        tuple(layout.features), names,
    )  # fmt: skip


def multinomial_sums(layout: Layout, settings: multinomial_regression.Settings, opened: tuple[str, ...]) -> Newton:
    """``multinomial-regression/1``. Raises Refused where more or less than the model is opened."""
    names = ("coefficients", "intercepts")
    classes, place = classes_of(multinomial_regression.NAME, layout), layout.place
    _check(names, opened, layout, classes)
    if not (np.isfinite(settings.penalty) and settings.penalty >= 0.0) or settings.iterations < 1:
        raise InvalidInput(f"{multinomial_regression.NAME} has a penalty from 0 on, and an iteration or more")

    def slopes(weights: np.ndarray, design: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        levels = design @ weights
        powers = np.exp(levels - levels.max(1, keepdims=True))
        chances = powers / powers.sum(1, keepdims=True)
        codes = np.floor((table[:, place] + 1.0) / 2.0 * (classes - 1) + 0.5).astype(np.int64)
        curvatures = chances[:, :, None] * (np.eye(classes) - chances[:, None, :])
        return chances - np.eye(classes)[codes], curvatures

    flat = np.eye(classes) / classes - 1.0 / classes**2
    return Newton(
        len(layout.features), classes, settings.iterations, lambda people: settings.penalty / people, slopes, 1.0,
        flat, None, tuple(layout.features), names,
    )  # fmt: skip


def _check(names: tuple[str, str], opened: tuple[str, ...], layout: Layout, classes: int) -> None:
    if set(opened) != set(names):
        raise Refused(f"the joint model is known to all owners; open {' and '.join(names)}, and only these")
    if len(layout.columns) < 2 or len(layout.columns) * classes > MOST_WEIGHTS:
        raise Refused(f"owners add up Hessians of 1 to {MOST_WEIGHTS} weights; choose fewer columns, or rep4")
