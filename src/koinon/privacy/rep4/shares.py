"""A party's view of a shared array: three of four components, some of which are publicly zero.

Position i holds every component but xᵢ. The pairs of components whose product terms one joint message carries, and who
sends, backs up, receives and stands outside, are the protocol's one table; everything else follows from it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import Struct, field

from koinon.privacy.rep4.ring import MatrixLimbs

ALL: Final = frozenset(range(4))


class Route(NamedTuple):
    """A joint message of a value known to ``sender`` and ``backup``, in which ``receiver`` becomes a holder.

    The receiver lacks component ``receiver``; the value is split into components ``receiver`` (pseudorandom, which
    sender, backup and outsider can draw) and ``outsider`` (the rest, which the receiver is sent).
    """

    sender: int
    backup: int
    receiver: int
    outsider: int


ROUTES: Final[dict[tuple[int, int], Route]] = {
    (2, 3): Route(0, 1, 3, 2),
    (3, 0): Route(1, 2, 0, 3),
    (0, 1): Route(2, 3, 1, 0),
    (1, 2): Route(3, 0, 2, 1),
    (1, 3): Route(0, 2, 3, 1),
    (0, 2): Route(1, 3, 2, 0),
}
"""The two parties that hold both components i and j are exactly those outside {i, j}."""

DIAGONAL: Final = frozenset({(0, 1), (1, 2), (2, 3), (3, 0)})
"""Pairs (i, i+1) that also carry what depends on component i alone."""


class Shares(Struct, frozen=True, eq=False):
    """One array, as one position sees it.

    Attributes:
        parts: component j, or None where it is not held or publicly zero.
        support: components that may be other than zero.
        boolean: components are joined by XOR, not by addition.
    """

    parts: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, np.ndarray | None]
    shape: tuple[int, ...]
    support: frozenset[int] = ALL
    dtype: Any = np.uint64
    boolean: bool = False
    limbs: dict[Any, MatrixLimbs] = field(default_factory=dict)

    def part(self, index: int) -> np.ndarray:
        """Component ``index`` as an array; zeros where it is publicly zero."""
        held = self.parts[index]
        return np.zeros(self.shape, self.dtype) if held is None else held

    def matrix(self, index: int) -> MatrixLimbs:
        """Component ``index`` with its limb blocks, kept for further products."""
        if index not in self.limbs:
            self.limbs[index] = MatrixLimbs(self.part(index))
        return self.limbs[index]

    def matrix_sum(self, i: int, j: int) -> MatrixLimbs:
        """Components i and j added, with its limb blocks."""
        if (i, j) not in self.limbs:
            self.limbs[i, j] = MatrixLimbs(self.part(i) + self.part(j))
        return self.limbs[i, j]

    def rearranged(self, change: Callable[[np.ndarray], np.ndarray], dtype: Any = None) -> "Shares":
        """Apply a linear map (layout, public factor, shift of bits) to every held component."""
        first, second, third, fourth = [None if part is None else change(part) for part in self.parts]
        for changed in (first, second, third, fourth):
            if changed is not None:
                break
        else:
            # A view without memory gives the new shape where this party holds nothing that is not zero.
            changed = change(np.broadcast_to(np.zeros((), self.dtype), self.shape))
        parts = (first, second, third, fourth)
        return Shares(parts, changed.shape, self.support, dtype or self.dtype, self.boolean)

    def combined(self, other: "Shares", join: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> "Shares":
        """Component-wise sum or XOR, with broadcasting."""
        shape = self.shape if self.shape == other.shape else np.broadcast_shapes(self.shape, other.shape)
        support = self.support if self.support == other.support else self.support | other.support
        parts: list[np.ndarray | None] = []
        for mine, theirs in zip(self.parts, other.parts, strict=True):
            if mine is None or theirs is None:
                only = theirs if mine is None else mine
                parts.append(only if only is None or only.shape == shape else np.broadcast_to(only, shape))
            else:
                parts.append(join(mine, theirs))
        return Shares(four(parts), shape, support, self.dtype, self.boolean)

    def __add__(self, other: "Shares") -> "Shares":
        return self.combined(other, np.add)

    def __xor__(self, other: "Shares") -> "Shares":
        return self.combined(other, np.bitwise_xor)


def joined(arrays: Sequence[Shares], axis: int, position: int, *, stack: bool = False) -> Shares:
    """Concatenate along an axis, or stack along a new first one."""
    support = frozenset().union(*(array.support for array in arrays))
    put = np.stack if stack else np.concatenate
    parts = [
        put([array.part(j) for array in arrays], axis=axis) if j in support and j != position else None
        for j in range(4)
    ]
    shapes = [np.broadcast_to(np.zeros((), np.uint8), array.shape) for array in arrays]
    shape = put(shapes, axis=axis).shape
    return Shares(four(parts), shape, support, arrays[0].dtype, arrays[0].boolean)


def constant(words: np.ndarray, position: int) -> Shares:
    """A public array: it is component 0, the others are zero."""
    return Shares(four([words if position != 0 else None, None, None, None]), words.shape, frozenset({0}), words.dtype)


def summed(arrays: Sequence[Shares], position: int) -> Shares:
    """Sum (XOR for Boolean) of arrays of one shape and kind, adding in place what this call made itself."""
    first = arrays[0]
    join = np.bitwise_xor if first.boolean else np.add
    support = frozenset().union(*(array.support for array in arrays))
    parts: list[np.ndarray | None] = [None] * 4
    for j in support - {position}:
        terms = [part for array in arrays if (part := array.parts[j]) is not None]
        if len(terms) < 2:
            parts[j] = terms[0] if terms else None
            continue
        total = join(terms[0], terms[1])
        for term in terms[2:]:
            join(total, term, out=total)
        parts[j] = total
    return Shares(four(parts), first.shape, support, first.dtype, first.boolean)


def four(parts: Sequence[np.ndarray | None]) -> tuple[Any, Any, Any, Any]:
    """Four components as a tuple of fixed length."""
    zeroth, first, second, third = parts
    return zeroth, first, second, third
