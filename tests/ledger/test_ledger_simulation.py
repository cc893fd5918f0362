"""Whole networks of Giskard validators in the simulated world: a fixed sample, and planted bugs that must be found.

A failure names its seed; ``koinon sim consensus --seeds 1 --from SEED`` with the scenario's numbers replays it.
"""

import pytest

from koinon.ledger.giskard.exploration import Findings, explore, explore_all, is_game
from koinon.ledger.giskard.plants import PLANTS
from koinon.ledger.giskard.simulation import Scenario, run
from koinon.ledger.giskard.state import Voting
from koinon.sim.network import Faults

SCENARIOS = {
    "one liar of four": (Scenario(), range(1, 25)),
    "two liars of seven": (Scenario(nodes=7, byzantine=2), range(1, 7)),
    "three epochs, one liar of four": (Scenario(epochs=3, spare=2), range(1, 9)),
    "collected votes, three epochs, two liars of seven": (
        Scenario(nodes=7, byzantine=2, epochs=3, spare=3, voting=Voting.COLLECTED),
        range(1, 5),
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_forks_and_a_calm_network_goes_on(name: str) -> None:
    """GISKARD-SAFETY-1 to 8, GISKARD-LIVENESS-1."""
    scenario, seeds = SCENARIOS[name]
    findings = Findings()
    for verdict in explore_all(scenario, seeds, jobs=1):
        findings.add(verdict)
    assert findings.broken == []
    assert findings.live == findings.networks > 0
    assert findings.blocks > 3 * findings.schedules


@pytest.mark.long
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_sample_of_many_more_schedules(name: str) -> None:
    scenario, seeds = SCENARIOS[name]
    findings = Findings()
    for verdict in explore_all(scenario, range(1000, 1000 + 5 * len(seeds)), jobs=1):
        findings.add(verdict)
    assert findings.broken == []


def test_real_signatures() -> None:
    """The same step with BLS: false votes and forged messages meet the checks that nodes make."""
    verdict = run(Scenario(real_signatures=True, calm_at=0.8, quiet_at=1.0, crashes=1), 1)
    assert verdict.violations == ()
    assert verdict.live


@pytest.mark.long
def test_a_sample_with_real_signatures() -> None:
    for seed in range(1, 7):
        verdict = run(Scenario(real_signatures=True, epochs=2, spare=2, calm_at=1.5, quiet_at=2.0), seed)
        assert verdict.violations == (), f"seed {seed}"
        assert verdict.live, f"seed {seed}"


def test_the_same_seed_gives_the_same_world() -> None:
    assert run(Scenario(), 5) == run(Scenario(), 5)
    assert run(Scenario(), 5) != run(Scenario(), 6)


def test_every_epoch_is_reached_and_has_its_own_validators() -> None:
    verdict = run(Scenario(epochs=4, spare=3), 1)
    assert verdict.live
    assert verdict.epoch == 3


def test_who_is_two_epochs_behind_is_shown_the_way() -> None:
    """GISKARD-LIVENESS-4: node 3 of this seed, of no set after the first, sleeps through the whole second epoch."""
    scenario = Scenario(nodes=7, byzantine=2, epochs=3, spare=4, voting=Voting.COLLECTED)
    verdict = run(scenario, 1_000_466)
    assert verdict.live
    assert verdict.epoch == 2


def test_without_faults_no_view_is_lost() -> None:
    calm = Scenario(byzantine=0, crashes=0, partitions=0, faults=Faults(), calm_at=1.0, quiet_at=3.0, base_timeout=1.0)
    verdict = run(calm, 1)
    assert verdict.live
    assert verdict.final_height > 15


WITHIN = {
    "height-only-voting": ("GISKARD-SAFETY-1", 40),
    "two-certificate-finality": ("GISKARD-SAFETY-3", 200),
    "finality-across-any-views": ("GISKARD-SAFETY-3", 400),
    "no-write-ahead": ("GISKARD-SAFETY-1", 10),
    "skipped-view-change-check": ("GISKARD-SAFETY-5", 10),
    "final-closing-blocks": ("GISKARD-SAFETY-8", 20),
    "full-closing-blocks": ("GISKARD-SAFETY-8", 60),
    "unmarked-closing-blocks": ("GISKARD-SAFETY-8", 60),
}
"""For each plant, the property that its absence breaks and how many seeds it takes at most to see that."""


@pytest.mark.parametrize("name", WITHIN)
def test_a_safeguard_taken_away_is_missed(name: str) -> None:
    label, seeds = WITHIN[name]
    asynchronous = label == "GISKARD-SAFETY-3"
    verdicts = (explore(PLANTS[name], seed) for seed in range(1, seeds + 1) if is_game(seed) or not asynchronous)
    assert any(label in violation for verdict in verdicts for violation in verdict.violations)


def test_every_plant_is_tried() -> None:
    assert set(WITHIN) == set(PLANTS)
