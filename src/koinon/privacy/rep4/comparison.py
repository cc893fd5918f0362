"""The sign of shared words in four rounds (REP4-SIGN in docs/spec/rep4.md).

Positions 0 and 1 know a = x₂ + x₃, positions 2 and 3 know b = x₀ + x₁. Whether the lower 63 bits of a + b carry into
the top bit is the comparison ~a < b of two numbers, each known to two positions:

    round 1   they share, for every digit of four bits, which one it is (one bit of sixteen) and which are below it
    round 2   inner products say digit by digit "less" and "equal"; they are opened under one-time masks λ
    round 3   sixteen digits are joined to four, and opened under fresh masks
    round 4   four are joined to one bit, opened under the last mask

To join four digits is a polynomial in opened bits m = w ⊕ λ, which are public, and in products of up to four masks λ.
Those products depend on no data; they are computed in rounds 1 and 2, so that each join takes one round.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from koinon.privacy.rep4.arithmetic import LOWER, UPPER, Protocol, joint_input, multiply, truncate
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.products import Pair, cross_terms
from koinon.privacy.rep4.ring import transpose_nibbles
from koinon.privacy.rep4.shares import ROUTES, Shares, constant, four
from koinon.privacy.secret import Product, together
from koinon.wire.committee import POSITIONS

_DIGITS: Final = 16
_VALUES: Final = 16
_GROUPS: Final = 4
"""Digits that are joined at once; bit k of a nibble belongs to group k."""

Monomial = tuple[str, ...]
"""Product of inputs of one join: ``g3`` is "less" of its highest digit, ``p3`` is "equal"."""

_INPUTS: Final = tuple(f"{kind}{digit}" for kind in "gp" for digit in range(_GROUPS))
_LESS: Final[tuple[Monomial, ...]] = (("g3",), ("p3", "g2"), ("p3", "p2", "g1"), ("p3", "p2", "p1", "g0"))
_EQUAL: Final[Monomial] = ("p3", "p2", "p1", "p0")
_FIRST: Final[tuple[Monomial, ...]] = (
    ("p3", "p2"),
    ("p3", "p1"),
    ("p2", "p1"),
    ("p3", "g2"),
    ("p2", "g1"),
    ("p3", "g1"),
    ("p1", "g0"),
    ("p2", "g0"),
    ("p3", "g0"),
    ("p1", "p0"),
    ("p2", "p0"),
    ("p3", "p0"),
)
"""Products of two masks, made in round 1."""
_SECOND: Final[tuple[tuple[Monomial, Monomial], ...]] = (
    (("p3", "p2"), ("p1",)),
    (("p3", "p2"), ("g1",)),
    (("p3", "p2"), ("g0",)),
    (("p3", "p2"), ("p0",)),
    (("p3", "p1"), ("g0",)),
    (("p3", "p1"), ("p0",)),
    (("p2", "p1"), ("g0",)),
    (("p2", "p1"), ("p0",)),
    (("p3", "p2"), ("p1", "g0")),
    (("p3", "p2"), ("p1", "p0")),
)
"""Products of three and four masks, made in round 2 of those of round 1."""


_PRODUCTS: Final = [frozenset(name) for name in [*((i,) for i in _INPUTS), *_FIRST, *(a + b for a, b in _SECOND)]]
"""Which masks are multiplied in each row of what ``_products`` returns."""
_CHUNK: Final = 1 << 14
"""Words whose sums of monomials are made at once: what they need stays in the processor's cache."""


@dataclass(frozen=True)
class _Sum:
    """⊕ over monomials of Π (m ⊕ λ) = ⊕ over subsets S of Π_S m · Π_rest λ, as tables of rows.

    Attributes:
        subsets: for every S but the empty one, the row of S without its last input, and that input.
        factors, rests: for every term with a mask in it, the rows of S and of its product of masks.
        public: rows of the terms without a mask.
    """

    subsets: tuple[tuple[int, int], ...]
    factors: np.ndarray
    rests: np.ndarray
    public: np.ndarray


