"""Programs on people whom nobody knows, with two owners, three, and several of one table, against scikit-learn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from koinon.crypto.random import SystemRng
from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, Refused
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.joins import oblivious
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import Layout, Parameters, decode_settings, presented, settings_from
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.wire.committee import Column

KEY = bytes(range(32))
COLUMNS = {
    "age": Column("age", 0.0, 100.0),
    "dose": Column("dose", -4.0, 4.0),
    "stage": Column("stage", 0.0, 2.0),
    "ward": Column("ward", 0.0, 1.0),
    "ill": Column("ill", 0.0, 1.0),
}


@dataclass(frozen=True)
class Owner:
    """Whom it has, and what it has measured of them."""

    people: Sequence[int]
    columns: tuple[str, ...]


TWO = (Owner(range(90), ("age", "stage")), Owner(range(20, 120), ("dose", "ward", "ill")))
THREE = (
    Owner(range(90), ("age",)),
    Owner(range(20, 120), ("dose", "ward")),
    Owner(range(10, 80), ("stage", "ill")),
)
BOTH = (
    Owner(range(50), ("age", "stage")),
    Owner(range(30, 110, 2), ("dose", "ward", "ill")),
    Owner(range(40, 90), ("age", "stage")),
    Owner(range(21, 111, 2), ("dose", "ward", "ill")),
)
"""Two hospitals with some people in common, and two registries of other columns: rows and columns are both split."""
each_split = pytest.mark.parametrize("owners", [TWO, THREE, BOTH], ids=["two", "three", "rows and columns"])


def measured(person: int) -> dict[str, float]:
    random = np.random.default_rng(person)
    age, dose = random.uniform(20, 80), random.uniform(-3, 3)
    ill = random.random() < 1 / (1 + np.exp(-(age - 50) / 12 - dose))
    stage = min(2, int(random.uniform(0, 1.5) + (age > 50)))
    return {"age": age, "dose": dose, "stage": stage, "ward": int(random.random() < 0.3 + 0.4 * ill), "ill": int(ill)}


def common(owners: Sequence[Owner]) -> list[int]:
    """Who is in the data of some owner of every table."""
    tables: dict[tuple[str, ...], set[int]] = {}
    for owner in owners:
        tables.setdefault(owner.columns, set()).update(owner.people)
    return sorted(set.intersection(*tables.values()))


def pooled(owners: Sequence[Owner], names: Sequence[str]) -> np.ndarray:
    return np.array([[measured(person)[name] for name in names] for person in common(owners)])


def opened(
    owners: Sequence[Owner],
    name: str,
    outputs: tuple[str, ...],
    target: str = "",
    used: Sequence[str] = tuple(COLUMNS),
    engine: Backend | None = None,
    pairs: int = 20,
    **settings: object,
) -> dict[str, np.ndarray]:
    columns = [COLUMNS[one] for one in used]
    held = [[number for number, one in enumerate(used) if one in owner.columns] for owner in owners]
    rows = tuple(len(owner.people) for owner in owners)
    layout = Layout(rows, tuple(columns), target, tuple(map(tuple, held)), pairs=pairs)
    offer = registry.offer(name)
    encoded = settings_from(offer, settings)
    program = registry.load(name, encode(Parameters(layout, encoded, outputs)))
    inputs = []
    for owner, own in zip(owners, held, strict=True):
        order = np.random.default_rng(len(owner.people)).permutation(np.array(owner.people))
        values = np.array([[measured(int(person))[used[number]] for number in own] for person in order])
        keys = oblivious.pseudonyms([str(person) for person in order], KEY)
        inputs.append(
            PlainInput((*oblivious.COLUMNS, *(columns[number] for number in own)), np.column_stack([keys, values]))
        )
    found = (engine or ClearBackend()).run(program, inputs, SystemRng()).outputs
    tables = presented(offer, found, layout, decode_settings(offer, encoded))
    return {table.name: table.values for table in tables}


def check_statistics(owners: Sequence[Owner], engine: Backend | None = None) -> None:
    used = ("age", "dose", "stage")
    found = opened(owners, "statistics/1", ("mean", "variance", "correlation"), used=used, engine=engine)
    rows, halves = pooled(owners, used), np.array([50.0, 4.0, 1.0])
    np.testing.assert_allclose(found["mean"][:, 0] / halves, rows.mean(0) / halves, atol=2e-3)
    np.testing.assert_allclose(found["variance"][:, 0] / halves**2, rows.var(0, ddof=1) / halves**2, atol=3e-3)
    np.testing.assert_allclose(found["correlation"], np.corrcoef(rows.T), atol=5e-3)


@each_split
def test_statistics_of_whoever_is_in_every_table(owners: Sequence[Owner]) -> None:
    check_statistics(owners)


@pytest.mark.long
@each_split
def test_statistics_of_whoever_is_in_every_table_among_four_parties(owners: Sequence[Owner]) -> None:
    check_statistics(owners, SimulatedRep4())


@pytest.mark.parametrize("owners", [TWO, BOTH], ids=["two", "rows and columns"])
def test_a_logistic_model_is_that_of_scikit_learn(owners: Sequence[Owner]) -> None:
    used = ("age", "dose", "ill")
    found = opened(owners, "logistic-regression/1", ("coefficients", "intercept"), "ill", used, iterations=40)
    rows = pooled(owners, used)
    spread = rows[:, :2].std(0)
    reference = LogisticRegression(C=1.0).fit((rows[:, :2] - rows[:, :2].mean(0)) / spread, rows[:, 2])
    np.testing.assert_allclose(found["coefficients"][:, 0] * spread, reference.coef_[0], atol=0.05)
    centre = found["intercept"][0, 0] + rows[:, :2].mean(0) @ found["coefficients"][:, 0]
    assert centre == pytest.approx(reference.intercept_[0], abs=0.05)


def test_classes_are_told_apart_as_scikit_learn_does() -> None:
    used = ("age", "dose", "stage")
    found = opened(TWO, "multinomial-regression/1", ("coefficients", "intercepts", "score"), "stage", used)
    rows = pooled(TWO, used)
    spread = rows[:, :2].std(0)
    standard = (rows[:, :2] - rows[:, :2].mean(0)) / spread
    reference = LogisticRegression(C=1.0).fit(standard, rows[:, 2])
    np.testing.assert_allclose(found["coefficients"] * spread.reshape(-1, 1), reference.coef_.T, atol=0.1)
    assert found["score"][0, 0] == pytest.approx(reference.score(standard, rows[:, 2]), abs=0.03)


@each_split
def test_groups_are_compared(owners: Sequence[Owner]) -> None:
    used = ("age", "dose", "ill")
    found = opened(owners, "comparison/1", ("counts", "means", "variances"), "ill", used)
    rows = pooled(owners, used)
    groups = [rows[rows[:, 2] == code][:, :2] for code in (0, 1)]
    assert found["counts"][:, 0].round().tolist() == [len(group) for group in groups]
    np.testing.assert_allclose(found["means"], [group.mean(0) for group in groups], atol=0.05)
    welch = stats.ttest_ind(groups[1], groups[0], equal_var=False)
    tested = next(values for name, values in found.items() if name not in ("counts", "means", "variances"))
    np.testing.assert_allclose(tested[:, 0], welch.statistic, rtol=0.05)


@each_split
def test_codes_are_counted_in_pairs(owners: Sequence[Owner]) -> None:
    used = ("age", "stage", "ward")
    codes = {"first": "stage", "second": "ward"}
    found = opened(owners, "contingency/1", ("counts", "chi_square"), "", used, **codes)
    rows = pooled(owners, used)[:, 1:]
    expected = np.array([[((rows == (one, two)).all(1)).sum() for two in (0, 1)] for one in (0, 1, 2)])
    shown = found["counts"].round()
    assert ((shown == expected) | (shown == 0)).all()
    assert (shown[expected >= 5] != 0).sum() >= (expected >= 5).sum() - 1
    statistic = stats.chi2_contingency(expected, correction=False).statistic
    assert found["chi_square"][0, 0] == pytest.approx(statistic, rel=0.02)


def test_directions_are_those_of_the_people_in_every_table() -> None:
    used = ("age", "dose", "ward")
    found = opened(TWO, "principal-components/1", ("components", "explained"), used=used)
    scaled = pooled(TWO, used) / (50.0, 4.0, 0.5)
    reference = PCA(2).fit(scaled)
    assert np.abs((found["components"] * reference.components_).sum(1)) == pytest.approx([1, 1], abs=2e-2)
    np.testing.assert_allclose(found["explained"][:, 0], reference.explained_variance_ratio_, atol=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("owners", [THREE, BOTH], ids=["three", "rows and columns, a sample"])
def test_a_logistic_model_among_four_parties(owners: Sequence[Owner]) -> None:
    used = ("age", "dose", "ill") if owners is BOTH else ("age", "dose", "stage", "ill")
    clear, shared = (
        opened(owners, "logistic-regression/1", ("coefficients", "intercept"), "ill", used, engine, iterations=10)
        for engine in (None, SimulatedRep4())
    )
    np.testing.assert_allclose(shared["coefficients"], clear["coefficients"], atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    "owners",
    [
        (THREE[0], THREE[1], Owner(range(71, 120), ("stage", "ill"))),
        (Owner(range(50), ("age",)), Owner(range(50, 90), ("dose", "ward")), Owner(range(90), ("stage", "ill"))),
    ],
    ids=["19 people", "nobody"],
)
def test_of_too_few_in_every_table_nothing_is_shown(owners: Sequence[Owner]) -> None:
    with pytest.raises(Refused, match="fewer than 20 people are in all owners' data"):
        opened(owners, "comparison/1", ("counts", "means"), "ill", ("age", "dose", "stage", "ill"))
    with pytest.raises(Refused, match="fewer than 20 people are in all owners' data"):
        opened(owners, "logistic-regression/1", ("coefficients",), "ill", ("age", "dose", "stage", "ill"))


@pytest.mark.parametrize(
    ("owners", "sentence"),
    [
        ((TWO[0], Owner(range(90), ("age", "stage"))), "between owners of different columns"),
        ((TWO[0], Owner(range(90), ("age", "dose", "ward", "ill"))), "every column must come from exactly one"),
    ],
    ids=["one table only", "a column in two tables"],
)
def test_tables_must_be_whole_and_apart(owners: Sequence[Owner], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        opened(owners, "statistics/1", ("mean",))


def test_what_needs_to_know_who_is_there_is_refused() -> None:
    for settings, outputs in (({"penalties": [1.0, 2.0]}, ("coefficients",)), ({}, ("worth",))):
        with pytest.raises(InvalidInput, match="takes one penalty on an oblivious join"):
            opened(TWO, "logistic-regression/1", outputs, "ill", ("age", "dose", "ill"), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("owners", [TWO, BOTH], ids=["two", "rows and columns"])
def test_classes_have_the_shares_and_means_of_whoever_is_in_every_table(owners: Sequence[Owner]) -> None:
    used = ("age", "dose", "ill")
    found = opened(owners, "naive-bayes/1", ("priors", "means", "variances"), "ill", used)
    rows, halves = pooled(owners, used), np.array([50.0, 4.0])
    groups = [rows[rows[:, 2] == code][:, :2] for code in (0, 1)]
    np.testing.assert_allclose(found["priors"][:, 0], [len(group) / len(rows) for group in groups], atol=2e-3)
    np.testing.assert_allclose(found["means"] / halves, [group.mean(0) / halves for group in groups], atol=2e-3)
    wanted = [group.var(0) / halves**2 + 1e-4 for group in groups]
    np.testing.assert_allclose(found["variances"] / halves**2, wanted, atol=3e-3)


@pytest.mark.parametrize("owners", [TWO, BOTH], ids=["two", "rows and columns"])
def test_groups_are_found_among_whoever_is_in_every_table(owners: Sequence[Owner]) -> None:
    """Lloyd's algorithm has come to rest: every centre is the mean of those who are nearest to it, and of no others."""
    used = ("age", "dose", "ward")
    found = opened(owners, "k-means/1", ("centres", "sizes"), used=used, clusters=3, iterations=20, minimum_group=1)
    rows, halves = pooled(owners, used), np.array([50.0, 4.0, 0.5])
    nearest = (((rows[:, None] - found["centres"]) / halves) ** 2).sum(2).argmin(1)
    assert found["sizes"][:, 0].round().tolist() == np.bincount(nearest, minlength=3).tolist()
    assert (found["sizes"][:, 0] > 0).sum() > 1
    for number in np.flatnonzero(found["sizes"][:, 0] > 0):
        mean = rows[nearest == number].mean(0)
        np.testing.assert_allclose(found["centres"][number] / halves, mean / halves, atol=5e-3)


