"""Real validators on hosts of their own, with delay, loss, partitions and kill -9: nothing final is lost, nobody votes
twice, who was away catches up. What is random comes from the seed that every test prints.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from ledger_fleet import Fleet, hold_to_account
from ledger_namespaces import Weather, missing_for_namespaces, open_lab

MISSING = missing_for_namespaces()
pytestmark = [pytest.mark.long, pytest.mark.skipif(MISSING is not None, reason=MISSING or "")]

SEED = int(os.environ.get("KOINON_SEED", "1"))
KILLS = int(os.environ.get("KOINON_KILLS", "200"))
START_SECONDS = 2.5
"""Of processor time: a validator that has used up so much is up and has worked a little."""


@contextmanager
def fleet_of(count: int, folder: Path, rich: LocalAccount, weather: Weather, seed: int) -> Iterator[Fleet]:
    print(f"seed {seed}")
    with open_lab(count, weather, seed) as lab:
        fleet = Fleet(lab, folder, rich, random.Random(seed))
        try:
            fleet.start(*range(count))
            fleet.until(lambda: fleet.height() >= 1, "the first block")
            yield fleet
        finally:
            for number in list(fleet.processes):
                fleet.kill(number)


def kill_at_random(fleet: Fleet, kills: int) -> None:
    """Kill and start again, mostly one at a time, sometimes more than the network bears, sometimes while starting."""
    while fleet.kills < kills:
        fleet.advance(fleet.rng.randint(0, 2))
        most = fleet.rng.choices((1, 2, fleet.count), (85, 10, 5))[0]
        victims = fleet.rng.sample(sorted(fleet.processes), min(most, kills - fleet.kills))
        for victim in victims:
            fleet.kill(victim)
        if len(victims) <= (fleet.count - 1) // 3:
            fleet.advance(fleet.rng.randint(0, 3))
        fleet.start(*victims)
        if fleet.rng.random() < 0.3 and fleet.kills < kills:  # again, before it is up or just when it is
            fleet.grow_up(victims[0], fleet.rng.uniform(0, START_SECONDS))
            fleet.kill(victims[0])
            fleet.start(victims[0])


def test_kills_and_a_partition_sample(tmp_path: Path, rich: LocalAccount) -> None:
    weather = Weather(delay=0.005, jitter=0.002, loss=0.01)
    with fleet_of(4, tmp_path, rich, weather, SEED) as fleet:
        kill_at_random(fleet, 10)
        fleet.settle_everywhere()
        weather.partition([0], [1, 2, 3])
        alone = fleet.look(0)
        fleet.until(lambda: max(fleet.look(number) for number in (1, 2, 3)) >= alone + 3, "blocks without number 0")
        assert fleet.look(0) <= alone + 1
        weather.heal()
        fleet.settle_everywhere()
    print(hold_to_account(fleet))


@pytest.mark.parametrize("count", [4, 7])
def test_a_series_of_kills(count: int, tmp_path: Path, rich: LocalAccount) -> None:
    weather = Weather(delay=0.01, jitter=0.01, loss=0.01)
    with fleet_of(count, tmp_path, rich, weather, SEED) as fleet:
        kill_at_random(fleet, KILLS)
        fleet.settle_everywhere()
    print(hold_to_account(fleet))


@pytest.mark.parametrize("count", [4, 7])
def test_partitions_heal(count: int, tmp_path: Path, rich: LocalAccount) -> None:
    weather = Weather(delay=0.025)
    with fleet_of(count, tmp_path, rich, weather, SEED) as fleet:
        for _ in range(5):
            order = fleet.rng.sample(range(count), count)
            quorum = fleet.genesis.validator_set().quorum
            large, small = order[:quorum], order[quorum:]
            weather.partition(large, small)
            before = fleet.height()
            fleet.until(lambda: max(fleet.look(n) for n in large) >= before + 5, "blocks of the larger part")  # noqa: B023
            weather.heal()
            fleet.settle_everywhere()
            half = order[: count // 2]
            weather.partition(half, [number for number in order if number not in half])
            for _ in range(20):  # neither half has a quorum; whatever they try meanwhile must do no harm
                fleet.offer()
            weather.heal()
            fleet.advance(5)
            fleet.settle_everywhere()
    print(hold_to_account(fleet))


def test_who_has_just_started_is_needed_at_once(tmp_path: Path, rich: LocalAccount) -> None:
    """While it catches up, one of those it asks falls silent, and without it there is no quorum."""
    weather = Weather(delay=0.005, jitter=0.002, loss=0.01)
    with fleet_of(4, tmp_path, rich, weather, SEED) as fleet:
        for _ in range(25):
            victim, silent = fleet.rng.sample(range(4), 2)
            fleet.kill(victim)
            fleet.advance(fleet.rng.randint(0, 12))
            fleet.start(victim)
            fleet.grow_up(victim, fleet.rng.uniform(0.9, START_SECONDS))
            rest = [number for number in range(4) if number != silent]
            weather.partition([silent], rest)
            target = fleet.height() + 4
            fleet.until(lambda: max(fleet.look(n) for n in rest) >= target, f"blocks without {silent}")  # noqa: B023
            weather.heal()
            fleet.settle_everywhere()
    print(hold_to_account(fleet))


@pytest.mark.parametrize("loss", [0.05, 0.15])
def test_lossy_links(loss: float, tmp_path: Path, rich: LocalAccount) -> None:
    with fleet_of(4, tmp_path, rich, Weather(delay=0.025, jitter=0.01, loss=loss), SEED) as fleet:
        fleet.advance(60)
        fleet.settle_everywhere()
    print(hold_to_account(fleet))


def test_who_was_away_for_long_catches_up(tmp_path: Path, rich: LocalAccount) -> None:
    with fleet_of(4, tmp_path, rich, Weather(delay=0.002), SEED) as fleet:
        fleet.kill(3)
        fleet.advance(600)
        fleet.start(3)
        begin = time.monotonic()
        target = max(fleet.final)
        fleet.until(lambda: fleet.look(3) >= target, "number 3 at the others' height")
        print(f"{target} blocks caught up in {time.monotonic() - begin:.1f} s, start included")
        fleet.kill(0)  # now number 3 is needed for a quorum
        fleet.advance(5)
        fleet.start(0)
        fleet.settle_everywhere()
    print(hold_to_account(fleet))
