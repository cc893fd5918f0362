"""The sign of a few narrow words in three rounds (REP4-FEW in docs/spec/rep4.md).

As in ``comparison``, with digits of eight bits: 31 bits are four digits, which one join compares. A digit is then one
bit of 256, which is why this is for few words. Everything that is one bit of a word is kept eight words to a byte.
"""

from collections.abc import Generator
from math import prod
from typing import Final

import numpy as np

from koinon.privacy.rep4.arithmetic import LOWER, UPPER, Protocol, joint_input, multiply
from koinon.privacy.rep4.joining import (
    LESS_SUM,
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
from koinon.privacy.rep4.shares import Shares, constant, joined
from koinon.privacy.secret import Product, together

_DIGITS: Final = 4
_VALUES: Final = 256
_INPUTS: Final = 2 * _DIGITS
"""Of a join: "less" and "equal" of every digit."""
_EVERY_BIT: Final = np.uint8(0xFF)
_WHICH: Final = np.packbits(np.eye(_VALUES, dtype=np.uint8), 1, "little").view("<u8")
_BELOW: Final = np.packbits(np.tri(_VALUES, k=-1, dtype=np.uint8), 1, "little").view("<u8")
"""(256, 4) words: of each value, its unit vector and the values below it."""
_FIRST: Final = np.array([1, 0, 0, 0], np.uint64)
"""The unit vector of 0."""


def masked_sign_of_few(
    party: Party, words: np.ndarray, kept: Protocol | None
) -> Generator[None, None, tuple[np.ndarray, Shares, tuple[Shares, Shares] | None]]:
    """As ``comparison.masked_sign``: three rounds.

    Args:
        words: (…) 32-bit words: a, the sum of components 2 and 3, at positions 0 and 1; b, of 0 and 1, at the others.
        kept: computes, in at most two rounds, numbers that are multiplied by the shared bit in the third.
    """
    me, shape, count = party.position, words.shape, words.size
    packed = -(-count // 8)
    number = ((~words if me < 2 else words) << np.uint32(1)).astype("<u4").reshape(-1)
    pads = drawn(party, (2, _INPUTS, packed))
    bit_mask = drawn(party, (packed,))
    half = top_half(
        party,
        {j: np.unpackbits(mask, count=count, bitorder="little").reshape(shape) for j, mask in bit_mask.items()},
        (words >> np.uint32(31)).astype(np.uint64),
    )
    digits, products, top, numbers = yield from together(
        _compared_digits(party, number, pads),
        mask_products(party, {j: each[0] ^ each[1] for j, each in pads.items()}, (packed,)),
        masked_top(party, half, shape),
        at_once(None) if kept is None else kept,
    )
    less = evaluated(LESS_SUM, digits, products, _EVERY_BIT)
    hidden, product = yield from together(
        opened(party, {j: share ^ bit_mask[j] for j, share in less.items()}, (packed,)),
        at_once(None) if numbers is None else multiply(party, top, numbers),
    )
    carry = np.unpackbits(hidden, count=count, bitorder="little").reshape(shape).astype(np.uint64)
    return carry, top, None if numbers is None else (numbers, product)


def _compared_digits(
    party: Party, number: np.ndarray, pads: dict[int, np.ndarray]
) -> Generator[None, None, np.ndarray]:
    """(8, ⌈n/8⌉) bytes, public: g₀ … g₃, p₀ … p₃ of every word, each under its mask; two rounds."""
    me = party.position
    spread = (len(number), _DIGITS, len(_FIRST))
    mine = (_WHICH if me < 2 else _BELOW).take(number.view(np.uint8), 0).reshape(spread)
    which = joint_input(party, LOWER, mine if me < 2 else None, spread, boolean=True)
    below = joint_input(party, UPPER, mine if me > 1 else None, spread, boolean=True)
    yield
    # Which values are below a digit also says which one it is: the first that is not.
    equal = below.rearranged(_with_the_next) ^ constant(np.broadcast_to(_FIRST, spread), me)
    crossed = cross_terms(which, joined([below, equal], 0, me, stack=True), Product.ELEMENTWISE, me)
    terms = {pair: None if words is None else _parities(words) for pair, words in crossed.items()}
    return (yield from opened_product(party, terms, pads, (_INPUTS, -(-len(number) // 8))))


def _with_the_next(part: np.ndarray) -> np.ndarray:
    """v ⊕ 2v of numbers of 256 bits, modulo 2²⁵⁶, in four words each."""
    doubled = part << np.uint64(1)
    doubled[..., 1:] |= part[..., :-1] >> np.uint64(63)
    doubled ^= part
    return doubled


def _parities(words: np.ndarray) -> np.ndarray:
    """(2, n, 4, 4) words → the parity of each four, as (8, ⌈n/8⌉) bytes."""
    odd = np.bitwise_count(np.bitwise_xor.reduce(words, -1)) & np.uint8(1)
    rows = odd.transpose(0, 2, 1).reshape(_INPUTS, prod(words.shape[1:2]))
    return np.packbits(rows, 1, "little")
