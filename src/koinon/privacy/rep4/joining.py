"""Digits joined to one comparison, and what is opened under one-time masks on the way (REP4-SIGN, REP4-MASKED).

To join four digits is a polynomial in opened bits m = w ⊕ λ, which are public, and in products of up to four masks λ.
Those products depend on no data; they take two rounds, and with them a join takes none.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from koinon.privacy.rep4.arithmetic import LOWER, UPPER, Protocol, joint_input, multiply
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.products import Pair
from koinon.privacy.rep4.shares import ROUTES, Shares, four
from koinon.wire.committee import POSITIONS

GROUPS: Final = 4
"""Digits that are joined at once."""

Monomial = tuple[str, ...]
"""Product of inputs of one join: ``g3`` is "less" of its highest digit, ``p3`` is "equal"."""

_INPUTS: Final = tuple(f"{kind}{digit}" for kind in "gp" for digit in range(GROUPS))
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
"""Which masks are multiplied in each row of what ``mask_products`` returns."""
_CHUNK: Final = 1 << 14
"""Words whose sums of monomials are made at once: what they need stays in the processor's cache."""


@dataclass(frozen=True)
class Sum:
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


def _sum_of(monomials: Sequence[Monomial]) -> Sum:
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
    return Sum(tuple(subsets), factors, rests, np.array(public))


LESS_SUM: Final = _sum_of(_LESS)
EQUAL_SUM: Final = _sum_of([_EQUAL])
LOWER_SUM: Final = _sum_of([("g1",), ("p1", "g0")])
UPPER_SUM: Final = _sum_of([("g3",), ("p3", "g2")])
"""Of the two narrow words in one place, each has two of the four groups."""


def mask_products(
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


def evaluated(
    wanted: Sum, opened: np.ndarray, products: dict[int, np.ndarray], lanes: np.uint8
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


# What is opened to everybody.


def opened(
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
    return xor([received, *components.values()])


def opened_product(
    party: Party, terms: dict[Pair, np.ndarray | None], pads: dict[int, np.ndarray], shape: tuple[int, ...]
) -> Generator[None, None, np.ndarray]:
    """The XOR of all terms and of the masks λⱼ = pads[j][0] ⊕ pads[j][1], for everybody; one round (REP4-MASKED).

    Each position lacks two of the four terms; it is sent each of them under its own pad, which it does not know.
    """
    me = party.position
    dtype = next(iter(pads.values())).dtype
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
            handed = party.joint(sender, backup, receiver, value, shape, dtype)
            if me == receiver:
                assert handed is not None
                received.append(handed)
    yield
    own = [term for pair, term in terms.items() if me not in pair and term is not None]
    return xor([*received, *own, *(pad[k] for pad in pads.values() for k in (0, 1))])


def masked_top(party: Party, half: np.ndarray, shape: tuple[int, ...]) -> Protocol:
    """a₆₃ ⊕ b₆₃ ⊕ the last mask, as a number: two rounds.

    Args:
        half: a₆₃ ⊕ λ₂ ⊕ λ₃ at positions 0 and 1, b₆₃ ⊕ λ₀ ⊕ λ₁ at the others: (…) words.
    """
    me = party.position
    upper = joint_input(party, UPPER, half if me > 1 else None, shape)
    lower = joint_input(party, LOWER, half if me < 2 else None, shape)
    yield
    both = yield from multiply(party, upper, lower)
    return upper + lower + both.rearranged(lambda part: part * np.uint64((1 << 64) - 2))


# Masks: λⱼ is drawn by all but position j.


def drawn(party: Party, shape: tuple[int, ...], dtype: Any = np.uint8) -> dict[int, np.ndarray]:
    """By component, those of a mask that we hold."""
    found = {j: party.draw(j, shape, dtype) for j in POSITIONS}
    return {j: mask for j, mask in found.items() if mask is not None}


def xor(terms: list[np.ndarray]) -> np.ndarray:
    total: np.ndarray = terms[0] ^ terms[1]
    for term in terms[2:]:
        np.bitwise_xor(total, term, out=total)
    return total


def top_half(party: Party, bit_mask: dict[int, np.ndarray], top_bit: np.ndarray) -> np.ndarray:
    """This position's half of what ``masked_top`` makes a number: its top bits, under two components of the mask."""
    first, second = (2, 3) if party.position < 2 else (0, 1)
    return np.asarray((bit_mask[first] ^ bit_mask[second]).astype(np.uint64) ^ top_bit)


def at_once(value: Any) -> Generator[None, None, Any]:
    """A protocol of no round."""
    yield from ()
    return value
