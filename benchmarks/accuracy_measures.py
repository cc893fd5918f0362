"""Programs that measure, and preparation of columns, beside NumPy, SciPy, scikit-learn and lifelines on the same rows.

They answer about the rows they are given, so nothing is held out: what is compared is every number that is opened, in
the units of the columns. Rows are dealt by three owners, as in a study.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from sklearn import datasets, impute, preprocessing

from koinon.data.schema import suggest_ranges
from koinon.kernel.codec import encode
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import PlainInput, Program
from koinon.privacy.computation import program, reveal
from koinon.privacy.learn.preparation import MeanFill, MedianFill, RangeScaler, StandardScaler, one_hot_columns
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import Layout, Parameters, decode_settings, settings_from
from koinon.wire.committee import Column

OWNERS = 3


@dataclass(frozen=True)
class Rows:
    """A data set. Attributes: values (n, d); the last column is ``target`` where one is named."""

    name: str
    columns: tuple[Column, ...]
    values: np.ndarray
    target: str = ""


@dataclass(frozen=True)
class Prepared:
    """What any engine can run, and how what it opens becomes an array."""

    program: Program
    inputs: Sequence[PlainInput]
    read: Callable[[Mapping[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Measure:
    """One row of the table.

    Attributes:
        what: is compared.
        beside: whose numbers it is compared with.
        made: of the rows.
        theirs: rows → the same numbers from plain code.
    """

    what: str
    beside: str
    rows: Callable[[], Rows]
    made: Callable[[Rows], Prepared]
    theirs: Callable[[Rows], np.ndarray]


# ----------------------------------------------------------------------------------------------------------- data sets


def diabetes() -> Rows:
    found = datasets.load_diabetes(scaled=False)
    return Rows("diabetes", suggest_ranges(tuple(map(str, found.feature_names)), found.data), found.data)


def tumours() -> Rows:
    found = datasets.load_breast_cancer()
    columns = suggest_ranges(tuple(map(str, found.feature_names)), found.data)
    table = np.column_stack([found.data, found.target])
    return Rows("breast cancer", (*columns, Column("benign", 0.0, 1.0)), table, "benign")


def wines() -> Rows:
    """The cultivar, and in which third of all wines its alcohol lies."""
    found = datasets.load_wine()
    alcohol = found.data[:, 0]
    thirds = np.digitize(alcohol, np.quantile(alcohol, [1 / 3, 2 / 3]))
    return Rows(
        "wine", (Column("cultivar", 0.0, 2.0), Column("alcohol", 0.0, 2.0)), np.column_stack([found.target, thirds])
    )


def arrests() -> Rows:
    """Weeks from release to arrest, or to the end of the year, of 432 people (P. Rossi and others, 1980)."""
    from lifelines.datasets import load_rossi

    found = load_rossi()
    features = ["week", "fin", "age", "race", "wexp", "mar", "paro", "prio"]
    columns = suggest_ranges(tuple(features), found[features].to_numpy(float))
    table = found[[*features, "arrest"]].to_numpy(float)
    return Rows("recidivism (rossi)", (*columns, Column("arrest", 0.0, 1.0)), table, "arrest")


# ------------------------------------------------------------------------------------------------------------- studies


def studied(
    name: str,
    outputs: tuple[str, ...],
    table: str,
    settings: Mapping[str, Any] | None = None,
    column: int | None = None,
) -> Callable[[Rows], Prepared]:
    """A study's program, of which one table of results is read, or one column of it."""

    def made(rows: Rows) -> Prepared:
        parts = np.array_split(rows.values, OWNERS)
        offer = registry.offer(name)
        encoded = settings_from(offer, settings or {})
        layout = Layout(tuple(len(part) for part in parts), rows.columns, rows.target)

        def read(opened: Mapping[str, np.ndarray]) -> np.ndarray:
            shown = {one.name: one.values for one in offer.present(opened, layout, decode_settings(offer, encoded))}
            return shown[table] if column is None else shown[table][:, column]

        loaded = registry.load(name, encode(Parameters(layout, encoded, outputs)))
        return Prepared(loaded, [PlainInput(rows.columns, part) for part in parts], read)

    return made


