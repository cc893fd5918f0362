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


def test_two_certificates_are_found_to_be_too_few() -> None:
    found = {seed: play(PLANTS["two-certificate-finality"], seed) for seed in (3, 5)}
    assert all("GISKARD-SAFETY-3" in violations[0] for violations in found.values()), found


def test_finality_across_any_views_is_found_to_fork() -> None:
    assert "GISKARD-SAFETY-3" in play(PLANTS["finality-across-any-views"], 191)[0]


def test_sending_before_writing_is_found_out() -> None:
    for seed in (1, 2):
        verdict = run(PLANTS["no-write-ahead"], seed)
        assert any("GISKARD-SAFETY-1" in violation for violation in verdict.violations), f"seed {seed}"


def test_believing_a_view_change_is_found_out() -> None:
    for seed in (3, 4):
        verdict = run(PLANTS["skipped-view-change-check"], seed)
        assert any("GISKARD-SAFETY-5" in violation for violation in verdict.violations), f"seed {seed}"
