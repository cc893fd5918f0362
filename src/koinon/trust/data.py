"""What the evaluator's own rows are like: a good score on bad rows means little, so their faults travel with it."""

from dataclasses import dataclass

import numpy as np

from koinon.data.table import FloatArray, count_duplicates


@dataclass(frozen=True)
class DataFinding:
    """Faults of a set of rows, as shares.

    Attributes:
        duplicates: rows that are exact copies of another, of all rows.
        missing: cells without a finite number, of all cells.
        constant: columns with one value, of all columns.
        outside: cells outside their public range, of all cells.
        minority: rows of the rarer class, of all rows; 0.5 is balanced.
    """

    duplicates: float
    missing: float
    constant: float
    outside: float
    minority: float


def examine(features: FloatArray, target: FloatArray, low: FloatArray, high: FloatArray) -> DataFinding:
    """Faults of features (n, d) and target (n,) against the public ranges (d,)."""
    finite = np.isfinite(features)
    positive = float((target == 1).mean())
    return DataFinding(
        duplicates=count_duplicates(np.column_stack([features, target])) / len(features),
        missing=float((~finite).mean()),
        constant=float((features == features[0]).all(axis=0).mean()),
        outside=float((finite & ((features < low) | (features > high))).mean()),
        minority=min(positive, 1 - positive),
    )