def _sum_of(monomials: Sequence[Monomial]) -> _Sum:
    rows: dict[Monomial, int] = {(): 0}
    subsets, terms, public = [], [], []
    for monomial in monomials:
        for subset in range(1 << len(monomial)):
            chosen = tuple(name for place, name in enumerate(monomial) if subset >> place & 1)
            if chosen not in rows:
                subsets.append((rows[chosen[:-1]], _INPUTS.index(chosen[-1])))
                rows[chosen] = len(rows)
            if len(chosen) == len(monomial):
                public.append(rows[chosen])
            else:
                terms.append((rows[chosen], _PRODUCTS.index(frozenset(monomial) - frozenset(chosen))))
    factors, rests = np.array(terms).T
    return _Sum(tuple(subsets), factors, rests, np.array(public))


_LESS_SUM: Final = _sum_of(_LESS)
_EQUAL_SUM: Final = _sum_of([_EQUAL])
_LOWER_SUM: Final = _sum_of([("g1",), ("p1", "g0")])
_UPPER_SUM: Final = _sum_of([("g3",), ("p3", "g2")])
"""Of the two narrow words in one place, each has two of the four groups."""
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

    Words take 284 bytes each; two that are below 2³¹ in size share the digits of one and take 168.

    Args:
        limit: no word is larger in absolute value.
        drop: how many low bits may be left out to make words narrow, of which at most 32 are: a word from 0 to
            2^(drop + 1) then counts as negative or not, by chance.
    """
    carry, top, _ = yield from _masked_sign(party, value, limit, drop, None)
    return _unmasked(party, top, carry)


def positive_part(party: Party, value: Shares, limit: float, ignored: int, drop: int) -> Protocol:
    """⌊value / 2^drop⌋, or one more, where a word is not negative, else 0: four rounds (REP4-POSITIVE).

    Args:
        limit: no word is larger in absolute value; below 2⁶² if ``drop`` is not 0.
        ignored: as ``drop`` of ``negative``: a word from 0 to 2^(ignored + 1) may also become 0.
    """
    kept = truncate(party, value, drop) if drop else _at_once(value)
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
    if narrow:
        words = np.zeros(-(-total.size // 2) * 2, np.uint32)
        words[: total.size] = (total >> np.uint64(drop)).reshape(-1)
        top_bit = words[: total.size].reshape(shape) >> np.uint32(31)
        lanes_shape: tuple[int, ...] = (len(words) // 2,)
        number = ((~words if me < 2 else words) << np.uint32(1)).astype("<u4").view("<u8")
    else:
        top_bit, lanes_shape = total >> np.uint64(63), shape
        number = (~total if me < 2 else total) << np.uint64(1)
    digit_masks = _drawn_pads(party, (2, 2, *lanes_shape), np.uint16)
    join_masks = _drawn(party, lanes_shape)
    bit_mask = {j: mask & np.uint8(1) for j, mask in _drawn(party, shape).items()}
    lanes = {j: _lanes(pads[0] ^ pads[1], join_masks[j]) for j, pads in digit_masks.items()}
    digits, products, top, numbers = yield from together(
        _compared_digits(party, number, digit_masks, lanes_shape),
        _products(party, lanes, lanes_shape),
        _masked_top(party, top_bit.astype(np.uint64), bit_mask, shape),
        _at_once(None) if kept is None else kept,
    )
    joined = _join(digits, products, np.uint8(0x0F))
    both, product = yield from together(
        _opened(party, {j: share ^ join_masks[j] for j, share in joined.items()}, lanes_shape),
        _at_once(None) if numbers is None else multiply(party, top, numbers),
    )
    inputs = _bits(both.reshape(lanes_shape)) << np.uint8(_GROUPS)
    if narrow:
        halves = [_evaluated(half, inputs, products, np.uint8(0x10)) for half in (_LOWER_SUM, _UPPER_SUM)]
        last = {j: np.stack([half[j] for half in halves], 1).reshape(-1)[: total.size].reshape(shape) for j in products}
    else:
        last = _evaluated(_LESS_SUM, inputs, products, np.uint8(0x10))
    hidden = {j: (share >> np.uint8(_GROUPS)) ^ bit_mask[j] for j, share in last.items()}
    carry = np.asarray((yield from _opened(party, hidden, shape)), np.uint64)
    return carry, top, None if numbers is None else (numbers, product)


def _at_once(value: Any) -> Generator[None, None, Any]:
    yield from ()
    return value


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
    opened = yield from _opened_product(party, terms, pads, (2, *shape))
    return np.concatenate([_nibbles(opened[0]), _nibbles(opened[1])])


def _parities(words: np.ndarray | None) -> np.ndarray:
    """(…, 16) words → the parity of each, as the 16 bits of one word."""
    assert words is not None
    odd = np.bitwise_count(words) & np.uint8(1)
    return np.packbits(odd.reshape(-1), bitorder="little").view("<u2").reshape(words.shape[:-1])


def _opened_product(
    party: Party, terms: dict[Pair, np.ndarray | None], pads: dict[int, np.ndarray], shape: tuple[int, ...]
) -> Generator[None, None, np.ndarray]:
    """The XOR of all terms and of the masks λⱼ = pads[j][0] ⊕ pads[j][1], for everybody; one round (REP4-MASKED).

    Each position lacks two of the four terms; it is sent each of them under its own pad, which it does not know.
    """
    me = party.position
    received = []
    for receiver in POSITIONS:
        for number, pair in enumerate(pair for pair in terms if receiver in pair):
            sender, backup = ROUTES[pair].sender, ROUTES[pair].backup
            if receiver == pair[0]:
                sender, backup = backup, sender
            known = terms[pair]
            value = None
            if me in (sender, backup):
                assert known is not None
                value = known ^ pads[receiver][number]
            handed = party.joint(sender, backup, receiver, value, shape, np.uint16)
            if me == receiver:
                assert handed is not None
                received.append(handed)
    yield
    own = [term for pair, term in terms.items() if me not in pair and term is not None]
    return _xor([*received, *own, *(pad[k] for pad in pads.values() for k in (0, 1))])


def _masked_top(party: Party, top_bit: np.ndarray, bit_mask: dict[int, np.ndarray], shape: tuple[int, ...]) -> Protocol:
    """a₆₃ ⊕ b₆₃ ⊕ the last mask, as a number: two rounds."""
    me = party.position
    mine = (2, 3) if me < 2 else (0, 1)
    half = (bit_mask[mine[0]] ^ bit_mask[mine[1]]).astype(np.uint64) ^ top_bit
    upper = joint_input(party, UPPER, half if me > 1 else None, shape)
    lower = joint_input(party, LOWER, half if me < 2 else None, shape)
    yield
    both = yield from multiply(party, upper, lower)
    return upper + lower + both.rearranged(lambda part: part * np.uint64((1 << 64) - 2))


def _products(
    party: Party, lanes: dict[int, np.ndarray], shape: tuple[int, ...]
) -> Generator[None, None, dict[int, np.ndarray]]:
    """The products of masks that joins need (``_PRODUCTS``), the components of them that we hold: two rounds."""
    parts = [lanes.get(j) for j in POSITIONS]
    single = Shares(four(parts), (len(_INPUTS), *shape), dtype=np.uint8, boolean=True)

    def chosen(names: list[str]) -> Shares:
        places = [_INPUTS.index(name) for name in names]
        return single.rearranged(lambda part: part[places])

    first = yield from multiply(party, chosen([a for a, _ in _FIRST]), chosen([b for _, b in _FIRST]))
    left = first.rearranged(lambda part: part[[_FIRST.index(a) for a, _ in _SECOND]])
    rights = [b for _, b in _SECOND]
    right = Shares(
        four(
            [
                None
                if (ones := single.parts[j]) is None or (twos := first.parts[j]) is None
                else np.stack([ones[_INPUTS.index(b[0])] if len(b) == 1 else twos[_FIRST.index(b)] for b in rights])
                for j in POSITIONS
            ]
        ),
        left.shape,
        dtype=np.uint8,
        boolean=True,
    )
    second = yield from multiply(party, left, right)
    return {
        j: np.concatenate([single.part(j), first.part(j), second.part(j)]) for j in POSITIONS if j != party.position
    }


# Rounds 3 and 4.


def _join(opened: np.ndarray, products: dict[int, np.ndarray], lanes: np.uint8) -> dict[int, np.ndarray]:
    """The components held of "less" and, shifted up by four bits, "equal" of every group in ``lanes``."""
    less = _evaluated(_LESS_SUM, opened, products, lanes)
    equal = _evaluated(_EQUAL_SUM, opened, products, lanes)
    return {j: less[j] | (equal[j] << np.uint8(_GROUPS)) for j in less}


def _evaluated(
    wanted: _Sum, opened: np.ndarray, products: dict[int, np.ndarray], lanes: np.uint8
) -> dict[int, np.ndarray]:
    """The components held of a sum of monomials; what is public is component 0."""
    shape = opened.shape[1:]
    public = opened.reshape(len(_INPUTS), -1)
    rows = {j: each.reshape(len(_PRODUCTS), -1) for j, each in products.items()}
    total = {j: np.empty(prod(shape), np.uint8) for j in products}
    for start in range(0, prod(shape), _CHUNK):
        here = slice(start, start + _CHUNK)
        inputs = public[:, here]
        known = np.empty((1 + len(wanted.subsets), inputs.shape[1]), np.uint8)
        known[0] = lanes
        for row, (without, last) in enumerate(wanted.subsets, 1):
            np.bitwise_and(known[without], inputs[last], out=known[row])
        factors = known[wanted.factors]
        for j, each in rows.items():
            terms = each[wanted.rests, here]
            terms &= factors
            np.bitwise_xor.reduce(terms, 0, out=total[j][here])
        if 0 in total:
            total[0][here] ^= np.bitwise_xor.reduce(known[wanted.public], 0)
    return {j: each.reshape(shape) for j, each in total.items()}


def _opened(
    party: Party, components: dict[int, np.ndarray], shape: tuple[int, ...]
) -> Generator[None, None, np.ndarray]:
    """Every position learns the XOR of all components: two holders of each hand it to the one that lacks it."""
    received: np.ndarray | None = None
    for receiver in POSITIONS:
        sender, backup = (receiver + 1) % 4, (receiver + 2) % 4
        handed = party.joint(sender, backup, receiver, components.get(receiver), shape, np.uint8)
        if party.position == receiver:
            received = handed
    yield
    assert received is not None
    return _xor([received, *components.values()])


# Masks: λⱼ is drawn by all but position j.


def _drawn_pads(party: Party, shape: tuple[int, ...], dtype: type[np.uint16]) -> dict[int, np.ndarray]:
    drawn = {j: party.draw(j, shape, dtype) for j in POSITIONS}
    return {j: pads for j, pads in drawn.items() if pads is not None}


def _drawn(party: Party, shape: tuple[int, ...]) -> dict[int, np.ndarray]:
    drawn = {j: party.draw(j, shape, np.uint8) for j in POSITIONS}
    return {j: mask for j, mask in drawn.items() if mask is not None}


def _lanes(digit_masks: np.ndarray, join_masks: np.ndarray) -> np.ndarray:
    """(8, …) bytes of masks g₀ … g₃, p₀ … p₃: bits 0 to 3 for the groups of digits, bit 4 for the last join."""
    low = np.concatenate([_nibbles(digit_masks[0]), _nibbles(digit_masks[1])])
    return np.asarray(low | _bits(join_masks) << np.uint8(_GROUPS))


def _nibbles(words: np.ndarray) -> np.ndarray:
    """(…) words of 16 bits → (4, …) bytes, nibble j in row j."""
    places = np.arange(0, 16, 4, dtype=np.uint16).reshape(-1, *(1,) * words.ndim)
    return np.asarray((words >> places).astype(np.uint8) & np.uint8(0x0F))


def _bits(values: np.ndarray) -> np.ndarray:
    """(…) bytes → (8, …), bit k in row k."""
    places = np.arange(8, dtype=np.uint8).reshape(-1, *(1,) * values.ndim)
    return np.asarray((values >> places) & np.uint8(1))


def _xor(terms: list[np.ndarray]) -> np.ndarray:
    total: np.ndarray = terms[0] ^ terms[1]
    for term in terms[2:]:
        np.bitwise_xor(total, term, out=total)
    return total
