"""Which way to fit, chosen by public numbers alone: people, columns, how rows are divided, and the links.

Rows split by owner can be fitted from one row of sums each, at a cost that does not depend on the people; for logistic
regression only where every owner has enough rows for a fit of its own. Of the ways that are allowed, the one is taken
whose rounds, bytes and arithmetic take the least time on the given links.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from koinon.crypto.random import SystemRng
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.arrays import SecretArray, concatenate
from koinon.privacy.backend import Backend, PlainInput, Program
from koinon.privacy.computation import LOCAL, Revealed, program, reveal
from koinon.privacy.estimate import estimate
from koinon.privacy.learn.aggregated import ENOUGH_ROWS, joint_model, local_curvature, sums_length
from koinon.privacy.learn.aggregated import MOST_COLUMNS as CURVED_COLUMNS
from koinon.privacy.learn.linear import FittedLine, LinearRegression
from koinon.privacy.learn.logistic import FittedLogistic, LogisticRegression
from koinon.privacy.learn.moments import MOST_COLUMNS as SUMMED_COLUMNS
from koinon.privacy.learn.moments import SUM_BITS, local_sums, summed
from koinon.privacy.learn.moments import sums_length as moments_length
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column


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
        """Time that a program takes on two cores for all four; a quarter of the traffic is one party's.

        Raises:
            Refused: the program could overflow.
        """
        cost = estimate(made)
        sending = cost.rounds * self.round_trip / 2 + cost.traffic_bytes / 4 / self.bytes_per_second
        return sending + cost.computing_seconds


def fastest(ways: Mapping[Way, Callable[[], Program]], links: Links) -> Way:
    """The way that takes the least time; one that could overflow is left out.

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


@dataclass(frozen=True)
class Fit:
    """A model of all owners' rows, opened.

    Attributes:
        way: that was taken.
        coefficients: (d,), in the units of the rows.
        intercept: one number.
    """

    way: Way
    coefficients: np.ndarray
    intercept: float


Owner = tuple[np.ndarray, np.ndarray]
"""(n, d) rows in [−1, 1] and (n,) targets of one owner."""


def logistic_way(rows: Sequence[int], columns: int, links: Links, penalty: float = 1.0) -> Way:
    """How to fit logistic regression.

    Args:
        rows: of each owner; all of them have the same columns.
        columns: d, without the target.

    Raises:
        InvalidInput: no owner, no rows or no columns.
        Refused: no way fits into the words.
    """
    return fastest(_logistic_ways(rows, columns, penalty), links)


def linear_way(rows: Sequence[int], columns: int, links: Links, penalty: float = 0.0) -> Way:
    """How to fit linear or ridge regression, which is the same line either way; see ``logistic_way``."""
    return fastest(_linear_ways(rows, columns, penalty), links)


def fit_logistic(owners: Sequence[Owner], links: Links, penalty: float = 1.0, engine: Backend | None = None) -> Fit:
    """Logistic regression of all owners' rows, targets 0 or 1, in the way that takes the least time on these links.

    All four parties are in this process unless an engine is given; see ``computation.run``. Where owners share sums,
    each makes its own of its own rows, and the model is the joint one to about a hundredth of a standard error.

    Raises:
        InvalidInput: rows or targets that cannot be used.
        Refused: no way fits into the words.
        ProtocolAbort: a party deviated.
    """
    people, columns = _sizes(owners)
    ways = _logistic_ways(people, columns, penalty)
    way = fastest(ways, links)
    if way is Way.ROWS and not all(np.isin(target, (0.0, 1.0)).all() for _, target in owners):
        raise InvalidInput("the target of a logistic regression is 0 or 1")
    shared = [
        local_curvature(rows, target, len(people), penalty) if way is Way.SUMS else _table(rows, 2 * target - 1)
        for rows, target in owners
    ]
    return _opened(way, ways[way](), shared, engine)


