"""Programs on sums that owners make of their own rows and share in place of them, where rows are split by owner.

What each of the four holds of an owner then no longer grows with its people. Nobody learns more than of rows: sums are
shared, not shown. ``solver`` in a program's settings says which it is; a draft may leave it to be chosen by the numbers
of rows and columns and the links (``jobs.solvers``), but what owners sign says one of the two.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.privacy import computation
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Program
from koinon.privacy.computation import Revealed
from koinon.privacy.learn import moments
from koinon.privacy.learn.moments import SUM_BITS, Moments
from koinon.privacy.programs.offer import Layout, Offer, OwnerSums, Parameters, check_layout, is_prepared
from koinon.privacy.sharing import in_ranges
from koinon.wire.committee import Column

ROWS: Final = "rows"
SUMS: Final = "sums"
AUTO: Final = "auto"
SOLVERS: Final = (ROWS, SUMS, AUTO)


def of_moments(
    joint: Callable[[Moments, Any, tuple[str, ...]], Revealed],
    order: Callable[[Layout], Sequence[int]] = lambda layout: range(len(layout.columns)),
    refusal: Callable[[Layout, Any, tuple[str, ...]], str] = lambda _layout, _settings, _opened: "",
) -> OwnerSums:
    """For a program that follows from means and covariances: sums of columns and of products of pairs.

    Args:
        joint: moments of all rows, settings, opened outputs → what is opened.
        order: numbers of the columns, in the order of the moments.
    """

    def length(layout: Layout, _: Any) -> int:
        if len(layout.columns) > moments.MOST_COLUMNS:
            raise InvalidInput(
                f"owners add up products of pairs of at most {moments.MOST_COLUMNS} columns; share rows, or fewer"
            )
        return moments.sums_length(len(layout.columns))

    def together(sums: Sequence[SecretArray], layout: Layout, settings: Any, outputs: tuple[str, ...]) -> Revealed:
        return joint(moments.summed(sums, layout.rows), settings, outputs)

    def local(rows: np.ndarray, layout: Layout, _: Any) -> np.ndarray:
        return np.asarray(moments.local_sums(rows[:, list(order(layout))]).values[0])

    return OwnerSums(length, lambda _: 1, refusal, local, together)


def solver_of(settings: Record) -> str:
    """What owners share, for a program that leaves a choice; ``ROWS`` for any other."""
    return str(getattr(settings, "solver", ROWS))


def refusal(found: Offer, given: Parameters, settings: Record) -> str:
    """Why owners cannot share sums of their rows for this; empty where they can."""
    layout = given.layout
    if found.sums is None:
        return f"{found.name} does not follow from sums"
    if layout.sources:
        return "owners of different columns have no sums of their own"
    if given.epsilon:
        return "noise is measured for single rows; share rows, or set epsilon to 0 (exact)"
    if layout.planted:
        return "rows are planted among rows; share those, or plant none"
    if is_prepared(settings):
        return "columns are prepared among shares of rows; leave scale, missing and encode out"
    if problem := found.sums.refusal(layout, settings, given.outputs):
        return problem
    least = found.sums.least(layout)
    if min(layout.rows) < least:
        return f"every owner needs {least} rows for a fit of its own, and one has {min(layout.rows)}"
    return ""


def program(found: Offer, given: Parameters, settings: Record) -> Program:
    """The program on owners' sums. Raises InvalidInput where sums do not give what is asked for."""
    check_layout(given.layout)
    kind, layout = _checked(found, given, settings), given.layout
    length = kind.length(layout, settings)

    def joint(*sums: SecretArray) -> Revealed:
        return kind.joint(sums, layout, settings, given.outputs)

    columns = [Column(f"sum {number}", -1.0, 1.0) for number in range(length)]
    shapes = [(1, length)] * len(layout.rows)
    made = computation.program(found.name, joint, shapes, columns, SUM_BITS, scaled=True)
    return replace(made, summed=layout.columns)


def local_sums(found: Offer, given: Parameters, settings: Record, rows: np.ndarray) -> np.ndarray:
    """What one owner shares: (m,) numbers in [−1, 1].

    Args:
        rows: (n, columns), in the units of the columns.

    Raises:
        InvalidInput: numbers that are missing, not finite or outside their column's range, too few rows, or rows
            without a fit of their own. Nothing is shared; the error names the column, never the value.
    """
    kind = _checked(found, given, settings)
    return kind.local(in_ranges(rows, given.layout.columns, SUM_BITS), given.layout, settings)


def _checked(found: Offer, given: Parameters, settings: Record) -> OwnerSums:
    solver = solver_of(settings)
    if solver == AUTO:
        raise InvalidInput(f"whether owners share rows or sums is still to be chosen; set solver to {ROWS} or {SUMS}")
    if solver != SUMS:
        raise InvalidInput(f"a solver is one of {', '.join(SOLVERS)}; got {solver[:80]!r}")
    if (problem := refusal(found, given, settings)) or found.sums is None:
        raise InvalidInput(f"owners cannot share sums here: {problem}")
    return found.sums
