"""Newton's method on owners' sums against scikit-learn on the pooled rows, and what no honest rows can give."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput, MalformedMessage
from koinon.privacy.federated import lockstep, studies, training
from koinon.privacy.federated.noise import NoisePlan
from koinon.privacy.federated.training import Coordinator, Rows, TrainingPlan
from koinon.privacy.programs.logistic_regression import NAME, Settings
from koinon.privacy.programs.offer import Layout, Parameters
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.sums.numerics import solved
from koinon.privacy.sums.regressions import Newton, logistic_sums
from koinon.wire.committee import Column

FEATURES = 5
COLUMNS = (*(Column(f"x{number}", -1.0, 1.0) for number in range(FEATURES)), Column("ill", 0.0, 1.0))
LAYOUT = Layout((1, 1, 1), COLUMNS, "ill")
OUTPUTS = ("coefficients", "intercept")


def plan(penalty: float = 1.0, iterations: int = 24) -> TrainingPlan:
    return studies.plan_of(NAME, Parameters(LAYOUT, encode(Settings(penalty=penalty, iterations=iterations)), OUTPUTS))


def program(**changes: Any) -> Newton:
    return logistic_sums(LAYOUT, Settings(**changes), OUTPUTS)


def owners(seed: int, counts: tuple[int, ...] = (40, 25, 60)) -> list[Rows]:
    """Tables of features and a target of −1 and 1."""
    draw = np.random.default_rng(seed)
    slopes, found = draw.normal(0, 3, FEATURES), []
    for number, count in enumerate(counts):
        rows = np.clip(draw.normal(0.2 * number - 0.2, 0.4, (count, FEATURES)), -1, 1)
        target = np.where(rows @ slopes + draw.logistic(0, 1, count) > 0, 1.0, -1.0)
        found.append(Rows(np.column_stack([rows, target]), np.zeros(count)))
    return found


def trained(parts: list[Rows], agreed: TrainingPlan, silent: dict[int, int] | None = None) -> Coordinator:
    rng = SeededRng(b"newton")
    return training.train(agreed, parts, rng, lambda terms, words: lockstep.gather(terms, words, rng, silent))


def pooled(parts: list[Rows], penalty: float) -> np.ndarray:
    table = np.concatenate([part.features for part in parts])
    rows, targets = table[:, :-1], table[:, -1]
    mean, deviation = rows.mean(0), rows.std(0)
    fitted = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit((rows - mean) / deviation, targets)
    slopes = fitted.coef_[0] / deviation
    return np.append(slopes, fitted.intercept_[0] - slopes @ mean)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_joint_model_is_scikit_learns_on_the_pooled_rows(seed: int, penalty: float) -> None:
    parts = owners(seed)
    state = trained(parts, plan(penalty))
    assert state.finished == "the joint model moves no more"
    assert np.abs(state.joint.parameters - pooled(parts, penalty)).max() < 1e-4


def test_who_chose_the_joint_model_could_read_a_row() -> None:
    """Why owners answer at no model that two members have not vouched for: see ``test_federated_approvals``.

    At two steep models between which one row lies, the sums of gradients over all owners differ by that row.
    """
    parts = owners(3)
    first = np.sort(np.concatenate([part.features[:, 0] for part in parts]))
    sums = program()

    def summed(edge: float) -> np.ndarray:
        steep = 1e6 * np.append(np.eye(FEATURES)[0], -edge)
        found = [sums.add(steep, part.features)[: FEATURES + 1] for part in parts]
        return np.asarray(np.sum(found, axis=0))

    low, middle = (first[place : place + 2].mean() for place in (60, 61))
    found = summed(low) - summed(middle)
    (read,) = [row for part in parts for row in part.features if low < row[0] < middle]
    np.testing.assert_allclose(found, np.append(read[:-1], 1.0), atol=1e-6)


def test_an_owner_that_drops_out_is_left_out_of_the_model() -> None:
    parts = owners(7)
    state = trained(parts, plan(), silent={1: 2})
    assert {report.survivors for report in state.history} == {(0, 2)}
    assert np.abs(state.joint.parameters - pooled([parts[0], parts[2]], 1.0)).max() < 1e-4


@pytest.mark.parametrize("size", [1, 2, 17])
def test_elimination_solves(size: int) -> None:
    draw = np.random.default_rng(size)
    matrix = draw.normal(size=(size, size))
    matrix = matrix @ matrix.T + np.eye(size)
    right = draw.normal(size=size)
    assert np.allclose(solved(matrix, right), np.linalg.solve(matrix, right))


def test_no_row_adds_more_than_one_to_any_sum() -> None:
    corners = np.sign(np.random.default_rng(1).normal(size=(50, FEATURES + 1)))
    for weights in (np.zeros(FEATURES + 1), np.full(FEATURES + 1, 9.0), np.full(FEATURES + 1, -1e6)):
        for corner in corners:
            assert np.abs(program().add(weights, corner[None, :])).max() <= 1.0


HOSTILE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "zeros": lambda sums: sums * 0.0,
    "no positive definite Hessian": lambda sums: np.append(sums[: FEATURES + 1], -np.abs(sums[FEATURES + 1 :])),
    "a gradient without curvature": lambda sums: np.append(np.full(FEATURES + 1, 40.0), sums[FEATURES + 1 :] * 1e-9),
    "not finite": lambda sums: sums * np.nan,
    "beyond all rows": lambda sums: sums * 100.0,
    "cut short": lambda sums: sums[:-1],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_sums_of_no_rows_are_refused(case: str) -> None:
    sums = program()
    table = owners(1)[0].features
    honest = sums.add(sums.start(), table)
    state, memory, _ = sums.move(sums.start(), np.zeros(0), honest, len(table))
    with pytest.raises(MalformedMessage):
        sums.move(sums.start(), np.zeros(0), HOSTILE[case](honest), len(table))
    try:  # later the curvature says nothing of the columns; no sums move the model out of every range
        after, _, _ = sums.move(state, memory, HOSTILE[case](honest), len(table))
    except MalformedMessage:
        return
    assert np.isfinite(after).all()
    assert np.abs(after).max() <= 2.0**20


BAD_PLANS: dict[str, dict[str, Any]] = {
    "a brought model": {"size": 6},
    "noise": {"noise": NoisePlan(1.0, 0, 1e-5)},
    "patience": {"patience": 2},
    "owners that weigh alike": {"most_rows": 0},
    "too wide for the words": {"clip": 2.0**16, "fraction_bits": 48},
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_a_plan_that_is_not_for_sums_is_refused(case: str) -> None:
    with pytest.raises(InvalidInput):
        training.check_plan(msgspec.structs.replace(plan(), **BAD_PLANS[case]), 3)


@pytest.mark.parametrize("settings", [{"penalty": -1.0}, {"iterations": 0}, {"penalties": (1.0, 2.0)}])
def test_settings_that_sums_cannot_follow_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        program(**settings)
