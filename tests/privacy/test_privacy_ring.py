"""Exactness of the local arithmetic."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.privacy.rep4.ring import (
    MatrixLimbs,
    balanced_limbs,
    gram_cross_products,
    matrix_product,
    transpose_nibbles,
)
from koinon.privacy.rep4.shares import DIAGONAL, ROUTES

EXTREMES = np.array(
    [0, 1, 2**64 - 1, 2**63, 2**63 - 1, 2**21, 2**21 - 1, 2**43 + 2**21, 2**64 - 2**21, 2**62 + 2**43 + 2**21],
    np.uint64,
)


def test_limbs_are_balanced_and_add_up_to_the_word() -> None:
    words = np.concatenate([EXTREMES, np.random.default_rng(1).integers(0, 2**64, 10_000, dtype=np.uint64)])
    low, middle, top = balanced_limbs(words)
    assert np.abs(low).max() <= 2**21
    assert np.abs(middle).max() <= 2**21
    assert np.abs(top).max() <= 2**19
    joined = low.view(np.uint64) + (middle.view(np.uint64) << np.uint64(22)) + (top.view(np.uint64) << np.uint64(44))
    assert (joined == words).all()


@given(st.integers(1, 9), st.integers(1, 2500), st.integers(1, 70), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_matrix_product_is_exact(rows: int, terms: int, columns: int, extreme: bool, seed: int) -> None:
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return random.choice(EXTREMES, shape) if extreme else random.integers(0, 2**64, shape, dtype=np.uint64)

    left, right = draw(rows, terms), draw(terms, columns)
    assert (matrix_product(MatrixLimbs(left), MatrixLimbs(right)) == left @ right).all()


def test_matrix_product_of_the_largest_limbs_is_exact() -> None:
    """Every limb at its largest absolute value: the sums come closest to 2⁵³."""
    word = np.uint64((2**64 - 2**21 - 2**43 - 2**63) % 2**64)
    left, right = np.full((40, 2048), word), np.full((2048, 40), word)
    assert (matrix_product(MatrixLimbs(left), MatrixLimbs(right)) == left @ right).all()


@given(st.integers(1, 2100), st.integers(1, 12), st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_gram_cross_products_are_exact(rows: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    held = {j: random.integers(0, 2**64, (rows, columns), dtype=np.uint64) for j in (0, 2, 3)}
    pairs = [pair for pair in ROUTES if 1 not in pair]
    result = gram_cross_products(held, pairs, DIAGONAL)
    for i, j in pairs:
        want = held[i].T @ held[j] + held[j].T @ held[i]
        if (i, j) in DIAGONAL:
            want = want + held[i].T @ held[i]
        assert (result[i, j] == want).all()


def test_gram_cross_products_of_the_largest_limbs_are_exact() -> None:
    """Both lower limbs at their largest absolute value: the sums of added limbs come closest to 2⁵³."""
    for word in (2**64 - 2**21 - 2**43 - 2**63, 2**21 - 1 + ((2**21 - 1) << 22)):
        held = {j: np.full((1024, 3), np.uint64(word % 2**64) * np.uint64(j == 0)) for j in (0, 2, 3)}
        result = gram_cross_products(held, [(0, 2), (0, 3), (2, 3)], frozenset({(0, 2)}))
        assert (result[0, 2] == held[0].T @ held[0]).all()
        assert not result[0, 3].any()
        assert not result[2, 3].any()


def test_transposing_moves_every_nibble_to_its_place() -> None:
    for group in range(4):
        for digit in range(4):
            word = np.array([0xB << 4 * (4 * group + digit)], np.uint64)
            assert transpose_nibbles(word)[0] == 0xB << 4 * (4 * digit + group)
