"""Products and truncation on shares (docs/spec/rep4.md). Generators: every ``yield`` ends one round."""

from collections.abc import Generator
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.products import Pair, cross_terms, shape_of
from koinon.privacy.rep4.shares import DIAGONAL, ROUTES, Route, Shares, constant, four, summed
from koinon.privacy.secret import Product

Protocol = Generator[None, None, Shares]

_OFFSET_BITS: Final = 62
_LOW_63: Final = np.uint64((1 << 63) - 1)
_NARROW_CARRY_DROP: Final = 31
"""Truncating by at most this many bits, the carry's factor 2^(63−drop) leaves only 32 of its bits in the word."""
_SUPPORTS: Final = {(i, j): frozenset({i, j}) for i in range(4) for j in range(4) if i != j}
LOWER: Final = ROUTES[2, 3]
"""A value known to positions 0 and 1."""
UPPER: Final = ROUTES[0, 1]
"""A value known to positions 2 and 3."""


def joint_input(
    party: Party,
    route: Route,
    value: np.ndarray | None,
    shape: tuple[int, ...],
    dtype: Any = np.uint64,
    *,
    boolean: bool = False,
) -> Shares:
    """Share a value that ``route.sender`` and ``route.backup`` both know; usable after this round (REP4-JOINT).

    Component ``route.receiver`` is drawn from its stream, component ``route.outsider`` is the rest, the others are 0.
    One ring element is sent.
    """
    sender, backup, receiver, outsider = route
    me = party.position
    mask = party.draw(receiver, shape, dtype)
    rest = None
    if me in (sender, backup):
        assert value is not None
        assert mask is not None
        rest = value ^ mask if boolean else value - mask
    rest = party.joint(sender, backup, receiver, rest, shape, dtype)
    parts: list[np.ndarray | None] = [None, None, None, None]
    parts[receiver] = mask
    parts[outsider] = rest
    first, second, third, fourth = parts
    return Shares((first, second, third, fourth), shape, _SUPPORTS[receiver, outsider], dtype, boolean)


def multiply(party: Party, left: Shares, right: Shares, kind: Product = Product.ELEMENTWISE) -> Protocol:
    """Exact product, or AND of Boolean shares: one round, six elements per result (REP4-MULTIPLY)."""
    shape = shape_of(left, right, kind)
    terms = cross_terms(left, right, kind, party.position)
    inputs = [
        joint_input(party, ROUTES[pair], value, shape, left.dtype, boolean=left.boolean)
        for pair, value in terms.items()
    ]
    yield
    if not inputs:
        return Shares(four([None] * 4), shape, frozenset(), left.dtype, left.boolean)
    return summed(inputs, party.position)


def multiply_truncate(
    party: Party, left: Shares, right: Shares, kind: Product, drop: int, plus: Shares | None
) -> Protocol:
    """⌊(left · right + plus) / 2^drop⌋, or one more: two rounds (REP4-FUSED)."""
    shape = shape_of(left, right, kind)
    crossed = cross_terms(left, right, kind, party.position)
    known: dict[Pair, np.ndarray] = {pair: value for pair, value in crossed.items() if value is not None}
    if plus is not None:
        for pair in DIAGONAL:
            if party.position not in pair and pair[0] in plus.support:
                addend = plus.part(pair[0])
                known[pair] = known[pair] + addend if pair in known else addend
    lacking = [np.zeros(shape, np.uint64)]

    def term(pair: Pair) -> np.ndarray:
        return known.get(pair, lacking[0])

    a1, a2 = party.draw(2, shape), party.draw(2, shape)
    b1, b2 = party.draw(3, shape), party.draw(3, shape)
    mask = _truncation_mask(party, shape)
    me = party.position

    def send(sender: int, backup: int, receiver: int, pair: Pair, *masks: np.ndarray | None) -> np.ndarray | None:
        value = None
        if me in (sender, backup):
            value = term(pair)
            for each in masks:
                assert each is not None
                value = value + each
        return party.joint(sender, backup, receiver, value, shape, np.uint64)

    to_second = [
        send(3, 0, 2, (1, 2), a1),
        send(1, 3, 2, (0, 2), a2),
        send(0, 1, 2, (2, 3), mask, *_negated(me, a1, a2)),
    ]
    to_third = [
        send(2, 1, 3, (3, 0), b1),
        send(0, 2, 3, (1, 3), b2),
        send(1, 0, 3, (2, 3), mask, *_negated(me, b1, b2)),
    ]
    halves = _halves(party, mask, shape, drop)
    yield
    masked = None
    if me == 2:
        masked = _sum([term((0, 1)), term((3, 0)), term((1, 3)), *to_second])
    elif me == 3:
        masked = _sum([term((0, 1)), term((1, 2)), term((0, 2)), *to_third])
    return (yield from _unmask(party, masked, halves, shape, drop))


def truncate(party: Party, value: Shares, drop: int) -> Protocol:
    """⌊value / 2^drop⌋, or one more, for |value| < 2⁶²: two rounds (REP4-TRUNCATE)."""
    shape, me = value.shape, party.position
    mask = _truncation_mask(party, shape)
    lower = [None if mask is None else value.part(j) + mask for j in (2, 3)]
    to_second = party.joint(0, 1, 2, lower[0], shape, np.uint64)
    to_third = party.joint(1, 0, 3, lower[1], shape, np.uint64)
    halves = _halves(party, mask, shape, drop)
    yield
    masked = None
    if me == 2:
        masked = _sum([value.part(0), value.part(1), value.part(3), to_second])
    elif me == 3:
        masked = _sum([value.part(0), value.part(1), value.part(2), to_third])
    return (yield from _unmask(party, masked, halves, shape, drop))


