"""``k-means/1``: centres and sizes of k groups of people (Lloyd's algorithm).

A group of fewer people than the least would say too much about each of them: its centre and its size are opened as 0,
the middle of every column's range.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, matrix_product, where
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.learn.clusters import KMeans
from koinon.privacy.ordering import one_hot
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
from koinon.privacy.statistics import part_of

NAME: Final = "k-means/1"
MOST_CLUSTERS: Final = 64


class Settings(PreparedSettings, frozen=True):
    """Attributes:
    clusters: k.
    iterations: of Lloyd's algorithm; public and fixed, so that time tells nothing.
    seed: of the rows that the centres start from.
    minimum_group: the least people in a group whose centre and size are opened.
    """

    clusters: int = 3
    iterations: int = 10
    seed: int = 0
    minimum_group: int = 5


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    return on_table(NAME, layout, outputs, _computed(layout, settings, outputs))


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, on the pairs of an oblivious join."""
    return on_pairs(NAME, layout, outputs, _computed(layout, settings, outputs))


def _computed(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Callable[..., Revealed]:
    if not 2 <= settings.clusters <= min(MOST_CLUSTERS, layout.people) or not 2 <= settings.iterations <= 100:
        raise InvalidInput(
            f"{NAME} makes 2 to {MOST_CLUSTERS} groups, at most one for each of the {layout.people} people, in 2 to 100"
            f" iterations; got {settings.clusters} and {settings.iterations}"
        )
    if not 0 <= settings.seed < 1 << 32:
        raise InvalidInput(f"{NAME}: a seed is from 0 to 2^32 - 1; got {settings.seed}")
    check_minimum(settings.minimum_group, layout.people)

    def compute(rows: SecretArray, counted: SecretArray | None = None) -> Revealed:
        # The last of Lloyd's steps is made here: a centre that is opened must be the mean of the group that is counted.
        before = KMeans(settings.clusters, settings.iterations - 1, settings.seed).fit(rows, counted)
        members = one_hot(before.predict(rows), settings.clusters)
        if counted is not None:
            members = members & counted.reshape(-1, 1)
        sizes = members.sum(0)
        centres = part_of(matrix_product(members.T, rows), sizes.reshape(-1, 1), layout.people)
        small = sizes < settings.minimum_group
        made = {
            "centres": lambda: where(small.reshape(-1, 1), 0.0, centres),
            "sizes": lambda: where(small, 0, sizes),
        }
        return reveal(**{name: made[name]() for name in outputs})

    return compute


def present(outputs: Mapping[str, np.ndarray], layout: Layout, settings: Settings) -> tuple[ResultTable, ...]:
    """Centres in the units of the columns, in the order in which they were found."""
    labels = tuple(f"group {number}" for number in range(1, settings.clusters + 1))
    tables = []
    for name, values in outputs.items():
        if name == "centres":
            in_units = values * halves(layout.columns) + middles(layout.columns)
            tables.append(ResultTable(name, labels, names_of(layout.columns), in_units))
        else:
            tables.append(ResultTable(name, labels, ("people",), values.reshape(-1, 1)))
    return tuple(tables)


OFFER: Final = Offer(
    name=NAME,
    summary="centres and sizes of groups of similar people",
    target=Target.NONE,
    outputs=("centres", "sizes"),
    settings=Settings,
    build=program,
    present=present,
    paired=paired,
)
