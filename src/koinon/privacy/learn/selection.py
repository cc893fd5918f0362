"""Settings chosen by cross-validation inside the computation: nobody learns a score, or which setting won.

Every setting is fitted to every fold's rest and scored on the fold; the folds are public positions and never contain
the rows a model is tested on later. All settings are fitted to all rows as well, and the best one's numbers are picked
by secret bits, so that what leaves does not say which it was. Independent fits share their rounds.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any, Final, TypeVar, cast

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, clip, concatenate, stack
from koinon.privacy.learn.choice import one_hot_of_largest

Model = TypeVar("Model")
Fit = Callable[[SecretArray, SecretArray], Model]
Score = Callable[[Model, SecretArray, SecretArray], SecretArray]

MOST_CHOICES: Final = 16
MOST_FOLDS: Final = 20
LEAST_PER_FOLD: Final = 3
_WORST: Final = -8.0
"""Scores outside ±8 count as that: an R² of −8 is as bad as any."""


def validated(
    fits: Sequence[Fit[Model]], score: Score[Model], rows: SecretArray, target: SecretArray, folds: int = 5
) -> SecretArray:
    """(s,) mean scores of s ways to fit on rows they were not fitted to, still secret; larger is better.

    Args:
        fits: each from (rows, target) to a model.
        score: from (model, rows, target) to one number.
        rows: (n, d), of which row i is in fold i mod ``folds``.
        target: (n,).

    Raises:
        InvalidInput: nothing to fit, or fewer than two folds or rows than folds.
    """
    count = rows.shape[0]
    if not fits or not 2 <= folds <= count or target.shape[:1] != (count,):
        raise InvalidInput(
            f"{len(fits)} settings are validated on 2 to {count} folds of rows {rows.shape} with targets"
            f" {target.shape}; got {folds}"
        )
    fold = np.arange(count) % folds
    means = []
    for fit in fits:
        scores = [
            clip(
                score(fit(rows[fold != each], target[fold != each]), rows[fold == each], target[fold == each]),
                _WORST,
                -_WORST,
            )
            for each in range(folds)
        ]
        means.append(concatenate([each.reshape(1) for each in scores]).mean())
    return concatenate([each.reshape(1) for each in means])


def chosen(
    fits: Sequence[Fit[Model]], score: Score[Model], rows: SecretArray, target: SecretArray, folds: int = 5
) -> Model:
    """The model of the best way to fit by ``validated``, fitted to all rows; nobody learns which way it was.

    Raises:
        InvalidInput: see ``validated``; or models whose public parts differ, which would tell.
    """
    scores = validated(fits, score, rows, target, folds)
    if len(fits) == 1:
        return fits[0](rows, target)
    best = one_hot_of_largest(scores.reshape(1, -1), 2 * _WORST).ravel()
    return cast(Model, _picked(best, [fit(rows, target) for fit in fits]))


def check_penalties(name: str, penalties: Sequence[float], folds: int, people: int) -> None:
    """Refuse what cannot be chosen from. Raises InvalidInput."""
    if not penalties:
        return
    if len(penalties) > MOST_CHOICES or len(set(penalties)) != len(penalties) or not all(map(isfinite, penalties)):
        raise InvalidInput(f"{name} chooses among at most {MOST_CHOICES} different finite penalties")
    if not 2 <= folds <= min(MOST_FOLDS, people // LEAST_PER_FOLD):
        raise InvalidInput(
            f"{name} validates on 2 to {MOST_FOLDS} folds of at least {LEAST_PER_FOLD} people; got {folds} of"
            f" {people} people"
        )


def _picked(best: SecretArray, models: Sequence[Any]) -> Any:
    first = models[0]
    if isinstance(first, SecretArray):
        if any(each.shape != first.shape for each in models):
            raise InvalidInput("models of different shapes cannot be chosen between in secret")
        numbers = stack([each.ravel() for each in models])
        return (best @ numbers).reshape(*first.shape)
    if is_dataclass(first) and not isinstance(first, type):
        parts = {each.name: _picked(best, [getattr(model, each.name) for model in models]) for each in fields(first)}
        return type(first)(**parts)
    if isinstance(first, tuple):
        if any(len(each) != len(first) for each in models):
            raise InvalidInput("models of different sizes cannot be chosen between in secret")
        return tuple(_picked(best, parts) for parts in zip(*models, strict=True))
    if any(each != first for each in models):
        raise InvalidInput("models whose public settings differ cannot be chosen between in secret; vary a penalty")
    return first
