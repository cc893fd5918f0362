"""The demonstration's rows: scikit-learn's breast-cancer data, cut into three hospitals and rows for the evaluators.

Each hospital sees another kind of patient, so that a model of its own rows misjudges everybody else's:

* the first has the cancers with *low* fractal dimension and the benign tumours with *high* – the reverse of the usual;
* the second has, of what remains, both kinds with a low error of the fractal dimension;
* the third has the rest: few cancers, most of the benign.

The cut was chosen by search over pairs of columns, so that each hospital alone is worse than all together in AUC and
in log-loss for every seed tried (``benchmarks/evaluation.py`` prints them). The evaluators' rows are drawn first, by
class, and belong to nobody else.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from koinon.data.schema import Schema, suggest_ranges
from koinon.data.table import Table, write_csv
from koinon.kernel.errors import InvalidInput, Unavailable

TARGET: Final = "malignant"
PATIENT: Final = "patient"
"""The column of ids where hospitals hold different columns."""
HOSPITALS: Final = ("hospital-1", "hospital-2", "hospital-3")
EVALUATORS: Final = "evaluators"
EVALUATION_ROWS: Final = 190


@dataclass(frozen=True)
class _Share:
    """What one hospital takes of the rows that are left: shares of each class, from one end of a column."""

    column: str
    malignant: float
    malignant_from_top: bool
    benign: float
    benign_from_top: bool


_SHARES: Final = (
    _Share("worst_fractal_dimension", 0.5, False, 0.25, True),
    _Share("fractal_dimension_error", 0.7, False, 0.35, False),
)


@dataclass(frozen=True, eq=False)
class DemoSplit:
    """Disjoint tables under one schema.

    Attributes:
        hospitals: three tables, in the order of ``HOSPITALS``.
        evaluation: rows that no hospital has.
    """

    schema: Schema
    hospitals: tuple[Table, ...]
    evaluation: Table


def demo_split(seed: int) -> DemoSplit:
    """Cut the breast-cancer rows; the same seed gives the same cut."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    names = tuple(str(name).replace(" ", "_") for name in bunch.feature_names)
    features = np.asarray(bunch.data, np.float64)
    # In scikit-learn 0 is malignant; here 1 is what the model is asked about.
    target = 1.0 - np.asarray(bunch.target, np.float64)
    schema = Schema(suggest_ranges(names, features), TARGET)
    everything = Table(schema, features, target)

    order = np.random.default_rng(seed).permutation(len(target))
    malignant, benign = order[target[order] == 1], order[target[order] == 0]
    held_out = round(EVALUATION_ROWS * len(malignant) / len(order))
    evaluation = np.concatenate([malignant[:held_out], benign[: EVALUATION_ROWS - held_out]])
    malignant, benign = malignant[held_out:], benign[EVALUATION_ROWS - held_out :]

    parts = []
    for share in _SHARES:
        column = features[:, schema.index(share.column)]
        taken, malignant = _cut(malignant, column, share.malignant, share.malignant_from_top)
        others, benign = _cut(benign, column, share.benign, share.benign_from_top)
        parts.append(np.concatenate([taken, others]))
    parts.append(np.concatenate([malignant, benign]))
    # Sorted by original position, so that the order of a file says nothing about classes or columns.
    hospitals = tuple(everything.take(np.sort(part)) for part in parts)
    return DemoSplit(schema, hospitals, everything.take(np.sort(evaluation)))


def write_demo(folder: Path, seed: int) -> dict[str, Path]:
    """Write the four CSV files; returns their paths by name. Raises Unavailable where the folder cannot be written."""
    split = demo_split(seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise Unavailable(f"cannot make the folder {folder.name}: {problem.strerror}") from None
    paths = {}
    for name, table in zip((*HOSPITALS, EVALUATORS), (*split.hospitals, split.evaluation), strict=True):
        paths[name] = folder / f"{name}.csv"
        write_csv(table, paths[name])
    return paths


@dataclass(frozen=True, eq=False)
class DemoColumns:
    """The same patients at every hospital, each with other columns of them.

    Attributes:
        files: by hospital; rows in an order of their own, with the ids in ``PATIENT``.
        held: names of the columns in each, the target's among them.
        pooled: all columns of all patients, as nobody has them.
        evaluation: path of the evaluators' rows, all columns.
    """

    files: dict[str, Path]
    held: dict[str, tuple[str, ...]]
    pooled: Table
    evaluation: Path


def write_demo_columns(folder: Path, seed: int) -> DemoColumns:
    """Write CSV files: one hospital measured the mean of each nucleus feature and knows who is ill, the second its
    error, the third its worst. Raises Unavailable where the folder cannot be written.
    """
    split = demo_split(seed)
    rows = np.concatenate([table.matrix for table in split.hospitals])
    pooled = Table(split.schema, rows[:, :-1], rows[:, -1])
    random = np.random.default_rng(seed)
    ids = random.choice(10_000_000, pooled.rows, replace=False)
    kinds = ("mean_", "_error", "worst_")
    files, held = {}, {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for hospital, kind in zip(HOSPITALS, kinds, strict=True):
            own = [name for name in split.schema.names if kind in name]
            held[hospital] = (*own, TARGET) if hospital == HOSPITALS[0] else tuple(own)
            values = pooled.matrix[:, [(*split.schema.names, TARGET).index(name) for name in held[hospital]]]
            files[hospital] = folder / f"{hospital}.csv"
            with files[hospital].open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow([PATIENT, *held[hospital]])
                for place in random.permutation(pooled.rows):
                    writer.writerow([int(ids[place]), *values[place].tolist()])
    except OSError as problem:
        raise Unavailable(f"cannot write the rows to {folder.name}: {problem.strerror}") from None
    evaluation = folder / f"{EVALUATORS}.csv"
    write_csv(split.evaluation, evaluation)
    return DemoColumns(files, held, pooled, evaluation)


def deal_rows(table: Table, parts: int, seed: int) -> tuple[Table, ...]:
    """Cut a table into disjoint parts with the same share of both classes, such as one for each evaluator.

    Raises:
        InvalidInput: a part would have no row of one of the classes.
    """
    order = np.random.default_rng(seed).permutation(table.rows)
    classes = [order[table.target[order] == value] for value in (0, 1)]
    if parts < 1 or min(len(rows) for rows in classes) < parts:
        raise InvalidInput(f"{table.rows} rows cannot be dealt into {parts} parts that each hold both classes")
    return tuple(table.take(np.sort(np.concatenate([rows[part::parts] for rows in classes]))) for part in range(parts))


def _cut(
    rows: NDArray[np.intp], column: NDArray[np.float64], share: float, from_top: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    order = rows[np.argsort(column[rows], kind="stable")]
    if from_top:
        order = order[::-1]
    count = int(share * len(order))
    return order[:count], order[count:]