def fit_linear(owners: Sequence[Owner], links: Links, penalty: float = 0.0, engine: Backend | None = None) -> Fit:
    """Linear or ridge regression of all owners' rows, targets in [−1, 1]; see ``fit_logistic``."""
    people, columns = _sizes(owners)
    ways = _linear_ways(people, columns, penalty)
    way = fastest(ways, links)
    shared = [
        local_sums(np.column_stack([rows, target])) if way is Way.SUMS else _table(rows, target)
        for rows, target in owners
    ]
    return _opened(way, ways[way](), shared, engine)


def _sizes(owners: Sequence[Owner]) -> tuple[list[int], int]:
    if not owners or any(rows.ndim != 2 or target.shape != rows.shape[:1] for rows, target in owners):
        raise InvalidInput("each owner has rows (n, d) and a target (n,)")
    if len({rows.shape[1] for rows, _ in owners}) != 1:
        raise InvalidInput("all owners have the same columns")
    return [len(rows) for rows, _ in owners], owners[0][0].shape[1]


def _table(rows: np.ndarray, target: np.ndarray) -> PlainInput:
    return PlainInput(tuple(_columns(rows.shape[1] + 1)), np.column_stack([rows, target]).astype(np.float64))


def _opened(way: Way, made: Program, shared: Sequence[PlainInput], engine: Backend | None) -> Fit:
    inputs = [PlainInput(made.columns, each.values) for each in shared]
    found = (engine or SimulatedRep4()).run(made, inputs, SystemRng()).outputs
    return Fit(way, found["coefficients"], float(found["intercept"]))


def _checked(rows: Sequence[int], columns: int) -> None:
    if not rows or min(rows) < 1 or columns < 1:
        raise InvalidInput(f"owners have rows and columns; got {list(rows)} and {columns}")


def _logistic_ways(rows: Sequence[int], columns: int, penalty: float) -> dict[Way, Callable[[], Program]]:
    _checked(rows, columns)

    def on_rows(*tables: SecretArray) -> Revealed:
        whole = concatenate(tables)
        return _revealed(LogisticRegression(penalty).fit(whole[:, :-1], whole[:, -1] > 0))

    def on_sums(*sums: SecretArray) -> Revealed:
        return _revealed(joint_model(sums, rows, penalty))

    ways: dict[Way, Callable[[], Program]] = {Way.ROWS: lambda: _on_rows(rows, columns, on_rows)}
    if min(rows) >= ENOUGH_ROWS * (columns + 1) and columns <= CURVED_COLUMNS:
        ways[Way.SUMS] = lambda: _on_sums(len(rows), sums_length(columns), on_sums)
    return ways


def _linear_ways(rows: Sequence[int], columns: int, penalty: float) -> dict[Way, Callable[[], Program]]:
    _checked(rows, columns)

    def on_rows(*tables: SecretArray) -> Revealed:
        whole = concatenate(tables)
        return _revealed(LinearRegression(penalty).fit(whole[:, :-1], whole[:, -1]))

    def on_sums(*sums: SecretArray) -> Revealed:
        return _revealed(LinearRegression(penalty).fit_moments(summed(sums, rows)))

    ways: dict[Way, Callable[[], Program]] = {Way.ROWS: lambda: _on_rows(rows, columns, on_rows)}
    if columns < SUMMED_COLUMNS:
        ways[Way.SUMS] = lambda: _on_sums(len(rows), moments_length(columns + 1), on_sums)
    return ways


def _revealed(model: FittedLine | FittedLogistic) -> Revealed:
    return reveal(coefficients=model.coefficients, intercept=model.intercept)


def _on_rows(rows: Sequence[int], columns: int, fit: Callable[..., Revealed]) -> Program:
    return program(LOCAL, fit, [(count, columns + 1) for count in rows], _columns(columns + 1), scaled=True)


def _on_sums(owners: int, length: int, fit: Callable[..., Revealed]) -> Program:
    return program(LOCAL, fit, [(1, length)] * owners, _columns(length), SUM_BITS, scaled=True)


def _columns(count: int) -> list[Column]:
    return [Column(f"column {number}", -1.0, 1.0) for number in range(count)]
