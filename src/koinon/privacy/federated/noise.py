"""Differential privacy of whole owners: each adds a share of the noise before its words are masked.

What everybody else sees of an owner is the sum over survivors of (clipped update + own noise). An owner's update has at
most the norm ``clip``, so leaving all its rows out (its update becomes zero; that it takes part is public) moves the
sum by at most ``clip`` in L2. Of at least ``threshold`` survivors, ``colluders`` may tell their noise; each of the
others adds N(0, z² clip² / (threshold − colluders)), so what is left over has the deviation z · clip, and a training of
T rounds is T Gaussian mechanisms of multiplier z (``privacy.differential.accountant``).

Lemma ROUNDED-SUM. Every owner rounds its noise to whole units. With h honest owners of deviation σ units each, the sum
of h rounded normal variables is the density N(0, hσ²) ∗ U^h sampled at whole numbers, U uniform on a unit (Poisson
summation; the error is below e^(−π²σ²)); the rounded normal variable of deviation √h σ is N(0, hσ²) ∗ U sampled there.
A second-order expansion of the h − 1 further convolutions bounds the distance of the two in total variation by
(h − 1)/(24 h σ²) < 1/(24 σ²) a coordinate. The latter is the Gaussian mechanism followed by rounding. So the guarantee
is that of the Gaussian mechanism with a δ larger by (1 + e^ε) d T (h − 1)/(24 h σ²), which ``guarantee`` adds: nothing
where one owner's noise is enough alone. (P. Kairouz et al., "The Distributed Discrete Gaussian Mechanism", ICML 2021,
has the same construction with discrete variables.) Noise beside that of h owners is added to what is private already.
"""

from math import ceil, exp, floor, isfinite, sqrt
from typing import Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput
from koinon.privacy.differential.accountant import Gaussian, spent_epsilon
from koinon.privacy.differential.noise import REACH, SAMPLING_DELTA, WORDS, rounded_normal

LEAST_DEVIATION: Final = 1 << 16
"""Units; with fewer, ROUNDED-SUM would cost more than 10⁻¹¹ of δ a number."""
MOST_EPSILON: Final = 20.0


class NoisePlan(Record, frozen=True):
    """How much noise is in every sum.

    Attributes:
        multiplier: z, the deviation of the noise over the clipping norm.
        colluders: owners that may work together, and with the aggregator, without weakening what is promised.
        delta: δ of the whole training.
    """

    multiplier: float
    colluders: int
    delta: float


def check_noise(noise: NoisePlan, threshold: int, clip: float, fraction_bits: int) -> None:
    """Raises InvalidInput for noise that promises nothing, or cannot be drawn in whole units."""
    if not (isfinite(noise.multiplier) and 0.01 <= noise.multiplier <= 1e4 and 0.0 < noise.delta < 0.5):
        raise InvalidInput("noise has a multiplier of 0.01 to 10000 and a δ between 0 and 0.5")
    if not 0 <= noise.colluders < threshold:
        raise InvalidInput(f"of {threshold} remaining owners, 0 to {threshold - 1} may collude; got {noise.colluders}")
    if deviation(noise, threshold, clip, fraction_bits) < LEAST_DEVIATION:
        raise InvalidInput(f"noise of less than {LEAST_DEVIATION} units is too coarse; use more fraction bits")


def deviation(noise: NoisePlan, threshold: int, clip: float, fraction_bits: int) -> int:
    """Units of the noise that one owner adds."""
    return ceil(noise.multiplier * clip * 2.0**fraction_bits / sqrt(threshold - noise.colluders))


def furthest(units: int) -> int:
    """No noise of this deviation is larger."""
    return ceil(REACH * units) + 1


def draw(count: int, units: int, rng: Rng) -> np.ndarray:
    """``count`` independent rounded normal variables of deviation ``units``, int64."""
    words = np.frombuffer(rng.bytes(8 * WORDS * count), "<u8").reshape(count, WORDS)
    return rounded_normal(words, units)


def whole_within(update: np.ndarray, norm: float, fraction_bits: int) -> np.ndarray:
    """A clipped update in whole units (int64), each rounded towards 0: its norm is never above ``norm``."""
    shrunk = update * (2.0**fraction_bits * (1.0 - 2.0**-40))
    whole = np.trunc(shrunk).astype(np.int64)
    if sum(int(value) ** 2 for value in whole) > floor(norm * 2.0**fraction_bits) ** 2:
        raise InvalidInput("the update is longer than the norm that was agreed on; clip it first")
    return whole


def guarantee(
    noise: NoisePlan, rounds: int, length: int, threshold: int, clip: float, fraction_bits: int
) -> tuple[float, float]:
    """(ε, δ) of a training for each owner as a whole, against everybody else but too many colluders.

    Raises:
        InvalidInput: ε would be above 20, or ROUNDED-SUM alone takes more than half of δ.
    """
    units = deviation(noise, threshold, clip, fraction_bits)
    epsilon = spent_epsilon([Gaussian(noise.multiplier, rounds)], noise.delta / 2)
    if epsilon > MOST_EPSILON:
        raise InvalidInput(
            f"with this noise and {rounds} rounds ε is above {MOST_EPSILON:g}, which promises nothing;"
            " use a larger multiplier or fewer rounds"
        )
    honest = threshold - noise.colluders
    rounded = (honest - 1) / (24.0 * honest * units**2)
    extra = (1 + exp(epsilon)) * length * rounds * (rounded + threshold * SAMPLING_DELTA)
    if extra > noise.delta / 2:
        raise InvalidInput("rounding the noise takes more than half of δ; use more fraction bits or fewer rounds")
    return epsilon, noise.delta
