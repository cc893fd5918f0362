"""Integer noise: the law it follows, that every party draws the same, and what a sharing of it hides."""

import numpy as np
import pytest
from scipy.stats import chisquare, norm

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray, with_noise
from koinon.privacy.backend import Backend
from koinon.privacy.clear import ClearBackend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.differential import noise
from koinon.privacy.rep4.simulation import SimulatedRep4

ENGINES: list[Backend] = [ClearBackend(), SimulatedRep4()]


def words(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, (count, noise.WORDS), np.uint64)


@pytest.mark.parametrize("deviation", [1, 3, 40])
def test_the_law_is_the_rounded_normal_law(deviation: int) -> None:
    drawn = noise.rounded_normal(words(40_000, deviation), deviation)
    edges = np.unique(np.round(norm.ppf(np.linspace(0.001, 0.999, 40)) * deviation)) + 0.5
    counts = np.array([(drawn < edges[0]).sum(), *np.diff([(drawn < edge).sum() for edge in edges])])
    shares = np.diff(norm.cdf(edges / deviation), prepend=0.0)
    keep = shares * len(drawn) > 20
    expected = shares[keep] / shares[keep].sum() * counts[keep].sum()
    # The words are fixed, so this holds today and tomorrow or not at all.
    assert chisquare(counts[keep], expected).pvalue > 1e-3


@pytest.mark.parametrize("numerator", [0, 1, 7, 20, 61, 127])
def test_tails_in_integers_are_scipys(numerator: int) -> None:
    found = noise.tail_probability(numerator, 10) / 2.0**384
    assert found == pytest.approx(norm.sf(numerator / 10), rel=1e-12)


@pytest.mark.parametrize("deviation", [1, 5, 1000])
def test_a_variable_on_the_edge_of_rounding_is_decided_in_integers(deviation: int) -> None:
    for size in (1, 2, 3 * deviation, 9 * deviation):
        edge = noise.tail_probability(2 * size - 1, 2 * deviation) >> (384 - 128)
        for tail, expected in ((edge - 2, size), (edge + 2, size - 1)):
            word = np.array([[tail >> 64, tail & (2**64 - 1)]], np.uint64)
            # The tail is the probability times 2¹²⁸, which leaves the bit of the sign clear.
            assert noise.rounded_normal(word, deviation)[0] == expected


def test_the_largest_variable_is_within_reach() -> None:
    extremes = np.array([[0, 0], [2**63, 0], [2**63 - 1, 2**64 - 1]], np.uint64)
    drawn = noise.rounded_normal(extremes, 1000)
    assert drawn[0] == -drawn[1]
    assert 13_000 < drawn[0] <= noise.REACH * 1000 + 1
    assert drawn[2] == 0


@pytest.mark.parametrize("deviation", [0, -1, noise.LARGEST_DEVIATION + 1])
def test_an_impossible_deviation_is_refused(deviation: int) -> None:
    with pytest.raises(InvalidInput, match="deviation of 1 to"):
        noise.rounded_normal(words(1, 0), deviation)


def test_words_of_another_kind_are_refused() -> None:
    with pytest.raises(InvalidInput, match="two 64-bit words"):
        noise.rounded_normal(np.zeros((4, 3), np.uint64), 1)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_every_engine_adds_four_parts_to_what_is_opened(engine: Backend) -> None:
    rows = table(np.zeros(4000))

    def noisy(x: SecretArray) -> Revealed:
        return reveal(noisy=with_noise(x[:, 0], 50), clear=x[:, 0])

    found = run(noisy, [rows], engine).outputs
    units = found["noisy"] * 2.0**20
    assert (units == np.round(units)).all()
    assert not found["clear"].any()
    # 4,000 variables: the deviation is known to about 1 %, and 5 of these are far out of chance's reach.
    assert abs(units.std() / (2 * 50) - 1) < 0.06
    assert abs(units.mean()) < 5 * 100 / 4000**0.5


def test_two_runs_draw_different_noise() -> None:
    rows = table(np.zeros(20))
    first, second = (
        run(lambda x: reveal(noisy=with_noise(x[:, 0], 1000)), [rows], SimulatedRep4()).outputs["noisy"]
        for _ in range(2)
    )
    assert (first != second).any()
