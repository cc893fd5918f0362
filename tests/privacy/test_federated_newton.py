"""Newton's method on owners' sums against scikit-learn on the pooled rows, and what no honest rows can give."""

from typing import Any

import msgspec
import numpy as np
import pytest

from koinon.kernel.errors import InvalidInput, ProtocolAbort
from koinon.privacy.federated import lockstep, newton, training
from koinon.privacy.federated.noise import NoisePlan
from koinon.privacy.federated.strategies import NEWTON, LocalPlan, ServerPlan
from koinon.privacy.federated.training import Coordinator, Rows, TrainingPlan
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.sums.numerics import solved

FEATURES = 5


def plan(features: int = FEATURES, **changes: Any) -> TrainingPlan:
    made = TrainingPlan(
        features=features,
        hidden=(),
        classes=2,
        penalty=1.0,
        rounds=25,
        local=LocalPlan(),
        server=ServerPlan(NEWTON),
        clip=newton.longest(features + 1),
        most_rows=1 << 20,
        threshold=2,
        fraction_bits=40,
    )
    return msgspec.structs.replace(made, **changes)


def owners(seed: int, counts: tuple[int, ...] = (40, 25, 60)) -> list[Rows]:
    draw = np.random.default_rng(seed)
    slopes, found = draw.normal(0, 3, FEATURES), []
    for number, count in enumerate(counts):
        rows = np.clip(draw.normal(0.2 * number - 0.2, 0.4, (count, FEATURES)), -1, 1)
        found.append(Rows(rows, (rows @ slopes + draw.logistic(0, 1, count) > 0).astype(float)))
    return found


def trained(parts: list[Rows], agreed: TrainingPlan, silent: dict[int, int] | None = None) -> Coordinator:
    rng = SeededRng(b"newton")
    return training.train(agreed, parts, rng, lambda terms, words: lockstep.gather(terms, words, rng, silent))


def pooled(parts: list[Rows], penalty: float) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    rows, targets = np.concatenate([p.features for p in parts]), np.concatenate([p.targets for p in parts])
    mean, deviation = rows.mean(0), rows.std(0)
    fitted = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit((rows - mean) / deviation, targets)
    slopes = fitted.coef_[0] / deviation
    return np.append(slopes, fitted.intercept_[0] - slopes @ mean)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_joint_model_is_scikit_learns_on_the_pooled_rows(seed: int, penalty: float) -> None:
    parts = owners(seed)
    state = trained(parts, plan(penalty=penalty))
    assert state.finished == "the joint model moves no more"
    assert np.abs(state.joint.parameters - pooled(parts, penalty)).max() < 1e-4
    losses = [report.loss for report in state.history]
    assert losses[-1] < losses[0]


def test_who_chooses_the_joint_model_can_read_a_row_without_noise() -> None:
    """Why nothing is promised about rows against a leader that departs from the plan, though it sees sums only.

    At two steep models between which one row lies, the sums of gradients over all owners differ by that row.
    """
    parts = owners(3)
    first = np.sort(np.concatenate([part.features[:, 0] for part in parts]))
    model = newton.Logistic(FEATURES)

    def summed(edge: float) -> np.ndarray:
        steep = 1e6 * np.append(np.eye(FEATURES)[0], -edge)
        means = [model.statistics(steep, part.features, part.targets)[: model.size] for part in parts]
        weighed = [len(part.targets) * mean for part, mean in zip(parts, means, strict=True)]
        return np.asarray(np.sum(weighed, axis=0))

    low, middle = (first[place : place + 2].mean() for place in (60, 61))
    found = summed(low) - summed(middle)
    (read,) = [row for part in parts for row in part.features if low < row[0] < middle]
    np.testing.assert_allclose(found, np.append(read, 1.0), atol=1e-6)


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


def test_statistics_are_never_longer_than_they_are_let_to_be() -> None:
    model = newton.Logistic(FEATURES)
    corners = np.sign(np.random.default_rng(1).normal(size=(50, FEATURES)))
    for parameters in (np.zeros(FEATURES + 1), np.full(FEATURES + 1, 9.0)):
        found = model.statistics(parameters, corners, (corners[:, 0] < 0).astype(float))
        assert found.size == newton.statistics_size(FEATURES + 1)
        assert np.linalg.norm(found) <= newton.longest(FEATURES + 1)


HOSTILE = {
    "zeros": np.zeros(newton.statistics_size(3)),
    "no positive definite Hessian": np.append(np.ones(3), -np.ones(6)),
    "a gradient without curvature": np.append(np.full(3, 1e9), np.full(6, 1e-12)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_statistics_of_no_rows_leave_the_model_in_range_or_are_refused(case: str) -> None:
    """Penalties make some of them harmless; none moves the model out of every range."""
    try:
        parameters, _, _ = newton.moved(np.zeros(3), np.zeros(3), HOSTILE[case], 10.0, 1.0)
    except ProtocolAbort:
        return
    assert np.isfinite(parameters).all()
    assert np.abs(parameters).max() <= 2.0**20


BAD_PLANS: dict[str, dict[str, Any]] = {
    "hidden layers": {"hidden": (4,)},
    "three classes": {"classes": 3},
    "too many features": {"features": newton.MOST_FEATURES + 1},
    "a brought model": {"size": 6},
    "noise": {"noise": NoisePlan(1.0, 0, 1e-5)},
    "patience": {"patience": 2},
    "owners that weigh alike": {"most_rows": 0},
    "too wide for the words": {"clip": 2.0**16, "fraction_bits": 48},
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_a_plan_that_is_not_for_newtons_method_is_refused(case: str) -> None:
    with pytest.raises(InvalidInput):
        training.check_plan(plan(**BAD_PLANS[case]), 3)
