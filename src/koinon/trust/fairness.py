"""Whether a model is equally good for people who differ in one declared column.

Rows are cut at the column's tertiles into three groups; a gap is the largest difference of a metric between two
groups. A gap is never negative, so on small groups it is above zero by chance alone: read its interval, and compare
models on the same rows. A group without rows of a class makes the metrics that need that class absent, not zero.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import InvalidInput
from koinon.trust.metrics import FloatArray, Interval, Statistic, auc, bootstrap, false_positive_rate, recall

GROUPS: Final = 3
SMALLEST_GROUP: Final = 5
"""Fewest rows of the class a metric counts, in every group, for the metric to be reported."""


@dataclass(frozen=True)
class FairnessFinding:
    """Gaps between tertiles.

    Attributes:
        gaps: by criterion name; only those that can be measured on these rows.
        absent: criterion name to the reason why it is missing.
        group_rows: rows of each group with target 1 and with target 0.
    """

    gaps: dict[str, Interval]
    absent: dict[str, str]
    group_rows: tuple[tuple[int, int], ...]


def tertiles(column: FloatArray) -> NDArray[np.intp]:
    """Group 0, 1 or 2 of every row. Raises InvalidInput where the column's values cannot be cut in three."""
    edges = np.quantile(column, [1 / 3, 2 / 3])
    groups = np.searchsorted(edges, column, side="left").astype(np.intp)
    if len(np.unique(groups)) < GROUPS:
        raise InvalidInput("the fairness column has too few different values for tertiles; declare another column")
    return groups


def gaps(
    target: FloatArray,
    scores: FloatArray,
    column: FloatArray,
    threshold: float,
    resamples: int,
    rng: np.random.Generator,
) -> FairnessFinding:
    """Gaps of recall, false-positive rate and AUC between the tertiles of ``column``."""
    groups = tertiles(column)
    members = [groups == group for group in range(GROUPS)]
    counts = tuple((int((target[rows] == 1).sum()), int((target[rows] == 0).sum())) for rows in members)
    enough_positive = min(positive for positive, _ in counts) >= SMALLEST_GROUP
    enough_negative = min(negative for _, negative in counts) >= SMALLEST_GROUP

    def gap_of(metric: Statistic) -> Statistic:
        def gap(weights: FloatArray) -> FloatArray:
            per_group = np.stack([metric(np.where(rows, weights, 0.0)) for rows in members])
            return np.asarray(per_group.max(axis=0) - per_group.min(axis=0))

        return gap

    measurable: dict[str, tuple[bool, Statistic]] = {
        "fairness_recall_gap": (enough_positive, lambda weights: recall(target, scores, weights, threshold)),
        "fairness_false_positive_gap": (
            enough_negative,
            lambda weights: false_positive_rate(target, scores, weights, threshold),
        ),
        "fairness_auc_gap": (enough_positive and enough_negative, lambda weights: auc(target, scores, weights)),
    }
    strata = (2 * groups + target).astype(np.intp)
    seed = int(rng.integers(2**63))
    found, absent = {}, {}
    for name, (enough, metric) in measurable.items():
        if enough:
            found[name] = bootstrap(strata, gap_of(metric), resamples, np.random.default_rng(seed))
        else:
            absent[name] = f"a tertile has fewer than {SMALLEST_GROUP} rows of the class it counts"
    return FairnessFinding(found, absent, counts)