def test_a_tree_has_leaves_of_whoever_is_in_every_table() -> None:
    used = ("age", "dose", "ill")
    for name, target, unit in (("decision-tree/1", "ill", 1.0), ("regression-tree/1", "dose", 4.0)):
        features = [one for one in used if one != target]
        found = opened(BOTH, name, ("columns", "thresholds", "leaves"), target, used, depth=2, sample=64)
        rows = pooled(BOTH, (*features, target))
        leaf = np.zeros(len(rows), int)
        for _ in range(2):
            column = found["columns"][0].round().astype(int)[leaf]
            left = (column == 0) | (rows[np.arange(len(rows)), column - 1] < found["thresholds"][0][leaf])
            leaf = 2 * leaf + np.where(left, 1, 2)
        assert (found["columns"] > 0).any(), "something is told apart"
        for number in np.unique(leaf):
            inside = rows[leaf == number, -1]
            assert len(inside) >= 5
            assert found["leaves"][0, number - 3] == pytest.approx(inside.mean(), abs=0.01 * unit)


@pytest.mark.parametrize(("name", "target"), [("gradient-boosting/1", "ill"), ("boosted-regression/1", "dose")])
def test_boosted_trees_learn_of_whoever_is_in_every_table(name: str, target: str) -> None:
    """The same as boosting the pooled rows, whatever stands in the places that hold nobody."""
    used = ("age", "dose", "ill")
    outputs = ("columns", "thresholds", "leaves", "start")
    found = opened(BOTH, name, outputs, target, used, depth=1, sample=64, trees=4)
    features = [one for one in used if one != target]
    rows = pooled(BOTH, (*features, target))
    wanted, x = rows[:, -1], rows[:, :-1]
    shown = np.full(len(rows), found["start"][0, 0])
    errors = []
    for columns, thresholds, leaves in zip(found["columns"], found["thresholds"], found["leaves"], strict=True):
        column = round(float(columns[0]))
        side = 0 if column == 0 else (x[:, column - 1] >= thresholds[0]).astype(int)
        if target == "ill":
            likely = 1 / (1 + np.exp(-shown))
            errors.append(-np.log(np.where(wanted == 1, likely, 1 - likely)).mean())
            slope, weight = wanted - likely, likely * (1 - likely)
        else:
            errors.append(((wanted - shown) ** 2).mean())
            slope, weight = wanted - shown, np.ones(len(rows))
        for number in np.unique(side):
            inside = side == number
            step = 0.3 * slope[inside].sum() / weight[inside].sum()
            assert leaves[number] == pytest.approx(step, abs=0.02)
        shown = shown + leaves[side]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("owners", [TWO, BOTH], ids=["two", "rows and columns"])
