"""Exactness of products on a device, here JAX's own CPU, and when one is asked."""

import numpy as np
import pytest

from koinon.kernel.errors import InvalidInput
from koinon.privacy.rep4 import ring
from koinon.privacy.rep4.accelerated import SETTING, accelerator
from koinon.privacy.rep4.ring import MatrixLimbs, gram_cross_products, matrix_product

LARGEST_LIMBS = np.uint64((2**64 - 2**21 - 2**43 - 2**63) % 2**64)


def random_words(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 1024, 3), (5, 2500, 9)])
def test_a_device_multiplies_exactly(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "cpu")
    rows, terms, columns = shape
    device = accelerator()
    assert device is not None
    for left, right in (
        (random_words(1, rows, terms), random_words(2, terms, columns)),
        (np.full((rows, terms), LARGEST_LIMBS), np.full((terms, columns), LARGEST_LIMBS)),
    ):
        assert (device.product(left, right) == left @ right).all()


def test_large_products_go_to_the_device_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "_DEVICE_PAYS_FROM", 100_000)
    left, right = random_words(3, 1300, 20), random_words(4, 20, 20)
    held = {j: random_words(5 + j, 1300, 20) for j in (0, 1, 3)}
    pairs, diagonal = [(0, 1), (1, 3)], frozenset({(0, 1)})

    def everything() -> list[np.ndarray]:
        found = gram_cross_products(held, pairs, diagonal)
        return [matrix_product(MatrixLimbs(left), MatrixLimbs(right)), *(found[pair] for pair in pairs)]

    here = everything()
    monkeypatch.setenv(SETTING, "cpu")
    assert all((one == other).all() for one, other in zip(everything(), here, strict=True))


def test_a_device_that_is_not_there_is_a_clear_error_for_large_products_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "abacus")
    small = MatrixLimbs(random_words(8, 100, 100))
    assert (matrix_product(small, small) == small.words @ small.words).all()
    large = MatrixLimbs(np.zeros((512, 512), np.uint64))
    with pytest.raises(InvalidInput, match="no such device"):
        matrix_product(large, large)
