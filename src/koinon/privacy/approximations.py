"""Sigmoid and inverse square root on Secret arrays: the same formulas for every engine, with constants in integers.

All parties must use exactly the same constants, so the table is written out; nothing is fitted at run time.
"""

from collections.abc import Generator
from typing import Final

import numpy as np

from koinon.privacy.secret import Claim, Product, Secret, joined, multiply, negative, public, together, truncate

TABLE_BITS: Final = 24
SIGMOID_PIECES: Final = (
    (-167772160, 77741, 14796, 710),
    (-147846452, 198138, 42404, 2293),
    (-128359460, 478551, 116531, 7194),
    (-109354723, 1083208, 304327, 21782),
    (-90886922, 2256837, 743280, 62854),
    (-73027074, 4195546, 1645824, 168007),
    (-55871700, 6613082, 3112248, 390771),
    (-39560831, 8335678, 4562253, 696851),
    (-24319570, 8558235, 4805533, 759227),
    (-10585708, 8391118, 4266994, 315006),
    (0, 8386098, 4266994, -315006),
    (10585708, 8218981, 4805533, -759227),
    (24319570, 8441538, 4562253, -696851),
    (39560831, 10164134, 3112248, -390771),
    (55871700, 12581670, 1645824, -168007),
    (73027074, 14520379, 743280, -62854),
    (90886922, 15694008, 304327, -21782),
    (109354723, 16298665, 116531, -7194),
    (128359460, 16579078, 42404, -2293),
    (147846452, 16699475, 14796, -710),
    (167772160, 16777216, 0, 0),
)
"""(knot, A, B, C), each times 2²⁴: from its knot on, sigmoid(x) ≈ A + Bx + Cx²; 0 below the first knot. Least squares
at Chebyshev points of each piece; the largest error anywhere is 1.8 · 10⁻⁴."""
SIGMOID_ERROR: Final = 3e-4
"""Largest error with all roundings, for at least 16 fraction bits."""
COARSE_PIECES: Final = (
    (-2541, 36672, 1),
    (-1447, 195692, 8),
    (-1092, 438335, 22),
    (-867, 743457, 44),
    (-707, 1059587, 72),
    (-578, 1364061, 105),
    (-466, 1639286, 142),
    (-362, 1864617, 181),
    (-260, 2022092, 219),
    (-149, 2097152, 251),
    (149, 2172212, 219),
    (260, 2329687, 181),
    (362, 2555018, 142),
    (466, 2830243, 105),
    (578, 3134717, 72),
    (707, 3450847, 44),
    (867, 3755969, 22),
    (1092, 3998612, 8),
    (1447, 4157632, 1),
    (2541, 4194304, 0),
)
"""(256 · knot, 2²² · A, 2¹⁰ · B): from its knot on, sigmoid(x) ≈ A + Bx; 0 below the first knot. Greedy minimax
pieces; the largest error anywhere is 1.0 · 10⁻³."""
COARSE_SIGMOID_ERROR: Final = 1.2e-3
"""Largest error of ``coarse_sigmoid``, with the argument's rounding to ``_COARSE_ARGUMENT_BITS``."""
_COARSE_KNOT_BITS: Final = 8
_COARSE_SLOPE_BITS: Final = 10
_COARSE_ARGUMENT_BITS: Final = 12
_COARSE_COMPARED_BITS: Final = 16
COARSE_SIGMOID_BITS: Final = _COARSE_SLOPE_BITS + _COARSE_ARGUMENT_BITS
_SIGMOID_REACH: Final = 10.0
_SIGMOID_BOUND: Final = 1.25

LEVELS: Final = 10
"""The inverse square root resolves arguments down to 4^−LEVELS of the unit."""
_ROOT_BITS: Final = 24
_FACTOR_BITS: Final = 37
_TABLE_ROOT_BITS: Final = 20
_CELLS: Final = 28
"""Cells for every factor 4: within one, x is within 2.5 % of its middle, and the series of (1 − e)^−½ up to e² is right
to 5 · 10⁻⁶."""
_CELL: Final = 1.0507566386532194
"""4^(1/28). From here on only products, quotients and square roots, which are the same on every processor."""
LARGEST_INVERSE_ROOT: Final = 2.0 ** (LEVELS + 1)


def sigmoid(x: Secret, fraction_bits: int) -> Generator[None, None, Secret]:
    """1 / (1 + e^−x) with an error below SIGMOID_ERROR: 21 parallel comparisons, then a quadratic; six rounds.

    Args:
        x: any shape, with at least ``fraction_bits`` fraction bits; an exact product need not be truncated first.
    """
    pieces = np.array(SIGMOID_PIECES, np.int64)
    column = (len(pieces),) + (1,) * len(x.shape)
    knots = np.broadcast_to(pieces[:, 0].reshape(column) / 2.0**TABLE_BITS, (len(pieces), *x.shape))
    shifted = x.broadcast(len(pieces), *x.shape) - knots
    below, (argument, square) = yield from together(negative(shifted), _with_square(x, fraction_bits))
    reached = -below + 1.0
    jumps = np.diff(pieces[:, 1:], axis=0, prepend=0)
    constant, slope, curve = (
        reached.times(jumps[:, power].reshape(column)).sum(0).halved(TABLE_BITS) for power in range(3)
    )
    factors = joined([slope.reshape(1, *x.shape), curve.reshape(1, *x.shape)], 0)
    powers = joined([argument.reshape(1, *x.shape), square.reshape(1, *x.shape)], 0)
    # SIGMOID-RANGE: beyond ±10 slope and curve are exactly 0, whatever the square is there.
    return (
        yield from multiply(
            factors,
            powers,
            kind=Product.COLUMN_DOT,
            fraction_bits=fraction_bits,
            plus=constant.widened(fraction_bits),
            claim=Claim("SIGMOID-RANGE", _SIGMOID_BOUND),
        )
    )


