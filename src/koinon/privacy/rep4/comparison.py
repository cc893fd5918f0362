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

from collections.abc import Generator
from typing import Final

import numpy as np

from koinon.privacy.rep4.arithmetic import LOWER, UPPER, Protocol, joint_input, multiply
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


def _bytes_to_digits(entry: list[int]) -> np.ndarray:
    """For every byte, the 16-bit entries of its two nibbles in one word, the lower one first."""
    return np.array([entry[byte & 15] | entry[byte >> 4] << 16 for byte in range(256)], "<u4")


_WHICH: Final = _bytes_to_digits([1 << digit for digit in range(_VALUES)])
_BELOW: Final = _bytes_to_digits([(1 << digit) - 1 for digit in range(_VALUES)])


def negative(party: Party, value: Shares) -> Protocol:
    """The top bit of every word as an arithmetic share of 0 or 1: four rounds, 284 bytes a word (REP4-SIGN)."""
    shape, me = value.shape, party.position
    total = value.part(2) + value.part(3) if me < 2 else value.part(0) + value.part(1)
    digit_masks = _drawn_pads(party, (2, 2, *shape), np.uint16)
    join_masks = _drawn(party, shape)
    bit_mask = {j: mask & np.uint8(1) for j, mask in _drawn(party, shape).items()}
    lanes = {j: _lanes(pads[0] ^ pads[1], join_masks[j]) for j, pads in digit_masks.items()}
    digits, products, top = yield from together(
        _compared_digits(party, total, digit_masks, shape),
        _products(party, lanes, shape),
        _masked_top(party, total, bit_mask, shape),
    )
    joined = _join(party, digits, products, np.uint8(0x0F))
    both = (yield from _opened(party, {j: share ^ join_masks[j] for j, share in joined.items()}, shape)).reshape(shape)
    inputs = np.stack([_bits(both, k) << np.uint8(_GROUPS) for k in range(2 * _GROUPS)])
    last = _join(party, inputs, products, np.uint8(0x10), less_only=True)
    hidden = {j: (share >> np.uint8(_GROUPS)) ^ bit_mask[j] for j, share in last.items()}
    carry = np.asarray((yield from _opened(party, hidden, shape)), np.uint64)
    # carry ⊕ top = carry + (1 − 2 · carry) · top, with the carry public.
    sign = np.uint64(1) | carry * np.uint64((1 << 64) - 2)
    signed: Shares = top.rearranged(lambda part: part * sign)
    return signed + constant(carry, me)


# Rounds 1 and 2.


def _compared_digits(
    party: Party, total: np.ndarray, pads: dict[int, np.ndarray], shape: tuple[int, ...]
) -> Generator[None, None, np.ndarray]:
    """(8, *shape) bytes, public: g₀ … g₃, p₀ … p₃ of every group, each under its mask."""
    me = party.position
    # Only 63 bits are compared: the top one is shifted out. Digit 4k + j goes to place 4j + k.
    number = transpose_nibbles((~total if me < 2 else total) << np.uint64(1))
    places = np.ascontiguousarray(number, "<u8").reshape(-1).view(np.uint8)
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


def _masked_top(party: Party, total: np.ndarray, bit_mask: dict[int, np.ndarray], shape: tuple[int, ...]) -> Protocol:
    """a₆₃ ⊕ b₆₃ ⊕ the last mask, as a number: two rounds."""
    me = party.position
    mine = (2, 3) if me < 2 else (0, 1)
    half = (bit_mask[mine[0]] ^ bit_mask[mine[1]]).astype(np.uint64) ^ (total >> np.uint64(63))
    upper = joint_input(party, UPPER, half if me > 1 else None, shape)
    lower = joint_input(party, LOWER, half if me < 2 else None, shape)
    yield
    both = yield from multiply(party, upper, lower)
    return upper + lower + both.rearranged(lambda part: part * np.uint64((1 << 64) - 2))


def _products(
    party: Party, lanes: dict[int, np.ndarray], shape: tuple[int, ...]
) -> Generator[None, None, dict[frozenset[str], dict[int, np.ndarray]]]:
    """The products of masks that joins need, by their factors, and of each the components held: two rounds."""
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
    names = [*((name,) for name in _INPUTS), *_FIRST, *(a + b for a, b in _SECOND)]
    held = [j for j in POSITIONS if j != party.position]
    rows = {j: np.concatenate([single.part(j), first.part(j), second.part(j)]) for j in held}
    return {frozenset(name): {j: rows[j][place] for j in held} for place, name in enumerate(names)}


# Rounds 3 and 4.


def _join(
    party: Party,
    opened: np.ndarray,
    products: dict[frozenset[str], dict[int, np.ndarray]],
    lanes: np.uint8,
    *,
    less_only: bool = False,
) -> dict[int, np.ndarray]:
    """The components held of "less" and, shifted up by four bits, "equal" of every group in ``lanes``."""
    public = dict(zip(_INPUTS, opened, strict=True))
    less = _sum_of_monomials(party, _LESS, public, products, lanes)
    if less_only:
        return less
    equal = _sum_of_monomials(party, (_EQUAL,), public, products, lanes)
    return {j: less[j] | (equal[j] << np.uint8(_GROUPS)) for j in less}


def _sum_of_monomials(
    party: Party,
    monomials: tuple[Monomial, ...],
    public: dict[str, np.ndarray],
    products: dict[frozenset[str], dict[int, np.ndarray]],
    lanes: np.uint8,
) -> dict[int, np.ndarray]:
    """⊕ over monomials of Π (m ⊕ λ) = ⊕ over subsets S of Π_S m · Π_rest λ, in every component held."""
    held = [j for j in POSITIONS if j != party.position]
    first = public[_INPUTS[0]]
    total = {j: np.zeros_like(first) for j in held}
    known: dict[Monomial, np.ndarray] = {(): np.broadcast_to(lanes, first.shape)}
    scratch = np.empty_like(first)
    for monomial in monomials:
        for subset in range(1 << len(monomial)):
            chosen = tuple(name for place, name in enumerate(monomial) if subset >> place & 1)
            if chosen not in known:
                known[chosen] = known[chosen[:-1]] & public[chosen[-1]]
            factor = known[chosen]
            if len(chosen) == len(monomial):
                if 0 in total:
                    np.bitwise_xor(total[0], factor, out=total[0])
                continue
            rest = products[frozenset(monomial) - frozenset(chosen)]
            for j in held:
                np.bitwise_and(rest[j], factor, out=scratch)
                np.bitwise_xor(total[j], scratch, out=total[j])
    return total


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
    high = np.stack([_bits(join_masks, k) << np.uint8(_GROUPS) for k in range(2 * _GROUPS)])
    return low | high


def _nibbles(words: np.ndarray) -> np.ndarray:
    """(…) words of 16 bits → (4, …) bytes, nibble j in row j."""
    return np.stack([((words >> np.uint16(4 * j)) & np.uint16(0x0F)).astype(np.uint8) for j in range(_GROUPS)])


def _bits(values: np.ndarray, place: int) -> np.ndarray:
    return np.asarray((values >> np.uint8(place)) & np.uint8(1))


def _xor(terms: list[np.ndarray]) -> np.ndarray:
    total: np.ndarray = terms[0] ^ terms[1]
    for term in terms[2:]:
        np.bitwise_xor(total, term, out=total)
    return total
