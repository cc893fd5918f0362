"""Reciprocal, exponential and logarithm on Secret arrays: the same formulas for every engine, constants in integers.

All three bring their argument into a narrow interval first: parallel comparisons with public powers find its order of
magnitude, and because the comparison bits select public constants linearly, that costs no further multiplication. Out
of their range they saturate; nothing wraps around (docs/spec/rep4.md, RECIPROCAL-RANGE, EXPONENTIAL-RANGE,
LOGARITHM-RANGE). All parties must use exactly the same constants, so the tables are written out.
"""

from collections.abc import Generator
from math import ceil, floor, log2
from typing import Final

import numpy as np

from koinon.kernel.errors import Refused
from koinon.privacy.secret import HEADROOM_BITS, Claim, Secret, joined, multiply, negative, public, together, truncate

BITS: Final = 24
"""Fraction bits of the arguments once they are in their interval, and of the results' mantissas."""
_FACTOR_BITS: Final = 8
"""Bits that the smallest normalising factor has; its rounding cancels, so few are enough."""
_THRESHOLD_BITS: Final = 8
"""Bits that the smallest threshold has: rounding moves it by 2⁻⁹ of itself at most."""
_NEWTON_STEPS: Final = 3
_START: Final = 2.9142
"""2.9142 − 2u is within 8.6 % of 1/u on [½, 1]; three Newton steps bring that to 3 · 10⁻⁹."""
_RECIPROCAL_BOUND: Final = 23.5
_EXPONENTIAL: Final = (16777217, 16777217, 8388415, 2796160, 703294, 140517)
"""Coefficients, times 2²⁴, of eʳ for |r| ≤ 0.348: relative error below 2 · 10⁻⁷ (least squares, Chebyshev points)."""
_LOGARITHM: Final = (-4826500, 5592399, -932193, 207197, -51217, 13578, -4634, 1366)
"""Coefficients in 4u − 3, times 2²⁴, of ln u for u from 0.49 to 1.01: error below 5 · 10⁻⁷."""
_LN_2: Final = 0.6931471805599453
MOST_LEVELS: Final = 40

Protocol = Generator[None, None, Secret]


def reciprocal(x: Secret, lowest: float, fraction_bits: int) -> Protocol:
    """1 / x for x from ``lowest`` to x's bound, to 2⁻²⁰ of itself and one unit in the last place; about 20 rounds.

    Below half of ``lowest``, down to 0, the result is 0.

    Args:
        x: never negative.
        lowest: positive; how small x may be.
        fraction_bits: of the result.

    Raises:
        Refused: the range spans more than 2⁴⁰, or the result does not fit.
    """
    u, factor = yield from _normalised(x, lowest)
    y = -u.times(2) + _START
    for _ in range(_NEWTON_STEPS):
        uy = yield from multiply(u, y, fraction_bits=BITS, claim=Claim("RECIPROCAL-RANGE", 2.0))
        y = yield from multiply(y, -uy + 2.0, fraction_bits=BITS, claim=Claim("RECIPROCAL-RANGE", _RECIPROCAL_BOUND))
    largest = 1.01 * 2.0 ** _level_count(x.bound, lowest) / x.bound
    if not largest * 2.0**fraction_bits < 2.0**HEADROOM_BITS:
        raise Refused(f"a reciprocal up to {largest:.4g} does not fit with {fraction_bits} fraction bits")
    # Where the factor is 0 the mantissa has no meaning; their product is 0.
    room = HEADROOM_BITS - 1 - ceil(log2(largest)) - factor.fraction_bits
    coarse = yield from truncate(y, min(BITS, room))
    claim = Claim("RECIPROCAL-RANGE", largest)
    surplus = fraction_bits - coarse.fraction_bits - factor.fraction_bits
    if surplus >= 0:
        return (yield from multiply(coarse, factor, claim=claim)).widened(surplus)
    return (yield from multiply(coarse, factor, fraction_bits=fraction_bits, claim=claim))


