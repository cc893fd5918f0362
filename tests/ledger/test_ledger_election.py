"""Elections: integers only, the same for everybody, few changes at a time, and fair by weight."""

import ast
from dataclasses import replace
from fractions import Fraction
from math import comb
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import koinon.ledger.staking as package
from koinon.crypto.hash import keccak256, sha256
from koinon.kernel.ids import Hash32
from koinon.kernel.quantities import BasisPoints, Epoch, Wei
from koinon.ledger.staking.binomial import inverse_binomial
from koinon.ledger.staking.election import Candidate, Seats, alternates, elect, rank, shuffled, weight

COIN = 10**18
SEED = Hash32(sha256(b"seed"))


def candidate(
    number: int, coins: int = 100, since: int | None = None, *, fit: bool = True, bonus: int = 0
) -> Candidate:
    return Candidate(
        number=number,
        key=(keccak256(number.to_bytes(4, "big")) * 2)[:48],
        stake=Wei(coins * COIN),
        bonus=BasisPoints(bonus),
        since=None if since is None else Epoch(since),
        fit=fit,
    )


def seats(count: int, least: int = 1) -> Seats:
    return Seats(count, least, Wei(COIN))


seeds = st.binary(min_size=32, max_size=32).map(Hash32)
candidates = st.lists(
    st.tuples(st.integers(1, 10**6), st.booleans(), st.integers(0, 5000)), min_size=1, max_size=40
).map(lambda rows: [candidate(n, coins, fit=fit, bonus=bonus) for n, (coins, fit, bonus) in enumerate(rows, 1)])


@pytest.mark.parametrize("trials", [0, 1, 2, 7, 30])
@pytest.mark.parametrize(("numerator", "denominator"), [(1, 2), (1, 100), (99, 100), (43, 1000)])
def test_inverse_binomial_is_the_inverse_of_the_exact_distribution(
    trials: int, numerator: int, denominator: int
) -> None:
    p = Fraction(numerator, denominator)
    cumulative = Fraction(0)
    for successes in range(trials + 1):
        below = cumulative
        cumulative += comb(trials, successes) * p**successes * (1 - p) ** (trials - successes)
        # Just inside the step at both ends: a draw is a multiple of 2^-256, rounding is far finer.
        first, last = int(below * 2**256) + 2, int(cumulative * 2**256) - 2
        if first <= last:
            assert inverse_binomial(trials, numerator, denominator, first) == successes
            assert inverse_binomial(trials, numerator, denominator, last) == successes


@pytest.mark.parametrize(
    ("trials", "numerator", "denominator", "draw", "successes"),
    [
        (10, 4, 3, 0, 10),
        (10, 3, 3, 2**255, 10),
        (0, 1, 3, 2**256 - 1, 0),
        (10, 0, 3, 2**256 - 1, 0),
        (31_622, 43, 2_000_000, 2**255, 0),
        (31_622, 43, 2_000_000, 3 * 2**254, 1),
        (2**40, 2**30, 2**31, 2**255, 2**39),
    ],
)
def test_inverse_binomial_at_its_limits(
    trials: int, numerator: int, denominator: int, draw: int, successes: int
) -> None:
    assert inverse_binomial(trials, numerator, denominator, draw) == successes


def test_golden_elections() -> None:
    """Another implementation that gives these gives all: weights, draws, ties, rotation and order are in them."""
    everybody = [candidate(number, 50 * number, bonus=500 * (number % 3)) for number in range(1, 13)]
    present = [replace(one, since=Epoch(one.number % 3)) for one in everybody[:7]]
    drawn = [one.number for one in rank(everybody, 7, Wei(COIN), SEED)]
    elected = [one.number for one in elect(present, everybody, seats(7), SEED)]
    assert [weight(one, Wei(COIN)) for one in everybody] == GOLDEN_WEIGHTS
    assert drawn == GOLDEN_RANKING
    assert elected == GOLDEN_SET
    assert [one.number for one in alternates(everybody, 5)] == [12, 11, 10, 9, 8]


GOLDEN_WEIGHTS = [7, 11, 12, 14, 16, 17, 18, 22, 21, 23, 25, 24]
GOLDEN_RANKING = [7, 8, 9, 1, 12, 10, 6, 4, 11, 5, 2, 3]
GOLDEN_SET = [8, 4, 1, 11, 5, 7, 2]


@given(everybody=candidates, seed=seeds, data=st.data())
def test_the_order_of_the_list_changes_nothing(everybody: list[Candidate], seed: Hash32, data: st.DataObject) -> None:
    mixed = data.draw(st.permutations(everybody))
    assert alternates(mixed, 7) == alternates(everybody, 7)
    assert rank(mixed, 7, Wei(COIN), seed) == rank(everybody, 7, Wei(COIN), seed)
    assert elect([], mixed, seats(7), seed) == elect([], everybody, seats(7), seed)
    assert shuffled(mixed, seed) == shuffled(everybody, seed)


