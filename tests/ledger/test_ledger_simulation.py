"""Whole networks of Giskard validators in the simulated world: a fixed sample, and planted bugs that must be found.

A failure names its seed; ``simulation.run(Scenario(), SEED)`` or ``puppeteer.play(Scenario(), SEED)`` replays it.
"""

import pytest

from koinon.ledger.giskard.plants import PLANTS
from koinon.ledger.giskard.puppeteer import play
from koinon.ledger.giskard.simulation import Scenario, run
from koinon.sim.network import Faults

SAMPLE = range(1, 13)
GAMES = range(1, 41)
PLANT_SEEDS = range(1, 300)


@pytest.mark.parametrize("seed", SAMPLE)
def test_a_bad_network_with_a_liar_and_crashes_stays_safe_and_recovers(seed: int) -> None:
    verdict = run(Scenario(), seed)
    assert verdict.violations == (), f"seed {seed}"
    assert verdict.live, f"seed {seed} was not live: {verdict}"


def test_two_liars_of_seven() -> None:
    for seed in (1, 2):
        verdict = run(Scenario(nodes=7, byzantine=2), seed)
        assert verdict.violations == (), f"seed {seed}"
        assert verdict.live, f"seed {seed} was not live: {verdict}"


def test_the_same_seed_gives_the_same_world() -> None:
    assert run(Scenario(), 5) == run(Scenario(), 5)
    assert run(Scenario(), 5) != run(Scenario(), 6)


def test_the_network_may_do_anything_and_nothing_forks() -> None:
    for seed in GAMES:
        assert play(Scenario(), seed) == (), f"seed {seed}"


def test_without_faults_no_view_is_lost() -> None:
    calm = Scenario(byzantine=0, crashes=0, faults=Faults(), calm_at=1.0, quiet_at=3.0, base_timeout=1.0)
    verdict = run(calm, 1)
    assert verdict.live
    assert verdict.final_height > 20


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("height-only-voting", "GISKARD-SAFETY-1"),
        ("two-certificate-finality", "GISKARD-SAFETY-3"),
        ("finality-across-any-views", "GISKARD-SAFETY-3"),
    ],
)
def test_weaker_rules_are_found(name: str, label: str) -> None:
    games = (play(PLANTS[name], seed) for seed in PLANT_SEEDS)
    assert any(label in violation for violations in games for violation in violations)


@pytest.mark.parametrize(
    ("name", "label"),
    [("no-write-ahead", "GISKARD-SAFETY-1"), ("skipped-view-change-check", "GISKARD-SAFETY-5")],
)
def test_broken_safeguards_are_found(name: str, label: str) -> None:
    verdicts = (run(PLANTS[name], seed) for seed in PLANT_SEEDS)
    assert any(label in violation for verdict in verdicts for violation in verdict.violations)
