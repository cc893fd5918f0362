"""The form in which a program says what owners add up, whichever engine adds: masked words, ciphertexts or plain sums.

Each row's part of every sum is from −1 to 1, so n rows cannot reach beyond n. In every round owners sum at a state that
all of them know; the totals move it, and after the last round the outputs follow from it. What is done to totals gives
the same bits on every processor: members of a committee must agree on it (see ``numerics``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from koinon.kernel.errors import InvalidInput, MalformedMessage, Refused

WHOLE_WITHIN = 1e-3
"""A count in a total is this close to a whole number: ciphertexts round to four decimals."""


class RowSums(Protocol):
    """A program as sums over rows."""

    @property
    def rounds(self) -> int:
        """At most so many."""
        ...

    @property
    def length(self) -> int:
        """Numbers that every owner adds up in a round."""
        ...

    @property
    def tells(self) -> str:
        """What the totals say to whoever sees them, in words."""
        ...

    @property
    def sensitivity(self) -> float:
        """How far one row in another's place moves an owner's sums (L2), where noise is added to them; 0 without."""
        ...

    def start(self) -> np.ndarray:
        """The state (size,) before the first round."""
        ...

    def add(self, state: np.ndarray, table: np.ndarray) -> np.ndarray:
        """One owner's sums (length,) over its table (n, columns) of numbers in [−1, 1].

        Raises:
            InvalidInput: rows that the program cannot use.
            Refused: fewer people in a group than the study's least. Whoever sees the total sees it whatever it is, so
                every owner makes sure of its own part.
        """
        ...

    def move(
        self, state: np.ndarray, memory: np.ndarray, totals: np.ndarray, people: int
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """State and memory after a round, and how far the state moved; with 0 the last round is over.

        Args:
            memory: what the members remember and owners need not know; empty before the first round.
            totals: (length,) over all owners.
            people: their rows.

        Raises:
            MalformedMessage: totals that no rows have.
        """
        ...

    def outputs(self, state: np.ndarray) -> Mapping[str, np.ndarray]:
        """The declared outputs by name, from the state after the last round."""
        ...


@dataclass(frozen=True)
class OneRound:
    """A program that needs its owners' sums once. Its state is their totals, and after them the number of people.

    Attributes:
        length, tells: see ``RowSums``.
        summing: an owner's table → its sums.
        finishing: totals and people → outputs. Raises MalformedMessage for totals that no rows have.
    """

    length: int
    tells: str
    summing: Callable[[np.ndarray], np.ndarray]
    finishing: Callable[[np.ndarray, int], Mapping[str, np.ndarray]]
    rounds: int = 1
    sensitivity: float = 0.0

    def start(self) -> np.ndarray:
        """Zeros."""
        return np.zeros(self.length + 1)

    def add(self, state: np.ndarray, table: np.ndarray) -> np.ndarray:
        """See ``RowSums.add``."""
        del state
        return self.summing(table)

    def move(
        self, state: np.ndarray, memory: np.ndarray, totals: np.ndarray, people: int
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """See ``RowSums.move``."""
        del state
        check_totals(totals, self.length, people)
        self.finishing(totals, people)
        return np.append(totals, people), memory, 0.0

    def outputs(self, state: np.ndarray) -> Mapping[str, np.ndarray]:
        """See ``RowSums.outputs``."""
        return self.finishing(state[:-1], round(float(state[-1])))


def check_totals(totals: np.ndarray, length: int, people: int) -> None:
    """Refuse totals of another length, not finite, or larger than so many rows can make. Raises MalformedMessage."""
    if totals.shape != (length,) or not np.isfinite(totals).all():
        raise MalformedMessage("the opened sums are not those that the study's owners make")
    if np.abs(totals).max(initial=0.0) > people + WHOLE_WITHIN:
        raise MalformedMessage("the opened sums are of numbers outside the columns' ranges; an owner lied about them")


def whole(counts: np.ndarray, people: int) -> np.ndarray:
    """Opened counts as whole numbers; along the last axis they are ``people`` together. Raises MalformedMessage."""
    found = np.round(counts)
    if np.abs(found - counts).max() > WHOLE_WITHIN or found.min() < 0 or (found.sum(-1) != people).any():
        raise MalformedMessage("the opened sums are of another number of people than the owners' manifests say")
    return np.asarray(found)


def check_cells(counts: np.ndarray, minimum: int, what: str) -> None:
    """Refuse an owner's counts of which one is of somebody, but of fewer than the least. Raises Refused."""
    if ((counts > 0) & (counts < minimum)).any():
        raise Refused(
            f"{what} has fewer than the {minimum} people of this owner that the study asks for; ask for coarser groups,"
            " or choose rep4, which counts all owners' people together"
        )


def need(opened: tuple[str, ...], wanted: str, told: tuple[str, ...]) -> None:
    """Refuse to open an output whose sums say others that the study does not open. Raises Refused."""
    if wanted in opened and not set(told) <= set(opened):
        raise Refused(f"the sums that give {wanted} say {' and '.join(told)} too; open all of them, or choose rep4")


def check_signs(column: np.ndarray, name: str) -> None:
    """Refuse a 0/1 target, as −1 and 1, that holds anything else. Raises InvalidInput."""
    if not np.isin(column, (-1.0, 1.0)).all():
        raise InvalidInput(f"the target {name!r} may hold only 0 and 1; recode it")
