"""The trust vector: every criterion with its interval and the hash of its evidence, in integers, in one encoding.

A criterion's ``value``, ``low`` and ``high`` are millionths of its unit, as the evaluations contract stores them: an
AUC of 0.987 is 987,000; a latency of 3.2 milliseconds is 3,200,000. The vector comes first; the letter grade is a
reading of it.

Grade rule
    Each graded criterion gets A, B, C or D from the *worse end* of its interval against the bounds of
    ``GRADE_BOUNDS``. A family's grade is the worst of its criteria, the overall grade the worst of the families that
    were measured. Without performance, robustness and fairness there is no overall grade ("–"). Machine-dependent
    criteria are graded like the others, since they say what a caller will meet.
"""

from collections.abc import Iterable
from typing import Final

from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Hash32

SCALE: Final = 1_000_000
SUITE_VERSION: Final = 1
MAXIMUM_CRITERIA: Final = 64
MAXIMUM_VECTOR_BYTES: Final = 64 * 1024
LARGEST_VALUE: Final = 2**63 - 1
"""Also stands for "unbounded", such as a distance that no attack could find."""
GRADES: Final = "ABCD"
UNGRADED: Final = "–"


class Kind(Record, frozen=True):
    """What a criterion means; fixed for a suite version.

    Attributes:
        name: at most 31 ASCII characters; also the criterion's id on the chain.
        family: performance, robustness, load, fairness, privacy or data.
        unit: what one (a million millionths) of it is.
        higher_is_better: direction.
        machine_dependent: whether another machine finds another value, so that only its size can be compared.
        meaning: one sentence for a reader.
    """

    name: str
    family: str
    unit: str
    higher_is_better: bool
    machine_dependent: bool
    meaning: str


def _kinds() -> tuple[Kind, ...]:
    share, ratio = "share", "ratio"
    return (
        Kind("auc", "performance", ratio, True, False, "Chance that a positive row scores above a negative one"),
        Kind("recall", "performance", share, True, False, "Positive rows that reach the card's threshold"),
        Kind("log_loss", "performance", "nats", False, False, "Mean negative log-likelihood"),
        Kind("brier", "performance", ratio, False, False, "Mean squared difference of probability and outcome"),
        Kind("robustness_square", "robustness", share, True, False, "Rows right and unbroken by Square within epsilon"),
        Kind("robustness_suite", "robustness", share, True, False, "Rows right and unbroken by any attack in epsilon"),
        Kind("robustness_distance", "robustness", "column ranges", True, False, "Median distance HopSkipJump needs"),
        Kind("auc_noise", "robustness", ratio, True, False, "AUC with Gaussian noise on every column"),
        Kind("auc_missing", "robustness", ratio, True, False, "AUC with cells replaced by medians"),
        Kind("auc_swap", "robustness", ratio, True, False, "AUC with columns exchanged in some rows"),
        Kind("load_p99", "load", "milliseconds", False, True, "99th percentile of latency at the lowest rate"),
        Kind("load_rate", "load", "calls per second", True, True, "Highest rate at which p99 meets the objective"),
        Kind("fairness_recall_gap", "fairness", share, False, False, "Largest difference of recall between tertiles"),
        Kind("fairness_false_positive_gap", "fairness", share, False, False, "The same of the false-positive rate"),
        Kind("fairness_auc_gap", "fairness", ratio, False, False, "The same of AUC"),
        Kind("membership_advantage", "privacy", ratio, False, False, "How much better than a coin membership is told"),
        Kind("extraction_fidelity", "privacy", share, False, False, "Rows on which a surrogate copies the answer"),
        Kind("data_duplicates", "data", share, False, False, "Evaluator's rows that are copies"),
        Kind("data_missing", "data", share, False, False, "Evaluator's cells without a number"),
        Kind("data_constant", "data", share, False, False, "Evaluator's columns with one value"),
        Kind("data_outside", "data", share, False, False, "Evaluator's cells outside the public ranges"),
        Kind("data_minority", "data", share, True, False, "Evaluator's rows of the rarer class"),
    )  # fmt: skip


KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in _kinds()}
"""Every criterion of this suite version, in the order in which vectors list them."""

GRADE_BOUNDS: Final[dict[str, tuple[int, int, int]]] = {
    "auc": (950_000, 850_000, 750_000),
    "recall": (900_000, 750_000, 600_000),
    "log_loss": (250_000, 450_000, 650_000),
    "robustness_suite": (800_000, 600_000, 400_000),
    "auc_noise": (930_000, 830_000, 730_000),
    "auc_missing": (930_000, 830_000, 730_000),
    "load_p99": (20_000_000, 100_000_000, 1_000_000_000),
    "fairness_recall_gap": (200_000, 350_000, 500_000),
    "fairness_auc_gap": (100_000, 200_000, 350_000),
    "membership_advantage": (100_000, 200_000, 350_000),
}
"""Bounds for A, B and C in millionths; beyond the last is D. Criteria that are not here are reported and not graded."""
GATES: Final = ("performance", "robustness", "fairness")


