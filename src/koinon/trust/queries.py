"""Black-box measurements as generators: they yield rows they want answered and are sent the answers.

Nothing here calls a model. The same attack therefore runs against a sandboxed child (``ask``), a plain function in a
test or a canary (``answer``), and a replay, with the same random numbers and the same result.
"""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from koinon.kernel.errors import InvalidInput
from koinon.wire.committee import Column

FloatArray: TypeAlias = NDArray[np.float64]
T = TypeVar("T")

CELLS_PER_CALL: Final = 1_000_000
"""Rows are asked about in batches of at most this many cells: 4 MB, far below any sandbox's limit."""

Queries: TypeAlias = Generator[FloatArray, FloatArray, T]
"""Yields rows (n, d) in original units, is sent probabilities (n,), returns its finding."""

Predict: TypeAlias = Callable[[NDArray[np.float32]], Awaitable[NDArray[np.float32]]]
"""A model as the suite sees it: rows float32 (n, d) in original units to probabilities float32 (n,)."""


@dataclass(frozen=True, eq=False)
class Box:
    """The public ranges, in which attacks move: every column scaled to [0, 1]."""

    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, columns: tuple[Column, ...]) -> "Box":
        return cls(np.array([column.low for column in columns]), np.array([column.high for column in columns]))

    def scale(self, rows: FloatArray) -> FloatArray:
        """Original units to [0, 1]; rows outside the public ranges are moved to their ends."""
        return np.clip((rows - self.low) / (self.high - self.low), 0.0, 1.0)

    def original(self, scaled: FloatArray) -> FloatArray:
        """[0, 1] to original units."""
        return self.low + scaled * (self.high - self.low)


def answer(queries: Queries[T], model: Callable[[FloatArray], FloatArray]) -> T:
    """Run a measurement against a plain function."""
    try:
        rows = next(queries)
        while True:
            rows = queries.send(model(rows))
    except StopIteration as finished:
        result: T = finished.value
        return result


async def ask(queries: Queries[T], predict: Predict) -> T:
    """Run a measurement against a model in a child, in the 32-bit numbers that models take.

    Raises:
        InvalidInput: the model answers with something that is no probability per row.
        Whatever ``predict`` raises; the measurement is then closed and lost as a whole.
    """
    try:
        rows = next(queries)
        while True:
            rows = queries.send(await probabilities(predict, rows))
    except StopIteration as finished:
        result: T = finished.value
        return result
    finally:
        queries.close()


async def probabilities(predict: Predict, rows: FloatArray) -> FloatArray:
    """Answers for rows (n, d), checked: n finite numbers in [0, 1]. Raises InvalidInput otherwise."""
    size = max(1, CELLS_PER_CALL // max(1, rows.shape[1]))
    parts = []
    for start in range(0, len(rows), size):
        part = np.ascontiguousarray(rows[start : start + size], dtype=np.float32)
        answers = np.asarray(await predict(part), dtype=np.float64)
        if answers.shape != (len(part),):
            raise InvalidInput(f"the model answered {answers.size} numbers for {len(part)} rows; one per row is needed")
        parts.append(answers)
    found = np.concatenate(parts) if parts else np.empty(0)
    if not (np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()):
        raise InvalidInput("the model answered something that is not a probability between 0 and 1")
    return found
