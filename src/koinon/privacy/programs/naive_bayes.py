"""``naive-bayes/1``: Gaussian naive Bayes for a 0/1 target on the joint rows of all owners; makes a model.

Opened are each class's share of the people, and mean and variance of every column in it. If either class has fewer
people than the least, everything is opened as 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, product
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.bayes import FittedBayes, GaussianBayes, class_sums_length, local_class_sums
from koinon.privacy.programs.groups import check_minimum
from koinon.privacy.programs.offer import (
    Layout,
    Offer,
    OwnerSums,
    ResultTable,
    Target,
    halves,
    middles,
    names_of,
    on_pairs,
    on_table,
)
from koinon.privacy.programs.owner_sums import ROWS
from koinon.privacy.programs.preparation import PreparedSettings
from koinon.privacy.secret import Product
from koinon.privacy.statistics import SMALLEST_VARIANCE

NAME: Final = "naive-bayes/1"


class Settings(PreparedSettings, frozen=True):
    """Attributes:
    smoothing: added to every variance, of columns scaled to [−1, 1].
    minimum_group: the least people in each class.
    solver: whether owners share "rows", or "sums" of their own rows (``owner_sums``).
    """

    smoothing: float = 1e-4
    minimum_group: int = 5
    solver: str = ROWS


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    last = len(layout.columns) - 1
    return on_table(NAME, layout, outputs, _computed(layout, settings, outputs), (last,))


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, on the pairs of an oblivious join."""
    return on_pairs(NAME, layout, outputs, _computed(layout, settings, outputs))


def _computed(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Callable[..., Revealed]:
    _check(layout, settings)
    last = len(layout.columns) - 1

    def compute(rows: SecretArray, counted: SecretArray | None = None) -> Revealed:
        codes = rows[:, last] > 0.0
        fitted = GaussianBayes(2, settings.smoothing).fit(rows[:, :last], codes, counted)
        ill = (codes if counted is None else codes & counted).sum()
        well = layout.people - ill if counted is None else counted.sum() - ill
        return _shown(fitted, ~((ill < settings.minimum_group) | (well < settings.minimum_group)), outputs)

    return compute


def _check(layout: Layout, settings: Settings) -> None:
    last = len(layout.columns) - 1
    if layout.target != layout.columns[-1].name or not last:
        raise InvalidInput(f"{NAME} takes a target, as the last column, and at least one other column")
    if not SMALLEST_VARIANCE <= settings.smoothing <= 1.0:
        raise InvalidInput(f"{NAME}: smoothing is from {SMALLEST_VARIANCE:g} to 1; got {settings.smoothing:g}")
    check_minimum(settings.minimum_group, layout.people)


def _shown(fitted: FittedBayes, enough: SecretArray, outputs: tuple[str, ...]) -> Revealed:
    made = {"priors": fitted.priors, "means": fitted.means, "variances": fitted.variances}
    return reveal(**{name: product(enough, made[name], Product.ELEMENTWISE) for name in outputs})


def _local(rows: np.ndarray, layout: Layout, _: Settings) -> np.ndarray:
    if not np.isin(rows[:, -1], (-1.0, 1.0)).all():
        raise InvalidInput(f"the target {layout.target!r} may hold only 0 and 1; recode it")
    return np.asarray(local_class_sums(rows[:, :-1], rows[:, -1] > 0.0, 2).values[0])


def _joint(sums: Sequence[SecretArray], layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    _check(layout, settings)
    fitted = GaussianBayes(2, settings.smoothing).fit_sums(sums, layout.rows)
    # Halfway between two numbers of people, which shares tell apart by 2⁻²⁰ or more.
    least = (settings.minimum_group - 0.5) / layout.people
    return _shown(fitted, ~((fitted.priors[0] < least) | (fitted.priors[1] < least)), outputs)


def present(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """In the units of the columns."""
    features = layout.columns[:-1]
    labels = (f"{layout.target} = 0", f"{layout.target} = 1")
    tables = []
    for name, values in outputs.items():
        match name:
            case "priors":
                tables.append(ResultTable(name, labels, ("share",), values.reshape(-1, 1)))
            case "means":
                in_units = values * halves(features) + middles(features)
                tables.append(ResultTable(name, labels, names_of(features), in_units))
            case _:
                tables.append(ResultTable(name, labels, names_of(features), values * halves(features) ** 2))
    return tuple(tables)


OFFER: Final = Offer(
    name=NAME,
    summary="Gaussian naive Bayes; makes a model",
    target=Target.BINARY,
    outputs=("priors", "means", "variances"),
    settings=Settings,
    build=program,
    present=present,
    paired=paired,
    sums=OwnerSums(
        length=lambda layout, _: class_sums_length(len(layout.columns) - 1, 2),
        least=lambda _: 1,
        refusal=lambda _layout, _settings, _outputs: "",
        local=_local,
        joint=_joint,
    ),
)
