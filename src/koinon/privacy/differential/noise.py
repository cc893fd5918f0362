"""Integer noise: a normal variable rounded to the nearest integer, drawn from uniform words alike at every party.

Adding it to an integer is the Gaussian mechanism on that integer followed by rounding, which is post-processing; so the
privacy of the Gaussian mechanism holds to the letter, in any number of dimensions. As nothing but integers is ever
added, the low bits of floating-point noise (Mironov, "On significance of the least significant bits for differential
privacy", CCS 2012) do not exist.

Several parties draw the same variable from the same words, so the result must not depend on anybody's floating-point
library: a floating-point guess is taken only where it lies clear of the rounding's edge, and the edge itself is decided
in integers.
"""

from functools import cache
from math import floor, isqrt
from statistics import NormalDist
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput

WORDS: Final = 2
"""Uniform 64-bit words that one variable takes: one bit of sign, 127 bits of tail."""
LARGEST_DEVIATION: Final = 1 << 40
REACH: Final = 13.2
"""No variable is further from 0 than this many deviations, and one: 2⁻¹²⁸ is the smallest tail."""
SAMPLING_DELTA: Final = 1e-20
"""More than one variable's distance from the rounded normal law: 27 · 2⁴⁰ thresholds, each off by at most 2⁻¹²⁷."""

_TAIL_BITS: Final = 127
_CLEAR: Final = 1e-10
"""Relative distance from an edge at which the floating-point guess is trusted; its own error is below 10⁻¹⁴."""
_PRECISION: Final = 384
_STANDARD: Final = NormalDist()


def rounded_normal(words: np.ndarray, deviation: int) -> np.ndarray:
    """Independent N(0, deviation²) variables, each rounded to the nearest integer.

    Args:
        words: uniform uint64 (…, 2).
        deviation: standard deviation in units of the integers, 1 to 2⁴⁰.

    Returns:
        int64 (…).

    Raises:
        InvalidInput: a deviation out of range, or words of another shape.
    """
    if not 1 <= deviation <= LARGEST_DEVIATION:
        raise InvalidInput(f"noise has a deviation of 1 to {LARGEST_DEVIATION} units; got {deviation}")
    if words.dtype != np.uint64 or words.ndim < 1 or words.shape[-1] != WORDS:
        raise InvalidInput("each variable of noise is drawn from two 64-bit words")
    pairs = words.reshape(-1, WORDS).tolist()
    return np.array([_signed(high << 64 | low, deviation) for high, low in pairs], np.int64).reshape(words.shape[:-1])


def _signed(uniform: int, deviation: int) -> int:
    negative, tail = uniform >> _TAIL_BITS, uniform & ((1 << _TAIL_BITS) - 1)
    size = _magnitude(tail, deviation)
    return -size if negative else size


def _magnitude(tail: int, deviation: int) -> int:
    """⌊deviation · x + ½⌋ for the x ≥ 0 beyond which the normal law has the probability (tail + ½) / 2¹²⁸."""
    guess = deviation * -_STANDARD.inv_cdf((tail + 0.5) / 2.0 ** (_TAIL_BITS + 1)) + 0.5
    size, margin = floor(guess), _CLEAR * (guess + 1)
    if margin < guess - size < 1 - margin:
        return size
    size = max(0, floor(guess - margin) - 1)
    while _reaches(size + 1, tail, deviation):
        size += 1
    return size


def _reaches(size: int, tail: int, deviation: int) -> bool:
    """Whether x ≥ (size − ½) / deviation, that is, whether the tail beyond that point is at least the one drawn."""
    drawn = (2 * tail + 1) << (_PRECISION - _TAIL_BITS - 2)
    return drawn <= tail_probability(2 * size - 1, 2 * deviation)


def tail_probability(numerator: int, denominator: int) -> int:
    """2³⁸⁴ times the probability that a standard normal variable exceeds numerator / denominator, from 0 to 14.

    The series ½ − (t − t³/(2·3) + t⁵/(2²·2!·5) − …) / √(2π) in integers; its terms stay below 2¹⁴⁶, so that the result
    is right to more than 200 bits.
    """
    one = 1 << _PRECISION
    square = numerator * numerator * one // (denominator * denominator)
    power = numerator * one // denominator
    total, index = 0, 0
    while power:
        total += power // (2 * index + 1) * (-1 if index % 2 else 1)
        index += 1
        power = power * square // (one * 2 * index)
    return one // 2 - total * one // _root_of_two_pi()


@cache
def _root_of_two_pi() -> int:
    """2³⁸⁴ √(2π), with π from Machin's formula."""
    extra = 32
    one = 1 << (_PRECISION + extra)
    pi = 4 * (4 * _inverse_tangent(5, one) - _inverse_tangent(239, one))
    return isqrt(2 * pi << (_PRECISION - extra))


def _inverse_tangent(inverse: int, one: int) -> int:
    power, total, index = one // inverse, 0, 0
    while power:
        total += power // (2 * index + 1) * (-1 if index % 2 else 1)
        power //= inverse * inverse
        index += 1
    return total