def exponential(x: Secret, fraction_bits: int, largest: float | None = None) -> Protocol:
    """eˣ with an error below 2⁻²⁰ of itself plus one unit in the last place; 0 where that rounds to 0; 14 rounds.

    Args:
        largest: a proven upper end of x where its bound is wider, such as 0 for what a maximum was taken from.

    Raises:
        Refused: the result could outgrow a word; subtract a known largest value first.
    """
    top = x.bound if largest is None else largest
    lowest = -(fraction_bits + 1)
    highest = max(lowest + 1, ceil(top / _LN_2 + 0.5))
    if highest + BITS - lowest >= HEADROOM_BITS - 1:
        raise Refused(f"the exponential of numbers up to {top:.4g} does not fit with {fraction_bits} fraction bits")
    powers = np.arange(lowest, highest + 1)
    reached = yield from _reached(x, (powers - 0.5) * _LN_2)
    power = _chosen(reached, np.concatenate([[0], 2 ** (powers - lowest)]), -lowest, "EXPONENTIAL-RANGE")
    offsets = np.round(np.concatenate([[0.0], powers * _LN_2]) * 2.0**BITS).astype(np.int64)
    nearest = _chosen(reached, offsets, BITS, "EXPONENTIAL-RANGE")
    # Below the lowest threshold the rest is large and may wrap; there the power is exactly 0.
    small = Claim("EXPONENTIAL-RANGE", 0.36, elsewhere_unused=True)
    rest = (yield from truncate(x - nearest, BITS)).within(small)
    square = yield from multiply(rest, rest, fraction_bits=BITS, claim=small)
    cube = yield from multiply(square, rest, fraction_bits=BITS, claim=small)
    low = _polynomial(_EXPONENTIAL[:3], (rest, square))
    high = yield from truncate(_polynomial(_EXPONENTIAL[3:], (rest, square)), BITS)
    mantissa = yield from multiply(
        cube,
        high,
        fraction_bits=BITS,
        plus=low,
        claim=Claim("EXPONENTIAL-RANGE", 1.5, elsewhere_unused=True),
    )
    return (
        yield from multiply(
            mantissa,
            power,
            fraction_bits=fraction_bits,
            claim=Claim("EXPONENTIAL-RANGE", 1.5 * 2.0**highest),
        )
    )


def logarithm(x: Secret, lowest: float, fraction_bits: int) -> Protocol:
    """ln x for x from ``lowest`` to x's bound, with an error below 2⁻²⁰; about 16 rounds.

    Below half of ``lowest``, down to 0, the result is that of half of ``lowest``.

    Args:
        x: never negative.
        lowest: positive; how small x may be.

    Raises:
        Refused: the range spans more than 2⁴⁰.
    """
    u, factor, reached = yield from _levels(x, lowest)
    factors = _level_factors(x.bound, lowest)[1:] / 2.0**factor.fraction_bits
    # Below every level u is 0 and v is −3, where the polynomial has a known value: it is taken back there.
    below = sum(c * (-3) ** power for power, c in enumerate(_LOGARITHM))
    logs = np.round(-np.log(factors) * 2.0**BITS).astype(np.int64)
    first = logs[0] - round(np.log(2.0) * 2.0**BITS) - below
    logs = np.concatenate([[first], logs])
    offset = _chosen(reached, logs, BITS, "LOGARITHM-RANGE")
    v = (u.times(4) - 3.0).within(Claim("LOGARITHM-RANGE", 3.01))
    square = yield from multiply(v, v, fraction_bits=BITS, claim=Claim("LOGARITHM-RANGE", 9.1))
    shape = (1, *v.shape)
    pair = joined([v.reshape(*shape), square.reshape(*shape)], 0)
    both = yield from multiply(pair, square.reshape(*shape), fraction_bits=BITS, claim=Claim("LOGARITHM-RANGE", 83.0))
    cube, fourth = both[0], both[1]
    low = _polynomial(_LOGARITHM[:4], (v, square, cube))
    high = yield from truncate(_polynomial(_LOGARITHM[4:], (v, square, cube)), BITS)
    mantissa = yield from multiply(fourth, high, fraction_bits=BITS, plus=low, claim=Claim("LOGARITHM-RANGE", 4.0))
    return (yield from truncate(mantissa + offset, fraction_bits))


def square_root(x: Secret, lowest: float, fraction_bits: int) -> Protocol:
    """√x as e^(½ ln x), to 2⁻¹⁷ of itself, for x from ``lowest`` to its bound; 0 below; about 31 rounds."""
    log, missing = yield from together(logarithm(x, lowest, BITS), negative(x - np.full(x.shape, lowest)))
    root = yield from exponential(log.halved(1), fraction_bits, largest=max(0.5 * log2(x.bound) * _LN_2 + 0.01, 0.0))
    chosen = yield from multiply(-missing + 1.0, root)
    return chosen.within(Claim("ROOT", 1.01 * x.bound**0.5))


