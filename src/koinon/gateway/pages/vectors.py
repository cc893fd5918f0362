"""A trust vector as a reader sees it: medians, intervals, grades, and a place on the radar for each graded measure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from koinon.gateway.views.models import Criterion
from koinon.gateway.views.parts import Origin, Quantity
from koinon.trust import vector as trust

LABELS: Final = {
    "auc": "AUC",
    "recall": "Recall",
    "log_loss": "Log-loss",
    "brier": "Brier score",
    "robustness_square": "Square attack",
    "robustness_suite": "All attacks",
    "robustness_distance": "Attack distance",
    "auc_noise": "AUC under noise",
    "auc_missing": "AUC with gaps",
    "auc_swap": "AUC with swaps",
    "load_p99": "Latency p99",
    "load_rate": "Rate held",
    "fairness_recall_gap": "Recall gap",
    "fairness_false_positive_gap": "False-positive gap",
    "fairness_auc_gap": "AUC gap",
    "membership_advantage": "Membership leak",
    "extraction_fidelity": "Copyability",
    "data_duplicates": "Duplicate rows",
    "data_missing": "Missing cells",
    "data_constant": "Constant columns",
    "data_outside": "Out of range",
    "data_minority": "Rarer class",
}
WEAK_GRADES: Final = ("C", "D")


def criteria_of(names: Sequence[str], scores: Sequence[Mapping[str, int]], origin: Origin) -> tuple[Criterion, ...]:
    """The vector of one finalised evaluation, in the order of the chain."""
    return tuple(_criterion(name, score, origin) for name, score in zip(names, scores, strict=False))


def grade_of(criteria: Sequence[Criterion]) -> str | None:
    """The overall grade by the rule of ``koinon.trust.vector``, or None where too little was measured."""
    if not criteria:
        return None
    known = tuple(_trusted(one) for one in criteria if one.identifier in trust.KINDS)
    grade = trust.grade(trust.TrustVector(bytes(32), bytes(32), known))
    return None if grade == trust.UNGRADED else grade


def weakest(criteria: Sequence[Criterion]) -> Criterion | None:
    """The graded measure that stands closest to worst by the worse end of its interval."""
    graded = [one for one in criteria if one.score is not None]
    return min(graded, key=_worse_end, default=None)


def label_of(name: str) -> str:
    """A criterion's name for people; one that this suite does not know keeps its own."""
    return LABELS.get(name, name[:32])


def place(name: str, value: int) -> int | None:
    """Where a value stands between worst (0) and best (1,000,000); None for a measure without a grade.

    The bounds of grades C, B and A of ``GRADE_BOUNDS`` stand at one, two and three quarters, and the scale is linear
    between them. Best is one where higher is better, else zero; worst is zero, or twice the bound of C.
    """
    bounds = trust.GRADE_BOUNDS.get(name)
    if bounds is None:
        return None
    a, b, c = bounds
    if trust.KINDS[name].higher_is_better:
        stations = (0, c, b, a, max(trust.SCALE, a + 1))
        reached = value
    else:
        stations = (-2 * c, -c, -b, -a, 0)
        reached = -value
    for quarter, (low, high) in enumerate(pairwise(stations)):
        if reached < high:
            return max(0, 250_000 * quarter + 250_000 * (reached - low) // (high - low))
    return trust.SCALE


def _criterion(name: str, score: Mapping[str, int], origin: Origin) -> Criterion:
    kind = trust.KINDS.get(name)
    value, low, high = score["value"], score["low"], score["high"]
    grade = trust.grade_criterion(trust.Criterion(name, value, low, high, bytes(32))) if kind else None
    ends = sorted((place(name, low) or 0, place(name, high) or 0)) if kind else [0, 0]
    score_of = place(name, value) if kind else None
    return Criterion(
        identifier=name,
        label=label_of(name),
        group=kind.family if kind else "other",
        unit=kind.unit if kind else "",
        value=Quantity(value=value, unit="ppm", origin=origin),
        low=low,
        high=high,
        grade=grade,
        score=score_of,
        score_low=None if score_of is None else ends[0],
        score_high=None if score_of is None else ends[1],
        higher_is_better=kind.higher_is_better if kind else True,
        machine_dependent=kind.machine_dependent if kind else False,
        weak=grade in WEAK_GRADES,
        meaning=kind.meaning if kind else "A measure that this site does not know.",
    )


def _trusted(criterion: Criterion) -> trust.Criterion:
    return trust.Criterion(criterion.identifier, criterion.value.value, criterion.low, criterion.high, bytes(32))


def _worse_end(criterion: Criterion) -> int:
    return criterion.score_low if criterion.score_low is not None else 0
