"""The four-party protocols against NumPy on the same words."""

from collections import Counter
from collections.abc import Generator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from privacy_scenes import computed, outcomes, shared, signed

from koinon.privacy.rep4 import arithmetic, comparison, lockstep, shuffling
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import Shares, constant, joined
from koinon.privacy.secret import Product

WORDS = st.integers(0, 2**64 - 1)
POWERS = [2**k for k in range(64)]
EDGES = np.array(
    [n % 2**64 for n in [0, *POWERS, *(p - 1 for p in POWERS), *(-p for p in POWERS), *(-p - 1 for p in POWERS)]],
    np.uint64,
)


def random_words(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_product_is_exact(pairs: list[tuple[int, int]]) -> None:
    left, right = (np.array(column, np.uint64) for column in zip(*pairs, strict=True))
    assert (computed(arithmetic.multiply, left, right) == left * right).all()


@pytest.mark.parametrize(("left", "right"), [((4, 1), (1, 5)), ((3,), (2, 3)), ((), (2, 2)), ((0, 3), (1, 3))])
def test_product_broadcasts_as_numpy_does(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    x, y = random_words(1, *left), random_words(2, *right)
    assert (computed(arithmetic.multiply, x, y) == x * y).all()


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (5, 300, 4), (37, 1500, 23), (2, 1300, 300), (300, 1300, 3), (80, 200, 90)]
)
def test_matrix_product_is_exact(shape: tuple[int, int, int]) -> None:
    rows, terms, columns = shape
    x, y = random_words(3, rows, terms), random_words(4, terms, columns)
    assert (computed(lambda p, a, b: arithmetic.multiply(p, a, b, Product.MATRIX), x, y) == x @ y).all()


def test_gram_and_column_dot_are_exact() -> None:
    x, y = random_words(5, 1100, 6), random_words(6, 1100, 6)
    assert (computed(lambda p, a: arithmetic.multiply(p, a, a, Product.GRAM), x) == x.T @ x).all()
    assert (computed(lambda p, a, b: arithmetic.multiply(p, a, b, Product.COLUMN_DOT), x, y) == (x * y).sum(0)).all()


def test_product_with_public_and_with_zero_shares() -> None:
    x = random_words(7, 50)
    factor = np.arange(50, dtype=np.uint64)

    def by_constant(party: Party, a: Shares) -> Generator[None, None, Shares]:
        return (yield from arithmetic.multiply(party, a, constant(factor, party.position)))

    def by_nothing(party: Party, a: Shares) -> Generator[None, None, Shares]:
        nothing = Shares((None, None, None, None), a.shape, frozenset())
        return (yield from arithmetic.multiply(party, a, nothing))

    assert (computed(by_constant, x) == x * factor).all()
    assert (computed(by_nothing, x) == 0).all()


@pytest.mark.parametrize("drop", [1, 7, 20, 31, 32, 45, 61])
def test_truncation_is_the_floor_or_one_more(drop: int) -> None:
    random = np.random.default_rng(drop)
    scale = 2.0 ** random.integers(0, 62, 20_000)
    values = np.concatenate(
        [(random.uniform(-1, 1, 20_000) * scale).astype(np.int64), [2**62 - 1, -(2**62) + 1, 0, -1]]
    )
    error = signed(computed(lambda p, a: arithmetic.truncate(p, a, drop), values.view(np.uint64))) - (values >> drop)
    assert set(np.unique(error)) <= {0, 1}


def test_truncation_rounds_up_as_often_as_the_fraction_dropped() -> None:
    """It is unbiased: the chance of the upper neighbour is the dropped fraction."""
    drop, count = 16, 40_000
    for fraction in (0.1, 0.5, 0.9):
        values = np.full(count, (5 << drop) + round(fraction * 2**drop), np.int64)
        error = signed(computed(lambda p, a: arithmetic.truncate(p, a, drop), values.view(np.uint64))) - 5
        # Five standard deviations of the mean of `count` coin tosses.
        assert abs(error.mean() - fraction) < 5 * 0.5 / count**0.5