def _normalised(x: Secret, lowest: float) -> Generator[None, None, tuple[Secret, Secret]]:
    u, factor, _ = yield from _levels(x, lowest)
    return u, factor


def _levels(x: Secret, lowest: float) -> Generator[None, None, tuple[Secret, Secret, Secret]]:
    """u = x · factor in [½, 1], the secret factor, and the bits of the levels reached; both 0 below every level."""
    values = _level_factors(x.bound, lowest)
    factor_bits = _factor_bits(x.bound)
    levels = len(values) - 1
    thresholds = x.bound * 2.0 ** (np.arange(levels) - levels)
    # A threshold is rounded to x's bits: with enough of them it stays within 2⁻⁹ of itself, as the lemma needs.
    finer = ceil(_THRESHOLD_BITS - log2(thresholds[0])) - x.fraction_bits
    x = x.widened(max(0, min(finer, floor(HEADROOM_BITS - 1 - log2(x.bound)) - x.fraction_bits)))
    reached = yield from _reached(x, thresholds)
    factor = _chosen(reached, values, factor_bits, "LEVEL-RANGE")
    # As many bits of x as leave room for the largest factor: the product is at most 1.01 at its own level.
    keep = min(x.fraction_bits, HEADROOM_BITS - 1 - max(factor_bits, 0))
    coarse = yield from truncate(x, keep)
    surplus = keep + factor.fraction_bits - BITS
    claim = Claim("LEVEL-RANGE", 1.01)
    if surplus < 0:
        u = (yield from multiply(coarse, factor, claim=claim)).widened(-surplus)
    else:
        u = yield from multiply(coarse, factor, fraction_bits=BITS, claim=claim)
    return u, factor, reached


def _level_factors(highest: float, lowest: float) -> np.ndarray:
    """0, then 2^level / highest for falling levels, as integers with the fraction bits of ``_factor_bits``."""
    levels, bits = _level_count(highest, lowest), _factor_bits(highest)
    factors = [round(2.0 ** (levels - 1 - level + bits) / highest) for level in range(levels)]
    return np.array([0, *factors], np.int64)


def _level_count(highest: float, lowest: float) -> int:
    if not 0 < lowest <= highest:
        raise Refused(f"numbers up to {highest:.4g} cannot be at least {lowest:.4g}; give a lower end above 0")
    levels = max(1, ceil(log2(highest / lowest)))
    if levels > MOST_LEVELS:
        raise Refused(f"the range {lowest:.4g} to {highest:.4g} spans more than 2^{MOST_LEVELS}; narrow it")
    return levels


def _factor_bits(highest: float) -> int:
    return max(0, _FACTOR_BITS + ceil(log2(highest)))


def _reached(x: Secret, thresholds: np.ndarray) -> Protocol:
    """Bits (levels, *shape): whether x is at or above each of the public thresholds."""
    count = len(thresholds)
    column = thresholds.reshape((count,) + (1,) * len(x.shape))
    below = yield from negative(x.broadcast(count, *x.shape) - np.broadcast_to(column, (count, *x.shape)))
    return -below + 1.0


def _chosen(reached: Secret, values: np.ndarray, fraction_bits: int, lemma: str) -> Secret:
    """values[k] / 2^fraction_bits where k of the ascending thresholds are reached: linear, so without a message."""
    integers = np.asarray(values, np.int64)
    jumps = np.diff(integers).reshape((-1,) + (1,) * (len(reached.shape) - 1))
    first = public(reached.machine, float(integers[0]), 0)
    chosen = reached.times(jumps).sum(0) + first.broadcast(*reached.shape[1:])
    largest = float(np.abs(integers).max()) + 1.0
    return chosen.within(Claim(lemma, largest)).halved(fraction_bits)


def _polynomial(coefficients: tuple[int, ...], powers: tuple[Secret, ...]) -> Secret:
    """c₀ + c₁ p₁ + c₂ p₂ …, exactly, with the bits of table and powers together."""
    total = powers[0].times(coefficients[1])
    for coefficient, power in zip(coefficients[2:], powers[1:], strict=True):
        total = total + power.times(coefficient)
    return total.halved(BITS) + coefficients[0] / 2.0**BITS