def open_to_all(party: Party, value: Shares) -> Generator[None, None, np.ndarray]:
    """Every party learns the words: two holders of each component hand it to the one that lacks it; one round."""
    lacking: np.ndarray | None = None
    for receiver in range(4):
        sender, backup = (receiver + 1) % 4, (receiver + 2) % 4
        known = value.part(receiver) if party.position != receiver else None
        handed = party.joint(sender, backup, receiver, known, value.shape, np.uint64)
        if party.position == receiver:
            lacking = handed
    yield
    return _sum([lacking, *(value.part(j) for j in range(4) if j != party.position)])


# Truncation, from the masked value on. r = stream 2 + stream 3 is known to positions 0 and 1; positions 2 and 3 learn
# c = value + 2⁶² + r, which is uniform to them. Positions 0 and 1 learn the top bit of c under a flip s that only
# positions 2 and 3 know; its product with the top bit of r is made before c is known.


@dataclass(frozen=True, slots=True)
class _Halves:
    """What is shared beside the masked value.

    Attributes:
        low: (r mod 2⁶³) >> drop.
        top: r's top bit.
        flip: the bit s.
        flips: s in the clear, eight to a byte; None at positions 0 and 1.
    """

    low: Shares
    top: Shares
    flip: Shares
    flips: np.ndarray | None


def _truncation_mask(party: Party, shape: tuple[int, ...]) -> np.ndarray | None:
    second, third = party.draw(2, shape), party.draw(3, shape)
    if party.position < 2:
        assert second is not None
        assert third is not None
        return np.asarray(second + third)
    return None


def _carry_type(drop: int) -> Any:
    return np.uint32 if drop <= _NARROW_CARRY_DROP else np.uint64


def _low_half(words: np.ndarray, drop: int) -> np.ndarray:
    """(word mod 2⁶³) >> drop."""
    low = words & _LOW_63
    low >>= np.uint64(drop)
    return np.asarray(low)


def _halves(party: Party, mask: np.ndarray | None, shape: tuple[int, ...], drop: int) -> _Halves:
    carry, size, me = _carry_type(drop), _packed_size(shape), party.position
    zeroth, first = party.draw(0, size, np.uint8), party.draw(1, size, np.uint8)
    flips = zeroth ^ first if zeroth is not None and first is not None else None
    low, top, flip = None, None, None
    if me < 2:
        assert mask is not None
        low, top = _low_half(mask, drop), (mask >> np.uint64(63)).astype(carry)
    else:
        assert flips is not None
        flip = _unpacked(flips, shape).astype(carry)
    return _Halves(
        joint_input(party, LOWER, low, shape),
        joint_input(party, LOWER, top, shape, carry),
        joint_input(party, UPPER, flip, shape, carry),
        flips,
    )


def _unmask(party: Party, masked: np.ndarray | None, halves: _Halves, shape: tuple[int, ...], drop: int) -> Protocol:
    low, flipped, size = None, None, _packed_size(shape)
    if masked is not None:
        assert halves.flips is not None
        shifted = masked + np.uint64(1 << _OFFSET_BITS)
        low = _low_half(shifted, drop)
        flipped = np.packbits((shifted >> np.uint64(63)).astype(np.uint8).reshape(-1)) ^ halves.flips
    masked_low = joint_input(party, UPPER, low, shape)
    told = party.joint(2, 3, 0, flipped, size, np.uint8), party.joint(3, 2, 1, flipped, size, np.uint8)
    both = yield from multiply(party, halves.top, halves.flip)
    hidden = _unpacked(next(each for each in told if each is not None), shape)
    # The carry is hidden ⊕ (top ⊕ flip), with hidden public.
    other, shift = halves.top + halves.flip + _scaled(both, -2), np.uint64(63 - drop)
    carry = _carry_type(drop)
    sign = carry(1) - carry(2) * hidden.astype(carry)
    lifted = other.rearranged(lambda v: (v * sign).astype(np.uint64) << shift, np.uint64)
    result = masked_low + _scaled(halves.low, -1) + lifted
    offset = np.uint64((1 << 64) - (1 << (_OFFSET_BITS - drop)))
    return result + constant((hidden.astype(np.uint64) << shift) + offset, party.position)


def _packed_size(shape: tuple[int, ...]) -> tuple[int]:
    return (-(-prod(shape) // 8),)


def _unpacked(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(bits, count=prod(shape)).reshape(shape)


def _scaled(value: Shares, factor: int) -> Shares:
    bits = 8 * np.dtype(value.dtype).itemsize
    word = np.dtype(value.dtype).type(factor % (1 << bits))
    return value.rearranged(lambda v: v * word)


def _negated(position: int, *masks: np.ndarray | None) -> tuple[np.ndarray | None, ...]:
    return tuple(None if mask is None or position > 1 else np.negative(mask) for mask in masks)


def _sum(terms: list[np.ndarray | None]) -> np.ndarray:
    total = np.zeros((), np.uint64)
    for term in terms:
        assert term is not None
        total = total + term
    return np.asarray(total)