@given(st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_fused_product_is_the_floor_or_one_more(drop: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    left, right = random.integers(-(2**30), 2**30, (2, 200))
    plus = random.integers(-(2**60), 2**60, 200)
    got = computed(
        lambda p, a, b, c: arithmetic.multiply_truncate(p, a, b, Product.ELEMENTWISE, drop, c),
        left.view(np.uint64),
        right.view(np.uint64),
        plus.view(np.uint64),
    )
    assert set(np.unique(signed(got) - ((left * right + plus) >> drop))) <= {0, 1}


def test_fused_matrix_product_agrees_with_product_then_truncation() -> None:
    random = np.random.default_rng(8)
    x, y = random.integers(-(2**25), 2**25, (6, 40)), random.integers(-(2**25), 2**25, (40, 3))
    got = computed(
        lambda p, a, b: arithmetic.multiply_truncate(p, a, b, Product.MATRIX, 20, None),
        x.view(np.uint64),
        y.view(np.uint64),
    )
    assert set(np.unique(signed(got) - ((x @ y) >> 20))) <= {0, 1}


def test_sign_of_every_edge_value() -> None:
    words = np.concatenate([EDGES, random_words(9, 2000)])
    assert (computed(comparison.negative, words) == words >> np.uint64(63)).all()


@pytest.mark.parametrize(("limit", "drop"), [(2.0**62, 0), (2.0**62, 17), (2.0**46, 20), (2.0**30, 0)])
@pytest.mark.parametrize("count", [500, 3001])
def test_positive_part_is_the_number_truncated_or_nothing(limit: float, drop: int, count: int) -> None:
    random = np.random.default_rng(drop)
    values = (random.uniform(-1, 1, count) * limit * 2.0 ** -random.integers(0, 40, count)).astype(np.int64)
    exact = limit / 2.0**drop >= 2**31 - 2
    got = signed(computed(lambda p, a: comparison.positive_part(p, a, limit, drop, drop), values.view(np.uint64)))
    assert (got[values < 0] == 0).all()
    large = values >= (0 if exact else 2 << drop)
    error = got - (values >> drop)
    assert set(np.unique(error[large])) <= ({0, 1} if drop else {0})
    # What is almost 0 may also become 0.
    assert set(np.unique(got[(values >= 0) & ~large])) <= {0, 1, 2}


NARROW = 2**31 - 3


@given(st.lists(st.integers(-NARROW, NARROW), min_size=1, max_size=9), st.integers(0, 32))
@example([0, -1, 1, NARROW, -NARROW], 0)
@example([-NARROW], 32)
@example([*range(-300, 300, 2)], 0)
@example([*range(-(2**31) + 3, 2**31 - 2, 2**23 - 1)], 0)
@example([*range(-(2**31) + 3, 2**31 - 2, 2**22 - 1)], 7)
@settings(max_examples=30, deadline=None)
def test_sign_of_narrow_words(values: list[int], drop: int) -> None:
    """With low bits dropped, words from 0 to 2^(drop + 1) may go either way and no others.

    Up to 512 words are compared in digits of eight bits, more in digits of four.
    """
    random = np.random.default_rng(len(values))
    words = (np.array(values) << drop) + random.integers(0, 1 << drop, len(values))
    got = computed(lambda p, a: comparison.negative(p, a, 2.0**drop * (NARROW + 1), drop), words.view(np.uint64))
    certain = (words < 0) | (words > 2 << drop) | (drop == 0)
    assert np.isin(got, (0, 1)).all()
    assert (got == (words < 0))[certain].all()


@pytest.mark.parametrize("drop", [32, 33, 40, 60])
def test_sign_of_words_of_which_more_than_half_the_bits_may_be_dropped(drop: int) -> None:
    """Half of a word must be left: no more is dropped than that, whatever is allowed."""
    words = np.random.default_rng(drop).integers(-(2**62) + 1, 2**62, 400)
    words = np.concatenate([words, words >> 20, [-1, 2**33 + 1, 1 - 2**62, 2**62 - 1]])
    got = computed(lambda p, a: comparison.negative(p, a, 2.0**62, drop), words.view(np.uint64))
    certain = (words < 0) | (words > 2**33)
    assert (got == (words < 0))[certain].all()


@given(st.lists(WORDS, min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_sign_of_any_word(values: list[int]) -> None:
    words = np.array(values, np.uint64)
    assert (computed(comparison.negative, words) == words >> np.uint64(63)).all()


@pytest.mark.parametrize("shape", [(1,), (40,), (23, 3), (0, 2)])
def test_a_shuffle_keeps_the_rows_and_changes_their_order(shape: tuple[int, ...]) -> None:
    words = random_words(15, *shape)
    got = computed(shuffling.shuffle, words)
    assert sorted(row.tolist() for row in got) == sorted(row.tolist() for row in words)
    assert shape[0] < 2 or (got != words).any()
    assert got.shape == shape


def test_a_shuffle_is_uniform() -> None:
    """Of all orders of three rows each is as frequent as it should be."""
    runs = 600
    words = np.arange(3, dtype=np.uint64)
    counts = Counter(tuple(computed(shuffling.shuffle, words, seed=b"%d" % run)) for run in range(runs))
    assert len(counts) == 6
    # χ² with five degrees of freedom exceeds 25.7 once in ten thousand times; the seeds are fixed.
    assert sum((count - runs / 6) ** 2 / (runs / 6) for count in counts.values()) < 25.7


def test_opening_shows_everybody_the_same_words() -> None:
    words = random_words(10, 7, 2)
    for ending in outcomes(arithmetic.open_to_all, words):
        assert (ending.result == words).all()


def test_joining_keeps_what_each_position_holds() -> None:
    x, y = random_words(11, 3, 2), random_words(12, 3, 2)
    for position, (a, b) in enumerate(zip(shared(x, 1), shared(y, 2), strict=True)):
        both = joined([a, b], 1, position)
        assert both.shape == (3, 4)
        assert both.parts[position] is None
        for j in both.support - {position}:
            assert (both.part(j) == np.concatenate([a.part(j), b.part(j)], axis=1)).all()


def test_independent_protocols_share_their_rounds() -> None:
    from koinon.privacy.secret import together

    def both(party: Party, a: Shares, b: Shares) -> Generator[None, None, Shares]:
        sign, product = yield from together(comparison.negative(party, a), arithmetic.multiply(party, a, b))
        return sign + product

    x, y = random_words(13, 5), random_words(14, 5)
    endings = outcomes(both, x, y)
    lockstep.finished(endings)
    assert all(len(ending.rounds_sent) == 4 for ending in endings)
