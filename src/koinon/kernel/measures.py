"""What a running program counts about itself, and its form for Prometheus. Plain values; nothing here is global.

The text form is Prometheus' exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

EXPOSITION_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds that suit anything from a message on loopback to a view that was lost."""


class Tally:
    """Counts by label values. Labels come from closed sets (message types, error kinds), never from a peer."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str, amount: int = 1) -> None:
        self._counts[labels] = self._counts.get(labels, 0) + amount

    def count(self, *labels: str) -> int:
        """How often exactly these labels were added."""
        return self._counts.get(labels, 0)

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def items(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """Every combination of labels with its count, in order of labels."""
        return tuple(sorted(self._counts.items()))


@dataclass
class Histogram:
    """How values are spread.

    Attributes:
        bounds: ascending upper bounds, each inclusive; what lies above the last is counted too.
        counts: one for each bound and one for what lies above.
        total: sum of all values.
    """

    bounds: tuple[float, ...] = SECONDS
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(frozen=True)
class Family:
    """One measure with all its labels.

    Attributes:
        kind: ``counter``, ``gauge`` or ``histogram``.
        samples: suffix of the name, labels, value.
    """

    name: str
    kind: str
    help: str
    samples: tuple[tuple[str, tuple[tuple[str, str], ...], float], ...]


def gauge(name: str, explanation: str, value: float, labels: tuple[tuple[str, str], ...] = ()) -> Family:
    """A value that goes up and down."""
    return Family(name, "gauge", explanation, (("", labels, value),))


def counter(name: str, explanation: str, value: float) -> Family:
    """A value that only grows while the process lives."""
    return Family(name, "counter", explanation, (("", (), value),))


def tally(name: str, explanation: str, labels: tuple[str, ...], counts: Tally) -> Family:
    """A counter for each combination of labels."""
    samples = tuple(("", tuple(zip(labels, values, strict=True)), float(count)) for values, count in counts.items())
    return Family(name, "counter", explanation, samples)


def histogram(name: str, explanation: str, spread: Histogram) -> Family:
    """A histogram with cumulative buckets, as Prometheus wants them."""
    sums = list(accumulate(spread.counts))
    names = [*(f"{bound:g}" for bound in spread.bounds), "+Inf"]
    buckets = tuple(("_bucket", (("le", name),), float(count)) for name, count in zip(names, sums, strict=True))
    return Family(
        name, "histogram", explanation, (*buckets, ("_sum", (), spread.total), ("_count", (), float(sums[-1])))
    )


def exposition(families: Iterable[Family]) -> str:
    """The text that a Prometheus server reads."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines.extend(
            f"{family.name}{suffix}{_labels(dict(labels))} {_number(value)}" for suffix, labels, value in family.samples
        )
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_escaped(value, quoted=True)}"' for name, value in labels.items())
    return "{" + inner + "}"


def _escaped(text: str, *, quoted: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quoted else escaped


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