def test_lives_are_those_of_whoever_is_in_every_table(owners: Sequence[Owner]) -> None:
    used, times = ("dose", "age", "ill"), (30.0, 40.0, 50.0, 60.0, 70.0)
    outputs = ("survivors", "present")
    found = opened(owners, "kaplan-meier/1", outputs, "ill", used, duration="age", times=times, minimum_group=1)
    rows = pooled(owners, used)
    ends = np.searchsorted(times, rows[:, 1])
    present = np.array([(ends >= number).sum() for number in range(len(times))])
    events = np.array([((ends == number) & (rows[:, 2] == 1)).sum() for number in range(len(times))])
    assert found["present"][:, 0].round().tolist() == present.tolist()
    np.testing.assert_allclose(found["survivors"][:, 0], np.cumprod(1 - events / present), atol=5e-3)

    asked = ("coefficients", "information", "concordance")
    hazard = opened(owners, "cox-regression/1", asked, "ill", used, duration="age", times=times)
    slope = hazard["coefficients"][0, 0]
    reference = hazard_of(rows[:, 0], ends, rows[:, 2], len(times))
    assert slope == pytest.approx(reference[0], abs=0.02)
    assert hazard["information"][0, 0] == pytest.approx(reference[1], rel=0.05)
    known = (rows[:, 1].reshape(-1, 1) < rows[:, 1]) & (rows[:, 2] == 1).reshape(-1, 1)
    higher = slope * rows[:, :1] > slope * rows[:, 0]
    assert hazard["concordance"][0, 0] == pytest.approx((known & higher).sum() / known.sum(), abs=0.01)


