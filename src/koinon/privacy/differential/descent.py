"""DP-SGD: a network learnt from clipped gradients and noise, all inside the joint computation.

Every row's own gradient is clipped to a norm of ``clip``, and normal noise that nobody knows is added to their sum
(Abadi et al., "Deep Learning with Differential Privacy", CCS 2016). The network has one hidden layer of hard tangents,
whose signals stay within ±1 (bounded activations lose less to clipping: Papernot et al., AAAI 2021), or none, which is
logistic regression. For such a network no row's gradient need be written down: its square norm is
|x|²·|∂h|² + |h|²·|∂z|² (Goodfellow, "Efficient Per-Example Gradient Computations", 2015).

Rows are cut into public batches, and each epoch takes each batch once. So a row is in one gradient of every epoch, and
the whole is ``epochs`` adaptive Gaussian mechanisms on it, exactly; no secret sampling is assumed.

Lemma CLIPPED-SENSITIVITY. Let one row be replaced. The norm is taken of the gradient in fixed point, as it is then
summed. Its square errs by less than (d + hW² + k + 4) · 2^−19 (products are cut off after 20 bits; W bounds the
weights, k counts what enters the last layer), which is weighed against clip² or more; the inverse square root by
10⁻⁵ + u · 2^−38 of itself, where u is the largest square, and, in its last bits, by 2^−23 · √u / clip. So what is
summed has a norm of at most clip · (1 + ρ), with ρ the sum of the three, and √((d + 1)(h + 1)) · 2^−19 more for the
products with the factor.
Rounding the sums to b bits, which may depend on the shares, moves each of the D coordinates by at most 1.1 units on
either side. So the integers to which noise is added differ by at most
2ᵇ · 2 · (clip (1 + ρ) + √((d + 1)(h + 1)) · 2^−19) + 2.2 √D; ``sensitivity`` is that, rounded up.

As in ``logistic``, no owner can break the lemma for another's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite, sqrt
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.approximations import LEVELS, inverse_square_root
from koinon.privacy.arrays import (
    SecretArray,
    bounded,
    clip,
    concatenate,
    constant_like,
    made,
    maximum,
    product,
    refined,
    sigmoid,
    with_noise,
)
from koinon.privacy.differential.accountant import Gaussian, gaussian_multiplier
from koinon.privacy.differential.logistic import STUDY_DELTA, usable_rows
from koinon.privacy.nets.steps import repeated
from koinon.privacy.secret import Product

MOST_HIDDEN: Final = 256
MOST_EPOCHS: Final = 1000
LARGEST_WEIGHT: Final = 8.0
_BITS: Final = 20
_ROOT_BITS: Final = 24
_GRADIENT_BITS: Final = 16
_SURPLUS: Final = 1.01
"""|σ − y|, with the sigmoid's error."""
_GOLDEN: Final = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Descent:
    """How a network learns; all of it public.

    Attributes:
        features: d, without the target.
        hidden: units of the hidden layer; 0 for logistic regression.
        epochs: how often every row comes.
        batches: parts of the rows, each one step of an epoch.
        clip: largest norm of a row's gradient.
        rate: of a step, on the mean gradient of a batch.
    """

    features: int
    hidden: int
    epochs: int
    batches: int
    clip: float
    rate: float

    def __post_init__(self) -> None:
        if not (0 <= self.hidden <= MOST_HIDDEN and 1 <= self.epochs <= MOST_EPOCHS and self.batches >= 1):
            raise InvalidInput(
                f"noise is learnt through with 0 to {MOST_HIDDEN} hidden units, 1 to {MOST_EPOCHS} epochs and at least"
                f" one batch; got {self.hidden}, {self.epochs}, {self.batches}"
            )
        if not (isfinite(self.clip) and 0.01 <= self.clip <= 100.0 and isfinite(self.rate) and 0 < self.rate <= 64.0):
            raise InvalidInput(
                f"gradients are clipped to a norm of 0.01 to 100, and the rate is above 0 and at most 64;"
                f" got {self.clip:g}, {self.rate:g}"
            )
        if not self.largest_square * 1.01 < self.clip**2 * 4.0**LEVELS:
            raise Refused(
                f"gradients of {self.features} columns and {self.hidden} hidden units are too large to be clipped to"
                f" {self.clip:g}; give a larger clip or fewer units"
            )

    @property
    def size(self) -> int:
        """D, the number of weights."""
        return (self.features + 1) * self.hidden + self.inner + 1

    @property
    def inner(self) -> int:
        """Inputs of the last layer."""
        return self.hidden or self.features

    @property
    def largest_square(self) -> float:
        """u: of any row's gradient."""
        hidden = (self.features + 1) * self.hidden * LARGEST_WEIGHT**2
        return (hidden + self.inner + 1) * _SURPLUS**2 * 1.01

    def mechanism(self, epsilon: float) -> Gaussian:
        """What one run costs each row at STUDY_DELTA. Raises InvalidInput for an unusable ε."""
        return Gaussian(gaussian_multiplier(epsilon, STUDY_DELTA, self.epochs), self.epochs)

    @property
    def sensitivity(self) -> int:
        """CLIPPED-SENSITIVITY in units of 2^−16."""
        square = (self.features + self.hidden * LARGEST_WEIGHT**2 + self.inner + 4) * 2.0**-19 / self.clip**2
        root = 1e-5 + max(self.largest_square, self.clip**2) * 2.0**-38
        excess = square + root + 2.0**-23 * sqrt(self.largest_square) / self.clip
        products = sqrt((self.features + 1) * (self.hidden + 1)) * 2.0**-19
        return ceil(2.0**_GRADIENT_BITS * 2 * (self.clip * (1 + excess) + products) + 2.2 * sqrt(self.size))


