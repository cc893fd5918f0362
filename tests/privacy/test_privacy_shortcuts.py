"""A rectifier of a product: truncated in the rectifier's own rounds, unless somebody else needs the product too."""

from collections.abc import Callable

import numpy as np
import pytest

from koinon.privacy.arrays import SecretArray, relu
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, program, reveal, run, table
from koinon.privacy.estimate import Estimate, estimate
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

ROWS = np.random.default_rng(7).uniform(-1, 1, (5, 6))
ENGINES = pytest.mark.parametrize("engine", [ClearBackend(), SimulatedRep4()], ids=["clear", "rep4"])


def layer(rows: SecretArray) -> Revealed:
    x, weights, bias = rows[:, :3], rows[:3, 3:], rows[3, 3:]
    return reveal(hidden=relu(x @ weights + bias))


def layer_seen_twice(rows: SecretArray) -> Revealed:
    signal = rows[:, :3] @ rows[:3, 3:] + rows[3, 3:]
    return reveal(hidden=relu(signal), signal=signal)


def cost(function: Callable[[SecretArray], Revealed], width: float = 1.0, bits: int = 20) -> Estimate:
    columns = [Column(f"c{number}", -width, width) for number in range(6)]
    return estimate(program("layer", function, [(5, 6)], columns, bits))


@ENGINES
def test_a_rectified_product_is_what_numpy_says(engine: Backend) -> None:
    signal = ROWS[:, :3] @ ROWS[:3, 3:] + ROWS[3, 3:]
    found = run(layer, [table(ROWS, ranges=[(-1, 1)] * 6)], engine).outputs["hidden"]
    np.testing.assert_allclose(found, np.maximum(signal, 0), atol=4e-6)


@ENGINES
def test_what_is_needed_elsewhere_keeps_its_own_truncation(engine: Backend) -> None:
    signal = ROWS[:, :3] @ ROWS[:3, 3:] + ROWS[3, 3:]
    found = run(layer_seen_twice, [table(ROWS, ranges=[(-1, 1)] * 6)], engine).outputs
    np.testing.assert_allclose(found["signal"], signal, atol=4e-6)
    np.testing.assert_allclose(found["hidden"], np.maximum(signal, 0), atol=4e-6)


def test_a_rectified_product_takes_a_round_less_and_no_product_is_made_twice() -> None:
    assert cost(layer).rounds == 4
    assert cost(layer_seen_twice).rounds == 5
    assert cost(layer).matrix_products == cost(layer_seen_twice).matrix_products == 5 * 3 * 3


@ENGINES
def test_an_addend_too_large_for_the_exact_sum_is_added_after_truncation(engine: Backend) -> None:
    """3 · 2¹⁰ · 2¹⁰ with 40 fraction bits fits in a word; with an addend of up to 2²² it does not."""

    def shifted(rows: SecretArray) -> Revealed:
        product = rows[:, :3] @ rows[:3, 3:]
        return reveal(hidden=relu(product + rows[3, 3:].times(2.0**12)))

    numbers = ROWS * 2.0**9
    expected = np.maximum(numbers[:, :3] @ numbers[:3, 3:] + numbers[3, 3:] * 2.0**12, 0)
    found = run(shifted, [table(numbers, ranges=[(-512, 512)] * 6)], engine).outputs["hidden"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0.01)
    assert cost(shifted, 2.0**10).rounds > cost(shifted, 1.0).rounds
