"""Rounds of secure aggregation with drop-outs, lying owners and lying aggregators, each replayed by its seed.

Of every three seeds one has owners that drop out at any message, one has owners that also lie, and one an aggregator
that lies, with as many owners on its side as the terms tolerate. What must hold is in ``session``: SECAGG-1 to 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from koinon.privacy.federated.game import Game, Scenario
from koinon.privacy.federated.lying_aggregator import AggregatorGame


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one round.

    Attributes:
        lie: what was told, in words; empty in rounds without liars.
        dropped: owners that dropped out.
        ended: summed, failed or, with a lying aggregator, open.
        named: how many owners the aggregator proved a deviation of.
        violations: properties that did not hold; must be empty.
    """

    seed: int
    scenario: Scenario
    owners: int
    threshold: int
    lie: str
    dropped: int
    ended: str
    named: int
    violations: tuple[str, ...]


def trial(seed: int, beyond: int = 0) -> Verdict:
    """Run one round.

    Args:
        beyond: how many more owners than the terms tolerate work with a lying aggregator, to see that it is noticed.
    """
    scenario = tuple(Scenario)[seed % len(Scenario)]
    random = Random(f"koinon federated {seed}")  # noqa: S311  # a simulation must be repeatable, not unguessable
    game = AggregatorGame(random, beyond) if scenario is Scenario.AGGREGATOR else Game(random, scenario)
    game.play()
    return Verdict(
        seed,
        scenario,
        game.size,
        game.terms.threshold,
        game.lie_told,
        len(game.dropped),
        game.ended,
        len(game.state.expelled),
        tuple(game.violations()),
    )


def summary(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Counts by scenario and lie."""
    counts: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        name = verdict.scenario.value + (f": {verdict.lie}" if verdict.lie else "")
        row = counts.setdefault(name, {"rounds": 0, "dropped": 0, "summed": 0, "failed": 0, "named": 0, "broken": 0})
        row["rounds"] += 1
        row["dropped"] += verdict.dropped
        row["summed"] += verdict.ended == "summed"
        row["failed"] += verdict.ended == "failed"
        row["named"] += verdict.named
        row["broken"] += bool(verdict.violations)
    return dict(sorted(counts.items()))