@given(everybody=candidates, seed=seeds, count=st.integers(1, 25), members=st.integers(0, 25), least=st.integers(1, 4))
def test_few_seats_change_and_none_stays_empty(
    everybody: list[Candidate], seed: Hash32, count: int, members: int, least: int
) -> None:
    present = [replace(one, since=Epoch(one.number % 5)) for one in everybody[: min(members, count)]]
    contenders = present + everybody[len(present) :]
    rules = seats(count, min(least, count))
    chosen = elect(present, contenders, rules, seed)
    numbers = [one.number for one in chosen]
    fit = {one.number for one in contenders if one.fit}
    before = {one.number for one in present}
    assert len(set(numbers)) == len(numbers) <= count
    assert len(chosen) >= min(count, len(fit))
    unfit_left = before - fit
    given_up = (before & fit) - set(numbers)
    assert len(given_up) <= max(0, rules.most_rotated - len(unfit_left))
    if len(fit) >= rules.least:
        assert set(numbers) <= fit
    else:
        assert set(numbers) <= fit | before
        assert len(numbers) >= min(rules.least, len(fit | before))


def test_unfit_members_leave_first_then_the_longest_term_the_smaller_stake_the_newer() -> None:
    present = [candidate(n, coins, since) for n, coins, since in [(1, 100, 0), (2, 100, 3), (3, 90, 3), (4, 100, 3)]]
    present += [candidate(5, 100, 9), candidate(6, 100, 9), candidate(7, 100, 9)]
    others = [candidate(number, 10**6) for number in range(10, 20)]

    def leaving(members: list[Candidate]) -> set[int]:
        chosen = elect(members, members + others, seats(7), SEED)
        return {one.number for one in members} - {one.number for one in chosen}

    assert leaving(present) == {1, 3}, "f = 2: the longest term, then the smallest stake of the next longest"
    unfit = [replace(one, fit=one.number not in {5}) for one in present]
    assert leaving(unfit) == {5, 1}, "who is dropped counts against f"
    unfit = [replace(one, fit=one.number not in {5, 6, 7}) for one in present]
    assert leaving(unfit) == {5, 6, 7}, "all unfit ones leave, even more than f, and nobody else"
    alike = [replace(one, stake=Wei(100 * COIN), since=Epoch(3)) for one in present]
    assert leaving(alike) == {6, 7}, "among equals the newer"


def test_with_too_few_fit_validators_the_unfit_with_most_stake_keep_their_seats() -> None:
    present = [candidate(n, 100 * n, 0, fit=n == 1) for n in range(1, 5)]
    assert {one.number for one in elect(present, present, seats(4, least=3), SEED)} == {1, 3, 4}


def test_seats_are_won_in_proportion_to_weight() -> None:
    """2,000 draws with fixed seeds: shares within four standard deviations of what the weights say."""
    everybody = [candidate(number, coins) for number, coins in enumerate([100, 400, 900, 1600] * 5, 1)]
    weights = [weight(one, Wei(COIN)) for one in everybody]
    wins: dict[int, int] = {}
    rounds, places = 2_000, 2
    successes = dict.fromkeys(range(1, 21), 0)
    for number in range(rounds):
        seed = Hash32(sha256(number.to_bytes(4, "big")))
        for one in rank(everybody, places, Wei(COIN), seed)[:places]:
            wins[one.number] = wins.get(one.number, 0) + 1
        for one, trials in zip(everybody, weights, strict=True):
            draw = int.from_bytes(sha256(seed + one.key), "big")
            successes[one.number] += inverse_binomial(trials, places, sum(weights), draw)
    for one, trials in zip(everybody, weights, strict=True):
        expected = rounds * places * trials / sum(weights)
        assert abs(successes[one.number] - expected) < 4 * expected**0.5, "successes are binomial with this mean"
    by_class = [sum(wins.get(number, 0) for number in range(start, 21, 4)) for start in range(1, 5)]
    assert by_class == sorted(by_class), "more weight, more seats"
    for count, expected in zip(by_class, (1, 2, 3, 4), strict=True):
        assert 0.85 * expected < count / (rounds * places / 10) < 1.15 * expected, "near the share of the weights"


def test_a_bonus_raises_the_weight_by_no_more_than_itself() -> None:
    plain = candidate(1, 10_000)
    assert weight(plain, Wei(COIN)) == 100
    assert weight(replace(plain, bonus=BasisPoints(5000)), Wei(COIN)) == 150


@settings(max_examples=30)
@given(trials=st.integers(0, 10**6), draw=st.integers(0, 2**256 - 1))
def test_successes_never_exceed_the_trials_and_rise_with_the_draw(trials: int, draw: int) -> None:
    successes = inverse_binomial(trials, 43, 10**6 + 43, draw)
    assert 0 <= successes <= trials
    assert inverse_binomial(trials, 43, 10**6 + 43, draw // 2) <= successes


def test_no_float_in_staking() -> None:
    """Consensus rests on it: neither a float literal, nor true division, nor the name of the type."""
    sources = sorted(Path(package.__file__).parent.glob("*.py"))
    assert len(sources) >= 5
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), (source.name, node.lineno)
            assert not (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)), source.name
            assert not (isinstance(node, ast.Name) and node.id == "float"), source.name