def _with_square(x: Secret, fraction_bits: int) -> Generator[None, None, tuple[Secret, Secret]]:
    argument = yield from truncate(x, fraction_bits)
    claim = Claim("SIGMOID-RANGE", (_SIGMOID_REACH + 0.01) ** 2, elsewhere_unused=True)
    square = yield from multiply(argument, argument, fraction_bits=fraction_bits, claim=claim)
    return argument, square


def coarse_sigmoid(x: Secret) -> Generator[None, None, Secret]:
    """1 / (1 + e^−x) with an error below COARSE_SIGMOID_ERROR: 20 parallel comparisons, then a line; five rounds.

    Returns:
        With COARSE_SIGMOID_BITS fraction bits: the product is exact, so its truncation is saved.
    """
    pieces = np.array(COARSE_PIECES, np.int64)
    column = (len(pieces),) + (1,) * len(x.shape)
    knots = np.broadcast_to((pieces[:, 0] / 2.0**_COARSE_KNOT_BITS).reshape(column), (len(pieces), *x.shape))
    shifted = x.broadcast(len(pieces), *x.shape) - knots
    # Either line will do at a knot, so that bits below the argument's own need not be compared.
    below, argument = yield from together(negative(shifted, _COARSE_COMPARED_BITS), truncate(x, _COARSE_ARGUMENT_BITS))
    reached = -below + 1.0
    jumps = np.diff(pieces[:, 1:], axis=0, prepend=0)
    constant, slope = (reached.times(jumps[:, power].reshape(column)).sum(0) for power in range(2))
    # SIGMOID-RANGE: beyond the outermost knots the slope is exactly 0.
    return (
        yield from multiply(
            slope.halved(_COARSE_SLOPE_BITS),
            argument,
            plus=constant.halved(COARSE_SIGMOID_BITS),
            claim=Claim("SIGMOID-RANGE", _SIGMOID_BOUND),
        )
    )


def inverse_square_root(x: Secret, unit: int) -> Generator[None, None, Secret]:
    """(x / unit)^−½ for x / unit in [4^−LEVELS, 1], with a relative error below 10⁻⁵ + unit · 2^−38; ten rounds.

    Many parallel comparisons find the cell that x lies in, so that no Newton steps are needed.

    Below 4^−LEVELS the result is at most LARGEST_INVERSE_ROOT, and its product with √(x / unit) at most 1.01.

    Args:
        x: numbers from 0 to ``unit`` with at least 24 fraction bits.
        unit: a positive integer.

    Returns:
        With 24 fraction bits.
    """
    count = LEVELS * _CELLS
    column = (count - 1,) + (1,) * len(x.shape)
    edges = 4.0**-LEVELS * np.cumprod(np.full(count, _CELL)) / _CELL
    thresholds = (unit * edges[1:]).reshape(column)
    shifted = x.broadcast(count - 1, *x.shape) - np.broadcast_to(thresholds, (count - 1, *x.shape))
    below, coarse = yield from together(negative(shifted), truncate(x, _ROOT_BITS))
    reached = -below + 1.0
    middles = edges * np.sqrt(_CELL)
    normalising = _chosen(reached, _table(1 / (unit * middles), _FACTOR_BITS), column, _FACTOR_BITS)
    root = _chosen(reached, _table(1 / np.sqrt(middles), _TABLE_ROOT_BITS), column, _TABLE_ROOT_BITS)
    # ROOT-RANGE: the argument is below 1.026 times the middle of its own cell.
    share = yield from multiply(coarse, normalising, fraction_bits=_ROOT_BITS, claim=Claim("ROOT-RANGE", 1.03))
    e = (-share + 1.0).within(Claim("ROOT-RANGE", 1.01))
    square = yield from multiply(e, e, fraction_bits=_ROOT_BITS)
    series = (e.times(4) + square.times(3)).halved(3) + 1.0
    return (
        yield from multiply(
            series.within(Claim("ROOT-RANGE", 1.9)),
            root,
            fraction_bits=_ROOT_BITS,
            claim=Claim("ROOT-RANGE", LARGEST_INVERSE_ROOT),
        )
    )


def _table(numbers: np.ndarray, bits: int) -> np.ndarray:
    return np.round(numbers * 2.0**bits).astype(np.int64)


def _chosen(reached: Secret, values: np.ndarray, column: tuple[int, ...], fraction_bits: int) -> Secret:
    """values[k] / 2^fraction_bits where k of the ascending thresholds are reached."""
    jumps = np.diff(values).reshape(column)
    first = public(reached.machine, float(values[0]), 0)
    chosen = reached.times(jumps).sum(0) + first.broadcast(*reached.shape[1:])
    largest = float(np.abs(values).max()) + 1.0
    return chosen.within(Claim("ROOT-RANGE", largest)).halved(fraction_bits)
