"""The inverse of the binomial distribution, exactly the same on every machine.

Source: sortition by weighted draws as in PlatON's PPoS (a candidate of weight w gets the number of successes of w
trials) and Algorand (Gilad et al., SOSP 2017, section 5.1). Both compute in floating point; validators that must agree
to the bit cannot, so probabilities here are integers in units of 2^−1024 and every rounding is downwards.
"""

from typing import Final

DRAW_BITS: Final = 256
"""A draw is an integer below 2^256, read as a fraction of it."""
_PRECISION: Final = 1024
_ONE: Final = 1 << _PRECISION


def inverse_binomial(trials: int, numerator: int, denominator: int, draw: int) -> int:
    """The least x whose probability of at most x successes exceeds ``draw`` / 2^256.

    Args:
        trials: how many independent trials, at least 0.
        numerator: of the probability of success of each; at ``denominator`` or above, every trial succeeds.
        denominator: at least 1.
        draw: uniform in 0 … 2^256 − 1.

    Rounding: P(0) is (1 − p)^trials by repeated squaring, and each P(x + 1) comes from P(x) by one multiplication and
    one division, every product rounded down to a multiple of 2^−1024. What the sum loses is below 2^−900 for up to
    2^64 trials, so a draw, which has 256 bits, hits the gap practically never; where terms have vanished before the
    sum exceeds the draw, the answer is the first x whose term vanished.
    """
    if numerator >= denominator:
        return trials
    failure = denominator - numerator
    term = _power(_ONE * failure // denominator, trials)
    if term == 0:
        # The mean is so large that not even one in 2^1024 draws gives few successes; start where terms can be held.
        return min(trials, trials * numerator // denominator)
    threshold = draw << (_PRECISION - DRAW_BITS)
    total = term
    successes = 0
    while total <= threshold and successes < trials:
        term = term * (trials - successes) * numerator // ((successes + 1) * failure)
        successes += 1
        if term == 0:
            break
        total += term
    return successes


def _power(base: int, exponent: int) -> int:
    """``base``^``exponent`` for a fraction in units of 2^−1024, each product rounded down."""
    result = _ONE
    while exponent:
        if exponent & 1:
            result = result * base >> _PRECISION
        base = base * base >> _PRECISION
        exponent >>= 1
    return result
