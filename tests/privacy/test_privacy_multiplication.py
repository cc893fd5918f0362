"""Products in a child, matrices as words, and where a wrong product is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto.random import SystemRng
from koinon.kernel.errors import InvalidInput
from koinon.privacy.encrypted.freivalds import PRIMES, wrong_number, wrong_word
from koinon.privacy.multiplication import Factors, check_sizes, from_words, hidden, multiply, salted, to_words, unsalted


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32), st.data())
def test_a_wrong_number_is_pointed_at(rows: int, inner: int, columns: int, seed: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    left, right = random.integers(-(2**20), 2**20, (rows, inner)), random.integers(-(2**20), 2**20, (inner, columns))
    claimed = left @ right
    assert wrong_number(left, right, claimed, SystemRng()) is None
    places = st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1))
    wrong = data.draw(st.sets(places, min_size=1, max_size=4))
    for place in wrong:
        claimed[place] += data.draw(st.sampled_from((1, -1, PRIMES[0], -PRIMES[1], PRIMES[0] * PRIMES[1], 2**62)))
    found = wrong_number(left, right, claimed, SystemRng())
    assert found in wrong


def test_a_claim_at_the_ends_of_64_bits_is_pointed_at() -> None:
    one = np.ones((2, 2), np.int64)
    for number in (-(2**63), 2**63 - 1):
        claimed = one @ one
        claimed[1, 0] = number
        assert wrong_number(one, one, claimed, SystemRng()) == (1, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32), st.data())
def test_a_wrong_word_is_pointed_at(rows: int, inner: int, columns: int, seed: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    left = random.integers(-(2**63), 2**63 - 1, (rows, inner))
    right = random.integers(-(2**63), 2**63 - 1, (inner, columns))
    claimed = left @ right
    assert wrong_word(left, right, claimed, SystemRng()) is None
    place = data.draw(st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1)))
    # An error of 2⁶³ is missed by every vector with an even number there: the worst there is.
    error = np.zeros_like(claimed)
    error[place] = data.draw(st.sampled_from((1, -5, 2**62, -(2**63))))
    assert wrong_word(left, right, claimed + error, SystemRng()) == place


def test_vectors_that_are_even_miss_the_worst_error_so_that_many_are_drawn() -> None:
    class Even:
        def bytes(self, count: int, /) -> bytes:
            return bytes(count)

    one, wrong = np.ones((1, 1), np.int64), np.array([[1 - 2**63]])
    assert wrong_word(one, one, wrong, Even()) is None
    assert wrong_word(one, one, wrong, SystemRng()) == (0, 0)


@pytest.mark.parametrize(
    ("left", "right", "claimed"),
    [
        (np.ones((2, 2)), np.ones((2, 2), np.int64), np.ones((2, 2), np.int64)),
        (np.ones((2, 3), np.int64), np.ones((2, 2), np.int64), np.ones((2, 2), np.int64)),
        (np.ones((2, 2), np.int64), np.ones((2, 2), np.int64), np.ones((2, 3), np.int64)),
    ],
)
def test_words_that_cannot_be_checked_are_refused(left: np.ndarray, right: np.ndarray, claimed: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        wrong_word(left, right, claimed, SystemRng())


def test_parts_of_a_hidden_matrix_add_up_to_it_and_each_alone_is_random() -> None:
    matrix = np.zeros((200, 64), np.int64)
    one, other = hidden(matrix + 7, SystemRng())
    np.testing.assert_array_equal(one + other, matrix + 7)
    for part in (one, other):
        bits = np.unpackbits(np.ascontiguousarray(part).view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
        # 12,800 draws of each of 64 bits: a deviation is 0.0044, and seven of them are never seen.
        assert np.abs(bits - 0.5).max() < 0.031


def test_salt_is_in_every_row_and_column_that_is_committed_to_and_not_in_the_product() -> None:
    random = np.random.default_rng(6)
    left, right = random.integers(-(2**63), 2**63 - 1, (4, 3)), random.integers(-(2**63), 2**63 - 1, (3, 5))
    made = [salted(left, right, SystemRng()) for _ in range(2)]
    products = [one @ other for one, other in made]
    for product in products:
        np.testing.assert_array_equal(unsalted(product), left @ right)
    # Every row of the left matrix and of the product and every column of the right one has two words drawn for it.
    for one, two in ((made[0][0], made[1][0]), (made[0][1].T, made[1][1].T), (products[0], products[1])):
        assert ((one != two).sum(axis=1) >= 2).all()


async def test_a_child_multiplies_modulo_64_bits() -> None:
    random = np.random.default_rng(3)
    left, right = random.integers(-(2**62), 2**62, (4, 3)), random.integers(-(2**62), 2**62, (3, 5))
    words = await multiply(Factors(4, 3, 5, to_words(left), to_words(right)))
    expected = [[sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in right.T] for row in left]
    wrapped = [[(number + 2**63) % 2**64 - 2**63 for number in row] for row in expected]
    assert from_words(words, 4, 5).tolist() == wrapped


async def test_factors_of_other_sizes_are_refused_by_the_child() -> None:
    with pytest.raises(InvalidInput, match="takes 16 bytes; 8 came"):
        await multiply(Factors(2, 1, 1, bytes(8), bytes(8)))


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ((0, 1, 1), "1 to 65536 rows"),
        ((65_537, 1, 1), "1 to 65536 rows"),
        ((1, 4_097, 1), "1 to 4096 columns"),
        ((1, 1, 4_097), "1 to 4096 columns"),
        ((65_536, 65, 1), "is too large"),
        ((65_536, 1, 65), "is too large"),
        ((4_096, 1_024, 4_096), "is too large"),
    ],
)
def test_sizes_that_nobody_multiplies_are_refused(sizes: tuple[int, int, int], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        check_sizes(*sizes)


def test_words_are_those_of_the_contract() -> None:
    matrix = np.array([[1, -1], [2**62, -(2**63)]])
    assert to_words(matrix).hex() == "0000000000000001" + "f" * 16 + "4" + "0" * 15 + "8" + "0" * 15
    np.testing.assert_array_equal(from_words(to_words(matrix), 2, 2), matrix)
    np.testing.assert_array_equal(from_words(to_words(matrix.T), 2, 2), matrix.T)