def learn(table: SecretArray, descent: Descent, epsilon: float) -> tuple[SecretArray, SecretArray]:
    """Weights of the hidden layer (d + 1, h) and of the last layer (h + 1,), each with its bias last.

    Args:
        table: (n, d + 1) scaled to [−1, 1], the target last.
        epsilon: of one row replaced by another, at STUDY_DELTA; against the result party, all other owners and any one
            member of the committee together.

    Raises:
        InvalidInput: shapes that do not fit, or fewer rows than batches.
    """
    count = table.shape[0]
    if table.shape[1:] != (descent.features + 1,) or count < descent.batches:
        raise InvalidInput(
            f"a table of {descent.features + 1} columns and at least {descent.batches} rows is learnt from;"
            f" got {table.shape}"
        )
    usable = usable_rows(table)
    kept = table * usable
    design = concatenate([kept[:, :-1], usable * 1.0], 1)
    labels = (kept[:, -1:] + usable) * 0.5
    noise = ceil(descent.mechanism(epsilon).multiplier * descent.sensitivity)

    def step(number: int, state: Sequence[SecretArray], data: Sequence[SecretArray]) -> list[SecretArray]:
        # Every so-many-th row, so that each batch has rows of all owners.
        batch = slice(number % descent.batches, None, descent.batches)
        rows, wanted, counted = (array[batch] for array in data)
        gradient = clipped_gradient(state[0], rows, wanted, counted, descent)
        noisy = with_noise(refined(gradient, _GRADIENT_BITS), noise)
        moved = state[0] - noisy.times(descent.rate / rows.shape[0])
        return [clip(moved, -LARGEST_WEIGHT, LARGEST_WEIGHT)]

    start = refined(constant_like(design, starting_weights(descent)), _BITS)
    (weights,) = repeated(step, descent.epochs * descent.batches, [start], [design, labels, usable])
    return layers(weights, descent)


def layers(weights: SecretArray, descent: Descent) -> tuple[SecretArray, SecretArray]:
    """(D,) weights as those of the two layers, (d + 1, h) and (h + 1,)."""
    cut = (descent.features + 1) * descent.hidden
    return weights[:cut].reshape(descent.features + 1, descent.hidden), weights[cut:]


def starting_weights(descent: Descent) -> np.ndarray:
    """(D,) public weights: multiples of the golden ratio, evenly spread and alike on every machine."""
    if not descent.hidden:
        return np.zeros(descent.size)
    size = (descent.features + 1) * descent.hidden
    spread = (np.arange(1, size + 1) * _GOLDEN % 1.0 * 2 - 1) * 2 * sqrt(3 / (descent.features + 1))
    last = np.where(np.arange(descent.hidden) % 2, 0.5, -0.5)
    return np.concatenate([spread, last, [0.0]])


def clipped_gradient(
    weights: SecretArray, design: SecretArray, labels: SecretArray, usable: SecretArray, descent: Descent
) -> SecretArray:
    """(D,) sum of the rows' clipped gradients of the log-loss, with 20 fraction bits.

    Args:
        weights: (D,), none beyond LARGEST_WEIGHT.
        design: (n, d + 1) rows in [−1, 1], the last column 1; rows that do not count are 0.
        labels: (n, 1) numbers from 0 to 1.
        usable: (n, 1) bits: which rows count.
    """
    first, last = layers(weights, descent)
    inner, inside = design, None
    if descent.hidden:
        signal = design @ first
        above, below = signal > 1.0, signal < -1.0
        # BIT: a signal is not above 1 and below −1 at once.
        inside = ~(above | below)
        flat = bounded(signal * inside + (above - below) * 1.0, "CLIP", 1.0 + 2.0**-9)
        inner = concatenate([flat, usable * 1.0], 1)
    surplus = (sigmoid(inner @ last.reshape(-1, 1)) - labels) * usable
    surplus = bounded(surplus, "SIGMOID-RANGE", _SURPLUS)
    square = _squares(inner) * _squares(surplus)
    if inside is not None:
        back = (surplus @ last[:-1].reshape(1, -1)) * inside
        square = square + _squares(design) * _squares(back)
    factor = _clip_factor(square, descent)
    outer = inner.T @ (surplus * factor)
    if inside is None:
        return outer.reshape(-1)
    return concatenate([(design.T @ (back * factor)).reshape(-1), outer.reshape(-1)])


def _squares(rows: SecretArray) -> SecretArray:
    """(n,) |row|², rounded once."""
    return product(rows.T, rows.T, Product.COLUMN_DOT)


def _clip_factor(square: SecretArray, descent: Descent) -> SecretArray:
    """(n, 1) min(1, clip / √square)."""
    unit = ceil(max(descent.largest_square, descent.clip**2))
    # CLIPPED: the square norm of a row's gradient; its factors' bounds give the largest.
    held = maximum(bounded(square, "CLIPPED", float(unit)), descent.clip**2)
    fine = refined(held, _ROOT_BITS)
    root = made(lambda x: inverse_square_root(x, unit), (fine,), fine.shape, _ROOT_BITS)
    return bounded(root.times(descent.clip / sqrt(unit)), "CLIPPED", 1.001).reshape(-1, 1)
