"""Sigmoid and inverse square root, on the reference engine densely and on the four parties at chosen points."""

from collections.abc import Callable, Generator

import numpy as np
import pytest
from privacy_scenes import computed

from koinon.crypto.random import SystemRng
from koinon.privacy.approximations import (
    COARSE_SIGMOID_BITS,
    COARSE_SIGMOID_ERROR,
    LARGEST_INVERSE_ROOT,
    LEVELS,
    SIGMOID_ERROR,
    coarse_sigmoid,
    inverse_square_root,
    sigmoid,
)
from koinon.privacy.clear import ClearMachine
from koinon.privacy.rep4.machine import Rep4Machine
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import Shares
from koinon.privacy.secret import Machine, Secret

Function = Callable[[Secret], Generator[None, None, Secret]]


def on_clear(function: Function, numbers: np.ndarray, bits: int, bound: float) -> np.ndarray:
    words = np.round(numbers * 2.0**bits).astype(np.int64).view(np.uint64)
    protocol = function(Secret(ClearMachine(SystemRng()), words, bits, bound))
    while True:
        try:
            next(protocol)
        except StopIteration as end:
            return end.value.data.view(np.int64) / 2.0**end.value.fraction_bits


def on_four(function: Function, numbers: np.ndarray, bits: int, bound: float) -> np.ndarray:
    words = np.round(numbers * 2.0**bits).astype(np.int64).view(np.uint64)
    fraction: list[int] = []

    def protocol(party: Party, shares: Shares) -> Generator[None, None, Shares]:
        machine: Machine = Rep4Machine(party)
        result = yield from function(Secret(machine, shares, bits, bound))
        fraction.append(result.fraction_bits)
        return result.data

    return computed(protocol, words).view(np.int64) / 2.0 ** fraction[0]


ENGINES = pytest.mark.parametrize("engine", [on_clear, on_four])


@ENGINES
@pytest.mark.parametrize("bits", [20, 40])
def test_sigmoid_error_everywhere(engine: Callable[..., np.ndarray], bits: int) -> None:
    numbers = np.concatenate([np.linspace(-14, 14, 2001), [-600, -100, -10, 0, 10, 100, 600]])
    got = engine(lambda x: sigmoid(x, 20), numbers, bits, 1001.0)
    assert np.abs(got - 1 / (1 + np.exp(-numbers))).max() < SIGMOID_ERROR


@ENGINES
def test_coarse_sigmoid_error_everywhere(engine: Callable[..., np.ndarray]) -> None:
    numbers = np.concatenate([np.linspace(-14, 14, 2001), [-600, -100, -10, 0, 10, 100, 600]])
    got = engine(coarse_sigmoid, numbers, 40, 1001.0)
    assert np.abs(got - 1 / (1 + np.exp(-numbers))).max() < COARSE_SIGMOID_ERROR
    # Exact products of the declared number of bits, 0 and 1 at the ends.
    assert (got * 2.0**COARSE_SIGMOID_BITS == np.round(got * 2.0**COARSE_SIGMOID_BITS)).all()
    assert got[-7] == 0.0
    assert got[-1] == 1.0


def test_sigmoid_beyond_the_reach_of_its_square() -> None:
    """Where x² wraps around, its factor is exactly 0."""
    numbers = np.array([-200_000.0, -3000.0, 3000.0, 200_000.0])
    for engine in (on_clear, on_four):
        assert np.abs(engine(lambda x: sigmoid(x, 20), numbers, 40, 200_001.0) - [0, 0, 1, 1]).max() < SIGMOID_ERROR


@ENGINES
def test_inverse_square_root_over_its_whole_range(engine: Callable[..., np.ndarray]) -> None:
    unit = 390
    shares_of_unit = np.concatenate([4.0 ** np.linspace(-LEVELS, 0, 400)[1:-1], 4.0 ** -np.arange(1, LEVELS)])
    got = engine(lambda x: inverse_square_root(x, unit), shares_of_unit * unit, 40, 1.01 * unit)
    # The argument is rounded to 24 bits first, which weighs most where it is smallest.
    allowed = 1e-5 + 2.0**-24 / (unit * shares_of_unit)
    assert (np.abs(got * np.sqrt(shares_of_unit) - 1) < allowed).all()


@ENGINES
def test_inverse_square_root_stays_finite_below_its_range(engine: Callable[..., np.ndarray]) -> None:
    unit = 100
    shares_of_unit = np.concatenate([[0.0], 4.0 ** np.linspace(-20, -LEVELS, 60)])
    got = engine(lambda x: inverse_square_root(x, unit), shares_of_unit * unit, 40, 1.01 * unit)
    assert (got > 0).all()
    assert (got <= LARGEST_INVERSE_ROOT).all()
    assert (got * np.sqrt(shares_of_unit) <= 1.01).all()
