"""The sign of shared words in at most four rounds (REP4-SIGN in docs/spec/rep4.md).

Positions 0 and 1 know a = x₂ + x₃, positions 2 and 3 know b = x₀ + x₁. Whether the lower 63 bits of a + b carry into
the top bit is the comparison ~a < b of two numbers, each known to two positions:

    round 1   they share, for every digit of four bits, which one it is (one bit of sixteen) and which are below it
    round 2   inner products say digit by digit "less" and "equal"; they are opened under one-time masks λ
    round 3   sixteen digits are joined to four, and opened under fresh masks
    round 4   four are joined to one bit, opened under the last mask

To join four digits is a polynomial in opened bits m = w ⊕ λ, which are public, and in products of up to four masks λ.
Those products depend on no data; they are computed in rounds 1 and 2, so that each join takes one round.
"""

from collections.abc import Generator
from math import prod
from typing import Final

import numpy as np

from koinon.privacy.rep4.arithmetic import LOWER, UPPER, Protocol, joint_input, multiply, truncate
from koinon.privacy.rep4.bytewise import masked_sign_of_few
from koinon.privacy.rep4.joining import (
    EQUAL_SUM,
    GROUPS,
    LESS_SUM,
    LOWER_SUM,
    UPPER_SUM,
    at_once,
    drawn,
    evaluated,
    mask_products,
    masked_top,
    opened,
    opened_product,
    top_half,
)
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.products import cross_terms
from koinon.privacy.rep4.ring import transpose_nibbles
from koinon.privacy.rep4.shares import Shares, constant
from koinon.privacy.secret import Product, together

_DIGITS: Final = 16
_VALUES: Final = 16
FEW: Final = 512
"""Narrow words up to which a round less is worth twice the bytes."""
_NARROW: Final = 2.0**31 - 2
_MOST_DROPPED: Final = 32
"""Low bits: of what is left at least 32 must be right, because that is where a narrow word has its top bit."""
_MINUS_TWO: Final = np.uint64((1 << 64) - 2)


def _bytes_to_digits(entry: list[int]) -> np.ndarray:
    """For every byte, the 16-bit entries of its two nibbles in one word, the lower one first."""
    return np.array([entry[byte & 15] | entry[byte >> 4] << 16 for byte in range(256)], "<u4")


_WHICH: Final = _bytes_to_digits([1 << digit for digit in range(_VALUES)])
_BELOW: Final = _bytes_to_digits([(1 << digit) - 1 for digit in range(_VALUES)])


def negative(party: Party, value: Shares, limit: float = 2.0**63, drop: int = 0) -> Protocol:
    """1 where a word is negative, else 0, as an arithmetic share: four rounds (REP4-SIGN, REP4-NARROW).

    Words take 284 bytes each; two that are below 2³¹ in size share the digits of one and take 168. Up to ``FEW`` of
    these take three rounds and 329 bytes each (REP4-FEW).

    Args:
        limit: no word is larger in absolute value.
        drop: how many low bits may be left out to make words narrow, of which at most 32 are: a word from 0 to
            2^(drop + 1) then counts as negative or not, by chance.
    """
    carry, top, _ = yield from _masked_sign(party, value, limit, drop, None)
    return _unmasked(party, top, carry)


def positive_part(party: Party, value: Shares, limit: float, ignored: int, drop: int) -> Protocol:
    """⌊value / 2^drop⌋, or one more, where a word is not negative, else 0: as many rounds as the sign (REP4-POSITIVE).

    Args:
        limit: no word is larger in absolute value; below 2⁶² if ``drop`` is not 0.
        ignored: as ``drop`` of ``negative``: a word from 0 to 2^(ignored + 1) may also become 0.
    """
    kept = truncate(party, value, drop) if drop else at_once(value)
    carry, _, chosen = yield from _masked_sign(party, value, limit, ignored, kept)
    assert chosen is not None
    number, product = chosen
    # number · (1 − sign) with sign = carry + (1 − 2 · carry) · top.
    others = np.uint64(1) - carry
    sign = np.uint64(1) | carry * _MINUS_TWO
    result: Shares = number.rearranged(lambda part: part * others) + product.rearranged(lambda part: -(part * sign))
    return result


def _unmasked(party: Party, top: Shares, carry: np.ndarray) -> Shares:
    """carry ⊕ top = carry + (1 − 2 · carry) · top, with the carry public."""
    sign = np.uint64(1) | carry * _MINUS_TWO
    signed: Shares = top.rearranged(lambda part: part * sign)
    return signed + constant(carry, party.position)


