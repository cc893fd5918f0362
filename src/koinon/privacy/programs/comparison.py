"""``comparison/1``: every column in the two groups of a 0/1 target, and Welch's t-test of the difference.

B. Welch, "The generalization of Student's problem", 1947. Opened are each group's size, and mean and variance of every
column in it; the test and its p-value follow from them. If either group has fewer people than the least, everything is
opened as 0.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.privacy.arrays import SecretArray, concatenate, matrix_product, maximum, product
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.programs import significance
from koinon.privacy.programs.groups import check_minimum
from koinon.privacy.programs.offer import (
    Layout,
    Offer,
    ResultTable,
    Target,
    halves,
    middles,
    names_of,
    on_paired_target,
    on_target,
)
from koinon.privacy.secret import Product
from koinon.privacy.statistics import part_of

NAME: Final = "comparison/1"


class Settings(Record, frozen=True):
    """Attributes:
    minimum_group: the least people in each group.
    """

    minimum_group: int = 5


def program(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """The program for these owners. Raises InvalidInput for settings out of range, Refused if it could overflow."""
    check_minimum(settings.minimum_group, layout.people)

    def compute(rows: SecretArray, target: SecretArray) -> Revealed:
        ones = (target > 0.0).reshape(-1, 1)
        return _opened(rows, concatenate([~ones, ones], 1), settings, outputs)

    return on_target(NAME, layout, outputs, compute, Target.BINARY)


def paired(layout: Layout, settings: Settings, outputs: tuple[str, ...]) -> Program:
    """As ``program``, of the people whom an oblivious join finds with all owners."""
    check_minimum(settings.minimum_group, layout.people)

    def compute(rows: SecretArray, target: SecretArray, both: SecretArray) -> Revealed:
        ones = (target > 0.0).reshape(-1, 1)
        return _opened(rows, concatenate([~ones, ones], 1) & both.reshape(-1, 1), settings, outputs)

    return on_paired_target(NAME, layout, outputs, compute)


def _opened(rows: SecretArray, members: SecretArray, settings: Settings, outputs: tuple[str, ...]) -> Revealed:
    """Of (n, d) rows and (n, 2) bits that say who is in which group; who is in none counts for nothing."""
    counts = members.sum(0)
    sizes, people = counts.reshape(-1, 1), rows.shape[0]
    means = part_of(matrix_product(members.T, rows), sizes, people)
    # Around the mean of all, so that a small variance is not the difference of large numbers.
    middle = rows.mean(0)
    centred = rows - middle
    # Nothing in [−1, 1] is further than 2 from a mean.
    squares = part_of(matrix_product(members.T, centred * centred).times(0.25), sizes, people).times(4)
    apart = means - middle
    made = {"counts": counts, "means": means, "variances": maximum(squares - apart * apart, 0.0)}
    few = (counts < settings.minimum_group).sum(0) > 0.5
    return reveal(**{name: product(~few, made[name], Product.ELEMENTWISE) for name in outputs})


def present(outputs: Mapping[str, np.ndarray], layout: Layout, _: Settings) -> tuple[ResultTable, ...]:
    """In the units of the columns, variances with divisor n − 1 where the counts were opened; with all, the test."""
    features = [layout.columns[number] for number in layout.features]
    names, half, middle = names_of(features), halves(features), middles(features)
    groups = (f"{layout.target} = 0", f"{layout.target} = 1")
    sizes = outputs["counts"].round() if "counts" in outputs else None
    known = sizes is not None and bool((sizes >= 2).all())
    found: dict[str, np.ndarray] = {}
    for name, values in outputs.items():
        match name:
            case "counts":
                found[name] = values
            case "means":
                found[name] = values * half + middle
            case _:
                found[name] = values * half**2
                if known and sizes is not None:
                    found[name] = found[name] * (sizes / (sizes - 1)).reshape(-1, 1)
    tables = [
        ResultTable(name, groups, ("people",), values.reshape(-1, 1))
        if name == "counts"
        else ResultTable(name, groups, names, values)
        for name, values in found.items()
    ]
    if known and len(found) == 3:
        test = welch_table(found["counts"].round(), found["means"], found["variances"])
        tables.append(ResultTable("test", names, ("t", "degrees of freedom", "p"), test))
    return tuple(tables)


def welch_table(counts: np.ndarray, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """(d, 3): t of group 1 less group 0, degrees of freedom and p; 0, 0 and 1 for a column that varies in neither."""
    parts = variances / counts.reshape(-1, 1)
    total = parts.sum(0)
    varies = total > 0
    safe = np.where(varies, total, 1.0)
    freedom = safe**2 / np.maximum((parts**2 / (counts - 1).reshape(-1, 1)).sum(0), 1e-300)
    t = np.where(varies, (means[1] - means[0]) / np.sqrt(safe), 0.0)
    freedom = np.where(varies, freedom, 0.0)
    return np.column_stack([t, freedom, significance.of_student(t, freedom)])


OFFER: Final = Offer(
    name=NAME,
    summary="size, mean and variance of two groups in every column, and Welch's t-test",
    target=Target.BINARY,
    outputs=("counts", "means", "variances"),
    settings=Settings,
    build=program,
    present=present,
    paired=paired,
)