def applied(function: Callable[[SecretArray], SecretArray], *, masked: bool = False) -> Callable[[Rows], Prepared]:
    """A function of all rows on [−1, 1]; if ``masked``, of rows with a bit behind for each of their cells."""

    def made(rows: Rows) -> Prepared:
        values, columns = rows.values, rows.columns
        if masked:
            gaps = holes(values)
            values = np.column_stack([values, gaps])
            columns = (*columns, *(Column(f"{column.name} missing", 0.0, 1.0) for column in columns))
        return Prepared(
            program(
                "local/1",
                lambda shared: reveal(answer=function(shared)),
                [values.shape],
                columns,
                scaled=True,
            ),
            [PlainInput(columns, values)],
            lambda opened: opened["answer"],
        )

    return made


def holes(values: np.ndarray) -> np.ndarray:
    """(n, d) which cells are missing: one of five."""
    return np.random.default_rng(0).random(values.shape) < 0.2


def on_range(rows: Rows) -> np.ndarray:
    """The values on the scale on which they are shared."""
    low = np.array([column.low for column in rows.columns])
    high = np.array([column.high for column in rows.columns])
    return np.asarray(2 * (rows.values - low) / (high - low) - 1)


def filled(fill: MeanFill | MedianFill) -> Callable[[SecretArray], SecretArray]:
    def whole(shared: SecretArray) -> SecretArray:
        width = shared.shape[1] // 2
        rows, missing = shared[:, :width], shared[:, width:] > 0.0
        return fill.fit(rows, missing).transform(rows, missing)

    return whole


def plainly_filled(strategy: str) -> Callable[[Rows], np.ndarray]:
    def whole(rows: Rows) -> np.ndarray:
        shared = on_range(rows)
        gaps = np.where(holes(shared), np.nan, shared)
        return np.asarray(impute.SimpleImputer(strategy=strategy).fit_transform(gaps))

    return whole


def groups(rows: Rows) -> list[np.ndarray]:
    """Features of the rows whose target is 1, and of those whose target is 0."""
    return [rows.values[rows.values[:, -1] == code, :-1] for code in (1, 0)]


def welch(rows: Rows, what: str) -> np.ndarray:
    return np.asarray(getattr(stats.ttest_ind(*groups(rows), equal_var=False), what))


def counted(rows: Rows) -> np.ndarray:
    return np.histogram2d(rows.values[:, 0], rows.values[:, 1], 3)[0]


def independence(rows: Rows) -> np.ndarray:
    found = stats.chi2_contingency(counted(rows), correction=False)
    return np.array([[found.statistic, found.dof, found.pvalue]])


def binned(rows: Rows) -> np.ndarray:
    edges = [np.linspace(column.low, column.high, BINS + 1) for column in rows.columns]
    return np.array([np.histogram(rows.values[:, place], edge)[0] for place, edge in enumerate(edges)])


def survivors(rows: Rows) -> np.ndarray:
    from lifelines import KaplanMeierFitter

    fitted = KaplanMeierFitter().fit(rows.values[:, 0], rows.values[:, -1])
    return np.asarray(fitted.predict(np.array(WEEKS))).reshape(-1, 1)


def hazards(rows: Rows) -> Any:
    from lifelines import CoxPHFitter
    from pandas import DataFrame

    table = DataFrame(rows.values, columns=[column.name for column in rows.columns])
    return CoxPHFitter().fit(table, "week", "arrest")


def breslow(rows: Rows) -> np.ndarray:
    """(d,) where the slope of the partial likelihood with N. Breslow's ties is 0, by Newton's method in float64."""
    weeks, table, seen = rows.values[:, 0], rows.values[:, 1:-1], rows.values[:, -1] == 1
    weights = np.zeros(table.shape[1])
    for _ in range(20):
        slope, curvature = np.zeros(len(weights)), np.zeros((len(weights), len(weights)))
        for week in WEEKS:
            there, ended = table[weeks >= week], table[(weeks == week) & seen]
            risk = np.exp(there @ weights)
            mean = risk @ there / risk.sum()
            slope += (ended - mean).sum(0)
            curvature += len(ended) * ((there.T * risk) @ there / risk.sum() - np.outer(mean, mean))
        weights = weights + np.linalg.solve(curvature, slope)
    return weights


BINS = 10
WEEKS = [float(week) for week in range(1, 53)]
EVERY_WEEK = {"duration": "week", "times": WEEKS}
COX = ("coefficients", "information", "concordance")
GROUPS = ("counts", "means", "variances")

