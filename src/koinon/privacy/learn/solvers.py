"""Which way to fit, chosen by public numbers alone: people, columns, how rows are divided, and the links.

Rows split by owner can be fitted from one row of sums each, at a cost that does not depend on the people; for logistic
regression only where every owner has enough rows for a fit of its own. Of the ways that are allowed, the one is taken
whose rounds and bytes take the least time on the given links.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.arrays import SecretArray, concatenate
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed, program, reveal
from koinon.privacy.estimate import estimate
from koinon.privacy.learn.aggregated import MOST_COLUMNS, joint_model, sums_length
from koinon.privacy.learn.logistic import LogisticRegression
from koinon.privacy.learn.moments import SUM_BITS
from koinon.wire.committee import Column

ENOUGH_ROWS: Final = 20
"""Rows for every coefficient that an owner needs for a logistic fit of its own: the joint model is then within about a
hundredth of a standard error's square of the fit to all rows."""


class Way(Enum):
    """What owners share."""

    ROWS = "rows"
    SUMS = "sums"


@dataclass(frozen=True)
class Links:
    """Between the four parties.

    Attributes:
        round_trip: seconds.
        bytes_per_second: of one party's sending.
    """

    round_trip: float
    bytes_per_second: float

    def seconds(self, made: Program) -> float:
        """Time that a program's messages take, without arithmetic; a quarter of the traffic is one party's.

        Raises:
            Refused: the program could overflow.
        """
        cost = estimate(made)
        return cost.rounds * self.round_trip / 2 + cost.traffic_bytes / 4 / self.bytes_per_second


def fastest(ways: Mapping[Way, Callable[[], Program]], links: Links) -> Way:
    """The way whose messages take the least time; one that could overflow is left out.

    Raises:
        Refused: every way could overflow.
    """
    seconds: dict[Way, float] = {}
    problem: Refused | None = None
    for way, build in ways.items():
        try:
            seconds[way] = links.seconds(build())
        except Refused as refused:
            problem = refused
    if not seconds:
        raise problem or Refused("there is no way to fit this; name at least one")
    return min(seconds, key=seconds.__getitem__)


def logistic_way(rows: Sequence[int], columns: int, links: Links, penalty: float = 1.0) -> Way:
    """How to fit logistic regression.

    Args:
        rows: of each owner; all of them have the same columns.
        columns: d, without the target.

    Raises:
        InvalidInput: no owner, no rows or no columns.
        Refused: no way fits into the words.
    """
    if not rows or min(rows) < 1 or columns < 1:
        raise InvalidInput(f"owners have rows and columns; got {list(rows)} and {columns}")
    ways: dict[Way, Callable[[], Program]] = {Way.ROWS: lambda: _on_rows(rows, columns, penalty)}
    if min(rows) >= ENOUGH_ROWS * (columns + 1) and columns <= MOST_COLUMNS:
        ways[Way.SUMS] = lambda: _on_sums(len(rows), sum(rows), columns, penalty)
    return fastest(ways, links)


def _on_rows(rows: Sequence[int], columns: int, penalty: float) -> Program:
    def fit(*tables: SecretArray) -> Revealed:
        whole = concatenate(tables)
        model = LogisticRegression(penalty).fit(whole[:, :-1], whole[:, -1] > 0)
        return reveal(coefficients=model.coefficients, intercept=model.intercept)

    return program("local/1", fit, [(count, columns + 1) for count in rows], _columns(columns + 1), scaled=True)


def _on_sums(owners: int, people: int, columns: int, penalty: float) -> Program:
    shape = (1, sums_length(columns))

    def fit(*sums: SecretArray) -> Revealed:
        model = joint_model(sums, people, penalty)
        return reveal(coefficients=model.coefficients, intercept=model.intercept)

    return program("local/1", fit, [shape] * owners, _columns(shape[1]), SUM_BITS, scaled=True)


def _columns(count: int) -> list[Column]:
    return [Column(f"column {number}", -1.0, 1.0) for number in range(count)]