class Criterion(Record, frozen=True):
    """One measured criterion.

    Attributes:
        name: of a ``Kind``.
        value, low, high: millionths of the kind's unit, ``low <= value <= high``; the interval is 95 %.
        evidence: hash of the ``Finding`` that shows how it was measured.
    """

    name: str
    value: int
    low: int
    high: int
    evidence: bytes


class TrustVector(Record, frozen=True):
    """What one evaluator found out about one model.

    Attributes:
        weights_hash: SHA-256 of the ONNX bytes that were run.
        evidence_hash: of the whole ``Evidence`` document.
        criteria: in the order of ``KINDS``; what could not be measured is absent.
        suite: version of the suite.
    """

    weights_hash: bytes
    evidence_hash: bytes
    criteria: tuple[Criterion, ...]
    suite: int = SUITE_VERSION

    def find(self, name: str) -> Criterion | None:
        """The criterion of that name, or None where it is absent."""
        return next((criterion for criterion in self.criteria if criterion.name == name), None)


def millionths(value: float) -> int:
    """A number of units as an integer of millionths; infinity as ``LARGEST_VALUE``."""
    return max(-LARGEST_VALUE, min(LARGEST_VALUE, round(value * SCALE))) if abs(value) < 1e12 else LARGEST_VALUE


def criterion_id(name: str) -> bytes:
    """The criterion's id on the chain: its ASCII name padded with zeros to 32 bytes."""
    return name.encode("ascii").ljust(32, b"\0")


def check_vector(vector: TrustVector) -> None:
    """Refuse a vector that contradicts itself. Raises InvalidInput."""
    if vector.suite != SUITE_VERSION:
        raise InvalidInput(f"trust vector of suite version {vector.suite}; version {SUITE_VERSION} is known here")
    if len(vector.weights_hash) != 32 or len(vector.evidence_hash) != 32:
        raise InvalidInput("a trust vector's weights hash and evidence hash have 32 bytes each")
    names = [criterion.name for criterion in vector.criteria]
    if not names or names != [name for name in KINDS if name in set(names)]:
        raise InvalidInput("a trust vector lists known criteria, each once, in the suite's order")
    for criterion in vector.criteria:
        if not -LARGEST_VALUE <= criterion.low <= criterion.value <= criterion.high <= LARGEST_VALUE:
            raise InvalidInput(f"criterion {criterion.name}: the value must lie in its interval")
        if len(criterion.evidence) != 32:
            raise InvalidInput(f"criterion {criterion.name}: the evidence hash must be 32 bytes")


def encode_vector(vector: TrustVector) -> bytes:
    """The vector's one encoding. Raises InvalidInput where it contradicts itself."""
    check_vector(vector)
    return encode(vector)


def decode_vector(data: bytes) -> TrustVector:
    """Read a vector. Raises MalformedMessage for other bytes, InvalidInput for one that contradicts itself."""
    vector = decode(TrustVector, data, limit=MAXIMUM_VECTOR_BYTES)
    check_vector(vector)
    return vector


def vector_hash(vector: TrustVector) -> Hash32:
    """Digest that an evaluator's endorsement signs."""
    from koinon.crypto.hash import tagged_hash

    return tagged_hash("koinon/trust/vector/1", encode_vector(vector))


def grade_criterion(criterion: Criterion) -> str | None:
    """A, B, C or D by the worse end of the interval; None for a criterion that is not graded."""
    bounds = GRADE_BOUNDS.get(criterion.name)
    if bounds is None:
        return None
    if KINDS[criterion.name].higher_is_better:
        passed = sum(criterion.low >= bound for bound in bounds)
    else:
        passed = sum(criterion.high <= bound for bound in bounds)
    return GRADES[len(bounds) - passed]


def grade_families(vector: TrustVector) -> dict[str, str]:
    """The grade of every family that has a graded criterion."""
    worst: dict[str, str] = {}
    for criterion in vector.criteria:
        grade = grade_criterion(criterion)
        if grade is not None:
            family = KINDS[criterion.name].family
            worst[family] = max(worst.get(family, "A"), grade)
    return worst


def grade(vector: TrustVector) -> str:
    """The overall grade by the module's rule, or ``UNGRADED``."""
    families = grade_families(vector)
    if any(family not in families for family in GATES):
        return UNGRADED
    return max(families.values())


def combine(vectors: Iterable[TrustVector]) -> tuple[Criterion, ...]:
    """Median of value, low and high of each criterion that a majority measured, as the evaluations contract takes it.

    Of an even number it is the mean of the two in the middle, rounded towards minus infinity. The evidence hash of each
    is zero: the evidence is that of the single vectors.

    Raises:
        InvalidInput: no vectors, or vectors of different models.
    """
    listed = list(vectors)
    if not listed or len({vector.weights_hash for vector in listed}) != 1:
        raise InvalidInput("vectors are combined for one model, from at least one evaluator")
    combined = []
    for name in KINDS:
        found = [criterion for vector in listed if (criterion := vector.find(name)) is not None]
        if 2 * len(found) > len(listed):
            value, low, high = (
                _median(numbers) for numbers in zip(*((c.value, c.low, c.high) for c in found), strict=True)
            )
            combined.append(Criterion(name, value, low, high, bytes(32)))
    return tuple(combined)


def _median(numbers: tuple[int, ...]) -> int:
    ordered = sorted(numbers)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2