MEASURES: list[Measure] = [
    Measure(
        "mean", "NumPy", diabetes, studied("statistics/1", ("mean",), "mean", column=0), lambda r: r.values.mean(0)
    ),
    Measure(
        "variance",
        "NumPy",
        diabetes,
        studied("statistics/1", ("variance",), "variance", column=0),
        lambda r: r.values.var(0, ddof=1),
    ),
    Measure(
        "quantiles",
        "NumPy",
        diabetes,
        studied("statistics/1", ("quantiles",), "quantiles"),
        lambda r: np.quantile(r.values, [0.25, 0.5, 0.75], axis=0).T,
    ),
    Measure(
        "histogram, 10 bins",
        "NumPy",
        diabetes,
        studied("statistics/1", ("histogram",), "histogram", {"bins": BINS, "minimum_group": 1}),
        binned,
    ),
    Measure(
        "correlation",
        "NumPy",
        diabetes,
        studied("statistics/1", ("correlation",), "correlation"),
        lambda r: np.corrcoef(r.values.T),
    ),
    Measure(
        "contingency, counts",
        "NumPy",
        wines,
        studied("contingency/1", ("counts",), "counts", {"minimum_group": 1}),
        counted,
    ),
    Measure(
        "χ² test: statistic, degrees of freedom, p",
        "SciPy",
        wines,
        studied("contingency/1", ("chi_square",), "chi_square"),
        independence,
    ),
    Measure(
        "t test (Welch): t",
        "SciPy",
        tumours,
        studied("comparison/1", GROUPS, "test", column=0),
        lambda r: welch(r, "statistic"),
    ),
    Measure(
        "t test (Welch): p",
        "SciPy",
        tumours,
        studied("comparison/1", GROUPS, "test", column=2),
        lambda r: welch(r, "pvalue"),
    ),
    Measure(
        "Kaplan–Meier, 52 weeks",
        "lifelines",
        arrests,
        studied("kaplan-meier/1", ("survivors",), "survivors", EVERY_WEEK),
        survivors,
    ),
    Measure(
        "Cox regression, log hazard ratios",
        "lifelines",
        arrests,
        studied("cox-regression/1", COX, "coefficients", EVERY_WEEK, 0),
        lambda r: np.asarray(hazards(r).params_),
    ),
    Measure(
        "Cox regression, log hazard ratios by N. Breslow",
        "NumPy",
        arrests,
        studied("cox-regression/1", COX, "coefficients", EVERY_WEEK, 0),
        breslow,
    ),
    Measure(
        "Cox regression, p",
        "lifelines",
        arrests,
        studied("cox-regression/1", COX, "coefficients", EVERY_WEEK, 3),
        lambda r: np.asarray(hazards(r).summary["p"]),
    ),
    Measure(
        "Cox regression, concordance",
        "lifelines",
        arrests,
        studied("cox-regression/1", COX, "concordance", EVERY_WEEK),
        lambda r: np.array([[hazards(r).concordance_index_]]),
    ),
    Measure(
        "scaling to mean 0, deviation 1",
        "scikit-learn",
        diabetes,
        applied(lambda shared: StandardScaler().fit(shared).transform(shared)),
        lambda r: preprocessing.StandardScaler().fit_transform(on_range(r)),
    ),
    Measure(
        "scaling to 0 … 1",
        "scikit-learn",
        diabetes,
        applied(lambda shared: RangeScaler().fit(shared).transform(shared)),
        lambda r: preprocessing.MinMaxScaler().fit_transform(on_range(r)),
    ),
    Measure(
        "imputation by the mean",
        "scikit-learn",
        diabetes,
        applied(filled(MeanFill()), masked=True),
        plainly_filled("mean"),
    ),
    Measure(
        "imputation by the median",
        "scikit-learn",
        diabetes,
        applied(filled(MedianFill()), masked=True),
        plainly_filled("median"),
    ),
    Measure(
        "encoding, a column for each code",
        "scikit-learn",
        wines,
        applied(lambda shared: one_hot_columns(shared + 1.0, (3, 3))),
        lambda r: preprocessing.OneHotEncoder(sparse_output=False).fit_transform(r.values),
    ),
]
