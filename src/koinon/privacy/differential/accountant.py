"""What noisy answers cost together: composition by privacy loss distributions, rounded to the safe side.

The privacy loss of an answer is the logarithm of how much likelier it is with a row than with another row in its place
(neighbours differ in one row; numbers of rows are public). The loss of several answers is the sum of independent
losses, so distributions are convolved (Koskela et al., "Computing tight differential privacy guarantees using FFT",
AISTATS 2020), and δ(ε) = E[(1 − e^{ε − L})⁺] is read off the result. Losses are put on a grid by rounding up, and what
lies beyond the grid counts as infinite: the ε given here is never below the true one.

That is for answers that were fixed beforehand. Where later ones are chosen by what earlier ones said, up to a budget,
it also holds for Gaussian answers alone (Smith and Thakurta, "Fully adaptive composition for Gaussian differential
privacy", 2022) and for the sum of ε of pure ones; that it holds for a mix, or for pure ones counted more closely than
by their sum, is not proved.

Two kinds of mechanisms:

- ``Gaussian``: normal noise on a vector whose L2 norm one row can change by 1 per ``multiplier``. n of them are one
  with multiplier / √n, exactly.
- ``Pure``: any ε-differentially private answer. Randomised response dominates them all (Kairouz, Oh and Viswanath,
  2015, theorem 3), and *is* the geometric mechanism on a count.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, erfc, exp, inf, isfinite, log, sqrt
from typing import TYPE_CHECKING, Final

from koinon.kernel.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

STEP: Final = 1e-4
"""Grid of losses."""
NUMERIC_DELTA: Final = 1e-13
"""Added to every δ for the rounding of the convolutions."""
LARGEST_EPSILON: Final = 100.0
_REACH: Final = 9.0
"""Deviations of a normal loss that the grid holds; the tail beyond, 10⁻¹⁹, counts as infinite loss."""
_THOUSANDTHS: Final = 1_000
_LARGEST_MULTIPLIER: Final = 1e6


@dataclass(frozen=True, slots=True)
class Gaussian:
    """``count`` answers with normal noise of ``multiplier`` times the L2 sensitivity."""

    multiplier: float
    count: int = 1

    def __post_init__(self) -> None:
        if not (isfinite(self.multiplier) and 0.01 <= self.multiplier <= _LARGEST_MULTIPLIER and self.count >= 1):
            raise InvalidInput(
                f"a Gaussian mechanism has a multiplier of 0.01 to {_LARGEST_MULTIPLIER:g} and answers at least once;"
                f" got {self.multiplier:g}, {self.count}"
            )


@dataclass(frozen=True, slots=True)
class Pure:
    """``count`` answers, each ``epsilon``-differentially private."""

    epsilon: float
    count: int = 1

    def __post_init__(self) -> None:
        if not (isfinite(self.epsilon) and 0.0 < self.epsilon <= LARGEST_EPSILON and self.count >= 1):
            raise InvalidInput(
                f"an answer costs ε above 0 and at most {LARGEST_EPSILON:g}, at least once;"
                f" got {self.epsilon:g}, {self.count}"
            )


Mechanism = Gaussian | Pure


@dataclass(frozen=True, slots=True)
class _Losses:
    """A distribution of losses: ``weights[i]`` at (``first`` + i) · STEP, and ``infinite``."""

    first: int
    weights: "FloatArray"
    infinite: float


def spent_epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """The least ε, up to the grid, such that all these answers together are (ε, δ)-differentially private.

    Infinite where no ε is enough for this δ, or where it is above 100.

    Raises:
        InvalidInput: δ not above 0 and below 1.
    """
    if not 0.0 < delta < 1.0:
        raise InvalidInput(f"δ must be above 0 and below 1; got {delta:g}")
    if not mechanisms:
        return 0.0
    curve = _curve(mechanisms)
    if curve is None:
        return inf
    low, high = 0.0, LARGEST_EPSILON
    if curve(high) > delta:
        return inf
    if curve(low) <= delta:
        return 0.0
    while high - low > STEP / 10:
        middle = (low + high) / 2
        low, high = (low, middle) if curve(middle) <= delta else (middle, high)
    return high


def _curve(mechanisms: Sequence[Mechanism]) -> Callable[[float], float] | None:
    """ε → δ of all of them together, never too small; None where that is beyond any budget."""
    gaussian = [each for each in mechanisms if isinstance(each, Gaussian)]
    if len(gaussian) == len(mechanisms):
        # Gaussian answers alone are one, whose curve is known exactly (Balle and Wang): no distribution is needed.
        square = sum(each.count / each.multiplier**2 for each in gaussian)
        return None if sqrt(square) > 20 else lambda epsilon: _gaussian_delta(epsilon, 1 / sqrt(square)) + NUMERIC_DELTA
    losses = _composed(mechanisms)
    if losses is None:
        return None
    import numpy as np

    values = np.asarray((losses.first + np.arange(len(losses.weights))) * STEP, np.float64)
    return lambda epsilon: _delta(losses, values, epsilon)


def gaussian_multiplier(epsilon: float, delta: float, count: int) -> float:
    """The least multiplier, in thousandths, with which ``count`` Gaussian answers are (ε, δ)-differentially private.

    The exact curve of Balle and Wang (ICML 2018, theorem 8), which is the loss distribution of the composition.

    Raises:
        InvalidInput: ε not above 0 and at most 100, δ not above 0 and below 1, or no count.
    """
    if not (0.0 < epsilon <= LARGEST_EPSILON and 0.0 < delta < 1.0 and count >= 1):
        raise InvalidInput(
            f"noise is calibrated to ε above 0 and at most {LARGEST_EPSILON:g} and δ between 0 and 1;"
            f" got {epsilon:g}, {delta:g}"
        )
    low, high = 0, int(_LARGEST_MULTIPLIER) * _THOUSANDTHS
    while high - low > 1:
        middle = (low + high) // 2
        enough = _gaussian_delta(epsilon, middle / _THOUSANDTHS / sqrt(count)) <= delta
        low, high = (low, middle) if enough else (middle, high)
    return high / _THOUSANDTHS


def _gaussian_delta(epsilon: float, multiplier: float) -> float:
    near, far = 0.5 / multiplier - epsilon * multiplier, -0.5 / multiplier - epsilon * multiplier
    tail = _normal(far)
    return _normal(near) - (exp(epsilon + log(tail)) if tail > 0 else 0.0)


def _normal(value: float) -> float:
    return 0.5 * erfc(-value / sqrt(2.0))


def _composed(mechanisms: Sequence[Mechanism]) -> _Losses | None:
    """The distribution of the sum of all losses; None where the sum is beyond any budget."""
    square = sum(each.count / each.multiplier**2 for each in mechanisms if isinstance(each, Gaussian))
    pure = [each for each in mechanisms if isinstance(each, Pure)]
    if sqrt(square) > 20 or sum(each.count for each in pure) > 1_000_000:
        return None
    parts = [_gaussian(sqrt(square))] if square else []
    total: dict[float, int] = {}
    for each in pure:
        total[each.epsilon] = total.get(each.epsilon, 0) + each.count
    parts += [_pure(epsilon, count) for epsilon, count in sorted(total.items())]
    if sum(len(part.weights) for part in parts) > 1 << 24:
        return None
    found = parts[0]
    for part in parts[1:]:
        found = _convolved(found, part)
    return found


def _gaussian(ratio: float) -> _Losses:
    """Losses N(ratio²/2, ratio²), each rounded up."""
    import numpy as np

    mean = ratio * ratio / 2
    first = int(np.floor((mean - _REACH * ratio) / STEP))
    last = int(np.ceil((mean + _REACH * ratio) / STEP))
    edges = (np.arange(first, last + 1) * STEP - mean) / ratio
    below = np.array([_normal(edge) for edge in edges])
    weights = np.diff(below, prepend=0.0)
    return _Losses(first, weights, 1.0 - below[-1] if below[-1] < 1.0 else _normal(-_REACH))


def _pure(epsilon: float, count: int) -> _Losses:
    """``count`` losses of ε with probability e^ε / (1 + e^ε), else −ε; the sum is rounded up."""
    import numpy as np

    likely = 1.0 / (1.0 + exp(-epsilon))
    wins = np.arange(count + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    choose = logs[-1] - logs - logs[::-1]
    weights = np.exp(choose + wins * log(likely) + (count - wins) * (log(likely) - epsilon))
    places = np.array([ceil((2 * int(win) - count) * epsilon / STEP - 1e-9) for win in wins])
    line = np.zeros(int(places[-1] - places[0]) + 1)
    np.add.at(line, places - places[0], weights)
    return _Losses(int(places[0]), line, 0.0)


def _convolved(left: _Losses, right: _Losses) -> _Losses:
    import numpy as np

    size = len(left.weights) + len(right.weights) - 1
    fast = 1 << (size - 1).bit_length()
    product = np.fft.rfft(left.weights, fast) * np.fft.rfft(right.weights, fast)
    weights = np.clip(np.fft.irfft(product, fast)[:size], 0.0, None)
    return _Losses(left.first + right.first, weights, left.infinite + right.infinite)


def _delta(losses: _Losses, values: "FloatArray", epsilon: float) -> float:
    import numpy as np

    beyond = values > epsilon
    gained = losses.weights[beyond] @ -np.expm1(epsilon - values[beyond])
    return float(losses.infinite + gained + NUMERIC_DELTA)
