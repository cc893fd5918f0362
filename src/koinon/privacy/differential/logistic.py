"""Logistic regression with differential privacy: gradient descent in which only noisy gradients are ever used.

Each of the steps adds normal noise to the sum of the rows' gradients, inside the joint computation and unknown to
everybody; whatever is made of noisy gradients, the opened model among it, is post-processing (Bassily, Smith and
Thakurta, FOCS 2014). No gradient has to be clipped: with x in [−1, 1]ᵈ, the gradient (σ(w·x) − y)(x, 1) of one row has
a norm of at most √(d + 1).

Lemma NOISY-SENSITIVITY. Let one row be replaced. The exact sum changes by at most 2.01 √(d + 1) in L2 norm (the sigmoid
errs by less than 0.001). Rounding to b fraction bits, which may depend on the shares, moves each coordinate by at most
1.05 units on either side. So for every outcome of all other randomness the integers to which noise is added differ by
at most (2.01 · 2ᵇ + 2.1) √(d + 1), and joint convexity carries the guarantee of ``noise`` over to the mixture.

The lemma must not depend on other owners: a run in which one of them shared a number outside [−1, 1], to blow up
somebody else's gradient, stops before anything is computed (REP4-DOMAIN). On engines that do not ask that, such rows
are found by comparison and count as rows of zeros without a gradient, up to numbers whose words have 32 bits.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Final

import numpy as np

from koinon.privacy.arrays import SecretArray, concatenate, constant_like, refined, sigmoid, with_noise
from koinon.privacy.computation import Revealed, reveal
from koinon.privacy.differential.accountant import Gaussian, gaussian_multiplier

STEPS: Final = 20
STUDY_DELTA: Final = 1e-6
"""δ of every study with noise."""
_RATE: Final = 4.0
_MOMENTUM: Final = 0.75
"""With these, the recursion is stable for every table: the mean Hessian on rows of norm 1 is at most ¼."""
_GRADIENT_BITS: Final = 10


def mechanism(epsilon: float) -> Gaussian:
    """What one run costs each row, for an owner's privacy ledger. Raises InvalidInput for an unusable ε."""
    return Gaussian(gaussian_multiplier(epsilon, STUDY_DELTA, STEPS), STEPS)


def sensitivity(features: int) -> int:
    """NOISY-SENSITIVITY in units of 2^−10, rounded up."""
    return ceil((2.01 * 2.0**_GRADIENT_BITS + 2.1) * sqrt(features + 1))


def noisy_logistic(tables: Sequence[SecretArray], epsilon: float) -> Revealed:
    """Coefficients (d,) and intercept (1,) for columns in [−1, 1].

    Args:
        tables: (rows, d + 1) of each owner, scaled to [−1, 1], the target last.
        epsilon: of one row replaced by another, at STUDY_DELTA; against the result party, all other owners and any one
            member of the committee together.
    """
    table = concatenate(tables)
    count, features = table.shape[0], table.shape[1] - 1
    usable = usable_rows(table)
    table = table * usable
    design = concatenate([table[:, :-1], usable * 1.0], 1)
    half = (table[:, -1:] + usable) * 0.5
    deviation = ceil(mechanism(epsilon).multiplier * sensitivity(features))
    rate = _RATE / (count * (features + 1))
    weights = velocity = constant_like(design, np.zeros((features + 1, 1)))
    for _ in range(STEPS):
        surplus = (sigmoid(design @ weights) - half) * usable
        gradient = with_noise(refined(design.T @ surplus, _GRADIENT_BITS), deviation)
        velocity = velocity * _MOMENTUM - gradient * rate
        weights = weights + velocity
    return reveal(coefficients=weights[:-1].reshape(-1), intercept=weights[-1].reshape(1))


def usable_rows(table: SecretArray) -> SecretArray:
    """(n, 1) bits: every number of the row is in [−1, 1], where none of their words has more than 32 bits."""
    outside = (table > 1.0).sum(1) + (table < -1.0).sum(1)
    return (outside < 1).reshape(-1, 1)
