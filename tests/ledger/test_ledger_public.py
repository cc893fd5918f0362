"""The public profile as a network: 43 seats of 201 alternates, rounds of 430 blocks, money to the wei."""

import dataclasses
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from ledger_public import TREASURY, Promise, PublicNetwork
from msgspec.structs import replace

from koinon.ledger.staking.contract import STAKING
from koinon.ledger.staking.founding import COIN
from koinon.ledger.staking.profiles import PROFILES, Profile
from koinon.ledger.state import STATE_PREFIX, account_key, decode_account, read_account

PUBLIC = PROFILES["public"]
FOUNDERS, LATER = 43, 170
SILENT = frozenset({7, 20, 33})
"""Founders that never say anything; each turn of theirs is a lost view."""
ROUND, SEATS, ALTERNATES, MOST_REPLACED = 430, 43, 201, 14
DELEGATED = 50_000
GENESIS_SUPPLY = (FOUNDERS + LATER + 1) * 10**7 * COIN + (FOUNDERS * 100_000 + 1_000_000) * COIN


def open_network(kind: Profile, seed: int) -> PublicNetwork:
    """Founders of equal stake; later candidates of all sizes, of whom the ten last delegate to the first founder, which
    shares its rewards."""
    draw = random.Random(seed)
    promises = [Promise(draw.randint(100_000, 2_000_000)) for _ in range(LATER)]
    network = PublicNetwork(kind, FOUNDERS, promises, SILENT, seed)
    network.call(0, 0, "setShare", 500)
    for number in range(FOUNDERS + LATER - 10, FOUNDERS + LATER):
        network.call(number, 1, "delegate", 1, value=DELEGATED)
    return network


def check_elections(network: PublicNetwork, first: int, sizes: list[int]) -> None:
    """The sets of so many epochs from the first on have these sizes, and no election takes too many seats away."""
    sets = [set(network.seated(first + number)) for number in range(len(sizes))]
    assert [len(one) for one in sets] == sizes
    assert max(len(before - after) for before, after in pairwise(sets)) <= MOST_REPLACED
    assert not SILENT & sets[-1], "who makes no block leaves"


def check_alternates(network: PublicNetwork) -> None:
    """The era's alternates are the fit candidates with the most stake, and nobody else has a seat."""
    contract = network.contract()
    era = contract.read("era")
    known = {number: contract.candidate(number) for number in range(1, contract.read("candidateCount") + 1)}
    chosen = {number for number, one in known.items() if one["alternate_from"] <= era <= one["alternate_in"]}
    fit = [number for number, one in known.items() if one["jailed_until"] <= era]
    stakes = {number: one["stake"] + one["active"] + one["pending"] for number, one in known.items()}
    assert chosen == set(sorted(fit, key=lambda number: (-stakes[number], number))[:ALTERNATES])
    assert len(chosen) == ALTERNATES < len(fit)
    seated = {number + 1 for number in network.seated(network.making.epoch)}
    assert {number + 1 for number in SILENT} == set(known) - set(fit)
    assert len(seated & set(range(FOUNDERS + 1, FOUNDERS + LATER + 1))) > 0, "of those who came later some are elected"
    assert seated - chosen <= set(range(1, FOUNDERS + 1)), "who never was an alternate has no seat"


def check_money(network: PublicNetwork, eras: int) -> None:
    """STAKING-MONEY-1, and no coin comes into being or is lost but by issuance and burnt base fees."""
    contract = network.contract()
    supply, treasury = GENESIS_SUPPLY, 0
    for _ in range(eras):
        issued = supply * PUBLIC.staking.issuance // 10**12
        supply += issued
        treasury += issued - issued * PUBLIC.staking.pool_share // 10_000
    assert (contract.read("era"), contract.read("supply")) == (1 + eras, supply)
    assert contract.read("owed", TREASURY) == treasury > 0
    held = read_account(network.making.state.view(), STAKING).balance
    accounts = [one.account.address for one in network.keys]
    assert contract.read("accounted") == held == contract.accounted([*accounts, TREASURY])
    assert sum(balances(network)) + network.burnt == supply
    assert network.burnt > 0
    maker, idle = (contract.read("owed", network.keys[number].account.address) for number in (0, min(SILENT)))
    assert maker > idle, "who made blocks has earned more than who made none"


def balances(network: PublicNetwork) -> Iterator[int]:
    """Of every account that exists, in wei."""
    prefix = STATE_PREFIX + account_key(b"")
    for _, value in network.store.scan(prefix):
        yield decode_account(value).balance


@pytest.mark.long
def test_a_sample_of_two_rounds_in_eras_of_one() -> None:
    """The profile, but alternates are chosen and rewards paid after every round instead of every 25th."""
    kind = dataclasses.replace(PUBLIC, staking=replace(PUBLIC.staking, epochs_per_era=1, evidence_epochs=27))
    network = open_network(kind, seed=1)
    network.run(2 * ROUND + 5)
    check_elections(network, 0, [SEATS] * 3)
    check_alternates(network)
    check_money(network, eras=2)
    assert network.contract().candidate(1)["reserve"] > 0, "the second era has paid the delegators of the first"


@pytest.mark.long
def test_an_era_of_25_rounds_and_two_of_the_next() -> None:
    """The profile unchanged."""
    network = open_network(PUBLIC, seed=2)
    network.run(25 * ROUND + 5)
    # The silent lose their seats, which stay empty while the founders are the only alternates.
    check_elections(network, 0, [FOUNDERS, *[FOUNDERS - len(SILENT)] * 24, SEATS])
    check_alternates(network)
    check_money(network, eras=1)
    network.run(27 * ROUND + 5)
    check_elections(network, 25, [SEATS] * 3)
    check_alternates(network)
    check_money(network, eras=1)
