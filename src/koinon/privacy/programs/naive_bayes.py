"""``naive-bayes/1``: Gaussian naive Bayes for a 0/1 target on the joint rows of all owners; makes a model.

Opened are each class's share of the people, and mean and variance of every column in it. If either class has fewer
people than the least, everything is opened as 0.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, product
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.bayes import GaussianBayes
from koinon.privacy.programs.groups import check_minimum
from koinon.privacy.programs.offer import (
    Layout,
    Offer,
    ResultTable,
    Target,
    halves,
    middles,
    names_of,
    on_pairs,
    on_table,
)
from koinon.privacy.programs.preparation import PreparedSettings
from koinon.privacy.secret import Product
from koinon.privacy.statistics import SMALLEST_VARIANCE

NAME: Final = "naive-bayes/1"


class Settings(PreparedSettings, frozen=True):
    """Attributes:
    smoothing: added to every variance, of columns scaled to [−1, 1].
    minimum_group: the least people in each class.
    """

    smoothing: float = 1e-4
    minimum_group: int = 5


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    last = len(layout.columns) - 1
    return on_table(NAME, layout, outputs, _computed(layout, settings, outputs), (last,))


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, on the pairs of an oblivious join."""
    return on_pairs(NAME, layout, outputs, _computed(layout, settings, outputs))


def _computed(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Callable[..., Revealed]:
    last = len(layout.columns) - 1
    if layout.target != layout.columns[-1].name or not last:
        raise InvalidInput(f"{NAME} takes a target, as the last column, and at least one other column")
    if not SMALLEST_VARIANCE <= settings.smoothing <= 1.0:
        raise InvalidInput(f"{NAME}: smoothing is from {SMALLEST_VARIANCE:g} to 1; got {settings.smoothing:g}")
    check_minimum(settings.minimum_group, layout.people)

    def compute(rows: SecretArray, counted: SecretArray | None = None) -> Revealed:
        codes = rows[:, last] > 0.0
        fitted = GaussianBayes(2, settings.smoothing).fit(rows[:, :last], codes, counted)
        ill = (codes if counted is None else codes & counted).sum()
        well = layout.people - ill if counted is None else counted.sum() - ill
        enough = ~((ill < settings.minimum_group) | (well < settings.minimum_group))
        made = {"priors": fitted.priors, "means": fitted.means, "variances": fitted.variances}
        return reveal(**{name: product(enough, made[name], Product.ELEMENTWISE) for name in outputs})

    return compute


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
)