def _masked_sign(
    party: Party, value: Shares, limit: float, drop: int, kept: Protocol | None
) -> Generator[None, None, tuple[np.ndarray, Shares, tuple[Shares, Shares] | None]]:
    """The public bit and the shared one whose XOR says whether a word is negative.

    Args:
        kept: computes, in at most two rounds, numbers that are multiplied by the shared bit in the third.

    Returns:
        The bits; and ``kept``'s numbers with those products, or None.
    """
    me, shape, drop = party.position, value.shape, min(drop, _MOST_DROPPED)
    total = value.part(2) + value.part(3) if me < 2 else value.part(0) + value.part(1)
    narrow = limit / 2.0**drop < _NARROW
    if narrow and prod(shape) <= FEW:
        return (yield from masked_sign_of_few(party, (total >> np.uint64(drop)).astype(np.uint32), kept))
    if narrow:
        words = np.zeros(-(-total.size // 2) * 2, np.uint32)
        words[: total.size] = (total >> np.uint64(drop)).reshape(-1)
        top_bit = words[: total.size].reshape(shape) >> np.uint32(31)
        lanes_shape: tuple[int, ...] = (len(words) // 2,)
        number = ((~words if me < 2 else words) << np.uint32(1)).astype("<u4").view("<u8")
    else:
        top_bit, lanes_shape = total >> np.uint64(63), shape
        number = (~total if me < 2 else total) << np.uint64(1)
    digit_masks = drawn(party, (2, 2, *lanes_shape), np.uint16)
    join_masks = drawn(party, lanes_shape)
    bit_mask = {j: mask & np.uint8(1) for j, mask in drawn(party, shape).items()}
    lanes = {j: _lanes(pads[0] ^ pads[1], join_masks[j]) for j, pads in digit_masks.items()}
    digits, products, top, numbers = yield from together(
        _compared_digits(party, number, digit_masks, lanes_shape),
        mask_products(party, lanes, lanes_shape),
        masked_top(party, top_half(party, bit_mask, top_bit.astype(np.uint64)), shape),
        at_once(None) if kept is None else kept,
    )
    joined = _join(digits, products, np.uint8(0x0F))
    both, product = yield from together(
        opened(party, {j: share ^ join_masks[j] for j, share in joined.items()}, lanes_shape),
        at_once(None) if numbers is None else multiply(party, top, numbers),
    )
    inputs = _bits(both.reshape(lanes_shape)) << np.uint8(GROUPS)
    if narrow:
        halves = [evaluated(half, inputs, products, np.uint8(0x10)) for half in (LOWER_SUM, UPPER_SUM)]
        last = {j: np.stack([half[j] for half in halves], 1).reshape(-1)[: total.size].reshape(shape) for j in products}
    else:
        last = evaluated(LESS_SUM, inputs, products, np.uint8(0x10))
    hidden = {j: (share >> np.uint8(GROUPS)) ^ bit_mask[j] for j, share in last.items()}
    carry = np.asarray((yield from opened(party, hidden, shape)), np.uint64)
    return carry, top, None if numbers is None else (numbers, product)


# Rounds 1 and 2.


def _compared_digits(
    party: Party, number: np.ndarray, pads: dict[int, np.ndarray], shape: tuple[int, ...]
) -> Generator[None, None, np.ndarray]:
    """(8, *shape) bytes, public: g₀ … g₃, p₀ … p₃ of every group, each under its mask."""
    me = party.position
    # The top bits were shifted out. Digit 4k + j goes to place 4j + k.
    places = np.ascontiguousarray(transpose_nibbles(number), "<u8").reshape(-1).view(np.uint8)
    spread = (*shape, _DIGITS)
    mine = (_WHICH if me < 2 else _BELOW).take(places).view("<u2").reshape(spread)
    which = joint_input(party, LOWER, mine if me < 2 else None, spread, np.uint16, boolean=True)
    below = joint_input(party, UPPER, mine if me > 1 else None, spread, np.uint16, boolean=True)
    yield
    # Which values are below a digit also says which one it is: the first that is not.
    ones = constant(np.broadcast_to(np.uint16(1), spread), me)
    equal = below.rearranged(lambda part: part ^ (part << np.uint16(1))) ^ ones
    less, same = (cross_terms(which, other, Product.ELEMENTWISE, me) for other in (below, equal))
    terms = {
        pair: np.stack([_parities(less[pair]), _parities(same[pair])]) if pair in less and me not in pair else None
        for pair in less
    }
    opened = yield from opened_product(party, terms, pads, (2, *shape))
    return np.concatenate([_nibbles(opened[0]), _nibbles(opened[1])])


def _parities(words: np.ndarray | None) -> np.ndarray:
    """(…, 16) words → the parity of each, as the 16 bits of one word."""
    assert words is not None
    odd = np.bitwise_count(words) & np.uint8(1)
    return np.packbits(odd.reshape(-1), bitorder="little").view("<u2").reshape(words.shape[:-1])


# Rounds 3 and 4.


def _join(opened: np.ndarray, products: dict[int, np.ndarray], lanes: np.uint8) -> dict[int, np.ndarray]:
    """The components held of "less" and, shifted up by four bits, "equal" of every group in ``lanes``."""
    less = evaluated(LESS_SUM, opened, products, lanes)
    equal = evaluated(EQUAL_SUM, opened, products, lanes)
    return {j: less[j] | (equal[j] << np.uint8(GROUPS)) for j in less}


def _lanes(digit_masks: np.ndarray, join_masks: np.ndarray) -> np.ndarray:
    """(8, …) bytes of masks g₀ … g₃, p₀ … p₃: bits 0 to 3 for the groups of digits, bit 4 for the last join."""
    low = np.concatenate([_nibbles(digit_masks[0]), _nibbles(digit_masks[1])])
    return np.asarray(low | _bits(join_masks) << np.uint8(GROUPS))


def _nibbles(words: np.ndarray) -> np.ndarray:
    """(…) words of 16 bits → (4, …) bytes, nibble j in row j."""
    places = np.arange(0, 16, 4, dtype=np.uint16).reshape(-1, *(1,) * words.ndim)
    return np.asarray((words >> places).astype(np.uint8) & np.uint8(0x0F))


def _bits(values: np.ndarray) -> np.ndarray:
    """(…) bytes → (8, …), bit k in row k."""
    places = np.arange(8, dtype=np.uint8).reshape(-1, *(1,) * values.ndim)
    return np.asarray((values >> places) & np.uint8(1))