def hazard_of(values: np.ndarray, ends: np.ndarray, seen: np.ndarray, times: int) -> tuple[float, float]:
    """Coefficient of one column and its information, by Newton steps on the partial likelihood with Breslow's ties."""
    slope = information = 0.0
    for _ in range(30):
        gradient = information = 0.0
        for number in range(times):
            risk = np.exp(slope * values) * (ends >= number)
            events = (ends == number) & (seen == 1)
            if not events.any():
                continue
            mean = (risk * values).sum() / risk.sum()
            gradient += (values[events] - mean).sum()
            information += events.sum() * ((risk * values**2).sum() / risk.sum() - mean**2)
        slope += gradient / information
    return slope, information


@pytest.mark.parametrize(
    ("name", "target", "settings", "sentence"),
    [
        ("cox-regression/1", "ill", {"penalty": 1.0}, "takes no penalty on an oblivious join"),
        ("decision-tree/1", "ill", {"minimum_group": 30}, "a leaf of 30 could not be"),
    ],
)
def test_what_pairs_cannot_have_is_refused(name: str, target: str, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        opened(TWO, name, registry.offer(name).outputs, target, ("age", "dose", "ill"), **settings)  # type: ignore[arg-type]


@pytest.mark.long
def test_a_sample_of_programs_on_pairs_among_four_parties() -> None:
    used = ("age", "dose", "ill")
    programs = (
        ("naive-bayes/1", "ill", ("priors", "means", "variances")),
        ("k-means/1", "", ("centres", "sizes")),
        # Of two thresholds between the same numbers either may be taken.
        ("regression-tree/1", "dose", ("columns", "leaves")),
    )
    for name, target, outputs in programs:
        few: dict[str, Any] = {"iterations": 3} if name == "k-means/1" else {}
        clear, shared = (opened(TWO, name, outputs, target, used, engine, **few) for engine in (None, SimulatedRep4()))
        for table, values in clear.items():
            np.testing.assert_allclose(shared[table], values, atol=0.05, rtol=0.02, err_msg=f"{name}: {table}")
